//! What changed in a table since somebody looked.
//!
//! Each change of a row has a position of the journal of its own, so "since when" is one number.
//! The last changes of a table are kept in memory; older ones are found by looking at all its
//! rows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use grapevine_core::origin::Origin;
use grapevine_core::table::Row;

use super::record::{Record, after_table, record_key, split_key};
use super::state::State;
use super::{TableError, Tables};
use crate::log::Position;

/// Most changes given at once.
const CHANGES_MAX: usize = 4096;
/// Rows that are looked at before others have their turn.
const ROWS_PER_TURN: usize = 4096;

/// Changes of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Rows as they are now, in the order in which they last changed.
    Rows {
        /// Those that are gone too.
        rows: Vec<Changed>,
        /// Ask from here on next. What is given may be shown once this position is as durable as
        /// promised.
        next: Position,
        /// There is more already.
        more: bool,
    },
    /// Rows were removed that the asker may not have seen going, or the position is none of this
    /// journal: the whole table is to be read again.
    Reset,
    /// There is no such table.
    NotFound,
}

/// A row that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// When it last did, as a position of the journal.
    pub position: Position,
    /// Its key.
    pub key: Vec<u8>,
    /// The row as it is now.
    pub row: Row,
    /// The node whose operation made it.
    pub made_by: Origin,
}

/// Found changes by position.
type Found = BTreeMap<Position, (Vec<u8>, Record)>;

impl Tables {
    /// Up to `count` rows (at least one, at most 4096) that changed after the position `since`,
    /// which a page or an earlier call gave.
    ///
    /// # Errors
    /// When the file of rows cannot be read, or rows are missing here.
    pub fn changes(
        &self,
        name: &[u8],
        since: Position,
        count: usize,
    ) -> Result<Changes, TableError> {
        let count = count.clamp(1, CHANGES_MAX);
        let state = self.whole()?;
        let Some(table) = state.tables.get(name) else {
            return Ok(Changes::NotFound);
        };
        if since < table.forgotten || since > self.journal.appended() {
            return Ok(Changes::Reset);
        }
        let until = state.position;
        if since >= table.recent_from {
            let found = recent(&state, name, since, count)?;
            return Ok(given(found, count, until));
        }
        drop(state);
        self.scan_for_changes(name, since, until, count)
    }

    /// Looks at all rows of a table, some at a time. A row that changes meanwhile is given as it
    /// was, or not at all: then it is among the changes after those.
    fn scan_for_changes(
        &self,
        name: &[u8],
        since: Position,
        until: Position,
        count: usize,
    ) -> Result<Changes, TableError> {
        let mut found = Found::new();
        let (mut from, to) = (record_key(name, b""), after_table(name));
        loop {
            let state = self.whole()?;
            let mut looked = 0;
            let mut next = None;
            let mut visit = |record_key: &[u8], record: &Record| {
                looked += 1;
                if record.changed > since && record.changed <= until {
                    let key = split_key(record_key).map_or(record_key, |(_, key)| key);
                    found.insert(record.changed, (key.to_vec(), record.clone()));
                    // One more than is given tells that there is more.
                    if found.len() > count + 1 {
                        found.pop_last();
                    }
                }
                if looked >= ROWS_PER_TURN {
                    next = Some(record_key.to_vec());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            state.visit(&from, Some(&to), &mut visit)?;
            let forgotten = state.tables.get(name).map_or(0, |table| table.forgotten);
            if since < forgotten {
                return Ok(Changes::Reset);
            }
            match next {
                Some(key) => from = key,
                None => return Ok(given(found, count, until)),
            }
        }
    }
}

/// Changes after `since`, all of which the table remembers.
fn recent(state: &State, name: &[u8], since: Position, count: usize) -> Result<Found, TableError> {
    let mut found = Found::new();
    let Some(table) = state.tables.get(name) else {
        return Ok(found);
    };
    let begin = table
        .recent
        .partition_point(|(position, _)| *position <= since);
    for (position, key) in table.recent.range(begin..) {
        if found.len() > count {
            break;
        }
        // What changed again has a later place.
        let record = state.get_one(record_key(name, key))?;
        if let Some(record) = record.filter(|record| record.changed == *position) {
            found.insert(*position, (key.clone(), record));
        }
    }
    Ok(found)
}

fn given(mut found: Found, count: usize, until: Position) -> Changes {
    let more = found.len() > count;
    while found.len() > count {
        found.pop_last();
    }
    let last = found.last_key_value().map(|(position, _)| *position);
    let rows = found.into_iter().map(|(position, (key, record))| Changed {
        position,
        key,
        row: record.row,
        made_by: record.dot.origin,
    });
    Changes::Rows {
        rows: rows.collect(),
        next: if more { last.unwrap_or(until) } else { until },
        more,
    }
}
