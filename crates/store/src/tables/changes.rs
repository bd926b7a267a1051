//! What changed in a table since somebody looked.
//!
//! Each change of a row has a position of the journal of its own, so "since when" is one number.
//! The last changes of a table are kept in memory (`recent.rs`). Older ones are found by looking at
//! all its rows: once for as many as fit a bound, which whoever asks keeps ([`Backlog`]).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use grapevine_core::origin::Origin;
use grapevine_core::table::Row;

use super::record::{Record, after_prefix, record_key, split_key};
use super::state::{State, Table};
use super::{TableError, Tables};
use crate::log::Position;

/// Most changes given at once.
const CHANGES_MAX: usize = 4096;
/// Rows, or changes, that are looked at before others have their turn.
const ROWS_PER_TURN: usize = 4096;
/// Memory that a backlog may take, in bytes, about.
const BACKLOG_BYTES_MAX: usize = 4 << 20;
/// What a change takes in it beside its key, about.
const BACKLOG_OVERHEAD_BYTES: usize = 64;
/// Backlogs that who asks may be behind. One is found by looking at all rows, so for more it is less
/// work to read them.
const BACKLOGS_BEHIND_MAX: usize = 16;

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
        /// There is more already, or may be.
        more: bool,
    },
    /// Rows were removed that the asker may not have seen going, or so much changed since that
    /// reading the table is less work, or the position is none of this journal: the whole table is
    /// to be read again.
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
    /// The row as it is now; of one that was removed for good the tombstone, or the expired row
    /// without its values.
    pub row: Row,
    /// The node whose operation made it.
    pub made_by: Origin,
}

/// Changes that were found among all rows and not given yet. Kept by who asks, from call to call
/// and for one table and prefix; it takes at most about 4 MiB.
#[derive(Debug, Default)]
pub struct Backlog {
    keys: BTreeMap<Position, Vec<u8>>,
    bytes: usize,
    /// Changes up to here are in it, or were.
    until: Position,
    /// The first change that had no room.
    beyond: Option<Position>,
    /// Changes found, with those that had no room.
    found: usize,
}

impl Backlog {
    fn clear(&mut self) {
        *self = Backlog::default();
    }

    /// One more change. The oldest stay.
    fn add(&mut self, position: Position, key: &[u8]) {
        self.found += 1;
        if self.beyond.is_some_and(|beyond| position >= beyond) {
            return;
        }
        self.keys.insert(position, key.to_vec());
        self.bytes += BACKLOG_OVERHEAD_BYTES + key.len();
        while self.bytes > BACKLOG_BYTES_MAX
            && let Some((position, key)) = self.keys.pop_last()
        {
            self.bytes -= BACKLOG_OVERHEAD_BYTES + key.len();
            self.beyond = Some(position);
        }
    }

    /// All rows were looked at for changes up to `until`. False: too many had no room.
    fn end(&mut self, until: Position) -> bool {
        self.until = match (self.beyond, self.keys.last_key_value()) {
            (Some(_), Some((last, _))) => *last,
            _ => until,
        };
        self.found <= BACKLOGS_BEHIND_MAX * self.keys.len().max(1)
    }

    /// Takes up to `count` of them.
    fn take(&mut self, count: usize) -> Vec<(Position, Vec<u8>)> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some((position, key)) = self.keys.pop_first()
        {
            self.bytes -= BACKLOG_OVERHEAD_BYTES + key.len();
            taken.push((position, key));
        }
        taken
    }
}

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
        self.changes_of(name, b"", since, count, &mut Backlog::default())
    }

    /// The same of keys that begin with `prefix`, for who asks again and again: with the backlog of
    /// the call before.
    ///
    /// # Errors
    /// As [`changes`](Self::changes).
    pub fn changes_of(
        &self,
        name: &[u8],
        prefix: &[u8],
        since: Position,
        count: usize,
        backlog: &mut Backlog,
    ) -> Result<Changes, TableError> {
        let count = count.clamp(1, CHANGES_MAX);
        let state = self.whole()?;
        let Some(table) = state.present(name) else {
            return Ok(Changes::NotFound);
        };
        if since > self.journal.appended() {
            return Ok(Changes::Reset);
        }
        if since >= table.recent.from() {
            backlog.clear();
            return recent(&state, table, prefix, since, count);
        }
        if since < table.forgotten {
            backlog.clear();
            return Ok(Changes::Reset);
        }
        let until = state.position;
        let next = backlog.keys.first_key_value().map(|(first, _)| *first);
        if next.is_none_or(|first| first <= since) {
            drop(state);
            backlog.clear();
            let known = self.scan_for_changes(name, prefix, (since, until), backlog)?;
            if !known || !backlog.end(until) {
                backlog.clear();
                return Ok(Changes::Reset);
            }
        } else {
            drop(state);
        }
        self.give_backlog(name, since, count, backlog)
    }

    /// Gives what was found. A row that changed since, or changes now, is among the changes after
    /// these.
    fn give_backlog(
        &self,
        name: &[u8],
        since: Position,
        count: usize,
        backlog: &mut Backlog,
    ) -> Result<Changes, TableError> {
        let taken = backlog.take(count);
        let last = taken.last().map(|(position, _)| *position);
        let next = match last {
            Some(last) if !backlog.keys.is_empty() => last,
            _ => backlog.until,
        };
        let state = self.whole()?;
        let table = state.tables.get(name);
        if table.is_none_or(|table| since < table.forgotten) {
            backlog.clear();
            return Ok(Changes::Reset);
        }
        let keys: Vec<_> = taken.iter().map(|(_, key)| record_key(name, key)).collect();
        let rows = taken
            .into_iter()
            .zip(state.get(&keys)?)
            .filter_map(|((position, key), record)| as_changed(position, key, record?));
        Ok(Changes::Rows {
            rows: rows.collect(),
            next,
            more: next < state.position,
        })
    }

    /// Looks at all rows of a table, some at a time, for those that changed after the first position
    /// and not after the second. A row that changes meanwhile is among the changes after those.
    /// False: it is not known any more what went.
    fn scan_for_changes(
        &self,
        name: &[u8],
        prefix: &[u8],
        (since, until): (Position, Position),
        backlog: &mut Backlog,
    ) -> Result<bool, TableError> {
        let first = record_key(name, prefix);
        let to = after_prefix(&first);
        let mut from: Option<Vec<u8>> = None;
        loop {
            let state = self.whole()?;
            let mut looked = 0;
            let mut next = None;
            let mut visit = |record_key: &[u8], record: &Record| {
                looked += 1;
                if record.changed > since && record.changed <= until {
                    let key = split_key(record_key).map_or(record_key, |(_, key)| key);
                    backlog.add(record.changed, key);
                }
                if looked >= ROWS_PER_TURN {
                    next = Some(record_key.to_vec());
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            };
            let begin = match &from {
                Some(from) => Bound::Excluded(&from[..]),
                None => Bound::Included(&first[..]),
            };
            state.visit_from(begin, Some(&to), &mut visit)?;
            let forgotten = state.tables.get(name).map_or(0, |table| table.forgotten);
            if since < forgotten {
                return Ok(false);
            }
            match next {
                Some(key) => from = Some(key),
                None => return Ok(true),
            }
        }
    }
}

/// Changes after `since`, all of which the table remembers.
fn recent(
    state: &State,
    table: &Table,
    prefix: &[u8],
    since: Position,
    count: usize,
) -> Result<Changes, TableError> {
    let (mut next, mut looked) = (since, 0);
    let (mut keys, mut found) = (Vec::new(), Vec::new());
    let mut all = true;
    for change in table.recent.after(since) {
        if found.len() >= count || looked >= ROWS_PER_TURN {
            all = false;
            break;
        }
        (next, looked) = (change.position, looked + 1);
        if change.key.starts_with(prefix) {
            keys.push(record_key(&table.row.name, &change.key));
            found.push(change);
        }
    }
    let mut rows = Vec::new();
    for (change, record) in found.into_iter().zip(state.get(&keys)?) {
        let removed = change.removed.as_deref();
        // What was removed and set again has a later place.
        let record = record.or_else(|| removed.cloned());
        let key = change.key.clone();
        rows.extend(record.and_then(|record| as_changed(change.position, key, record)));
    }
    Ok(Changes::Rows {
        rows,
        next: if all { state.position.max(since) } else { next },
        more: !all,
    })
}

/// A row that changed last at that position; what changed again has a later one.
fn as_changed(position: Position, key: Vec<u8>, record: Record) -> Option<Changed> {
    (record.changed == position).then_some(Changed {
        position,
        key,
        row: record.row,
        made_by: record.dot.origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A backlog of changes at these positions, with keys of a kibibyte.
    fn backlog(positions: impl Iterator<Item = Position>) -> Backlog {
        let mut backlog = Backlog::default();
        for position in positions {
            backlog.add(position, &[b'k'; 1024]);
            assert!(backlog.bytes <= BACKLOG_BYTES_MAX);
        }
        backlog
    }

    #[test]
    fn a_backlog_has_the_oldest_changes_in_whatever_order_they_are_found() {
        let count: Position = 10_000;
        for step in [1, 7, count - 1] {
            let mut backlog = backlog((0..count).map(|n| n * step % count + 1));
            assert!(backlog.end(count));
            let kept = backlog.keys.len() as Position;
            assert!((3000..4096).contains(&kept), "{kept}");
            assert_eq!(backlog.until, kept, "all up to there, and no more");
            assert!(
                backlog
                    .take(10_000)
                    .into_iter()
                    .map(|(p, _)| p)
                    .eq(1..=kept)
            );
            assert_eq!(backlog.bytes, 0);
        }
        let mut few = backlog([5, 3].into_iter());
        assert!(few.end(9));
        assert_eq!((few.until, few.take(1)[0].0), (9, 3));
    }

    #[test]
    fn who_is_far_behind_is_told_so_at_once() {
        let (near, far) = (50_000, 70_000);
        assert!(backlog(1..near).end(near), "a few times as much as fits");
        assert!(!backlog(1..far).end(far));
    }
}
