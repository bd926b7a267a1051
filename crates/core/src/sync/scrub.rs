//! Comparing the whole state with a peer's now and then, one peer after the other.
//!
//! Copies that have the same operations have the same state, but for what came with snapshots
//! that never became whole, from nodes that are gone with operations nobody else has. Merging is
//! harmless and idempotent, so such remains are simply spread until all have them.

use std::ops::Bound::{Excluded, Unbounded};

use super::limits::{SCRUB_MS, WANTED_MS};
use super::machine::{Machine, Turn};
use super::replica::Replica;
use crate::origin::Origin;

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
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub {
            every: SCRUB_MS,
            last_at: None,
            asked_at: 0,
            pace: WANTED_MS,
            with: None,
        }
    }
}

impl Machine {
    /// Begins a comparison if one is due.
    pub(super) fn scrub<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let last_at = *self.scrub.last_at.get_or_insert(turn.now);
        if turn.now.saturating_sub(last_at) < self.scrub.every && !self.is_wanted(turn, last_at) {
            return;
        }
        let before = self.scrub.with.unwrap_or(self.me);
        let after = self.peers.range((Excluded(before), Unbounded));
        let up_to = self.peers.range(..=before);
        let next = after.chain(up_to).find(|(_, peer)| peer.is_ready());
        if let Some(name) = next.map(|(name, _)| *name) {
            self.scrub.last_at = Some(turn.now);
            self.scrub.with = Some(name);
            self.begin_scrub(turn, name);
        }
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
