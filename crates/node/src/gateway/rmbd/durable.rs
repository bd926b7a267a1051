//! The bitmap of the group, as far as this node shows it.

use std::sync::Arc;

use grapevine_core::bitmap::{BitmapError, FirstRows};
use grapevine_store::filters::FilterError;

use super::{Settled, SharedBitmap};
use crate::engine::Engine;

/// A [`SharedBitmap`] that outlives the process and that every node of the group has.
pub struct DurableBitmap {
    engine: Arc<Engine>,
    rows: u16,
}

impl DurableBitmap {
    /// The first `rows` rows of it; the others are kept for members that show them.
    ///
    /// # Errors
    /// When there cannot be that many rows.
    pub fn new(engine: Arc<Engine>, rows: u16) -> Result<Self, BitmapError> {
        engine.collections().bitmap().bits().first_rows(rows)?;
        Ok(DurableBitmap { engine, rows })
    }
}

impl SharedBitmap for DurableBitmap {
    fn bitmap(&self) -> FirstRows<'_> {
        let bits = self.engine.collections().bitmap().bits();
        bits.first_rows(self.rows).expect("there are so many rows")
    }

    fn set(&self, bits: &[u16]) -> Result<u64, FilterError> {
        Ok(self.engine.collections().bitmap().set(bits)?)
    }

    fn settle(&self, position: u64) -> Settled<'_> {
        Box::pin(self.engine.settle(position))
    }
}
