//! How calling the seeds goes, for the transport's owner.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::reconnect::{SeedState, Trouble};
use super::{Address, PeerKey};

/// An address that is called whoever answers, as of now.
#[derive(Clone, Debug)]
pub struct Seed {
    /// As it was given.
    pub address: Address,
    /// For how long it has been called, or since the last session with who answers there ended.
    pub waiting: Duration,
    /// Calls that came to nothing since then.
    pub attempts: u32,
    /// Time since the last call began.
    pub last_attempt: Option<Duration>,
    /// Time until the next call; none while one is being made, and while the peer is connected.
    pub next_attempt: Option<Duration>,
    /// What came of the last call or session; none while nothing has failed.
    pub trouble: Option<Trouble>,
    /// Who answered the last time.
    pub peer: Option<PeerKey>,
    /// Whether there is a session with that peer.
    pub connected: bool,
}

/// The seeds of a running transport. Clones are of the same one.
#[derive(Clone, Debug)]
pub struct Seeds {
    states: watch::Receiver<Vec<SeedState>>,
    /// The beginning of the policy's time.
    started: Instant,
}

impl Seeds {
    pub(super) fn new(states: watch::Receiver<Vec<SeedState>>, started: Instant) -> Self {
        Seeds { states, started }
    }

    /// The seeds, by address.
    #[must_use]
    pub fn now(&self) -> Vec<Seed> {
        let now = self.started.elapsed();
        let states = self.states.borrow();
        states.iter().map(|state| seed(state, now)).collect()
    }

    /// The seeds once something has changed; none once the transport has stopped.
    pub async fn changed(&mut self) -> Option<Vec<Seed>> {
        self.states.changed().await.ok()?;
        let now = self.started.elapsed();
        let states = self.states.borrow_and_update();
        Some(states.iter().map(|state| seed(state, now)).collect())
    }
}

fn seed(state: &SeedState, now: Duration) -> Seed {
    Seed {
        address: state.address.clone(),
        waiting: now.saturating_sub(state.since),
        attempts: state.attempts,
        last_attempt: state.last_attempt.map(|at| now.saturating_sub(at)),
        next_attempt: state.next_attempt.map(|at| at.saturating_sub(now)),
        trouble: state.trouble.clone(),
        peer: state.peer,
        connected: state.connected,
    }
}
