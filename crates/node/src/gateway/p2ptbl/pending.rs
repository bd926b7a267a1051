//! Which changed rows are still to be told to which links: a policy without a clock.
//!
//! A row that this node wrote is told at once, as the original does. One that came through the group
//! is told a little later, at a random moment, and only where nobody has told it meanwhile: of
//! several members on one link mostly one speaks. What is lost or does not fit is told by the
//! periodic gossip.

use std::collections::{BTreeMap, BTreeSet};

/// Rows that wait at a time; beyond them the periodic gossip has to do.
const WAITING_MAX: usize = 16 << 10;
/// Rows that were heard and are remembered.
const HEARD_MAX: usize = 16 << 10;
/// How long a row that was heard is remembered, in milliseconds: longer than it takes to enter it
/// and to see the change.
const HEARD_MS: u64 = 5000;
/// The longest that a row of somebody else's waits, in milliseconds.
pub(super) const PATIENCE_MS: u64 = 250;

/// A link, by its place among the configured interfaces.
pub(super) type Link = usize;

/// A row by its table's place among those that are told, and its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowName {
    pub(super) table: usize,
    pub(super) key: Vec<u8>,
}

#[derive(Debug)]
struct Waiting {
    due: u64,
    links: BTreeSet<Link>,
}

#[derive(Debug)]
struct Heard {
    until: u64,
    /// The largest version heard on each link.
    versions: BTreeMap<Link, i64>,
}

/// The rows that wait, and those heard lately. Times are milliseconds from any fixed point.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: BTreeMap<RowName, Waiting>,
    due: BTreeSet<(u64, RowName)>,
    heard: BTreeMap<RowName, Heard>,
    forgotten: BTreeSet<(u64, RowName)>,
}

impl Pending {
    /// Somebody told this row, at this version, on a link.
    pub(super) fn heard(&mut self, now: u64, row: &RowName, version: i64, link: Link) {
        self.forget(now);
        if !self.heard.contains_key(row) && self.heard.len() >= HEARD_MAX {
            return;
        }
        let heard = self.heard.entry(row.clone()).or_insert_with(|| Heard {
            until: 0,
            versions: BTreeMap::new(),
        });
        self.forgotten.remove(&(heard.until, row.clone()));
        heard.until = now + HEARD_MS;
        self.forgotten.insert((heard.until, row.clone()));
        let known = heard.versions.entry(link).or_insert(version);
        *known = (*known).max(version);
    }

    /// A row has this version now. `delay` is how long to wait for others to tell it: 0 for one
    /// that was written here, else below [`PATIENCE_MS`].
    pub(super) fn changed(
        &mut self,
        now: u64,
        row: RowName,
        links: impl IntoIterator<Item = Link>,
        delay: u64,
    ) {
        let due = now + delay;
        if let Some(waiting) = self.waiting.get_mut(&row) {
            waiting.links.extend(links);
            if due < waiting.due {
                self.due.remove(&(waiting.due, row.clone()));
                waiting.due = due;
                self.due.insert((due, row));
            }
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            return;
        }
        let links = links.into_iter().collect();
        self.due.insert((due, row.clone()));
        self.waiting.insert(row, Waiting { due, links });
    }

    /// Up to `count_max` rows to tell now, each with its links. The caller looks up what the row is
    /// now, and asks [`wanted`](Self::wanted) for each link.
    pub(super) fn take_due(
        &mut self,
        now: u64,
        count_max: usize,
    ) -> Vec<(RowName, BTreeSet<Link>)> {
        let mut taken = Vec::new();
        while taken.len() < count_max
            && self.due.first().is_some_and(|(due, _)| *due <= now)
            && let Some((_, row)) = self.due.pop_first()
        {
            if let Some(waiting) = self.waiting.remove(&row) {
                taken.push((row, waiting.links));
            }
        }
        taken
    }

    /// Whether nobody has told this version, or a larger one, on that link lately.
    pub(super) fn wanted(&self, row: &RowName, version: i64, link: Link) -> bool {
        let heard = self
            .heard
            .get(row)
            .and_then(|heard| heard.versions.get(&link));
        heard.is_none_or(|heard| *heard < version)
    }

    /// When the next row is due.
    pub(super) fn next(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    fn forget(&mut self, now: u64) {
        while let Some((until, row)) = self.forgotten.first().cloned() {
            if until > now {
                break;
            }
            self.forgotten.remove(&(until, row.clone()));
            self.heard.remove(&row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str) -> RowName {
        RowName {
            table: 0,
            key: key.into(),
        }
    }

    fn told(pending: &mut Pending, now: u64, version: i64) -> Vec<Link> {
        let taken = pending.take_due(now, usize::MAX);
        let wanted = taken.iter().flat_map(|(row, links)| {
            let pending = &*pending;
            links
                .iter()
                .copied()
                .filter(move |link| pending.wanted(row, version, *link))
        });
        wanted.collect()
    }

    #[test]
    fn what_was_written_here_is_told_at_once_and_once() {
        let mut pending = Pending::default();
        pending.changed(1000, row("a"), [0, 1], 0);
        assert_eq!(pending.next(), Some(1000));
        assert_eq!(told(&mut pending, 1000, 5), [0, 1]);
        assert!(told(&mut pending, 9000, 5).is_empty());
        assert_eq!(pending.next(), None);
    }

    #[test]
    fn who_hears_a_row_told_keeps_silent_on_that_link() {
        let mut pending = Pending::default();
        pending.changed(0, row("a"), [0, 1], 200);
        pending.heard(100, &row("a"), 5, 0);
        assert!(told(&mut pending, 199, 5).is_empty());
        assert_eq!(told(&mut pending, 200, 5), [1]);
    }

    #[test]
    fn an_older_version_heard_is_no_reason_to_be_silent() {
        let mut pending = Pending::default();
        pending.heard(0, &row("a"), 4, 0);
        pending.changed(10, row("a"), [0], 0);
        assert_eq!(told(&mut pending, 10, 5), [0]);
        // Heard first, entered after: it came from there.
        pending.heard(20, &row("a"), 6, 0);
        pending.changed(30, row("a"), [0, 1], 0);
        assert_eq!(told(&mut pending, 30, 6), [1]);
    }

    #[test]
    fn what_was_heard_is_forgotten() {
        let mut pending = Pending::default();
        pending.heard(0, &row("a"), 5, 0);
        pending.heard(HEARD_MS, &row("b"), 5, 0);
        assert!(pending.wanted(&row("a"), 5, 0));
        assert!(!pending.wanted(&row("b"), 5, 0));
        assert_eq!((pending.heard.len(), pending.forgotten.len()), (1, 1));
    }

    #[test]
    fn a_sooner_change_of_a_waiting_row_makes_it_due_sooner() {
        let mut pending = Pending::default();
        pending.changed(0, row("a"), [0], 200);
        pending.changed(10, row("a"), [1], 0);
        assert_eq!(told(&mut pending, 10, 5), [0, 1]);
        assert_eq!(pending.next(), None);
    }

    #[test]
    fn what_is_too_much_at_once_waits_its_turn() {
        let mut pending = Pending::default();
        for key in ["a", "b", "c"] {
            pending.changed(0, row(key), [0], 0);
        }
        assert_eq!(pending.take_due(0, 2).len(), 2);
        assert_eq!(pending.next(), Some(0));
        assert_eq!(pending.take_due(0, 2).len(), 1);
    }

    #[test]
    fn a_flood_takes_bounded_room() {
        let mut pending = Pending::default();
        for number in 0..3 * WAITING_MAX {
            let row = row(&number.to_string());
            pending.heard(0, &row, 1, 0);
            pending.changed(0, row, [0], 100);
        }
        assert_eq!(pending.waiting.len(), WAITING_MAX);
        assert_eq!(pending.due.len(), WAITING_MAX);
        assert_eq!(pending.heard.len(), HEARD_MAX);
        assert_eq!(pending.forgotten.len(), HEARD_MAX);
    }
}
