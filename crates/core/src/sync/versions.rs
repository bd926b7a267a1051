//! What a peer has, as it says itself, and what is said to peers.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::fingerprint::version_hash;
use super::limits::{ORIGINS_MAX, RANGES_MAX, REPORT_ENTRIES_MAX};
use super::message::{Content, Entry};
use crate::origin::Origin;
use crate::version::VersionVector;

/// What is said of one origin.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    durable: u64,
    received: u64,
    mark: u64,
    /// Of the report that said so.
    stamp: u64,
}

/// What a peer has, put together from its reports of one session.
#[derive(Debug, Default)]
pub(super) struct Known {
    told: BTreeMap<Origin, Told>,
    /// What its summary should be: of all of `told`.
    hash: u64,
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
            Content::Moved(entries) | Content::News(_, entries) => {
                self.take_entries(stamp, entries, &mut change);
            }
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
                let before = version_hash(entry.origin, told.durable, told.received);
                *told = Told {
                    durable: entry.durable,
                    received: entry.received.max(entry.durable),
                    mark: entry.mark,
                    stamp,
                };
                let after = version_hash(entry.origin, told.durable, told.received);
                self.hash = self.hash.wrapping_sub(before).wrapping_add(after);
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
            if let Some(told) = self.told.remove(&origin) {
                let hash = version_hash(origin, told.durable, told.received);
                self.hash = self.hash.wrapping_sub(hash);
            }
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

    /// Operations of `origin` that the peer has for good, and the last mark in them.
    pub(super) fn mark(&self, origin: Origin) -> (u64, u64) {
        let told = self.told.get(&origin);
        told.map_or((0, 0), |told| (told.durable, told.mark))
    }

    /// Operations of `origin` that need not be sent to it.
    pub(super) fn received(&self, origin: Origin) -> u64 {
        self.told.get(&origin).map_or(0, |told| told.received)
    }

    /// Everything that the peer has for good.
    pub(super) fn version(&self) -> VersionVector {
        let told = self.told.iter();
        VersionVector::from_sorted(told.map(|(origin, told)| (*origin, told.durable)))
    }

    /// Whether the peer has all of `version` for good.
    pub(super) fn includes(&self, version: &VersionVector) -> bool {
        version
            .iter()
            .all(|(origin, count)| self.durable(origin) >= count)
    }

    /// What the peer's summary should be.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Lowers `held` to what the peer has for good too.
    pub(super) fn meet(&self, held: &mut VersionVector) {
        let told = self.told.iter();
        held.meet_sorted(told.map(|(origin, told)| (*origin, told.durable)));
    }
}

/// What this node has, as it is said to peers. It is kept from one report to the next, so that a
/// peer is told what changed since and not everything.
#[derive(Debug, Default)]
pub(super) struct Mine {
    said: BTreeMap<Origin, Said>,
    /// The origin of each change that is the last one of its origin.
    changes: BTreeMap<u64, Origin>,
    /// Changes seen so far.
    pub(super) revision: u64,
    /// Of everything.
    pub(super) hash: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Said {
    durable: u64,
    received: u64,
    mark: u64,
    /// Which change brought it there.
    revision: u64,
}

impl Mine {
    /// Looks what changed and gives the origins. `aside` has how many operations are put aside, by
    /// origin; `mark` gives the last mark in so many operations of an origin.
    pub(super) fn refresh(
        &mut self,
        applied: &VersionVector,
        durable: &VersionVector,
        aside: impl Iterator<Item = (Origin, u64)>,
        mark: impl Fn(Origin, u64) -> u64,
    ) -> Vec<Origin> {
        let aside: BTreeMap<Origin, u64> = aside.collect();
        let more = |origin: &Origin| aside.get(origin).copied().unwrap_or(0);
        let mut changed = Vec::new();
        let mut look = |origin: Origin, received: u64, said: Said| {
            let durable = durable.get(origin).min(received);
            if (durable, received) != (said.durable, said.received) {
                changed.push((origin, durable, received));
            }
        };
        for (origin, said) in &self.said {
            let received = applied.get(*origin).saturating_add(more(origin));
            look(*origin, received, *said);
        }
        let new = |origin: &Origin| !self.said.contains_key(origin);
        for (origin, count) in applied.iter().filter(|(origin, _)| new(origin)) {
            look(origin, count.saturating_add(more(&origin)), Said::default());
        }
        let unapplied = |origin: &Origin| new(origin) && applied.get(*origin) == 0;
        for (origin, count) in aside.iter().filter(|(origin, _)| unapplied(origin)) {
            look(*origin, *count, Said::default());
        }
        for (origin, durable, received) in &changed {
            self.change(*origin, *durable, *received, mark(*origin, *durable));
        }
        changed.into_iter().map(|(origin, ..)| origin).collect()
    }

    fn change(&mut self, origin: Origin, durable: u64, received: u64, mark: u64) {
        if self.said.len() >= ORIGINS_MAX && !self.said.contains_key(&origin) {
            return;
        }
        self.revision += 1;
        let said = self.said.entry(origin).or_default();
        self.changes.remove(&said.revision);
        self.changes.insert(self.revision, origin);
        let before = version_hash(origin, said.durable, said.received);
        let after = version_hash(origin, durable, received);
        self.hash = self.hash.wrapping_sub(before).wrapping_add(after);
        *said = Said {
            durable,
            received,
            mark,
            revision: self.revision,
        };
    }

    fn entry(&self, origin: Origin) -> Entry {
        let said = self.said.get(&origin).copied().unwrap_or_default();
        Entry {
            origin,
            durable: said.durable,
            received: said.received,
            mark: said.mark,
        }
    }

    /// What changed since `revision`, in parts that fit a report each; the last one has the hash
    /// of everything.
    pub(super) fn news(&self, revision: u64) -> Vec<Content> {
        let changes = self.changes.range(revision.saturating_add(1)..);
        let mut origins: Vec<Origin> = changes.map(|(_, origin)| *origin).collect();
        origins.sort_unstable();
        let parts = origins.chunks(REPORT_ENTRIES_MAX);
        let parts = parts.map(|part| part.iter().map(|origin| self.entry(*origin)).collect());
        let mut contents: Vec<Content> = parts.map(Content::Moved).collect();
        if let Some(Content::Moved(entries)) = contents.pop() {
            contents.push(Content::News(self.hash, entries));
        }
        contents
    }

    /// Everything, in parts that fit a report each.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Content> + '_ {
        let origins: Vec<Origin> = self.said.keys().copied().collect();
        let parts = origins.len().div_ceil(REPORT_ENTRIES_MAX).max(1);
        (0..parts).map(move |part| {
            let from = part * REPORT_ENTRIES_MAX;
            let to = (from + REPORT_ENTRIES_MAX).min(origins.len());
            let listed = origins[from..to].iter();
            Content::Range {
                after: (part > 0).then(|| origins[from - 1]),
                through: (part + 1 < parts).then(|| origins[to - 1]),
                entries: listed.map(|origin| self.entry(*origin)).collect(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::fingerprint::versions_hash;
    use proptest::prelude::*;

    fn origin(number: u8) -> Origin {
        Origin::new([number; 16])
    }

    fn entry(number: u8, durable: u64, received: u64) -> Entry {
        Entry {
            origin: origin(number),
            durable,
            received,
            mark: 0,
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

    /// What is durable and what is applied.
    fn versions(has: &[(u8, u64, u64)]) -> [VersionVector; 2] {
        let durable = has
            .iter()
            .map(|(number, durable, _)| (origin(*number), *durable));
        let applied = has
            .iter()
            .map(|(number, _, applied)| (origin(*number), *applied));
        [durable.collect(), applied.collect()]
    }

    proptest! {
        #[test]
        fn whoever_hears_all_news_knows_all(
            steps in prop::collection::vec(
                (prop::collection::vec((0..6u8, 0..9u64, 0..9u64), 0..5), (0..6u8, 0..4u64)),
                1..12,
            ),
        ) {
            let mut has: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
            let (mut mine, mut known, mut told) = (Mine::default(), Known::default(), None);
            for (stamp, (changes, (at, aside))) in (1..).zip(steps) {
                for (number, durable, ahead) in changes {
                    let (before, applied) = has.get(&number).copied().unwrap_or_default();
                    let applied = applied.max(durable + ahead);
                    has.insert(number, (before.max(durable), applied));
                }
                let list: Vec<(u8, u64, u64)> =
                    has.iter().map(|(number, (durable, applied))| (*number, *durable, *applied)).collect();
                let [durable, applied] = versions(&list);
                mine.refresh(&applied, &durable, [(origin(at), aside)].into_iter(), |_, _| 0);
                let parts = told.map_or_else(|| mine.ranges().collect(), |told| mine.news(told));
                for part in &parts {
                    known.take(stamp, part);
                }
                told = Some(mine.revision);
                prop_assert_eq!(known.hash(), mine.hash);
                let entries = list.iter().map(|(number, durable, applied)| {
                    let more = if *number == at { aside } else { 0 };
                    (origin(*number), *durable, applied + more)
                });
                let alone = (!has.contains_key(&at) && aside > 0).then_some((origin(at), 0, aside));
                prop_assert_eq!(versions_hash(entries.chain(alone)), mine.hash);
                prop_assert!(mine.news(mine.revision).is_empty());
            }
        }
    }

    #[test]
    fn many_news_come_in_parts_of_which_the_last_has_the_hash() {
        let numbers = 0..REPORT_ENTRIES_MAX as u128 + 5;
        let applied = numbers
            .map(|number| (Origin::new(number.to_be_bytes()), 1))
            .collect();
        let mut mine = Mine::default();
        mine.refresh(
            &applied,
            &VersionVector::default(),
            std::iter::empty(),
            |_, _| 0,
        );
        let parts = mine.news(0);
        let counts: Vec<(bool, usize)> = parts
            .iter()
            .map(|part| match part {
                Content::Moved(entries) => (false, entries.len()),
                Content::News(hash, entries) => (*hash == mine.hash, entries.len()),
                _ => panic!("{part:?}"),
            })
            .collect();
        assert_eq!(counts, [(false, REPORT_ENTRIES_MAX), (true, 5)]);
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
