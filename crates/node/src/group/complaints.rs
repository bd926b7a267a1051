//! Log lines that others can cause: each at most once in a while.

use std::collections::BTreeMap;

/// Between two lines that say the same, in milliseconds.
const EVERY_MS: u64 = 60_000;
/// Different lines that are remembered; beyond that the oldest may come again early.
const REMEMBERED_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Complaints(BTreeMap<String, u64>);

impl Complaints {
    /// Logs a warning, unless the same one was logged lately.
    pub(super) fn warn(&mut self, now: u64, line: &str) {
        if self.is_due(now, line) {
            tracing::warn!("{line}");
        }
    }

    fn is_due(&mut self, now: u64, line: &str) -> bool {
        if self.0.get(line).is_some_and(|last| now < last + EVERY_MS) {
            return false;
        }
        if self.0.len() >= REMEMBERED_MAX {
            let oldest = self.0.iter().min_by_key(|(_, last)| **last);
            let oldest = oldest.map(|(line, _)| line.clone());
            oldest.map(|line| self.0.remove(&line));
        }
        self.0.insert(line.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_in_a_while_and_memory_is_bounded() {
        let mut complaints = Complaints::default();
        assert!(complaints.is_due(0, "a"));
        assert!(!complaints.is_due(EVERY_MS - 1, "a"));
        assert!(complaints.is_due(EVERY_MS, "a"));
        for index in 0..2 * REMEMBERED_MAX as u64 {
            assert!(complaints.is_due(EVERY_MS + 1 + index, &index.to_string()));
        }
        assert_eq!(complaints.0.len(), REMEMBERED_MAX);
    }
}
