//! Sending operations: own ones to every peer as they become durable, others' to a peer that
//! asked. All of it is read from the log as the peer's window allows, so a slow peer costs a
//! place in the log and never a queue.

use std::collections::{BTreeMap, VecDeque};

use super::limits::{
    BATCH_BYTES, FLIGHT_BATCHES_MAX, ON_THE_WAY_MS, OPERATIONS_PER_MESSAGE_MAX, READS_PER_TURN,
    REPAIR_ORIGINS_MAX, RETRY_MS,
};
use super::machine::{Machine, Turn};
use super::message::{Message, operation_bytes};
use super::peer::Peer;
use super::replica::{Cursor, Read, Replica, Run};
use super::{Event, Output};
use crate::origin::Origin;

/// Operations sent and not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Per origin, in order.
    batches: BTreeMap<Origin, VecDeque<Batch>>,
    count: usize,
    bytes: usize,
    /// When something was acknowledged, or first sent after nothing was in flight.
    progress_at: u64,
}

#[derive(Clone, Copy, Debug)]
struct Batch {
    first: u64,
    last: u64,
    bytes: usize,
    sent_at: u64,
}

impl Flight {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn add(&mut self, origin: Origin, batch: Batch) {
        if self.count == 0 {
            self.progress_at = batch.sent_at;
        }
        self.batches.entry(origin).or_default().push_back(batch);
        self.count += 1;
        self.bytes += batch.bytes;
    }

    /// The peer has received the first `received` operations of `origin`.
    pub(super) fn acknowledge(&mut self, now: u64, origin: Origin, received: u64) {
        let Some(batches) = self.batches.get_mut(&origin) else {
            return;
        };
        while let Some(batch) = batches.front().copied()
            && batch.last <= received
        {
            batches.pop_front();
            self.count -= 1;
            self.bytes -= batch.bytes;
            self.progress_at = now;
        }
        if batches.is_empty() {
            self.batches.remove(&origin);
        }
    }

    /// Number after the last operation of `origin` in flight, if operation `first` is among those
    /// and was sent so lately that it is on its way.
    fn on_the_way(&self, now: u64, origin: Origin, first: u64) -> Option<u64> {
        let batches = self.batches.get(&origin)?;
        let batch = batches.iter().find(|batch| first <= batch.last)?;
        let recent = now.saturating_sub(batch.sent_at) < ON_THE_WAY_MS;
        (recent && batch.first <= first).then_some(batches.back()?.last + 1)
    }

    /// What is in flight of `origin` is taken as lost.
    fn forget(&mut self, origin: Origin) {
        for batch in self.batches.remove(&origin).unwrap_or_default() {
            self.count -= 1;
            self.bytes -= batch.bytes;
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Flight::default();
    }

    fn is_stuck(&self, now: u64) -> bool {
        self.count > 0 && now.saturating_sub(self.progress_at) >= RETRY_MS
    }

    fn has(&self, origin: Origin) -> bool {
        self.batches.contains_key(&origin)
    }

    /// Whether `bytes` more may be sent. One operation larger than the window still goes, alone.
    fn admits(&self, bytes: usize, window: usize) -> bool {
        let alone = self.count == 0 && window > 0;
        self.count < FLIGHT_BATCHES_MAX && (alone || self.bytes + bytes <= window)
    }
}

/// How far own operations were sent to a peer.
#[derive(Debug, Default)]
pub(super) struct Push {
    /// Number of the next one; `None` until it is known what the peer has.
    next: Option<u64>,
    cursor: Option<Cursor>,
}

/// Operations that a peer asked for.
#[derive(Debug, Default)]
pub(super) struct Serve {
    /// Number of the next one to send, per origin.
    wanted: BTreeMap<Origin, u64>,
    cursor: Option<Cursor>,
}

impl Serve {
    pub(super) fn origins(&self) -> usize {
        self.wanted.len()
    }
}

/// The last read of own operations: peers that are equally far share it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    last: Option<(Place, Read)>,
}

/// Where own operations are read: from which on, from where in the log, how many bytes.
type Place = (u64, Option<Cursor>, usize);

impl Shared {
    fn read(&mut self, replica: &mut impl Replica, me: Origin, at: Place) -> Read {
        match &self.last {
            Some((known, read)) if *known == at => read.clone(),
            _ => {
                let (next, cursor, bytes) = at;
                let read = replica.read(&BTreeMap::from([(me, next)]), cursor, bytes);
                self.last = Some((at, read.clone()));
                read
            }
        }
    }
}

/// What became of a read's operations.
enum Sent {
    /// All are on their way.
    All,
    /// The window is full.
    Full,
    /// They do not continue what was sent: the log no longer has what comes between.
    Gap,
}

impl Machine {
    /// Sends to a peer what its window allows.
    pub(super) fn pump<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        name: Origin,
        shared: &mut Shared,
    ) {
        let (me, window) = (self.me, self.window);
        let Some(peer) = self.peers.get_mut(&name).filter(|peer| peer.is_ready()) else {
            return;
        };
        let window = window.min(peer.window) as usize;
        peer.serve_first = !peer.serve_first;
        if peer.serve_first {
            serve(turn, name, peer, window);
        }
        push(turn, me, name, peer, window, shared);
        if !peer.serve_first {
            serve(turn, name, peer, window);
        }
    }

    /// Takes what has been in flight for too long as lost.
    pub(super) fn rewind_stuck<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let me = self.me;
        for (name, peer) in &mut self.peers {
            if !peer.flight.is_stuck(turn.now) {
                continue;
            }
            let from = peer.push.next.unwrap_or(0);
            let to = peer.known.received(me).saturating_add(1);
            peer.forget_sent();
            turn.out.push(Output::Event(Event::Rewound {
                peer: *name,
                from,
                to,
            }));
        }
    }

    /// A peer asks for operations.
    pub(super) fn receive_want<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        name: Origin,
        wanted: Vec<(Origin, u64)>,
    ) {
        let me = self.me;
        let Some(peer) = self.peers.get_mut(&name).filter(|peer| peer.connected) else {
            return;
        };
        for (origin, first) in wanted {
            let none = first == 0 || first > turn.replica.durable().get(origin);
            if none || peer.parts_at(origin) {
                continue;
            }
            let sent = peer.flight.on_the_way(turn.now, origin, first);
            if origin == me {
                if sent.is_none() {
                    peer.flight.forget(origin);
                    peer.push = Push {
                        next: Some(first),
                        cursor: None,
                    };
                }
                continue;
            }
            let serve = peer.serve.get_or_insert_default();
            if sent.is_some() && serve.wanted.contains_key(&origin) {
                continue;
            }
            if serve.wanted.len() < REPAIR_ORIGINS_MAX || serve.wanted.contains_key(&origin) {
                if sent.is_none() {
                    peer.flight.forget(origin);
                }
                serve.wanted.insert(origin, sent.unwrap_or(first));
                serve.cursor = None;
            }
        }
    }
}

/// Sends own operations.
fn push<R: Replica>(
    turn: &mut Turn<'_, R>,
    me: Origin,
    name: Origin,
    peer: &mut Peer,
    window: usize,
    shared: &mut Shared,
) {
    if peer.parts_at(me) {
        return;
    }
    let received = peer.known.received(me);
    let durable = turn.replica.durable().get(me);
    let has_sent = peer.flight.has(me);
    let next = peer.push.next.get_or_insert(received.saturating_add(1));
    if *next <= received || (!has_sent && *next > received.saturating_add(1)) {
        *next = received.saturating_add(1);
        peer.push.cursor = None;
    }
    for _ in 0..READS_PER_TURN {
        let next = peer.push.next.unwrap_or(1);
        let room = window.saturating_sub(peer.flight.bytes).min(BATCH_BYTES);
        if next > durable || room == 0 || !peer.flight.admits(1, window) {
            return;
        }
        let read = shared.read(turn.replica, me, (next, peer.push.cursor, room));
        let Read::Runs {
            runs,
            next: cursor,
            end,
        } = read
        else {
            return tell_behind(turn, name, peer);
        };
        let mut wanted = BTreeMap::from([(me, next)]);
        let sent = send(turn, name, &mut peer.flight, window, &mut wanted, runs);
        peer.push.next = wanted.get(&me).copied();
        match sent {
            Sent::All => peer.push.cursor = Some(cursor),
            Sent::Full => return,
            Sent::Gap => return tell_behind(turn, name, peer),
        }
        if end {
            return;
        }
    }
}

/// Sends what the peer asked for, up to the end of the log.
fn serve<R: Replica>(turn: &mut Turn<'_, R>, name: Origin, peer: &mut Peer, window: usize) {
    for _ in 0..READS_PER_TURN {
        let room = window.saturating_sub(peer.flight.bytes).min(BATCH_BYTES);
        let Some(serve) = &mut peer.serve else {
            return;
        };
        if room == 0 || !peer.flight.admits(1, window) {
            return;
        }
        let read = turn.replica.read(&serve.wanted, serve.cursor, room);
        let Read::Runs { runs, next, end } = read else {
            peer.serve = None;
            return tell_behind(turn, name, peer);
        };
        match send(
            turn,
            name,
            &mut peer.flight,
            window,
            &mut serve.wanted,
            runs,
        ) {
            Sent::All if end => peer.serve = None,
            Sent::All => serve.cursor = Some(next),
            Sent::Full => return,
            Sent::Gap => {
                peer.serve = None;
                return tell_behind(turn, name, peer);
            }
        }
    }
}

/// Sends runs in messages of bounded size, as far as the window reaches, and raises `wanted`.
fn send<R: Replica>(
    turn: &mut Turn<'_, R>,
    name: Origin,
    flight: &mut Flight,
    window: usize,
    wanted: &mut BTreeMap<Origin, u64>,
    runs: Vec<Run>,
) -> Sent {
    for run in runs {
        let Some(next) = wanted.get_mut(&run.origin) else {
            continue;
        };
        if run.first > *next {
            return Sent::Gap;
        }
        let known = usize::try_from(*next - run.first).unwrap_or(usize::MAX);
        let mut rest = run.operations.into_iter().skip(known).peekable();
        while rest.peek().is_some() {
            let (mut bytes, mut operations) = (0, Vec::new());
            while let Some(operation) = rest.peek() {
                let more = operation_bytes(operation);
                let fits = bytes + more <= BATCH_BYTES.min(window.saturating_sub(flight.bytes))
                    && operations.len() < OPERATIONS_PER_MESSAGE_MAX;
                if !fits && !operations.is_empty() {
                    break;
                }
                bytes += more;
                operations.extend(rest.next());
            }
            if !flight.admits(bytes, window) {
                return Sent::Full;
            }
            let first = *next;
            *next += operations.len() as u64;
            let batch = Batch {
                first,
                last: *next - 1,
                bytes,
                sent_at: turn.now,
            };
            flight.add(run.origin, batch);
            let origin = run.origin;
            let run = Run {
                origin,
                first,
                operations,
            };
            let before = turn.replica.mark(origin, first - 1);
            turn.send(name, Message::Operations { before, run });
        }
    }
    Sent::All
}

fn tell_behind<R: Replica>(turn: &mut Turn<'_, R>, name: Origin, peer: &mut Peer) {
    peer.push.cursor = None;
    let recently = |at: u64| turn.now.saturating_sub(at) < RETRY_MS;
    if peer.told_behind_at.is_some_and(recently) {
        return;
    }
    peer.told_behind_at = Some(turn.now);
    turn.out.push(Output::Event(Event::ToldBehind(name)));
    turn.send(name, Message::Behind);
}
