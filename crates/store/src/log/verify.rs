//! Checking a log without opening it. Changes nothing.

use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::frame::{Entries, FRAME_HEADER_LEN, FrameFault, FrameHeader};
use super::reached::{self, Reached, ReachedFault};
use super::segment::{self, HeaderFault, SegmentHeader};
use super::window::{Frames, end_position};
use super::{DirectoryId, Position};
use crate::disk::{Disk, OpenMode};

/// Findings after which a check ends.
pub const MAX_FINDINGS: usize = 10_000;

/// Something wrong in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path of the segment.
    pub file: String,
    /// Offset in the file.
    pub offset: u64,
    /// What is wrong there.
    pub what: Fault,
}

impl Finding {
    /// Whether it is more than what a power cut leaves, so that the log cannot simply be opened.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        !matches!(self.what, Fault::Torn { .. })
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The header of a segment.
    #[error("{0}")]
    Header(HeaderFault),
    /// A frame that was durable.
    #[error("{0}")]
    Frame(FrameFault),
    /// A segment ends elsewhere than the next one starts.
    #[error(
        "the segment ends at position {end}, the next one starts at {next}: it is cut short or an \
         older copy, or {end:020}.log is missing beside it"
    )]
    Gap {
        /// Where its bytes end.
        end: Position,
        /// Where the next one starts.
        next: Position,
    },
    /// Segments of two data directories lie side by side.
    #[error("the segment belongs to another data directory than the first one")]
    Foreign,
    /// The tail is torn, or its last frame damaged before a mark was written: opening cuts it.
    #[error("torn tail of {bytes} bytes: {what}")]
    Torn {
        /// Bytes to the end of the file.
        bytes: u64,
        /// What is wrong with the first frame of it.
        what: FrameFault,
    },
    /// The newest segment is not there.
    #[error("is missing: the log was durable up to position {end}")]
    Missing {
        /// Up to where the log is known to have come.
        end: Position,
    },
    /// The newest segment ends before where it was durable.
    #[error(
        "ends at position {end}, and the log was durable up to {reached}: it is cut short, or an \
         older copy of itself"
    )]
    Short {
        /// Where its frames end.
        end: Position,
        /// Up to where they are known to have come.
        reached: Position,
    },
    /// The file that says how far the log has come says nothing.
    #[error(transparent)]
    Reached(ReachedFault),
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Path of the segment.
    pub file: &'a str,
    /// Offset in the file.
    pub offset: u64,
    /// Position in the log.
    pub position: Position,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// What is wrong, at most [`MAX_FINDINGS`], in order of position.
    pub findings: Vec<Finding>,
    /// The data directory that the first segment with a whole header belongs to.
    pub id: Option<DirectoryId>,
    /// Oldest position, and the end of the last whole frame of the last segment. None without
    /// segments.
    pub held: Option<(Position, Position)>,
    /// Segments there.
    pub segments: usize,
    /// Whole frames in them.
    pub frames: u64,
    /// Bytes of those frames.
    pub bytes: u64,
}

/// Checks every byte of the log in `dir`. At most [`MAX_FINDINGS`] findings, in order of position.
/// An error is one of the directory; one of a file is a finding.
pub fn verify(disk: &dyn Disk, dir: &str) -> io::Result<Vec<Finding>> {
    Ok(verify_entries(disk, dir, |_, _| {})?.findings)
}

/// Like [`verify`], giving every entry of a whole frame to `visit`, in order of position. Entries
/// of damaged frames are missing from that order.
pub fn verify_entries(
    disk: &dyn Disk,
    dir: &str,
    mut visit: impl FnMut(Place<'_>, &[u8]),
) -> io::Result<Checked> {
    // Before the segments: somebody may be writing them.
    let reached = reached::read(disk, dir)?;
    let segments = segment::list(disk, dir)?;
    let mut check = Check {
        disk,
        dir,
        checked: Checked {
            held: segments.first().zip(segments.last()).map(|(f, l)| (*f, *l)),
            segments: segments.len(),
            ..Checked::default()
        },
        visit: &mut visit,
        reached: Reached::default(),
    };
    let of = check.take_reached(reached);
    for (index, start) in segments.iter().enumerate() {
        let next = segments.get(index + 1).copied();
        if let Err(error) = check.segment(*start, next) {
            check.find(*start, 0, Fault::Unreadable(error.kind()));
        }
        if check.is_full() {
            break;
        }
    }
    check.end(segments.last().copied(), of);
    check.checked.findings.truncate(MAX_FINDINGS);
    Ok(check.checked)
}

struct Check<'a> {
    disk: &'a dyn Disk,
    dir: &'a str,
    checked: Checked,
    visit: &'a mut dyn FnMut(Place<'_>, &[u8]),
    /// How far the log has come, as the file beside it says.
    reached: Reached,
}

impl Check<'_> {
    /// Takes in what the file beside the log says; gives the directory that it belongs to.
    fn take_reached(
        &mut self,
        reached: Result<Option<(DirectoryId, Reached)>, ReachedFault>,
    ) -> Option<DirectoryId> {
        let (of, reached) = reached.unwrap_or_else(|what| {
            self.find_reached(what);
            None
        })?;
        self.reached = reached;
        Some(of)
    }

    fn find_reached(&mut self, what: ReachedFault) {
        self.checked.findings.push(Finding {
            file: reached::path(self.dir),
            offset: 0,
            what: Fault::Reached(what),
        });
    }

    /// Holds the end of the log against where it is known to have come.
    fn end(&mut self, last: Option<Position>, of: Option<DirectoryId>) {
        if of.is_some_and(|of| self.checked.id.is_some_and(|id| id != of)) {
            return self.find_reached(ReachedFault::Foreign);
        }
        let Reached {
            segment,
            end: reached,
        } = self.reached;
        let Some(last) = last else {
            if of.is_some() {
                self.find(segment, 0, Fault::Missing { end: reached });
            }
            return;
        };
        let end = self.checked.held.map_or(0, |(_, end)| end);
        if last < segment {
            self.find(segment, 0, Fault::Missing { end: reached });
        } else if end < reached && self.checked.findings.is_empty() {
            self.find(last, 0, Fault::Short { end, reached });
        }
    }

    fn is_full(&self) -> bool {
        self.checked.findings.len() >= MAX_FINDINGS
    }

    fn find(&mut self, start: Position, offset: u64, what: Fault) {
        let file = segment::path(self.dir, start);
        self.checked.findings.push(Finding { file, offset, what });
    }

    /// Counts a whole frame and shows its entries.
    fn frame(&mut self, file: &str, header: &SegmentHeader, frame: FrameHeader, payload: &[u8]) {
        self.checked.frames += 1;
        self.checked.bytes += frame.frame_len() as u64;
        if let Some((_, end)) = &mut self.checked.held {
            *end = frame.end().max(*end);
        }
        let payload_at = frame.position + FRAME_HEADER_LEN as u64;
        for (offset, entry) in Entries::new(payload).flatten() {
            let position = payload_at + u64::from(offset);
            let offset = header.offset(position);
            let place = Place {
                file,
                offset,
                position,
            };
            (self.visit)(place, entry);
        }
    }

    fn segment(&mut self, start: Position, next: Option<Position>) -> io::Result<()> {
        let file = self
            .disk
            .open(&segment::path(self.dir, start), OpenMode::Read)?;
        let len = file.len()?;
        let header = match segment::read_header(&*file, start)? {
            Ok(header) => header,
            Err(what) => {
                self.find(start, 0, Fault::Header(what));
                return Ok(());
            }
        };
        if *self.checked.id.get_or_insert(header.id) != header.id {
            self.find(start, 0, Fault::Foreign);
        }
        let end = end_position(&header, len);
        if let Some(next) = next.filter(|next| *next != end) {
            self.find(
                start,
                len.min(header.offset(next.max(start))),
                Fault::Gap { end, next },
            );
        }
        let frames = Frames::new(Arc::clone(&file), header, start, end);
        self.frames(frames, &header, end, next.is_none())
    }

    /// Walks over the frames; after a damaged one goes on at the next whole one.
    fn frames(
        &mut self,
        mut frames: Frames,
        header: &SegmentHeader,
        end: Position,
        last: bool,
    ) -> io::Result<()> {
        let path = segment::path(self.dir, header.start);
        while !self.is_full() {
            let at = frames.position();
            let what = match frames.next()? {
                None => return Ok(()),
                Some(Ok((frame, payload))) => {
                    self.frame(&path, header, frame, payload);
                    continue;
                }
                Some(Err(what)) => what,
            };
            let offset = header.offset(at);
            let torn = last && at >= self.reached.end;
            if torn && !frames.seek(at + 1, |frame| frame.synced > at)? {
                let bytes = end - at;
                self.find(header.start, offset, Fault::Torn { bytes, what });
                return Ok(());
            }
            self.find(header.start, offset, Fault::Frame(what));
            if !frames.seek(at + 1, |_| true)? {
                return Ok(());
            }
        }
        Ok(())
    }
}
