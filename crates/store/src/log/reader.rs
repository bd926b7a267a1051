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
        let committed = self.committed();
        if from > committed {
            return Err(ReadError::Beyond {
                position: from,
                committed,
            });
        }
        let segments = lock(&self.segments).clone();
        // The last segment that starts at or before `from` holds it.
        let first = segments.partition_point(|start| *start <= from);
        let Some(first) = first.checked_sub(1) else {
            return Err(ReadError::Gone {
                position: from,
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
            if let Some(position) = broke {
                return Ok(position);
            }
        }
        Ok(committed)
    }

    /// Visits the entries of one segment; returns where `visit` broke, if it did.
    fn read_segment(
        &self,
        start: Position,
        from: Position,
        end: Position,
        visit: &mut impl FnMut(Position, &[u8]) -> ControlFlow<()>,
    ) -> Result<Option<Position>, ReadError> {
        let path = segment::path(&self.dir, start);
        let failed = |step, source: io::Error| {
            if source.kind() == io::ErrorKind::NotFound && self.start() > start {
                return ReadError::Gone {
                    position: from.max(start),
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
        if from > start && from < end {
            // Whoever reads on where it stopped stands at a frame, mostly.
            let at_frame = Frames::new(file, header, from, end);
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
            if frame.end() <= from {
                continue;
            }
            let payload_at = frame.position + FRAME_HEADER_LEN as u64;
            for entry in Entries::new(payload) {
                let (offset, entry) = entry.map_err(corrupt)?;
                let position = payload_at + u64::from(offset);
                if position >= from && visit(position, entry).is_break() {
                    return Ok(Some(position + (ENTRY_PREFIX_LEN + entry.len()) as u64));
                }
            }
        }
    }
}
