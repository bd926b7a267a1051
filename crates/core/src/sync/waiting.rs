//! Operations that have waited for long: in a group in which directories are set back or run twice,
//! what they wait for may never come.
//!
//! Who sent them may have got another history since, and nobody has them any more: they are
//! forgotten, so that those that others have can come. Or they are what others have, and the one
//! that they wait for is nowhere any more: what it did is in the state of those that had it in time.

use super::intake::{Waiting, are_apart};
use super::limits::AWAITED_MS;
use super::machine::{Machine, Turn};
use super::peer::Peer;
use super::replica::Replica;
use crate::version::{Dot, VersionVector};

impl Machine {
    /// Does something about operations that have waited for long.
    pub(super) fn look_after_waiting<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let Some(since) = turn.now.checked_sub(AWAITED_MS) else {
            return;
        };
        let waiting: Vec<Waiting> = self.intake.waiting(since).collect();
        if waiting.is_empty() || !self.peers.values().any(Peer::is_ready) {
            return;
        }
        for Waiting {
            first,
            end,
            awaited,
        } in waiting
        {
            if !self.has_somebody(turn.replica, first, end) {
                self.forget_aside(turn, first.origin);
            } else if let Some(awaited) = awaited
                && !self.is_coming(turn.replica, awaited)
                && !self.is_fetching()
            {
                let version = VersionVector::from_iter([(first.origin, first.sequence)]);
                if let Some(name) = self.successor(self.me, &version, turn.now) {
                    self.begin_snapshot(turn, name);
                }
            }
        }
    }

    /// Whether a peer may have the operation `first`, of the history that was put aside up to `end`.
    fn has_somebody<R: Replica>(&self, replica: &R, first: Dot, end: u64) -> bool {
        let mut peers = self.peers.values().filter(|peer| peer.is_ready());
        peers.any(|peer| {
            let (count, theirs) = peer.known.mark(first.origin);
            let ours = || self.intake.mark(replica, first.origin, count);
            let is_other = count < end && are_apart(ours(), theirs);
            count >= first.sequence && !peer.parts_at(first.origin) && !is_other
        })
    }

    /// Whether an operation is not here, and a peer has it.
    fn is_coming<R: Replica>(&self, replica: &R, dot: Dot) -> bool {
        if replica.applied().covers(dot) {
            return false;
        }
        let mut peers = self.peers.values().filter(|peer| peer.connected);
        peers.any(|peer| {
            peer.known.durable(dot.origin) >= dot.sequence && !peer.parts_at(dot.origin)
        })
    }
}
