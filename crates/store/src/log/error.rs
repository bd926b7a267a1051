//! Errors of the log, one enum per boundary.

use std::fmt;
use std::io;

use thiserror::Error;

use super::Position;
use super::frame::FrameFault;
use super::segment::HeaderFault;

/// What the log was doing when the disk refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writing frames.
    Write,
    /// Syncing a segment.
    Sync,
    /// Beginning a segment.
    Begin,
    /// Listing the directory, or making it.
    Directory,
    /// Opening a segment.
    Open,
    /// Reading a segment.
    Read,
    /// Keeping the bytes of a torn tail, or cutting it.
    Cut,
    /// Removing a segment.
    Remove,
    /// Noting how far the log is durable.
    Reach,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Begin => "begin segment",
            Self::Directory => "directory",
            Self::Open => "open",
            Self::Read => "read",
            Self::Cut => "cut torn tail",
            Self::Remove => "remove segment",
            Self::Reach => "note of the durable end",
        })
    }
}

/// The one failure after which a log takes nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{step} of the log segment that starts at {segment} failed: {message}")]
pub struct Failure {
    /// What failed.
    pub step: Step,
    /// Start of the segment.
    pub segment: Position,
    /// Kind of the system's error.
    pub kind: io::ErrorKind,
    /// The system's words.
    pub message: String,
}

/// Why an append, commit or sync did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogError {
    /// An earlier write or sync failed. What was not synced before may be lost; the log is
    /// read-only until it is opened anew.
    #[error("the log is read-only: {cause}")]
    Failed {
        /// That failure.
        cause: Failure,
    },
    /// The entry fits no frame; nothing was appended.
    #[error("entry of {length} bytes, the limit is {limit}")]
    EntryTooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The batch is longer than what may wait; nothing was appended.
    #[error("batch over {limit} bytes")]
    BatchTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A position was asked for that nobody was given.
    #[error("position {position} was never appended, the log ends at {appended}")]
    NotAppended {
        /// What was asked for.
        position: Position,
        /// Where the log ends.
        appended: Position,
    },
    /// A segment could not be removed; the log goes on.
    #[error("cannot remove the log segment that starts at {segment}: {message}")]
    Remove {
        /// Start of the segment.
        segment: Position,
        /// The system's words.
        message: String,
    },
}

/// Why a log cannot be opened. Nothing was changed, but for [`OpenError::Io`] of [`Step::Cut`].
#[derive(Debug, Error)]
pub enum OpenError {
    /// Bytes that were durable are damaged.
    #[error("{file} is corrupt at offset {offset}: {what}")]
    Corrupt {
        /// Path of the segment.
        file: String,
        /// Offset in the file.
        offset: u64,
        /// What is wrong there.
        what: FrameFault,
    },
    /// A segment's header is damaged.
    #[error("{file} is corrupt: {what}")]
    CorruptHeader {
        /// Path of the segment.
        file: String,
        /// What is wrong with it.
        what: HeaderFault,
    },
    /// A segment is shorter or longer than the distance to the next one.
    #[error(
        "{file} ends at position {end}, the next segment starts at {next}: it is cut short or an \
         older copy, or {end:020}.log is missing beside it"
    )]
    Gap {
        /// Path of the segment.
        file: String,
        /// Where its bytes end.
        end: Position,
        /// Where the next segment starts.
        next: Position,
    },
    /// A segment was written by a later program.
    #[error("{file} has format version {found}, this program reads up to {newest}")]
    FutureVersion {
        /// Path of the segment.
        file: String,
        /// Its version.
        found: u32,
        /// The newest known.
        newest: u32,
    },
    /// A segment belongs to another data directory.
    #[error("{file} belongs to data directory {found:02x?}, the identity says {expected:02x?}")]
    WrongDirectory {
        /// Path of the segment.
        file: String,
        /// This directory's id.
        expected: [u8; 16],
        /// The segment's.
        found: [u8; 16],
    },
    /// The log does not reach back to where the caller must read on, or there is none.
    #[error("the log in {dir} does not hold position {replay_from}: {}", held_of(.held))]
    NotHeld {
        /// Directory of the log.
        dir: String,
        /// What was asked for.
        replay_from: Position,
        /// Start and end of what is there; `None` when there is no log.
        held: Option<(Position, Position)>,
    },
    /// The newest segment is not there.
    #[error("{file} is missing: the log was durable up to position {end}")]
    Missing {
        /// Path of the segment.
        file: String,
        /// Up to where the log is known to have come.
        end: Position,
    },
    /// The newest segment ends before where it was durable.
    #[error(
        "{file} ends at position {end}, and the log was durable up to {reached}: it is cut short, \
         or an older copy of itself"
    )]
    Short {
        /// Path of the segment.
        file: String,
        /// Where its frames end.
        end: Position,
        /// Up to where they are known to have come.
        reached: Position,
    },
    /// A log is to be made where one is.
    #[error("there is a log in {dir} already")]
    Exists {
        /// Directory of the log.
        dir: String,
    },
    /// More segments than one log may have.
    #[error("{count} segments in {dir}, the limit is {limit}")]
    TooManySegments {
        /// Directory of the log.
        dir: String,
        /// Segments there.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk refused.
    #[error("{step} {file}: {source}")]
    Io {
        /// What was being done.
        step: Step,
        /// With which file or directory.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
}

fn held_of(held: &Option<(Position, Position)>) -> String {
    match held {
        Some((from, to)) => format!(
            "it holds {from} to {to}, so segments of it are missing, or the manifest is an older copy"
        ),
        None => "it has no segments, they are missing".to_owned(),
    }
}

/// Why entries cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The log no longer reaches back so far.
    #[error("position {position} is no longer kept, the log starts at {start}")]
    Gone {
        /// What was asked for.
        position: Position,
        /// The oldest position kept.
        start: Position,
    },
    /// Nothing was committed there yet.
    #[error("position {position} is beyond the committed end {committed}")]
    Beyond {
        /// What was asked for.
        position: Position,
        /// The end.
        committed: Position,
    },
    /// A frame is damaged; entries before it were visited.
    #[error("{file} is corrupt at offset {offset}: {what}")]
    Corrupt {
        /// Path of the segment.
        file: String,
        /// Offset in the file.
        offset: u64,
        /// What is wrong there.
        what: FrameFault,
    },
    /// A segment's header is damaged; entries before it were visited.
    #[error("{file} is corrupt: {what}")]
    CorruptHeader {
        /// Path of the segment.
        file: String,
        /// What is wrong with it.
        what: HeaderFault,
    },
    /// The disk refused.
    #[error("{step} {file}: {source}")]
    Io {
        /// What was being done.
        step: Step,
        /// With which file.
        file: String,
        /// The system's answer.
        source: io::Error,
    },
}
