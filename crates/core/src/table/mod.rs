//! Tables: small, fully copied maps from a key to a row.
//!
//! A row has a version, and of two rows of one key the one that [supersedes](Row::supersedes) the
//! other stays. That is a total order, so copies that have seen the same rows, in whatever order
//! and however often, are the same. A deletion is a row too, a tombstone; what a tombstone leaves
//! behind when it is removed is a [floor](Floors): later rows of its key stand above it.
//!
//! Nothing here changes because time passes: a row that has expired is still there, and only who
//! reads it takes the time into account ([`Row::is_gone`]).
//!
//! Read in this order: this file, `version.rs` (numbers of new rows), `floors.rs`, `horizon.rs`
//! (when expired rows may be removed), `description.rs` (what is known of a table beside its rows).

mod description;
mod floors;
pub mod horizon;
#[cfg(test)]
mod tests;
mod version;

use std::cmp::Reverse;

pub use description::{TableEpoch, TableRow, epoch_number};
pub use floors::{BUCKETS, Floors, FloorsError, bucket};
pub use horizon::Horizon;
pub use version::{
    FLOOR_MAX, OUTSIDE_ADVANCE_MAX, OUTSIDE_VERSION_MAX, STEP_SHIFT, VersionsExhausted,
    accepts_from_outside, next_version,
};

use crate::limits::{TABLE_KEY_BYTES_MAX, TABLE_VALUES_BYTES_MAX};

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Larger wins.
    pub version: i64,
    /// The values, or that they were deleted.
    pub content: Content,
    /// From this time on it is gone, in milliseconds since 1970; none: it stays. A tombstone has
    /// none.
    pub expires: Option<u64>,
}

/// The values of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Columns separated by tabs, at most [`TABLE_VALUES_BYTES_MAX`] bytes.
    Values(Vec<u8>),
    /// The key was deleted.
    Tombstone,
}

impl Row {
    /// The row that says that its key was deleted.
    pub fn tombstone(version: i64) -> Self {
        Row {
            version,
            content: Content::Tombstone,
            expires: None,
        }
    }

    /// Whether this row stays, of the two. At equal versions a deletion is before values, then
    /// the smaller bytes (the rule of p2ptbl, whose rows may come from a link), then the row that
    /// expires first.
    pub fn supersedes(&self, other: &Row) -> bool {
        self.rank() > other.rank()
    }

    fn rank(&self) -> impl Ord + '_ {
        (
            self.version,
            Reverse(self.values()),
            Reverse((self.expires.is_none(), self.expires)),
        )
    }

    /// The values; none of a tombstone.
    pub fn values(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Values(values) => Some(values),
            Content::Tombstone => None,
        }
    }

    /// Whether the key was deleted.
    pub fn is_tombstone(&self) -> bool {
        self.content == Content::Tombstone
    }

    /// Whether readers see nothing of it at that time, in milliseconds since 1970.
    pub fn is_gone(&self, now_ms: u64) -> bool {
        self.is_tombstone() || self.expires.is_some_and(|at| at <= now_ms)
    }

    /// Checks what comes from outside.
    pub fn validate(&self) -> Result<(), RowError> {
        match &self.content {
            Content::Values(values) => validate_values(values),
            Content::Tombstone if self.expires.is_some() => Err(RowError::TombstoneExpires),
            Content::Tombstone => Ok(()),
        }
    }
}

/// Why bytes cannot be a key or the values of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Empty or too long.
    #[error("a key has 1 to {TABLE_KEY_BYTES_MAX} bytes, not {0}")]
    KeyLength(usize),
    /// It holds a byte that separates keys from values, or rows.
    #[error(
        "a key cannot hold a tab, line feed, carriage return or zero byte (0x{byte:02x} at {at})"
    )]
    KeyByte {
        /// The byte.
        byte: u8,
        /// Its place.
        at: usize,
    },
    /// Too long.
    #[error("the values of a row have at most {TABLE_VALUES_BYTES_MAX} bytes, not {0}")]
    ValuesLength(usize),
    /// They hold a byte that separates rows.
    #[error("values cannot hold a line feed, carriage return or zero byte (0x{byte:02x} at {at})")]
    ValuesByte {
        /// The byte.
        byte: u8,
        /// Its place.
        at: usize,
    },
    /// A tombstone says when it expires.
    #[error("a deletion does not expire")]
    TombstoneExpires,
}

/// Checks the key of a row: 1 to [`TABLE_KEY_BYTES_MAX`] bytes, no tab, line feed, carriage return
/// or zero byte.
pub fn validate_key(key: &[u8]) -> Result<(), RowError> {
    if !(1..=TABLE_KEY_BYTES_MAX).contains(&key.len()) {
        return Err(RowError::KeyLength(key.len()));
    }
    let refused = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0);
    match key.iter().position(refused) {
        Some(at) => Err(RowError::KeyByte { byte: key[at], at }),
        None => Ok(()),
    }
}

/// Checks the values of a row: at most [`TABLE_VALUES_BYTES_MAX`] bytes, no line feed, carriage
/// return or zero byte. Tabs separate columns.
pub fn validate_values(values: &[u8]) -> Result<(), RowError> {
    if values.len() > TABLE_VALUES_BYTES_MAX {
        return Err(RowError::ValuesLength(values.len()));
    }
    let refused = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
    match values.iter().position(refused) {
        Some(at) => Err(RowError::ValuesByte {
            byte: values[at],
            at,
        }),
        None => Ok(()),
    }
}
