//! What the server answered, counted.

use std::collections::BTreeMap;

/// Most different texts that are kept apart; a server that quotes the key back would fill memory.
const TEXTS_MAX: usize = 16;
/// Bytes of a text that are kept.
const TEXT_BYTES_MAX: usize = 120;

/// Counts by text, with a bound on the texts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct TextCounts {
    counts: BTreeMap<String, u64>,
    other: u64,
}

impl TextCounts {
    /// Adds `count` to what is counted under `text`.
    pub(super) fn add(&mut self, text: &str, count: u64) {
        if let Some(known) = self.counts.get_mut(text) {
            *known += count;
        } else if self.counts.len() < TEXTS_MAX {
            self.counts.insert(text.to_owned(), count);
        } else {
            self.other += count;
        }
    }

    /// Adds all of `counts`.
    pub(super) fn add_all(&mut self, counts: &Self) {
        for (text, count) in counts.iter() {
            self.add(text, count);
        }
        self.other += counts.other;
    }

    /// Texts with their counts, in the order of the texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts
            .iter()
            .map(|(text, count)| (text.as_str(), *count))
    }

    /// What was counted beyond the texts that are kept apart.
    pub(super) fn other(&self) -> u64 {
        self.other
    }

    /// The sum.
    pub(super) fn total(&self) -> u64 {
        self.other + self.counts.values().sum::<u64>()
    }
}

/// Answers per key and errors per reply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Tally {
    /// Keys answered yes.
    pub(super) yes: u64,
    /// Keys answered no.
    pub(super) no: u64,
    errors: TextCounts,
}

impl Tally {
    /// Counts the answers to keys.
    pub(super) fn answers(&mut self, yes: u64, no: u64) {
        self.yes += yes;
        self.no += no;
    }

    /// Counts one error reply.
    pub(super) fn error(&mut self, reply: &[u8]) {
        self.errors.add(&escape(reply), 1);
    }

    /// Adds what another connection or thread counted.
    pub(super) fn add(&mut self, tally: &Self) {
        self.answers(tally.yes, tally.no);
        self.errors.add_all(&tally.errors);
    }

    /// Error replies by text.
    pub(super) fn errors(&self) -> &TextCounts {
        &self.errors
    }

    /// Number of error replies.
    pub(super) fn errors_total(&self) -> u64 {
        self.errors.total()
    }
}

/// The start of `bytes` as printable ASCII.
pub(super) fn escape(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("{}{dots}", cut.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_in_number_and_length() {
        let mut tally = Tally::default();
        for number in 0..100 {
            tally.error(format!("no such key {number}").as_bytes());
        }
        tally.error(b"no such key 0");
        assert_eq!(tally.errors().iter().count(), TEXTS_MAX);
        assert_eq!(tally.errors().other(), 100 - TEXTS_MAX as u64);
        assert_eq!(tally.errors_total(), 101);
        assert_eq!(tally.errors().iter().next(), Some(("no such key 0", 2)));
        assert!(escape(&[b'x'; 1000]).len() < 130);
        assert_eq!(escape(b"a\x1b\n"), "a\\x1b\\n");
    }

    #[test]
    fn tallies_add_up() {
        let (mut left, mut right) = (Tally::default(), Tally::default());
        left.answers(1, 2);
        left.error(b"x");
        right.answers(10, 20);
        right.error(b"x");
        right.error(b"y");
        left.add(&right);
        assert_eq!((left.yes, left.no, left.errors_total()), (11, 22, 3));
        assert_eq!(
            left.errors().iter().collect::<Vec<_>>(),
            [("x", 2), ("y", 1)]
        );
    }
}
