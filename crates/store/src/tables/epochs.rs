//! Tables that are dropped, and made again under the same name.
//!
//! Each table has an epoch (`core/src/table/description.rs`), and so have operations on rows. What
//! is of an older epoch than the table here is passed over; what is of a newer one ends the table
//! that is here first. So it does not matter in what order a drop, a creation after it and rows of
//! either table come, or whether they come as operations, from the log or with a peer's state.
//!
//! What is left of a dropped table is its name with the epoch. It stays: a member that was away, or
//! a directory out of a backup, may bring the rows at any time.

use std::sync::Arc;

use grapevine_core::operation::{Stream, TableDrop, encode_table_drop, fits};
use grapevine_core::table::{TableEpoch, TableRow, epoch_number};
use grapevine_core::version::{Dot, VersionVector};

use super::recent::Recent;
use super::record::{Record, after_table, record_key};
use super::state::{Before, Records, State, Table, Unsettled};
use super::{DROPPED_TABLES_MAX, TableError, Tables};
use crate::journal::ReadOnly;
use crate::log::Position;

/// What came of dropping a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropping {
    /// It is gone, with all of its rows. Acknowledge it once this position is as durable as promised.
    Dropped(Position),
    /// There is no such table.
    NotFound,
}

/// How what somebody says of a table stands to the table that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is of a table that was dropped.
    Old,
    /// It is of this table, or of the first one where there is none.
    Same,
    /// It is of a later table, whose epoch is here from now on.
    New(Option<TableEpoch>),
    /// Somebody dropped a table of another lineage.
    Foreign,
}

/// What was there before a table's epoch began.
pub(super) struct Earlier {
    table: Option<Table>,
    /// Its rows that were not in the file, nor on their way there.
    records: Records,
    /// Whether older rows than those did not count.
    cleared: bool,
}

impl State {
    /// The table of that name, unless it was dropped.
    pub(super) fn present(&self, name: &[u8]) -> Option<&Table> {
        self.tables
            .get(name)
            .filter(|table| !table.row.is_dropped())
    }

    /// How many tables there are, and how many that were dropped.
    pub(super) fn table_counts(&self) -> (usize, usize) {
        let dropped = self.tables.values().filter(|table| table.row.is_dropped());
        let dropped = dropped.count();
        (self.tables.len() - dropped, dropped)
    }

    /// The epoch of the table of that name, or of its drop.
    pub(super) fn epoch(&self, name: &[u8]) -> Option<TableEpoch> {
        self.tables.get(name).and_then(|table| table.row.epoch)
    }

    /// How what is said of a table of that epoch stands to the one that is here.
    pub(super) fn relation(&self, name: &[u8], epoch: Option<TableEpoch>) -> Relation {
        let theirs = epoch_number(epoch, self.lineage);
        let dropped = epoch.is_some_and(TableEpoch::is_dropped);
        let known = self.tables.get(name);
        let ours = epoch_number(known.and_then(|table| table.row.epoch), self.lineage);
        match theirs.cmp(&ours) {
            std::cmp::Ordering::Less => Relation::Old,
            std::cmp::Ordering::Greater => Relation::New(epoch),
            std::cmp::Ordering::Equal if theirs > 0 => Relation::Same,
            std::cmp::Ordering::Equal if dropped => Relation::Foreign,
            // It was dropped here, by a node that was alone then, and others have it.
            std::cmp::Ordering::Equal if known.is_some_and(|table| table.row.is_dropped()) => {
                Relation::New(None)
            }
            std::cmp::Ordering::Equal => Relation::Same,
        }
    }

    /// The epoch after the one that is here: of its drop, or of a table that is made after one.
    /// None: the first table. The outer none: there are no more.
    #[expect(clippy::option_option, reason = "no epoch is an epoch: the first one")]
    pub(super) fn next_epoch(&self, name: &[u8]) -> Option<Option<TableEpoch>> {
        let Some(table) = self.tables.get(name) else {
            return Some(None);
        };
        let number = epoch_number(table.row.epoch, self.lineage);
        if table.row.is_dropped() && number == 0 {
            return Some(None);
        }
        let number = number.checked_add(1)?;
        let lineage = self.lineage;
        Some(Some(TableEpoch { lineage, number }))
    }

    /// Takes in what an operation that ends at `position` says of a table.
    pub(super) fn describe(&mut self, row: &TableRow, position: Position) {
        match self.relation(&row.name, row.epoch) {
            Relation::New(epoch) => {
                self.position = position;
                self.begin_epoch(&row.name, epoch, position);
            }
            Relation::Old | Relation::Same => {}
            Relation::Foreign => {
                self.position = position;
                return;
            }
        }
        let before = self.tables.get(&row.name).map(|table| table.row.clone());
        self.unsettled.push_back(Unsettled {
            position,
            before: Before::Table(row.name.clone(), before),
        });
        self.position = position;
        let table = self.table(&row.name);
        table.row.merge(row);
        table.touch();
    }

    /// From now on this epoch of a table is here: part of the operation that ends at the state's
    /// position. All rows are gone; who has seen changes only up to before `forgotten` is to read
    /// the table again.
    pub(super) fn begin_epoch(
        &mut self,
        name: &[u8],
        epoch: Option<TableEpoch>,
        forgotten: Position,
    ) {
        let records = self.overlay.take(name);
        let cleared = !self.overlay.cleared.insert(name.to_vec());
        let table = self.tables.remove(name);
        // That it is exchanged with strangers is true of its name.
        let row = table.as_ref().map(|table| table.row.clone());
        let row = row.unwrap_or_else(|| TableRow::new(name));
        let begun = Table {
            row: TableRow { epoch, ..row },
            forgotten,
            recent: Recent::behind(forgotten),
            ..Table::default()
        };
        self.tables.insert(name.to_vec(), begun);
        self.table(name).touch_floors();
        let earlier = Earlier {
            table,
            records,
            cleared,
        };
        self.unsettled.push_back(Unsettled {
            position: self.position,
            before: Before::Epoch(name.to_vec(), Box::new(earlier)),
        });
    }

    /// Undoes the beginning of an epoch. What came after it was undone before.
    pub(super) fn take_back_epoch(&mut self, name: &[u8], earlier: Earlier) {
        drop(self.tables.remove(name));
        drop(self.overlay.take(name));
        if !self.overlay.cleared.contains(name)
            && let Some(frozen) = &mut self.frozen
            && frozen.cleared.contains(name)
        {
            // It was to be written and was not, since the log could not be synced.
            let frozen = Arc::make_mut(frozen);
            frozen.cleared.remove(name);
            drop(frozen.take(name));
        }
        if !earlier.cleared {
            self.overlay.cleared.remove(name);
        }
        for (key, record) in earlier.records {
            self.overlay.put(key, record);
        }
        if let Some(table) = earlier.table {
            self.tables.insert(name.to_vec(), table);
        }
    }

    /// The rows of a table that these operations made.
    fn seen(
        &self,
        name: &[u8],
        seen: &VersionVector,
    ) -> Result<Vec<(Vec<u8>, Record)>, super::RowStoreError> {
        let mut found = Vec::new();
        let (from, to) = (record_key(name, b""), after_table(name));
        self.visit(&from, Some(&to), &mut |key, record| {
            if seen.covers(record.dot) {
                found.push((key.to_vec(), record.clone()));
            }
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn remove_seen(&mut self, name: &[u8], found: Vec<(Vec<u8>, Record)>) {
        for (key, record) in found {
            let Dot { origin, sequence } = record.dot;
            self.knowledge_dirty |= self.knowledge.removed.advance(origin, sequence);
            self.unsettled.push_back(Unsettled {
                position: self.position,
                before: Before::Row(key.clone(), Some(record.clone())),
            });
            self.remove(key, &record);
        }
        let position = self.position;
        let table = self.table(name);
        table.forgotten = position;
        table.touch();
    }
}

impl Tables {
    /// Ends a table, with all rows that are in it and that any member puts there before it knows. A
    /// table that is made under that name later is another one.
    ///
    /// # Errors
    /// When rows are missing here, or the node takes no writes. Nothing was changed.
    pub fn drop_table(&self, name: &[u8]) -> Result<Dropping, TableError> {
        let mut state = self.whole()?;
        let Some(table) = state.present(name) else {
            return Ok(Dropping::NotFound);
        };
        let epoch = state.next_epoch(name).ok_or(TableError::Epochs)?;
        let (_, dropped) = state.table_counts();
        if dropped >= DROPPED_TABLES_MAX {
            return Err(TableError::TooManyDropped(dropped));
        }
        let mut dropped = TableDrop {
            table: TableRow {
                epoch,
                ..table.row.clone()
            },
            seen: self.journal.applied(),
        };
        let mut encoded = Vec::new();
        encode_table_drop(&mut encoded, &dropped);
        if !fits(&encoded) {
            // Only another lineage would ask for it.
            dropped.seen = VersionVector::default();
            encoded.clear();
            encode_table_drop(&mut encoded, &dropped);
        }
        self.journal.ensure_writable()?;
        let (position, _) = self
            .journal
            .append(Stream::Group, |_, entry| entry.extend_from_slice(&encoded))?;
        state.describe(&dropped.table, position);
        self.end(state)?;
        Ok(Dropping::Dropped(position))
    }

    /// Takes in that another node dropped a table; `append` puts it into the journal.
    pub(crate) fn apply_drop(
        &self,
        dropped: &TableDrop,
        append: impl FnOnce() -> Result<Position, ReadOnly>,
    ) -> Result<(), ReadOnly> {
        let mut state = self.lock();
        self.take_in_drop(&mut state, dropped, append)?;
        self.end(state)
    }

    /// The same of the log that is being replayed.
    pub(crate) fn replay_drop(
        &self,
        dropped: &TableDrop,
        position: Position,
    ) -> Result<(), ReadOnly> {
        self.take_in_drop(&mut self.lock(), dropped, || Ok(position))
    }

    fn take_in_drop(
        &self,
        state: &mut State,
        dropped: &TableDrop,
        append: impl FnOnce() -> Result<Position, ReadOnly>,
    ) -> Result<(), ReadOnly> {
        let relation = state.relation(&dropped.table.name, dropped.table.epoch);
        let position = append()?;
        state.describe(&dropped.table, position);
        if relation == Relation::Foreign && state.present(&dropped.table.name).is_some() {
            let (name, seen) = (&dropped.table.name, &dropped.seen);
            let found = self.read(state, |state| state.seen(name, seen))?;
            state.remove_seen(name, found);
        }
        Ok(())
    }

    /// The node belongs to another group from the operation on that `append` puts into the journal;
    /// epochs of `lineage` count from then on.
    pub(crate) fn change_lineage(
        &self,
        lineage: [u8; 16],
        append: impl FnOnce() -> Result<Position, ReadOnly>,
    ) -> Result<Position, ReadOnly> {
        let mut state = self.lock();
        let position = append()?;
        state.lineage = lineage;
        Ok(position)
    }

    /// Which of the tables that had this name is here; none: there is none.
    ///
    /// # Errors
    /// When rows are missing here, and so may be tables.
    pub fn epoch(&self, name: &[u8]) -> Result<Option<Option<TableEpoch>>, TableError> {
        let state = self.whole()?;
        Ok(state.present(name).map(|table| table.row.epoch))
    }
}
