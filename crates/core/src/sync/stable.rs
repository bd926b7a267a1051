//! What is causally stable: has reached all members, with everything before it (Baquero, Almeida
//! and Shoker 2014).
//!
//! That a member has an operation is not enough to forget what it did: the member may have made
//! others before it got that one, which are still on their way. So there are two steps. First it
//! is noted what all members have. Then each of them has to say, after that, all of what it has.
//! Once all that is in here as well, whatever is still to come from a member was made after it had
//! what was noted.

use std::collections::BTreeSet;

use super::machine::Machine;
use super::replica::Replica;
use crate::origin::Origin;
use crate::version::VersionVector;

/// Operations that are causally stable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stable {
    /// Every member has these, and made whatever is not in here yet knowing of them.
    pub version: VersionVector,
    /// The members, this node among them.
    pub members: BTreeSet<Origin>,
}

/// Finding out what is stable.
#[derive(Debug, Default)]
pub(super) struct Stability {
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    /// What all had when it began.
    held: VersionVector,
    members: BTreeSet<Origin>,
    /// When it began.
    since: u64,
    /// What anybody had, once all have said so since then.
    said: Option<VersionVector>,
}

impl Machine {
    /// What has become stable since this was asked last, if that is known by now. To be asked now
    /// and then, at the same time of `now` as the machine's inputs have. While a member is away
    /// the answer is none.
    pub fn stable(&mut self, now: u64, replica: &impl Replica) -> Option<Stable> {
        let now = self.clock.advance(now);
        if self.forks().next().is_some() {
            // What a number stands for is not the same everywhere.
            self.stability.round = None;
            return None;
        }
        let others: BTreeSet<Origin> = self.others().collect();
        let round = self.stability.round.take();
        let mut round = match round.filter(|round| round.members == others) {
            Some(round) => round,
            None => Round {
                held: self.held_by_all(replica),
                members: others,
                since: now,
                said: None,
            },
        };
        if round.said.is_none() && self.all_have_spoken(&round) {
            let mut said = VersionVector::default();
            for member in &round.members {
                if let Some(peer) = self.peers.get(member) {
                    said.merge(&peer.known.version());
                }
            }
            round.said = Some(said);
        }
        let settled = |said: &VersionVector| replica.applied().includes(said);
        if round.said.as_ref().is_some_and(settled) {
            let mut members = round.members;
            members.insert(self.me);
            return Some(Stable {
                version: round.held,
                members,
            });
        }
        self.stability.round = Some(round);
        None
    }

    fn all_have_spoken(&self, round: &Round) -> bool {
        round.members.iter().all(|member| {
            let peer = self.peers.get(member);
            let confirmed = peer.and_then(|peer| peer.confirmed_at);
            confirmed.is_some_and(|at| at > round.since)
        })
    }
}
