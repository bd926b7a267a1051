//! What is wrong with bytes that are not an operation.

use super::{BITS_MAX, INSERT_HASHES_MAX, RowsError, SPENT_BYTES};
use crate::bitmap::BITMAP_BITS_MAX;
use crate::catalogue::NameError;
use crate::limits::{ADOPTED_VERSION_BYTES_MAX, OPERATION_BODY_BYTES_MAX};

/// Why bytes are not an operation.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// Shorter than any operation of its kind.
    #[error("operation of {length} bytes is cut short")]
    Short {
        /// Bytes there are.
        length: usize,
    },
    /// The hashes of an insert are not a whole number, none, or too many.
    #[error("insert carries {bytes} bytes of hashes, not 1 to {INSERT_HASHES_MAX} times 16")]
    Hashes {
        /// Bytes of hashes.
        bytes: usize,
    },
    /// A draw is of another length than all are.
    #[error("{bytes} bytes of a draw, not {SPENT_BYTES}")]
    Draw {
        /// Bytes there are.
        bytes: usize,
    },
    /// A mark is of another length than all are, or 0.
    #[error("{bytes} bytes of a mark, not 8 that are not all 0")]
    Mark {
        /// Bytes there are.
        bytes: usize,
    },
    /// A stream that this version does not know.
    #[error("operation of unknown stream {0}: written by a newer version")]
    Stream(u8),
    /// Indexes of bits are not a whole number, none, or too many.
    #[error("{bytes} bytes of bit indexes, not 1 to {BITS_MAX} times 2")]
    Bits {
        /// Bytes of indexes.
        bytes: usize,
    },
    /// No bitmap has such a bit.
    #[error("bit {0} of a bitmap, which has at most {BITMAP_BITS_MAX}")]
    NoBit(u16),
    /// Rows of a table do not hold.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// A filter cannot have that name.
    #[error("a filter's {0}")]
    FilterName(NameError),
    /// A table cannot have that name.
    #[error("a table's {0}")]
    TableName(NameError),
    /// A table's drop names an epoch in which the table exists.
    #[error("the drop of a table names an epoch in which the table exists")]
    NoDrop,
    /// A kind that this version does not know.
    #[error("operation of unknown kind {0}: written by a newer version")]
    Kind(u8),
    /// The body is larger than any this version writes.
    #[error(
        "operation body of {0} bytes, the limit is {OPERATION_BODY_BYTES_MAX}, of an adopted \
         version {ADOPTED_VERSION_BYTES_MAX}"
    )]
    TooLong(usize),
    /// The body does not decode.
    #[error("operation of kind {kind} does not decode: {source}")]
    Body {
        /// Its kind.
        kind: u8,
        /// What the decoder says.
        source: rmp_serde::decode::Error,
    },
}
