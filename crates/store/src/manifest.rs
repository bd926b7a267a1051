//! The manifest: everything but the bits of filters as of one position of the log. Together with the layer files it
//! is the snapshot that recovery starts from; what the log holds from that position on is
//! replayed over it.
//!
//! ```text
//! "GrpvnMan" | version u32 | body length u32 | body (MessagePack) | XXH3-64 of all before
//! ```

use std::io;

use grapevine_core::bitmap::{Bitmap, BitmapError, ROWS_MAX};
use grapevine_core::catalogue::FilterRow;
use grapevine_core::membership::{GroupIdentity, MemberRow};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::disk::{Disk, read_file, replace_file};
use crate::journal::Bookmark;
use crate::log::Position;

/// Name of the file in the data directory.
pub const MANIFEST_FILE: &str = "manifest";
const MAGIC: &[u8; 8] = b"GrpvnMan";
const FORMAT_VERSION: u32 = 2;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// Largest manifest read: room for about a million filters.
pub(crate) const BYTES_MAX: u64 = 1 << 30;

/// What is known of everything before the position of [`bookmark`](Self::bookmark).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Replay the log from here; what was in before.
    pub bookmark: Bookmark,
    /// All filters.
    pub rows: Vec<FilterRow>,
    /// Names that do not answer on this node.
    pub hidden: Vec<ByteBuf>,
    /// The group that the node belongs to; none before its first start has ended.
    pub group: Option<GroupIdentity>,
    /// All nodes that belong to the group, or did.
    pub members: Vec<MemberRow>,
    /// The bits of the bitmap, as [`Bitmap::to_bytes`] gives them; none in what a program wrote
    /// that had no bitmap yet.
    #[serde(default)]
    pub bitmap: ByteBuf,
    /// The file of rows has everything before this position, at least; 0 where there is none.
    #[serde(default)]
    pub tables: Position,
}

impl Manifest {
    /// Where to replay the log from.
    pub fn position(&self) -> Position {
        self.bookmark.at.position
    }
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
    /// The bitmap in it is larger than any.
    #[error("{MANIFEST_FILE}: {0}")]
    Bitmap(#[from] BitmapError),
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
        file(self)
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
        let manifest: Manifest = rmp_serde::from_slice(body)?;
        Bitmap::from_bytes(ROWS_MAX, &manifest.bitmap)?;
        Ok(manifest)
    }
}

/// The bytes of a manifest file with that body.
fn file(body: &impl Serialize) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(body).expect("rows are plain data");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Note;
    use grapevine_core::catalogue::{FilterId, LayerRow, Scope, Storage};
    use grapevine_core::filter::parameters::{Growth, Parameters};
    use grapevine_core::hash::Seed;
    use grapevine_core::history::History;
    use grapevine_core::membership::NodeId;
    use grapevine_core::origin::Origin;
    use grapevine_core::version::Dot;
    use std::collections::BTreeMap;

    fn marks(sequence: u64) -> History {
        let mut history = History::default();
        history.mark(sequence, 77);
        history
    }

    fn manifest() -> Manifest {
        let parameters = Parameters {
            capacity: 77,
            error: 1e-7,
            growth: Growth::Fixed,
        };
        let me = Origin::new([1; 16]);
        let created = Dot {
            origin: me,
            sequence: 3,
        };
        let row = FilterRow {
            id: FilterId::new([3; 16]),
            created,
            scope: Scope::Group,
            name: b"caf\xe9".to_vec(),
            parameters,
            seed: Seed::new([4; 16]),
            storage: Storage::Durable,
            layers: vec![LayerRow {
                shape: parameters.layer(0, me, 1).unwrap(),
                opened: created,
            }],
            legacy: vec![],
            other: BTreeMap::new(),
        };
        let note = |position| Note {
            position,
            version: [(me, position / 3)].into_iter().collect(),
        };
        Manifest {
            bookmark: Bookmark {
                at: note(1 << 40),
                local: 7,
                earlier: vec![note(9)],
                histories: BTreeMap::from([(me, marks(5))]),
                forks: BTreeMap::from([(me, 6)]),
            },
            rows: vec![row],
            hidden: vec![ByteBuf::from(b"caf\xe9")],
            group: Some(GroupIdentity {
                id: [5; 16],
                seed: Seed::new([6; 16]),
                met: true,
            }),
            members: vec![MemberRow {
                node: NodeId::new([8; 32]),
                version: 2,
                body: vec![0x80],
            }],
            bitmap: ByteBuf::from(vec![0, 0x40, 1]),
            tables: 1 << 39,
        }
    }

    #[test]
    fn manifest_survives_its_file() {
        assert_eq!(Manifest::decode(&manifest().encode()).unwrap(), manifest());
    }

    #[test]
    fn a_manifest_without_a_bitmap_is_read_and_one_that_is_too_long_is_refused() {
        #[derive(Serialize)]
        struct Before {
            bookmark: Bookmark,
            rows: Vec<FilterRow>,
            hidden: Vec<ByteBuf>,
            group: Option<GroupIdentity>,
            members: Vec<MemberRow>,
        }
        let Manifest {
            bookmark,
            rows,
            hidden,
            group,
            members,
            ..
        } = manifest();
        let before = Before {
            bookmark,
            rows,
            hidden,
            group,
            members,
        };
        let read = Manifest::decode(&file(&before)).unwrap();
        let expected = Manifest {
            bitmap: ByteBuf::new(),
            tables: 0,
            ..manifest()
        };
        assert_eq!(read, expected);
        for (length, taken) in [(8150, true), (8151, false)] {
            let manifest = Manifest {
                bitmap: ByteBuf::from(vec![1; length]),
                ..manifest()
            };
            let read = Manifest::decode(&manifest.encode());
            assert_eq!(read.is_ok(), taken, "{read:?}");
        }
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
