//! Clocks that are wrong, and copies that lack what is not due.

use grapevine_core::sync::{Off, Replica as _};

use super::exchange::{compare, node_with_table, pages, settle, take_over};
use super::*;
use crate::collections::{Diverged, Divergence};
use crate::tables::{Deletion, TableError};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// When everything begins, by the right clock.
const NOON: u64 = 1_800_000_000_000;

/// The right clock, and time as nodes run.
struct Time(u64);

impl Time {
    /// All nodes run for `time`, each with a clock that is ahead by so much.
    fn pass(&mut self, time: u64, nodes: &[(&Collections, u64)]) {
        let end = self.0 + time;
        while self.0 < end {
            self.0 = end.min(self.0 + 10 * MINUTE_MS);
            for (node, ahead) in nodes {
                node.tables().read_clocks(NOON + self.0 + ahead, self.0);
            }
        }
    }

    fn now(&self) -> u64 {
        NOON + self.0
    }
}

fn lease(node: &Collections, key: &str, expires: u64) {
    let tables = node.tables();
    let set = tables.set(b"t", key.as_bytes(), b"x", Some(expires));
    set.expect("it writes");
}

/// All remove what they may.
fn collect(nodes: &[&Arc<Collections>]) -> u64 {
    let all: Vec<&Collections> = nodes.iter().map(|node| &***node).collect();
    let each = nodes.iter().map(|node| {
        let mut stable = stable(&all);
        stable.version = node.journal().applied();
        for other in &all {
            stable.version.meet(&other.journal().applied());
        }
        node.tables().collect(&stable).expect("it collects")
    });
    each.sum()
}

fn is_there(node: &Collections, key: &str) -> bool {
    let found = node.tables().find(b"t", key.as_bytes()).expect("it reads");
    found.is_some()
}

/// A copy loses a row as no operation could take it.
fn lose(node: &Collections, key: &str) {
    let mut state = node.tables().lock();
    let key = super::super::record::record_key(b"t", key.as_bytes());
    let record = state.get_one(key.clone()).expect("reads").expect("there");
    state.remove(key, &record);
}

fn lacked(node: &Collections, peer: &Collections, count: u64) {
    let expected = Divergence {
        peer: origin(peer),
        what: Diverged::Table(b"t".to_vec()),
        count,
    };
    assert_eq!(node.divergences(), [expected]);
}

#[test]
fn expired_rows_go_after_a_day_of_running_time() {
    let (_, node) = node_with_table();
    let mut time = Time(0);
    lease(&node, "lease", time.now() + 1000);
    time.pass(DAY_MS - HOUR_MS, &[(&node, 0)]);
    assert_eq!(collect(&[&node]), 0);
    node.tables().flush().expect("flushed");
    assert_eq!(collect(&[&node]), 0);
    time.pass(2 * HOUR_MS, &[(&node, 0)]);
    assert_eq!(collect(&[&node]), 1, "in the file");
    lease(&node, "another", time.now() - 2 * DAY_MS);
    assert_eq!(collect(&[&node]), 1, "in memory");
    assert_eq!(
        node.tables()
            .summary(b"t")
            .expect("whole rows")
            .expect("a table")
            .rows,
        0
    );
}

#[test]
fn a_member_whose_clock_is_ahead_removes_no_rows_of_others() {
    for ahead in [2 * DAY_MS, 365 * DAY_MS] {
        let [(_, a), (_, b), (_, c)] = [(); 3].map(|()| node_with_table());
        let mut time = Time(0);
        time.pass(2 * DAY_MS, &[(&a, 0), (&b, 0)]);
        lease(&a, "of a", time.now() + 30 * DAY_MS);
        lease(&b, "of b", time.now() + HOUR_MS);
        // For eight seconds, then for good: it is only one of three.
        for joined in [8000, 3 * DAY_MS] {
            time.pass(joined, &[(&a, 0), (&b, 0), (&c, ahead)]);
            settle(&[&a, &b, &c]);
            collect(&[&a, &b, &c]);
            for (from, to) in [(&c, &a), (&c, &b), (&a, &c)] {
                compare(from, to);
            }
            for node in [&a, &b, &c] {
                assert!(is_there(node, "of a"), "after {joined} ms");
                assert_eq!(is_there(node, "of b"), joined == 8000);
                assert_eq!(node.divergences(), []);
            }
        }
    }
}

#[test]
fn a_node_that_starts_two_days_ahead_keeps_its_rows() {
    let (disk, node) = node_with_table();
    let mut time = Time(0);
    time.pass(2 * DAY_MS, &[(&node, 0)]);
    lease(&node, "lease", time.now() + HOUR_MS);
    node.checkpoint().expect("a snapshot");
    drop(node);
    disk.kill();
    let node = open(&disk);
    let mut started = Time(time.0);
    started.pass(4000, &[(&node, 2 * DAY_MS)]);
    assert_ne!(node.tables().horizon(), 0, "it ran for two days before");
    assert_eq!(collect(&[&node]), 0);
    assert!(is_there(&node, "lease"));
    drop(node);
    disk.kill();
    let node = open(&disk);
    assert!(is_there(&node, "lease"));
    time.pass(3 * DAY_MS, &[(&node, 0)]);
    assert_eq!(collect(&[&node]), 1, "and its time comes");
}

#[test]
fn what_is_not_due_is_never_taken_for_removed_by_a_copy_with_the_same_operations() {
    let [(_, a), (_, b), (_, c)] = [(); 3].map(|()| node_with_table());
    set(&a, "kept", "v");
    lease(&a, "lease", NOON + DAY_MS);
    set(&a, "deleted", "v");
    settle(&[&a, &b, &c]);
    delete(&b, "deleted");
    settle(&[&a, &b, &c]);
    for key in ["kept", "lease"] {
        lose(&c, key);
    }
    compare(&c, &a);
    for key in ["kept", "lease"] {
        assert!(is_there(&a, key), "{key} is gone");
    }
    lacked(&a, &c, 2);
    settle(&[&a, &b, &c]);
    assert_eq!(shown(&c, "t"), shown(&a, "t"));
    assert_eq!(shown(&b, "t"), shown(&a, "t"));
    assert_eq!(shown(&a, "t").len(), 2, "what was deleted stays so");
    compare(&c, &a);
    lacked(&a, &c, 2);
}

#[test]
fn what_may_be_explained_by_an_operation_that_is_lacking_is_no_fault() {
    let (_, a) = node_with_table();
    let (_, away) = node_with_table();
    set(&a, "k", "v");
    settle(&[&a, &away]);
    delete(&a, "k");
    assert_eq!(collect(&[&a]), 1, "it does not wait for the other");
    // A comparison removes nothing, the operation is on its way.
    pages(&a, &away, 1 << 20, true);
    assert!(is_there(&away, "k"));
    take_over(&a, &away, 1 << 20);
    assert!(!is_there(&away, "k"), "now it is known to be gone");
    assert_eq!(away.divergences(), []);
}

#[test]
fn a_row_that_comes_behind_the_page_it_was_removed_from_goes_with_the_next_comparison() {
    let (_, a) = node_with_table();
    let (_, b) = node_with_table();
    let (_, late) = node_with_table();
    set(&b, "other", "v");
    set(&a, "k", "v");
    settle(&[&a, &b]);
    delete(&a, "k");
    assert_eq!(collect(&[&a]), 1);
    // The state of the first, and meanwhile an operation from the second.
    let version = a.journal().applied();
    let mut ours = pages(&a, &late, 1 << 20, false);
    super::exchange::send_own(&b, &late);
    super::exchange::send_first(&a, &b, &late);
    assert!(is_there(&late, "k"));
    ours.adopt(&version);
    compare(&a, &late);
    assert!(!is_there(&late, "k"));
    assert_eq!(late.divergences(), []);
}

#[test]
fn an_expired_row_becomes_a_deletion_only_when_it_is_due_at_all() {
    let (_, a) = node_with_table();
    let (_, b) = node_with_table();
    let mut time = Time(0);
    a.tables().link(b"t").expect("linked");
    lease(&a, "k", time.now() + 1000);
    time.pass(2 * DAY_MS, &[(&a, 0)]);
    settle(&[&a, &b]);
    collect(&[&a, &b]);
    let retire = |node: &Collections| node.tables().retire(b"t", b"k").expect("it writes");
    assert!(!retire(&a), "the other has not run for a day");
    time.pass(2 * DAY_MS, &[(&a, 0), (&b, 0)]);
    collect(&[&a, &b]);
    assert!(retire(&a));
    let row = a.tables().find(b"t", b"k").expect("reads").expect("there");
    assert!(row.is_tombstone());
}

#[test]
fn a_node_that_is_off_makes_no_rows_that_expire_and_goes_on_with_everything_else() {
    let [(_, a), (_, b)] = [(); 2].map(|()| node_with_table());
    lease(&a, "before", NOON + HOUR_MS);
    let off = Off {
        by: -(HOUR_MS as i64),
        from: 2,
        heard: 3,
    };
    a.tables().set_off(Some(off));
    let refused = a.tables().set(b"t", b"lease", b"x", Some(NOON + HOUR_MS));
    assert!(
        matches!(refused, Err(TableError::Clock(reason)) if reason == off),
        "{refused:?}"
    );
    assert!(!is_there(&a, "lease"));
    set(&a, "row", "x");
    let deleted = a.tables().delete(b"t", b"before", NOON);
    assert!(
        matches!(deleted, Ok(Deletion::Deleted { .. })),
        "{deleted:?}"
    );
    lease(&b, "of b", NOON + HOUR_MS);
    settle(&[&a, &b]);
    assert!(is_there(&a, "of b") && is_there(&b, "row"));
    a.tables().set_off(None);
    lease(&a, "lease", NOON + HOUR_MS);
    assert!(is_there(&a, "lease"));
}
