//! The stream of filters that are kept in memory: what was put into them since the node started,
//! as far as it is still known one by one.
//!
//! It is followed by peers like the group's stream, with two differences. Nothing of it outlives
//! the process, so each life of a node has an origin of its own here. And of what was done only
//! the last is kept: who lacks more compares bits.
//!
//! Keys rest on what the log has: the layer that was opened for them, the rights that were drawn.
//! An operation is shown to nobody before the log is durable up to where it was when the
//! operation was made; else a power cut could take the rights back that its keys took.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use grapevine_core::origin::Origin;
use grapevine_core::sync::{Cursor, Read, Run};
use grapevine_core::version::{Dot, VersionVector};

use crate::log::Position;

/// Bytes of operations kept, with [`ENTRY_OVERHEAD_BYTES`] for each.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// What an operation takes beside its bytes, about.
const ENTRY_OVERHEAD_BYTES: usize = 64;
/// Most places noted at which own operations become durable; beyond that the last one stands for
/// all that follow.
const MARKS_MAX: usize = 1024;

/// The stream of one life of a node.
pub struct MemoryStream {
    life: Origin,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is in.
    applied: VersionVector,
    /// Operations up to these are not kept here.
    forgotten: VersionVector,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Counts the operations that were ever kept and are no more: the place of the first one kept.
    first: u64,
    /// Own operations that are durable: all that they rest on is.
    durable: u64,
    /// Own operations up to each number are durable once the log is up to its position.
    marks: VecDeque<(u64, Position)>,
}

struct Kept {
    dot: Dot,
    bytes: Box<[u8]>,
}

impl MemoryStream {
    pub(crate) fn new(life: Origin) -> Self {
        MemoryStream {
            life,
            state: Mutex::default(),
        }
    }

    /// The origin of what this life of the node puts in.
    pub fn life(&self) -> Origin {
        self.life
    }

    /// How many operations this life of the node has made.
    pub(crate) fn made(&self) -> u64 {
        self.lock().applied.get(self.life)
    }

    /// What is in.
    pub fn applied(&self) -> VersionVector {
        self.lock().applied.clone()
    }

    /// What may be shown once the log is durable up to `synced`.
    pub(crate) fn durable(&self, synced: Position) -> VersionVector {
        let mut state = self.lock();
        state.settle(synced);
        let mut durable = state.applied.clone();
        durable.limit(self.life, state.durable);
        durable
    }

    /// Adds an operation of this node, whose bits are set. `appended` is the end of the log.
    pub(crate) fn append(&self, operation: &[u8], appended: Position) {
        let mut state = self.lock();
        let dot = state.number(self.life, appended);
        state.keep(dot, operation);
    }

    /// Notes that bits were set which no operation shows: nobody follows, or they came from a
    /// file. Whoever comes compares bits.
    pub(crate) fn skip(&self, appended: Position) {
        let mut state = self.lock();
        let dot = state.number(self.life, appended);
        state.forgotten.advance(dot.origin, dot.sequence);
    }

    /// Adds an operation of another node, the next one of its origin, whose bits are set.
    pub(crate) fn append_foreign(&self, dot: Dot, operation: &[u8]) {
        let mut state = self.lock();
        state.applied.advance(dot.origin, dot.sequence);
        state.keep(dot, operation);
    }

    /// Everything up to `version` is in, by comparison of bits.
    pub(crate) fn adopt(&self, version: &VersionVector) {
        let mut state = self.lock();
        for (origin, count) in version.iter().filter(|(origin, _)| *origin != self.life) {
            if state.applied.advance(origin, count) {
                state.forgotten.advance(origin, count);
            }
        }
    }

    /// Reads operations that may be shown, in the order in which they came: those of the origins
    /// in `wanted` from the number given there on, from `cursor` on. Stops at about `bytes_max`
    /// bytes.
    pub(crate) fn read(
        &self,
        wanted: &BTreeMap<Origin, u64>,
        cursor: Option<Cursor>,
        bytes_max: usize,
        synced: Position,
    ) -> Read {
        let mut state = self.lock();
        state.settle(synced);
        let lost = |(origin, first): (&Origin, &u64)| state.forgotten.get(*origin) >= *first;
        if wanted.iter().any(lost) {
            return Read::Gone;
        }
        let mut next = wanted.clone();
        let (mut runs, mut bytes, mut end) = (Vec::<Run>::new(), 0, true);
        let mut place = cursor.map_or(state.first, |Cursor(place, _)| place.max(state.first));
        let skipped = usize::try_from(place - state.first).unwrap_or(usize::MAX);
        for Kept {
            dot,
            bytes: operation,
        } in state.kept.iter().skip(skipped)
        {
            let hidden = dot.origin == self.life && dot.sequence > state.durable;
            if hidden || bytes >= bytes_max {
                end = hidden;
                break;
            }
            place += 1;
            let expected = next.get_mut(&dot.origin);
            let Some(expected) = expected.filter(|expected| **expected == dot.sequence) else {
                continue;
            };
            *expected += 1;
            bytes += operation.len();
            match runs.last_mut() {
                Some(run) if run.origin == dot.origin => run.operations.push(operation.to_vec()),
                _ => runs.push(Run {
                    origin: dot.origin,
                    first: dot.sequence,
                    operations: vec![operation.to_vec()],
                }),
            }
        }
        Read::Runs {
            runs,
            next: Cursor(place, 0),
            end,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The number of an own operation made now.
    fn number(&mut self, life: Origin, appended: Position) -> Dot {
        let sequence = self.applied.get(life) + 1;
        self.applied.advance(life, sequence);
        let full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some((last, position)) if full || *position == appended => {
                (*last, *position) = (sequence, appended);
            }
            _ => self.marks.push_back((sequence, appended)),
        }
        Dot {
            origin: life,
            sequence,
        }
    }

    fn settle(&mut self, synced: Position) {
        while let Some((sequence, position)) = self.marks.front().copied()
            && position <= synced
        {
            self.durable = sequence;
            self.marks.pop_front();
        }
    }

    fn keep(&mut self, dot: Dot, operation: &[u8]) {
        self.kept_bytes += operation.len() + ENTRY_OVERHEAD_BYTES;
        self.kept.push_back(Kept {
            dot,
            bytes: operation.into(),
        });
        while self.kept_bytes > KEPT_BYTES_MAX
            && let Some(oldest) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.bytes.len() + ENTRY_OVERHEAD_BYTES;
            self.forgotten
                .advance(oldest.dot.origin, oldest.dot.sequence);
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Origin = Origin::new([1; 16]);
    const OTHER: Origin = Origin::new([2; 16]);

    fn dot(origin: Origin, sequence: u64) -> Dot {
        Dot { origin, sequence }
    }

    fn operations(read: &Read) -> Vec<(Origin, u64, Vec<u8>)> {
        let Read::Runs { runs, .. } = read else {
            panic!("the operations are kept: {read:?}");
        };
        let of_run = |run: &Run| {
            let (origin, first) = (run.origin, run.first);
            let numbered = (first..).zip(run.operations.clone());
            numbered.map(move |(sequence, bytes)| (origin, sequence, bytes))
        };
        runs.iter().flat_map(of_run).collect()
    }

    #[test]
    fn what_rests_on_what_is_not_durable_is_not_shown() {
        let stream = MemoryStream::new(ME);
        stream.append(b"a", 10);
        stream.append(b"b", 20);
        stream.append_foreign(dot(OTHER, 1), b"x");
        let wanted = BTreeMap::from([(ME, 1), (OTHER, 1)]);
        let none = stream.read(&wanted, None, 100, 9);
        assert_eq!(operations(&none), []);
        assert_eq!(stream.durable(9).get(ME), 0);
        let first = stream.read(&wanted, None, 100, 19);
        assert_eq!(operations(&first), [(ME, 1, b"a".to_vec())]);
        let Read::Runs {
            next, end: true, ..
        } = first
        else {
            panic!("all that may be shown was read: {first:?}");
        };
        let wanted = BTreeMap::from([(ME, 2), (OTHER, 1)]);
        let rest = stream.read(&wanted, Some(next), 100, 20);
        let expected = [(ME, 2, b"b".to_vec()), (OTHER, 1, b"x".to_vec())];
        assert_eq!(operations(&rest), expected);
        assert_eq!(stream.durable(20).get(ME), 2);
    }

    #[test]
    fn what_was_not_kept_is_gone_for_whoever_lacks_it() {
        let stream = MemoryStream::new(ME);
        stream.append(b"a", 0);
        stream.skip(0);
        stream.append(b"c", 0);
        let all = usize::MAX;
        let from = |first| stream.read(&BTreeMap::from([(ME, first)]), None, all, 0);
        assert_eq!(from(1), Read::Gone);
        assert_eq!(operations(&from(3)), [(ME, 3, b"c".to_vec())]);
        let large = vec![0; KEPT_BYTES_MAX / 4];
        (0..4).for_each(|_| stream.append(&large, 0));
        assert_eq!(from(3), Read::Gone);
        assert_eq!(from(4), Read::Gone);
        assert_eq!(operations(&from(5)).len(), 3);
        assert_eq!(stream.applied().get(ME), 7);

        stream.adopt(&VersionVector::from_iter([(ME, 99), (OTHER, 5)]));
        assert_eq!(
            (stream.applied().get(ME), stream.applied().get(OTHER)),
            (7, 5)
        );
        let adopted = stream.read(&BTreeMap::from([(OTHER, 5)]), None, 100, 0);
        assert_eq!(adopted, Read::Gone);
    }

    #[test]
    fn a_read_stops_at_its_bound_and_goes_on() {
        let stream = MemoryStream::new(ME);
        (0..10).for_each(|_| stream.append(&[7; 10], 0));
        let (mut wanted, mut cursor, mut rounds) = (BTreeMap::from([(ME, 1)]), None, 0);
        loop {
            let read = stream.read(&wanted, cursor, 25, 0);
            rounds += 1;
            *wanted.get_mut(&ME).unwrap() += operations(&read).len() as u64;
            match read {
                Read::Runs { end: true, .. } => break,
                Read::Runs { next, .. } => cursor = Some(next),
                Read::Gone => panic!("nothing was forgotten"),
            }
        }
        assert_eq!((rounds, wanted[&ME]), (4, 11));
    }

    #[test]
    fn many_marks_become_one_that_comes_later() {
        let stream = MemoryStream::new(ME);
        let last = MARKS_MAX as u64 + 500;
        (1..=last).for_each(|position| stream.append(b"a", position));
        assert_eq!(
            stream.durable(MARKS_MAX as u64 - 1).get(ME),
            MARKS_MAX as u64 - 1
        );
        assert_eq!(stream.durable(last - 1).get(ME), MARKS_MAX as u64 - 1);
        assert_eq!(stream.durable(last).get(ME), last);
    }
}
