//! Saying what is here and hearing what is there.
//!
//! A peer is told everything when the connection is new and when it asks, and once a second what
//! changed since, with a hash of everything by which it finds out that it missed something; a
//! second in which nothing changed costs the hash alone. In a large group that is less often. Between that it is told the numbers of
//! the origins whose operations it sent: the acknowledgement.
//!
//! Each side of a connection has a number of its own (`session`) and says which of the other side
//! it has heard. A report that names this side's present number was made in answer to it, so it
//! is not from an earlier life of the peer.

use super::Event;
use super::limits::{
    ACKNOWLEDGE_MS, REPORT_ENTRIES_MAX, REPORT_MS, REPORT_SPACING_MS, REPORTS_PER_PERIOD_MAX,
};
use super::machine::{Machine, Turn};
use super::message::{Content, Entry, Message, Report};
use super::peer::Peer;
use super::replica::Replica;
use super::versions::Mine;
use crate::origin::Origin;

/// What every report of this node says beside what it has.
#[derive(Clone, Copy)]
struct Offer {
    window: u32,
    horizon: u64,
}

impl Machine {
    fn offer(&self) -> Offer {
        Offer {
            window: self.window,
            horizon: self.horizon,
        }
    }

    /// Sends the reports and acknowledgements that are due, to one peer or to all.
    pub(super) fn report<R: Replica>(&mut self, turn: &mut Turn<'_, R>, only: Option<Origin>) {
        let offer = self.offer();
        let periods = self.peers.len().div_ceil(REPORTS_PER_PERIOD_MAX).max(1) as u64;
        let mut refreshed = false;
        let due: Vec<Origin> = match only {
            Some(peer) => vec![peer],
            None => self.peers.keys().copied().collect(),
        };
        for name in due {
            let Some(peer) = self.peers.get(&name).filter(|peer| peer.connected) else {
                continue;
            };
            let (periodic, asked) = (turn.now >= peer.reports.due_at, may_tell(peer, turn.now));
            if periodic || asked {
                if !refreshed {
                    self.refresh_mine(turn);
                    refreshed = true;
                }
                if let Some(peer) = self.peers.get_mut(&name) {
                    let acquainted = peer.heard != 0 && peer.is_ready();
                    let periods = if acquainted { periods } else { 1 };
                    peer.reports.due_at = turn.now + periods * REPORT_MS;
                    tell(turn, name, peer, offer, asked, &self.mine);
                    self.tell_histories(turn, name);
                }
            }
            self.acknowledge(turn, name);
        }
    }

    /// Tells a peer what became of the operations it sent.
    fn acknowledge<R: Replica>(&mut self, turn: &mut Turn<'_, R>, name: Origin) {
        let offer = self.offer();
        let Some(peer) = self.peers.get_mut(&name) else {
            return;
        };
        let waited = turn.now.saturating_sub(peer.owed.sent_at) >= ACKNOWLEDGE_MS;
        let many = peer.owed.bytes >= offer.window as usize / 8;
        if peer.owed.origins.is_empty() || peer.heard == 0 || !(waited || many) {
            return;
        }
        let (applied, durable) = (turn.replica.applied(), turn.replica.durable());
        let mut entries = Vec::new();
        let intake = &self.intake;
        peer.owed.origins.retain(|origin, said| {
            let received = applied.get(*origin) + intake.aside(*origin);
            let now = (durable.get(*origin).min(received), received);
            if *said == Some(now) {
                return true;
            }
            if entries.len() == REPORT_ENTRIES_MAX {
                return true;
            }
            entries.push(Entry {
                origin: *origin,
                durable: now.0,
                received: now.1,
                mark: turn.replica.mark(*origin, now.0),
            });
            *said = Some(now);
            now.0 < now.1
        });
        if !entries.is_empty() {
            peer.owed.sent_at = turn.now;
            peer.owed.bytes = 0;
            say(turn, name, peer, offer, Content::Moved(entries));
        }
    }

    /// A peer says what it has.
    pub(super) fn receive_report<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        name: Origin,
        report: &Report,
    ) {
        let offer = self.offer();
        let Some(peer) = self.peers.get_mut(&name) else {
            return;
        };
        if report.session == 0 || peer.is_retired(turn.now, report.session) {
            return;
        }
        let unheard = std::mem::replace(&mut peer.heard, report.session) != report.session;
        if report.heard != peer.session {
            // It does not know this side of the connection yet.
            peer.reports.asked = true;
            if unheard {
                peer.reports.full_at = None;
            }
            return;
        }
        if report.session != peer.theirs {
            if peer.theirs != 0 {
                turn.event(Event::PeerRestarted(name));
            }
            peer.renew(turn.now, report.session);
        }
        peer.window = report.window;
        peer.reports.asked |= report.ask;
        let newest = peer.known.is_newest(report.stamp);
        let change = peer.known.take(report.stamp, &report.content);
        if let Content::Summary(hash) | Content::News(hash, _) = report.content {
            let exact = peer.known.hash() == hash;
            peer.doubt |= newest && !exact;
            if newest && exact && peer.known.is_complete() {
                peer.confirmed_at = Some(turn.now);
                peer.horizon = report.horizon;
            }
        }
        if matches!(report.content, Content::Range { .. }) {
            peer.doubt = false;
        }
        if change.full {
            turn.event(Event::OriginsFull(name));
        }
        if change.lowered {
            peer.forget_sent();
            turn.event(Event::PeerLowered(name));
        }
        question(turn, name, peer, offer);
        if let Content::Moved(entries)
        | Content::News(_, entries)
        | Content::Range { entries, .. } = &report.content
        {
            self.heed(turn, name, entries);
        }
    }

    /// Draws the conclusions from what a peer has.
    fn heed<R: Replica>(&mut self, turn: &mut Turn<'_, R>, name: Origin, entries: &[Entry]) {
        let mut full = false;
        for entry in entries {
            self.compare(turn, name, entry.origin);
            let ours = turn.replica.applied().get(entry.origin);
            let followed = ours > 0 || (!full && self.may_follow(turn.replica, entry.origin));
            let Some(peer) = self.peers.get_mut(&name) else {
                return;
            };
            peer.flight
                .acknowledge(turn.now, entry.origin, entry.received);
            if peer.parts_at(entry.origin) {
                continue;
            }
            if entry.origin != self.me {
                if entry.durable > ours && followed {
                    self.repair.note(turn.now, name, *entry, ours);
                } else if entry.durable > ours {
                    full = true;
                }
            } else if entry.received > ours.max(peer.unknown) {
                peer.unknown = entry.received;
                turn.event(Event::OwnOperationsUnknown {
                    peer: name,
                    theirs: entry.received,
                    ours,
                });
            }
        }
        if full {
            turn.event(Event::OriginsFull(name));
        }
    }
}

/// Whether the peer asked for everything and was not told too recently.
fn may_tell(peer: &Peer, now: u64) -> bool {
    let recently = |at: u64| now.saturating_sub(at) < REPORT_SPACING_MS;
    peer.reports.asked && !peer.reports.full_at.is_some_and(recently)
}

/// Asks a peer for everything it has, if that is not known.
fn question<R>(turn: &mut Turn<'_, R>, name: Origin, peer: &mut Peer, offer: Offer) {
    let recently = |at: u64| turn.now.saturating_sub(at) < REPORT_SPACING_MS;
    let answered = peer.known.is_complete() && !peer.doubt;
    if answered || peer.reports.question_at.is_some_and(recently) {
        return;
    }
    peer.reports.question_at = Some(turn.now);
    say(turn, name, peer, offer, Content::Moved(Vec::new()));
}

/// Tells a peer everything, what is new, or that nothing is.
fn tell<R>(
    turn: &mut Turn<'_, R>,
    name: Origin,
    peer: &mut Peer,
    offer: Offer,
    asked: bool,
    mine: &Mine,
) {
    match peer.reports.told {
        Some(told) if !asked && told < mine.revision => {
            for content in mine.news(told) {
                say(turn, name, peer, offer, content);
            }
            peer.reports.told = Some(mine.revision);
        }
        None if peer.heard != 0 => tell_all(turn, name, peer, offer, mine),
        _ if asked => tell_all(turn, name, peer, offer, mine),
        _ => say(turn, name, peer, offer, Content::Summary(mine.hash)),
    }
}

fn tell_all<R>(turn: &mut Turn<'_, R>, name: Origin, peer: &mut Peer, offer: Offer, mine: &Mine) {
    for content in mine.ranges() {
        say(turn, name, peer, offer, content);
    }
    peer.reports.asked = false;
    peer.reports.full_at = Some(turn.now);
    peer.reports.told = Some(mine.revision);
}

fn say<R>(turn: &mut Turn<'_, R>, name: Origin, peer: &mut Peer, offer: Offer, content: Content) {
    peer.stamp += 1;
    let report = Report {
        session: peer.session,
        heard: peer.heard,
        stamp: peer.stamp,
        horizon: offer.horizon,
        window: offer.window,
        ask: peer.theirs == 0 || !peer.known.is_complete() || peer.doubt,
        content,
    };
    turn.send(name, Message::Report(report));
}
