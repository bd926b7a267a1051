//! p2ptbl's rows: lines of text to values and back, nothing else.
//!
//! A table, in a file and in a packet (there packed by gzip), is lines `KEY TAB VERSION TAB VALUE`,
//! without a header and without escaping. The value is the rest of the line: tabs in it separate
//! columns that only users know of. All of it is bytes; nothing needs to be UTF-8, and nothing is
//! changed by reading and writing it again. What the lines of a table mean together is in
//! `docs/protocols/p2ptbl.md`.

mod packing;
#[cfg(test)]
mod tests;

pub use packing::{PACK_RATIO_MAX, Packet, pack};

use std::cmp::Ordering;

/// What separates key, version and value.
pub const SEPARATOR: u8 = b'\t';
/// What ends a row.
pub const END: u8 = b'\n';
/// Where a table's packets are sent to: this and the table's name are their HBBP key.
pub const HBBP_KEY_PREFIX: &str = "p2ptbl/";
/// Most bytes of rows that one packet may unpack to.
pub const UNPACKED_BYTES_MAX: usize = 1 << 20;

/// Why a text cannot be part of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A key of no bytes.
    #[error("the key is empty")]
    EmptyKey,
    /// A separator in a key.
    #[error("the key contains a tab")]
    TabInKey,
    /// A line end in a key.
    #[error("the key contains a line end")]
    LineEndInKey,
    /// A line end in a value.
    #[error("the value contains a line end")]
    LineEndInValue,
}

/// A line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Any bytes but tab and line end.
    pub key: &'a [u8],
    /// The version as it is written: `5`, `+5`, `007`; also what is no number at all.
    pub version: &'a [u8],
    /// Any bytes but line end.
    pub value: &'a [u8],
}

impl<'a> Row<'a> {
    /// The row that a line (without its end) is. Columns that are not there are empty.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Self {
        let (key, rest) = split(line).unwrap_or((line, &[]));
        let (version, value) = split(rest).unwrap_or((rest, &[]));
        Row {
            key,
            version,
            value,
        }
    }

    /// Whether key and value can be written as one row.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn check(key: &[u8], value: &[u8]) -> Result<(), RowError> {
        if key.is_empty() {
            Err(RowError::EmptyKey)
        } else if key.contains(&SEPARATOR) {
            Err(RowError::TabInKey)
        } else if key.contains(&END) {
            Err(RowError::LineEndInKey)
        } else if value.contains(&END) {
            Err(RowError::LineEndInValue)
        } else {
            Ok(())
        }
    }

    /// The version as a number; none for a text that is no signed number of 64 bits.
    #[must_use]
    pub fn number(&self) -> Option<i64> {
        number(self.version)
    }

    /// Whether every program that speaks p2ptbl can take the row as it is: it has a key and a
    /// number as its version.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        !self.key.is_empty() && self.number().is_some()
    }

    /// Whether every program that speaks p2ptbl hands the row on as it is. The originals are shell
    /// scripts: they cut keys at blanks, strip blanks from both ends of a value and expand
    /// backslashes, and a key with a control character stands elsewhere when sorted.
    #[must_use]
    pub fn is_handed_on_whole(&self) -> bool {
        let plain = |key: &[u8]| key.iter().all(|byte| *byte > b' ' && *byte != b'\\');
        let blank = |end: Option<&u8>| matches!(end, Some(b' ' | b'\t'));
        self.is_well_formed()
            && plain(self.key)
            && !blank(self.value.first())
            && !blank(self.value.last())
            && !self.value.iter().any(|byte| matches!(byte, b'\\' | 0))
    }

    /// Bytes of the row with its line end.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        self.key.len() + self.version.len() + self.value.len() + 3
    }

    /// Appends the row, with all three columns and a line end.
    pub fn encode(&self, text: &mut Vec<u8>) {
        text.reserve(self.encoded_bytes());
        text.extend_from_slice(self.key);
        text.push(SEPARATOR);
        text.extend_from_slice(self.version);
        text.push(SEPARATOR);
        text.extend_from_slice(self.value);
        text.push(END);
    }
}

/// The lines of a text in their order, without their ends; the last one needs none.
pub fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr::memchr(END, rest);
        let line = &rest[..end.unwrap_or(rest.len())];
        rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
        Some(line)
    })
}

/// The rows of a text in their order. A line without a key, such as an empty one, is none.
pub fn rows(text: &[u8]) -> impl Iterator<Item = Row<'_>> {
    lines(text)
        .map(Row::parse)
        .filter(|row| !row.key.is_empty())
}

/// The number that a version's text is: decimal, with `+`, `-` or leading zeros.
#[must_use]
pub fn number(version: &[u8]) -> Option<i64> {
    let (negative, digits) = match version {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    // Counted down from 0, because there is one more number below it than above.
    let below = digits.iter().try_fold(0i64, |below, digit| {
        let digit = digit.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        below.checked_mul(10)?.checked_sub(i64::from(digit))
    })?;
    if negative {
        Some(below)
    } else {
        below.checked_neg()
    }
}

/// The order of two columns in sorted text: by their bytes, each with the tab that follows it. So
/// `a` with a byte below the tab stands before `a` alone.
#[must_use]
pub fn column_order(one: &[u8], other: &[u8]) -> Ordering {
    let common = one.len().min(other.len());
    one[..common].cmp(&other[..common]).then_with(|| {
        let next = |column: &[u8]| column.get(common).copied().unwrap_or(SEPARATOR);
        next(one).cmp(&next(other))
    })
}

fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(SEPARATOR, text)?;
    Some((&text[..at], &text[at + 1..]))
}
