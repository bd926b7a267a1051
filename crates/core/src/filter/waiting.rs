//! Bits for a layer whose array is in its file and not in memory: those lines that have some, until
//! they are merged into the file.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::geometry::{Geometry, LINE_WORDS, Probe};
use super::lines::line_insert;

/// Lines by their index.
pub type WaitingLines = BTreeMap<u64, [u64; LINE_WORDS]>;

/// Bits that wait. Bits only ever go from 0 to 1, as in an array.
#[derive(Default)]
pub(super) struct Waiting(Mutex<WaitingLines>);

impl Waiting {
    /// Sets a key's bits.
    pub(super) fn insert(&self, probe: &Probe, geometry: Geometry) {
        let bits = u32::from(geometry.bits_per_line);
        for at in 0..usize::from(geometry.lines_per_key) {
            let line: [AtomicU64; LINE_WORDS] = Default::default();
            line_insert(&line, probe.words[at], bits);
            self.add(probe.lines[at], &line.map(AtomicU64::into_inner));
        }
    }

    /// ORs a line in; true if a bit of it did not wait yet.
    fn add(&self, index: u64, words: &[u64; LINE_WORDS]) -> bool {
        let mut lines = self.lock();
        let own = lines.entry(index).or_default();
        let news = own.iter().zip(words).any(|(own, new)| new & !own != 0);
        own.iter_mut().zip(words).for_each(|(own, new)| *own |= new);
        news
    }

    /// ORs whole lines in, from word `from` on; true if a bit of them did not wait yet.
    pub(super) fn merge(&self, from: usize, words: &[u64]) -> bool {
        let lines = ((from / LINE_WORDS) as u64..).zip(words.as_chunks::<LINE_WORDS>().0);
        let set = lines.filter(|(_, words)| **words != [0; LINE_WORDS]);
        set.fold(false, |news, (index, words)| self.add(index, words) | news)
    }

    /// ORs what waits for whole lines into `into`, whose first word is word `from`.
    pub(super) fn lay_over(&self, from: usize, into: &mut [u64]) {
        let first = (from / LINE_WORDS) as u64;
        let end = first + (into.len() / LINE_WORDS) as u64;
        for (index, words) in self.lock().range(first..end) {
            let at = (index - first) as usize * LINE_WORDS;
            let own = &mut into[at..at + LINE_WORDS];
            own.iter_mut().zip(words).for_each(|(own, new)| *own |= new);
        }
    }

    /// Number of lines that have some.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// What waits now.
    pub(super) fn lines(&self) -> WaitingLines {
        self.lock().clone()
    }

    /// These lines are in the file. One that got more bits since goes on waiting.
    pub(super) fn settle(&self, written: &WaitingLines) {
        self.lock()
            .retain(|index, words| written.get(index) != Some(words));
    }

    fn lock(&self) -> MutexGuard<'_, WaitingLines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
