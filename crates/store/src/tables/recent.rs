//! The last changes of a table, in memory, by position.
//!
//! What was removed for good is among them with what was left of it, so who follows closely is told
//! of every deletion, however soon its tombstone goes.

use std::collections::VecDeque;

use grapevine_core::table::{Content, Row};

use super::record::Record;
use crate::log::Position;

/// What a change takes in memory beside its key, about: a queue that grows has twice the room, and
/// no key takes less than the allocator gives.
const OVERHEAD_BYTES: usize = 96;
/// What is left of a row that was removed, about.
const REMOVED_BYTES: usize = 128;

/// One change.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) position: Position,
    pub(super) key: Vec<u8>,
    /// The row that it made, without values, if that was removed since.
    pub(super) removed: Option<Box<Record>>,
}

impl Change {
    /// Memory that it takes, about.
    fn bytes(&self) -> usize {
        let removed = if self.removed.is_some() {
            REMOVED_BYTES
        } else {
            0
        };
        OVERHEAD_BYTES + self.key.len() + removed
    }
}

/// The last changes of a table. Every one behind `from` is there.
#[derive(Debug, Default)]
pub(super) struct Recent {
    changes: VecDeque<Change>,
    from: Position,
    bytes: usize,
}

impl Recent {
    /// None of what comes behind this position.
    pub(super) fn behind(from: Position) -> Self {
        Recent {
            from,
            ..Recent::default()
        }
    }

    /// The position behind which all changes are there.
    pub(super) fn from(&self) -> Position {
        self.from
    }

    /// Memory that they take, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Those after a position that is not before [`from`](Self::from), the oldest first.
    pub(super) fn after(&self, since: Position) -> impl Iterator<Item = &Change> {
        let begin = self.place(since.saturating_add(1));
        self.changes.range(begin..)
    }

    /// The place of the first change at that position or behind it.
    fn place(&self, position: Position) -> usize {
        self.changes
            .partition_point(|change| change.position < position)
    }

    /// A change behind all others.
    pub(super) fn push(&mut self, position: Position, key: &[u8]) {
        let change = Change {
            position,
            key: key.to_vec(),
            removed: None,
        };
        self.bytes += change.bytes();
        self.changes.push_back(change);
    }

    /// The row that last changed in one of these was removed for good.
    pub(super) fn note_removed(&mut self, key: &[u8], record: &Record) {
        let place = self.place(record.changed);
        let change = self.changes.get_mut(place);
        let Some(change) = change.filter(|c| c.position == record.changed && c.key == key) else {
            return;
        };
        let content = match record.row.values() {
            Some(_) => Content::Values(Vec::new()),
            None => Content::Tombstone,
        };
        let row = Row {
            version: record.row.version,
            content,
            expires: record.row.expires,
        };
        self.bytes -= change.bytes();
        change.removed = Some(Box::new(Record { row, ..*record }));
        self.bytes += change.bytes();
    }

    /// Forgets the older half.
    pub(super) fn forget_half(&mut self) {
        let count = self.changes.len().div_ceil(2);
        for change in self.changes.drain(..count) {
            self.from = change.position;
            self.bytes -= change.bytes();
        }
    }

    /// Undoes what is behind a position.
    pub(super) fn take_back(&mut self, settled: Position) {
        while let Some(last) = self.changes.back()
            && last.position > settled
        {
            self.bytes -= last.bytes();
            self.changes.pop_back();
        }
        self.from = self.from.min(settled);
    }
}
