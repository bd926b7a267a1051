//! The operation log: a segmented, append-only log of checksummed batches with group commit.
//!
//! Entries are opaque bytes. [`Log::append`] puts them into the open batch in memory,
//! [`Log::commit`] hands the batch to the operating system (one caller writes for all that wait),
//! [`Log::sync`] makes it durable. Byte map, invariants and recovery rule: `docs/formats/log.md`.
//!
//! Locks, in the order they are taken: `writer`, `syncing`, then the short ones (`open`, `tail`,
//! `segments`). A sync in progress holds `syncing` alone, so appends and commits go on.

mod batch;
mod commit;
mod error;
pub mod frame;
mod held;
mod reached;
mod reader;
mod recovery;
pub mod segment;
mod verify;
mod window;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::disk::{Disk, DiskFile};
pub use batch::EntryBuffer;
use batch::{Batch, Mark};
pub use error::{Failure, LogError, OpenError, ReadError, Step};
pub(crate) use held::{HeldSegments, copy_file};
pub(crate) use reached::REACHED_FILE;
use reached::Reached;
pub use reached::ReachedFault;
pub use reader::{Cursor, Stop};
pub use recovery::{Cut, KEPT_CUTS, MAX_KEPT_CUT, MAX_SEGMENTS, OpenReport};
use segment::SegmentHeader;
pub use verify::{Checked, Fault, Finding, MAX_FINDINGS, Place, verify, verify_entries};

/// Byte offset in the whole log. Segment headers do not count, frame headers do.
pub type Position = u64;

/// Random id of a data directory: 16 bytes.
pub type DirectoryId = [u8; 16];

/// Default length in bytes at which a segment is complete.
pub const DEFAULT_SEGMENT_SIZE: u64 = 64 << 20;
/// Default bound in bytes on entries that wait to be written.
pub const DEFAULT_MAX_WAITING: usize = 64 << 20;
/// Smallest settable payload limit in bytes.
pub const MIN_PAYLOAD_LIMIT: usize = 64;

/// Settings of a log. Values out of range are brought into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Length in bytes at which a segment is complete and the next one begins. A frame that is
    /// longer than this gets a segment of its own.
    pub segment_size: u64,
    /// Largest payload of a frame in bytes, from [`MIN_PAYLOAD_LIMIT`] to [`frame::MAX_PAYLOAD`];
    /// an entry may be four bytes shorter.
    pub max_payload: usize,
    /// When this many bytes wait to be written, an appender writes them first. One batch may go
    /// over it by as much again.
    pub max_waiting: usize,
    /// Random secret for new segments; see [`segment::SegmentHeader::salt`].
    pub salt: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_size: DEFAULT_SEGMENT_SIZE,
            max_payload: frame::MAX_PAYLOAD,
            max_waiting: DEFAULT_MAX_WAITING,
            salt: 0,
        }
    }
}

impl LogConfig {
    fn in_range(mut self) -> Self {
        self.max_payload = self
            .max_payload
            .clamp(MIN_PAYLOAD_LIMIT, frame::MAX_PAYLOAD);
        self.max_waiting = self.max_waiting.max(self.max_payload);
        self
    }
}

/// Whether the log takes entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogState {
    /// It does.
    Open,
    /// A write or sync failed; the log is read-only until it is opened anew.
    Failed(Failure),
}

/// What the log did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Bytes of frames written.
    pub bytes: u64,
    /// Frames written.
    pub frames: u64,
    /// Writes that published a new committed position.
    pub commits: u64,
    /// Syncs of segments.
    pub syncs: u64,
    /// Segments begun.
    pub segments: u64,
}

#[derive(Default)]
struct Counters {
    bytes: AtomicU64,
    frames: AtomicU64,
    commits: AtomicU64,
    syncs: AtomicU64,
    segments: AtomicU64,
}

/// What the one who writes owns.
struct Writer {
    /// Swapped with the open batch, so that no memory is taken in the steady state.
    spare: Batch,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    /// Position after the last frame written.
    end: Position,
    /// End of the last frame with entries.
    data_end: Position,
    /// The highest synced position that a frame on disk carries, or the start of the segment:
    /// what came before it was synced before it was made.
    carried: Position,
}

/// The operation log. All methods take `&self` and may be called from several threads.
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: String,
    id: DirectoryId,
    config: LogConfig,
    open: Mutex<Batch>,
    writer: Mutex<Writer>,
    syncing: Mutex<()>,
    removing: Mutex<()>,
    /// What the file beside the segments says; taken last.
    reached: Mutex<Reached>,
    tail: Mutex<Arc<dyn DiskFile>>,
    /// Starts of all segments, ascending; never empty.
    segments: Mutex<Vec<Position>>,
    appended: AtomicU64,
    committed: AtomicU64,
    synced: AtomicU64,
    failure: OnceLock<Failure>,
    /// Told of the failure at the moment it happens.
    alarm: OnceLock<Alarm>,
    counters: Counters,
}

/// What is called at the first failure.
pub(crate) type Alarm = Box<dyn Fn(&Failure) + Send + Sync>;

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("appended", &self.appended())
            .field("committed", &self.committed())
            .field("synced", &self.synced())
            .field("failure", &self.failure.get())
            .finish_non_exhaustive()
    }
}

/// A panic while a lock is held aborts the shipped program; a test that panics elsewhere should
/// not hide its message behind a second one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Opens the log in `dir`, which must hold one.
    ///
    /// A torn tail is cut, and reported; what was durable and is damaged is an error and left as
    /// it is. `replay_from` is the position from which the caller must be able to read on, thus
    /// what its newest snapshot covers: a log that begins after it or ends before it is an error, and
    /// so is one that ends before where it is known to have been durable.
    /// When this returns, all that the log holds is durable.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &str,
        id: DirectoryId,
        config: LogConfig,
        replay_from: Position,
    ) -> Result<(Self, OpenReport), OpenError> {
        recovery::open(disk, dir, id, config.in_range(), replay_from)
    }

    /// Makes an empty log whose first position is `start`, in a directory that holds none.
    pub fn create(
        disk: Arc<dyn Disk>,
        dir: &str,
        id: DirectoryId,
        config: LogConfig,
        start: Position,
    ) -> Result<Self, OpenError> {
        recovery::create(disk, dir, id, config.in_range(), start)
    }

    /// Adds one entry to the open batch. Returns the position that [`commit`](Self::commit) must
    /// reach to cover it.
    pub fn append(&self, entry: &[u8]) -> Result<Position, LogError> {
        self.append_with(|buffer| buffer.extend_from_slice(entry))
    }

    /// Like [`append`](Self::append), for an entry that is encoded straight into the log's buffer.
    /// `write` runs under the append lock: it should only copy.
    pub fn append_with(
        &self,
        write: impl FnOnce(&mut EntryBuffer<'_>),
    ) -> Result<Position, LogError> {
        let mut appender = self.begin()?;
        appender.entry_with(write)?;
        Ok(appender.finish())
    }

    /// Adds entries next to each other in the log. All or none of them are appended; a crash may
    /// still keep only the first few.
    pub fn append_all<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Position, LogError> {
        let mut appender = self.begin()?;
        for entry in entries {
            appender.entry(entry)?;
        }
        Ok(appender.finish())
    }

    /// Takes the append lock for several entries; they count once
    /// [`finish`](Appender::finish)ed. When [`LogConfig::max_waiting`] bytes wait, writes them
    /// first.
    pub fn begin(&self) -> Result<Appender<'_>, LogError> {
        loop {
            self.check_working()?;
            let batch = lock(&self.open);
            if batch.bytes.len() < self.config.max_waiting {
                let mark = batch.mark();
                return Ok(Appender {
                    log: self,
                    batch,
                    mark,
                    finished: false,
                });
            }
            let end = batch.end();
            drop(batch);
            self.commit(end)?;
        }
    }

    /// Position after the last entry appended.
    #[must_use]
    pub fn appended(&self) -> Position {
        self.appended.load(Ordering::Acquire)
    }

    /// Everything before this position was handed to the operating system: it survives the death
    /// of the process.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.committed.load(Ordering::Acquire)
    }

    /// Everything before this position is durable: it survives a power cut.
    #[must_use]
    pub fn synced(&self) -> Position {
        self.synced.load(Ordering::Acquire)
    }

    /// The oldest position kept.
    #[must_use]
    pub fn start(&self) -> Position {
        lock(&self.segments).first().copied().unwrap_or_default()
    }

    /// Whether the log takes entries.
    #[must_use]
    pub fn state(&self) -> LogState {
        self.failure
            .get()
            .map_or(LogState::Open, |failure| LogState::Failed(failure.clone()))
    }

    /// Called once, when a write or sync fails, by whoever made it: it must not block, and not call
    /// back. Only the first one counts; of a failure before this call it is not told.
    pub(crate) fn set_alarm(&self, alarm: Alarm) {
        // Later ones would take the alarm from the first.
        drop(self.alarm.set(alarm));
    }

    /// What the log did since it was opened.
    #[must_use]
    pub fn counts(&self) -> LogCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogCounts {
            bytes: read(&self.counters.bytes),
            frames: read(&self.counters.frames),
            commits: read(&self.counters.commits),
            syncs: read(&self.counters.syncs),
            segments: read(&self.counters.segments),
        }
    }

    fn check_working(&self) -> Result<(), LogError> {
        match self.failure.get() {
            None => Ok(()),
            Some(failure) => Err(LogError::Failed {
                cause: failure.clone(),
            }),
        }
    }
}

/// Several entries being appended under one hold of the append lock. Dropped without
/// [`finish`](Self::finish), or after an error, it leaves nothing.
#[derive(Debug)]
pub struct Appender<'a> {
    log: &'a Log,
    batch: MutexGuard<'a, Batch>,
    mark: Mark,
    finished: bool,
}

impl Appender<'_> {
    /// Adds an entry.
    pub fn entry(&mut self, entry: &[u8]) -> Result<(), LogError> {
        self.entry_with(|buffer| buffer.extend_from_slice(entry))
    }

    /// Adds an entry that `write` encodes into the log's buffer.
    pub fn entry_with(&mut self, write: impl FnOnce(&mut EntryBuffer<'_>)) -> Result<(), LogError> {
        let config = &self.log.config;
        let limit = config.max_waiting.saturating_mul(2);
        if self.batch.bytes.len() >= limit {
            self.batch.restore(self.mark);
            return Err(LogError::BatchTooLong { limit });
        }
        let before = self.batch.mark();
        self.batch
            .entry(config.max_payload, write)
            .map_err(|length| {
                self.batch.restore(before);
                let limit = config.max_payload - frame::ENTRY_PREFIX_LEN;
                LogError::EntryTooLong { length, limit }
            })
    }

    /// Appends the entries. Returns the position that covers them.
    #[must_use = "replies must wait for this position"]
    pub fn finish(mut self) -> Position {
        self.finished = true;
        let end = self.batch.end();
        self.log.appended.store(end, Ordering::Release);
        end
    }
}

impl Drop for Appender<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.batch.restore(self.mark);
        }
    }
}

#[cfg(test)]
mod tests;
