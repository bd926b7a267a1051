//! Segments: the files of the log.
//!
//! The header, 64 bytes, little-endian: magic `GrpvnLog`, format version (u32), header length
//! (u32), start position (u64), id of the data directory (16 bytes), salt (u64), zeros (8),
//! xxh3-64 of the 56 bytes before it. Frames follow; the frame at log position `p` lies at file
//! offset `64 + p - start`.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::{DirectoryId, Position};
use crate::disk::{Disk, DiskFile, OpenMode};

/// First eight bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"GrpvnLog";
/// The format this program writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Length of a segment's header in bytes.
pub const SEGMENT_HEADER_LEN: usize = 64;
/// Highest start of a segment: no log gets there, and what is added to it does not overflow.
pub const START_MAX: Position = 1 << 62;

const CHECKED_LEN: usize = 56;
const NAME_DIGITS: usize = 20;
const NAME_SUFFIX: &str = ".log";
/// How a segment's file ends while it has no header yet.
pub(crate) const UNFINISHED: &str = ".new";

/// A decoded segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Log position of the first frame.
    pub start: Position,
    /// Id of the data directory that the segment belongs to.
    pub id: DirectoryId,
    /// Secret number mixed into the frames' checksums, so that an entry's bytes cannot be made to
    /// look like a frame.
    pub salt: u64,
}

/// Why bytes are not a usable segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderFault {
    /// The file ends within the header.
    #[error("the file ends within the header")]
    Short,
    /// It is no segment.
    #[error("no segment header")]
    Magic,
    /// Not what was written.
    #[error("header checksum {found:016x}, computed {computed:016x}")]
    Checksum {
        /// As given in the header.
        found: u64,
        /// Of the bytes that are there.
        computed: u64,
    },
    /// The name of the file says a start that no log reaches.
    #[error("start {named}, the limit is {START_MAX}")]
    Beyond {
        /// As given by the file name.
        named: Position,
    },
    /// Written by a later program.
    #[error("format version {found}, this program reads up to {FORMAT_VERSION}")]
    Version {
        /// As given in the header.
        found: u32,
    },
    /// The name of the file says another start.
    #[error("the header says start {found}, the name {named}")]
    Start {
        /// As given in the header.
        found: Position,
        /// As given by the file name.
        named: Position,
    },
}

impl SegmentHeader {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(SEGMENT_HEADER_LEN as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.start.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.id);
        bytes[40..48].copy_from_slice(&self.salt.to_le_bytes());
        let checksum = xxh3_64(&bytes[..CHECKED_LEN]);
        bytes[56..64].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Decodes and checks a header of the segment whose name says `named`.
    pub fn decode(bytes: &[u8], named: Position) -> Result<Self, HeaderFault> {
        let bytes: &[u8; SEGMENT_HEADER_LEN] = bytes.first_chunk().ok_or(HeaderFault::Short)?;
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        if bytes[..8] != SEGMENT_MAGIC {
            return Err(HeaderFault::Magic);
        }
        let (found, computed) = (word(56), xxh3_64(&bytes[..CHECKED_LEN]));
        if found != computed {
            return Err(HeaderFault::Checksum { found, computed });
        }
        let version = word(8) as u32;
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Version { found: version });
        }
        if word(16) != named {
            return Err(HeaderFault::Start {
                found: word(16),
                named,
            });
        }
        let id = std::array::from_fn(|index| bytes[24 + index]);
        Ok(Self {
            start: named,
            id,
            salt: word(40),
        })
    }

    /// File offset of a log position at or after the start.
    #[must_use]
    pub fn offset(&self, position: Position) -> u64 {
        SEGMENT_HEADER_LEN as u64 + (position - self.start)
    }
}

/// Path of the segment that starts at `start`.
pub(crate) fn path(dir: &str, start: Position) -> String {
    format!("{dir}/{start:020}{NAME_SUFFIX}")
}

/// Start position of the segment with this file name; `None` for any other file.
pub(crate) fn parse_name(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(NAME_SUFFIX)?;
    let all_digits = digits.len() == NAME_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits {
        digits.parse().ok()
    } else {
        None
    }
}

/// Starts of all segments in `dir`, ascending.
pub(super) fn list(disk: &dyn Disk, dir: &str) -> io::Result<Vec<Position>> {
    // Twenty digits each: the order of names is the order of numbers.
    Ok(disk
        .list(dir)?
        .iter()
        .filter_map(|name| parse_name(name))
        .collect())
}

/// Where the file of the segment lies until its header is durable.
pub(super) fn unfinished_path(dir: &str, start: Position) -> String {
    format!("{}{UNFINISHED}", path(dir, start))
}

/// Makes an empty segment; it is durable, name and header, when this returns. It has its name only
/// once its header is durable, so a segment without a whole header is damaged, not being begun.
pub(super) fn create(
    disk: &dyn Disk,
    dir: &str,
    header: &SegmentHeader,
) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&unfinished_path(dir, header.start), OpenMode::Create)?;
    begin(disk, dir, file, header)
}

/// Makes an empty segment of the file that was opened for it at its [`unfinished_path`].
pub(super) fn begin(
    disk: &dyn Disk,
    dir: &str,
    file: Arc<dyn DiskFile>,
    header: &SegmentHeader,
) -> io::Result<Arc<dyn DiskFile>> {
    file.write_at(0, &header.encode())?;
    file.sync()?;
    disk.rename(
        &unfinished_path(dir, header.start),
        &path(dir, header.start),
    )?;
    disk.sync_dir(dir)?;
    Ok(file)
}

/// Reads and checks the header of the segment named `start`.
pub(super) fn read_header(
    file: &dyn DiskFile,
    start: Position,
) -> io::Result<Result<SegmentHeader, HeaderFault>> {
    if start > START_MAX {
        return Ok(Err(HeaderFault::Beyond { named: start }));
    }
    if file.len()? < SEGMENT_HEADER_LEN as u64 {
        return Ok(Err(HeaderFault::Short));
    }
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    file.read_at(0, &mut bytes)?;
    Ok(SegmentHeader::decode(&bytes, start))
}
