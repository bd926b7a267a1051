//! The journal: the operation log with what it stands for, the version vector of this copy.
//!
//! Every change of every collection passes through here. An operation of this node gets the next
//! number of its stream; one of another origin keeps its own. Both raise the version under the
//! log's append lock, so version and position always fit together.
//!
//! Only what is durable leaves the node: [`Journal::read`] stops where the last sync did. So a
//! number that a peer has seen is never used again after a power cut.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use grapevine_core::history::History;
use grapevine_core::limits::OPERATION_BODY_BYTES_MAX;
use grapevine_core::operation::{ENTRY_HEADER_BYTES, EntryHeader, Stream, encode_mark, fits};
use grapevine_core::origin::Origin;
use grapevine_core::version::{Dot, VersionVector};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::log::{Cursor, EntryBuffer, Log, LogCounts, LogError, LogState, Position};

mod histories;
mod reading;

/// Directory of the log in the data directory.
pub const LOG_DIR: &str = "log";

/// Log bytes after which the version is noted again, so that a reader finds its place.
const NOTE_EVERY_BYTES: u64 = 8 << 20;
/// Most notes kept; beyond that every second one goes.
const NOTES_MAX: usize = 512;
/// Most origins in all notes together: with many origins fewer notes are kept.
const NOTED_ORIGINS_MAX: usize = 1 << 20;

/// The node takes no writes: an earlier one failed, and what is on disk is not known.
#[derive(Clone, Debug, Error)]
#[error("the node is read-only: {0}")]
pub struct ReadOnly(pub Arc<str>);

impl From<LogError> for ReadOnly {
    fn from(error: LogError) -> Self {
        ReadOnly(error.to_string().into())
    }
}

/// The version of this copy at one position of the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// The position.
    pub position: Position,
    /// What was in before it.
    pub version: VersionVector,
}

/// What the journal knows besides the log's bytes: part of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bookmark {
    /// Where to replay from, and what was in there.
    pub at: Note,
    /// Number of this node's last operation for itself alone.
    pub local: u64,
    /// Earlier places, ascending, for readers of what the log still holds before.
    pub earlier: Vec<Note>,
    /// The marks in what was in, by origin.
    #[serde(default)]
    pub histories: BTreeMap<Origin, History>,
    /// From which number on what is here of an origin is not known to be anywhere else, where
    /// another node was found to have other operations under the numbers of some origin.
    #[serde(default)]
    pub forks: BTreeMap<Origin, u64>,
}

/// Consecutive operations of one origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Number of the first.
    pub first: u64,
    /// Their bytes.
    pub operations: Vec<Vec<u8>>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Operations in log order.
    Runs {
        /// Each with its origin.
        runs: Vec<(Origin, Run)>,
        /// Where to read on.
        next: Cursor,
        /// Nothing durable is left after it.
        end: bool,
    },
    /// The log no longer reaches back to one of those wanted.
    Gone,
}

struct Versions {
    applied: VersionVector,
    local: u64,
    notes: Vec<Note>,
    /// The mark of this run, until it is written; none once it is.
    mark: Option<u64>,
    histories: BTreeMap<Origin, History>,
    /// Histories read from the log whose version comes next in it.
    arriving: BTreeMap<Origin, History>,
    forks: BTreeMap<Origin, u64>,
}

/// The journal of one data directory.
pub struct Journal {
    log: Log,
    origin: Origin,
    /// Changed only under the log's append lock.
    versions: Mutex<Versions>,
    durable: Mutex<Note>,
    /// The first write outside the log that failed.
    failure: OnceLock<Arc<str>>,
    alarm: Arc<Alarm>,
    /// What is acknowledged was synced, not only handed to the operating system.
    promises_synced: AtomicBool,
    bell: Bell,
}

type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// Tells once that the node takes no more writes.
#[derive(Default)]
struct Alarm {
    tell: OnceLock<Tell>,
    told: AtomicBool,
}

impl Alarm {
    fn ring(&self, reason: &str) {
        if let Some(tell) = self.tell.get()
            && !self.told.swap(true, Ordering::AcqRel)
        {
            tell(reason);
        }
    }
}

/// Wakes one thread at the next append.
#[derive(Default)]
struct Bell {
    thread: OnceLock<Thread>,
    armed: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        // A ring that is missed because both look at the same moment is made up for by the
        // thread's own tick.
        if self.armed.load(Ordering::Relaxed)
            && self.armed.swap(false, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

impl Journal {
    /// A journal over an opened log, as of the bookmark. Whoever replays the log from there tells
    /// it what it finds with [`Journal::replayed`]. The random `mark` tells this run's operations
    /// from those of any other run, of this directory or of a copy of it; 0: they are not marked.
    pub fn new(log: Log, origin: Origin, bookmark: Bookmark, mark: u64) -> Self {
        let Bookmark {
            at,
            local,
            earlier,
            histories,
            forks,
        } = bookmark;
        let mut notes = earlier;
        notes.retain(|note| note.position < at.position);
        notes.push(at.clone());
        let alarm = Arc::new(Alarm::default());
        let of_log = Arc::clone(&alarm);
        log.set_alarm(Box::new(move |failure| of_log.ring(&failure.to_string())));
        Journal {
            log,
            origin,
            alarm,
            promises_synced: AtomicBool::new(false),
            durable: Mutex::new(at.clone()),
            versions: Mutex::new(Versions {
                applied: at.version,
                local,
                notes,
                mark: (mark != 0).then_some(mark),
                histories,
                arriving: BTreeMap::new(),
                forks,
            }),
            failure: OnceLock::new(),
            bell: Bell::default(),
        }
    }

    /// Whose operations this node makes.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What is in.
    pub fn applied(&self) -> VersionVector {
        lock(&self.versions).applied.clone()
    }

    /// Whether that operation is in.
    pub fn covers(&self, dot: Dot) -> bool {
        lock(&self.versions).applied.covers(dot)
    }

    /// What would still be in after a power cut, at least.
    pub fn durable(&self) -> VersionVector {
        lock(&self.durable).version.clone()
    }

    /// Appends an operation of this node, which `write` encodes given its dot. Gives the position
    /// that covers it.
    pub fn append(
        &self,
        stream: Stream,
        write: impl FnOnce(Dot, &mut EntryBuffer<'_>),
    ) -> Result<(Position, Dot), ReadOnly> {
        if stream == Stream::Group {
            self.ensure_group_writable()?;
        }
        let mut appender = self.log.begin()?;
        let mut versions = lock(&self.versions);
        let last = match stream {
            Stream::Local => versions.local,
            Stream::Group => versions.applied.get(self.origin),
        };
        let mut dot = Dot {
            origin: self.origin,
            sequence: last + 1,
        };
        let mark = versions.mark.filter(|_| stream == Stream::Group);
        if let Some(mark) = mark {
            let mut entry = EntryHeader { stream, dot }.encode().to_vec();
            encode_mark(&mut entry, mark);
            appender.entry(&entry)?;
            dot.sequence += 1;
        }
        let header = EntryHeader { stream, dot }.encode();
        let mut readable = Ok(());
        appender.entry_with(|buffer| {
            buffer.extend_from_slice(&header);
            write(dot, buffer);
            readable = ensure_readable(buffer.written());
        })?;
        // Given up unfinished, the appender takes the entry back.
        readable?;
        let position = appender.finish();
        if let Some(mark) = mark {
            versions.mark = None;
            versions.history(self.origin).mark(dot.sequence - 1, mark);
        }
        versions.advance(stream, dot);
        versions.note(position);
        drop(versions);
        self.bell.ring();
        Ok((position, dot))
    }

    /// Appends an operation of another origin, the next one of it.
    pub fn append_foreign(&self, dot: Dot, operation: &[u8]) -> Result<Position, ReadOnly> {
        self.append_foreign_mark(dot, operation, None)
    }

    /// Appends an operation of another origin, the next one of it, which may be a mark.
    pub(crate) fn append_foreign_mark(
        &self,
        dot: Dot,
        operation: &[u8],
        mark: Option<u64>,
    ) -> Result<Position, ReadOnly> {
        let stream = Stream::Group;
        let header = EntryHeader { stream, dot }.encode();
        let mut appender = self.log.begin()?;
        let mut versions = lock(&self.versions);
        appender.entry_with(|buffer| {
            buffer.extend_from_slice(&header);
            buffer.extend_from_slice(operation);
        })?;
        let position = appender.finish();
        if let Some(mark) = mark {
            versions.history(dot.origin).mark(dot.sequence, mark);
        }
        versions.advance(stream, dot);
        versions.note(position);
        drop(versions);
        self.bell.ring();
        Ok(position)
    }

    /// Notes an entry that was read from the log while it was being replayed; `position` is where
    /// it ends.
    pub fn replayed(&self, header: &EntryHeader, position: Position) {
        let mut versions = lock(&self.versions);
        versions.advance(header.stream, header.dot);
        versions.note(position);
    }

    /// Notes a version that was adopted, read from the log while it was being replayed.
    pub fn replayed_version(&self, version: &VersionVector) {
        lock(&self.versions).adopt(version, self.origin);
    }

    /// What a snapshot of now must say: everything before its position is in its version.
    pub fn bookmark(&self) -> Result<Bookmark, ReadOnly> {
        let appender = self.log.begin()?;
        let position = self.log.appended();
        let mut versions = lock(&self.versions);
        versions.notes.retain(|note| note.position < position);
        versions.make_room_for_note();
        let at = Note {
            position,
            version: versions.applied.clone(),
        };
        let earlier = versions.notes.clone();
        versions.notes.push(at.clone());
        let bookmark = Bookmark {
            at,
            local: versions.local,
            earlier,
            histories: versions.histories.clone(),
            forks: versions.forks.clone(),
        };
        drop(appender);
        Ok(bookmark)
    }

    /// The thread that [`Journal::arm_bell`] is for. Only the first one counts.
    pub fn set_bell(&self, thread: Thread) {
        // Later ones would take the bell from the first.
        drop(self.bell.thread.set(thread));
    }

    /// Unparks the bell's thread at the next append, once. To be called before that thread looks
    /// at [`Journal::appended`] for the last time.
    pub fn arm_bell(&self) {
        self.bell.armed.store(true, Ordering::SeqCst);
    }

    /// Lets the bell's thread know of something that is not in the log.
    pub(crate) fn ring_bell(&self) {
        self.bell.ring();
    }

    /// Position after the last operation.
    pub fn appended(&self) -> Position {
        self.log.appended()
    }

    /// Everything before this position was handed to the operating system.
    pub fn committed(&self) -> Position {
        self.log.committed()
    }

    /// Everything before this position is durable.
    pub fn synced(&self) -> Position {
        self.log.synced()
    }

    /// Hands everything up to `position` to the operating system.
    pub fn commit(&self, position: Position) -> Result<(), ReadOnly> {
        if self.log.committed() < position {
            Ok(self.log.commit(position)?)
        } else {
            Ok(())
        }
    }

    /// Makes everything appended so far durable; gives the position up to which it is.
    pub fn sync(&self) -> Result<Position, ReadOnly> {
        let now = {
            let appender = self.log.begin()?;
            let position = self.log.appended();
            let version = self.applied();
            drop(appender);
            Note { position, version }
        };
        let synced = self.log.sync()?;
        let mut durable = lock(&self.durable);
        if durable.position < now.position {
            *durable = now;
        }
        Ok(synced)
    }

    /// Notes on disk that all of the log is durable, so that later damage to its end is told
    /// apart from a write that was cut off. To be called when the node has nothing to do.
    pub fn mark_synced(&self) -> Result<(), ReadOnly> {
        self.log.mark_synced()?;
        Ok(())
    }

    /// What the log did.
    pub fn log_counts(&self) -> LogCounts {
        self.log.counts()
    }

    /// The log, to look at and to cut.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Why the node takes no writes, if it does not.
    pub fn read_only(&self) -> Option<Arc<str>> {
        if let Some(reason) = self.failure.get() {
            return Some(Arc::clone(reason));
        }
        match self.log.state() {
            LogState::Open => None,
            LogState::Failed(failure) => Some(failure.to_string().into()),
        }
    }

    /// Called once, with the reason, when the node begins to take no more writes; at once if it
    /// takes none already. Whoever made the write that failed calls it: it must not block, and not
    /// call back. Only the first one counts.
    pub fn set_alarm(&self, tell: impl Fn(&str) + Send + Sync + 'static) {
        // Later ones would take the alarm from the first.
        drop(self.alarm.tell.set(Box::new(tell)));
        if let Some(reason) = self.read_only() {
            self.alarm.ring(&reason);
        }
    }

    /// What is acknowledged was synced from now on; before, it was handed to the operating system.
    pub fn promise_synced(&self) {
        self.promises_synced.store(true, Ordering::Release);
    }

    /// Everything before this position is as durable as what is acknowledged.
    pub fn settled(&self) -> Position {
        if self.promises_synced.load(Ordering::Acquire) {
            self.log.synced()
        } else {
            self.log.committed()
        }
    }

    /// The same after the log has failed: it will not move any more.
    pub(crate) fn settled_at_last(&self) -> Position {
        self.log.wait_for_writers();
        self.settled()
    }

    /// Whether the log itself has failed, so that nothing that is appended will be written.
    pub(crate) fn log_failed(&self) -> bool {
        self.log.state() != LogState::Open
    }

    /// Asked before anything is changed in memory.
    pub fn ensure_writable(&self) -> Result<(), ReadOnly> {
        self.read_only()
            .map_or(Ok(()), |reason| Err(ReadOnly(reason)))
    }

    /// Others must not get to know of operations that this node should not make, whatever makes
    /// them.
    fn ensure_group_writable(&self) -> Result<(), ReadOnly> {
        let failure = self.failure.get();
        failure.map_or(Ok(()), |reason| Err(ReadOnly(Arc::clone(reason))))
    }

    /// From now on nothing more is written, for this reason or an earlier one.
    pub fn fail(&self, reason: impl FnOnce() -> String) -> ReadOnly {
        let reason = self.failure.get_or_init(|| reason().into());
        self.alarm.ring(reason);
        ReadOnly(Arc::clone(reason))
    }
}

/// Refuses an entry that a start could not read.
fn ensure_readable(entry: &[u8]) -> Result<(), LogError> {
    let operation = &entry[ENTRY_HEADER_BYTES.min(entry.len())..];
    if fits(operation) {
        return Ok(());
    }
    Err(LogError::EntryTooLong {
        length: operation.len(),
        limit: OPERATION_BODY_BYTES_MAX,
    })
}

impl Versions {
    fn advance(&mut self, stream: Stream, dot: Dot) {
        match stream {
            Stream::Local => self.local = self.local.max(dot.sequence),
            Stream::Group => {
                self.applied.advance(dot.origin, dot.sequence);
            }
        }
    }

    /// A copy never knows more of this node's own operations than the node itself.
    fn adopt(&mut self, version: &VersionVector, me: Origin) {
        self.histories.append(&mut self.arriving);
        for (origin, count) in version.iter().filter(|(origin, _)| *origin != me) {
            self.applied.advance(origin, count);
        }
    }

    /// Drops every second note until there is room for one more.
    fn make_room_for_note(&mut self) {
        let room = NOTED_ORIGINS_MAX.saturating_sub(self.applied.len());
        let noted = |notes: &[Note]| notes.iter().map(|note| note.version.len()).sum::<usize>();
        while self.notes.len() >= NOTES_MAX || (self.notes.len() > 1 && noted(&self.notes) > room) {
            let mut keep = false;
            self.notes.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    fn note(&mut self, position: Position) {
        let last = self.notes.last().map_or(0, |note| note.position);
        if position < last + NOTE_EVERY_BYTES {
            return;
        }
        self.make_room_for_note();
        self.notes.push(Note {
            position,
            version: self.applied.clone(),
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
