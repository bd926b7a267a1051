//! Changes: by clients, by imports and links, by operations of other nodes and of the log.

use std::collections::BTreeMap;

use grapevine_core::catalogue::validate_name;
use grapevine_core::limits::ROWS_PER_OPERATION_MAX;
use grapevine_core::operation::{
    ROW_OVERHEAD_BYTES, Rows, Stream, encode_renewed_row, encode_row, encode_rows_of, encode_table,
};
use grapevine_core::table::{
    Content, Row, TableRow, accepts_from_outside, next_version, validate_key, validate_values,
};
use grapevine_core::version::Dot;

use super::epochs::Relation;
use super::flush::FlushError;
use super::record::{Record, record_key};
use super::state::State;
use super::{KeyedRow, TABLES_MAX, TableError, Tables};
use crate::journal::ReadOnly;
use crate::log::Position;

/// Bytes of rows gathered into one operation; one row may be longer.
const OPERATION_BYTES: usize = 64 << 10;

/// What came of making a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// It exists now.
    Created(Position),
    /// It existed.
    Existed(Position),
}

/// What came of setting a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The row is there.
    Row {
        /// Its version.
        version: i64,
        /// Acknowledge it once this position is as durable as promised.
        position: Position,
    },
    /// There is no such table.
    NotFound,
}

/// What came of deleting a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Deleted {
        /// The version of the tombstone.
        version: i64,
        /// Acknowledge it once this position is as durable as promised.
        position: Position,
    },
    /// There was none, and there is no tombstone for it.
    Absent(Position),
    /// There is no such table.
    NotFound,
}

/// What came of merging rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Rows that changed something.
    pub changed: u64,
    /// Rows that did not.
    pub unchanged: u64,
    /// Rows whose versions are too near the end to come from outside the group.
    pub refused: u64,
    /// Acknowledge it once this position is as durable as promised.
    pub position: Position,
}

impl Tables {
    /// Makes a table.
    ///
    /// # Errors
    /// When none can have that name, there are [`TABLES_MAX`], rows are missing here, or the node takes
    /// no writes. Nothing was changed.
    pub fn create(&self, name: &[u8]) -> Result<Creation, TableError> {
        validate_name(name)?;
        let mut state = self.whole()?;
        if state.present(name).is_some() {
            return Ok(Creation::Existed(state.position));
        }
        ensure_room(&state)?;
        let row = TableRow {
            epoch: state.next_epoch(name).ok_or(TableError::Epochs)?,
            ..TableRow::new(name)
        };
        let position = self.describe(&mut state, &row)?;
        drop(state);
        self.ring();
        Ok(Creation::Created(position))
    }

    /// Says to the group that this table is exchanged with strangers over a link; makes it if
    /// there never was one. One that was dropped stays so until somebody makes it again. It is no harm to say it again, so it may be said where rows are missing.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn link(&self, name: &[u8]) -> Result<Position, TableError> {
        validate_name(name)?;
        let mut state = self.lock();
        if state.tables.get(name).is_some_and(|table| table.row.linked) {
            return Ok(state.position);
        }
        if !state.tables.contains_key(name) {
            ensure_room(&state)?;
        }
        let row = TableRow {
            linked: true,
            epoch: state.epoch(name),
            ..TableRow::new(name)
        };
        Ok(self.describe(&mut state, &row)?)
    }

    pub(super) fn describe(&self, state: &mut State, row: &TableRow) -> Result<Position, ReadOnly> {
        self.journal.ensure_writable()?;
        let mut encoded = Vec::new();
        encode_table(&mut encoded, row);
        let (position, _) = self
            .journal
            .append(Stream::Group, |_, entry| entry.extend_from_slice(&encoded))?;
        state.describe(row, position);
        Ok(position)
    }

    /// Sets the values of a key, with a version above every row that was there. It expires at
    /// `expires`, in milliseconds since 1970.
    ///
    /// # Errors
    /// When no row can be such, its versions are used up, rows are missing here (the new version would
    /// not be above that of a row that is), it expires and this node's clock is off, or the node takes
    /// no writes. Nothing was changed.
    pub fn set(
        &self,
        name: &[u8],
        key: &[u8],
        values: &[u8],
        expires: Option<u64>,
    ) -> Result<Written, TableError> {
        validate_key(key)?;
        validate_values(values)?;
        let mut state = self.whole()?;
        let Some(table) = state.present(name) else {
            return Ok(Written::NotFound);
        };
        self.journal.ensure_writable()?;
        if expires.is_some() {
            self.ensure_clock()?;
        }
        let floor = table.floors.of(key);
        let before = state.get_one(record_key(name, key))?;
        let old = before.as_ref().map(|record| record.row.version);
        let row = Row {
            version: next_version(old, floor, self.step())?,
            content: Content::Values(values.to_vec()),
            expires,
        };
        let version = row.version;
        let change = Change {
            key: key.to_vec(),
            row,
            before,
        };
        let position = self.write(&mut state, name, vec![change])?;
        self.end(state)?;
        Ok(Written::Row { version, position })
    }

    /// Deletes a key that readers see at `now`, in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn delete(&self, name: &[u8], key: &[u8], now: u64) -> Result<Deletion, TableError> {
        validate_key(key)?;
        let mut state = self.whole()?;
        let Some(table) = state.present(name) else {
            return Ok(Deletion::NotFound);
        };
        let floor = table.floors.of(key);
        let before = state.get_one(record_key(name, key))?;
        let Some(record) = before.filter(|record| !record.row.is_gone(now)) else {
            return Ok(Deletion::Absent(state.position));
        };
        self.journal.ensure_writable()?;
        let version = next_version(Some(record.row.version), floor, self.step())?;
        let change = Change {
            key: key.to_vec(),
            row: Row::tombstone(version),
            before: Some(record),
        };
        let position = self.write(&mut state, name, vec![change])?;
        self.end(state)?;
        Ok(Deletion::Deleted { version, position })
    }

    /// Makes a deletion of a row that has expired and is due at all members: a link knows no other
    /// way to be told that it is gone. False: there is none.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn retire(&self, name: &[u8], key: &[u8]) -> Result<bool, TableError> {
        let mut state = self.whole()?;
        let Some(table) = state.present(name) else {
            return Ok(false);
        };
        let floor = table.floors.of(key);
        let before = state.get_one(record_key(name, key))?;
        let agreed = state.agreed;
        let expired = |record: &Record| record.is_due(agreed) && !record.row.is_tombstone();
        let Some(record) = before.filter(expired) else {
            return Ok(false);
        };
        self.journal.ensure_writable()?;
        let version = next_version(Some(record.row.version), floor, self.step())?;
        let change = Change {
            key: key.to_vec(),
            row: Row::tombstone(version),
            before: Some(record),
        };
        self.write(&mut state, name, vec![change])?;
        self.end(state)?;
        Ok(true)
    }

    /// Merges rows from outside the group, of a file or a link, into a table; none: there is no such
    /// table. A row of a key that is absent gets a version above what was removed there. Rows whose
    /// versions leave no room above them are refused and counted.
    ///
    /// # Errors
    /// When a row cannot be one or the node takes no writes. Rows before it may be in.
    pub fn merge(
        &self,
        name: &[u8],
        rows: impl IntoIterator<Item = KeyedRow>,
    ) -> Result<Option<Merged>, TableError> {
        let mut rows = rows.into_iter().peekable();
        let mut merged = Merged::default();
        loop {
            let mut batch: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
            let (mut bytes, mut count) = (0, 0);
            while bytes < OPERATION_BYTES && count < ROWS_PER_OPERATION_MAX {
                let Some((key, row)) = rows.next() else {
                    break;
                };
                validate_key(&key)?;
                row.validate()?;
                count += 1;
                bytes += row_bytes(&key, &row);
                match batch.get_mut(&key) {
                    Some(known) => {
                        merged.unchanged += 1;
                        if row.supersedes(known) {
                            *known = row;
                        }
                    }
                    None => {
                        batch.insert(key, row);
                    }
                }
            }
            let ended = rows.peek().is_none();
            if !self.merge_batch(name, batch, &mut merged)? {
                return Ok(None);
            }
            if ended {
                return Ok(Some(merged));
            }
        }
    }

    /// Merges rows, each key once; false: there is no such table.
    fn merge_batch(
        &self,
        name: &[u8],
        batch: BTreeMap<Vec<u8>, Row>,
        merged: &mut Merged,
    ) -> Result<bool, TableError> {
        let mut state = self.whole()?;
        let Some(table) = state.present(name) else {
            return Ok(false);
        };
        let keys: Vec<Vec<u8>> = batch.keys().map(|key| record_key(name, key)).collect();
        let mut changes = Vec::with_capacity(batch.len());
        for ((key, mut row), before) in batch.into_iter().zip(state.get(&keys)?) {
            let ours = before.as_ref().map(|record| record.row.version);
            if !accepts_from_outside(ours, row.version) {
                merged.refused += 1;
                continue;
            }
            if before
                .as_ref()
                .is_some_and(|record| !row.supersedes(&record.row))
            {
                merged.unchanged += 1;
                continue;
            }
            let floor = table.floors.of(&key).filter(|floor| row.version <= *floor);
            if before.is_none() && floor.is_some() {
                row.version = next_version(None, floor, self.step())?;
            }
            changes.push(Change { key, row, before });
        }
        merged.changed += changes.len() as u64;
        if !changes.is_empty() {
            self.journal.ensure_writable()?;
            self.write(&mut state, name, changes)?;
        }
        merged.position = state.position;
        self.end(state)?;
        Ok(true)
    }

    /// Appends operations of this node that make these rows, and enters them.
    fn write(
        &self,
        state: &mut State,
        name: &[u8],
        changes: Vec<Change>,
    ) -> Result<Position, ReadOnly> {
        self.write_rows(state, name, changes, false)
    }

    /// The same; where they were `touched`, nobody who watches is told of those that only expire later.
    pub(super) fn write_rows(
        &self,
        state: &mut State,
        name: &[u8],
        changes: Vec<Change>,
        touched: bool,
    ) -> Result<Position, ReadOnly> {
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let mut encoded = Vec::new();
            let mut written = Vec::new();
            encode_rows_of(&mut encoded, name, state.epoch(name));
            while let Some(change) = changes.next_if(|change| {
                let fits = encoded.len() + row_bytes(&change.key, &change.row) <= OPERATION_BYTES;
                written.is_empty() || (fits && written.len() < ROWS_PER_OPERATION_MAX)
            }) {
                match renews(&change.row, change.before.as_ref()).filter(|_| touched) {
                    Some(_) => encode_renewed_row(&mut encoded, &change.key, &change.row, None),
                    None => encode_row(&mut encoded, &change.key, &change.row, None),
                }
                written.push(change);
            }
            let (position, dot) = self
                .journal
                .append(Stream::Group, |_, entry| entry.extend_from_slice(&encoded))?;
            state.position = position;
            let count = written.len();
            for (at, change) in written.into_iter().enumerate() {
                let Change { key, row, before } = change;
                let renewed = renews(&row, before.as_ref()).filter(|_| touched);
                let record = Record {
                    row,
                    dot,
                    changed: renewed.unwrap_or_else(|| position_of(position, at, count)),
                    doubtful: false,
                };
                state.enter(record_key(name, &key), record, before.as_ref());
            }
        }
        Ok(state.position)
    }

    /// Lets go of the state after a change: rows go to the file if they take much memory, and
    /// whoever watches is told.
    pub(super) fn end(&self, state: std::sync::MutexGuard<'_, State>) -> Result<(), ReadOnly> {
        let full = self.is_full(&state);
        drop(state);
        self.ring();
        match if full { self.flush() } else { Ok(()) } {
            Err(FlushError::ReadOnly(error)) => Err(error),
            // They are tried again with the next change.
            Err(FlushError::NoFile(_)) | Ok(()) => Ok(()),
        }
    }

    /// Takes in what another node says of a table, or the log that is being replayed; `append`
    /// puts it into the journal.
    pub(crate) fn apply_table(
        &self,
        row: &TableRow,
        append: impl FnOnce() -> Result<Position, ReadOnly>,
    ) -> Result<(), ReadOnly> {
        let mut state = self.lock();
        let position = append()?;
        state.describe(row, position);
        Ok(())
    }

    /// Takes in rows of an operation of another node.
    pub(crate) fn apply_rows(
        &self,
        dot: Dot,
        rows: &Rows<'_>,
        append: impl FnOnce() -> Result<Position, ReadOnly>,
    ) -> Result<(), ReadOnly> {
        let mut state = self.lock();
        let strays = self.take_in(&mut state, dot, rows, append)?;
        self.write_again(&mut state, rows.name, strays)?;
        self.end(state)
    }

    /// Takes in rows of the log that is being replayed, where each operation is again what it was.
    pub(crate) fn replay_rows(
        &self,
        dot: Dot,
        rows: &Rows<'_>,
        position: Position,
    ) -> Result<(), ReadOnly> {
        let mut state = self.lock();
        self.take_in(&mut state, dot, rows, || Ok(position))?;
        let full = self.is_full(&state);
        drop(state);
        // Where nothing can be written, rows stay in memory and the log: a failure is told, and
        // keeps nothing from being read.
        if full && self.journal.read_only().is_none() {
            drop(self.flush_replayed());
        }
        Ok(())
    }

    /// Appends and enters rows; gives those that are strays.
    fn take_in(
        &self,
        state: &mut State,
        dot: Dot,
        rows: &Rows<'_>,
        append: impl FnOnce() -> Result<Position, ReadOnly>,
    ) -> Result<Vec<KeyedRow>, ReadOnly> {
        let keys = rows.iter().map(|row| record_key(rows.name, row.key));
        let keys: Vec<Vec<u8>> = keys.collect();
        let before = match state.relation(rows.name, rows.epoch) {
            Relation::Same => {
                let before = self.read(state, |state| state.get(&keys))?;
                state.position = append()?;
                before
            }
            Relation::New(epoch) => {
                state.position = append()?;
                // Before the first of these rows, and behind all that anybody has seen.
                let forgotten = state.position - rows.count() as Position;
                state.begin_epoch(rows.name, epoch, forgotten);
                vec![None; keys.len()]
            }
            Relation::Old | Relation::Foreign => {
                state.position = append()?;
                return Ok(Vec::new());
            }
        };
        state.table(rows.name).touch();
        Ok(self.enter_rows(state, dot, rows, keys.into_iter().zip(before)))
    }

    /// Enters rows of the operation that ends at the state's position, each with its record's key and
    /// what was there before; gives those that are strays.
    fn enter_rows(
        &self,
        state: &mut State,
        dot: Dot,
        rows: &Rows<'_>,
        before: impl Iterator<Item = (Vec<u8>, Option<Record>)>,
    ) -> Vec<KeyedRow> {
        let (position, name, count) = (state.position, rows.name, rows.count());
        let mut strays = Vec::new();
        for (at, (incoming, (key, before))) in rows.iter().zip(before).enumerate() {
            // The operation may name a key twice.
            let entered = state.overlay.records.get(&key).cloned();
            let before = entered.unwrap_or(before);
            let dot = incoming.made_by.unwrap_or(dot);
            let mut changed = position_of(position, at, count);
            let mut doubtful = false;
            match &before {
                Some(known) if incoming.row == known.row && dot < known.dot => {
                    (changed, doubtful) = (known.changed, known.doubtful);
                }
                Some(known) if !incoming.row.supersedes(&known.row) => continue,
                Some(_) => {}
                // Whether it is one is not known where rows are missing; others write it again.
                None if state.mending.is_damaged() => doubtful = state.knowledge.is_doubtful(dot),
                None if self.is_stray(state, name, incoming.key, &incoming.row, dot) => {
                    strays.push((incoming.key.to_vec(), incoming.row.clone()));
                }
                None => doubtful = state.knowledge.is_doubtful(dot),
            }
            if incoming.renewed {
                changed = renews(&incoming.row, before.as_ref()).unwrap_or(changed);
            }
            // Others may have removed it long ago.
            doubtful |= state.mending.is_rebuilding() && incoming.row.expires.is_some();
            let record = Record {
                row: incoming.row,
                dot,
                changed,
                doubtful,
            };
            state.enter(key, record, before.as_ref());
        }
        strays
    }

    /// Whether a row of an absent key was made without knowing of what was removed there. A deletion
    /// of what is absent is none: above the floor it would delete what others have put there since.
    pub(super) fn is_stray(
        &self,
        state: &State,
        name: &[u8],
        key: &[u8],
        row: &Row,
        dot: Dot,
    ) -> bool {
        let table = state.tables.get(name);
        let floor = table.and_then(|table| table.floors.of(key));
        let below = floor.is_some_and(|floor| row.version <= floor);
        row.values().is_some() && below && state.knowledge.is_stray(dot)
    }

    /// Writes strays again, above the floors: whoever still has the tombstone takes them too then.
    pub(super) fn write_again(
        &self,
        state: &mut State,
        name: &[u8],
        strays: Vec<KeyedRow>,
    ) -> Result<(), ReadOnly> {
        let keys: Vec<Vec<u8>> = strays
            .iter()
            .map(|(key, _)| record_key(name, key))
            .collect();
        let before = self.read(state, |state| state.get(&keys))?;
        let mut changes = Vec::new();
        for ((key, mut row), before) in strays.into_iter().zip(before) {
            let floor = state
                .tables
                .get(name)
                .and_then(|table| table.floors.of(&key));
            // Where there is no version above, the row stays as it came.
            let Ok(version) = next_version(Some(row.version), floor, self.step()) else {
                continue;
            };
            row.version = version;
            changes.push(Change { key, row, before });
        }
        if !changes.is_empty() {
            self.write(state, name, changes)?;
        }
        Ok(())
    }
}

/// A row that takes the place of another.
pub(super) struct Change {
    pub(super) key: Vec<u8>,
    pub(super) row: Row,
    pub(super) before: Option<Record>,
}

/// Since when a row is here that takes the place of `before` and differs in when it expires, later
/// than that: for who watches it is the same. None: it is another row.
fn renews(row: &Row, before: Option<&Record>) -> Option<Position> {
    let before = before.filter(|before| !before.row.is_tombstone())?;
    let later = before.row.expires? <= row.expires?;
    (later && before.row.values() == row.values()).then_some(before.changed)
}

/// The position of the row number `at` of the `count` in an operation that ends at `position`. A
/// row has more than one byte, so these are behind the operation before.
pub(super) fn position_of(position: Position, at: usize, count: usize) -> Position {
    position - (count - 1 - at) as u64
}

/// Bytes that a row takes in an operation, at most.
pub(super) fn row_bytes(key: &[u8], row: &Row) -> usize {
    ROW_OVERHEAD_BYTES + key.len() + row.values().map_or(0, <[u8]>::len)
}

fn ensure_room(state: &State) -> Result<(), TableError> {
    match state.table_counts().0 {
        count if count >= TABLES_MAX => Err(TableError::TooMany(count)),
        _ => Ok(()),
    }
}
