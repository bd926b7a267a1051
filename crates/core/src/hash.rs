//! The one hash of a key. SipHash-1-3 with a 128-bit result (Aumasson and Bernstein 2012, the
//! reduced-round variant that Rust's own maps rely on): portable, keyed by a secret seed, so that
//! nobody who does not know the seed can craft keys that collide. Every layer of a filter is
//! probed from this one value; see [`crate::filter::geometry`].

use serde::{Deserialize, Serialize};
use siphasher::sip128::SipHasher13;

/// The secret key of a filter's hash, 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed(#[serde(with = "serde_bytes")] [u8; 16]);

impl Seed {
    /// A seed from 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Seed(bytes)
    }

    /// The 16 bytes, for a file or the wire.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The hash of one key under this seed.
    #[inline]
    pub fn hash(self, key: &[u8]) -> KeyHash {
        let hash = SipHasher13::new_with_key(&self.0).hash(key);
        KeyHash {
            low: hash.h1,
            high: hash.h2,
        }
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(secret)")
    }
}

/// The 128-bit hash of a key: all that a filter, the log and a peer ever see of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash {
    /// Picks the lines.
    pub low: u64,
    /// Picks the bits in them.
    pub high: u64,
}

impl KeyHash {
    /// Length of the serialised form.
    pub const BYTES: usize = 16;

    /// The serialised form: `low` then `high`, little endian.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.low.to_le_bytes());
        bytes[8..].copy_from_slice(&self.high.to_le_bytes());
        bytes
    }

    /// Reads the serialised form.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let value = u128::from_le_bytes(bytes);
        KeyHash {
            low: value as u64,
            high: (value >> 64) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_seed_and_key_and_survives_its_bytes() {
        let (a, b) = (Seed::new([1; 16]), Seed::new([2; 16]));
        assert_eq!(a.hash(b"key"), a.hash(b"key"));
        assert_ne!(a.hash(b"key"), b.hash(b"key"));
        assert_ne!(a.hash(b"key"), a.hash(b"kez"));
        let hash = a.hash(b"key");
        assert_eq!(KeyHash::from_bytes(hash.to_bytes()), hash);
    }

    /// The value is part of the file format: another one would lose every stored filter.
    #[test]
    fn hash_is_pinned() {
        let hash = Seed::new(*b"0123456789abcdef").hash(b"grapevine");
        assert_eq!(hash.to_bytes(), PINNED);
    }

    const PINNED: [u8; 16] = [
        233, 162, 94, 125, 44, 251, 10, 203, 231, 80, 195, 101, 107, 9, 2, 187,
    ];
}
