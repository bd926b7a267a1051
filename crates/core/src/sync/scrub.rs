//! Comparing the whole state with a peer's now and then, one peer after the other.
//!
//! Copies that have the same operations have the same state, but for what came with snapshots
//! that never became whole, from nodes that are gone with operations nobody else has. Merging is
//! harmless and idempotent, so such remains are simply spread until all have them.
//!
//! What is here and lacks there is not taken for removed: the copies should be the same, and who is
//! right cannot be told. It may be explained by an operation that the peer had when it read its
//! pages and that is still on its way. So the replica is told that the comparison is over once
//! the peer has said all that it has, after that, and all of that is in here.

use std::ops::Bound::{Excluded, Unbounded};

use super::limits::{RETIRED_MS, SCRUB_MS, WANTED_MS};
use super::machine::{Machine, Turn};
use super::replica::Replica;
use crate::origin::Origin;
use crate::version::VersionVector;

/// When and with whom the state is compared.
#[derive(Debug)]
pub(super) struct Scrub {
    pub(super) every: u64,
    /// When the last comparison began, or the machine was first told the time.
    last_at: Option<u64>,
    /// When it was last asked whether one is wanted before its time, and the time to the next.
    asked_at: u64,
    pace: u64,
    with: Option<Origin>,
    settling: Option<Settling>,
}

/// A comparison whose pages are all merged.
#[derive(Debug)]
struct Settling {
    peer: Origin,
    /// A report that comes from then on was made after the pages were read.
    from: u64,
    /// All that the peer has, once it has said so since.
    said: Option<VersionVector>,
}

impl Scrub {
    /// What was compared is no longer of interest.
    pub(super) fn end(&mut self) {
        self.settling = None;
    }

    /// The last page has come from this peer.
    pub(super) fn wait_for(&mut self, peer: Origin, now: u64) {
        self.settling = Some(Settling {
            peer,
            from: now + RETIRED_MS,
            said: None,
        });
    }
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub {
            every: SCRUB_MS,
            last_at: None,
            asked_at: 0,
            pace: WANTED_MS,
            with: None,
            settling: None,
        }
    }
}

impl Machine {
    /// Ends a comparison once everything is in that the peer had.
    pub(super) fn settle_comparison<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let Some(mut settling) = self.scrub.settling.take() else {
            return;
        };
        let Some(peer) = self
            .peers
            .get(&settling.peer)
            .filter(|peer| peer.shows_state())
        else {
            return;
        };
        let confirmed = peer.confirmed_at.is_some_and(|at| at >= settling.from);
        if settling.said.is_none() && confirmed {
            settling.said = Some(peer.known.version());
        }
        let is_in = |said: &VersionVector| turn.replica.applied().includes(said);
        if settling.said.as_ref().is_some_and(is_in) {
            return turn.replica.compared(settling.peer);
        }
        self.scrub.settling = Some(settling);
    }

    /// Begins a comparison if one is due.
    pub(super) fn scrub<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let last_at = *self.scrub.last_at.get_or_insert(turn.now);
        let before = self.scrub.with.unwrap_or(self.me);
        let after = self.peers.range((Excluded(before), Unbounded));
        let up_to = self.peers.range(..=before);
        let next = after.chain(up_to).find(|(_, peer)| peer.shows_state());
        // A node that was alone for long does not wait long for the first one.
        let Some(name) = next.map(|(name, _)| *name) else {
            return;
        };
        if turn.now.saturating_sub(last_at) < self.scrub.every && !self.is_wanted(turn, last_at) {
            return;
        }
        self.scrub.last_at = Some(turn.now);
        self.scrub.with = Some(name);
        self.begin_scrub(turn, name);
    }

    /// Whether something is damaged here that the state of a peer mends. Where it does not, the
    /// next try waits longer.
    fn is_wanted<R: Replica>(&mut self, turn: &Turn<'_, R>, last_at: u64) -> bool {
        let scrub = &mut self.scrub;
        let since = scrub.asked_at.max(last_at);
        if turn.now.saturating_sub(since) < scrub.pace {
            return false;
        }
        scrub.asked_at = turn.now;
        let wanted = turn.replica.wants_state();
        scrub.pace = if wanted {
            scrub.pace.saturating_mul(2).min(scrub.every)
        } else {
            WANTED_MS.min(scrub.every)
        };
        wanted
    }
}
