//! Requests for many keys, read before their line has ended: what has arrived of them is carried
//! out, so that only an unfinished key has to be kept.

use super::command::{cut, word};

/// The beginning of a `multi` or `bulk`: everything before its first key.
///
/// What follows it are the line's keys, in pieces that are cut anywhere:
/// [`Keys::ended_in`](super::Keys::ended_in) gives those of every piece but the last,
/// [`Keys::of`](super::Keys::of) those of the last, without its line end. Together they are the
/// keys that [`parse`](super::parse) gives for the whole line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning<'a> {
    /// Whether the keys are to be added, not only checked.
    pub adds: bool,
    /// Filter that is meant.
    pub filter: &'a [u8],
    /// Bytes before the first key.
    pub length: usize,
}

impl<'a> Beginning<'a> {
    /// The beginning of an unfinished line; nothing while the line may still become an error, and
    /// for any other command.
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let (word, rest) = word(line);
        let adds = match word {
            b"b" | b"bulk" => true,
            b"m" | b"multi" => false,
            _ => return None,
        };
        let (filter, keys) = cut(rest?);
        let keys = keys.filter(|keys| !keys.is_empty())?;
        Some(Beginning {
            adds,
            filter,
            length: line.len() - keys.len(),
        })
    }
}
