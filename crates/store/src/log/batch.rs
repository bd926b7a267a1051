//! The open batch: entries that were appended and not yet written, laid out as frames.

use super::Position;
use super::frame::{ENTRY_PREFIX_LEN, FRAME_HEADER_LEN};

/// Capacity in bytes that a batch keeps when it is empty; a larger burst is given back.
const KEPT_CAPACITY: usize = 8 << 20;

/// Frames in memory. Headers are only room until the batch is written, but they count, so every
/// entry has its final position from the start.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) base: Position,
    pub(super) bytes: Vec<u8>,
    /// Offset in `bytes` of each frame.
    pub(super) frames: Vec<usize>,
}

/// A state to return to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    bytes: usize,
    frames: usize,
}

impl Batch {
    pub(super) fn end(&self) -> Position {
        self.base + self.bytes.len() as u64
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes.len(),
            frames: self.frames.len(),
        }
    }

    pub(super) fn restore(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.frames.truncate(mark.frames);
    }

    /// Empties the batch, to go on at `base`.
    pub(super) fn reset(&mut self, base: Position) {
        self.base = base;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY);
        self.frames.clear();
        self.frames.shrink_to(KEPT_CAPACITY / FRAME_HEADER_LEN);
    }

    /// End in `bytes` of the frame number `index`.
    pub(super) fn frame_end(&self, index: usize) -> usize {
        self.frames
            .get(index + 1)
            .copied()
            .unwrap_or(self.bytes.len())
    }

    /// Begins a frame; the one before it is complete.
    pub(super) fn begin_frame(&mut self) {
        self.frames.push(self.bytes.len());
        self.bytes.resize(self.bytes.len() + FRAME_HEADER_LEN, 0);
    }

    /// Adds one entry that `write` appends to the buffer it is given. Returns false, and leaves
    /// nothing, when the entry is longer than `limit` bytes.
    pub(super) fn entry(
        &mut self,
        max_payload: usize,
        write: impl FnOnce(&mut EntryBuffer<'_>),
    ) -> Result<(), usize> {
        if self.frames.is_empty() {
            self.begin_frame();
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ENTRY_PREFIX_LEN]);
        let limit = max_payload - ENTRY_PREFIX_LEN;
        let mut buffer = EntryBuffer {
            start: self.bytes.len(),
            bytes: &mut self.bytes,
            left: limit,
            refused: 0,
        };
        write(&mut buffer);
        let refused = buffer.refused;
        let length = self.bytes.len() - start - ENTRY_PREFIX_LEN;
        if refused > 0 {
            return Err(length.saturating_add(refused));
        }
        self.bytes[start..start + ENTRY_PREFIX_LEN].copy_from_slice(&(length as u32).to_le_bytes());
        let frame = self.frames.last().copied().unwrap_or(0);
        if self.bytes.len() - frame - FRAME_HEADER_LEN > max_payload {
            // The entry opens the next frame: make room for its header.
            let end = self.bytes.len();
            self.bytes.resize(end + FRAME_HEADER_LEN, 0);
            self.bytes.copy_within(start..end, start + FRAME_HEADER_LEN);
            self.frames.push(start);
        }
        Ok(())
    }
}

/// Where an entry is written: the log's own buffer, so the bytes are copied once.
#[derive(Debug)]
pub struct EntryBuffer<'a> {
    bytes: &'a mut Vec<u8>,
    start: usize,
    left: usize,
    refused: usize,
}

impl EntryBuffer<'_> {
    /// The entry so far.
    pub(crate) fn written(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Adds bytes to the entry. What goes over the limit of an entry is not kept; the append then
    /// fails.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        if bytes.len() <= self.left && self.refused == 0 {
            self.left -= bytes.len();
            self.bytes.extend_from_slice(bytes);
        } else {
            self.refused = self.refused.saturating_add(bytes.len());
        }
    }
}

impl std::io::Write for EntryBuffer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.extend_from_slice(bytes);
        if self.refused > 0 {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
