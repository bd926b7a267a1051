//! One layer file of a C server, held as the bytes it was read from.

use super::LegacyHashes;
use std::ops::Range;

/// Bytes before the bits: magic, number of hashes, count, zeros.
pub const HEADER_BYTES: usize = 512;
/// Most hashes per key a layer may use. The server derives the number from the error rate, so
/// this admits rates down to 2⁻²⁵⁶; its default first layer uses 17.
pub const HASHES_MAX: u32 = 256;
/// Largest layer file, header included: 64 GiB.
pub const LAYER_BYTES_MAX: u64 = 64 << 30;

const MAGIC: u32 = 0xCB10_05DD;
/// Header bytes in use; the rest are zero.
const HEADER_USED_BYTES: usize = 16;

/// Why some bytes are not a layer of a C server. Nothing is kept of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerError {
    /// There is no room for the header and one byte of bits.
    #[error("layer has {found} bytes, at least {min} are needed")]
    TooShort {
        /// Bytes given.
        found: u64,
        /// Least bytes of a layer.
        min: u64,
    },
    /// The layer is larger than [`LAYER_BYTES_MAX`].
    #[error("layer has {found} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        found: u64,
        /// Most bytes of a layer.
        max: u64,
    },
    /// The first four bytes are not those of a layer.
    #[error("layer starts with {found:#010x}, not {expected:#010x}")]
    Magic {
        /// What the bytes start with, little-endian.
        found: u32,
        /// What a layer starts with.
        expected: u32,
    },
    /// The number of hashes is zero or above [`HASHES_MAX`].
    #[error("layer uses {found} hashes, 1 to {max} are allowed")]
    Hashes {
        /// Number in the header.
        found: u32,
        /// Most hashes allowed.
        max: u32,
    },
    /// There are fewer bits than hashes, so a hash would have no bit to look at.
    #[error("layer has {bits} bits for {hashes} hashes, at least one each is needed")]
    Partition {
        /// Bits after the header.
        bits: u64,
        /// Number of hashes.
        hashes: u32,
    },
    /// A byte of the header that is always zero is not: the file is damaged or of another kind.
    #[error("layer has a byte other than zero at offset {offset} of its header")]
    Padding {
        /// Offset of the first such byte.
        offset: usize,
    },
    /// Each counted key set at least one bit, so this many keys cannot have been added.
    #[error("layer counts {found} keys but has only {max} bits set")]
    Count {
        /// Count in the header.
        found: u64,
        /// Bits set.
        max: u64,
    },
    /// A bit behind the last partition is set, which no key can have done.
    #[error("layer has {found} bits set behind its last partition, at bit {first} and later")]
    StrayBits {
        /// How many.
        found: u64,
        /// First bit that belongs to no partition.
        first: u64,
    },
}

/// A layer of a C server: read-only, and bit-exact with it.
///
/// The bits are divided into one partition per hash; hash *i* selects one bit of partition *i*.
#[derive(Clone, PartialEq, Eq)]
pub struct BloomdLayer {
    /// The file as it was: header, then bits, the most significant bit of a byte first.
    bytes: Box<[u8]>,
    hashes: u32,
    /// Bits of one partition, at least 1.
    partition_bits: u64,
    count: u64,
    /// Keys it was made for.
    capacity: u64,
}

impl BloomdLayer {
    /// Reads a whole layer file, checking all of it. The capacity, which the file does not say, is
    /// estimated from its size; see [`with_capacity`](Self::with_capacity).
    ///
    /// # Errors
    /// A [`LayerError`] which names what is wrong and its limit; nothing is allocated then.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LayerError> {
        let header = Header::check(bytes)?;
        Ok(header.into_layer(bytes.into()))
    }

    /// [`from_bytes`](Self::from_bytes) without a copy.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes); the bytes are dropped.
    pub fn from_vec(bytes: Vec<u8>) -> Result<Self, LayerError> {
        let header = Header::check(&bytes)?;
        Ok(header.into_layer(bytes.into_boxed_slice()))
    }

    /// The same layer with the capacity in keys that is known from elsewhere: the filter's
    /// first capacity times a power of its growth.
    #[must_use]
    pub fn with_capacity(mut self, capacity: u64) -> Self {
        self.capacity = capacity;
        self
    }

    /// Whether the key behind `hashes` was (probably) added: false is certain.
    #[must_use]
    pub fn contains(&self, hashes: &LegacyHashes) -> bool {
        (0..self.hashes).all(|i| {
            let bit = u64::from(i) * self.partition_bits + hashes.get(i) % self.partition_bits;
            self.bytes[HEADER_BYTES + (bit / 8) as usize] & (0x80 >> (bit % 8)) != 0
        })
    }

    /// The file, byte for byte: what a snapshot stores and [`from_bytes`](Self::from_bytes) reads.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Size of the file in bytes, header included, as the server counts storage.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Hashes per key.
    #[must_use]
    pub fn hashes(&self) -> u32 {
        self.hashes
    }

    /// Bits of each of the [`hashes`](Self::hashes) partitions.
    #[must_use]
    pub fn partition_bits(&self) -> u64 {
        self.partition_bits
    }

    /// Keys added, by the server's count.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Keys the layer was made for.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The share of absent keys that this layer takes for present, from 0 to 1: the product of the
    /// partitions' fill, counted and not estimated from the number of keys. Reads all bits.
    #[must_use]
    pub fn false_positive_rate(&self) -> f64 {
        let bits = &self.bytes[HEADER_BYTES..];
        (0..u64::from(self.hashes))
            .map(|i| {
                let start = i * self.partition_bits;
                let ones = count_ones(bits, start..start + self.partition_bits);
                ones as f64 / self.partition_bits as f64
            })
            .product()
    }
}

impl std::fmt::Debug for BloomdLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BloomdLayer")
            .field("bytes", &self.bytes.len())
            .field("hashes", &self.hashes)
            .field("partition_bits", &self.partition_bits)
            .field("count", &self.count)
            .field("capacity", &self.capacity)
            .finish()
    }
}

/// The checked header of a layer.
struct Header {
    hashes: u32,
    partition_bits: u64,
    count: u64,
}

impl Header {
    fn check(bytes: &[u8]) -> Result<Self, LayerError> {
        let length = bytes.len() as u64;
        if length > LAYER_BYTES_MAX {
            return Err(LayerError::TooLong {
                found: length,
                max: LAYER_BYTES_MAX,
            });
        }
        let too_short = LayerError::TooShort {
            found: length,
            min: HEADER_BYTES as u64 + 1,
        };
        let (header, bits) = bytes.split_at_checked(HEADER_BYTES).ok_or(too_short)?;
        if bits.is_empty() {
            return Err(too_short);
        }
        let (words, _) = header.as_chunks::<4>();
        let magic = u32::from_le_bytes(words[0]);
        if magic != MAGIC {
            return Err(LayerError::Magic {
                found: magic,
                expected: MAGIC,
            });
        }
        let hashes = u32::from_le_bytes(words[1]);
        if hashes == 0 || hashes > HASHES_MAX {
            return Err(LayerError::Hashes {
                found: hashes,
                max: HASHES_MAX,
            });
        }
        let padding = &header[HEADER_USED_BYTES..];
        if let Some(offset) = padding.iter().position(|byte| *byte != 0) {
            return Err(LayerError::Padding {
                offset: HEADER_USED_BYTES + offset,
            });
        }
        let count =
            u64::from(u32::from_le_bytes(words[2])) | u64::from(u32::from_le_bytes(words[3])) << 32;
        let partition_bits = check_bits(bits, hashes, count)?;
        Ok(Self {
            hashes,
            partition_bits,
            count,
        })
    }

    fn into_layer(self, bytes: Box<[u8]>) -> BloomdLayer {
        // The server takes k = round(ln 2 · bits / capacity): the nearest guess backwards.
        let bits = (bytes.len() - HEADER_BYTES) as f64 * 8.0;
        let capacity = (std::f64::consts::LN_2 * bits / f64::from(self.hashes)).round() as u64;
        BloomdLayer {
            bytes,
            hashes: self.hashes,
            partition_bits: self.partition_bits,
            count: self.count,
            capacity,
        }
    }
}

/// Checks the bits against the header; returns the bits of one partition.
fn check_bits(bits: &[u8], hashes: u32, count: u64) -> Result<u64, LayerError> {
    let total = bits.len() as u64 * 8;
    let partition_bits = total / u64::from(hashes);
    if partition_bits == 0 {
        return Err(LayerError::Partition {
            bits: total,
            hashes,
        });
    }
    let used = partition_bits * u64::from(hashes);
    let stray = count_ones(bits, used..total);
    if stray > 0 {
        return Err(LayerError::StrayBits {
            found: stray,
            first: used,
        });
    }
    let ones = count_ones(bits, 0..used);
    if count > ones {
        return Err(LayerError::Count {
            found: count,
            max: ones,
        });
    }
    Ok(partition_bits)
}

/// Bits set in `range`, counted in bits from the most significant one of the first byte.
fn count_ones(bits: &[u8], range: Range<u64>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = ((range.start / 8) as usize, ((range.end - 1) / 8) as usize);
    let first_mask = 0xff_u8 >> (range.start % 8);
    let last_mask = 0xff_u8 << (7 - (range.end - 1) % 8);
    if first == last {
        return u64::from((bits[first] & first_mask & last_mask).count_ones());
    }
    let (words, rest) = bits[first + 1..last].as_chunks::<8>();
    let inner: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()))
        .sum();
    let rest: u64 = rest.iter().map(|byte| u64::from(byte.count_ones())).sum();
    let edges = (bits[first] & first_mask).count_ones() + (bits[last] & last_mask).count_ones();
    inner + rest + u64::from(edges)
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
