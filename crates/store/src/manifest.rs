//! The manifest: the catalogue as of one position of the log. Together with the layer files it
//! is the snapshot that recovery starts from; what the log holds from that position on is
//! replayed over it.
//!
//! ```text
//! "GrpvnMan" | version u32 | body length u32 | body (MessagePack) | XXH3-64 of all before
//! ```

use std::io;

use grapevine_core::catalogue::FilterRow;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::disk::{Disk, read_file, replace_file};
use crate::log::Position;

/// Name of the file in the data directory.
pub const MANIFEST_FILE: &str = "manifest";
const MAGIC: &[u8; 8] = b"GrpvnMan";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// Largest manifest read: room for about a million filters.
pub(crate) const BYTES_MAX: u64 = 1 << 30;

/// What is known of everything before [`position`](Self::position).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Replay the log from here.
    pub position: Position,
    /// Sequence number of the next operation at that position.
    pub sequence: u64,
    /// All filters.
    pub rows: Vec<FilterRow>,
}

/// Why a manifest cannot be read or written.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The file is not what this program wrote.
    #[error("{MANIFEST_FILE} is corrupt: {0}")]
    Corrupt(&'static str),
    /// The checksum matches but the body does not decode.
    #[error("{MANIFEST_FILE} does not decode: {0}")]
    Body(#[from] rmp_serde::decode::Error),
    /// The file was written by a later program.
    #[error(
        "{MANIFEST_FILE} has format version {found}, this program reads up to {FORMAT_VERSION}"
    )]
    FutureVersion {
        /// Its version.
        found: u32,
    },
    /// The disk refused.
    #[error("{MANIFEST_FILE}: {0}")]
    Io(#[from] io::Error),
}

impl Manifest {
    /// Reads the manifest of a directory; none when it has no such file.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, ManifestError> {
        match read_file(disk, MANIFEST_FILE, BYTES_MAX) {
            Ok(bytes) => Self::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes it, atomically and durably.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), ManifestError> {
        Ok(replace_file(disk, MANIFEST_FILE, &self.encode())?)
    }

    fn encode(&self) -> Vec<u8> {
        let body = rmp_serde::to_vec_named(self).expect("rows are plain data");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Decodes the bytes of a manifest file.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(ManifestError::Corrupt("it is cut short"));
        };
        let Some((header, body)) = content.split_first_chunk::<HEADER_BYTES>() else {
            return Err(ManifestError::Corrupt("it is cut short"));
        };
        if !header.starts_with(MAGIC) {
            return Err(ManifestError::Corrupt("it does not begin as a manifest"));
        }
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return Err(ManifestError::Corrupt("the checksum does not match"));
        }
        let field = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        if field(8) != FORMAT_VERSION {
            return Err(ManifestError::FutureVersion { found: field(8) });
        }
        if field(12) as usize != body.len() {
            return Err(ManifestError::Corrupt("the length does not match"));
        }
        Ok(rmp_serde::from_slice(body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grapevine_core::catalogue::{FilterId, Storage};
    use grapevine_core::filter::parameters::{Growth, Parameters};
    use grapevine_core::hash::Seed;
    use grapevine_core::origin::Origin;

    fn manifest() -> Manifest {
        let parameters = Parameters {
            capacity: 77,
            error: 1e-7,
            growth: Growth::Fixed,
        };
        let row = FilterRow {
            id: FilterId::new([3; 16]),
            name: b"caf\xe9".to_vec(),
            parameters,
            seed: Seed::new([4; 16]),
            storage: Storage::Durable,
            hidden: true,
            layers: vec![parameters.layer(0, Origin::new([1; 16]), 1).unwrap()],
            legacy: vec![],
        };
        Manifest {
            position: 1 << 40,
            sequence: 7,
            rows: vec![row],
        }
    }

    #[test]
    fn manifest_survives_its_file() {
        assert_eq!(Manifest::decode(&manifest().encode()).unwrap(), manifest());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = manifest().encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(
                Manifest::decode(&bytes[..length]).is_err(),
                "cut at {length}"
            );
        }
    }
}
