//! Nodes that tell each other of their rows, by operations and by their state.

use grapevine_core::sync::{PageError, Read, Replica, Source};
use grapevine_core::version::Dot;

use super::*;
use crate::collections::Exchange;

const SECTIONS: [u8; 4] = [5, 6, 4, 8];

/// `from` tells `to` of all operations that it has not.
pub(super) fn send(from: &Arc<Collections>, to: &Arc<Collections>) {
    send_of(from, to, &from.journal().applied());
}

/// The same of those that `from` made itself.
pub(super) fn send_own(from: &Arc<Collections>, to: &Arc<Collections>) {
    let own = origin(from);
    let count = from.journal().applied().get(own);
    send_of(from, to, &[(own, count)].into_iter().collect());
}

/// The same of those that `maker` made, as far as `from` has them.
pub(super) fn send_first(maker: &Arc<Collections>, from: &Arc<Collections>, to: &Arc<Collections>) {
    let made = origin(maker);
    let count = from.journal().applied().get(made);
    send_of(from, to, &[(made, count)].into_iter().collect());
}

fn send_of(from: &Arc<Collections>, to: &Arc<Collections>, version: &VersionVector) {
    from.journal().sync().expect("synced");
    let mut exchange = Exchange::new(Arc::clone(from));
    let has = to.journal().applied();
    let wanted = version
        .iter()
        .filter(|(origin, count)| has.get(*origin) < *count)
        .map(|(origin, _)| (origin, has.get(origin) + 1))
        .collect();
    let Read::Runs { runs, .. } = exchange.read(&wanted, None, usize::MAX) else {
        panic!("the log reaches back");
    };
    for run in runs {
        for (sequence, operation) in (run.first..).zip(&run.operations) {
            let dot = Dot {
                origin: run.origin,
                sequence,
            };
            to.apply(dot, operation).expect("it rests on nothing");
        }
    }
}

/// All tell all others of their operations.
pub(super) fn settle(nodes: &[&Arc<Collections>]) {
    for _ in 0..3 {
        for from in nodes {
            for to in nodes.iter().filter(|to| !Arc::ptr_eq(from, to)) {
                send(from, to);
            }
        }
    }
}

/// `to` takes over the state of `from`, in pages of about `bytes`.
pub(super) fn take_over(from: &Arc<Collections>, to: &Arc<Collections>, bytes: usize) {
    let version = from.journal().applied();
    let mut ours = pages(from, to, bytes, false);
    ours.adopt(&version);
    assert_eq!(ours.take_trouble(), None);
    assert!(to.journal().applied().includes(&version));
}

/// `to` compares its state with that of `from`, from which nothing is on its way.
pub(super) fn compare(from: &Arc<Collections>, to: &Arc<Collections>) {
    let mut ours = pages(from, to, 1 << 20, true);
    ours.adopt(&from.journal().applied());
    ours.compared(origin(from));
    assert_eq!(ours.take_trouble(), None);
}

/// The pages of `from` merged into `to`.
pub(super) fn pages(
    from: &Arc<Collections>,
    to: &Arc<Collections>,
    bytes: usize,
    comparing: bool,
) -> Exchange {
    let mut theirs = Exchange::new(Arc::clone(from));
    let mut ours = Exchange::new(Arc::clone(to));
    from.journal().sync().expect("synced");
    let version = from.journal().applied();
    let source = Source {
        version: &version,
        comparing,
    };
    for section in SECTIONS {
        let mut after = Vec::new();
        loop {
            let page = theirs.page(section, &after, bytes).expect("a page");
            let parts = ours.merge_page(&page, source).expect("it merges");
            assert!(parts.is_empty());
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    ours
}

pub(super) fn node() -> (SimulatedDisk, Arc<Collections>) {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    (disk, node)
}

pub(super) fn node_with_table() -> (SimulatedDisk, Arc<Collections>) {
    let (disk, node) = node();
    node.tables().create(b"t").expect("made");
    (disk, node)
}

#[test]
fn operations_in_any_order_make_the_same_tables() {
    let nodes: Vec<_> = (0..3).map(|_| node_with_table().1).collect();
    for (number, node) in nodes.iter().enumerate() {
        for key in 0..10 {
            set(node, &format!("k{key}"), &format!("{number}"));
        }
        delete(node, &format!("k{number}"));
    }
    // Each hears of the others in another order.
    for (to, from) in [(0, 1), (0, 2), (1, 2), (1, 0), (2, 0), (2, 1)] {
        send(&nodes[from], &nodes[to]);
    }
    for node in &nodes[1..] {
        assert_eq!(shown(node, "t"), shown(&nodes[0], "t"));
        assert_eq!(
            node.tables().list().expect("whole rows"),
            nodes[0].tables().list().expect("whole rows")
        );
    }
}

#[test]
fn one_row_by_two_operations_is_ascribed_to_the_same_everywhere() {
    let (_, a) = node_with_table();
    let (_, b) = node_with_table();
    for node in [&a, &b] {
        let same = [(b"k".to_vec(), row(5, "v"))];
        node.tables().merge(b"t", same).expect("merged");
    }
    settle(&[&a, &b]);
    let dot = |node: &Collections| {
        let state = node.tables().lock();
        let record = state.get_one(b"t\tk".to_vec()).expect("reads");
        record.expect("there").dot
    };
    assert_eq!(dot(&a), dot(&b));
    assert_eq!(dot(&a).origin, origin(&a).min(origin(&b)));
}

#[test]
fn state_comes_over_in_pages_and_in_both_directions() {
    for bytes in [1, 300, 1 << 20] {
        let (_, a) = node_with_table();
        let (disk, b) = node_with_table();
        a.tables().create(b"of a").expect_err("no spaces");
        a.tables().create(b"of-a").expect("made");
        b.tables().link(b"of-b").expect("made");
        for number in 0..30 {
            set(&a, &format!("a{number}"), "from a");
            set(&b, &format!("b{number}"), "from b");
        }
        delete(&a, "a3");
        a.tables().flush().expect("flushed");
        set(&a, "both", "a");
        set(&b, "both", "b");
        take_over(&a, &b, bytes);
        take_over(&b, &a, bytes);
        assert_eq!(shown(&a, "t"), shown(&b, "t"));
        assert_eq!(
            a.tables().list().expect("whole rows"),
            b.tables().list().expect("whole rows")
        );
        assert_eq!(b.tables().list().expect("whole rows").len(), 3);
        assert_eq!(value(&b, "a3"), None);
        assert_eq!(
            b.tables()
                .summary(b"t")
                .expect("whole rows")
                .expect("one")
                .tombstones,
            1
        );
        let before = shown(&b, "t");
        drop(b);
        disk.kill();
        assert_eq!(shown(&open(&disk), "t"), before, "it was made durable");
    }
}

#[test]
fn what_came_with_a_snapshot_is_not_told_as_this_nodes_own() {
    let (_, a) = node_with_table();
    let (_, b) = node();
    set(&a, "k", "v");
    take_over(&a, &b, 1 << 20);
    assert_eq!(value(&b, "k").as_deref(), Some("v"));
    assert_eq!(b.journal().applied().get(origin(&b)), 0);
    b.journal().sync().expect("synced");
    let own = [(origin(&b), 1)].into();
    let read = Exchange::new(Arc::clone(&b)).read(&own, None, 1 << 20);
    assert!(matches!(read, Read::Runs { runs, .. } if runs.is_empty()));
}

#[test]
fn pages_that_are_none_are_refused() {
    let (_, a) = node_with_table();
    let mut exchange = Exchange::new(Arc::clone(&a));
    let version = VersionVector::default();
    let source = Source {
        version: &version,
        comparing: false,
    };
    for section in SECTIONS {
        let mut page = exchange.page(section, &[], 1 << 10).expect("a page");
        page.bytes = vec![0xC1; 9];
        let refused = exchange.merge_page(&page, source);
        assert_eq!(refused.err(), Some(PageError::Rows { section, at: 0 }));
    }
    let (_, b) = node_with_table();
    set(&b, "k", "v");
    let mut theirs = Exchange::new(Arc::clone(&b));
    let mut page = theirs.page(4, &[], 1 << 10).expect("a page");
    page.after = b"t\tz".to_vec();
    let refused = exchange.merge_page(&page, source);
    assert!(refused.is_err(), "a row outside the page's range");
    assert!(shown(&a, "t").is_empty());
}

#[test]
fn rows_that_name_another_operation_are_not_taken_from_others() {
    use grapevine_core::operation::{encode_row, encode_rows_of};
    let (_, a) = node_with_table();
    let dot = Dot {
        origin: Origin::new([9; 16]),
        sequence: 1,
    };
    let mut bytes = Vec::new();
    encode_rows_of(&mut bytes, b"t", None);
    encode_row(&mut bytes, b"k", &row(1, "v"), Some(dot));
    let refused = a.apply(dot, &bytes);
    assert!(matches!(
        refused,
        Err(crate::collections::Hindrance::Misplaced)
    ));
    assert_eq!(value(&a, "k"), None);
}

#[test]
fn a_key_named_twice_in_one_operation_counts_once() {
    use grapevine_core::operation::{encode_row, encode_rows_of};
    let (_, a) = node_with_table();
    let dot = Dot {
        origin: Origin::new([9; 16]),
        sequence: 1,
    };
    let mut bytes = Vec::new();
    encode_rows_of(&mut bytes, b"new-table", None);
    for version in [2, 3, 1] {
        encode_row(&mut bytes, b"k", &row(version, "v"), None);
    }
    a.apply(dot, &bytes).expect("taken");
    let summary = a
        .tables()
        .summary(b"new-table")
        .expect("whole rows")
        .expect("made by its rows");
    assert_eq!((summary.rows, summary.tombstones), (1, 0));
}
