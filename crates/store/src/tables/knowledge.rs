//! What is known of who knows of removed tombstones, and of when rows may be removed.
//!
//! Where a tombstone was removed, an older row of its key can still come: from a node that made
//! it alone and joins later. It is told from the others' rows by whose it is. An origin is
//! *vouched for* once everything that it had made without knowing of what was removed here is in;
//! rows that it makes later stand above what it has seen. A row of any other origin that stands
//! below the floor is written again above it (`docs/decisions/0007-tables.md` has the argument).

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::origin::Origin;
use grapevine_core::sync::Stable;
use grapevine_core::table::Horizon;
use grapevine_core::version::{Dot, VersionVector};
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Knowledge {
    /// The operations that made what was removed, here or where floors came from.
    pub(super) removed: VersionVector,
    /// Whose operations, as far as they are not in, were made knowing of all of that.
    pub(super) vouched: BTreeSet<Origin>,
    /// What those had whose floors were taken over: where one of these operations brings a row of
    /// a key that is absent, the row may have been removed there. It is not told from one that
    /// another key's floor hides, so it is taken as it is, and the next comparison of the whole
    /// state removes it if it has to go.
    pub(super) taken_over: VersionVector,
    /// The same of those whose whole state was taken over since operations were lacking here: only
    /// those can know of a removal that this node does not.
    pub(super) doubts: VersionVector,
    /// Which rows that have expired are due here.
    pub(super) horizon: Horizon,
}

/// What a snapshot says of one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) origin: Origin,
    /// Of [`Knowledge::removed`].
    pub(super) removed: u64,
    /// Operations that are in, or were where floors came from; none where there are no floors.
    pub(super) applied: u64,
    pub(super) vouched: bool,
}

impl Knowledge {
    /// Whether a row that an operation brings, below the floor and of a key that is absent, is to
    /// be written again.
    pub(super) fn is_stray(&self, dot: Dot) -> bool {
        !self.vouched.contains(&dot.origin) && !self.taken_over.covers(dot)
    }

    /// Whether a row of a key that is absent, which an operation brings, may have been removed where
    /// floors came from.
    pub(super) fn is_doubtful(&self, dot: Dot) -> bool {
        self.doubts.covers(dot)
    }

    /// All members have `stable`, and everything that they made before is in; true if that
    /// changed anything.
    pub(super) fn settle(&mut self, stable: &Stable, applied: &VersionVector) -> bool {
        let before = (self.taken_over.len(), self.doubts.len());
        let vouched: BTreeSet<Origin> = if stable.version.includes(&self.removed) {
            stable.members.clone()
        } else {
            let both = self.vouched.intersection(&stable.members);
            both.copied().collect()
        };
        let changed = vouched != self.vouched;
        self.vouched = vouched;
        if applied.includes(&self.taken_over) {
            self.taken_over = VersionVector::default();
        }
        if applied.includes(&self.doubts) {
            self.doubts = VersionVector::default();
        }
        changed || before != (self.taken_over.len(), self.doubts.len())
    }

    /// Takes over what another copy says of the origins after `after` up to `up_to` (none: to the
    /// end), which ascend. `fresh`: nothing was removed here before. `lacking`: operations are
    /// lacking here that the copy has.
    pub(super) fn take_over(
        &mut self,
        after: Option<Origin>,
        up_to: Option<Origin>,
        theirs: &[Known],
        fresh: bool,
        lacking: bool,
    ) {
        let theirs: BTreeMap<Origin, &Known> =
            theirs.iter().map(|known| (known.origin, known)).collect();
        let in_range = |origin: Origin| {
            after.is_none_or(|after| origin > after) && up_to.is_none_or(|up_to| origin <= up_to)
        };
        let vouched_there = |origin: &Origin| theirs.get(origin).is_some_and(|known| known.vouched);
        self.vouched
            .retain(|origin| !in_range(*origin) || vouched_there(origin));
        for (origin, known) in theirs.iter().filter(|(origin, _)| in_range(**origin)) {
            self.removed.advance(*origin, known.removed);
            self.taken_over.advance(*origin, known.applied);
            if lacking {
                self.doubts.advance(*origin, known.applied);
            }
            if fresh && known.vouched {
                self.vouched.insert(*origin);
            }
        }
    }

    /// What a snapshot says of the origins after `after`, at most `count`.
    pub(super) fn known(
        &self,
        applied: &VersionVector,
        after: Option<Origin>,
        count: usize,
    ) -> Vec<Known> {
        let mut origins: BTreeSet<Origin> = applied.iter_after(after).map(|(o, _)| o).collect();
        origins.extend(self.taken_over.iter_after(after).map(|(origin, _)| origin));
        origins.extend(self.removed.iter_after(after).map(|(origin, _)| origin));
        let later = |origin: &&Origin| after.is_none_or(|after| **origin > after);
        origins.extend(self.vouched.iter().filter(later));
        // Where nothing was ever removed, no floors were taken over either, and all rows stand.
        let floors = !self.removed.is_empty() || !self.taken_over.is_empty();
        let known = |origin: Origin| Known {
            origin,
            removed: self.removed.get(origin),
            // What came from elsewhere had met those operations too.
            applied: if floors {
                applied.get(origin).max(self.taken_over.get(origin))
            } else {
                0
            },
            vouched: self.vouched.contains(&origin),
        };
        origins.into_iter().take(count).map(known).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("versions are plain data")
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let read: Knowledge = rmp_serde::from_slice(bytes).ok()?;
        read.horizon.is_sound().then_some(read)
    }
}
