//! Finding out that a peer has another history of an origin than is here, and keeping the two
//! apart.
//!
//! Every entry of a report says the last mark of the operations it counts
//! ([`history`](crate::history)). Whoever has as many or more looks whether it is a mark of its
//! own history. If not, it tells the peer all marks it knows, once in a while as long as the
//! connection lasts; the peer finds the same, answers alike, and both know how much they have in
//! common. Operations of such an origin do not pass between the two, and nothing is concluded from
//! their numbers.
//!
//! Before either is reported, two peers may send what they have of one origin to a third that has
//! nothing of it. So each message with operations says the last mark before them, and they are
//! taken only behind that mark.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::Event;
use super::intake::are_apart;
use super::limits::HISTORIES_TOLD_MAX;
use super::machine::{Machine, Turn};
use super::message::Message;
use super::peer::Peer;
use super::replica::Replica;
use crate::history::History;
use crate::origin::Origin;
use crate::version::{Dot, VersionVector};

impl Peer {
    /// Whether its state may be taken over or compared with. Not if it has another history of any
    /// origin: what operations that are not taken made there would be taken, and what they removed
    /// there would be taken for removed.
    pub(super) fn shows_state(&self) -> bool {
        self.is_ready() && self.forks.is_empty()
    }

    /// Whether the peer is known to have another history of this origin.
    pub(super) fn parts_at(&self, origin: Origin) -> bool {
        self.forks.contains_key(&origin)
    }
}

/// Whether of the operations that the copy had whose pages are merged some are others than those
/// that are here.
pub(super) fn shows_other_operations<R: Replica>(replica: &R) -> bool {
    let mut shown = replica.shown().iter();
    shown.any(|(origin, (count, theirs))| {
        let both = replica.applied().get(*origin).min(*count);
        are_apart(replica.mark(*origin, both), theirs.at(both))
    })
}

impl Machine {
    /// Whether a peer is known to have an operation of the history that is here: only of such a one
    /// it may say that its bits are gone. One that has more than is here is not known to until that
    /// has come.
    pub(super) fn vouches_for<R: Replica>(&self, replica: &R, name: Origin, dot: Dot) -> bool {
        let Some(peer) = self.peers.get(&name).filter(|peer| peer.is_ready()) else {
            return false;
        };
        let (count, theirs) = peer.known.mark(dot.origin);
        let ours = self.intake.mark(replica, dot.origin, count);
        count >= dot.sequence && !peer.parts_at(dot.origin) && !are_apart(ours, theirs)
    }

    /// Looks whether what a peer has of an origin is a part of what is here, as far as it is not
    /// more.
    pub(super) fn compare<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        name: Origin,
        origin: Origin,
    ) {
        let Some(peer) = self.peers.get_mut(&name) else {
            return;
        };
        let (count, theirs) = peer.known.mark(origin);
        if theirs == 0 || count > turn.replica.durable().get(origin) || peer.parts_at(origin) {
            return;
        }
        let ours = turn.replica.mark(origin, count);
        if ours != 0 && ours != theirs {
            self.part(turn, name, origin, None);
        }
    }

    /// Compares with all peers what has changed here.
    pub(super) fn compare_with_all<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        origins: &[Origin],
    ) {
        let connected = self.peers.iter().filter(|(_, peer)| peer.connected);
        let names: Vec<Origin> = connected.map(|(name, _)| *name).collect();
        for origin in origins {
            for name in &names {
                self.compare(turn, *name, *origin);
            }
        }
    }

    /// A peer's history of an origin is another one: `common` operations are the same, if that is
    /// known yet.
    pub(super) fn part<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        name: Origin,
        origin: Origin,
        common: Option<u64>,
    ) {
        let Some(peer) = self.peers.get_mut(&name) else {
            return;
        };
        let before = peer.forks.insert(origin, common);
        if before.is_none() {
            // What is on its way belongs to one history, what is here to the other.
            peer.forget_sent();
            self.abandon_state_of(turn, name);
            self.tell_history(turn, name, origin);
        }
        if let Some(common) = common
            && before.flatten() != Some(common)
        {
            turn.event(Event::HistoriesPart {
                peer: name,
                origin,
                common,
            });
        }
    }

    /// Tells a peer again where the histories part, some at a time.
    pub(super) fn tell_histories<R: Replica>(&mut self, turn: &mut Turn<'_, R>, name: Origin) {
        let Some(peer) = self.peers.get_mut(&name) else {
            return;
        };
        let from = peer.fork_told.map_or(Unbounded, Excluded);
        let next = peer.forks.range((from, Unbounded));
        let origins: Vec<Origin> = next
            .map(|(origin, _)| *origin)
            .take(HISTORIES_TOLD_MAX)
            .collect();
        // From the start again once all were told.
        peer.fork_told = origins.last().copied();
        for origin in origins {
            self.tell_history(turn, name, origin);
        }
    }

    fn tell_history<R: Replica>(&self, turn: &mut Turn<'_, R>, name: Origin, origin: Origin) {
        let durable = turn.replica.durable().get(origin);
        let mut history = turn.replica.history(origin);
        history.cut_back(durable);
        turn.send(
            name,
            Message::History {
                origin,
                durable,
                history,
            },
        );
    }

    /// A peer says which marks it knows of an origin, since they seem to be others than here.
    pub(super) fn receive_history<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        name: Origin,
        origin: Origin,
        (they_have, theirs): (u64, &History),
    ) {
        let have = turn.replica.durable().get(origin);
        let ours = turn.replica.history(origin);
        if let Some(common) = ours.part(have, theirs, they_have) {
            self.part(turn, name, origin, Some(common));
        }
    }

    /// Whether the state that was fetched for `version` has what operations did which are not those
    /// that are here: they came in there while its pages were read. So it is where another peer has
    /// more than `version`, in another history, since what is here next may be that one.
    pub(super) fn shows_other_history<R: Replica>(
        &self,
        replica: &R,
        version: &VersionVector,
    ) -> bool {
        let may_be_next = |(origin, (count, theirs)): (&Origin, &(u64, History))| {
            let ready = self.peers.values().filter(|peer| peer.is_ready());
            let mut told = ready.map(|peer| peer.known.mark(*origin));
            told.any(|(had, mark)| {
                (version.get(*origin) + 1..=*count).contains(&had)
                    && are_apart(theirs.at(had), mark)
            })
        };
        shows_other_operations(replica) || replica.shown().iter().any(may_be_next)
    }

    /// What most members have for good, with the histories that are here as far as that is known. A
    /// peer that has another one of any origin does not count, since it may have to give up what it
    /// has, like this node; nor does one alone, since that may turn out of it as well.
    pub fn held_by_most(&self) -> VersionVector {
        let others = self.others().count();
        let needed = others.div_ceil(2).max(others.min(2));
        let peers = self
            .peers
            .iter()
            .filter(|(name, peer)| peer.shows_state() && self.members.contains(name));
        let mut held: BTreeMap<Origin, Vec<u64>> = BTreeMap::new();
        for (_, peer) in peers {
            for (origin, count) in peer.known.version().iter() {
                held.entry(origin).or_default().push(count);
            }
        }
        let by_most = held.into_iter().filter_map(|(origin, mut counts)| {
            counts.sort_unstable_by(|a, b| b.cmp(a));
            Some((origin, *counts.get(needed.checked_sub(1)?)?))
        });
        by_most.collect()
    }

    /// Where the histories of connected peers are known to be others than those here: the peer, the
    /// origin, and how many operations both have in common, if that is known yet.
    pub fn forks(&self) -> impl Iterator<Item = (Origin, Origin, Option<u64>)> + '_ {
        self.peers.iter().flat_map(|(name, peer)| {
            let forks = peer.forks.iter();
            forks.map(|(origin, common)| (*name, *origin, *common))
        })
    }
}
