//! Asking for what is lacking here. What a peer has is known from its reports; operations that
//! do not come by themselves are asked of one peer that has them, then of the next.

use std::collections::BTreeMap;

use super::Event;
use super::limits::{
    DISTRUST_MS, ORIGINS_MAX, PATIENCE_MS, PROMPT_TRIES, REPAIR_MS, REPAIR_ORIGINS_MAX, RETRY_MS,
    UNDELIVERED_DOUBLINGS_MAX, WANT_ENTRIES_MAX,
};
use super::machine::{Machine, Turn};
use super::message::{Entry, Message};
use super::replica::Replica;
use crate::origin::Origin;

/// What is lacking here, and who was asked for it.
#[derive(Debug, Default)]
pub(super) struct Repair {
    lacking: BTreeMap<Origin, Lack>,
    looked_at: u64,
}

#[derive(Debug)]
struct Lack {
    /// Operations of the origin that were here at `since`, those put aside included.
    have: u64,
    /// When they last became more, or the origin was first lacking.
    since: u64,
    /// The most that a peer said it has.
    there: u64,
    /// Who was asked, and up to which number it had them then.
    asked: Option<(Origin, u64)>,
    /// Times that it was asked for since something came, and who did not deliver last.
    tries: u32,
    failed: Option<Origin>,
}

impl Lack {
    /// How long an answer is waited for.
    fn patience(&self) -> u64 {
        let doublings = self.tries.saturating_sub(PROMPT_TRIES);
        RETRY_MS << doublings.min(UNDELIVERED_DOUBLINGS_MAX)
    }
}

/// Where a lacking origin's operations are to come from.
enum Source {
    /// A peer's log.
    Log(Origin),
    /// A peer's state.
    Snapshot(Origin),
}

impl Repair {
    /// Whether operations of an origin are known to be lacking.
    pub(super) fn lacks(&self, origin: Origin) -> bool {
        self.lacking.contains_key(&origin)
    }

    /// Origins that are lacking and of which nothing is here.
    fn unseen(&self) -> impl Iterator<Item = Origin> + '_ {
        let unseen = self.lacking.iter().filter(|(_, lack)| lack.have == 0);
        unseen.map(|(origin, _)| *origin)
    }

    /// A peer has more of an origin than is here.
    pub(super) fn note(&mut self, now: u64, from: Origin, entry: Entry, have: u64) {
        if self.lacking.len() >= ORIGINS_MAX && !self.lacking.contains_key(&entry.origin) {
            return;
        }
        let lack = self.lacking.entry(entry.origin).or_insert(Lack {
            have,
            since: now,
            there: 0,
            asked: None,
            tries: 0,
            failed: None,
        });
        lack.there = lack.there.max(entry.durable);
        if lack.failed.is_some_and(|failed| failed != from) {
            // Somebody else says that it has them.
            (lack.tries, lack.failed) = (0, None);
        }
    }

    /// Origins that a peer is asked for.
    pub(super) fn asked_of(&self, peer: Origin) -> usize {
        self.lacking
            .values()
            .filter(|lack| lack.asked.is_some_and(|(asked, _)| asked == peer))
            .count()
    }
}

impl Machine {
    /// Whether an origin of which nothing is here yet may be followed: if it is a member's or a
    /// connected peer's, and while there are not too many others. Those that are lacking count,
    /// but for this one.
    pub(super) fn may_follow<R: Replica>(&self, replica: &R, origin: Origin) -> bool {
        self.is_familiar(origin)
            || self.repair.lacks(origin)
            || self.strangers(replica) < self.strangers_max
    }

    fn is_familiar(&self, origin: Origin) -> bool {
        self.members.contains(&origin) || self.peers.contains_key(&origin)
    }

    /// Origins that are followed or lacking, though they are nobody's that is known.
    fn strangers<R: Replica>(&self, replica: &R) -> usize {
        let applied = replica.applied();
        let familiar = self.members.iter().chain(self.peers.keys());
        // One that is both counts twice: then a few more are followed.
        let followed = familiar.filter(|origin| applied.get(**origin) > 0).count();
        let unseen = self.repair.unseen();
        let lacking =
            unseen.filter(|origin| applied.get(*origin) == 0 && !self.is_familiar(*origin));
        applied.len().saturating_sub(followed) + lacking.count()
    }

    /// A peer's log does not reach back to what it was asked for or would have sent.
    pub(super) fn receive_behind<R: Replica>(&mut self, turn: &mut Turn<'_, R>, name: Origin) {
        if let Some(peer) = self.peers.get_mut(&name) {
            peer.behind_until = turn.now + DISTRUST_MS;
            turn.event(Event::Behind(name));
        }
        for (origin, lack) in &mut self.repair.lacking {
            if *origin == name || lack.asked.is_some_and(|(asked, _)| asked == name) {
                lack.asked = None;
                lack.since = 0;
            }
        }
    }

    /// Asks for what is lacking and does not come by itself.
    pub(super) fn look_for_lacking<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let looked_at = self.repair.looked_at;
        if self.repair.lacking.is_empty() || turn.now.saturating_sub(looked_at) < REPAIR_MS {
            return;
        }
        self.repair.looked_at = turn.now;
        let due = self.due(turn);
        if due.is_empty() {
            return;
        }
        let favourite = self.favourite();
        let mut asked: BTreeMap<Origin, usize> = BTreeMap::new();
        for lack in self.repair.lacking.values() {
            if let Some((peer, _)) = lack.asked {
                *asked.entry(peer).or_default() += 1;
            }
        }
        let mut wants: BTreeMap<Origin, Vec<(Origin, u64)>> = BTreeMap::new();
        let mut snapshot = None;
        for (origin, have) in due {
            match self.source(origin, have, favourite, turn.now) {
                Some(Source::Log(peer)) => {
                    let count = asked.entry(peer).or_default();
                    if *count < REPAIR_ORIGINS_MAX {
                        *count += 1;
                        wants.entry(peer).or_default().push((origin, have + 1));
                    }
                }
                Some(Source::Snapshot(peer)) => snapshot = Some(peer),
                None => {
                    self.repair.lacking.remove(&origin);
                }
            }
        }
        self.want(turn, wants);
        if let Some(peer) = snapshot {
            self.begin_snapshot(turn, peer);
        }
    }

    /// The origins to be asked for now, with how much of them is here.
    fn due<R: Replica>(&mut self, turn: &mut Turn<'_, R>) -> Vec<(Origin, u64)> {
        let (now, peers, intake) = (turn.now, &mut self.peers, &self.intake);
        let mut due = Vec::new();
        self.repair.lacking.retain(|origin, lack| {
            let have = turn.replica.applied().get(*origin) + intake.aside(*origin);
            if have >= lack.there || intake.is_refused(*origin) {
                return false;
            }
            if have > lack.have {
                lack.have = have;
                lack.since = now;
                (lack.tries, lack.failed) = (0, None);
            }
            let waited = now.saturating_sub(lack.since);
            let comes_by_itself = match lack.asked {
                Some((_, until)) if have >= until => false,
                Some((peer, _)) => {
                    let peer = peers.get_mut(&peer).filter(|peer| peer.connected);
                    let waits = peer.is_some() && waited < lack.patience();
                    if let Some(peer) = peer.filter(|_| !waits) {
                        peer.distrust_until = now + DISTRUST_MS;
                        let (peer, origin) = (lack.asked.map_or(*origin, |a| a.0), *origin);
                        lack.failed = Some(peer);
                        turn.out
                            .push(super::Output::Event(Event::NotDelivered { peer, origin }));
                    }
                    waits
                }
                None => {
                    let author = peers.get(origin).is_some_and(|peer| peer.is_ready());
                    author && waited < PATIENCE_MS
                }
            };
            if !comes_by_itself {
                lack.asked = None;
                due.push((*origin, have));
            }
            true
        });
        due
    }

    /// Where the operations of `origin` after `have` are best had. Of equals it is the first from
    /// `favourite` on, so that one look asks few peers: their logs have them in an order in which
    /// they can be applied.
    fn source(&self, origin: Origin, have: u64, favourite: Origin, now: u64) -> Option<Source> {
        let rank = |(name, peer): &(&Origin, &super::peer::Peer)| {
            let distrusted = now < peer.distrust_until;
            let behind = now < peer.behind_until;
            (distrusted, behind, **name < favourite, **name)
        };
        let (name, _) = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.connected && peer.known.durable(origin) > have)
            .filter(|(_, peer)| !peer.parts_at(origin))
            .filter(|(_, peer)| now >= peer.behind_until || peer.shows_state())
            .min_by_key(rank)?;
        let behind = now < self.peers[name].behind_until;
        Some(if behind {
            Source::Snapshot(*name)
        } else {
            Source::Log(*name)
        })
    }

    fn favourite(&mut self) -> Origin {
        let count = self.peers.len().max(1);
        let index = usize::try_from(self.draw() % count as u64).unwrap_or(0);
        self.peers.keys().nth(index).copied().unwrap_or(self.me)
    }

    fn want<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        wants: BTreeMap<Origin, Vec<(Origin, u64)>>,
    ) {
        for (name, wanted) in wants {
            let Some(peer) = self.peers.get(&name) else {
                continue;
            };
            for (origin, first) in &wanted {
                if let Some(lack) = self.repair.lacking.get_mut(origin) {
                    lack.have = first - 1;
                    lack.since = turn.now;
                    lack.tries = lack.tries.saturating_add(1);
                    lack.asked = Some((name, peer.known.durable(*origin)));
                }
            }
            turn.event(Event::Asked {
                peer: name,
                origins: wanted.len(),
            });
            for part in wanted.chunks(WANT_ENTRIES_MAX) {
                turn.send(name, Message::Want(part.to_vec()));
            }
        }
    }
}
