//! What must be true: every change with its position in the log, and the state that follows from
//! those before a given one.
//!
//! The log keeps a prefix of what was appended. So after a crash, the end of the recovered log
//! says exactly which changes survived: those before it must all be there, those after it must
//! not answer. A crash may cut the log only behind what its durability promised.

use std::collections::{BTreeMap, BTreeSet};

/// Number of a filter's epoch, unique in a run.
pub type Epoch = u64;
/// A key, unique in a run but where it is set again on purpose.
pub type Key = u64;

/// A change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A filter was made.
    Create {
        /// Its name.
        name: u64,
        /// Its epoch.
        epoch: Epoch,
        /// Its keys do not outlive the process.
        volatile: bool,
    },
    /// It was dropped.
    Drop(Epoch),
    /// It no longer answers to its name.
    Hide(Epoch),
    /// It does again.
    Show(Epoch),
    /// It holds these keys.
    Keys(Epoch, Vec<Key>),
}

/// A filter as it must be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    /// Its name.
    pub name: u64,
    /// Its keys do not outlive the process.
    pub volatile: bool,
    /// It does not answer to its name.
    pub hidden: bool,
    /// Keys that must be found.
    pub keys: BTreeSet<Key>,
}

/// All changes of a run, and the state they come to.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    changes: Vec<(u64, Change)>,
    /// Filters by epoch, as of all changes.
    pub filters: BTreeMap<Epoch, Expected>,
    /// Keys that may or may not be found: those of requests that failed half way, and those whose
    /// operation was lost but whose bits a snapshot had already caught.
    pub uncertain: BTreeSet<(Epoch, Key)>,
}

impl Ledger {
    /// Enters a change that reaches up to `position`.
    pub fn enter(&mut self, position: u64, change: Change) {
        self.apply(&change);
        self.changes.push((position, change));
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create {
                name,
                epoch,
                volatile,
            } => {
                let expected = Expected {
                    name: *name,
                    volatile: *volatile,
                    ..Expected::default()
                };
                self.filters.insert(*epoch, expected);
            }
            Change::Drop(epoch) => drop(self.filters.remove(epoch)),
            Change::Hide(epoch) => self.set_hidden(*epoch, true),
            Change::Show(epoch) => self.set_hidden(*epoch, false),
            Change::Keys(epoch, keys) => {
                if let Some(filter) = self.filters.get_mut(epoch) {
                    filter.keys.extend(keys);
                }
            }
        }
    }

    fn set_hidden(&mut self, epoch: Epoch, hidden: bool) {
        if let Some(filter) = self.filters.get_mut(&epoch) {
            filter.hidden = hidden;
        }
    }

    /// The process ended, and came back with a log that ends at `end`.
    pub fn restart(&mut self, end: u64) {
        let changes = std::mem::take(&mut self.changes);
        let (kept, lost): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|(position, _)| *position <= end);
        self.filters.clear();
        kept.iter().for_each(|(_, change)| self.apply(change));
        for (_, change) in &lost {
            if let Change::Keys(epoch, keys) = change {
                self.uncertain.extend(keys.iter().map(|key| (*epoch, *key)));
            }
        }
        self.changes = kept;
        // What was only in memory is gone, and so is every trace of it in the ledger.
        let volatile: BTreeSet<Epoch> = self
            .filters
            .iter()
            .filter(|(_, filter)| filter.volatile)
            .map(|(epoch, _)| *epoch)
            .collect();
        for epoch in &volatile {
            if let Some(filter) = self.filters.get_mut(epoch) {
                filter.keys.clear();
            }
        }
        self.changes.retain(
            |(_, change)| !matches!(change, Change::Keys(epoch, _) if volatile.contains(epoch)),
        );
    }

    /// The filter that answers to a name.
    #[must_use]
    pub fn visible(&self, name: u64) -> Option<Epoch> {
        let answers = |filter: &Expected| filter.name == name && !filter.hidden;
        self.filters
            .iter()
            .find(|(_, filter)| answers(filter))
            .map(|(epoch, _)| *epoch)
    }

    /// The filter that has a name, hidden or not.
    #[must_use]
    pub fn named(&self, name: u64) -> Option<Epoch> {
        self.filters
            .iter()
            .find(|(_, filter)| filter.name == name)
            .map(|(epoch, _)| *epoch)
    }
}
