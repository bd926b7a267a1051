//! Frames: the checksummed unit of the log.
//!
//! A frame is a fixed header and a payload of length-prefixed entries, all little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic `GvF1` |
//! | 4 | 4 | payload length |
//! | 8 | 8 | position of this frame in the log |
//! | 16 | 8 | position known to be synced when the frame was written |
//! | 24 | 8 | checksum: xxh3-64 of the payload, seeded with that of bytes 0..24 and the salt |

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Position;

/// First four bytes of every frame.
pub const FRAME_MAGIC: [u8; 4] = *b"GvF1";
/// Length of a frame's header in bytes.
pub const FRAME_HEADER_LEN: usize = 32;
/// Largest payload in bytes that a reader accepts, and so the most that a writer may be set to.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// Bytes in front of each entry: its length.
pub const ENTRY_PREFIX_LEN: usize = 4;

const CHECKED_LEN: usize = 24;

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Payload length in bytes.
    pub length: u32,
    /// Where the frame starts in the log.
    pub position: Position,
    /// Everything before this position was durable when the frame was written.
    pub synced: Position,
    /// What the checksum must be.
    pub checksum: u64,
}

/// Why bytes are not the frame that belongs at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameFault {
    /// The bytes end within a frame.
    #[error("the frame needs {needed} bytes and {available} are there")]
    Short {
        /// Length of header, or header and payload.
        needed: u64,
        /// Bytes left.
        available: u64,
    },
    /// It does not start like a frame.
    #[error("no frame starts here")]
    Magic,
    /// The payload would be longer than any frame.
    #[error("payload of {length} bytes, the limit is {MAX_PAYLOAD}")]
    Length {
        /// As given in the header.
        length: u32,
    },
    /// It is a frame of another place.
    #[error("the frame names position {found}, it lies at {expected}")]
    Position {
        /// Where the bytes lie.
        expected: Position,
        /// Where they say they belong.
        found: Position,
    },
    /// It claims that bytes after it were synced before it was written.
    #[error("the frame at {position} claims that the log was synced up to {synced}")]
    Synced {
        /// Where it lies.
        position: Position,
        /// What it claims.
        synced: Position,
    },
    /// Header or payload are not what was written.
    #[error("checksum {found:016x}, computed {computed:016x}")]
    Checksum {
        /// As given in the header.
        found: u64,
        /// Of the bytes that are there.
        computed: u64,
    },
    /// An entry's length leads out of the payload, or bytes are left after the last entry.
    #[error("the entry at payload offset {offset} leads out of the payload")]
    Entry {
        /// Offset in the payload.
        offset: u32,
    },
}

/// Fills in the header of a frame whose payload is in place: `frame` is room for the header
/// followed by the payload, which is at most [`MAX_PAYLOAD`] long.
pub(super) fn seal(frame: &mut [u8], position: Position, synced: Position, salt: u64) {
    let (header, payload) = frame.split_at_mut(FRAME_HEADER_LEN);
    debug_assert!(payload.len() <= MAX_PAYLOAD && synced <= position);
    header[0..4].copy_from_slice(&FRAME_MAGIC);
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..16].copy_from_slice(&position.to_le_bytes());
    header[16..24].copy_from_slice(&synced.to_le_bytes());
    let checksum = checksum(&header[..CHECKED_LEN], payload, salt);
    header[24..32].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(header: &[u8], payload: &[u8], salt: u64) -> u64 {
    xxh3_64_with_seed(payload, xxh3_64_with_seed(header, salt))
}

fn array<const N: usize>(bytes: &[u8; FRAME_HEADER_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

impl FrameHeader {
    /// Decodes a header and checks all that can be told without the payload. `position` is where
    /// the bytes lie.
    pub fn decode(bytes: &[u8; FRAME_HEADER_LEN], position: Position) -> Result<Self, FrameFault> {
        if array::<4>(bytes, 0) != FRAME_MAGIC {
            return Err(FrameFault::Magic);
        }
        let header = Self {
            length: u32::from_le_bytes(array(bytes, 4)),
            position: u64::from_le_bytes(array(bytes, 8)),
            synced: u64::from_le_bytes(array(bytes, 16)),
            checksum: u64::from_le_bytes(array(bytes, 24)),
        };
        if header.position != position {
            return Err(FrameFault::Position {
                expected: position,
                found: header.position,
            });
        }
        if header.length as usize > MAX_PAYLOAD {
            return Err(FrameFault::Length {
                length: header.length,
            });
        }
        if header.synced > position {
            return Err(FrameFault::Synced {
                position,
                synced: header.synced,
            });
        }
        Ok(header)
    }

    /// Length of header and payload in bytes.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        FRAME_HEADER_LEN + self.length as usize
    }

    /// Position after the frame.
    #[must_use]
    pub fn end(&self) -> Position {
        self.position.saturating_add(self.frame_len() as u64)
    }
}

/// Decodes the frame at the start of `bytes`, which lie at `position`: its header and its payload,
/// whose checksum and entries are right. Bytes after the frame are not looked at.
pub fn decode(
    bytes: &[u8],
    position: Position,
    salt: u64,
) -> Result<(FrameHeader, &[u8]), FrameFault> {
    let short = |needed: usize| FrameFault::Short {
        needed: needed as u64,
        available: bytes.len() as u64,
    };
    let head = bytes.first_chunk().ok_or_else(|| short(FRAME_HEADER_LEN))?;
    let header = FrameHeader::decode(head, position)?;
    let frame = bytes
        .get(..header.frame_len())
        .ok_or_else(|| short(header.frame_len()))?;
    let payload = &frame[FRAME_HEADER_LEN..];
    let computed = checksum(&head[..CHECKED_LEN], payload, salt);
    if computed != header.checksum {
        return Err(FrameFault::Checksum {
            found: header.checksum,
            computed,
        });
    }
    for entry in Entries::new(payload) {
        entry?;
    }
    Ok((header, payload))
}

/// The entries of a payload: offset of each one's length prefix, and its bytes. Ends after the
/// first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    payload: &'a [u8],
    offset: usize,
}

impl<'a> Entries<'a> {
    /// The entries of `payload`.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { payload, offset: 0 }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(u32, &'a [u8]), FrameFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self
            .payload
            .get(self.offset..)
            .filter(|rest| !rest.is_empty())?;
        let offset = self.offset as u32;
        let entry = rest
            .split_first_chunk::<ENTRY_PREFIX_LEN>()
            .and_then(|(length, rest)| rest.get(..u32::from_le_bytes(*length) as usize));
        match entry {
            Some(entry) => {
                self.offset += ENTRY_PREFIX_LEN + entry.len();
                Some(Ok((offset, entry)))
            }
            None => {
                self.offset = self.payload.len();
                Some(Err(FrameFault::Entry { offset }))
            }
        }
    }
}
