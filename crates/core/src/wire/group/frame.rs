//! Frames: what an admitted peer sends. A header of five bytes (length of what follows as a
//! little-endian u32, then the kind), then that many bytes.

use thiserror::Error;

use super::opening::{GOODBYE_BYTES_MAX, OPENING_BYTES_MAX};

/// Bytes before a frame's content.
pub const HEADER_BYTES: usize = 5;

/// The largest content of a data frame, in bytes.
pub const DATA_BYTES_MAX: usize = 512 << 10;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes of the layer above.
    Data,
    /// Nothing: the sender is there and has nothing to say.
    Heartbeat,
    /// The first frame of each side, an [`Opening`](super::Opening).
    Opening,
    /// The last frame of a side, a [`Goodbye`](super::Goodbye).
    Goodbye,
    /// What only a newer version knows: to be passed over. As long as a data frame at most.
    Newer(u8),
}

impl Kind {
    /// The largest content of such a frame, in bytes.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Kind::Data | Kind::Newer(_) => DATA_BYTES_MAX,
            Kind::Heartbeat => 0,
            Kind::Opening => OPENING_BYTES_MAX,
            Kind::Goodbye => GOODBYE_BYTES_MAX,
        }
    }

    const fn byte(self) -> u8 {
        match self {
            Kind::Data => 0,
            Kind::Heartbeat => 1,
            Kind::Opening => 2,
            Kind::Goodbye => 3,
            Kind::Newer(byte) => byte,
        }
    }

    const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Kind::Data,
            1 => Kind::Heartbeat,
            2 => Kind::Opening,
            3 => Kind::Goodbye,
            newer => Kind::Newer(newer),
        }
    }
}

/// A frame within the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it holds.
    pub kind: Kind,
    /// Its content.
    pub content: &'a [u8],
}

/// What stands at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole frame, which ends after so many bytes.
    Whole(Frame<'a>, usize),
    /// Only the beginning of one: at least this many bytes are needed in all. At most the header
    /// and the limit of its kind.
    Partial(usize),
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// It claims more content than its kind may have.
    #[error("a frame of kind {} claims {claimed} bytes, the limit is {limit}", kind.byte())]
    TooLarge {
        /// Its kind.
        kind: Kind,
        /// What its header says.
        claimed: u32,
        /// What is allowed.
        limit: usize,
    },
}

/// Reads the frame at the start of `bytes`. A claim over the limit is refused as soon as the
/// header is there, before anybody makes room for the content.
///
/// # Errors
/// A length over the limit of the kind.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, FrameError> {
    let Some((&[a, b, c, d, kind], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Decoded::Partial(HEADER_BYTES));
    };
    let kind = Kind::from_byte(kind);
    let claimed = u32::from_le_bytes([a, b, c, d]);
    let limit = kind.bytes_max();
    let length = usize::try_from(claimed).unwrap_or(usize::MAX);
    if length > limit {
        return Err(FrameError::TooLarge {
            kind,
            claimed,
            limit,
        });
    }
    Ok(match rest.get(..length) {
        Some(content) => Decoded::Whole(Frame { kind, content }, HEADER_BYTES + length),
        None => Decoded::Partial(HEADER_BYTES + length),
    })
}

/// Appends a frame.
///
/// # Errors
/// Content over the limit of its kind; nothing is appended then.
pub fn push_frame(out: &mut Vec<u8>, kind: Kind, content: &[u8]) -> Result<(), FrameError> {
    let claimed = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let limit = kind.bytes_max();
    if content.len() > limit {
        return Err(FrameError::TooLarge {
            kind,
            claimed,
            limit,
        });
    }
    out.reserve(HEADER_BYTES + content.len());
    out.extend_from_slice(&claimed.to_le_bytes());
    out.push(kind.byte());
    out.extend_from_slice(content);
    Ok(())
}
