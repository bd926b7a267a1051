//! Tables in memory: what is known of each, and the rows that are not in the file yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use grapevine_core::table::{Floors, TableRow};
use serde::{Deserialize, Serialize};

use super::damage::{Damage, Mending};
use super::epochs::Earlier;
use super::knowledge::Knowledge;
use super::recent::Recent;
use super::record::{Record, after_table, record_key, split_key};
use super::redb_store::corrupt;
use super::row_store::{Contents, RowStore, RowStoreError};
use crate::log::Position;

/// What a record takes in memory beside its bytes, about.
const RECORD_OVERHEAD_BYTES: usize = 160;

/// Rows by key; none: the row was removed.
pub(super) type Records = BTreeMap<Vec<u8>, Option<Record>>;

/// Rows that are not in the file yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    /// Tables of which nothing older than these records counts: they were dropped.
    pub(super) cleared: BTreeSet<Vec<u8>>,
    pub(super) records: Records,
    /// Memory that they take, about.
    pub(super) bytes: usize,
    /// How many entries were made for rows that may be removed some time.
    pub(super) due: usize,
}

impl Overlay {
    /// Whether no older record of that key counts.
    pub(super) fn hides(&self, key: &[u8]) -> bool {
        !self.cleared.is_empty()
            && split_key(key).is_some_and(|(name, _)| self.cleared.contains(name))
    }

    /// What there is of a key, and that nothing older of it counts; the outer none: neither.
    fn get(&self, key: &[u8]) -> Option<&Option<Record>> {
        let known = self.records.get(key);
        known.or_else(|| self.hides(key).then_some(&None))
    }

    /// Takes out all records of a table.
    pub(super) fn take(&mut self, name: &[u8]) -> Records {
        let (from, to) = (record_key(name, b""), after_table(name));
        let keys: Vec<Vec<u8>> = self
            .records
            .range(from..to)
            .map(|(k, _)| k.clone())
            .collect();
        let mut taken = Records::new();
        for key in keys {
            if let Some(record) = self.records.remove(&key) {
                self.bytes = self.bytes.saturating_sub(record_size(&key, &record));
                taken.insert(key, record);
            }
        }
        taken
    }

    pub(super) fn put(&mut self, key: Vec<u8>, record: Option<Record>) {
        self.bytes += record_size(&key, &record);
        self.due += usize::from(record.as_ref().is_some_and(|record| record.due().is_some()));
        let length = key.len();
        if let Some(old) = self.records.insert(key, record) {
            let values = old.as_ref().and_then(|record| record.row.values());
            let freed = length + values.map_or(0, <[u8]>::len) + RECORD_OVERHEAD_BYTES;
            self.bytes = self.bytes.saturating_sub(freed);
        }
    }
}

/// Memory that a record takes, about.
fn record_size(key: &[u8], record: &Option<Record>) -> usize {
    let values = record.as_ref().and_then(|record| record.row.values());
    key.len() + values.map_or(0, <[u8]>::len) + RECORD_OVERHEAD_BYTES
}

/// One table, or that it was dropped.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) row: TableRow,
    pub(super) floors: Floors,
    /// Rows that are no tombstones, and those that are.
    pub(super) counts: Counts,
    /// Rows were removed that changed last here: who has not seen all changes up to here cannot
    /// be told what is gone.
    pub(super) forgotten: Position,
    pub(super) recent: Recent,
    pub(super) dirty: bool,
    pub(super) floors_dirty: bool,
}

/// Rows of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) live: u64,
    pub(super) tombstones: u64,
}

impl Counts {
    pub(super) fn of(&mut self, record: &Record) -> &mut u64 {
        if record.row.is_tombstone() {
            &mut self.tombstones
        } else {
            &mut self.live
        }
    }
}

/// A table as the file has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    table: TableRow,
    counts: Counts,
    forgotten: Position,
}

impl Table {
    fn encode(&self) -> Vec<u8> {
        let stored = Stored {
            table: self.row.clone(),
            counts: self.counts,
            forgotten: self.forgotten,
        };
        rmp_serde::to_vec_named(&stored).expect("rows are plain data")
    }

    pub(super) fn touch_floors(&mut self) {
        self.floors_dirty = true;
        self.dirty = true;
    }

    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Who has not seen all changes up to here cannot be told what is gone.
    pub(super) fn forget_changes(&mut self, position: Position) {
        self.forgotten = position;
        self.recent = Recent::behind(position);
    }
}

/// Everything of tables.
#[derive(Default)]
pub(super) struct State {
    /// Those that exist, and what is left of those that were dropped.
    pub(super) tables: BTreeMap<Vec<u8>, Table>,
    /// Whose epochs count, see [`TableEpoch`](grapevine_core::table::TableEpoch).
    pub(super) lineage: [u8; 16],
    pub(super) overlay: Overlay,
    /// What is being written to the file; older than the overlay.
    pub(super) frozen: Option<Arc<Overlay>>,
    pub(super) file: Option<Arc<dyn RowStore>>,
    /// After the last operation on tables.
    pub(super) position: Position,
    /// What the file says of that.
    pub(super) in_file: Position,
    pub(super) knowledge: Knowledge,
    pub(super) knowledge_dirty: bool,
    pub(super) mending: Mending,
    /// Whether nothing had been removed here when the snapshot began that is being taken over.
    pub(super) fresh: bool,
    /// Rows that expired before this time are due at all members, as was last agreed.
    pub(super) agreed: u64,
    /// Where the next collection goes on.
    pub(super) due_after: Vec<u8>,
    /// Memory that recent changes of all tables may take, about; what they took when last counted,
    /// with what was added since.
    pub(super) recent_bytes_max: usize,
    recent_bytes: usize,
    /// What was there before changes that may not be as durable yet as promised, in their order.
    /// They are no more than what waits in the log.
    pub(super) unsettled: VecDeque<Unsettled>,
}

/// A change that may not be as durable yet as promised.
pub(super) struct Unsettled {
    /// The end of the operation that made it.
    pub(super) position: Position,
    pub(super) before: Before,
}

/// What was there.
pub(super) enum Before {
    Row(Vec<u8>, Option<Record>),
    Table(Vec<u8>, Option<TableRow>),
    Epoch(Vec<u8>, Box<Earlier>),
}

/// What a commit needs beside the records.
pub(super) struct Descriptions {
    pub(super) position: Position,
    pub(super) tables: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) floors: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) knowledge: Option<Vec<u8>>,
    pub(super) damage: Option<Vec<u8>>,
}

impl State {
    /// The state of a file.
    pub(super) fn load(contents: Contents, file: Arc<dyn RowStore>) -> Result<Self, RowStoreError> {
        let mut state = State {
            file: Some(file),
            position: contents.position,
            in_file: contents.position,
            ..State::default()
        };
        for (name, bytes) in contents.tables {
            let stored: Stored = rmp_serde::from_slice(&bytes)
                .map_err(|error| corrupt(&format!("a table does not decode: {error}")))?;
            let table = Table {
                row: stored.table,
                counts: stored.counts,
                forgotten: stored.forgotten,
                recent: Recent::behind(contents.position),
                ..Table::default()
            };
            state.tables.insert(name, table);
        }
        for (name, bytes) in contents.floors {
            let floors = Floors::from_bytes(&bytes).map_err(|error| corrupt(&error.to_string()))?;
            if let Some(table) = state.tables.get_mut(&name) {
                table.floors = floors;
            }
        }
        if let Some(bytes) = contents.knowledge {
            let knowledge = Knowledge::decode(&bytes);
            state.knowledge =
                knowledge.ok_or_else(|| corrupt("what is known of members does not decode"))?;
        }
        if let Some(bytes) = contents.damage {
            let damage = Damage::decode(&bytes);
            let damage = damage.ok_or_else(|| corrupt("what is missing does not decode"))?;
            state.mending.damage = Some(damage);
        }
        Ok(state)
    }

    /// Whether there is nothing that the file does not have.
    pub(super) fn is_written(&self) -> bool {
        self.frozen.is_none()
            && !self.mending.unwritten
            && self.overlay.records.is_empty()
            && self.overlay.cleared.is_empty()
            && (!self.knowledge_dirty || self.tables.is_empty())
            && !self.tables.values().any(|table| table.dirty)
    }

    /// Takes what is to be written; the overlay is empty afterwards.
    pub(super) fn freeze(&mut self) -> (Arc<Overlay>, Descriptions) {
        let frozen = Arc::new(std::mem::take(&mut self.overlay));
        self.frozen = Some(Arc::clone(&frozen));
        let mut descriptions = Descriptions {
            position: self.position,
            tables: Vec::new(),
            floors: Vec::new(),
            knowledge: std::mem::take(&mut self.knowledge_dirty).then(|| self.knowledge.encode()),
            damage: self.mending.encode(),
        };
        self.mending.unwritten = false;
        for (name, table) in self.tables.iter_mut().filter(|(_, table)| table.dirty) {
            table.dirty = false;
            descriptions.tables.push((name.clone(), table.encode()));
            if std::mem::take(&mut table.floors_dirty) {
                let floors = table.floors.to_bytes();
                descriptions.floors.push((name.clone(), floors));
            }
        }
        (frozen, descriptions)
    }

    /// Forgets what was there before changes that are settled now.
    pub(super) fn settle(&mut self, settled: Position) {
        while let Some(first) = self.unsettled.front()
            && first.position <= settled
        {
            self.unsettled.pop_front();
        }
    }

    /// Whether every change is as durable as promised.
    pub(super) fn is_settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Undoes the changes that are not settled.
    pub(super) fn take_back(&mut self, settled: Position) {
        self.settle(settled);
        while let Some(Unsettled { before, .. }) = self.unsettled.pop_back() {
            match before {
                Before::Row(key, before) => self.take_back_row(key, before),
                Before::Table(name, None) => drop(self.tables.remove(&name)),
                Before::Epoch(name, earlier) => self.take_back_epoch(&name, *earlier),
                Before::Table(name, Some(row)) => self.table(&name).row = row,
            }
        }
        self.position = self.position.min(settled);
        for table in self.tables.values_mut() {
            table.recent.take_back(settled);
            table.forgotten = table.forgotten.min(settled);
        }
    }

    fn take_back_row(&mut self, key: Vec<u8>, before: Option<Record>) {
        let entered = self.in_memory(&key).cloned().flatten();
        if let Some((name, _)) = split_key(&key)
            && let Some(table) = self.tables.get_mut(name)
        {
            if let Some(entered) = &entered {
                let count = table.counts.of(entered);
                *count = count.saturating_sub(1);
            }
            if let Some(before) = &before {
                *table.counts.of(before) += 1;
            }
        }
        self.put(key, before);
    }

    /// The table of that name, made if there is none.
    pub(super) fn table(&mut self, name: &[u8]) -> &mut Table {
        if !self.tables.contains_key(name) {
            let table = Table {
                row: TableRow::new(name),
                dirty: true,
                ..Table::default()
            };
            self.tables.insert(name.to_vec(), table);
        }
        self.tables.get_mut(name).expect("it was just put in")
    }

    /// The records of these keys, in their order.
    pub(super) fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Record>>, RowStoreError> {
        let mut found: Vec<Option<Record>> = vec![None; keys.len()];
        let (mut places, mut missing) = (Vec::new(), Vec::new());
        for (place, key) in keys.iter().enumerate() {
            match self.in_memory(key) {
                Some(record) => found[place] = record.clone(),
                None => {
                    places.push(place);
                    missing.push(&key[..]);
                }
            }
        }
        if let (Some(file), false) = (&self.file, missing.is_empty()) {
            for (place, record) in places.into_iter().zip(file.get(&missing)?) {
                found[place] = record;
            }
        }
        Ok(found)
    }

    pub(super) fn get_one(&self, key: Vec<u8>) -> Result<Option<Record>, RowStoreError> {
        Ok(self.get(&[key])?.pop().flatten())
    }

    fn in_memory(&self, key: &[u8]) -> Option<&Option<Record>> {
        let newest = self.overlay.get(key);
        newest.or_else(|| self.frozen.as_ref()?.get(key))
    }

    /// Whether what the file has of a key does not count.
    fn hides(&self, key: &[u8]) -> bool {
        self.overlay.hides(key) || self.frozen.as_ref().is_some_and(|frozen| frozen.hides(key))
    }

    /// Visits the records after `after` and before `before` in the order of their keys, those in
    /// memory and those in the file.
    pub(super) fn visit(
        &self,
        after: &[u8],
        before: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &Record) -> ControlFlow<()>,
    ) -> Result<(), RowStoreError> {
        self.visit_from(Bound::Excluded(after), before, visit)
    }

    /// The same from `begin` on, which may be the first to be visited.
    pub(super) fn visit_from(
        &self,
        begin: Bound<&[u8]>,
        before: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &Record) -> ControlFlow<()>,
    ) -> Result<(), RowStoreError> {
        if is_empty(begin, before) {
            return Ok(());
        }
        let range = (begin, before.map_or(Bound::Unbounded, Bound::Excluded));
        let newest = self.overlay.records.range::<[u8], _>(range);
        let older = self
            .frozen
            .iter()
            .flat_map(|frozen| frozen.records.range::<[u8], _>(range))
            .filter(|(key, _)| !self.overlay.hides(key));
        let mut memory = Merged {
            newest: newest.peekable(),
            older: older.peekable(),
        }
        .peekable();
        let mut ended = false;
        if let Some(file) = &self.file {
            file.visit(begin, before, &mut |key, record| {
                while let Some((newer, of)) = memory.next_if(|(newer, _)| *newer < key) {
                    if let Some(of) = of
                        && visit(newer, of).is_break()
                    {
                        ended = true;
                        return ControlFlow::Break(());
                    }
                }
                let flow = match memory.next_if(|(newer, _)| *newer == key) {
                    Some((_, None)) => ControlFlow::Continue(()),
                    Some((_, Some(newer))) => visit(key, newer),
                    None if self.hides(key) => ControlFlow::Continue(()),
                    None => visit(key, &record),
                };
                ended = flow.is_break();
                flow
            })?;
        }
        if !ended {
            for (key, record) in memory {
                if let Some(record) = record
                    && visit(key, record).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether a copy that has the operation which made a row and not the row may be right.
    pub(super) fn may_be_absent(&self, record: &Record) -> bool {
        record.doubtful || record.is_due(self.knowledge.horizon.due_before())
    }

    /// Puts a record in, in place of `before`: part of the operation that ends at the state's
    /// position.
    pub(super) fn enter(&mut self, key: Vec<u8>, record: Record, before: Option<&Record>) {
        let Some((name, row_key)) = split_key(&key) else {
            return;
        };
        let table = self.table(name);
        table.dirty = true;
        if let Some(before) = before {
            let count = table.counts.of(before);
            *count = count.saturating_sub(1);
        }
        *table.counts.of(&record) += 1;
        if before.is_none_or(|before| before.changed != record.changed) {
            let bytes = table.recent.bytes();
            table.recent.push(record.changed, row_key);
            self.recent_bytes += table.recent.bytes() - bytes;
            self.bound_recent();
        }
        self.unsettled.push_back(Unsettled {
            position: self.position,
            before: Before::Row(key.clone(), before.cloned()),
        });
        self.put(key, Some(record));
    }

    /// Keeps recent changes within their memory: tables that take most of it forget the older half
    /// of theirs. Who watches from before finds them among the rows.
    fn bound_recent(&mut self) {
        let bytes = |tables: &BTreeMap<Vec<u8>, Table>| -> usize {
            tables.values().map(|table| table.recent.bytes()).sum()
        };
        while self.recent_bytes > self.recent_bytes_max {
            let taken = bytes(&self.tables);
            if taken > self.recent_bytes_max {
                // Those with at least half of an equal share have at least half of all.
                let share = taken / self.tables.len().max(1) / 2;
                let large = self.tables.values_mut();
                for table in large.filter(|table| table.recent.bytes() >= share) {
                    table.recent.forget_half();
                }
            }
            self.recent_bytes = bytes(&self.tables);
        }
    }

    /// Removes a record that is there.
    pub(super) fn remove(&mut self, key: Vec<u8>, record: &Record) {
        let Some((name, row_key)) = split_key(&key) else {
            return;
        };
        let table = self.table(name);
        table.dirty = true;
        let count = table.counts.of(record);
        *count = count.saturating_sub(1);
        table.floors_dirty |= table.floors.raise(row_key, record.row.version);
        table.forgotten = table.forgotten.max(record.changed);
        table.recent.note_removed(row_key, record);
        self.put(key, None);
    }

    fn put(&mut self, key: Vec<u8>, record: Option<Record>) {
        self.overlay.put(key, record);
    }
}

/// Whether no key is in a range. Maps refuse such ranges.
pub(super) fn is_empty(begin: Bound<&[u8]>, before: Option<&[u8]>) -> bool {
    let begin = match begin {
        Bound::Included(key) | Bound::Excluded(key) => key,
        Bound::Unbounded => return false,
    };
    before.is_some_and(|before| before <= begin)
}

/// Two ordered sequences as one; where both have a key, the newest's counts.
struct Merged<A: Iterator, B: Iterator> {
    newest: std::iter::Peekable<A>,
    older: std::iter::Peekable<B>,
}

type Entry<'a> = (&'a Vec<u8>, &'a Option<Record>);

impl<'a, A, B> Iterator for Merged<A, B>
where
    A: Iterator<Item = Entry<'a>>,
    B: Iterator<Item = Entry<'a>>,
{
    type Item = (&'a [u8], &'a Option<Record>);

    fn next(&mut self) -> Option<Self::Item> {
        let from_older = match (self.newest.peek(), self.older.peek()) {
            (Some((newest, _)), Some((older, _))) => {
                if newest == older {
                    self.older.next();
                    false
                } else {
                    older < newest
                }
            }
            (newest, _) => newest.is_none(),
        };
        let entry = if from_older {
            self.older.next()
        } else {
            self.newest.next()
        };
        entry.map(|(key, record)| (&key[..], record))
    }
}
