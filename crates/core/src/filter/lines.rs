//! The bits of a layer: 512-bit lines of atomic words. Reading takes no lock; bits only ever go
//! from 0 to 1.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::geometry::{Geometry, LINE_WORDS, Probe, remix};
use crate::hash::KeyHash;
use crate::memory::{prefetch, zeroed_words};

/// Bits of a position in a line.
const POSITION_BITS: u32 = 9;
/// Positions cut from one word before it is mixed again.
const POSITIONS_PER_WORD: u32 = 7;

/// The bit array of one layer.
pub(super) struct Lines {
    /// The words, with room to start on a cache line.
    words: Vec<AtomicU64>,
    /// Index of the first word that lies on a cache-line boundary.
    start: usize,
    count: usize,
}

impl Lines {
    /// All-zero lines for `geometry`.
    pub(super) fn zeroed(geometry: Geometry) -> Self {
        let count = usize::try_from(geometry.lines).expect("lines fit the address space");
        let words = zeroed_words(count * LINE_WORDS + LINE_WORDS - 1);
        let start = words
            .as_ptr()
            .align_offset(LINE_WORDS * size_of::<AtomicU64>());
        Lines {
            words,
            start: start.min(LINE_WORDS - 1),
            count,
        }
    }

    /// None, of an array that is not in memory. No line of it may be asked for.
    pub(super) fn elsewhere(geometry: Geometry) -> Self {
        Lines {
            words: Vec::new(),
            start: 0,
            count: usize::try_from(geometry.lines).expect("lines fit the address space"),
        }
    }

    /// Number of words in all lines.
    pub(super) fn word_count(&self) -> usize {
        self.count * LINE_WORDS
    }

    #[inline]
    fn line(&self, index: u64) -> &[AtomicU64; LINE_WORDS] {
        let from = self.start + index as usize * LINE_WORDS;
        self.words[from..from + LINE_WORDS]
            .as_array()
            .expect("a line has eight words")
    }

    #[inline]
    pub(super) fn prefetch(&self, probe: &Probe, geometry: Geometry) {
        prefetch(&self.line(probe.lines[0])[0]);
        if geometry.lines_per_key == 2 {
            prefetch(&self.line(probe.lines[1])[0]);
        }
    }

    #[inline]
    pub(super) fn contains(&self, probe: &Probe, geometry: Geometry) -> bool {
        let bits = u32::from(geometry.bits_per_line);
        if !line_contains(self.line(probe.lines[0]), probe.words[0], bits) {
            return false;
        }
        geometry.lines_per_key == 1
            || line_contains(self.line(probe.lines[1]), probe.words[1], bits)
    }

    /// [`contains`](Self::contains) for one key alone: most absent keys end at the first line, so
    /// the second is worked out only when it is needed.
    #[inline]
    pub(super) fn contains_key(&self, hash: KeyHash, geometry: Geometry) -> bool {
        let bits = u32::from(geometry.bits_per_line);
        let first = geometry.first_line(hash);
        if !line_contains(self.line(first), hash.high, bits) {
            return false;
        }
        if geometry.lines_per_key == 1 {
            return true;
        }
        let (second, word) = geometry.second_line(hash, first);
        line_contains(self.line(second), word, bits)
    }

    /// Sets the key's bits; true if at least one of them was not set before.
    #[inline]
    pub(super) fn insert(&self, probe: &Probe, geometry: Geometry) -> bool {
        let bits = u32::from(geometry.bits_per_line);
        let mut changed = line_insert(self.line(probe.lines[0]), probe.words[0], bits);
        if geometry.lines_per_key == 2 {
            changed |= line_insert(self.line(probe.lines[1]), probe.words[1], bits);
        }
        changed
    }

    /// Copies words from index `from` into `into`; false when they are all zero.
    pub(super) fn copy(&self, from: usize, into: &mut [u64]) -> bool {
        let words = &self.words[self.start + from..][..into.len()];
        let mut any = 0;
        for (copy, word) in into.iter_mut().zip(words) {
            *copy = word.load(Relaxed);
            any |= *copy;
        }
        any != 0
    }

    /// ORs `words` into the words from index `from`; true if a bit was new.
    pub(super) fn merge(&self, from: usize, words: &[u64]) -> bool {
        let own = &self.words[self.start + from..][..words.len()];
        let mut changed = false;
        for (mine, theirs) in own.iter().zip(words) {
            if *theirs & !mine.load(Relaxed) != 0 {
                changed |= mine.fetch_or(*theirs, Relaxed) & *theirs != *theirs;
            }
        }
        changed
    }

    /// Set bits of line `index`.
    pub(super) fn line_weight(&self, index: u64) -> u32 {
        self.line(index)
            .iter()
            .map(|word| word.load(Relaxed).count_ones())
            .sum()
    }
}

#[inline]
fn line_contains(line: &[AtomicU64; LINE_WORDS], mut word: u64, bits: u32) -> bool {
    let mut all = 1;
    let mut left = bits;
    loop {
        let mut positions = word;
        for _ in 0..left.min(POSITIONS_PER_WORD) {
            let cell = &line[(positions >> 6) as usize % LINE_WORDS];
            all &= cell.load(Relaxed) >> (positions % 64);
            positions >>= POSITION_BITS;
        }
        if left <= POSITIONS_PER_WORD {
            return all & 1 == 1;
        }
        left -= POSITIONS_PER_WORD;
        word = remix(word.rotate_left(1));
    }
}

/// Sets the positions that `word` gives in a line; true if one was not set.
#[inline]
pub(super) fn line_insert(line: &[AtomicU64; LINE_WORDS], mut word: u64, bits: u32) -> bool {
    let mut changed = false;
    let mut left = bits;
    loop {
        let mut positions = word;
        for _ in 0..left.min(POSITIONS_PER_WORD) {
            let cell = &line[(positions >> 6) as usize % LINE_WORDS];
            let bit = 1 << (positions % 64);
            if cell.load(Relaxed) & bit == 0 {
                changed |= cell.fetch_or(bit, Relaxed) & bit == 0;
            }
            positions >>= POSITION_BITS;
        }
        if left <= POSITIONS_PER_WORD {
            return changed;
        }
        left -= POSITIONS_PER_WORD;
        word = remix(word.rotate_left(1));
    }
}
