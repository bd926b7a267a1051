//! HBBP's datagrams: bytes to values and back, nothing else.
//!
//! One datagram is one message, a key and a payload with a NUL between them, and is never answered.
//! A sealed payload is a nonce and a box; what is in the box is the gateway's to find out, so there
//! is no cryptography here. What programs do with the messages is in `docs/protocols/hbbp.md`.

mod key;
#[cfg(test)]
mod tests;

pub use key::{KeyRefusal, check_key};

/// Where listeners listen.
pub const PORT: u16 = 4950;
/// The group of all nodes on a link, ff02::1, to which messages go.
pub const GROUP: [u16; 8] = [0xff02, 0, 0, 0, 0, 0, 0, 1];
/// The longest datagram: IPv6's least MTU of 1280 without the headers of IPv6 and UDP.
pub const DATAGRAM_BYTES_MAX: usize = 1232;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 24;
/// Bytes that authenticate a box, in front of its cipher text.
pub const MAC_BYTES: usize = 16;
/// How much longer a sealed payload is than the plain one.
pub const SEAL_BYTES: usize = NONCE_BYTES + MAC_BYTES;
/// The nonce of every message that the original seals.
pub const NONCE_ORIGINAL: [u8; NONCE_BYTES] = [0x2a; NONCE_BYTES];

/// A message, plain or sealed: nothing in it says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What the payload is for. Any bytes but NUL, and possibly none.
    pub key: &'a [u8],
    /// Any bytes, and possibly none.
    pub payload: &'a [u8],
}

/// A datagram is longer than any listener takes. The original cuts it and goes on with the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a datagram of more than {DATAGRAM_BYTES_MAX} bytes")]
pub struct TooLong;

impl<'a> Packet<'a> {
    /// Reads a datagram. One without a NUL is a key with an empty payload, which listeners take
    /// and no client sends.
    ///
    /// # Errors
    /// When it is longer than [`DATAGRAM_BYTES_MAX`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, TooLong> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(TooLong);
        }
        let end = datagram.iter().position(|byte| *byte == 0);
        let (key, payload) = end.map_or((datagram, &[][..]), |end| {
            (&datagram[..end], &datagram[end + 1..])
        });
        Ok(Packet { key, payload })
    }

    /// Writes the datagram.
    ///
    /// # Errors
    /// When there is a NUL in the key, or all of it is longer than [`DATAGRAM_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        if self.key.contains(&0) {
            return Err(EncodeError::Nul);
        }
        let bytes = self.key.len() + 1 + self.payload.len();
        if bytes > DATAGRAM_BYTES_MAX {
            return Err(EncodeError::TooLong { bytes });
        }
        let mut datagram = Vec::with_capacity(bytes);
        datagram.extend_from_slice(self.key);
        datagram.push(0);
        datagram.extend_from_slice(self.payload);
        Ok(datagram)
    }
}

/// Why there is no datagram for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A NUL ends the key.
    #[error("there is a NUL in the key")]
    Nul,
    /// It would be longer than any listener takes.
    #[error("a message of {bytes} bytes, key and all; at most {DATAGRAM_BYTES_MAX} go")]
    TooLong {
        /// How long it would be.
        bytes: usize,
    },
}

/// A sealed payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// Not a secret, and never the same twice for one pair of keys, unless the original made it.
    pub nonce: &'a [u8; NONCE_BYTES],
    /// What authenticates the cipher text. The message's key is not covered.
    pub mac: &'a [u8; MAC_BYTES],
    /// As long as the plain payload.
    pub cipher_text: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Reads a payload; nothing when it is too short to be sealed.
    #[must_use]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (nonce, rest) = payload.split_first_chunk()?;
        let (mac, cipher_text) = rest.split_first_chunk()?;
        Some(Sealed {
            nonce,
            mac,
            cipher_text,
        })
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [self.nonce.as_slice(), self.mac, self.cipher_text].concat()
    }
}
