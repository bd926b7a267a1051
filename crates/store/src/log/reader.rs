//! Reading entries back, in order and with every checksum verified.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::error::{ReadError, Step};
use super::frame::{ENTRY_PREFIX_LEN, Entries, FRAME_HEADER_LEN};
use super::segment::{self, SegmentHeader};
use super::window::Frames;
use super::{Log, Position, lock};
use crate::disk::OpenMode;

/// Where to read on: an entry, and the start of the frame that holds it, so that nothing before
/// it is read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Position of the entry.
    pub entry: Position,
    /// Position of its frame.
    pub frame: Position,
}

/// How a visitor of entries ends the visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The entry was taken: read on after it.
    After,
    /// The entry was not: read on with it.
    Before,
}

impl Log {
    /// Calls `visit` with the position and the bytes of each committed entry that starts at or
    /// after `from`, until it breaks or the end that was committed when the call began is reached.
    /// Returns the position to read on from: after the last entry visited, or that end.
    ///
    /// `from` may be any position, best one that an append, a commit or an earlier read returned:
    /// from a frame's start no other frame is read, else the segment is read from its beginning.
    /// Memory is bounded by one frame.
    pub fn read_from(
        &self,
        from: Position,
        mut visit: impl FnMut(Position, &[u8]) -> ControlFlow<()>,
    ) -> Result<Position, ReadError> {
        let place = Cursor {
            entry: from,
            frame: from,
        };
        let end = self.read_on(place, |position, entry| {
            visit(position, entry).map_break(|()| Stop::After)
        })?;
        Ok(end.entry)
    }

    /// Like [`read_from`](Self::read_from), for a reader that stops and goes on often: from a
    /// place that an earlier call returned, only what follows it is read.
    pub fn read_on(
        &self,
        from: Cursor,
        mut visit: impl FnMut(Position, &[u8]) -> ControlFlow<Stop>,
    ) -> Result<Cursor, ReadError> {
        let committed = self.committed();
        if from.entry > committed {
            return Err(ReadError::Beyond {
                position: from.entry,
                committed,
            });
        }
        let segments = lock(&self.segments).clone();
        // The last segment that starts at or before the frame holds it.
        let first = segments.partition_point(|start| *start <= from.frame);
        let Some(first) = first.checked_sub(1) else {
            return Err(ReadError::Gone {
                position: from.frame,
                start: self.start(),
            });
        };
        for (index, start) in segments.iter().enumerate().skip(first) {
            let next = segments.get(index + 1).copied().unwrap_or(Position::MAX);
            let end = committed.min(next);
            if *start >= end {
                break;
            }
            let broke = self.read_segment(*start, from, end, &mut visit)?;
            if let Some(place) = broke {
                return Ok(place);
            }
        }
        Ok(Cursor {
            entry: committed,
            frame: committed,
        })
    }

    /// Visits the entries of one segment; returns where `visit` broke, if it did.
    fn read_segment(
        &self,
        start: Position,
        from: Cursor,
        end: Position,
        visit: &mut impl FnMut(Position, &[u8]) -> ControlFlow<Stop>,
    ) -> Result<Option<Cursor>, ReadError> {
        let path = segment::path(&self.dir, start);
        let failed = |step, source: io::Error| {
            if source.kind() == io::ErrorKind::NotFound && self.start() > start {
                return ReadError::Gone {
                    position: from.frame.max(start),
                    start: self.start(),
                };
            }
            ReadError::Io {
                step,
                file: path.clone(),
                source,
            }
        };
        let file = self
            .disk
            .open(&path, OpenMode::Read)
            .map_err(|source| failed(Step::Open, source))?;
        let header: SegmentHeader = segment::read_header(&*file, start)
            .map_err(|source| failed(Step::Read, source))?
            .map_err(|what| ReadError::CorruptHeader {
                file: path.clone(),
                what,
            })?;
        let mut frames = Frames::new(Arc::clone(&file), header, start, end);
        if from.frame > start && from.frame < end {
            // Whoever reads on where it stopped stands at a frame, mostly.
            let at_frame = Frames::new(file, header, from.frame, end);
            frames = at_frame
                .if_whole()
                .map_err(|source| failed(Step::Read, source))?
                .unwrap_or(frames);
        }
        loop {
            let offset = header.offset(frames.position());
            let next = frames.next().map_err(|source| failed(Step::Read, source))?;
            let Some(frame) = next else {
                return Ok(None);
            };
            let corrupt = |what| ReadError::Corrupt {
                file: path.clone(),
                offset,
                what,
            };
            let (frame, payload) = frame.map_err(corrupt)?;
            if frame.end() <= from.entry {
                continue;
            }
            let frame_end = frame.end();
            let payload_at = frame.position + FRAME_HEADER_LEN as u64;
            for entry in Entries::new(payload) {
                let (offset, entry) = entry.map_err(corrupt)?;
                let position = payload_at + u64::from(offset);
                if position < from.entry {
                    continue;
                }
                let after = position + (ENTRY_PREFIX_LEN + entry.len()) as u64;
                let entry = match visit(position, entry) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(Stop::After) => after,
                    ControlFlow::Break(Stop::Before) => position,
                };
                let frame = if entry == frame_end {
                    frame_end
                } else {
                    frame.position
                };
                return Ok(Some(Cursor { entry, frame }));
            }
        }
    }
}
