//! The plain table: p2ptbl's collection, which is nothing but its text. The functions here take
//! whole texts and make new ones; who keeps them in files is elsewhere.
//!
//! Its state is a row for each key. Of several rows with one key the one with the largest version
//! stays; among equal versions the one whose line comes first in the order of bytes. A version that
//! is no signed number of 64 bits is less than any that is, and two such are equal. That is an
//! order of all rows of a key, so merging is commutative, associative and idempotent, and tables
//! that were merged in any order are the same bytes: one line a key, sorted by the bytes of the key
//! with the tab behind it.
//!
//! Reading: `mod.rs` (merge, get, show, update), `filter.rs` (what a program leaves of a table).

mod filter;
#[cfg(test)]
mod tests;

pub use filter::{filter, without_versions};

use std::cmp::Ordering;

use crate::wire::p2ptbl::{END, Row, SEPARATOR, column_order, lines, rows};

/// Most bytes of one table.
pub const TABLE_BYTES_MAX: usize = 1 << 30;
/// Most rows that are merged at once, those of one key counted one by one.
pub const ROWS_MAX: usize = 1 << 24;

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// A text is too long.
    #[error("{bytes} bytes are more than a table may have ({TABLE_BYTES_MAX})")]
    Bytes {
        /// What there would be, or more.
        bytes: usize,
    },
    /// The texts together have too many rows.
    #[error("these are more rows than are merged at once ({ROWS_MAX})")]
    Rows,
}

/// No version is greater than the largest there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the row has the largest version there is ({}): no update can follow it",
    i64::MAX
)]
pub struct LastVersion;

/// One table of all rows of `texts`, in whatever order they are.
///
/// # Errors
/// A text, or the table, would be longer than [`TABLE_BYTES_MAX`]; there are more than [`ROWS_MAX`]
/// rows.
pub fn merge(texts: &[&[u8]]) -> Result<Vec<u8>, TooLarge> {
    for text in texts {
        check_length(text.len())?;
    }
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for row in texts.iter().flat_map(|text| rows(text)) {
        if entries.len() == ROWS_MAX {
            return Err(TooLarge::Rows);
        }
        entries.push(Entry::of(row));
    }
    // A stable sort takes runs that are sorted already as they are, and each text mostly is one.
    entries.sort_by(Entry::key_order);
    let rows_of_a_key =
        entries.chunk_by(|one, other| one.prefix == other.prefix && one.row.key == other.row.key);
    // A row that had fewer columns is longer than its line was.
    let bytes = entries.iter().map(|entry| entry.row.encoded_bytes()).sum();
    let mut table = Vec::with_capacity(usize::min(bytes, TABLE_BYTES_MAX));
    for rows in rows_of_a_key {
        let Some(row) = rows.iter().map(|entry| entry.row).reduce(winner) else {
            continue;
        };
        check_length(table.len() + row.encoded_bytes())?;
        row.encode(&mut table);
    }
    Ok(table)
}

fn check_length(bytes: usize) -> Result<(), TooLarge> {
    if bytes > TABLE_BYTES_MAX {
        return Err(TooLarge::Bytes { bytes });
    }
    Ok(())
}

/// A row with the beginning of its key, which settles most comparisons without reading the key.
struct Entry<'a> {
    /// The first bytes of the key and the tab behind it, most significant first.
    prefix: u64,
    row: Row<'a>,
}

impl<'a> Entry<'a> {
    fn of(row: Row<'a>) -> Self {
        let mut prefix = [0; 8];
        let taken = row.key.len().min(prefix.len());
        prefix[..taken].copy_from_slice(&row.key[..taken]);
        if let Some(next) = prefix.get_mut(taken) {
            *next = SEPARATOR;
        }
        Entry {
            prefix: u64::from_be_bytes(prefix),
            row,
        }
    }

    fn key_order(&self, other: &Self) -> Ordering {
        self.prefix
            .cmp(&other.prefix)
            .then_with(|| column_order(self.row.key, other.row.key))
    }
}

/// The row that stays of two with one key.
fn winner<'a>(one: Row<'a>, other: Row<'a>) -> Row<'a> {
    let order = one.number().cmp(&other.number()).then_with(|| {
        column_order(other.version, one.version).then_with(|| other.value.cmp(one.value))
    });
    match order {
        Ordering::Less => other,
        Ordering::Equal | Ordering::Greater => one,
    }
}

/// The values of a key: one for each of its rows in a text that was not merged yet. A line of the
/// key alone, without any tab, has none.
pub fn values<'a>(text: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    lines(text)
        .filter(move |line| line.starts_with(key))
        .filter(|line| line.contains(&SEPARATOR))
        .map(Row::parse)
        .filter(move |row| row.key == key)
        .map(|row| row.value)
}

/// Each line of a text without its version: what people are shown. A line without a tab stands as
/// it is.
#[must_use]
pub fn show(text: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(text.len());
    for line in lines(text) {
        let row = Row::parse(line);
        shown.extend_from_slice(row.key);
        if row.key.len() < line.len() {
            shown.push(SEPARATOR);
            shown.extend_from_slice(row.value);
        }
        shown.push(END);
    }
    shown
}

/// The version of a key's next row: `step` + 1 above what the text has, or above 0 when it has no
/// row of the key, or none with a number. Close to the largest version the step is shortened.
///
/// # Errors
/// The key already has the largest version.
pub fn next_version(text: &[u8], key: &[u8], step: u16) -> Result<i64, LastVersion> {
    let current = rows(text)
        .filter(|row| row.key == key)
        .filter_map(|row| row.number())
        .max()
        .unwrap_or(0);
    let next = current.checked_add(1).ok_or(LastVersion)?;
    Ok(next.saturating_add(step.into()))
}
