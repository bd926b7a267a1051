//! Opening a log: what is whole is kept, what is torn is cut, what is damaged is named.
//!
//! A segment exists only when all before it are durable, so only the last one can have a torn
//! tail. In it, the first frame that is not valid, at X, is torn unless a later valid frame
//! carries a synced position beyond X, or the file `reached` says that the log came further: then
//! X was durable once, and is damaged now.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use super::batch::Batch;
use super::error::{LogError, OpenError, Step};
use super::frame::FrameFault;
use super::reached::{self, Reached, ReachedFault};
use super::segment::{self, HeaderFault, SegmentHeader};
use super::window::{Frames, end_position};
use super::{Counters, DirectoryId, Log, LogConfig, Position, Writer};
use crate::disk::{Disk, DiskFile, OpenMode, is_full, parent};

/// Most segments that a log may have.
pub const MAX_SEGMENTS: usize = 1 << 20;
/// Most bytes of a torn tail that are kept beside the log.
pub const MAX_KEPT_CUT: u64 = 64 << 20;
/// Torn tails kept; older ones are removed.
pub const KEPT_CUTS: usize = 4;

const CUT_PREFIX: &str = "cut-";
const COPY_LEN: u64 = 1 << 20;

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// A torn tail was cut.
    pub cut: Option<Cut>,
    /// Why the file that says how far the log had come said nothing, if it is there; it was
    /// written anew.
    pub unread: Option<ReachedFault>,
    /// Segments there.
    pub segments: usize,
}

/// A torn tail that was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Path of the segment.
    pub file: String,
    /// Offset in the file at which it was cut.
    pub offset: u64,
    /// Position in the log of that offset.
    pub position: Position,
    /// Bytes that were there.
    pub bytes: u64,
    /// What was wrong with the first frame that was cut.
    pub what: FrameFault,
    /// Path of the copy of those bytes, of the first [`MAX_KEPT_CUT`] of them.
    pub kept: String,
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    dir: &'a str,
    id: DirectoryId,
}

/// What the walk over the last segment found.
struct Walk {
    end: Position,
    data_end: Position,
    carried: Position,
    fault: Option<FrameFault>,
    /// What the file beside the segments says.
    reached: Reached,
}

pub(super) fn create(
    disk: Arc<dyn Disk>,
    dir: &str,
    id: DirectoryId,
    config: LogConfig,
    start: Position,
) -> Result<Log, OpenError> {
    let recovery = Recovery {
        disk: &*disk,
        dir,
        id,
    };
    recovery.make_directory()?;
    if !recovery.segments()?.is_empty() {
        return Err(OpenError::Exists {
            dir: dir.to_owned(),
        });
    }
    let header = SegmentHeader {
        start,
        id,
        salt: config.salt,
    };
    let file = segment::create(&*disk, dir, &header)
        .map_err(|source| recovery.io(Step::Begin, start, source))?;
    let reached = Reached {
        segment: start,
        end: start,
    };
    reached::write(&*disk, dir, id, reached).map_err(|source| recovery.reached_io(source))?;
    let walk = Walk {
        end: start,
        data_end: start,
        carried: start,
        fault: None,
        reached,
    };
    Ok(assemble(
        disk,
        dir,
        config,
        vec![start],
        file,
        header,
        &walk,
    ))
}

pub(super) fn open(
    disk: Arc<dyn Disk>,
    dir: &str,
    id: DirectoryId,
    config: LogConfig,
    replay_from: Position,
) -> Result<(Log, OpenReport), OpenError> {
    let recovery = Recovery {
        disk: &*disk,
        dir,
        id,
    };
    recovery.make_directory()?;
    let segments = recovery.segments()?;
    let (reached, unread) = recovery.reached()?;
    let Some(last) = segments.last().copied() else {
        return Err(OpenError::NotHeld {
            dir: dir.to_owned(),
            replay_from,
            held: None,
        });
    };
    for pair in segments.windows(2) {
        recovery.check_complete(pair[0], pair[1])?;
    }
    let mut report = OpenReport {
        segments: segments.len(),
        unread,
        cut: None,
    };
    let mut no_room = None;
    if last < reached.segment {
        return Err(OpenError::Missing {
            file: segment::path(dir, reached.segment),
            end: reached.end,
        });
    }
    if unread.is_some() {
        let anew = Reached {
            segment: last,
            end: last,
        };
        if let Err(source) = reached::write(&*disk, dir, id, anew) {
            no_room = Some(unless_full(recovery.reached_io(source))?);
        }
    }
    let (file, header) = recovery.open_last(last)?;
    let walk = recovery.walk(&file, header, reached)?;
    recovery.check_held(replay_from, segments[0], header, &walk)?;
    if let Some(what) = walk.fault {
        match recovery.cut(&*file, header, walk.end, what) {
            Ok(cut) => report.cut = Some(cut),
            Err(error) => no_room = Some(unless_full(error)?),
        }
    }
    let log = assemble(
        Arc::clone(&disk),
        dir,
        config,
        segments,
        file,
        header,
        &walk,
    );
    if let Some((step, error)) = no_room {
        // What is held can be read; it is opened as a log that has failed.
        drop(log.fail(step, last, &error));
        return Ok((log, report));
    }
    // The tail is durable: let a frame say so before anything is built on it. Where there is no
    // room for one, the log has failed, and can be read.
    match log.mark_synced() {
        Err(LogError::Failed { cause }) if is_full(&cause.kind.into()) => {}
        marked => {
            let failed = |error| recovery.io(Step::Write, last, io::Error::other(error));
            marked.map_err(failed)?;
        }
    }
    Ok((log, report))
}

/// What was being done when there was no room for it; any other error stays one.
fn unless_full(error: OpenError) -> Result<(Step, io::Error), OpenError> {
    match error {
        OpenError::Io { step, source, .. } if is_full(&source) => Ok((step, source)),
        error => Err(error),
    }
}

fn assemble(
    disk: Arc<dyn Disk>,
    dir: &str,
    config: LogConfig,
    segments: Vec<Position>,
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    walk: &Walk,
) -> Log {
    let Walk {
        end,
        data_end,
        carried,
        reached,
        ..
    } = *walk;
    let spare = Batch::default();
    let writer = Writer {
        spare,
        file: Arc::clone(&file),
        header,
        end,
        data_end,
        carried,
    };
    Log {
        disk,
        dir: dir.to_owned(),
        id: header.id,
        config,
        open: Mutex::new(Batch {
            base: end,
            ..Batch::default()
        }),
        writer: Mutex::new(writer),
        syncing: Mutex::new(()),
        removing: Mutex::new(()),
        reached: Mutex::new(reached),
        tail: Mutex::new(file),
        segments: Mutex::new(segments),
        appended: AtomicU64::new(end),
        committed: AtomicU64::new(end),
        synced: AtomicU64::new(end),
        failure: OnceLock::new(),
        alarm: OnceLock::new(),
        counters: Counters::default(),
    }
}

impl Recovery<'_> {
    fn io(&self, step: Step, start: Position, source: io::Error) -> OpenError {
        OpenError::Io {
            step,
            file: segment::path(self.dir, start),
            source,
        }
    }

    fn directory_io(&self, source: io::Error) -> OpenError {
        OpenError::Io {
            step: Step::Directory,
            file: self.dir.to_owned(),
            source,
        }
    }

    fn reached_io(&self, source: io::Error) -> OpenError {
        OpenError::Io {
            step: Step::Reach,
            file: reached::path(self.dir),
            source,
        }
    }

    /// How far the log has come, as the file beside it says, and why that says nothing.
    fn reached(&self) -> Result<(Reached, Option<ReachedFault>), OpenError> {
        match reached::read(self.disk, self.dir) {
            Ok(Ok(Some((of, reached)))) if of == self.id => Ok((reached, None)),
            Ok(Ok(Some(_))) => Ok((Reached::default(), Some(ReachedFault::Foreign))),
            Ok(Ok(None)) => Ok((Reached::default(), None)),
            Ok(Err(fault @ ReachedFault::FutureVersion(_))) => {
                Err(self.reached_io(io::Error::other(fault)))
            }
            Ok(Err(fault)) => Ok((Reached::default(), Some(fault))),
            Err(source) => Err(self.reached_io(source)),
        }
    }

    fn make_directory(&self) -> Result<(), OpenError> {
        self.disk
            .create_dir(self.dir)
            .map_err(|source| self.directory_io(source))?;
        // Also when they were there: a killed process may not have come so far.
        let synced = self
            .disk
            .sync_dir(parent(self.dir))
            .and_then(|()| self.disk.sync_dir(self.dir));
        synced.map_err(|source| self.directory_io(source))
    }

    fn segments(&self) -> Result<Vec<Position>, OpenError> {
        let list = segment::list(self.disk, self.dir);
        let segments = list.map_err(|source| self.directory_io(source))?;
        if segments.len() > MAX_SEGMENTS {
            let (dir, count) = (self.dir.to_owned(), segments.len());
            return Err(OpenError::TooManySegments {
                dir,
                count,
                limit: MAX_SEGMENTS,
            });
        }
        Ok(segments)
    }

    fn open_file(&self, start: Position, mode: OpenMode) -> Result<Arc<dyn DiskFile>, OpenError> {
        let file = self.disk.open(&segment::path(self.dir, start), mode);
        file.map_err(|source| self.io(Step::Open, start, source))
    }

    fn header(&self, file: &dyn DiskFile, start: Position) -> Result<SegmentHeader, OpenError> {
        let path = || segment::path(self.dir, start);
        let header = segment::read_header(file, start)
            .map_err(|source| self.io(Step::Read, start, source))?
            .map_err(|what| match what {
                HeaderFault::Version { found } => OpenError::FutureVersion {
                    file: path(),
                    found,
                    newest: segment::FORMAT_VERSION,
                },
                what => OpenError::CorruptHeader { file: path(), what },
            })?;
        if header.id != self.id {
            let (expected, found) = (self.id, header.id);
            return Err(OpenError::WrongDirectory {
                file: path(),
                expected,
                found,
            });
        }
        Ok(header)
    }

    /// Checks header and length of a segment that has a successor. Its frames are checked when
    /// they are read.
    fn check_complete(&self, start: Position, next: Position) -> Result<(), OpenError> {
        let file = self.open_file(start, OpenMode::Read)?;
        let header = self.header(&*file, start)?;
        let len = file
            .len()
            .map_err(|source| self.io(Step::Read, start, source))?;
        let end = end_position(&header, len);
        if end != next {
            return Err(OpenError::Gap {
                file: segment::path(self.dir, start),
                end,
                next,
            });
        }
        Ok(())
    }

    /// Opens the last segment and makes sure that what is read of it is durable.
    fn open_last(&self, start: Position) -> Result<(Arc<dyn DiskFile>, SegmentHeader), OpenError> {
        let file = self.open_file(start, OpenMode::ReadWrite)?;
        // A process whose sync failed leaves bytes that are in memory only and count as clean.
        // Reading past the cache shows them for what they are.
        let settled = file.sync().and_then(|()| file.drop_cache());
        settled.map_err(|source| self.io(Step::Sync, start, source))?;
        let header = self.header(&*file, start)?;
        Ok((file, header))
    }

    /// Walks over the frames of the last segment, up to its end or to the torn tail. The log was
    /// durable up to `reached`.
    fn walk(
        &self,
        file: &Arc<dyn DiskFile>,
        header: SegmentHeader,
        reached: Reached,
    ) -> Result<Walk, OpenError> {
        let start = header.start;
        let failed = |source| self.io(Step::Read, start, source);
        let len = file.len().map_err(failed)?;
        let end = end_position(&header, len);
        let mut frames = Frames::new(Arc::clone(file), header, start, end);
        let mut walk = Walk {
            end: start,
            data_end: start,
            carried: start,
            fault: None,
            reached,
        };
        loop {
            match frames.next().map_err(failed)? {
                None if walk.end < reached.end => {
                    return Err(OpenError::Short {
                        file: segment::path(self.dir, start),
                        end: walk.end,
                        reached: reached.end,
                    });
                }
                None => return Ok(walk),
                Some(Ok((frame, payload))) => {
                    walk.end = frame.end();
                    walk.carried = walk.carried.max(frame.synced);
                    if !payload.is_empty() {
                        walk.data_end = frame.end();
                    }
                }
                Some(Err(what)) => {
                    walk.fault = Some(what);
                    break;
                }
            }
        }
        let torn_at = walk.end;
        let damaged = torn_at < reached.end
            || frames
                .seek(torn_at + 1, |frame| frame.synced > torn_at)
                .map_err(failed)?;
        match walk.fault {
            Some(what) if damaged => Err(OpenError::Corrupt {
                file: segment::path(self.dir, start),
                offset: header.offset(torn_at),
                what,
            }),
            _ => Ok(walk),
        }
    }

    /// Checks that the log reaches from before `replay_from` up to it. The snapshot that needs the
    /// position was taken when the log was durable up to there, so a fault before it is damage.
    fn check_held(
        &self,
        replay_from: Position,
        start: Position,
        header: SegmentHeader,
        walk: &Walk,
    ) -> Result<(), OpenError> {
        if (start..=walk.end).contains(&replay_from) {
            return Ok(());
        }
        Err(match walk.fault {
            Some(what) if replay_from > walk.end => OpenError::Corrupt {
                file: segment::path(self.dir, header.start),
                offset: header.offset(walk.end),
                what,
            },
            _ => OpenError::NotHeld {
                dir: self.dir.to_owned(),
                replay_from,
                held: Some((start, walk.end)),
            },
        })
    }

    /// Keeps the bytes from `position` on beside the log, then cuts them off, durably.
    fn cut(
        &self,
        file: &dyn DiskFile,
        header: SegmentHeader,
        position: Position,
        what: FrameFault,
    ) -> Result<Cut, OpenError> {
        let failed = |source| self.io(Step::Cut, header.start, source);
        let offset = header.offset(position);
        let bytes = file.len().map_err(failed)?.saturating_sub(offset);
        let kept = format!("{}/{CUT_PREFIX}{position:020}", self.dir);
        self.keep(file, offset, bytes.min(MAX_KEPT_CUT), &kept)
            .map_err(failed)?;
        file.set_len(offset)
            .and_then(|()| file.sync())
            .map_err(failed)?;
        let path = segment::path(self.dir, header.start);
        Ok(Cut {
            file: path,
            offset,
            position,
            bytes,
            what,
            kept,
        })
    }

    fn keep(&self, file: &dyn DiskFile, offset: u64, bytes: u64, path: &str) -> io::Result<()> {
        let temporary = format!("{path}.new");
        let copy = self.disk.open(&temporary, OpenMode::Create)?;
        let mut done = 0;
        let mut buffer = vec![0; bytes.min(COPY_LEN) as usize];
        while done < bytes {
            let part = (bytes - done).min(COPY_LEN) as usize;
            file.read_at(offset + done, &mut buffer[..part])?;
            copy.write_at(done, &buffer[..part])?;
            done += part as u64;
        }
        copy.sync()?;
        self.disk.rename(&temporary, path)?;
        let names = self.disk.list(self.dir)?;
        let cuts: Vec<_> = names
            .iter()
            .filter(|name| name.starts_with(CUT_PREFIX))
            .collect();
        for name in cuts.iter().take(cuts.len().saturating_sub(KEPT_CUTS)) {
            self.disk.remove(&format!("{}/{name}", self.dir))?;
        }
        self.disk.sync_dir(self.dir)
    }
}
