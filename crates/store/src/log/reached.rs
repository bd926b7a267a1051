//! How far the log has come for sure, in a small file beside its segments.
//!
//! A log that lost its newest segment, or whose newest segment was cut at the end of a frame or
//! is an older copy of itself, looks like one that came no further. The file `reached` says that
//! it did: which segment is the newest, and up to where the log is durable. It is replaced when a
//! segment was begun, when all is synced and nobody writes, and after each
//! [`REACHED_EVERY_BYTES`] synced in between.
//!
//! ```text
//! "GrpvnRch" | version u32 | zeros u32 | directory id | segment u64 | end u64 | XXH3-64 of all before
//! ```
//!
//! Integers are little endian. It only ever adds to what a start refuses: where it is missing or
//! not whole, the log is judged by its segments alone, and the file is written anew.

use std::io;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::{DirectoryId, Position};
use crate::disk::{Disk, read_file, replace_file};

/// Name of the file in the log's directory.
pub(crate) const REACHED_FILE: &str = "reached";
/// Bytes that are synced before the file is replaced while others are written.
pub(super) const REACHED_EVERY_BYTES: u64 = 16 << 20;
const MAGIC: &[u8; 8] = b"GrpvnRch";
const FORMAT_VERSION: u32 = 1;
const BYTES: usize = 56;
const CHECKED: usize = 48;

/// What the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Start of the newest segment.
    pub(crate) segment: Position,
    /// Everything before this position is durable.
    pub(crate) end: Position,
}

/// Why the file says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReachedFault {
    /// It is not what was written.
    #[error("it is corrupt; the next start writes it anew")]
    Corrupt,
    /// It was written by a later program.
    #[error("it has format version {0}, this program reads up to {FORMAT_VERSION}")]
    FutureVersion(u32),
    /// It was written in another data directory.
    #[error("it belongs to another data directory; the next start writes it anew")]
    Foreign,
}

/// Path of the file.
pub(crate) fn path(dir: &str) -> String {
    format!("{dir}/{REACHED_FILE}")
}

/// Reads the file, with the data directory that it belongs to; none when there is none.
pub(super) fn read(
    disk: &dyn Disk,
    dir: &str,
) -> io::Result<Result<Option<(DirectoryId, Reached)>, ReachedFault>> {
    match read_file(disk, &path(dir), BYTES as u64) {
        Ok(bytes) => Ok(decode(&bytes).map(Some)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(None)),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Err(ReachedFault::Corrupt)),
        Err(error) => Err(error),
    }
}

/// Replaces the file.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &str,
    id: DirectoryId,
    reached: Reached,
) -> io::Result<()> {
    replace_file(disk, &path(dir), &encode(id, reached))
}

fn encode(id: DirectoryId, reached: Reached) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(&id);
    bytes[32..40].copy_from_slice(&reached.segment.to_le_bytes());
    bytes[40..48].copy_from_slice(&reached.end.to_le_bytes());
    let checksum = xxh3_64(&bytes[..CHECKED]);
    bytes[CHECKED..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<(DirectoryId, Reached), ReachedFault> {
    let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| ReachedFault::Corrupt)?;
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
    if bytes[..8] != *MAGIC || word(CHECKED) != xxh3_64(&bytes[..CHECKED]) {
        return Err(ReachedFault::Corrupt);
    }
    let version = word(8) as u32;
    if version != FORMAT_VERSION {
        return Err(ReachedFault::FutureVersion(version));
    }
    let id = std::array::from_fn(|index| bytes[16 + index]);
    let reached = Reached {
        segment: word(32),
        end: word(40),
    };
    Ok((id, reached))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DirectoryId = *b"data directory 1";

    #[test]
    fn the_file_says_what_was_written_and_every_flipped_bit_is_noticed() {
        let reached = Reached {
            segment: 1 << 40,
            end: (1 << 40) + 77,
        };
        let bytes = encode(ID, reached);
        assert_eq!(decode(&bytes), Ok((ID, reached)));
        for bit in 0..BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), Err(ReachedFault::Corrupt), "bit {bit}");
        }
        for length in 0..BYTES {
            assert!(decode(&bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
