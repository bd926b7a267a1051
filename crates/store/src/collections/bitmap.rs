//! The bitmap of the group.
//!
//! It always has the most rows there can be: a member that shows fewer carries the bits of the
//! others' rows along, and loses none when it shows more later.
//!
//! A bit is set once its operation is appended, and both happen under one lock. So a manifest,
//! which is made under this lock too, never holds a bit whose operation is not in the log
//! before its position: such a bit could outlive a power cut on one node, and no operation would
//! tell the others of it. Bits of this node's own are committed as well before they can be
//! read, so that what is read after the log has failed was kept when the process ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grapevine_core::bitmap::{BITMAP_BITS_MAX, Bitmap, BitmapError, ROWS_MAX};
use grapevine_core::operation::{BITS_MAX, Bits, Stream, encode_bits};

use crate::journal::{Journal, ReadOnly};
use crate::log::Position;

/// The bitmap of the group, as this node has it.
pub struct GroupBitmap {
    journal: Arc<Journal>,
    bits: Bitmap,
    /// Held while operations are appended and their bits set.
    last: Mutex<Position>,
}

/// The bitmap while nothing changes it. The version and the position of the journal fit to it.
pub(super) struct Held<'a> {
    bits: &'a Bitmap,
    /// The position after the last operation on it.
    last: MutexGuard<'a, Position>,
}

impl Held<'_> {
    /// Its bits as bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.bits.to_bytes()
    }
}

impl GroupBitmap {
    /// The bitmap with the bits of a manifest.
    pub(super) fn new(journal: Arc<Journal>, bytes: &[u8]) -> Result<Self, BitmapError> {
        Ok(GroupBitmap {
            journal,
            bits: Bitmap::from_bytes(ROWS_MAX, bytes)?,
            last: Mutex::new(0),
        })
    }

    /// The bits, of [`ROWS_MAX`] rows. What is read may be acknowledged once a position that
    /// [`set`](Self::set) gives afterwards is as durable as the node promises.
    pub fn bits(&self) -> &Bitmap {
        &self.bits
    }

    /// Sets bits and tells the group of those that were not set; bits that do not exist are passed
    /// over, as those that are set. Gives a position that covers these bits and all that could be
    /// read before, or 0 when they need no more waiting; with no bits also on a node that takes
    /// no writes.
    ///
    /// # Errors
    /// When the node takes no writes, or this one failed. What was not written is not set.
    pub fn set(&self, bits: &[u16]) -> Result<Position, ReadOnly> {
        let mut held = self.hold();
        let new = self.new_of(bits.iter().copied());
        if !new.is_empty() {
            self.journal.ensure_writable()?;
        }
        let mut encoded = Vec::new();
        for chunk in new.chunks(BITS_MAX) {
            encoded.clear();
            encode_bits(&mut encoded, chunk);
            let (position, _) = self
                .journal
                .append(Stream::Group, |_, entry| entry.extend_from_slice(&encoded))?;
            self.journal.commit(position)?;
            self.enter(&mut held, chunk.iter().copied(), position);
        }
        // When the log has failed nothing more will be written. What is in memory is answered
        // from: it is what was written before.
        let waits = !self.journal.log_failed();
        Ok(if waits { *held.last } else { 0 })
    }

    /// Takes in an operation of another node, or of the log that is being replayed; `append` puts
    /// it into the journal.
    pub(super) fn apply(
        &self,
        bits: Bits<'_>,
        append: impl FnOnce() -> Result<Position, ReadOnly>,
    ) -> Result<(), ReadOnly> {
        let mut held = self.hold();
        let position = append()?;
        self.enter(&mut held, bits.indexes(), position);
        Ok(())
    }

    /// Takes over the bits of another node's bitmap. They are not operations of this node: others
    /// get them from where they were made, or with a snapshot of their own.
    pub(super) fn take_over(&self, theirs: &Bitmap) -> Result<(), ReadOnly> {
        let mut held = self.hold();
        let new = self.new_of(theirs.iter());
        let mut encoded = Vec::new();
        for chunk in new.chunks(BITS_MAX) {
            encoded.clear();
            encode_bits(&mut encoded, chunk);
            let (position, _) = self
                .journal
                .append(Stream::Local, |_, entry| entry.extend_from_slice(&encoded))?;
            self.enter(&mut held, chunk.iter().copied(), position);
        }
        Ok(())
    }

    /// Lets nothing change the bitmap while what is returned is kept.
    pub(super) fn hold(&self) -> Held<'_> {
        Held {
            bits: &self.bits,
            last: self.last.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Those that are not set, each once.
    fn new_of(&self, bits: impl Iterator<Item = u16>) -> Vec<u16> {
        let exists = |bit: &u16| *bit < BITMAP_BITS_MAX && !self.bits.contains(*bit);
        let mut new: Vec<u16> = bits.filter(exists).collect();
        new.sort_unstable();
        new.dedup();
        new
    }

    fn enter(&self, held: &mut Held<'_>, bits: impl Iterator<Item = u16>, position: Position) {
        for bit in bits {
            let set = self.bits.set(bit);
            debug_assert!(set.is_ok(), "an operation names bits that exist: {set:?}");
        }
        *held.last = position;
    }
}
