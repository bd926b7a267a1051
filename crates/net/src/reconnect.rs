//! Whom to call, and when: a policy without a clock, a socket or dice of its own.
//!
//! A target is a *seed* (an address that somebody named) or a *wanted peer* (a member with its
//! known addresses). A target whose peer is connected, whoever called whom, is left alone; every
//! other is called for ever, at growing intervals. Times are counted from any fixed moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use grapevine_core::group::{ADDRESSES_MAX, SEEDS_MAX, WANTED_MAX};

use super::event::{CloseReason, DialFailure};
use super::{Address, PeerKey};

/// The first interval between two calls.
const DELAY_MIN: Duration = Duration::from_millis(500);

/// The longest one, for a target that does not answer.
const DELAY_MAX: Duration = Duration::from_secs(15);

/// For a target that answered and will not have us.
const DELAY_REFUSED: Duration = Duration::from_mins(1);

/// For so long after somebody asked for it a target is not given up for long.
const HURRY: Duration = Duration::from_secs(10);

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

/// Why a peer that is called is not connected.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Trouble {
    /// The last call came to nothing.
    #[error(transparent)]
    Call(DialFailure),
    /// It answered, and the session is over.
    #[error(transparent)]
    Session(CloseReason),
}

/// How calling a seed goes. Times are counted as the policy counts them.
#[derive(Clone, Debug)]
pub(super) struct SeedState {
    pub(super) address: Address,
    pub(super) since: Duration,
    pub(super) attempts: u32,
    pub(super) last_attempt: Option<Duration>,
    pub(super) next_attempt: Option<Duration>,
    pub(super) trouble: Option<Trouble>,
    pub(super) peer: Option<PeerKey>,
    pub(super) connected: bool,
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
    /// Until then somebody waits for it.
    hurried_until: Duration,
    /// Since when it is to be connected and is not.
    since: Duration,
    /// Calls that came to nothing since then, those that were answered with a refusal included.
    attempts: u32,
    /// When the last call began.
    last: Option<Duration>,
    trouble: Option<Trouble>,
}

/// The targets and who is connected.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    targets: BTreeMap<Target, State>,
    connected: BTreeSet<PeerKey>,
    /// There is news of seeds.
    news: bool,
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
        self.news = true;
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

    /// Somebody waits for a seed: it is called at once, and for a while not given up for long,
    /// whatever is still heard of earlier calls and sessions.
    pub(super) fn hurry(&mut self, seed: &Address, now: Duration) {
        if let Some(state) = self.targets.get_mut(&Target::Seed(seed.clone())) {
            self.news = true;
            (state.due, state.hurried_until) = (now, now + HURRY);
        }
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
        state.last = Some(now);
        self.news = true;
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
            self.news = true;
        }
    }

    /// A call is over, with a failure or with the peer connected. `random` is any number.
    pub(super) fn over(
        &mut self,
        target: &Target,
        failure: Option<DialFailure>,
        now: Duration,
        random: u64,
    ) {
        let Some(state) = self.targets.get_mut(target) else {
            return;
        };
        self.news = true;
        let lasting = failure.as_ref().is_some_and(lasts) && now >= state.hurried_until;
        if failure.is_some() {
            state.attempts = state.attempts.saturating_add(1);
            state.trouble = failure.map(Trouble::Call);
        }
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
        self.news = true;
        for state in self.of(peer) {
            state.failures = 0;
            state.attempts = 0;
            state.trouble = None;
        }
    }

    /// A peer is no longer connected. Where the reason lasts it is called late.
    pub(super) fn lost(
        &mut self,
        peer: PeerKey,
        reason: Option<&CloseReason>,
        now: Duration,
        random: u64,
    ) {
        self.connected.remove(&peer);
        self.news = true;
        let lasting = reason.is_some_and(CloseReason::lasts);
        for state in self.of(peer) {
            let delay = match lasting && now >= state.hurried_until {
                true => DELAY_REFUSED,
                false => DELAY_MIN,
            };
            state.due = now + jitter(delay, random);
            state.since = now;
            state.trouble = reason.cloned().map(Trouble::Session);
        }
    }

    /// How calling each seed goes, by address, if that has changed since it was last asked.
    pub(super) fn take_news(&mut self) -> Option<Vec<SeedState>> {
        std::mem::take(&mut self.news).then(|| self.seeds())
    }

    fn seeds(&self) -> Vec<SeedState> {
        let seeds = self.targets.iter().filter_map(|(target, state)| {
            let Target::Seed(address) = target else {
                return None;
            };
            let connected = state.answered.is_some_and(|p| self.connected.contains(&p));
            Some(SeedState {
                address: address.clone(),
                since: state.since,
                attempts: state.attempts,
                last_attempt: state.last,
                next_attempt: state.idle(target, &self.connected).then_some(state.due),
                trouble: state.trouble.clone(),
                peer: state.answered,
                connected,
            })
        });
        seeds.collect()
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
            hurried_until: Duration::ZERO,
            since: due,
            attempts: 0,
            last: None,
            trouble: None,
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

/// Whether the answer will be the same in a few seconds.
fn lasts(failure: &DialFailure) -> bool {
    match failure {
        DialFailure::Myself => true,
        DialFailure::Told(goodbye) => goodbye.reason.lasts(),
        _ => false,
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
