//! The shape of a layer: how many 512-bit lines, how many lines a key touches, how many bits it
//! sets in each, and where.
//!
//! One line per key while the error may be 1 in 100 or more, two independent lines with the bits
//! split between them below that: the variance of a line's load is what a blocked filter pays
//! for touching one cache line, and two lines average it out (about 3 % over the classic size at
//! 1e-4, where one line costs 14 %).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::model::{BITS_PER_LINE_MAX, LINE_BITS, line_false_positive};
use crate::hash::KeyHash;
use crate::significant::Significant;

/// Smallest error a layer can be asked for.
pub const ERROR_MIN: f64 = 1e-30;
/// From this error on a key touches one line, below it two.
const ONE_LINE_FROM: f64 = 0.01;
/// Most lines of one layer: 2^34 lines are 1 TiB.
pub const LINES_MAX: u64 = 1 << 34;
/// Words of a line.
pub const LINE_WORDS: usize = 8;
/// Bytes of a line.
pub const LINE_BYTES: u64 = LINE_BITS / 8;

/// The shape of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Geometry {
    /// Number of 512-bit lines.
    pub lines: u64,
    /// Lines that a key touches: 1 or 2.
    pub lines_per_key: u8,
    /// Bits that a key sets in each line it touches.
    pub bits_per_line: u8,
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lines,
            lines_per_key,
            bits_per_line,
        } = self;
        write!(
            f,
            "{lines} lines, {lines_per_key} for each key with {bits_per_line} bits in each"
        )
    }
}

/// Why a layer cannot have the shape asked for.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// The error rate is outside what a filter can promise.
    #[error("error rate {} is not between {ERROR_MIN:e} and 1 (exclusive)", Significant(*.0))]
    Error(f64),
    /// No keys to hold.
    #[error("capacity must be at least 1")]
    Empty,
    /// The layer would be larger than any machine's memory.
    #[error(
        "a layer for {capacity} keys at error rate {} needs {lines} lines of 64 bytes, the limit is {LINES_MAX}",
        Significant(*error)
    )]
    TooLarge {
        /// Keys asked for.
        capacity: u64,
        /// Error rate asked for.
        error: f64,
        /// Lines it would take.
        lines: f64,
    },
    /// A shape read from a file or a peer that no filter would choose.
    #[error("impossible shape: {0}")]
    Impossible(Geometry),
}

impl Geometry {
    /// The smallest shape that holds `capacity` keys at a false-positive rate of at most `error`.
    pub fn for_capacity(capacity: u64, error: f64) -> Result<Self, GeometryError> {
        if !(ERROR_MIN..1.0).contains(&error) {
            return Err(GeometryError::Error(error));
        }
        if capacity == 0 {
            return Err(GeometryError::Empty);
        }
        let lines_per_key = if error >= ONE_LINE_FROM { 1u8 } else { 2 };
        let error_per_line = error.powf(1.0 / f64::from(lines_per_key));
        let (load, bits) = (1..=BITS_PER_LINE_MAX)
            .map(|bits| (load_for(error_per_line, bits), bits))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .expect("there is at least one bit count");
        let lines = (capacity as f64 * f64::from(lines_per_key) / load).ceil();
        if lines > LINES_MAX as f64 {
            return Err(GeometryError::TooLarge {
                capacity,
                error,
                lines,
            });
        }
        let lines = (lines as u64).max(u64::from(lines_per_key));
        Ok(Geometry {
            lines,
            lines_per_key,
            bits_per_line: bits as u8,
        })
    }

    /// Checks a shape that came from outside.
    pub fn validate(self) -> Result<Self, GeometryError> {
        let possible = (1..=2).contains(&self.lines_per_key)
            && (1..=BITS_PER_LINE_MAX as u8).contains(&self.bits_per_line)
            && (u64::from(self.lines_per_key)..=LINES_MAX).contains(&self.lines);
        if possible {
            Ok(self)
        } else {
            Err(GeometryError::Impossible(self))
        }
    }

    /// Memory that the lines take, in bytes. Of a shape from outside it is asked for before the
    /// shape is checked.
    pub fn bytes(self) -> u64 {
        self.lines.saturating_mul(LINE_BYTES)
    }

    /// The expected false-positive rate with `keys` keys inside.
    pub fn false_positive_rate(self, keys: u64) -> f64 {
        let load = keys as f64 * f64::from(self.lines_per_key) / self.lines as f64;
        line_false_positive(load, usize::from(self.bits_per_line))
            .powi(i32::from(self.lines_per_key))
    }

    /// Where the key's bits are: the lines it touches and the word its bits in them come from.
    #[inline]
    pub(super) fn probe(self, hash: KeyHash) -> Probe {
        let first = self.first_line(hash);
        let mut probe = Probe {
            lines: [first, first],
            words: [hash.high, 0],
        };
        if self.lines_per_key == 2 {
            (probe.lines[1], probe.words[1]) = self.second_line(hash, first);
        }
        probe
    }

    /// The first line of a key; its word there is the upper half of the hash.
    #[inline]
    pub(super) fn first_line(self, hash: KeyHash) -> u64 {
        scale(hash.low, self.lines)
    }

    /// The second line of a key, another than the first, and its word there.
    #[inline]
    pub(super) fn second_line(self, hash: KeyHash, first: u64) -> (u64, u64) {
        let second = first + 1 + scale(hash.low.wrapping_mul(LINE_MIX), self.lines - 1);
        let line = if second >= self.lines {
            second - self.lines
        } else {
            second
        };
        (line, remix(hash.high ^ hash.low.rotate_left(32)))
    }
}

/// The lines of a key and the pseudo-random words its bit positions are cut from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    pub(super) lines: [u64; 2],
    pub(super) words: [u64; 2],
}

/// Odd multipliers (from the golden ratio and from Steele and Vigna's 2021 table).
const LINE_MIX: u64 = 0x9E37_79B9_7F4A_7C15;
const WORD_MIX: u64 = 0xD134_2543_DE82_EF95;

/// `hash` scaled to `0..range` by its upper bits (Lemire 2019).
#[inline]
fn scale(hash: u64, range: u64) -> u64 {
    ((u128::from(hash) * u128::from(range)) >> 64) as u64
}

/// A fresh word whose low bits are as good as its high ones.
#[inline]
pub(super) fn remix(word: u64) -> u64 {
    let word = (word ^ (word >> 32)).wrapping_mul(WORD_MIX);
    word ^ (word >> 29)
}

/// The largest mean number of keys a line may hold so that `bits` probes stay under `error`.
fn load_for(error: f64, bits: usize) -> f64 {
    let (mut low, mut high) = (0.0, 2.0 * LINE_BITS as f64);
    for _ in 0..48 {
        let middle = 0.5 * (low + high);
        if line_false_positive(middle, bits) <= error {
            low = middle;
        } else {
            high = middle;
        }
    }
    low.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits per key over the classic Bloom filter's 1.44·log2(1/p).
    fn overhead(capacity: u64, error: f64) -> f64 {
        let geometry = Geometry::for_capacity(capacity, error).unwrap();
        let bits = (geometry.lines * LINE_BITS) as f64 / capacity as f64;
        bits / (error.recip().log2() * std::f64::consts::LOG2_E)
    }

    #[test]
    fn shape_holds_its_promise_and_costs_little_over_the_classic_size() {
        for (error, most) in [
            (0.1, 1.03),
            (1e-2, 1.06),
            (1e-3, 1.03),
            (1e-4, 1.04),
            (1e-6, 1.10),
        ] {
            let over = overhead(1_000_000, error);
            assert!(over <= most, "{error}: {over}");
            let geometry = Geometry::for_capacity(1_000_000, error).unwrap();
            assert!(geometry.false_positive_rate(1_000_000) <= error * 1.000_001);
        }
    }

    #[test]
    fn every_capacity_down_to_one_key_has_a_shape() {
        for capacity in [1, 2, 3, 10, 10_001, 1_000_000_000, 20_000_000_000] {
            for error in [0.5, 0.1, 1e-2, 1e-4, 1e-9, 1e-15] {
                let geometry = Geometry::for_capacity(capacity, error).unwrap();
                assert_eq!(geometry.validate(), Ok(geometry));
            }
        }
        assert!(matches!(
            Geometry::for_capacity(u64::MAX, 1e-3),
            Err(GeometryError::TooLarge { .. })
        ));
        assert_eq!(Geometry::for_capacity(0, 0.1), Err(GeometryError::Empty));
        for error in [0.0, 1.0, -1.0, f64::NAN, 1e-300] {
            assert!(Geometry::for_capacity(10, error).is_err());
        }
    }

    #[test]
    fn a_shape_from_outside_takes_no_less_memory_than_it_says() {
        let shape = Geometry {
            lines: u64::MAX / 2,
            lines_per_key: 2,
            bits_per_line: 8,
        };
        assert_eq!(shape.bytes(), u64::MAX);
        assert_eq!(shape.validate(), Err(GeometryError::Impossible(shape)));
    }
}
