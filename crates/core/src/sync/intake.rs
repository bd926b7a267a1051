//! Operations that arrive: into the replica in order, or aside until what they need is in.

use std::collections::{BTreeMap, BTreeSet};

use super::Event;
use super::limits::{
    ORIGINS_MAX, OWED_ORIGINS_MAX, PARKED_BYTES_MAX, PARKED_BYTES_PER_PEER, PARKED_ORIGINS_MAX,
    RETRY_MS,
};
use super::machine::{Machine, Turn};
use super::message::operation_bytes;
use super::replica::{Part, Replica, Run, Wait};
use crate::operation::{Operation, decode};
use crate::origin::Origin;
use crate::version::Dot;

/// Operations put aside, and origins that are not followed any more.
#[derive(Debug, Default)]
pub(super) struct Intake {
    parked: BTreeMap<Origin, Parked>,
    /// Bytes put aside, by the peer that sent the first of them.
    bytes: BTreeMap<Origin, usize>,
    refused: BTreeSet<Origin>,
}

/// Consecutive operations of one origin that wait.
#[derive(Debug)]
struct Parked {
    first: u64,
    /// The last mark before the first of them, in the history of who sent it.
    before: u64,
    /// The last one up to the end of them.
    last: u64,
    operations: Vec<Vec<u8>>,
    bytes: usize,
    from: Origin,
    waits: Waits,
    /// When the first of them began to wait.
    since: u64,
}

#[derive(Debug)]
enum Waits {
    For(Dot),
    /// For what an operation did that is in, and which is not here: it is of another history.
    ForState(Dot),
    /// For bits; not to be tried before that time, unless they were fetched.
    Parts(Vec<Part>, u64),
    /// For nothing any more.
    Ready,
}

impl Parked {
    fn next(&self) -> u64 {
        self.first.saturating_add(self.operations.len() as u64)
    }
}

/// Operations that were put aside.
pub(super) struct Waiting {
    /// The first of them.
    pub(super) first: Dot,
    /// The number after the last.
    pub(super) end: u64,
    /// The operation that the first waits for, if it does for one.
    pub(super) awaited: Option<Dot>,
}

/// Bits that an operation waits for.
pub(super) struct Missing {
    /// The operation.
    pub(super) dot: Dot,
    /// Who sent it.
    pub(super) from: Origin,
    /// The bits.
    pub(super) parts: Vec<Part>,
}

impl Intake {
    /// How many operations of an origin are put aside.
    pub(super) fn aside(&self, origin: Origin) -> u64 {
        self.parked
            .get(&origin)
            .map_or(0, |parked| parked.operations.len() as u64)
    }

    /// How many operations are put aside, by origin.
    pub(super) fn all_aside(&self) -> impl Iterator<Item = (Origin, u64)> + '_ {
        self.parked
            .iter()
            .map(|(origin, parked)| (*origin, parked.operations.len() as u64))
    }

    /// Whether an operation of this origin could not be understood.
    pub(super) fn is_refused(&self, origin: Origin) -> bool {
        self.refused.contains(&origin)
    }

    /// Operations that wait for bits which nobody is fetching.
    pub(super) fn missing(&self, now: u64) -> impl Iterator<Item = Missing> + '_ {
        self.parked.iter().filter_map(move |(origin, parked)| {
            let Waits::Parts(parts, not_before) = &parked.waits else {
                return None;
            };
            (now >= *not_before).then(|| Missing {
                dot: Dot {
                    origin: *origin,
                    sequence: parked.first,
                },
                from: parked.from,
                parts: parts.clone(),
            })
        })
    }

    /// Whether an operation waits for bits.
    pub(super) fn lacks_bits(&self, dot: Dot) -> bool {
        self.parked.get(&dot.origin).is_some_and(|parked| {
            parked.first == dot.sequence && matches!(parked.waits, Waits::Parts(..))
        })
    }

    /// The last mark among the first `count` operations of an origin that are in or put aside, as far
    /// as those reach.
    pub(super) fn mark<R: Replica>(&self, replica: &R, origin: Origin, count: u64) -> u64 {
        match self.parked.get(&origin) {
            Some(parked) if count >= parked.first => {
                let known = usize::try_from(count - parked.first + 1).unwrap_or(usize::MAX);
                let known = known.min(parked.operations.len());
                last_mark(parked.before, &parked.operations[..known])
            }
            _ => replica.mark(origin, count),
        }
    }

    /// The bits that an origin's operation waited for are in, or nowhere.
    pub(super) fn fetched(&mut self, origin: Origin) {
        if let Some(parked) = self.parked.get_mut(&origin) {
            parked.waits = Waits::Ready;
        }
    }

    /// What was put aside at that time or before.
    pub(super) fn waiting(&self, since: u64) -> impl Iterator<Item = Waiting> + '_ {
        let old = self.parked.iter();
        let old = old.filter(move |(_, parked)| parked.since <= since);
        old.map(|(origin, parked)| Waiting {
            first: Dot {
                origin: *origin,
                sequence: parked.first,
            },
            end: parked.next(),
            awaited: match parked.waits {
                Waits::For(awaited) | Waits::ForState(awaited) => Some(awaited),
                Waits::Parts(..) | Waits::Ready => None,
            },
        })
    }

    /// Forgets what was put aside of an origin.
    pub(super) fn forget(&mut self, origin: Origin) {
        self.take(origin);
    }

    /// What operations wait for may have come with the state of a peer: all are to be tried again.
    pub(super) fn retry(&mut self) {
        for parked in self.parked.values_mut() {
            if matches!(parked.waits, Waits::For(_) | Waits::ForState(_)) {
                parked.waits = Waits::Ready;
            }
        }
    }

    fn has_room(&self, from: Origin, bytes: usize) -> bool {
        let of_peer = self.bytes.get(&from).copied().unwrap_or(0);
        let of_all: usize = self.bytes.values().sum();
        of_peer + bytes <= PARKED_BYTES_PER_PEER && of_all + bytes <= PARKED_BYTES_MAX
    }

    /// Puts operations aside; false if there is no room.
    fn park(&mut self, origin: Origin, parked: Parked) -> bool {
        if self.parked.len() >= PARKED_ORIGINS_MAX || !self.has_room(parked.from, parked.bytes) {
            return false;
        }
        *self.bytes.entry(parked.from).or_default() += parked.bytes;
        self.parked.insert(origin, parked);
        true
    }

    /// Adds operations behind those put aside; says which of them is the first to continue them,
    /// if they do and there is room.
    fn append(&mut self, before: u64, run: &mut Run) -> Appended {
        let Some(parked) = self.parked.get(&run.origin) else {
            return Appended::Gap;
        };
        let (next, from) = (parked.next(), parked.from);
        if run.first > next {
            return Appended::Gap;
        }
        let known = usize::try_from(next - run.first).unwrap_or(usize::MAX);
        if known >= run.operations.len() {
            return Appended::Known;
        }
        if are_apart(last_mark(before, &run.operations[..known]), parked.last) {
            return Appended::Apart;
        }
        let new = run.operations.split_off(known);
        let bytes: usize = new.iter().map(|operation| operation_bytes(operation)).sum();
        if !self.has_room(from, bytes) {
            return Appended::Full;
        }
        *self.bytes.entry(from).or_default() += bytes;
        if let Some(parked) = self.parked.get_mut(&run.origin) {
            parked.bytes += bytes;
            parked.last = last_mark(parked.last, &new);
            parked.operations.extend(new);
        }
        Appended::Added
    }

    fn take(&mut self, origin: Origin) -> Option<Parked> {
        let parked = self.parked.remove(&origin)?;
        if let Some(bytes) = self.bytes.get_mut(&parked.from) {
            *bytes = bytes.saturating_sub(parked.bytes);
            if *bytes == 0 {
                self.bytes.remove(&parked.from);
            }
        }
        Some(parked)
    }
}

enum Appended {
    Added,
    Known,
    Full,
    Gap,
    /// They do not follow those that are there.
    Apart,
}

/// The last mark among operations and those before them, of which it is `before`.
fn last_mark(before: u64, operations: &[Vec<u8>]) -> u64 {
    let marks = operations
        .iter()
        .rev()
        .filter_map(|bytes| match decode(bytes) {
            Ok(Operation::Mark(mark)) => Some(mark),
            _ => None,
        });
    marks.into_iter().next().unwrap_or(before)
}

/// Whether two last marks of as many operations, 0 for one that is not known, are of two histories.
pub(super) fn are_apart(one: u64, other: u64) -> bool {
    one != 0 && other != 0 && one != other
}

impl Machine {
    /// A peer sends operations.
    pub(super) fn receive_operations<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        from: Origin,
        before: u64,
        mut run: Run,
    ) {
        let origin = run.origin;
        if origin == self.me || run.first == 0 || self.intake.is_refused(origin) {
            return;
        }
        let (have, origins) = (
            turn.replica.applied().get(origin),
            turn.replica.applied().len(),
        );
        if have == 0 && (origins >= ORIGINS_MAX || !self.may_follow(turn.replica, origin)) {
            return turn.event(Event::OriginsFull(from));
        }
        if self
            .peers
            .get(&from)
            .is_some_and(|peer| peer.parts_at(origin))
        {
            return;
        }
        let bytes: usize = run.operations.iter().map(|o| operation_bytes(o)).sum();
        let news = run.first.saturating_add(run.operations.len() as u64) > have + 1;
        self.owe(from, origin, bytes, !news);
        if self.intake.parked.contains_key(&origin) {
            match self.intake.append(before, &mut run) {
                Appended::Added => return,
                Appended::Known => return self.owe(from, origin, 0, true),
                Appended::Full => return turn.event(Event::ParkedFull(from)),
                Appended::Gap => {
                    self.owe(from, origin, 0, true);
                    return turn.event(Event::Gap { peer: from, origin });
                }
                // Who sent those may have another history by now: they would be in the way of
                // these for ever.
                Appended::Apart => self.forget_aside(turn, origin),
            }
        }
        if run.first > have + 1 {
            self.owe(from, origin, 0, true);
            return turn.event(Event::Gap { peer: from, origin });
        }
        if news {
            let known = usize::try_from(have + 1 - run.first).unwrap_or(usize::MAX);
            let operations = run.operations.split_off(known);
            let before = last_mark(before, &run.operations);
            self.apply_next(turn, from, origin, before, operations);
        }
    }

    /// Applies operations that follow the last one that is in, which they may do in another history
    /// only: two peers may send at once what they have of one origin.
    fn apply_next<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        from: Origin,
        origin: Origin,
        before: u64,
        operations: Vec<Vec<u8>>,
    ) -> bool {
        let have = turn.replica.applied().get(origin);
        if are_apart(before, turn.replica.mark(origin, have)) {
            self.part(turn, from, origin, None);
            return false;
        }
        self.apply(turn, from, origin, before, operations)
    }

    /// An acknowledgement is due; `again` although nothing new may be in.
    fn owe(&mut self, from: Origin, origin: Origin, bytes: usize, again: bool) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.owed.bytes = peer.owed.bytes.saturating_add(bytes);
            let full = peer.owed.origins.len() >= OWED_ORIGINS_MAX;
            if full && !peer.owed.origins.contains_key(&origin) {
                return;
            }
            let said = peer.owed.origins.entry(origin).or_insert(None);
            if again {
                *said = None;
            }
        }
    }

    /// Applies the operations that follow those that are in; true if one was.
    fn apply<R: Replica>(
        &mut self,
        turn: &mut Turn<'_, R>,
        from: Origin,
        origin: Origin,
        before: u64,
        mut operations: Vec<Vec<u8>>,
    ) -> bool {
        let first = turn.replica.applied().get(origin) + 1;
        let applied = turn.replica.apply(origin, first, &operations);
        let count = applied.count.min(operations.len());
        let dot = Dot {
            origin,
            sequence: first + count as u64,
        };
        let waits = match applied.waits {
            _ if count == operations.len() => return count > 0,
            // Without a reason it is tried again when something else is in.
            None => Waits::Ready,
            Some(Wait::For(dot)) if turn.replica.applied().covers(dot) => Waits::ForState(dot),
            Some(Wait::For(dot)) => Waits::For(dot),
            Some(Wait::Parts(parts)) => Waits::Parts(parts, turn.now),
            Some(Wait::Refused) => {
                self.intake.refused.insert(origin);
                turn.event(Event::Refused(dot));
                return count > 0;
            }
        };
        let for_parts = matches!(waits, Waits::Parts(..));
        let before = last_mark(before, &operations[..count]);
        operations.drain(..count);
        let parked = Parked {
            first: dot.sequence,
            before,
            last: last_mark(before, &operations),
            bytes: operations.iter().map(|o| operation_bytes(o)).sum(),
            operations,
            from,
            waits,
            since: turn.now,
        };
        turn.event(match self.intake.park(origin, parked) {
            true if for_parts => Event::ParkedForParts(dot),
            true => Event::Parked(dot),
            false => Event::ParkedFull(from),
        });
        count > 0
    }

    /// Applies what was put aside and need not wait any more.
    pub(super) fn apply_parked<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let mut progress = !self.intake.parked.is_empty();
        while progress {
            progress = false;
            let applied = turn.replica.applied();
            let ready: Vec<Origin> = self
                .intake
                .parked
                .iter()
                .filter(|(origin, parked)| {
                    let moved = applied.get(**origin) >= parked.first;
                    moved
                        || match &parked.waits {
                            Waits::For(dot) => applied.covers(*dot),
                            Waits::ForState(_) | Waits::Parts(..) => false,
                            Waits::Ready => true,
                        }
                })
                .map(|(origin, _)| *origin)
                .collect();
            for origin in ready {
                let Some(mut parked) = self.intake.take(origin) else {
                    continue;
                };
                let next = turn.replica.applied().get(origin) + 1;
                if parked.first > next || parked.next() <= next {
                    continue;
                }
                let known = usize::try_from(next - parked.first).unwrap_or(usize::MAX);
                let operations = parked.operations.split_off(known);
                let (since, fetched) = (parked.since, matches!(parked.waits, Waits::Ready));
                let before = last_mark(parked.before, &parked.operations);
                progress |= self.apply_next(turn, parked.from, origin, before, operations);
                self.wait_on(turn.now, (origin, next), since, fetched);
            }
        }
    }

    /// An operation that was tried and waits again has waited since then; for bits that were just
    /// fetched it is not tried at once.
    fn wait_on(&mut self, now: u64, (origin, first): (Origin, u64), since: u64, fetched: bool) {
        let parked = self.intake.parked.get_mut(&origin);
        let Some(parked) = parked.filter(|parked| parked.first == first) else {
            return;
        };
        parked.since = since;
        if let Waits::Parts(_, not_before) = &mut parked.waits
            && fetched
        {
            *not_before = now + RETRY_MS;
        }
    }
}
