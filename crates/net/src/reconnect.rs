//! Whom to call, and when: a policy without a clock, a socket or dice of its own.
//!
//! A target is a *seed* (an address that somebody named) or a *wanted peer* (a member with its
//! known addresses). A target whose peer is connected, whoever called whom, is left alone; every
//! other is called for ever, at growing intervals. Times are counted from any fixed moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Address, PeerKey};

/// The first interval between two calls.
const DELAY_MIN: Duration = Duration::from_millis(500);

/// The longest one, for a target that does not answer.
const DELAY_MAX: Duration = Duration::from_secs(15);

/// For a target that answered and will not have us.
const DELAY_REFUSED: Duration = Duration::from_mins(1);

/// Seeds at a time.
pub const SEEDS_MAX: usize = 64;

/// Wanted peers at a time.
pub const WANTED_MAX: usize = 1024;

/// Addresses of a wanted peer; the rest is not called.
pub const ADDRESSES_MAX: usize = 8;

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// Whoever answers at an address.
    Seed(Address),
    /// One peer, at any of its addresses.
    Peer(PeerKey),
}

/// One call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) address: Address,
    /// Who has to answer. A seed may be anybody.
    pub(super) peer: Option<PeerKey>,
}

#[derive(Debug)]
struct State {
    addresses: Vec<Address>,
    /// Which of them is next.
    turn: usize,
    /// Calls that failed since the last success.
    failures: u32,
    due: Duration,
    calling: bool,
    /// Who answered at a seed the last time.
    answered: Option<PeerKey>,
}

/// The targets and who is connected.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    targets: BTreeMap<Target, State>,
    connected: BTreeSet<PeerKey>,
}

/// Why a target is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There are as many seeds as there may be.
    #[error("more than {SEEDS_MAX} addresses to join at")]
    Seeds,
    /// There are as many wanted peers as there may be.
    #[error("more than {WANTED_MAX} peers to connect to")]
    Wanted,
}

impl Reconnect {
    /// Replaces the seeds. Those that stay keep their place in time.
    pub(super) fn set_seeds(
        &mut self,
        seeds: &BTreeSet<Address>,
        now: Duration,
    ) -> Result<(), TargetError> {
        if seeds.len() > SEEDS_MAX {
            return Err(TargetError::Seeds);
        }
        self.targets.retain(|target, _| match target {
            Target::Seed(address) => seeds.contains(address),
            Target::Peer(_) => true,
        });
        for seed in seeds {
            let state = State::new(vec![seed.clone()], now);
            let target = Target::Seed(seed.clone());
            self.targets.entry(target).or_insert(state);
        }
        Ok(())
    }

    /// Wants a peer, or says its addresses anew. New addresses are called at once.
    pub(super) fn want(
        &mut self,
        peer: PeerKey,
        mut addresses: Vec<Address>,
        now: Duration,
    ) -> Result<(), TargetError> {
        addresses.truncate(ADDRESSES_MAX);
        let target = Target::Peer(peer);
        if let Some(state) = self.targets.get_mut(&target) {
            if state.addresses != addresses {
                (state.addresses, state.turn, state.failures) = (addresses, 0, 0);
                state.due = now;
            }
            return Ok(());
        }
        if self.wanted() >= WANTED_MAX {
            return Err(TargetError::Wanted);
        }
        self.targets.insert(target, State::new(addresses, now));
        Ok(())
    }

    fn wanted(&self) -> usize {
        let wanted = self.targets.keys();
        wanted.filter(|t| matches!(t, Target::Peer(_))).count()
    }

    /// No longer wants a peer.
    pub(super) fn unwant(&mut self, peer: PeerKey) {
        self.targets.remove(&Target::Peer(peer));
    }

    /// The next call to make now, if any. It counts as being made until it is reported.
    pub(super) fn next_call(&mut self, now: Duration) -> Option<Call> {
        let connected = &self.connected;
        let due = |(target, state): &(&Target, &mut State)| {
            state.due <= now && state.idle(target, connected)
        };
        let waiting = self.targets.iter_mut().filter(due);
        // The longest overdue comes first, so that a target that fails fast starves nobody.
        let (target, state) = waiting.min_by_key(|(_, state)| state.due)?;
        state.calling = true;
        let address = state.addresses.get(state.turn)?.clone();
        Some(Call {
            target: target.clone(),
            address,
            peer: match target {
                Target::Peer(peer) => Some(*peer),
                Target::Seed(_) => None,
            },
        })
    }

    /// When the next call is due; none when nobody is to be called.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let idle = self.targets.iter();
        idle.filter(|(target, state)| state.idle(target, &self.connected))
            .map(|(_, state)| state.due)
            .min()
    }

    /// A call reached a peer at a seed's address, whatever comes of it.
    pub(super) fn reached(&mut self, target: &Target, peer: PeerKey) {
        if let Some(state) = self.targets.get_mut(target) {
            state.answered = Some(peer);
        }
    }

    /// A call is over. `lasting`: it was answered, and the answer will be the same for a while.
    /// `random` is any number.
    pub(super) fn over(&mut self, target: &Target, lasting: bool, now: Duration, random: u64) {
        let Some(state) = self.targets.get_mut(target) else {
            return;
        };
        state.calling = false;
        state.turn = (state.turn + 1) % state.addresses.len().max(1);
        let delay = if lasting {
            DELAY_REFUSED
        } else {
            // Every address has its turn before the interval grows.
            let rounds = state.failures / u32::try_from(state.addresses.len().max(1)).unwrap_or(1);
            state.failures = state.failures.saturating_add(1);
            let grown = DELAY_MIN.saturating_mul(1 << rounds.min(8));
            grown.min(DELAY_MAX)
        };
        state.due = now + jitter(delay, random);
    }

    /// A peer is connected, whoever called.
    pub(super) fn connected(&mut self, peer: PeerKey) {
        self.connected.insert(peer);
        for state in self.of(peer) {
            state.failures = 0;
        }
    }

    /// A peer is no longer connected. `lasting` as in [`Reconnect::over`].
    pub(super) fn lost(&mut self, peer: PeerKey, lasting: bool, now: Duration, random: u64) {
        self.connected.remove(&peer);
        let delay = if lasting { DELAY_REFUSED } else { DELAY_MIN };
        for state in self.of(peer) {
            state.due = now + jitter(delay, random);
        }
    }

    /// The targets that stand for a peer.
    fn of(&mut self, peer: PeerKey) -> impl Iterator<Item = &mut State> {
        let same = move |(target, state): (&Target, _)| {
            let state: &mut State = state;
            let is = *target == Target::Peer(peer) || state.answered == Some(peer);
            is.then_some(state)
        };
        self.targets.iter_mut().filter_map(same)
    }
}

impl State {
    fn new(addresses: Vec<Address>, due: Duration) -> Self {
        State {
            addresses,
            turn: 0,
            failures: 0,
            due,
            calling: false,
            answered: None,
        }
    }

    fn idle(&self, target: &Target, connected: &BTreeSet<PeerKey>) -> bool {
        let peer = match target {
            Target::Peer(peer) => Some(*peer),
            Target::Seed(_) => self.answered,
        };
        let is_connected = peer.is_some_and(|peer| connected.contains(&peer));
        !self.calling && !self.addresses.is_empty() && !is_connected
    }
}

/// Three quarters to five quarters of a delay, so that nodes that lost each other at one moment do not
/// call at one moment.
fn jitter(delay: Duration, random: u64) -> Duration {
    let part = u32::try_from(random % 1024).unwrap_or(0);
    delay * 3 / 4 + delay * part / 2048
}

#[cfg(test)]
mod tests;
