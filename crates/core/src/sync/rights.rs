//! Asking others for rights to insert into a filter, one peer at a time, in turn.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::Event;
use super::limits::{ASK_MS, SHORTAGES_MAX};
use super::machine::{Machine, Turn};
use super::message::Message;
use super::replica::Replica;
use crate::catalogue::FilterId;
use crate::origin::Origin;

/// Bytes of answer that a question for rights counts as.
const QUESTION_COST_BYTES: usize = 4096;

/// Whom each filter's rights were last asked of.
#[derive(Debug, Default)]
pub(super) struct Asking {
    asked: BTreeMap<FilterId, Origin>,
    looked_at: u64,
}

impl Machine {
    /// Asks for the rights that this node is short of.
    pub(super) fn ask_rights<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        if turn.now.saturating_sub(self.asking.looked_at) < ASK_MS {
            return;
        }
        self.asking.looked_at = turn.now;
        let mut shortages = turn.replica.shortages(turn.now);
        shortages.truncate(SHORTAGES_MAX);
        let mut asked = BTreeMap::new();
        for (filter, wanted) in shortages {
            let before = self.asking.asked.get(&filter).copied();
            let Some(peer) = self.next_ready(before.unwrap_or(self.me)) else {
                continue;
            };
            asked.insert(filter, peer);
            turn.event(Event::RightsAsked(peer));
            turn.send(peer, Message::Ask { filter, wanted });
        }
        self.asking.asked = asked;
    }

    /// The ready peer after `before`, in a circle.
    fn next_ready(&self, before: Origin) -> Option<Origin> {
        let after = self.peers.range((Excluded(before), Unbounded));
        let up_to = self.peers.range(..=before);
        after
            .chain(up_to)
            .find(|(_, peer)| peer.is_ready())
            .map(|(name, _)| *name)
    }

    /// A peer asks for rights.
    pub(super) fn receive_ask<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        from: Origin,
        filter: FilterId,
        wanted: u64,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer.budget.spend(turn.now, QUESTION_COST_BYTES) {
            turn.replica.grant(filter, from, wanted);
        }
    }
}
