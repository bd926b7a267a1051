//! The hashes of one key, shared by all layers of a C server.

use super::spooky::spooky_128;

/// The largest prime below 2⁶⁴, by which the C server folds its derived hashes.
const PRIME: u64 = 18_446_744_073_709_551_557;

/// What a C server derives from one key: the 128-bit murmur3 and spooky hashes, both with seed 0.
///
/// Made once per key and good for every layer, whatever its number of hashes: the first four are
/// the words of the two hashes, the others are combined from them on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyHashes {
    /// Two words of murmur3 (x64 variant), then two of spooky.
    words: [u64; 4],
}

impl LegacyHashes {
    /// Hashes `key` up to its first NUL byte: keys were C strings, so for the C server
    /// `a`, `a\0` and `a\0b` are the same key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        let end = memchr::memchr(0, key).unwrap_or(key.len());
        let key = &key[..end];
        let murmur = fastmurmur3::murmur3_x64_128(key, 0);
        let [spooky_low, spooky_high] = spooky_128(key);
        Self {
            words: [
                murmur as u64,
                (murmur >> 64) as u64,
                spooky_low,
                spooky_high,
            ],
        }
    }

    /// Hash number `index`, counted from 0: the four words themselves, then
    /// `h1 + (index·h3 mod P)`, in wrapping 64-bit arithmetic, P the largest 64-bit prime.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> u64 {
        match self.words.get(index as usize) {
            Some(word) => *word,
            None => {
                let product = u64::from(index).wrapping_mul(self.words[3]);
                // P is above 2⁶³, so one subtraction is the whole remainder.
                let folded = if product >= PRIME {
                    product - PRIME
                } else {
                    product
                };
                self.words[1].wrapping_add(folded)
            }
        }
    }
}

#[cfg(test)]
#[path = "hashes_tests.rs"]
mod tests;
