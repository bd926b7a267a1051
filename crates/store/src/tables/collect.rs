//! Removing rows that are gone.
//!
//! A tombstone may go once nobody can bring an older row of its key any more: all members have it,
//! and everything that a member made before it did is in here. A row that has expired may go when
//! that is so and it is due at all members (`core/src/table/horizon.rs`): no single clock removes
//! anything. A row that came with the state of a member which was set back since may have been made by an
//! operation that is nowhere any more; when it is due it goes as well. What is left is a floor, so what no floor can carry stays. Of a table that is exchanged over a link nothing is removed, since
//! strangers may bring anything at any time.

use grapevine_core::sync::Stable;
use grapevine_core::table::FLOOR_MAX;

use super::Tables;
use super::record::{Record, split_key};
use super::state::State;
use crate::journal::ReadOnly;

/// Rows that are looked at for removal in one call.
const EXAMINED_MAX: usize = 4096;

impl Tables {
    /// Takes note of the clocks: `wall` in milliseconds since 1970, `running` in milliseconds from
    /// any point that is the same for this run of the node and does not follow the wall clock. To
    /// be called at least once a minute. True if what is to be kept of it should be written soon,
    /// by [`flush`](Self::flush).
    pub fn read_clocks(&self, wall: u64, running: u64) -> bool {
        let mut state = self.lock();
        let over = state.knowledge.horizon.read(wall, running);
        state.knowledge_dirty = true;
        over && !state.tables.is_empty()
    }

    /// Rows that expired before this time are due on this node, in milliseconds since 1970; 0:
    /// none are.
    pub fn horizon(&self) -> u64 {
        self.lock().knowledge.horizon.due_before()
    }

    /// The same of all members, as of the last [`collect`](Self::collect).
    pub fn agreed_horizon(&self) -> u64 {
        self.lock().agreed
    }

    /// Removes rows that are gone and that nobody needs any more; `stable` is what the sync
    /// machine says of the members. Gives how many it removed. To be called now and then; the
    /// work of one call is bounded.
    ///
    /// # Errors
    /// When the file of rows cannot be read.
    pub fn collect(&self, stable: &Stable) -> Result<u64, ReadOnly> {
        let applied = self.journal.applied();
        let mut state = self.lock();
        let horizon = stable.horizon.min(state.knowledge.horizon.due_before());
        state.agreed = horizon;
        if state.tables.is_empty() || state.mending.is_damaged() {
            return Ok(0);
        }
        if state.knowledge.settle(stable, &applied) {
            state.knowledge_dirty = true;
        }
        if self.journal.read_only().is_some() {
            return Ok(0);
        }
        let mut keys = gone_in_memory(&state, horizon);
        let room = EXAMINED_MAX.saturating_sub(keys.len());
        if let (Some(file), true) = (state.file.clone(), room > 0) {
            let due = file.due(&state.due_after, horizon, room);
            if due.is_err() && self.give_up_damaged(&mut state) {
                return Ok(0);
            }
            let due = due.map_err(|error| self.fail(&error))?;
            // From the beginning again, once the end was reached.
            state.due_after = match due.last() {
                Some(last) if due.len() == room => last.place.clone(),
                _ => Vec::new(),
            };
            keys.extend(due.into_iter().map(|due| due.key));
        }
        let records = self.read(&mut state, |state| state.get(&keys))?;
        if state.mending.is_damaged() {
            return Ok(0);
        }
        let mut removed = 0;
        for (key, record) in keys.into_iter().zip(records) {
            // The same key may have been found twice.
            let newest = state.overlay.records.get(&key).cloned();
            let Some(record) = newest.unwrap_or(record) else {
                continue;
            };
            let reached = stable.version.covers(record.dot);
            let nobodys = stable.at_rest && !applied.covers(record.dot);
            if (reached || nobodys) && may_go(&state, &key, &record) {
                if reached {
                    state.knowledge_dirty |= state
                        .knowledge
                        .removed
                        .advance(record.dot.origin, record.dot.sequence);
                }
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

/// Whether a row may go once its operation has reached all members, or is nowhere.
fn may_go(state: &State, key: &[u8], record: &Record) -> bool {
    let linked = split_key(key)
        .and_then(|(name, _)| state.tables.get(name))
        .is_none_or(|table| table.row.linked);
    let carried = record.row.version <= FLOOR_MAX;
    record.is_due(state.agreed) && carried && !linked
}

/// Keys of rows not in the file yet that are due.
fn gone_in_memory(state: &State, horizon: u64) -> Vec<Vec<u8>> {
    if state.overlay.due == 0 {
        return Vec::new();
    }
    let due = |record: &Option<Record>| record.as_ref().is_some_and(|r| r.is_due(horizon));
    let entries = state.overlay.records.iter();
    let keys = entries.filter(|(_, record)| due(record));
    keys.map(|(key, _)| key.clone())
        .take(EXAMINED_MAX)
        .collect()
}
