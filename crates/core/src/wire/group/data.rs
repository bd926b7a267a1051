//! What the data frames between members carry: the first byte says which.

use thiserror::Error;

use super::greeting::Standing;

/// Longest packet of the failure detector, in bytes.
pub const LIVENESS_BYTES_MAX: usize = 30 << 10;

/// Longest standing, in bytes: several times what this version writes, for later ones.
pub const STANDING_BYTES_MAX: usize = 1 << 10;

const SYNC: u8 = 0;
const LIVENESS: u8 = 1;
const STANDING: u8 = 2;
const MEMORY: u8 = 3;

/// The content of a data frame, within the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data<'a> {
    /// A message of the sync machine, which has a codec of its own.
    Sync(&'a [u8]),
    /// The same of the machine for the filters that are kept in memory.
    Memory(&'a [u8]),
    /// A packet of the failure detector.
    Liveness(&'a [u8]),
    /// How the sender stands to the receiver.
    Standing(Standing),
}

/// Why a data frame cannot be understood.
#[derive(Debug, Error)]
pub enum DataError {
    /// It has no content.
    #[error("an empty frame")]
    Empty,
    /// Nothing begins with this byte.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// It is longer than what it carries may be.
    #[error("a {what} of {length} bytes, the limit is {limit}")]
    TooLong {
        /// What it carries.
        what: &'static str,
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// It is no such map.
    #[error("a standing that does not decode: {0}")]
    Standing(#[from] rmp_serde::decode::Error),
}

impl<'a> Data<'a> {
    /// Reads the content of a data frame.
    ///
    /// # Errors
    /// An unknown first byte, or content that is too long or does not decode. What is within a
    /// message or packet is not looked at.
    pub fn decode(content: &'a [u8]) -> Result<Self, DataError> {
        let (kind, content) = content.split_first().ok_or(DataError::Empty)?;
        match *kind {
            SYNC => Ok(Data::Sync(content)),
            MEMORY => Ok(Data::Memory(content)),
            LIVENESS => {
                bounded("packet", content, LIVENESS_BYTES_MAX)?;
                Ok(Data::Liveness(content))
            }
            STANDING => {
                bounded("standing", content, STANDING_BYTES_MAX)?;
                Ok(Data::Standing(rmp_serde::from_slice(content)?))
            }
            other => Err(DataError::Kind(other)),
        }
    }

    /// The content of its frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Data::Sync(message) => sync_data(|out| out.extend_from_slice(message)),
            Data::Memory(message) => memory_data(|out| out.extend_from_slice(message)),
            Data::Liveness(packet) => [&[LIVENESS], *packet].concat(),
            Data::Standing(standing) => {
                let mut out = vec![STANDING];
                out.extend(rmp_serde::to_vec_named(standing).expect("a standing is plain data"));
                out
            }
        }
    }
}

/// The content of a frame with a message of the sync machine that `write` appends, without a copy.
#[must_use]
pub fn sync_data(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![SYNC];
    write(&mut out);
    out
}

/// The same of the machine for the filters that are kept in memory.
#[must_use]
pub fn memory_data(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![MEMORY];
    write(&mut out);
    out
}

fn bounded(what: &'static str, content: &[u8], limit: usize) -> Result<(), DataError> {
    let length = content.len();
    if length > limit {
        return Err(DataError::TooLong {
            what,
            length,
            limit,
        });
    }
    Ok(())
}
