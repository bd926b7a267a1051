//! What a peer has, as it says itself, and what is said to peers.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::Replica;
use super::fingerprint::versions_hash;
use super::limits::{ORIGINS_MAX, RANGES_MAX, REPORT_ENTRIES_MAX};
use super::message::{Content, Entry};
use crate::origin::Origin;
use crate::version::VersionVector;

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    durable: u64,
    received: u64,
    /// Of the report that said so.
    stamp: u64,
}

/// What a peer has, put together from its reports of one session.
#[derive(Debug, Default)]
pub(super) struct Known {
    told: BTreeMap<Origin, Told>,
    /// Stamp of its newest report.
    newest: u64,
    /// Ranges of origins that were reported, first to last, until all were.
    covered: BTreeMap<u128, u128>,
    complete: bool,
}

/// What a report changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The peer has less of something than it said before.
    pub(super) lowered: bool,
    /// It has more origins than are followed.
    pub(super) full: bool,
}

impl Known {
    /// Takes what a report says. Reports may come in any order: of what two say about one origin,
    /// the newer one's word is kept.
    pub(super) fn take(&mut self, stamp: u64, content: &Content) -> Change {
        let mut change = Change::default();
        match content {
            Content::Summary(_) => {}
            Content::Moved(entries) => self.take_entries(stamp, entries, &mut change),
            Content::Range {
                after,
                through,
                entries,
            } => {
                self.clear_range(stamp, (*after, *through), entries, &mut change);
                self.take_entries(stamp, entries, &mut change);
                self.cover(*after, *through);
            }
        }
        self.newest = self.newest.max(stamp);
        change
    }

    fn take_entries(&mut self, stamp: u64, entries: &[Entry], change: &mut Change) {
        for entry in entries {
            let full = self.told.len() >= ORIGINS_MAX;
            let told = match self.told.entry(entry.origin) {
                std::collections::btree_map::Entry::Vacant(_) if full => {
                    change.full = true;
                    continue;
                }
                slot => slot.or_default(),
            };
            if told.stamp < stamp {
                change.lowered |= entry.durable < told.durable || entry.received < told.received;
                *told = Told {
                    durable: entry.durable,
                    received: entry.received.max(entry.durable),
                    stamp,
                };
            }
        }
    }

    /// Forgets the origins of a range that a newer report passes over.
    fn clear_range(
        &mut self,
        stamp: u64,
        (after, through): (Option<Origin>, Option<Origin>),
        entries: &[Entry],
        change: &mut Change,
    ) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = through.map_or(Bound::Unbounded, Bound::Included);
        if matches!((after, through), (Some(after), Some(through)) if after >= through) {
            return;
        }
        let listed = |origin: &Origin| entries.binary_search_by_key(origin, |e| e.origin).is_ok();
        let absent: Vec<Origin> = self
            .told
            .range((from, to))
            .filter(|(origin, told)| told.stamp < stamp && !listed(origin))
            .map(|(origin, _)| *origin)
            .collect();
        change.lowered |= !absent.is_empty();
        for origin in absent {
            self.told.remove(&origin);
        }
    }

    /// Notes that a range of origins was reported.
    fn cover(&mut self, after: Option<Origin>, through: Option<Origin>) {
        if self.complete {
            return;
        }
        let number = |origin: Origin| u128::from_be_bytes(origin.bytes());
        let mut first = after.map_or(0, |origin| number(origin).saturating_add(1));
        let mut last = through.map_or(u128::MAX, number);
        // Ranges that overlap or touch the new one become one with it.
        let joined: Vec<(u128, u128)> = self
            .covered
            .range(..=last.saturating_add(1))
            .filter(|(_, end)| end.saturating_add(1) >= first)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in joined {
            self.covered.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        if self.covered.len() < RANGES_MAX {
            self.covered.insert(first, last);
        }
        if (first, last) == (0, u128::MAX) {
            self.complete = true;
            self.covered.clear();
        }
    }

    /// Whether everything was reported at least once.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether a report with this stamp is newer than all that came.
    pub(super) fn is_newest(&self, stamp: u64) -> bool {
        stamp > self.newest
    }

    /// Operations of `origin` that the peer has for good.
    pub(super) fn durable(&self, origin: Origin) -> u64 {
        self.told.get(&origin).map_or(0, |told| told.durable)
    }

    /// Operations of `origin` that need not be sent to it.
    pub(super) fn received(&self, origin: Origin) -> u64 {
        self.told.get(&origin).map_or(0, |told| told.received)
    }

    /// Everything that the peer has for good.
    pub(super) fn version(&self) -> VersionVector {
        self.told
            .iter()
            .filter(|(_, told)| told.durable > 0)
            .map(|(origin, told)| (*origin, told.durable))
            .collect()
    }

    /// Whether the peer has all of `version` for good.
    pub(super) fn includes(&self, version: &VersionVector) -> bool {
        version
            .iter()
            .all(|(origin, count)| self.durable(origin) >= count)
    }

    /// What the peer's summary should be.
    pub(super) fn hash(&self) -> u64 {
        versions_hash(
            self.told
                .iter()
                .filter(|(_, told)| told.received > 0)
                .map(|(origin, told)| (*origin, told.durable, told.received)),
        )
    }
}

/// What this node has, as it is said to peers.
#[derive(Debug)]
pub(super) struct Mine {
    entries: Vec<Entry>,
    /// Of all entries.
    pub(super) hash: u64,
}

impl Mine {
    /// `aside` has how many operations are put aside, by origin.
    pub(super) fn new(replica: &impl Replica, aside: impl Iterator<Item = (Origin, u64)>) -> Self {
        let durable = replica.durable();
        let mut received = replica.applied().clone();
        for (origin, count) in aside {
            received.advance(origin, received.get(origin).saturating_add(count));
        }
        let entries: Vec<Entry> = received
            .iter()
            .take(ORIGINS_MAX)
            .map(|(origin, received)| Entry {
                origin,
                durable: durable.get(origin).min(received),
                received,
            })
            .collect();
        let hash = versions_hash(entries.iter().map(|e| (e.origin, e.durable, e.received)));
        Mine { entries, hash }
    }

    /// Everything, in parts that fit a report each.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Content> + '_ {
        let parts = self.entries.len().div_ceil(REPORT_ENTRIES_MAX).max(1);
        (0..parts).map(move |part| {
            let from = part * REPORT_ENTRIES_MAX;
            let to = (from + REPORT_ENTRIES_MAX).min(self.entries.len());
            Content::Range {
                after: (part > 0).then(|| self.entries[from - 1].origin),
                through: (part + 1 < parts).then(|| self.entries[to - 1].origin),
                entries: self.entries[from..to].to_vec(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(number: u8) -> Origin {
        Origin::new([number; 16])
    }

    fn entry(number: u8, durable: u64, received: u64) -> Entry {
        Entry {
            origin: origin(number),
            durable,
            received,
        }
    }

    fn whole(entries: Vec<Entry>) -> Content {
        Content::Range {
            after: None,
            through: None,
            entries,
        }
    }

    #[test]
    fn the_newest_word_counts_in_whatever_order_it_comes() {
        let reports = [
            (1, whole(vec![entry(1, 5, 6), entry(2, 3, 3)])),
            (2, Content::Moved(vec![entry(1, 7, 7)])),
            (3, whole(vec![entry(1, 2, 2)])),
        ];
        for order in [[0, 1, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut known = Known::default();
            for index in order {
                known.take(reports[index].0, &reports[index].1);
            }
            assert!(known.is_complete());
            assert_eq!(known.durable(origin(1)), 2, "{order:?}");
        }
        let mut known = Known::default();
        known.take(1, &reports[0].1);
        assert!(known.take(3, &reports[2].1).lowered);
        assert_eq!(known.durable(origin(2)), 0);
        assert!(!known.take(2, &reports[1].1).lowered);
    }

    #[test]
    fn it_is_complete_once_every_range_was_told() {
        let parts = [(None, Some(3)), (Some(3), Some(7)), (Some(7), None)];
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
            let mut known = Known::default();
            for index in order {
                assert!(!known.is_complete());
                let (after, through) = parts[index];
                let content = Content::Range {
                    after: after.map(origin),
                    through: through.map(origin),
                    entries: vec![],
                };
                known.take(1, &content);
            }
            assert!(known.is_complete(), "{order:?}");
        }
    }

    #[test]
    fn a_known_peer_hashes_as_it_does_itself() {
        let entries = vec![entry(1, 5, 6), entry(2, 0, 3)];
        let hash = versions_hash(entries.iter().map(|e| (e.origin, e.durable, e.received)));
        let mut known = Known::default();
        known.take(1, &whole(vec![entry(1, 5, 6), entry(9, 1, 1)]));
        assert_ne!(known.hash(), hash);
        known.take(2, &whole(entries));
        assert_eq!(known.hash(), hash);
    }
}
