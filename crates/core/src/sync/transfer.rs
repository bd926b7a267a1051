//! Taking a snapshot: a peer's state is fetched and merged in pieces, until everything that the
//! peer had at the start is in.
//!
//! The pages of each section come in order. The bits that a page's rows need are compared before
//! the next page is asked for, so what is kept here stays small. A request without an answer is
//! sent again; a peer that stays silent is left for another that has as much, from the first page on,
//! and what was merged stays merged. Bits that an operation waits for are fetched the same way, without pages.

use std::collections::BTreeMap;

use super::histories::shows_other_operations;
use super::limits::{ABANDON_MS, PARTS_MAX, REFUSED_MS, REQUESTS_MAX, RETRY_MS, STALL_MS};
use super::machine::{Machine, Turn};
use super::message::Message;
use super::parts::Parts;
use super::peer::Peer;
use super::replica::{LayerName, LegacyName, Page, Part, Replica, Source};
use super::{Event, SnapshotCount};
use crate::origin::Origin;
use crate::version::{Dot, VersionVector};

/// What is being fetched from a peer.
#[derive(Debug)]
pub(super) struct Transfer {
    /// From whom.
    pub(super) peer: Origin,
    purpose: Purpose,
    /// Nothing is known to be lacking: it gives way to whatever is.
    scrub: bool,
    /// What the peer must have had before the first answer.
    version: VersionVector,
    /// What the pages have. Reports of the peer may tell less than it has, of one origin more late
    /// than of another: with a drop, then, and not with the creation before it. So once it has
    /// shown its histories, it is what they count: all that was in there at one time.
    state: VersionVector,
    /// Bits to be compared before the next page.
    pub(super) parts: Parts,
    /// Requests without an answer, with the time they were sent.
    pub(super) requests: BTreeMap<Request, u64>,
    /// When an answer last came, or the transfer began.
    pub(super) heard_at: u64,
    /// When the transfer last moved to another peer, or to another session with its peer, if it did.
    moved_at: Option<u64>,
    pub(super) count: SnapshotCount,
}

/// Why it is fetched.
#[derive(Debug)]
enum Purpose {
    /// For everything up to `version`; this is the place reached.
    Snapshot { section: usize, after: Vec<u8> },
    /// For the operation that waits for bits.
    Bits(Dot),
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Request {
    /// The page at the place reached.
    Page,
    /// Fingerprints from that block on.
    Blocks(LayerName, u32),
    /// Lines of that block.
    Lines(LayerName, u32),
    /// The file from that offset on.
    Blob(LegacyName, u64),
}

impl Transfer {
    fn new(now: u64, peer: Origin, purpose: Purpose, version: VersionVector) -> Self {
        Transfer {
            peer,
            purpose,
            scrub: false,
            state: version.clone(),
            version,
            parts: Parts::default(),
            requests: BTreeMap::new(),
            heard_at: now,
            moved_at: None,
            count: SnapshotCount::default(),
        }
    }

    /// The operation that waits for the bits, if one does.
    pub(super) fn waiting(&self) -> Option<Dot> {
        match self.purpose {
            Purpose::Bits(dot) => Some(dot),
            Purpose::Snapshot { .. } => None,
        }
    }

    /// An answer to `request` came; whether it was waited for.
    pub(super) fn answered(&mut self, now: u64, request: Request) -> bool {
        let expected = self.requests.remove(&request).is_some();
        if expected {
            self.heard_at = now;
        }
        expected
    }

    /// Requests that may be sent now.
    pub(super) fn room(&self) -> usize {
        REQUESTS_MAX.saturating_sub(self.requests.len())
    }

    /// A peer is connected in a new session: it may have been set back in between.
    pub(super) fn meet_again(&mut self, now: u64, peer: Origin) {
        if self.peer == peer {
            self.move_to(now, peer);
        }
    }

    /// Goes on with another peer, or in another session with the same, from the first page on:
    /// pages of two show no state that there was. The second may have less than the first, or
    /// another history.
    fn move_to(&mut self, now: u64, peer: Origin) {
        self.peer = peer;
        self.moved_at = Some(now);
        let Purpose::Snapshot { section, after } = &mut self.purpose else {
            return self.requests.values_mut().for_each(|sent| *sent = 0);
        };
        (*section, *after) = (0, Vec::new());
        self.state.clone_from(&self.version);
        self.parts = Parts::default();
        self.requests.clear();
    }

    /// Whether the first section has come, which shows the histories of what the peer has.
    fn knows_histories(&self) -> bool {
        matches!(self.purpose, Purpose::Snapshot { section, .. } if section > 0)
    }

    fn next_page(&self, sections: &[u8]) -> Option<Message> {
        let Purpose::Snapshot { section, after } = &self.purpose else {
            return None;
        };
        sections.get(*section).map(|section| Message::PageRequest {
            section: *section,
            after: after.clone(),
        })
    }
}

impl Machine {
    /// Begins a snapshot from a peer, unless something is being fetched already.
    pub(super) fn begin_snapshot<R: Replica>(&mut self, turn: &mut Turn<'_, R>, name: Origin) {
        let Some(peer) = self.peers.get(&name).filter(|peer| peer.shows_state()) else {
            return;
        };
        if self.is_fetching() || turn.now < self.refused_until {
            return;
        }
        self.transfer = Some(self.whole(turn, name, peer));
        self.scrub.end();
        turn.event(Event::SnapshotBegun(name));
    }

    /// Whether something that is lacking is being fetched.
    pub(super) fn is_fetching(&self) -> bool {
        self.transfer.as_ref().is_some_and(|before| !before.scrub)
    }

    /// Begins to compare the whole state with a peer's.
    pub(super) fn begin_scrub<R: Replica>(&mut self, turn: &mut Turn<'_, R>, name: Origin) {
        if let Some(peer) = self.peers.get(&name) {
            let mut transfer = self.whole(turn, name, peer);
            transfer.scrub = true;
            self.transfer = Some(transfer);
            self.scrub.end();
            turn.event(Event::ScrubBegun(name));
        }
    }

    fn whole<R: Replica>(&self, turn: &Turn<'_, R>, name: Origin, peer: &Peer) -> Transfer {
        // Of this node's own operations too: rows that they made and the peer has not were dropped.
        let mut version = peer.known.version();
        version.limit(self.me, turn.replica.applied().get(self.me));
        let purpose = Purpose::Snapshot {
            section: 0,
            after: Vec::new(),
        };
        Transfer::new(turn.now, name, purpose, version)
    }

    /// Begins to fetch bits that an operation waits for.
    fn begin_parts<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let found = self.intake.missing(turn.now).find_map(|missing| {
            let dot = missing.dot;
            let version = VersionVector::from_iter([(dot.origin, dot.sequence)]);
            // Whoever has another history of any origin may never have had the filter.
            let has_them = |peer: &Peer| peer.shows_state() && peer.known.includes(&version);
            let name = match self.peers.get(&missing.from) {
                Some(peer) if has_them(peer) => Some(missing.from),
                _ => self.successor(missing.from, &version, turn.now),
            };
            Some((name?, missing, version))
        });
        if let Some((name, missing, version)) = found {
            let purpose = Purpose::Bits(missing.dot);
            let mut transfer = Transfer::new(turn.now, name, purpose, version);
            transfer.parts.add(missing.parts);
            self.transfer = Some(transfer);
            turn.event(Event::PartsBegun(name));
        }
    }

    /// Another peer whose state has all of `version`, the trusted first.
    pub(super) fn successor(
        &self,
        before: Origin,
        version: &VersionVector,
        now: u64,
    ) -> Option<Origin> {
        self.peers
            .iter()
            .filter(|(name, peer)| {
                **name != before && peer.shows_state() && peer.known.includes(version)
            })
            .min_by_key(|(name, peer)| (now < peer.distrust_until, **name < before, **name))
            .map(|(name, _)| *name)
    }

    /// Gives up or moves a transfer whose peer is silent, has lost what it had, or is not needed
    /// any more; sends again what had no answer.
    pub(super) fn check_transfer<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let Some(transfer) = &self.transfer else {
            if !std::mem::replace(&mut self.tidied, true) {
                // What came before this run of the node.
                turn.replica.forget_partial();
            }
            return self.scrub(turn);
        };
        let (name, now) = (transfer.peer, turn.now);
        let silent = now.saturating_sub(transfer.heard_at.max(transfer.moved_at.unwrap_or(0)));
        let lapsed = now.saturating_sub(transfer.heard_at) >= ABANDON_MS;
        let unneeded = !transfer.scrub && turn.replica.applied().includes(&transfer.version);
        let connected = self.peers.get(&name).is_some_and(|peer| peer.connected);
        let lost = self.has_lost(transfer);
        if unneeded || lapsed {
            return self.abandon(turn);
        }
        let useless = !connected || lost || silent >= STALL_MS;
        if useless && let Some(next) = self.successor(name, &transfer.version, now) {
            if silent >= STALL_MS
                && let Some(peer) = self.peers.get_mut(&name)
            {
                peer.distrust_until = now + super::limits::DISTRUST_MS;
            }
            if let Some(transfer) = &mut self.transfer {
                transfer.move_to(now, next);
            }
            if lost {
                turn.replica.forget_partial();
            }
            turn.event(Event::SnapshotMoved(next));
        } else if lost {
            self.abandon_state_of(turn, name);
        }
    }

    /// Whether the peer does not have any more what it had when the transfer began.
    fn has_lost(&self, transfer: &Transfer) -> bool {
        self.peers
            .get(&transfer.peer)
            .is_some_and(|peer| peer.is_ready() && !peer.known.includes(&transfer.version))
    }

    /// Forgets what was put aside of an origin, and the bits that it waited for.
    pub(super) fn forget_aside<R: Replica>(&mut self, turn: &mut Turn<'_, R>, origin: Origin) {
        let fetches = |transfer: &Transfer| transfer.waiting().is_some_and(|d| d.origin == origin);
        if self.transfer.as_ref().is_some_and(fetches) {
            self.abandon(turn);
        }
        self.intake.forget(origin);
    }

    /// Whether the peer is known to have now what the transfer is for, in the history that is here,
    /// and to have had what the bits are part of: only then bits that it has not were dropped. It may
    /// have been set back since it was asked.
    fn may_say_gone<R: Replica>(&self, replica: &R, transfer: &Transfer, part: Part) -> bool {
        let name = transfer.peer;
        let had = |dot| self.vouches_for(replica, name, dot);
        let peer = self.peers.get(&name);
        let Some(peer) = peer.filter(|peer| peer.shows_state()) else {
            return false;
        };
        match transfer.waiting() {
            // It may be another operation of that number by now that is here.
            Some(dot) => {
                let made = replica.made(part.filter());
                self.intake.lacks_bits(dot) && had(dot) && made.is_none_or(had)
            }
            None => peer.known.includes(&transfer.version),
        }
    }

    /// Gives up what is being fetched from a peer whose history is another one, or that was set back
    /// and may go on in another one.
    pub(super) fn abandon_state_of<R: Replica>(&mut self, turn: &mut Turn<'_, R>, name: Origin) {
        if self.transfer.as_ref().is_some_and(|of| of.peer == name) {
            self.abandon(turn);
        }
    }

    /// The state that is being fetched is of another history than what is here, which the peer will
    /// find as well once it hears of it: until then it is not asked again at once.
    fn refuse_state<R: Replica>(&mut self, turn: &mut Turn<'_, R>, transfer: Transfer) {
        let peer = transfer.peer;
        self.refused_until = turn.now.saturating_add(REFUSED_MS);
        self.transfer = Some(transfer);
        self.abandon_state_of(turn, peer);
    }

    /// Gives up what is being fetched. What has come of a state goes at once: soon operations of
    /// another history may come under the numbers that made it, and it would seem to be theirs.
    pub(super) fn abandon<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        if let Some(transfer) = self.transfer.take() {
            turn.event(Event::SnapshotAbandoned(transfer.peer));
            match transfer.purpose {
                Purpose::Bits(dot) => self.intake.fetched(dot.origin),
                Purpose::Snapshot { .. } => turn.replica.forget_partial(),
            }
        }
    }

    /// Sends the requests that can be sent, and ends what is complete.
    pub(super) fn drive_transfer<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        if self.transfer.as_ref().is_none_or(|before| before.scrub) {
            self.begin_parts(turn);
        }
        let Some(mut transfer) = self.transfer.take() else {
            return;
        };
        if !self.peers.get(&transfer.peer).is_some_and(Peer::is_ready) {
            self.transfer = Some(transfer);
            return;
        }
        self.repeat(turn, &mut transfer);
        self.request_parts(turn, &mut transfer);
        if transfer.parts.is_empty() && transfer.requests.is_empty() {
            match transfer.next_page(turn.replica.sections()) {
                Some(request) => {
                    transfer.requests.insert(Request::Page, turn.now);
                    turn.send(transfer.peer, request);
                }
                None => return self.finish(turn, transfer),
            }
        }
        self.transfer = Some(transfer);
    }

    /// Sends again what had no answer for long.
    fn repeat<R: Replica>(&mut self, turn: &mut Turn<'_, R>, transfer: &mut Transfer) {
        let late: Vec<Request> = transfer
            .requests
            .iter()
            .filter(|(_, sent)| turn.now.saturating_sub(**sent) >= RETRY_MS)
            .map(|(request, _)| *request)
            .collect();
        for request in late {
            transfer.requests.insert(request, turn.now);
            turn.event(Event::RequestRepeated(transfer.peer));
            match request {
                Request::Page => {
                    if let Some(page) = transfer.next_page(turn.replica.sections()) {
                        turn.send(transfer.peer, page);
                    }
                }
                request => self.send_part_request(turn, transfer, request),
            }
        }
    }

    fn finish<R: Replica>(&mut self, turn: &mut Turn<'_, R>, transfer: Transfer) {
        if self.has_lost(&transfer) {
            let peer = transfer.peer;
            self.transfer = Some(transfer);
            return self.abandon_state_of(turn, peer);
        }
        let is_snapshot = matches!(transfer.purpose, Purpose::Snapshot { .. }) && !transfer.scrub;
        if is_snapshot && self.shows_other_history(turn.replica, &transfer.version) {
            return self.refuse_state(turn, transfer);
        }
        match transfer.purpose {
            Purpose::Snapshot { .. } => {
                if !transfer.scrub || turn.replica.applied().includes(&transfer.version) {
                    turn.replica.adopt(&transfer.state);
                    if !turn.replica.applied().includes(&transfer.version) {
                        // It could not be taken over, and could not now: not all over again at once.
                        self.refused_until = turn.now.saturating_add(REFUSED_MS);
                        turn.replica.forget_partial();
                    }
                } else {
                    // A comparison does not stand for operations: they are on their way.
                    turn.replica.forget_partial();
                }
                if transfer.scrub {
                    self.scrub.wait_for(transfer.peer, turn.now);
                }
                if let Some(peer) = self.peers.get_mut(&transfer.peer) {
                    peer.behind_until = 0;
                }
                self.intake.retry();
                turn.event(Event::SnapshotFinished(transfer.count));
            }
            Purpose::Bits(dot) => {
                self.intake.fetched(dot.origin);
                turn.event(Event::PartsFinished(transfer.count));
            }
        }
        self.apply_parked(turn);
    }

    /// A peer answers a request, maybe late or again.
    pub(super) fn receive_answer<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        from: Origin,
        answer: Message,
    ) {
        let Some(mut transfer) = self.transfer.take() else {
            return;
        };
        let sound = transfer.peer != from
            || match answer {
                // Before its rows are compared: what operations made here that the peer does not
                // have, under numbers that it has, would be taken for removed there.
                Message::Page(_)
                    if transfer.knows_histories() && shows_other_operations(turn.replica) =>
                {
                    return self.refuse_state(turn, transfer);
                }
                Message::Page(page) => {
                    self.merged_at = turn.now;
                    receive_page(turn, self.me, &mut transfer, &page)
                }
                Message::Gone(part) if !self.may_say_gone(turn.replica, &transfer, part) => {
                    let waits = transfer.waiting().is_some();
                    self.transfer = Some(transfer);
                    if waits {
                        self.abandon(turn);
                    }
                    return;
                }
                Message::Gone(part) => {
                    if transfer.drop_part(turn.now, part) {
                        turn.replica.give_up(part, transfer.waiting());
                    }
                    true
                }
                bits => {
                    let sound = self.receive_bits(turn, &mut transfer, bits);
                    if !sound {
                        turn.event(Event::AnswerRefused(from));
                    }
                    sound
                }
            };
        self.transfer = Some(transfer);
        if !sound {
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.distrust_until = turn.now + super::limits::DISTRUST_MS;
            }
            self.abandon(turn);
        }
    }
}

/// Merges a page; false if it cannot be.
fn receive_page<R: Replica>(
    turn: &mut Turn<'_, R>,
    me: Origin,
    transfer: &mut Transfer,
    page: &Page,
) -> bool {
    let Purpose::Snapshot { section, after } = &mut transfer.purpose else {
        return true;
    };
    let expected = turn.replica.sections().get(*section).copied();
    let here = expected == Some(page.section) && *after == page.after;
    if !here || transfer.requests.remove(&Request::Page).is_none() {
        return true;
    }
    transfer.heard_at = turn.now;
    if page.next.as_ref().is_some_and(|next| *next <= page.after) {
        return false;
    }
    let source = Source {
        version: &transfer.state,
        comparing: transfer.scrub,
    };
    let parts = match turn.replica.merge_page(page, source) {
        Ok(parts) if parts.len() <= PARTS_MAX => parts,
        Ok(_) => return false,
        Err(error) => {
            turn.event(Event::PageRefused(transfer.peer, error));
            return false;
        }
    };
    transfer.count.pages += 1;
    transfer.parts.add(parts);
    match &page.next {
        Some(next) => after.clone_from(next),
        None => {
            *section += 1;
            after.clear();
            // A comparison stands for no operations.
            if *section == 1 && !transfer.scrub {
                let shown = turn.replica.shown().iter();
                let shown: VersionVector =
                    shown.map(|(from, (count, _))| (*from, *count)).collect();
                transfer.state.merge(&shown);
                let own = turn.replica.applied().get(me);
                transfer.state.limit(me, own);
            }
        }
    }
    true
}

impl Transfer {
    /// The peer does not have these bits; true if they were asked for.
    fn drop_part(&mut self, now: u64, part: Part) -> bool {
        let about = |request: &Request| match (*request, part) {
            (Request::Blocks(layer, _) | Request::Lines(layer, _), Part::Layer(gone)) => {
                layer == gone
            }
            (Request::Blob(legacy, _), Part::Legacy(gone)) => legacy == gone,
            _ => false,
        };
        let before = self.requests.len();
        self.requests.retain(|request, _| !about(request));
        let asked = self.requests.len() < before;
        if asked {
            self.heard_at = now;
            self.parts.remove(part);
        }
        asked
    }
}
