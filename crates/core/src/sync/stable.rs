//! What is causally stable: has reached all members, with everything before it (Baquero, Almeida
//! and Shoker 2014).
//!
//! That a member has an operation is not enough to forget what it did: the member may have made
//! others before it got that one, which are still on their way. So there are two steps. First it
//! is noted what all members have. Then each of them has to say, after that, all of what it has.
//! Once all that is in here as well, whatever is still to come from a member was made after it had
//! what was noted.
//!
//! With that each member says what is due there: rows that expired before its *horizon*
//! (`table/horizon.rs`). What is due at all of them is due.

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
    /// Rows that expired before this time are due at every member, in milliseconds since 1970; 0:
    /// none are.
    pub horizon: u64,
    /// Everything that came with a state was here before the members spoke. What is here of
    /// operations that are not, none of them has then: whoever made them was set back after its
    /// state had been taken in part.
    pub at_rest: bool,
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
    /// What was said, once all have spoken since then.
    said: Option<Said>,
}

/// What all members together said.
#[derive(Debug)]
struct Said {
    /// What anybody had.
    version: VersionVector,
    /// The smallest horizon of the others.
    horizon: u64,
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
            let mut said = Said {
                version: VersionVector::default(),
                horizon: u64::MAX,
            };
            for member in &round.members {
                if let Some(peer) = self.peers.get(member) {
                    said.version.merge(&peer.known.version());
                    said.horizon = said.horizon.min(peer.horizon);
                }
            }
            // Of origins that are not followed nothing ever comes in here.
            let followed = said.version.iter().filter(|(origin, _)| {
                replica.applied().get(*origin) > 0 || self.may_follow(replica, *origin)
            });
            said.version = VersionVector::from_sorted(followed);
            round.said = Some(said);
        }
        let settled = |said: &&Said| replica.applied().includes(&said.version);
        if let Some(said) = round.said.as_ref().filter(settled) {
            let horizon = said.horizon.min(self.horizon);
            let at_rest = !self.is_fetching() && self.merged_at < round.since;
            let mut members = round.members;
            members.insert(self.me);
            return Some(Stable {
                version: round.held,
                members,
                horizon,
                at_rest,
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
