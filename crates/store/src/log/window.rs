//! Reading a segment through a bounded window, frame by frame.

use std::io;
use std::sync::Arc;

use super::frame::{self, FRAME_HEADER_LEN, FRAME_MAGIC, FrameFault, FrameHeader};
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader};
use super::{Position, frame::MAX_PAYLOAD};
use crate::disk::DiskFile;

/// Length of the window in bytes. A longer frame makes the window as long as itself, at most
/// header and [`MAX_PAYLOAD`].
const WINDOW_LEN: usize = 256 << 10;

/// A frame and its payload, or why there is none.
pub(super) type Decoded<'a> = Result<(FrameHeader, &'a [u8]), FrameFault>;

/// The frames of one segment up to a position, read one after the other.
pub(super) struct Frames {
    file: Arc<dyn DiskFile>,
    header: SegmentHeader,
    /// Position of the next frame.
    next: Position,
    /// Position where the readable bytes end.
    end: Position,
    bytes: Vec<u8>,
    /// Position of the first byte in `bytes`.
    bytes_at: Position,
}

impl Frames {
    /// Frames from `from` on. Bytes at or after `end` are not looked at.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        header: SegmentHeader,
        from: Position,
        end: Position,
    ) -> Self {
        Self {
            file,
            header,
            next: from,
            end,
            bytes: Vec::new(),
            bytes_at: from,
        }
    }

    /// Where the next frame would start.
    pub(super) fn position(&self) -> Position {
        self.next
    }

    /// The next frame, `None` at the end. A fault leaves the position where it is.
    pub(super) fn next(&mut self) -> io::Result<Option<Decoded<'_>>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let position = self.next;
        let decoded = self.frame_at(position)?;
        if let Ok(header) = decoded {
            self.next = header.end();
        }
        Ok(Some(decoded.map(|header| {
            let start = (position - self.bytes_at) as usize + FRAME_HEADER_LEN;
            (header, &self.bytes[start..start + header.length as usize])
        })))
    }

    /// These frames if the first one is whole.
    pub(super) fn if_whole(mut self) -> io::Result<Option<Self>> {
        let whole = self.next < self.end && self.frame_at(self.next)?.is_ok();
        Ok(whole.then_some(self))
    }

    /// Moves to the first whole frame at or after `from` that `wanted` accepts. Returns whether
    /// there is one.
    pub(super) fn seek(
        &mut self,
        from: Position,
        wanted: impl Fn(&FrameHeader) -> bool,
    ) -> io::Result<bool> {
        let mut at = from;
        while at < self.end {
            self.fill(at, FRAME_HEADER_LEN)?;
            let found = self
                .available(at)
                .windows(FRAME_MAGIC.len())
                .position(|w| w == FRAME_MAGIC);
            let Some(found) = found else {
                // The last three bytes may begin a magic that the next window ends.
                let scanned = self.available(at).len();
                let overlap = FRAME_MAGIC.len() - 1;
                at += scanned.saturating_sub(overlap).max(1) as u64;
                continue;
            };
            at += found as u64;
            if self.frame_at(at)?.is_ok_and(|header| wanted(&header)) {
                self.next = at;
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }

    fn frame_at(&mut self, position: Position) -> io::Result<Result<FrameHeader, FrameFault>> {
        self.fill(position, FRAME_HEADER_LEN)?;
        if let Some(head) = self.available(position).first_chunk() {
            match FrameHeader::decode(head, position) {
                Ok(header) => self.fill(position, header.frame_len())?,
                Err(fault) => return Ok(Err(fault)),
            }
        }
        let decoded = frame::decode(self.available(position), position, self.header.salt);
        Ok(decoded.map(|(header, _)| header))
    }

    fn available(&self, position: Position) -> &[u8] {
        &self.bytes[(position - self.bytes_at) as usize..]
    }

    /// Makes the window hold `len` bytes from `position` on, or as many as there are.
    fn fill(&mut self, position: Position, len: usize) -> io::Result<()> {
        debug_assert!(len <= FRAME_HEADER_LEN + MAX_PAYLOAD && position <= self.end);
        let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
        let window_end = self.bytes_at + self.bytes.len() as u64;
        let covered = position >= self.bytes_at && position + len.min(left) as u64 <= window_end;
        if covered && !self.bytes.is_empty() {
            return Ok(());
        }
        self.bytes.resize(len.max(WINDOW_LEN).min(left), 0);
        self.bytes_at = position;
        self.file
            .read_at(self.header.offset(position), &mut self.bytes)
    }
}

/// Position at which a segment of `len` bytes ends.
pub(super) fn end_position(header: &SegmentHeader, len: u64) -> Position {
    header
        .start
        .saturating_add(len.saturating_sub(SEGMENT_HEADER_LEN as u64))
}
