//! A request for many keys that is longer than a buffer. It is executed as it arrives: of the line
//! only an unfinished key is kept, and one bit for each answer until the line has ended.

use std::sync::Arc;

use grapevine_core::wire::bloomd::reply::{self, Status};
use grapevine_core::wire::bloomd::{Beginning, Keys, Lines};
use grapevine_store::filters::Handle;
use grapevine_store::log::Position;

use super::connection::FREE_BYTES;
use super::execute::{BATCH_KEYS_MAX, Executed, Executor, is_new, status_of};
use super::job::Job;
use crate::replies::{Replies, Room};

/// Unfinished lines of at most this many bytes wait for their end.
pub(super) const LONG_BYTES: usize = 32 << 10;
/// Why a long request is refused.
pub(super) const NO_ROOM: &str =
    "long requests fill the memory for them (limits.memory); the client may send it again";

/// A `multi` or `bulk` that is executed before its line has ended.
#[derive(Debug)]
pub(super) struct LongLine {
    adds: bool,
    /// The filter that had the name when the line began.
    filter: Option<Arc<Handle>>,
    /// Bytes of the line that were executed.
    length: usize,
    answers: Bits,
    /// What the answers take of the memory for requests.
    room: Option<Room>,
    /// A key has no yes or no: a filter of fixed size is full.
    full: bool,
    /// The answer to the whole line, once no key of it is looked at any more.
    refusal: Option<Status>,
    /// The line has ended.
    ended: bool,
    /// Answers given.
    given: usize,
}

impl LongLine {
    fn new(beginning: Beginning<'_>, filter: Option<Arc<Handle>>) -> Self {
        let refusal = filter.is_none().then_some(Status::FilterDoesNotExist);
        LongLine {
            adds: beginning.adds,
            filter,
            length: beginning.length,
            answers: Bits::default(),
            room: None,
            full: false,
            refusal,
            ended: false,
            given: 0,
        }
    }

    /// The line is answered with this, whatever follows of it.
    pub(super) fn refuse(&mut self, status: Status) {
        self.refusal.get_or_insert(status);
        self.answers = Bits::default();
        self.room = None;
    }

    /// Whether it holds memory of all while it waits for its end.
    pub(super) fn holds_room(&self) -> bool {
        self.room.is_some() && !self.ended
    }

    fn answer(&mut self, answer: Option<bool>) {
        self.answers.push(answer == Some(true));
        self.full |= answer.is_none();
    }

    /// Whether the answers so far may be kept.
    fn fits(&mut self, memory: &Replies) -> bool {
        let bytes = self.answers.bytes();
        bytes <= FREE_BYTES || memory.hold(&mut self.room, bytes)
    }

    /// Appends the reply to `out`, or as much of it as fits into `out_max` bytes of replies.
    /// Returns whether that was the rest of it.
    fn reply(&mut self, out: &mut Vec<u8>, out_max: usize) -> bool {
        let full = self.full.then_some(Status::InternalError);
        if let Some(status) = self.refusal.or(full) {
            reply::status(out, status);
            return true;
        }
        while out.len() < out_max {
            let Some(yes) = self.answers.get(self.given) else {
                out.push(b'\n');
                return true;
            };
            if self.given > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(if yes { b"Yes" } else { b"No" });
            self.given += 1;
        }
        false
    }
}

impl Executor<'_> {
    /// Leaves the unfinished line that `rest` is; if it is a long request for many keys, takes it
    /// up from the first of them.
    pub(super) fn leave(&mut self, rest: &[u8], done: &mut Executed) {
        // One byte of keys may be the end of a line without any.
        let beginning = (rest.len() > LONG_BYTES)
            .then(|| Beginning::of(rest))
            .flatten()
            .filter(|beginning| beginning.length + 1 < rest.len());
        let Some(beginning) = beginning else {
            done.scanned = Some(rest.len());
            return;
        };
        let filter = self.gateway.engine.filters().get(beginning.filter);
        self.long = Some(Box::new(LongLine::new(beginning, filter)));
        self.began = true;
        done.consumed += beginning.length;
    }

    /// Executes what `buffer` holds of the line; when that has ended, replies.
    pub(super) fn go_on(
        &mut self,
        mut long: Box<LongLine>,
        (buffer, scanned): (&[u8], usize),
        out: &mut Vec<u8>,
        out_max: usize,
    ) -> Executed {
        let mut done = Executed {
            replies: out.len(),
            ..Executed::default()
        };
        if long.ended {
            // A run of its own: nothing in it waits for the log, so what was given stays given.
            if long.reply(out, out_max) {
                done.answered = 1;
            } else {
                self.long = Some(long);
            }
            return done;
        }
        let length_max = self.gateway.limits.line - long.length;
        let mut lines = Lines::resume(buffer, length_max, scanned);
        let (keys, consumed, ended) = match lines.next() {
            Some(last) => (Keys::of(last), lines.consumed(), true),
            None if lines.is_too_long() => {
                self.too_long(&mut lines, &mut done, out);
                return done;
            }
            None => {
                let (keys, length) = Keys::ended_in(buffer);
                (keys, length, false)
            }
        };
        done.job = self.look_up(&mut long, keys, &mut done.position);
        if done.job.is_none() {
            long.length += consumed;
            long.ended = ended;
            done.consumed = consumed;
            done.scanned = (!ended).then_some(buffer.len() - consumed);
        }
        self.long = Some(long);
        done
    }

    /// Looks at the keys, unless a job is to be done first.
    fn look_up(
        &mut self,
        long: &mut LongLine,
        mut keys: Keys<'_>,
        position: &mut Position,
    ) -> Option<Job> {
        let handle = long.filter.clone().filter(|_| long.refusal.is_none())?;
        if !self.load_tried && handle.needs_load() {
            return Some(Job::Load(handle));
        }
        self.load_tried = false;
        let mut batch = Vec::new();
        loop {
            batch.clear();
            batch.extend(keys.by_ref().take(BATCH_KEYS_MAX));
            if batch.is_empty() {
                return None;
            }
            let filters = self.gateway.engine.filters();
            let outcome = if long.adds {
                filters.set(&handle, &batch, &mut self.scratch)
            } else {
                filters.check(&handle, &batch, &mut self.scratch)
            };
            match outcome {
                Ok(reached) => *position = (*position).max(reached),
                Err(error) => {
                    self.failed(&error);
                    long.refuse(status_of(&error));
                    return None;
                }
            }
            if long.adds {
                let outcomes = self.scratch.outcomes().iter();
                outcomes.for_each(|outcome| long.answer(is_new(*outcome)));
            } else {
                let found = self.scratch.found().iter();
                found.for_each(|found| long.answer(Some(*found)));
            }
            if !long.fits(&self.gateway.requests) {
                self.no_room();
                long.refuse(Status::InternalError);
                return None;
            }
        }
    }

    /// Answers the line that has begun with an error and passes over the rest of it.
    pub(super) fn refuse_unfinished(&mut self, out: &mut Vec<u8>) {
        self.no_room();
        self.long = None;
        self.began = true;
        self.passing_over = true;
        reply::status(out, Status::InternalError);
        self.gateway.metrics.commands.inc();
    }

    fn no_room(&self) {
        self.gateway.metrics.failures.inc();
        self.gateway.engine.complain("bloomd", &NO_ROOM);
    }
}

/// Answers, one bit each.
#[derive(Debug, Default)]
struct Bits {
    words: Vec<u64>,
    length: usize,
}

impl Bits {
    fn push(&mut self, yes: bool) {
        let bit = self.length % 64;
        if bit == 0 {
            self.words.push(0);
        }
        if let Some(last) = self.words.last_mut() {
            *last |= u64::from(yes) << bit;
        }
        self.length += 1;
    }

    fn get(&self, index: usize) -> Option<bool> {
        (index < self.length).then(|| self.words[index / 64] >> (index % 64) & 1 == 1)
    }

    fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(answers: &[bool]) -> LongLine {
        let beginning = Beginning::of(b"b f k").expect("a request for many keys");
        let mut line = LongLine::new(beginning, None);
        line.refusal = None;
        answers.iter().for_each(|yes| line.answer(Some(*yes)));
        line
    }

    #[test]
    fn a_reply_comes_in_pieces_of_the_room_there_is() {
        let answers: Vec<bool> = (0..200).map(|index| index % 3 == 0).collect();
        let mut whole = Vec::new();
        reply::yes_no_many(&mut whole, answers.iter().copied());
        let mut line = line(&answers);
        let (mut out, mut pieces) = (Vec::new(), 0);
        while !line.reply(&mut out, (pieces + 1) * 50) {
            pieces += 1;
            assert!(out.len() < pieces * 50 + 4, "{} bytes", out.len());
        }
        assert!(pieces > 5, "{pieces} pieces");
        assert_eq!(out, whole);
    }

    #[test]
    fn what_is_refused_has_one_answer_and_holds_nothing() {
        let memory = Replies::new(1 << 20);
        let mut line = line(&[true; 5000]);
        assert!(memory.hold(&mut line.room, 1 << 20) && line.holds_room());
        line.refuse(Status::InternalError);
        line.refuse(Status::FilterDoesNotExist);
        assert!(!line.holds_room() && memory.take(1 << 20).is_some());
        let mut out = Vec::new();
        assert!(line.reply(&mut out, usize::MAX));
        assert_eq!(out, b"Internal Error\n");
        let mut full = self::line(&[true]);
        full.answer(None);
        out.clear();
        assert!(full.reply(&mut out, usize::MAX));
        assert_eq!(out, b"Internal Error\n");
    }
}
