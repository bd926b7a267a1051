//! What a copy has: per origin, how many of its operations, in their order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::origin::Origin;

/// The name of one operation of the group's stream: its origin and its number there, from 1 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Dot {
    /// Who made it.
    pub origin: Origin,
    /// Which of its operations, the first being 1.
    pub sequence: u64,
}

/// Per origin, the number of its first operations that are in: all of them, without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionVector(BTreeMap<Origin, u64>);

impl VersionVector {
    /// Operations of `origin` that are in.
    pub fn get(&self, origin: Origin) -> u64 {
        self.0.get(&origin).copied().unwrap_or(0)
    }

    /// Whether that operation is in.
    pub fn covers(&self, dot: Dot) -> bool {
        self.get(dot.origin) >= dot.sequence
    }

    /// Whether everything that `other` has is in.
    pub fn includes(&self, other: &VersionVector) -> bool {
        other
            .iter()
            .all(|(origin, count)| self.get(origin) >= count)
    }

    /// Notes that the first `count` operations of `origin` are in; true if that was news.
    pub fn advance(&mut self, origin: Origin, count: u64) -> bool {
        if count <= self.get(origin) {
            return false;
        }
        self.0.insert(origin, count);
        true
    }

    /// Takes the larger number for each origin.
    pub fn merge(&mut self, other: &VersionVector) {
        for (origin, count) in other.iter() {
            self.advance(origin, count);
        }
    }

    /// Lowers the number of one origin to at most `count`.
    pub fn limit(&mut self, origin: Origin, count: u64) {
        if count == 0 {
            self.0.remove(&origin);
        } else if let Some(number) = self.0.get_mut(&origin) {
            *number = (*number).min(count);
        }
    }

    /// Lowers every number to that of `other`: what both have.
    pub fn meet(&mut self, other: &VersionVector) {
        self.0.retain(|origin, count| {
            *count = (*count).min(other.get(*origin));
            *count > 0
        });
    }

    /// From pairs that ascend by origin, each once: built at once, not one by one.
    pub fn from_sorted(pairs: impl Iterator<Item = (Origin, u64)>) -> Self {
        VersionVector(pairs.filter(|(_, count)| *count > 0).collect())
    }

    /// Lowers every number to that of `other`, which ascends by origin.
    pub fn meet_sorted(&mut self, other: impl Iterator<Item = (Origin, u64)>) {
        let mut other = other.peekable();
        self.0.retain(|origin, count| {
            while other.next_if(|(theirs, _)| theirs < origin).is_some() {}
            let theirs = other.next_if(|(theirs, _)| theirs == origin);
            *count = theirs.map_or(0, |(_, theirs)| theirs.min(*count));
            *count > 0
        });
    }

    /// All origins with the number of operations in, ascending by origin.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, u64)> + '_ {
        self.0.iter().map(|(origin, count)| (*origin, *count))
    }

    /// The origins after `after` with their numbers, ascending.
    pub fn iter_after(&self, after: Option<Origin>) -> impl Iterator<Item = (Origin, u64)> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.0
            .range((from, Unbounded))
            .map(|(origin, count)| (*origin, *count))
    }

    /// Number of origins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Origin, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (Origin, u64)>>(pairs: I) -> Self {
        let mut vector = VersionVector::default();
        for (origin, count) in pairs {
            vector.advance(origin, count);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vector() -> impl Strategy<Value = VersionVector> {
        prop::collection::vec((0..5u8, 0..6u64), 0..8).prop_map(|pairs| {
            pairs
                .into_iter()
                .map(|(origin, count)| (Origin::new([origin; 16]), count))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn merge_is_a_join_and_meet_its_dual(a in vector(), b in vector()) {
            let mut join = a.clone();
            join.merge(&b);
            let mut other = b.clone();
            other.merge(&a);
            prop_assert_eq!(&join, &other);
            prop_assert!(join.includes(&a) && join.includes(&b));
            let mut meet = a.clone();
            meet.meet(&b);
            let mut sorted = a.clone();
            sorted.meet_sorted(b.iter());
            prop_assert_eq!(&sorted, &meet);
            prop_assert_eq!(&VersionVector::from_sorted(a.iter()), &a);
            prop_assert!(a.includes(&meet) && b.includes(&meet));
            prop_assert_eq!(a.includes(&b), join == a);
        }
    }
}
