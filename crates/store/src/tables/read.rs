//! Reading: single rows, pages of them, what tables there are.

use std::ops::{Bound, ControlFlow};

use grapevine_core::table::{Row, TableRow};

use super::record::{after_prefix, after_table, record_key, split_key};
use super::state::{State, Table};
use super::{KeyedRow, TableError, Tables};
use crate::log::Position;

/// What is at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The row, unless it is gone.
    pub row: Option<Row>,
    /// What was seen may be told once this position is as durable as promised: that of the change
    /// that made it, or of a row with a time to live the last one of all tables.
    pub position: Position,
}

/// Rows of a table in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Rows that are not gone, unless all were asked for.
    pub rows: Vec<KeyedRow>,
    /// The key after which the next page begins; none: the table ends here.
    pub next: Option<Vec<u8>>,
    /// As in [`Lookup`]. Who wants to know of everything that changes after the first of several
    /// pages was read asks for the changes since its position.
    pub position: Position,
}

/// What is known of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSummary {
    /// Its description.
    pub table: TableRow,
    /// Rows that are no tombstones. Some of them may have expired.
    pub rows: u64,
    /// Tombstones.
    pub tombstones: u64,
}

impl Tables {
    /// All tables, by name.
    ///
    /// # Errors
    /// When rows are missing here, and so may be tables.
    pub fn list(&self) -> Result<Vec<TableSummary>, TableError> {
        let state = self.whole()?;
        let present = state
            .tables
            .values()
            .filter(|table| !table.row.is_dropped());
        Ok(present.map(|table| summary(&state, table)).collect())
    }

    /// The table of that name.
    ///
    /// # Errors
    /// When rows are missing here, and so may be tables.
    pub fn summary(&self, name: &[u8]) -> Result<Option<TableSummary>, TableError> {
        let state = self.whole()?;
        Ok(state.present(name).map(|table| summary(&state, table)))
    }

    /// The row of a key at the time `now`, in milliseconds since 1970; none: there is no such
    /// table.
    ///
    /// # Errors
    /// When the file of rows cannot be read, or rows are missing here.
    pub fn get(&self, name: &[u8], key: &[u8], now: u64) -> Result<Option<Lookup>, TableError> {
        let state = self.whole()?;
        if state.present(name).is_none() {
            return Ok(None);
        }
        let record = state.get_one(record_key(name, key))?;
        // What was removed for good was settled long before. That a row expires later is no change
        // of it, and has no position of its own.
        let position = record
            .as_ref()
            .map_or(0, |record| match record.row.expires {
                None => record.changed,
                Some(_) => state.position,
            });
        let row = record.map(|record| record.row);
        Ok(Some(Lookup {
            row: row.filter(|row| !row.is_gone(now)),
            position,
        }))
    }

    /// The row of a key also if it is gone; none when there is no such table, or nothing is known
    /// of the key.
    ///
    /// # Errors
    /// When the file of rows cannot be read, or rows are missing here.
    pub fn find(&self, name: &[u8], key: &[u8]) -> Result<Option<Row>, TableError> {
        let record = self.whole()?.get_one(record_key(name, key))?;
        Ok(record.map(|record| record.row))
    }

    /// Up to `rows_max` (at least one) rows behind the key `after` (empty: from the first on), no
    /// more than about `bytes_max` bytes of keys and values; none: there is no such table. `now`
    /// as in [`get`](Self::get).
    ///
    /// # Errors
    /// When the file of rows cannot be read, or rows are missing here.
    pub fn page(
        &self,
        name: &[u8],
        after: &[u8],
        rows_max: usize,
        bytes_max: usize,
        now: u64,
    ) -> Result<Option<Page>, TableError> {
        self.page_of_prefix(name, b"", after, rows_max, bytes_max, now)
    }

    /// The same of keys that begin with `prefix`; `after` is one of them, or empty.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    pub fn page_of_prefix(
        &self,
        name: &[u8],
        prefix: &[u8],
        after: &[u8],
        rows_max: usize,
        bytes_max: usize,
        now: u64,
    ) -> Result<Option<Page>, TableError> {
        let first = record_key(name, prefix);
        let last = record_key(name, after);
        let begin = match after {
            b"" => Bound::Included(&first[..]),
            _ => Bound::Excluded(&last[..]),
        };
        let range = (begin, &after_prefix(&first)[..]);
        self.page_of(name, range, rows_max, bytes_max, |row| !row.is_gone(now))
    }

    /// The same with the rows that are gone, as far as they were not removed.
    ///
    /// # Errors
    /// When the file of rows cannot be read, or rows are missing here.
    pub fn page_of_all(
        &self,
        name: &[u8],
        after: &[u8],
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Page>, TableError> {
        let last = record_key(name, after);
        let range = (Bound::Excluded(&last[..]), &after_table(name)[..]);
        self.page_of(name, range, rows_max, bytes_max, |_| true)
    }

    fn page_of(
        &self,
        name: &[u8],
        (begin, before): (Bound<&[u8]>, &[u8]),
        rows_max: usize,
        bytes_max: usize,
        shown: impl Fn(&Row) -> bool,
    ) -> Result<Option<Page>, TableError> {
        let state = self.whole()?;
        if state.present(name).is_none() {
            return Ok(None);
        }
        let mut page = Page {
            position: state.position,
            ..Page::default()
        };
        let (mut bytes, mut looked) = (0, 0);
        let mut last = Vec::new();
        state.visit_from(begin, Some(before), &mut |record_key, record| {
            let key = split_key(record_key).map_or(record_key, |(_, key)| key);
            let full = page.rows.len() >= rows_max.max(1) || bytes >= bytes_max;
            // A page is bounded too where nearly all rows are gone.
            if full || looked >= LOOKED_AT_MAX {
                page.next = Some(std::mem::take(&mut last));
                return ControlFlow::Break(());
            }
            looked += 1;
            last = key.to_vec();
            if shown(&record.row) {
                bytes += key.len() + record.row.values().map_or(0, <[u8]>::len);
                page.rows.push((last.clone(), record.row.clone()));
            }
            ControlFlow::Continue(())
        })?;
        Ok(Some(page))
    }
}

fn summary(state: &State, table: &Table) -> TableSummary {
    let mut row = table.row.clone();
    // Of another lineage it is the first table, whatever it was there.
    row.epoch = row.epoch.filter(|epoch| epoch.lineage == state.lineage);
    TableSummary {
        table: row,
        rows: table.counts.live,
        tombstones: table.counts.tombstones,
    }
}

/// Rows looked at for one page, gone ones included.
const LOOKED_AT_MAX: usize = 16 * 1024;
