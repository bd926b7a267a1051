//! Removing rows that are gone.
//!
//! A tombstone, or a row that expired long ago, may go once nobody can bring an older row of its
//! key any more: all members have it, and everything that a member made before it did is in here.
//! What is left is a floor. Of a table that is exchanged over a link nothing is removed, since
//! strangers may bring anything at any time.

use grapevine_core::sync::Stable;

use super::Tables;
use super::record::{Record, split_key};
use super::state::State;
use crate::journal::ReadOnly;

/// Rows that are looked at for removal in one call.
const EXAMINED_MAX: usize = 4096;

impl Tables {
    /// Removes rows that are gone at `now` (milliseconds since 1970) and that nobody needs any
    /// more; `stable` is what the sync machine says of the members. Gives how many it removed. To
    /// be called now and then; the work of one call is bounded.
    ///
    /// # Errors
    /// When the file of rows cannot be read.
    pub fn collect(&self, stable: &Stable, now: u64) -> Result<u64, ReadOnly> {
        let applied = self.journal.applied();
        let mut state = self.lock();
        if state.tables.is_empty() {
            return Ok(0);
        }
        if state.knowledge.settle(stable, &applied) {
            state.knowledge_dirty = true;
        }
        if self.journal.read_only().is_some() {
            return Ok(0);
        }
        let mut keys = gone_in_memory(&state, now);
        let room = EXAMINED_MAX.saturating_sub(keys.len());
        if let (Some(file), true) = (state.file.clone(), room > 0) {
            let due = file.due(&state.due_after, now, room);
            let due = due.map_err(|error| self.fail(&error))?;
            // From the beginning again, once the end was reached.
            state.due_after = match due.last() {
                Some(last) if due.len() == room => last.place.clone(),
                _ => Vec::new(),
            };
            keys.extend(due.into_iter().map(|due| due.key));
        }
        let records = state.get(&keys).map_err(|error| self.fail(&error))?;
        let mut removed = 0;
        for (key, record) in keys.into_iter().zip(records) {
            // The same key may have been found twice.
            let newest = state.overlay.records.get(&key).cloned();
            let Some(record) = newest.unwrap_or(record) else {
                continue;
            };
            if may_go(&state, &key, &record, stable, now) {
                state.knowledge_dirty |= state
                    .knowledge
                    .removed
                    .advance(record.dot.origin, record.dot.sequence);
                state.remove(key, &record);
                removed += 1;
            }
        }
        if removed > 0 {
            self.end(state)?;
        }
        Ok(removed)
    }
}

fn may_go(state: &State, key: &[u8], record: &Record, stable: &Stable, now: u64) -> bool {
    let linked = split_key(key)
        .and_then(|(name, _)| state.tables.get(name))
        .is_none_or(|table| table.row.linked);
    let due = record.due().is_some_and(|at| at <= now);
    due && !linked && stable.version.covers(record.dot)
}

/// Keys of rows not in the file yet that are due.
fn gone_in_memory(state: &State, now: u64) -> Vec<Vec<u8>> {
    if state.overlay.due == 0 {
        return Vec::new();
    }
    let due = |record: &Option<Record>| {
        let due = record.as_ref().and_then(Record::due);
        due.is_some_and(|at| at <= now)
    };
    let entries = state.overlay.records.iter();
    let keys = entries.filter(|(_, record)| due(record));
    keys.map(|(key, _)| key.clone())
        .take(EXAMINED_MAX)
        .collect()
}
