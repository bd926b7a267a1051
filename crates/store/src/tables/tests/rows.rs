//! What clients see of one node.

use std::collections::BTreeSet;

use grapevine_core::table::RowError;

use super::*;
use crate::tables::{Backlog, Changes, Creation, Deletion, RowsMemory, TableError, Written};

#[test]
fn rows_are_set_shown_and_deleted() {
    let node = open(&SimulatedDisk::new());
    let tables = node.tables();
    assert!(matches!(tables.create(b"t"), Ok(Creation::Created(_))));
    assert!(matches!(tables.create(b"t"), Ok(Creation::Existed(_))));
    assert!(tables.create(b"a b").is_err());
    let first = set(&node, "k", "1");
    let second = set(&node, "k", "2\tcolumns");
    assert!(second > first && first > 0);
    set(&node, "j", "");
    assert_eq!(
        shown(&node, "t"),
        [
            ("j".into(), String::new()),
            ("k".into(), "2\tcolumns".into())
        ]
    );
    assert!(delete(&node, "k"));
    assert!(!delete(&node, "k"), "it is gone");
    assert!(!delete(&node, "never"));
    assert_eq!(shown(&node, "t"), [("j".into(), String::new())]);
    let summary = tables
        .summary(b"t")
        .expect("whole rows")
        .expect("there is one");
    assert_eq!((summary.rows, summary.tombstones), (1, 1));
    assert!(set(&node, "k", "3") > second, "above the tombstone");
    assert_eq!(
        tables
            .summary(b"t")
            .expect("whole rows")
            .expect("one")
            .tombstones,
        0
    );
}

#[test]
fn what_is_not_there_or_cannot_be_is_said() {
    let node = open(&SimulatedDisk::new());
    let tables = node.tables();
    assert_eq!(tables.get(b"t", b"k", 0).expect("it reads"), None);
    assert_eq!(
        tables.set(b"t", b"k", b"", None).expect("no"),
        Written::NotFound
    );
    assert_eq!(
        tables.delete(b"t", b"k", 0).expect("no"),
        Deletion::NotFound
    );
    assert_eq!(tables.page(b"t", b"", 1, 1, 0).expect("no"), None);
    assert_eq!(tables.merge(b"t", []).expect("no"), None);
    assert_eq!(tables.changes(b"t", 0, 1).expect("no"), Changes::NotFound);
    assert!(tables.list().expect("whole rows").is_empty());
    tables.create(b"t").expect("made");
    let refused = tables.set(b"t", b"a\tb", b"", None);
    assert!(matches!(
        refused,
        Err(TableError::Row(RowError::KeyByte { at: 1, .. }))
    ));
    let refused = tables.set(b"t", b"k", b"a\nb", None);
    assert!(matches!(
        refused,
        Err(TableError::Row(RowError::ValuesByte { .. }))
    ));
    let last = [(b"k".to_vec(), row(i64::MAX, "last"))];
    let merged = tables.merge(b"t", last).expect("no").expect("a table");
    assert_eq!((merged.changed, merged.refused), (0, 1));
    assert_eq!(value(&node, "k"), None);
}

#[test]
fn a_row_expires_for_readers_and_can_be_set_again() {
    let node = open(&SimulatedDisk::new());
    let tables = node.tables();
    tables.create(b"t").expect("made");
    tables.set(b"t", b"lease", b"a", Some(1000)).expect("set");
    let at = |now| {
        tables
            .get(b"t", b"lease", now)
            .expect("reads")
            .expect("table")
            .row
    };
    assert!(at(999).is_some() && at(1000).is_none());
    let absent = tables.delete(b"t", b"lease", 1000).expect("no");
    assert!(matches!(absent, Deletion::Absent(_)));
    let before = at(0).expect("there").version;
    tables.set(b"t", b"lease", b"b", Some(2000)).expect("set");
    assert!(at(1500).expect("there").version > before);
}

#[test]
fn pages_go_through_memory_and_file_in_the_order_of_keys() {
    let node = open(&SimulatedDisk::new());
    let tables = node.tables();
    for name in [&b"s"[..], b"t", b"u"] {
        tables.create(name).expect("made");
        tables.set(name, b"other", b"x", None).expect("set");
    }
    for number in (0..60).step_by(2) {
        set(&node, &format!("{number:02}"), "file");
    }
    tables.flush().expect("flushed");
    for number in (0..60).step_by(3) {
        set(&node, &format!("{number:02}"), "memory");
    }
    for number in (0..60).step_by(5) {
        delete(&node, &format!("{number:02}"));
    }
    delete(&node, "other");
    let expected: Vec<(String, String)> = (0..60)
        .filter(|number| (number % 2 == 0 || number % 3 == 0) && number % 5 != 0)
        .map(|number| {
            let value = if number % 3 == 0 { "memory" } else { "file" };
            (format!("{number:02}"), value.to_owned())
        })
        .collect();
    assert_eq!(shown(&node, "t"), expected);
    for (rows_max, bytes_max) in [(1, 1000), (7, 1000), (1000, 9), (1000, 1)] {
        let (mut after, mut seen) = (Vec::new(), Vec::new());
        loop {
            let page = tables.page(b"t", &after, rows_max, bytes_max, 0);
            let page = page.expect("it reads").expect("there is a table");
            assert!(page.rows.len() <= rows_max);
            seen.extend(page.rows);
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        let keys: Vec<String> = seen
            .into_iter()
            .map(|(key, _)| String::from_utf8(key).expect("text"))
            .collect();
        let all: Vec<String> = expected.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, all);
    }
}

#[test]
fn merging_writes_only_what_changes_something() {
    let node = open(&SimulatedDisk::new());
    let tables = node.tables();
    tables.create(b"t").expect("made");
    let rows = |version: i64| {
        (0..3000).map(move |number| (format!("{number}").into_bytes(), row(version, "v")))
    };
    let merged = tables
        .merge(b"t", rows(5))
        .expect("merged")
        .expect("a table");
    assert_eq!((merged.changed, merged.unchanged), (3000, 0));
    let position = node.journal().appended();
    let again = tables
        .merge(b"t", rows(5))
        .expect("merged")
        .expect("a table");
    assert_eq!((again.changed, again.unchanged), (0, 3000));
    assert_eq!(node.journal().appended(), position, "nothing was logged");
    let twice = [(b"1".to_vec(), row(7, "a")), (b"1".to_vec(), row(9, "b"))];
    let merged = tables.merge(b"t", twice).expect("merged").expect("a table");
    assert_eq!((merged.changed, merged.unchanged), (1, 1));
    assert_eq!(value(&node, "1").as_deref(), Some("b"));
    assert_eq!(
        tables
            .summary(b"t")
            .expect("whole rows")
            .expect("a table")
            .rows,
        3000
    );
}

#[test]
fn no_row_from_outside_freezes() {
    let node = open(&SimulatedDisk::new());
    let tables = node.tables();
    tables.create(b"t").expect("made");
    let frozen = [
        (b"k".to_vec(), row(i64::MAX, "mine")),
        (b"j".to_vec(), row(3, "x")),
    ];
    let merged = tables
        .merge(b"t", frozen)
        .expect("merged")
        .expect("a table");
    assert_eq!((merged.changed, merged.refused), (1, 1));
    assert_eq!(shown(&node, "t"), [("j".into(), "x".into())]);
    assert!(tables.link(b"t").expect("linked") > 0);
    assert!(
        tables
            .summary(b"t")
            .expect("whole rows")
            .expect("a table")
            .table
            .linked
    );
}

#[test]
fn a_watcher_sees_every_change_once_from_memory_and_from_all_rows() {
    let disk = SimulatedDisk::new();
    let mut node = open(&disk);
    node.tables().create(b"t").expect("made");
    set(&node, "a", "1");
    let since = node.tables().page(b"t", b"", 9, 99, 0).expect("reads");
    let since = since.expect("a table").position;
    for number in 0..20 {
        set(&node, &format!("k{number}"), "x");
    }
    set(&node, "k3", "again");
    delete(&node, "k4");
    let watch = |node: &Collections, mut since| {
        let mut seen = Vec::new();
        loop {
            let changes = node.tables().changes(b"t", since, 3).expect("reads");
            let Changes::Rows { rows, next, more } = changes else {
                panic!("{changes:?}");
            };
            assert!(rows.len() <= 3 && rows.iter().all(|change| change.position > since));
            seen.extend(rows.into_iter().map(|change| (change.key, change.row)));
            since = next;
            if !more {
                return seen;
            }
        }
    };
    let seen = watch(&node, since);
    assert_eq!(seen.len(), 20, "each key once, as it is now");
    assert_eq!(seen[18].0, b"k3");
    assert_eq!(seen[18].1.values(), Some(&b"again"[..]));
    assert!(seen[19].0 == b"k4" && seen[19].1.is_tombstone());
    node.checkpoint().expect("a snapshot");
    set(&node, "k5", "later");
    let expected = watch(&node, since);
    node.journal().sync().expect("synced");
    drop(node);
    disk.kill();
    node = open(&disk);
    assert_eq!(watch(&node, since), expected, "found among all rows");
    assert_eq!(expected.last().expect("some").0, b"k5");
    let far = node.tables().changes(b"t", u64::MAX, 1).expect("reads");
    assert_eq!(far, Changes::Reset, "no position of this journal");
}

#[test]
fn one_operation_of_many_rows_is_told_in_pieces() {
    let node = open(&SimulatedDisk::new());
    let tables = node.tables();
    tables.create(b"t").expect("made");
    let since = node.journal().appended();
    let rows = (0..100).map(|number| (format!("{number:03}").into_bytes(), row(1, "v")));
    tables.merge(b"t", rows).expect("merged");
    let (mut from, mut keys) = (since, Vec::new());
    while let Changes::Rows { rows, next, more } = tables.changes(b"t", from, 7).expect("reads") {
        keys.extend(rows.into_iter().map(|change| change.key));
        from = next;
        if !more {
            break;
        }
    }
    assert_eq!(keys.len(), 100);
    assert!(keys.is_sorted());
}

#[test]
fn the_bell_rings_for_changes_and_not_for_reading() {
    let node = open(&SimulatedDisk::new());
    let tables = node.tables();
    let rung = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&rung);
    tables.set_bell(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    tables.create(b"t").expect("made");
    let before = rung.load(Ordering::Relaxed);
    set(&node, "k", "v");
    assert!(rung.load(Ordering::Relaxed) > before);
    let before = rung.load(Ordering::Relaxed);
    assert_eq!(value(&node, "k").as_deref(), Some("v"));
    assert_eq!(rung.load(Ordering::Relaxed), before);
}

/// Everything that changed since, in pieces; none: the table is to be read again.
fn follow(node: &Collections, prefix: &str, mut since: u64) -> Option<Vec<(String, bool)>> {
    let (tables, mut backlog) = (node.tables(), Backlog::default());
    let mut seen = Vec::new();
    loop {
        let changes = tables.changes_of(b"t", prefix.as_bytes(), since, 1024, &mut backlog);
        match changes.expect("reads") {
            Changes::Rows { rows, next, more } => {
                assert!(rows.iter().all(|change| change.position > since));
                seen.extend(rows.into_iter().map(|change| {
                    let key = String::from_utf8(change.key).expect("text");
                    (key, change.row.is_tombstone())
                }));
                since = next;
                if !more {
                    return Some(seen);
                }
            }
            _ => return None,
        }
    }
}

#[test]
fn a_burst_is_told_from_memory_and_from_all_rows_and_the_table_is_not_read_again() {
    const ROWS: usize = 30_000;
    const BURST: usize = 20_000;
    let memory = RowsMemory::default();
    for memory in [
        memory,
        RowsMemory {
            recent: 0,
            ..memory
        },
    ] {
        let disk = Arc::new(SimulatedDisk::new());
        let opened = Collections::open_within(disk, options(), memory, entropy());
        let node = opened.expect("it opens").0;
        let tables = node.tables();
        tables.create(b"t").expect("made");
        let rows = |count: usize, version: i64| {
            (0..count).map(move |n| (format!("{}/{n}", n % 2).into_bytes(), row(version, "v")))
        };
        tables.merge(b"t", rows(ROWS, 1)).expect("merged");
        node.checkpoint().expect("a snapshot");
        let since = node.journal().appended();
        tables.merge(b"t", rows(BURST, 2)).expect("merged");
        assert!(delete(&node, "1/7"));
        // The row is there once, as it is now.
        let seen = follow(&node, "", since).expect("no reset");
        let keys: BTreeSet<&str> = seen.iter().map(|(key, _)| &**key).collect();
        assert_eq!((seen.len(), keys.len()), (BURST, BURST), "{memory:?}");
        assert_eq!(seen.last(), Some(&("1/7".to_owned(), true)));
        let seen = follow(&node, "1/", since).expect("no reset");
        assert_eq!(seen.len(), BURST / 2, "{memory:?}");
        assert!(seen.iter().all(|(key, _)| key.starts_with("1/")));
        assert_eq!(follow(&node, "2", since), Some(Vec::new()));
    }
}

#[test]
fn a_table_that_changes_much_does_not_take_the_memory_of_others() {
    let disk = Arc::new(SimulatedDisk::new());
    let memory = RowsMemory {
        recent: 100_000,
        ..RowsMemory::default()
    };
    let opened = Collections::open_within(disk, options(), memory, entropy());
    let node = opened.expect("it opens").0;
    let tables = node.tables();
    for name in [&b"t"[..], b"busy"] {
        tables.create(name).expect("made");
    }
    let since = node.journal().appended();
    set(&node, "k", "v");
    delete(&node, "k");
    let rows = (0..5000).map(|n| (format!("{n}").into_bytes(), row(1, "v")));
    tables.merge(b"busy", rows).expect("merged");
    assert_eq!(collect_alone(&node), 1);
    // Only memory knows of the deletion by now.
    let seen = follow(&node, "", since);
    assert_eq!(seen, Some(vec![("k".to_owned(), true)]));
    let busy = tables.changes(b"busy", since, 9).expect("reads");
    assert!(matches!(busy, Changes::Rows { rows, .. } if rows[0].key == b"0"));
}

#[test]
fn pages_of_a_prefix_begin_with_it_and_end_behind_it() {
    let node = open(&SimulatedDisk::new());
    node.tables().create(b"t").expect("made");
    for key in ["a", "b", "b/", "b/x", "b\u{7f}", "c"] {
        set(&node, key, "v");
    }
    let pages = |prefix: &str, size: usize| {
        let (mut after, mut keys) = (Vec::new(), Vec::new());
        loop {
            let page = node
                .tables()
                .page_of_prefix(b"t", prefix.as_bytes(), &after, size, usize::MAX, 0)
                .expect("reads")
                .expect("a table");
            keys.extend(page.rows.into_iter().map(|(key, _)| String::from_utf8(key)));
            match page.next {
                Some(next) => after = next,
                None => {
                    return keys
                        .into_iter()
                        .collect::<Result<Vec<_>, _>>()
                        .expect("text");
                }
            }
        }
    };
    for size in [1, 2, 9] {
        assert_eq!(pages("b", size), ["b", "b/", "b/x", "b\u{7f}"]);
        assert_eq!(pages("b/", size), ["b/", "b/x"]);
        assert_eq!(pages("", size).len(), 6);
        assert_eq!(pages("d", size), [""; 0]);
    }
}

/// A touch gives a row more time, on all nodes, and no watcher is told; anything else is a change.
#[test]
fn a_touched_row_lives_longer_and_is_no_change() {
    use super::exchange::send;
    use crate::tables::Touching;
    let (disk, other) = (SimulatedDisk::new(), open(&SimulatedDisk::new()));
    let node = open(&disk);
    let tables = node.tables();
    tables.create(b"t").expect("made");
    tables.set(b"t", b"k", b"v", Some(100)).expect("set");
    set(&node, "for-ever", "v");
    send(&node, &other);
    let since = |node: &Collections| {
        let page = node.tables().page(b"t", b"", 9, 99, 0);
        page.expect("it reads").expect("a table").position
    };
    let told = |node: &Collections, since| match node.tables().changes(b"t", since, 9) {
        Ok(Changes::Rows { rows, .. }) => rows.into_iter().map(|row| row.key).collect::<Vec<_>>(),
        unexpected => panic!("{unexpected:?}"),
    };
    let (here, there) = (since(&node), since(&other));
    let touch =
        |key: &[u8], expires, now| tables.touch(b"t", key, expires, now).expect("it writes");
    assert!(matches!(touch(b"k", 300, 99), Touching::Touched { .. }));
    send(&node, &other);
    let expires = |node: &Collections| {
        let row = node.tables().get(b"t", b"k", 250).expect("it reads");
        row.expect("a table").row.and_then(|row| row.expires)
    };
    assert_eq!((expires(&node), expires(&other)), (Some(300), Some(300)));
    assert_eq!((told(&node, here), told(&other, there)), (vec![], vec![]));
    node.journal().sync().expect("synced");
    // An earlier end is a change, and so is one of a row that had none.
    touch(b"k", 200, 99);
    touch(b"for-ever", 300, 99);
    send(&node, &other);
    let both = [b"k".to_vec(), b"for-ever".to_vec()];
    assert_eq!(
        (&told(&node, here)[..], &told(&other, there)[..]),
        (&both[..], &both[..])
    );
    assert!(matches!(touch(b"k", 900, 200), Touching::Absent(_)));
    assert!(matches!(touch(b"none", 900, 0), Touching::Absent(_)));
    assert_eq!(
        tables.touch(b"u", b"k", 900, 0).expect("it answers"),
        Touching::NotFound
    );
    let measured = tables
        .measure(b"t", 99)
        .expect("it reads")
        .expect("a table");
    let counts = (measured.rows, measured.expiring, measured.bytes);
    assert_eq!(counts, (2, 2, 1 + 1 + 8 + 1));
    assert_eq!(tables.measure(b"u", 0).expect("it reads"), None);
    let again = since(&node);
    touch(b"k", 500, 99);
    node.journal().sync().expect("synced");
    drop(node);
    let node = open(&disk);
    assert_eq!((expires(&node), told(&node, again)), (Some(500), vec![]));
}
