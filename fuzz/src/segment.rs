//! Segments of the log, made from parts that are right, wrong or anything.

use arbitrary::Arbitrary;
use grapevine_store::log::DirectoryId;
use grapevine_store::log::frame::{FRAME_HEADER_LEN, FRAME_MAGIC};
use grapevine_store::log::segment::SegmentHeader;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Id of the data directory that the segments belong to.
pub const ID: DirectoryId = [7; 16];
/// Salt of the segments.
pub const SALT: u64 = 0x5EED;

/// One segment file.
#[derive(Arbitrary, Clone, Debug)]
pub struct Segment {
    /// Bytes instead of a right header.
    pub header: Option<Vec<u8>>,
    /// What follows.
    pub parts: Vec<Part>,
}

/// A stretch of a segment.
#[derive(Arbitrary, Clone, Debug)]
pub enum Part {
    /// A right frame with these entries; it says that the log was synced so far back, at most up
    /// to its own place.
    Frame {
        /// The entries.
        entries: Vec<Vec<u8>>,
        /// Bytes before the frame that it does not call synced.
        unsynced: u16,
    },
    /// A frame whose checksum is right, with this payload and these claims.
    Sealed {
        /// Its payload.
        payload: Vec<u8>,
        /// Added to its position.
        position_shift: u8,
        /// What it calls synced.
        synced: u64,
    },
    /// Anything.
    Bytes(Vec<u8>),
}

impl Segment {
    /// The file of a segment that starts at `start`.
    pub fn file(&self, start: u64) -> Vec<u8> {
        let header = SegmentHeader {
            start,
            id: ID,
            salt: SALT,
        };
        let mut bytes = match &self.header {
            Some(bytes) => bytes.clone(),
            None => header.encode().to_vec(),
        };
        let first = bytes.len() as u64;
        for part in &self.parts {
            let position = start.wrapping_add(bytes.len() as u64 - first);
            match part {
                Part::Frame { entries, unsynced } => {
                    let synced = position.saturating_sub(u64::from(*unsynced));
                    seal(&mut bytes, &payload(entries), position, synced);
                }
                Part::Sealed {
                    payload,
                    position_shift,
                    synced,
                } => {
                    let position = position.wrapping_add(u64::from(*position_shift));
                    seal(&mut bytes, payload, position, *synced);
                }
                Part::Bytes(part) => bytes.extend_from_slice(part),
            }
        }
        bytes
    }

    /// The entries, if all of the segment is right.
    pub fn entries(&self) -> Option<Vec<&[u8]>> {
        let mut all = Vec::new();
        for part in &self.parts {
            match part {
                Part::Frame { entries, .. } => all.extend(entries.iter().map(Vec::as_slice)),
                Part::Sealed { .. } | Part::Bytes(_) => return None,
            }
        }
        self.header.is_none().then_some(all)
    }
}

fn payload(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for entry in entries {
        payload.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        payload.extend_from_slice(entry);
    }
    payload
}

fn seal(bytes: &mut Vec<u8>, payload: &[u8], position: u64, synced: u64) {
    let start = bytes.len();
    bytes.extend_from_slice(&FRAME_MAGIC);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&position.to_le_bytes());
    bytes.extend_from_slice(&synced.to_le_bytes());
    let checksum = xxh3_64_with_seed(payload, xxh3_64_with_seed(&bytes[start..], SALT));
    bytes.extend_from_slice(&checksum.to_le_bytes());
    debug_assert_eq!(bytes.len() - start, FRAME_HEADER_LEN);
    bytes.extend_from_slice(payload);
}
