//! A bitmap that nobody else holds and that ends with the process, as the original's does.

use grapevine_core::bitmap::{Bitmap, BitmapError, FirstRows};
use grapevine_store::filters::FilterError;

use super::{Settled, SharedBitmap};

/// A [`SharedBitmap`] in memory alone.
#[derive(Debug)]
pub struct MemoryBitmap(Bitmap);

impl MemoryBitmap {
    /// An empty one of `rows` rows.
    ///
    /// # Errors
    /// When a bitmap cannot have that many rows.
    pub fn new(rows: u16) -> Result<Self, BitmapError> {
        Bitmap::new(rows).map(MemoryBitmap)
    }
}

impl SharedBitmap for MemoryBitmap {
    fn bitmap(&self) -> FirstRows<'_> {
        self.0.whole()
    }

    fn set(&self, bits: &[u16]) -> Result<u64, FilterError> {
        for bit in bits {
            // The gateway takes its bits from this bitmap's size; there is none beyond it.
            let set = self.0.set(*bit);
            debug_assert!(set.is_ok(), "{set:?}");
        }
        Ok(0)
    }

    fn settle(&self, _position: u64) -> Settled<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}
