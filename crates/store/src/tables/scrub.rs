//! Reading all of the file now and then, so that a damaged page is found before somebody needs it.

use std::sync::{Arc, PoisonError};

use super::Tables;
use super::row_store::{RowStoreError, ScrubPlace};

/// Bytes of rows that are read at once, about. Nothing is written to the file meanwhile.
const PIECE_BYTES: usize = 1 << 20;

/// How far the file is read.
#[derive(Debug)]
pub(super) struct Scrub {
    place: ScrubPlace,
    scrubbed: Scrubbed,
}

impl Default for Scrub {
    fn default() -> Self {
        Scrub {
            place: ScrubPlace::Records(Vec::new()),
            scrubbed: Scrubbed::default(),
        }
    }
}

/// What scrubs of this process have read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes of rows.
    pub bytes: u64,
    /// Times that the whole file was read.
    pub passes: u64,
}

impl Tables {
    /// Reads a piece of the file from the disk, at most about a MiB, as long as it is to `go_on`.
    /// True: it has come to the end, and the next call begins again. A page that does not hold makes
    /// the rows damaged.
    ///
    /// # Errors
    /// When the disk refuses to read, or no file can be opened.
    pub fn scrub(&self, go_on: &dyn Fn() -> bool) -> Result<bool, RowStoreError> {
        // No commit takes the pages away that are being read.
        let _alone = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = self.lock().file.as_ref().map(Arc::clone) else {
            return Ok(true);
        };
        let mut scrub = self.scrub.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = 0;
        let next = file.scrub(&scrub.place, &mut |bytes| {
            read += bytes;
            read < PIECE_BYTES && go_on()
        });
        scrub.scrubbed.bytes += read as u64;
        let next = match next {
            // The rows are damaged from now on, and whoever asks is told.
            Err(RowStoreError::Corrupt { .. }) => None,
            next => next?,
        };
        let ended = next.is_none();
        scrub.scrubbed.passes += u64::from(ended);
        scrub.place = next.unwrap_or(ScrubPlace::Records(Vec::new()));
        drop((scrub, file));
        // Gives a damaged file up.
        drop(self.lock());
        Ok(ended)
    }

    /// What was scrubbed since the start.
    pub fn scrubbed(&self) -> Scrubbed {
        let scrub = self.scrub.lock().unwrap_or_else(PoisonError::into_inner);
        scrub.scrubbed
    }
}
