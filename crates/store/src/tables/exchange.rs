//! The state of tables as other nodes take it over, in four sections.
//!
//! First what is known of origins. Then the tables: those that were dropped there end here before their
//! rows are missed. Then rows, by the keys of their records: blocks of `length u32 | operation`, each
//! operation the rows of one table with the operations that made them. At last the floors of tables:
//! rows are judged by the floors as they were before, and what is below floors by whose it is.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use grapevine_core::catalogue::validate_name;
use grapevine_core::limits::ROWS_PER_OPERATION_MAX;
use grapevine_core::operation::{
    Operation, Rows, Stream, decode, encode_row, encode_rows_of, encode_table,
};
use grapevine_core::origin::Origin;
use grapevine_core::sync::Source;
use grapevine_core::table::{Floors, Row, TableEpoch, TableRow};
use grapevine_core::version::Dot;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::epochs::Relation;
use super::knowledge::Known;
use super::record::{Record, after_table, record_key, split_key};
use super::row_store::RowStoreError;
use super::state::{State, Table};
use super::write::{position_of, row_bytes};
use super::{KeyedRow, Tables};
use crate::journal::ReadOnly;

/// What one origin takes on a page, about.
const KNOWN_BYTES: usize = 64;
/// Records that are compared before others have their turn.
const RECORDS_PER_TURN: usize = 4096;

/// The floors of a table on a page.
#[derive(Debug, Serialize, Deserialize)]
struct SharedFloors {
    name: ByteBuf,
    /// Of the table that they are of.
    epoch: Option<TableEpoch>,
    floors: ByteBuf,
}

/// A piece of a section: its bytes, and the last key in it if more follow.
pub(crate) type Piece = (Option<Vec<u8>>, Vec<u8>);

/// Why a page was not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeOverError {
    /// It does not decode.
    #[error("a page of tables does not decode")]
    Malformed,
    /// The node takes no writes.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
}

/// A row that is here and not in a copy that has the operation which made it, although nothing is
/// lacking here. It is kept: what is not due is never taken for removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Of its record.
    key: Vec<u8>,
    /// The operation that made it.
    dot: Dot,
}

/// A row on a page: its record's key, the row, and the operation that made it.
struct Theirs {
    row: Row,
    dot: Dot,
}

impl Tables {
    /// The rows after `after`, about `bytes_max` bytes of them.
    pub(crate) fn shared_rows(
        &self,
        after: &[u8],
        bytes_max: usize,
    ) -> Result<Piece, RowStoreError> {
        let state = self.lock();
        let mut blocks = Blocks::default();
        let mut last = Vec::new();
        let mut next = None;
        state.visit(after, None, &mut |key, record| {
            if blocks.length() >= bytes_max {
                next = Some(std::mem::take(&mut last));
                return ControlFlow::Break(());
            }
            blocks.add(&state, key, record);
            last = key.to_vec();
            ControlFlow::Continue(())
        })?;
        Ok((next, blocks.finish()))
    }

    /// Takes over the rows of a copy that has everything up to the source's version: those after
    /// `after` up to `up_to` (none: all). Rows that are there and not here, although what made them
    /// is in, were removed here. Rows that are here and not there, although that version has what
    /// made them, were removed there; but where nothing is lacking here that can have removed
    /// them, those that are not due are kept and given, see [`Kept`]. Where rows are missing here, all
    /// is as it is there, see `damage.rs`.
    pub(crate) fn take_over_rows(
        &self,
        after: &[u8],
        up_to: Option<&[u8]>,
        bytes: &[u8],
        source: Source<'_>,
    ) -> Result<Vec<Kept>, TakeOverError> {
        let mut kept = Vec::new();
        let (mut theirs, epochs) = read_blocks(bytes)?;
        let outside =
            |key: &Vec<u8>| key[..] <= *after || up_to.is_some_and(|up_to| key[..] > *up_to);
        if theirs.keys().any(outside) {
            return Err(TakeOverError::Malformed);
        }
        self.take_over_epochs(&epochs, &mut theirs)?;
        let before = up_to.map(|up_to| [up_to, &[0]].concat());
        let mut from = after.to_vec();
        loop {
            let mut state = self.lock();
            let ours = self.read(&mut state, |state| {
                let mut ours = Vec::new();
                state.visit(&from, before.as_deref(), &mut |key, record| {
                    ours.push((key.to_vec(), record.clone()));
                    if ours.len() >= RECORDS_PER_TURN {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                Ok(ours)
            })?;
            let ended = ours.len() < RECORDS_PER_TURN;
            let mut turn = theirs;
            theirs = match ours.last() {
                Some((last, _)) if !ended => turn.split_off(&[last, &[0][..]].concat()),
                _ => BTreeMap::new(),
            };
            if let Some((last, _)) = ours.last() {
                from.clone_from(last);
            }
            kept.extend(self.reconcile(state, ours, turn, source)?);
            if ended {
                return Ok(kept);
            }
        }
    }

    /// Ends tables of which a page has rows of a later one, and passes over rows on it of tables that
    /// were dropped here.
    fn take_over_epochs(
        &self,
        epochs: &BTreeMap<Vec<u8>, Option<TableEpoch>>,
        theirs: &mut BTreeMap<Vec<u8>, Theirs>,
    ) -> Result<(), ReadOnly> {
        for (name, epoch) in epochs {
            let mut state = self.lock();
            match state.relation(name, *epoch) {
                Relation::Same => {}
                Relation::New(epoch) => {
                    let row = TableRow {
                        epoch,
                        ..TableRow::new(name)
                    };
                    self.describe_taken(&mut state, &row)?;
                }
                Relation::Old | Relation::Foreign => {
                    let of_table = record_key(name, b"")..after_table(name);
                    theirs.retain(|key, _| !of_table.contains(key));
                }
            }
        }
        Ok(())
    }

    /// Enters what a peer's state says of a table, for this node alone.
    fn describe_taken(&self, state: &mut State, row: &TableRow) -> Result<(), ReadOnly> {
        self.journal.ensure_writable()?;
        let mut encoded = Vec::new();
        encode_table(&mut encoded, row);
        let (position, _) = self
            .journal
            .append(Stream::Local, |_, entry| entry.extend_from_slice(&encoded))?;
        state.describe(row, position);
        Ok(())
    }

    /// Brings records in line with what a page has in their place.
    fn reconcile(
        &self,
        mut state: std::sync::MutexGuard<'_, State>,
        ours: Vec<(Vec<u8>, Record)>,
        mut theirs: BTreeMap<Vec<u8>, Theirs>,
        source: Source<'_>,
    ) -> Result<Vec<Kept>, ReadOnly> {
        let applied = self.journal.applied();
        let damaged = state.mending.is_damaged();
        let comparing = source.comparing || applied.includes(source.version);
        let comparing = comparing && !damaged;
        let mut kept = Vec::new();
        let mut sure = Vec::new();
        let mut taken: BTreeMap<Vec<u8>, Vec<Taken>> = BTreeMap::new();
        let mut removed = Vec::new();
        let table = |key: &[u8]| split_key(key).map_or(key, |(name, _)| name).to_vec();
        for (key, record) in ours {
            match theirs.remove(&key) {
                None if !source.version.covers(record.dot) => {}
                None if comparing && !state.may_be_absent(&record) => kept.push(Kept {
                    key,
                    dot: record.dot,
                }),
                None => removed.push((key, record)),
                Some(there) if record.doubtful && there.row == record.row => {
                    sure.push((key, record));
                }
                Some(there) => {
                    let same = there.row == record.row && there.dot < record.dot;
                    if same || there.row.supersedes(&record.row) {
                        let entries = taken.entry(table(&key)).or_default();
                        entries.push((key, there, Some(record)));
                    }
                }
            }
        }
        for (key, there) in theirs {
            if damaged || !applied.covers(there.dot) {
                taken
                    .entry(table(&key))
                    .or_default()
                    .push((key, there, None));
            }
        }
        for (key, before) in sure {
            let record = Record {
                doubtful: false,
                ..before.clone()
            };
            state.enter(key, record, Some(&before));
        }
        if taken.is_empty() && removed.is_empty() {
            return Ok(kept);
        }
        self.journal.ensure_writable()?;
        for (name, entries) in taken {
            self.enter_taken(&mut state, &name, entries)?;
        }
        self.remove_taken(&mut state, removed)?;
        self.end(state)?;
        Ok(kept)
    }

    /// Writes rows again that a copy lacks which should be the same: as operations of this node,
    /// above what was there, so that all copies have them. Gives how many of which table. Those that
    /// changed since, or are due by now, are passed over.
    pub(crate) fn write_kept(&self, kept: &[Kept]) -> Result<BTreeMap<Vec<u8>, u64>, ReadOnly> {
        let mut state = self.lock();
        if state.mending.is_damaged() {
            return Ok(BTreeMap::new());
        }
        let keys: Vec<Vec<u8>> = kept.iter().map(|kept| kept.key.clone()).collect();
        let records = self.read(&mut state, |state| state.get(&keys))?;
        let mut rows: BTreeMap<Vec<u8>, Vec<KeyedRow>> = BTreeMap::new();
        for (kept, record) in kept.iter().zip(records) {
            let unchanged = record.filter(|r| r.dot == kept.dot && !state.may_be_absent(r));
            if let (Some(record), Some((name, key))) = (unchanged, split_key(&kept.key)) {
                let rows = rows.entry(name.to_vec()).or_default();
                rows.push((key.to_vec(), record.row));
            }
        }
        let counts = rows
            .iter()
            .map(|(name, rows)| (name.clone(), rows.len() as u64));
        let counts: BTreeMap<Vec<u8>, u64> = counts.collect();
        if !counts.is_empty() {
            self.journal.ensure_writable()?;
        }
        for (name, rows) in rows {
            self.write_again(&mut state, &name, rows)?;
        }
        self.end(state)?;
        Ok(counts)
    }

    /// Enters rows of a page, as operations of this node alone.
    fn enter_taken(
        &self,
        state: &mut State,
        name: &[u8],
        entries: Vec<Taken>,
    ) -> Result<(), ReadOnly> {
        let mut strays = Vec::new();
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let mut encoded = Vec::new();
            let mut entered = Vec::new();
            encode_rows_of(&mut encoded, name, state.epoch(name));
            while let Some((key, there, before)) = entries.next_if(|(key, there, _)| {
                let fits = encoded.len() + row_bytes(key, &there.row) <= BLOCK_BYTES;
                entered.is_empty() || (fits && entered.len() < ROWS_PER_OPERATION_MAX)
            }) {
                let row_key = split_key(&key).map_or(&key[..], |(_, key)| key);
                encode_row(&mut encoded, row_key, &there.row, Some(there.dot));
                entered.push((key, there, before));
            }
            let (position, _) = self
                .journal
                .append(Stream::Local, |_, entry| entry.extend_from_slice(&encoded))?;
            state.position = position;
            let count = entered.len();
            for (at, (key, there, before)) in entered.into_iter().enumerate() {
                let Theirs { row, dot } = there;
                let row_key = split_key(&key).map_or(&key[..], |(_, key)| key).to_vec();
                let changed = match &before {
                    Some(known) if known.row == row => known.changed,
                    _ => position_of(position, at, count),
                };
                let unknown = before.is_none() && !state.mending.is_damaged();
                if unknown && self.is_stray(state, name, &row_key, &row, dot) {
                    strays.push((row_key, row.clone()));
                }
                let record = Record {
                    row,
                    dot,
                    changed,
                    doubtful: false,
                };
                state.enter(key, record, before.as_ref());
            }
        }
        let strays: Vec<KeyedRow> = strays;
        self.write_again(state, name, strays)
    }

    /// Removes rows that were removed where a page comes from. They are not seen going here: an
    /// operation that changes nothing gives the position from which on a watcher knows.
    fn remove_taken(
        &self,
        state: &mut State,
        removed: Vec<(Vec<u8>, Record)>,
    ) -> Result<(), ReadOnly> {
        let mut told: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for (key, record) in removed {
            let Some((name, _)) = split_key(&key) else {
                continue;
            };
            let unseen = told.entry(name.to_vec()).or_default();
            *unseen |= !record.row.is_tombstone();
            state
                .knowledge
                .removed
                .advance(record.dot.origin, record.dot.sequence);
            state.knowledge_dirty = true;
            state.remove(key, &record);
        }
        for (name, _) in told.into_iter().filter(|(_, unseen)| *unseen) {
            let table = state.table(&name);
            let mut encoded = Vec::new();
            encode_table(&mut encoded, &table.row);
            let (position, _) = self
                .journal
                .append(Stream::Local, |_, entry| entry.extend_from_slice(&encoded))?;
            table.forget_changes(position);
            state.position = position;
        }
        Ok(())
    }

    /// What is known of the origins after `after`.
    pub(crate) fn shared_knowledge(&self, after: Option<Origin>, bytes_max: usize) -> Piece {
        let applied = self.journal.applied();
        let state = self.lock();
        let count = (bytes_max / KNOWN_BYTES).max(1);
        let mut known = state.knowledge.known(&applied, after, count + 1);
        let more = known.len() > count;
        known.truncate(count);
        let last = known.last().map(|known| known.origin.bytes().to_vec());
        let bytes = rmp_serde::to_vec(&known).expect("numbers are plain data");
        (last.filter(|_| more), bytes)
    }

    /// Takes over what another copy knows of the origins after `after` up to `up_to`.
    pub(crate) fn take_over_knowledge(
        &self,
        after: Option<Origin>,
        up_to: Option<Origin>,
        bytes: &[u8],
        source: Source<'_>,
    ) -> Result<(), TakeOverError> {
        let theirs: Vec<Known> =
            rmp_serde::from_slice(bytes).map_err(|_| TakeOverError::Malformed)?;
        let comparing = source.comparing || self.journal.applied().includes(source.version);
        let mut state = self.lock();
        let damaged = state.mending.is_damaged();
        if after.is_none() {
            if damaged {
                state.begin_gathering();
            }
            state.fresh = state.knowledge.removed.is_empty();
        }
        let fresh = state.fresh;
        let before = state.knowledge.clone();
        state
            .knowledge
            .take_over(after, up_to, &theirs, fresh, damaged || !comparing);
        state.knowledge_dirty |= state.knowledge != before;
        Ok(())
    }

    /// The tables after the one named `after`.
    pub(crate) fn shared_tables(&self, after: &[u8], bytes_max: usize) -> Piece {
        self.shared(after, bytes_max, |_, table| (table.row.clone(), 0))
    }

    /// The floors of the tables after the one named `after`.
    pub(crate) fn shared_floors(&self, after: &[u8], bytes_max: usize) -> Piece {
        self.shared(after, bytes_max, |name, table| {
            let floors = table.floors.to_bytes();
            let length = floors.len();
            let shared = SharedFloors {
                name: name.to_vec().into(),
                epoch: table.row.epoch,
                floors: floors.into(),
            };
            (shared, length)
        })
    }

    /// What `of` says of the tables after the one named `after`, and how many bytes it takes beside
    /// the name, about.
    fn shared<T: Serialize>(
        &self,
        after: &[u8],
        bytes_max: usize,
        of: impl Fn(&[u8], &Table) -> (T, usize),
    ) -> Piece {
        let state = self.lock();
        let (mut shared, mut next, mut bytes) = (Vec::new(), None, 0);
        let from = (Bound::Excluded(after), Bound::Unbounded);
        let mut last = after;
        for (name, table) in state.tables.range::<[u8], _>(from) {
            if bytes >= bytes_max {
                next = Some(last.to_vec());
                break;
            }
            let (what, length) = of(name, table);
            bytes += KNOWN_BYTES + name.len() + length;
            shared.push(what);
            last = name;
        }
        let bytes = rmp_serde::to_vec_named(&shared).expect("rows are plain data");
        (next, bytes)
    }

    /// Takes over what a page says of tables.
    pub(crate) fn take_over_tables(&self, bytes: &[u8]) -> Result<(), TakeOverError> {
        let shared: Vec<TableRow> =
            rmp_serde::from_slice(bytes).map_err(|_| TakeOverError::Malformed)?;
        let named = |table: &TableRow| validate_name(&table.name).is_ok();
        if !shared.iter().all(named) {
            return Err(TakeOverError::Malformed);
        }
        let mut state = self.lock();
        for shared in &shared {
            let name = &shared.name;
            let relation = state.relation(name, shared.epoch);
            let known = state.tables.get(name);
            let mut described = known.map_or_else(|| TableRow::new(name), |t| t.row.clone());
            let news = described.merge(shared) || known.is_none();
            match relation {
                Relation::Old | Relation::Foreign => continue,
                Relation::New(epoch) => {
                    let row = TableRow { epoch, ..described };
                    self.describe_taken(&mut state, &row)?;
                }
                Relation::Same if news => self.describe_taken(&mut state, &described)?,
                Relation::Same => {}
            }
            state.table(name).touch();
        }
        Ok(())
    }

    /// Takes over the floors on a page, of tables that are the same here.
    pub(crate) fn take_over_floors(&self, bytes: &[u8]) -> Result<(), TakeOverError> {
        let shared: Vec<SharedFloors> =
            rmp_serde::from_slice(bytes).map_err(|_| TakeOverError::Malformed)?;
        let read = |shared: &SharedFloors| Floors::from_bytes(&shared.floors);
        let floors: Result<Vec<Floors>, _> = shared.iter().map(read).collect();
        let floors = floors.map_err(|_| TakeOverError::Malformed)?;
        let mut state = self.lock();
        for (shared, floors) in shared.iter().zip(&floors) {
            let same = matches!(state.relation(&shared.name, shared.epoch), Relation::Same);
            if same
                && let Some(table) = state.tables.get_mut(&shared.name[..])
                && table.floors.merge(floors)
            {
                table.touch_floors();
            }
        }
        Ok(())
    }
}

/// A row of a page that is taken, with the one it takes the place of.
type Taken = (Vec<u8>, Theirs, Option<Record>);

/// Bytes of rows in one block of a page, and in one operation made of it.
const BLOCK_BYTES: usize = 64 << 10;

/// A page of rows being written.
#[derive(Default)]
struct Blocks {
    bytes: Vec<u8>,
    block: Vec<u8>,
    name: Vec<u8>,
    count: usize,
}

impl Blocks {
    fn length(&self) -> usize {
        self.bytes.len() + self.block.len()
    }

    fn add(&mut self, state: &State, record_key: &[u8], record: &Record) {
        let Some((name, key)) = split_key(record_key) else {
            return;
        };
        let full = self.block.len() >= BLOCK_BYTES || self.count >= ROWS_PER_OPERATION_MAX;
        if self.count == 0 || full || self.name != name {
            self.end_block();
            name.clone_into(&mut self.name);
            encode_rows_of(&mut self.block, name, state.epoch(name));
        }
        encode_row(&mut self.block, key, &record.row, Some(record.dot));
        self.count += 1;
    }

    fn end_block(&mut self) {
        if self.count > 0 {
            let length = self.block.len() as u32;
            self.bytes.extend_from_slice(&length.to_le_bytes());
            self.bytes.append(&mut self.block);
            self.count = 0;
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.end_block();
        self.bytes
    }
}

/// Rows by the keys of their records, and the epochs of their tables.
type Read = (
    BTreeMap<Vec<u8>, Theirs>,
    BTreeMap<Vec<u8>, Option<TableEpoch>>,
);

/// What is on a page. It is no longer than a message.
fn read_blocks(mut bytes: &[u8]) -> Result<Read, TakeOverError> {
    let (mut theirs, mut epochs) = (BTreeMap::new(), BTreeMap::new());
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk().ok_or(TakeOverError::Malformed)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (block, rest) = rest
            .split_at_checked(length)
            .ok_or(TakeOverError::Malformed)?;
        let rows: Rows<'_> = match decode(block) {
            Ok(Operation::Rows(rows)) => rows,
            _ => return Err(TakeOverError::Malformed),
        };
        if *epochs.entry(rows.name.to_vec()).or_insert(rows.epoch) != rows.epoch {
            return Err(TakeOverError::Malformed);
        }
        for row in rows.iter() {
            let dot = row.made_by.ok_or(TakeOverError::Malformed)?;
            let key = record_key(rows.name, row.key);
            theirs.insert(key, Theirs { row: row.row, dot });
        }
        bytes = rest;
    }
    Ok((theirs, epochs))
}
