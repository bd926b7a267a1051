//! Copies that have the same operations and should be the same, and are not.
//!
//! Nothing is removed because of it. Rows that a copy lacks were written again and reach it; that
//! it happened at all is a fault, of a disk, a program or whoever exchanged files of a data
//! directory, and people have to know.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use grapevine_core::origin::Origin;

use super::Collections;

/// Members and collections that are told apart; what is beyond counts for the last one.
const DIVERGENCES_MAX: usize = 256;

/// What two copies do not have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Diverged {
    /// Rows of the table of that name; they were written again.
    Table(Vec<u8>),
    /// The filter of that name; it was kept.
    Filter(Vec<u8>),
}

/// Something that a member should have had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The member.
    pub peer: Origin,
    /// What it lacked.
    pub what: Diverged,
    /// How many rows, or how often the filter, since this node started.
    pub count: u64,
}

/// Counts by member and collection.
pub(super) type Counts = BTreeMap<(Origin, Diverged), u64>;

impl Collections {
    /// What members were found to lack, since this node started.
    pub fn divergences(&self) -> Vec<Divergence> {
        let counts = self.diverged.lock().unwrap_or_else(PoisonError::into_inner);
        let divergence = |((peer, what), count): (&(Origin, Diverged), &u64)| Divergence {
            peer: *peer,
            what: what.clone(),
            count: *count,
        };
        counts.iter().map(divergence).collect()
    }

    pub(super) fn note_divergence(&self, peer: Origin, what: Diverged, count: u64) {
        let mut counts = self.diverged.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counts.len() >= DIVERGENCES_MAX;
        let known = match counts.get_mut(&(peer, what.clone())) {
            Some(known) => known,
            None if full => match counts.last_entry() {
                Some(last) => last.into_mut(),
                None => return,
            },
            None => counts.entry((peer, what)).or_default(),
        };
        *known = known.saturating_add(count);
    }
}
