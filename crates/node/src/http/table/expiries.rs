//! Which rows of a table expire next: as many as fit a bound, the soonest. When they are used up
//! the table is looked through for the next ones, so a table may have any number of rows that
//! expire.

use std::collections::BTreeSet;

/// Rows that are kept, at most.
const ENTRIES_MAX: usize = 16 * 1024;
/// Bytes of keys that are kept, at most.
const BYTES_MAX: usize = 2 << 20;

/// When a row expires, in milliseconds since 1970, and its key.
pub(super) type Expiry = (u64, Vec<u8>);

/// The soonest expiries of a table.
#[derive(Debug)]
pub(super) struct Expiries {
    soonest: BTreeSet<Expiry>,
    bytes: usize,
    entries_max: usize,
    /// The last one up to which none is missing; none: nothing was left out.
    horizon: Option<Expiry>,
    scan: Option<Scan>,
}

/// Looking through a table.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// Expiries up to this one are not wanted.
    pub(super) behind: Expiry,
    /// The key after which to go on.
    pub(super) after: Vec<u8>,
}

impl Expiries {
    /// Those of a table that is to be looked through for rows that expire after `told_ms`.
    pub(super) fn after(told_ms: u64) -> Self {
        Self::with_room(told_ms, ENTRIES_MAX)
    }

    fn with_room(told_ms: u64, entries_max: usize) -> Self {
        Expiries {
            soonest: BTreeSet::new(),
            bytes: 0,
            entries_max,
            horizon: None,
            scan: Some(Scan {
                behind: (told_ms.saturating_add(1), Vec::new()),
                after: Vec::new(),
            }),
        }
    }

    /// The same of a table all of whose rows are offered by the caller.
    pub(super) fn of_all(told_ms: u64) -> Self {
        let mut expiries = Self::after(told_ms);
        expiries.scan = None;
        expiries
    }

    /// A row that expires. What has no room is found again later.
    pub(super) fn offer(&mut self, at: u64, key: &[u8]) {
        let entry = (at, key.to_vec());
        if self.horizon.as_ref().is_some_and(|last| entry > *last) {
            return;
        }
        if self.soonest.insert(entry) {
            self.bytes += key.len();
        }
        while self.soonest.len() > self.entries_max || self.bytes > BYTES_MAX {
            if let Some((_, key)) = self.soonest.pop_last() {
                self.bytes -= key.len();
            }
            // All before the one that was left out are here.
            self.horizon = self.soonest.last().cloned();
        }
    }

    /// Takes up to `count` that are due at `now_ms`, the soonest first.
    pub(super) fn take_due(&mut self, now_ms: u64, count: usize) -> Vec<Expiry> {
        let mut due = Vec::new();
        while due.len() < count
            && self.soonest.first().is_some_and(|(at, _)| *at <= now_ms)
            && let Some(entry) = self.soonest.pop_first()
        {
            self.bytes -= entry.1.len();
            due.push(entry);
        }
        due
    }

    /// Where to look for further ones, if the table is to be looked through now.
    pub(super) fn scan(&mut self, now_ms: u64) -> Option<Scan> {
        if self.scan.is_none()
            && self.soonest.is_empty()
            && let Some(last) = self.horizon.take_if(|(at, _)| *at <= now_ms)
        {
            self.scan = Some(Scan {
                behind: last,
                after: Vec::new(),
            });
        }
        self.scan.clone()
    }

    /// The table was looked through up to a key, or (none) to its end.
    pub(super) fn scanned(&mut self, up_to: Option<Vec<u8>>) {
        match (up_to, &mut self.scan) {
            (Some(key), Some(scan)) => scan.after = key,
            _ => self.scan = None,
        }
    }

    /// When there is something to do next, in milliseconds since 1970.
    pub(super) fn next(&self) -> Option<u64> {
        let first = self.soonest.first().or(self.horizon.as_ref());
        first.map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Looks through a table of keys and their expiries.
    fn scan(expiries: &mut Expiries, table: &BTreeMap<Vec<u8>, u64>, now: u64) {
        while let Some(scan) = expiries.scan(now) {
            let next = table
                .range(scan.after.clone()..)
                .find(|(key, _)| **key > scan.after);
            if let Some((key, at)) = next
                && (*at, key.clone()) > scan.behind
            {
                expiries.offer(*at, key);
            }
            expiries.scanned(next.map(|(key, _)| key.clone()));
        }
    }

    proptest! {
        /// However few fit, each row is told once, in order, and none before its time.
        #[test]
        fn every_row_is_found_in_time(
            table in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 1..3), 0u64..40, 0..60),
            room in 1usize..8,
            begin in 0u64..10,
        ) {
            let mut expiries = Expiries::with_room(begin, room);
            let mut told = Vec::new();
            for now in begin..41 {
                loop {
                    scan(&mut expiries, &table, now);
                    let due = expiries.take_due(now, 2);
                    if due.is_empty() && expiries.next().is_none_or(|next| next > now) {
                        break;
                    }
                    prop_assert!(due.iter().all(|(at, _)| *at <= now));
                    told.extend(due);
                }
                let missing = table.iter().filter(|(key, at)| {
                    **at > begin && **at <= now && !told.contains(&(**at, (*key).clone()))
                });
                prop_assert_eq!(missing.count(), 0, "at {}", now);
            }
            let mut expected: Vec<Expiry> = table
                .iter()
                .filter(|(_, at)| **at > begin)
                .map(|(key, at)| (*at, key.clone()))
                .collect();
            expected.sort();
            prop_assert_eq!(told, expected);
        }
    }

    #[test]
    fn keys_are_bounded_by_bytes_too() {
        let mut expiries = Expiries::of_all(0);
        for number in 0..4000u64 {
            let key = [&number.to_be_bytes()[..], &[b'k'; 1000]].concat();
            expiries.offer(10_000 - number, &key);
        }
        assert!(expiries.bytes <= BYTES_MAX);
        let kept = expiries.soonest.len();
        assert!(kept > 2000);
        let due = expiries.take_due(u64::MAX, usize::MAX);
        assert_eq!((due.len(), due[0].0, expiries.bytes), (kept, 6001, 0));
        assert!(expiries.scan(u64::MAX).is_some(), "there are more");
    }
}
