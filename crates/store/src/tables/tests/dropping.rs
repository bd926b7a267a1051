//! Tables that are dropped, and made again under the same name.

use std::io::ErrorKind;

use grapevine_core::membership::GroupIdentity;

use super::exchange::{compare, send, send_own, settle, take_over};
use super::*;
use crate::disk::Operation;
use crate::tables::{Changes, Creation, Dropping};

/// A node of the one group that there is.
fn member(disk: &SimulatedDisk) -> Arc<Collections> {
    let node = open(disk);
    join(&node);
    node
}

fn join(node: &Collections) {
    let group = GroupIdentity {
        id: [7; 16],
        met: true,
        ..node.group()
    };
    node.join(group).expect("it joins");
}

fn members() -> [Arc<Collections>; 3] {
    std::array::from_fn(|_| member(&SimulatedDisk::new()))
}

fn create(node: &Collections) {
    let created = node.tables().create(b"t").expect("made");
    assert!(matches!(created, Creation::Created(_)), "{created:?}");
}

fn drop_it(node: &Collections) {
    let dropped = node.tables().drop_table(b"t").expect("it writes");
    assert!(matches!(dropped, Dropping::Dropped(_)), "{dropped:?}");
}

fn is_there(node: &Collections) -> bool {
    let there = node.tables().summary(b"t").expect("whole").is_some();
    assert_eq!(node.tables().epoch(b"t").expect("whole").is_some(), there);
    let listed = node.tables().list().expect("whole");
    assert_eq!(listed.iter().any(|one| one.table.name == b"t"), there);
    there
}

fn keys(node: &Collections) -> Vec<String> {
    shown(node, "t").into_iter().map(|(key, _)| key).collect()
}

#[test]
fn a_dropped_table_is_gone_with_its_rows_and_one_made_later_is_new() {
    for written in [false, true] {
        let disk = SimulatedDisk::new();
        let node = member(&disk);
        create(&node);
        for number in 0..50 {
            set(&node, &format!("k{number}"), "old");
        }
        delete(&node, "k1");
        if written {
            node.checkpoint().expect("it writes");
        }
        drop_it(&node);
        assert!(!is_there(&node));
        let tables = node.tables();
        assert_eq!(tables.get(b"t", b"k0", 0).expect("it reads"), None);
        assert_eq!(tables.find(b"t", b"k0").expect("it reads"), None);
        let refused = tables.set(b"t", b"k0", b"x", None).expect("it answers");
        assert_eq!(refused, crate::tables::Written::NotFound);
        let again = tables.drop_table(b"t").expect("it answers");
        assert_eq!(again, Dropping::NotFound);
        node.journal().sync().expect("synced");
        drop(node);
        let node = open(&disk);
        assert!(!is_there(&node));
        create(&node);
        assert_eq!(keys(&node), [""; 0]);
        set(&node, "k2", "new");
        assert_eq!(keys(&node), ["k2"]);
        let summary = node
            .tables()
            .summary(b"t")
            .expect("whole")
            .expect("a table");
        assert_eq!((summary.rows, summary.tombstones), (1, 0));
        node.journal().sync().expect("synced");
        if written {
            node.checkpoint().expect("it writes");
        }
        drop(node);
        assert_eq!(keys(&open(&disk)), ["k2"]);
    }
}

#[test]
fn a_dropped_tables_rows_leave_the_file() {
    let disk = SimulatedDisk::new();
    let node = member(&disk);
    create(&node);
    let tables = node.tables();
    tables.create(b"t2").expect("made");
    tables.set(b"t2", b"k", b"stays", None).expect("set");
    for number in 0..50 {
        set(&node, &format!("k{number}"), "old");
        delete(&node, &format!("k{}", number / 2));
    }
    node.checkpoint().expect("it writes");
    drop_it(&node);
    node.checkpoint().expect("it writes");
    drop(node);
    let found = crate::tables::inspect(&disk)
        .expect("it holds")
        .expect("a file");
    assert_eq!((found.tables, found.rows), (1, 1));
}

#[test]
fn what_others_wrote_before_they_knew_goes_with_the_table() {
    let [a, b, c] = members();
    create(&a);
    set(&a, "a", "old");
    settle(&[&a, &b, &c]);
    // b and c write on while a drops it, makes it anew and fills it.
    drop_it(&a);
    create(&a);
    set(&a, "new", "1");
    set(&b, "b", "old");
    set(&c, "c", "old");
    send_own(&c, &b);
    send(&a, &b);
    // What is of the old one, and comes late.
    send(&c, &a);
    set(&b, "newer", "1");
    settle(&[&a, &b, &c]);
    for node in [&a, &b, &c] {
        assert_eq!(keys(node), ["new", "newer"]);
    }
    // Rows of a later table tell of it before its drop and creation come.
    let alone = member(&SimulatedDisk::new());
    send_own(&b, &alone);
    assert_eq!(keys(&alone), ["newer"]);
    send(&c, &alone);
    assert_eq!(keys(&alone), ["new", "newer"]);
}

#[test]
fn tables_made_anew_on_two_sides_of_a_cut_are_one() {
    let [a, b, _] = members();
    create(&a);
    settle(&[&a, &b]);
    drop_it(&a);
    settle(&[&a, &b]);
    for (node, key) in [(&a, "a"), (&b, "b")] {
        create(node);
        set(node, key, "1");
    }
    settle(&[&a, &b]);
    assert_eq!(
        (keys(&a), keys(&b)),
        (keys(&b), vec!["a".into(), "b".into()])
    );
}

#[test]
fn a_members_state_brings_nothing_back_and_takes_the_drop_along() {
    for made_anew in [false, true] {
        let [a, b, c] = members();
        create(&a);
        for number in 0..9 {
            set(&a, &format!("k{number}"), "old");
        }
        settle(&[&a, &b, &c]);
        set(&c, "c", "old");
        drop_it(&a);
        if made_anew {
            create(&a);
            set(&a, "k1", "new");
        }
        settle(&[&a, &b]);
        let check = |node: &Arc<Collections>| {
            assert_eq!(is_there(node), made_anew);
            if made_anew {
                assert_eq!(shown(node, "t"), [("k1".to_owned(), "new".to_owned())]);
            }
        };
        // The state of one that was away, and then to it, in small pages.
        take_over(&c, &b, 64);
        check(&b);
        take_over(&b, &c, 64);
        check(&c);
        compare(&c, &a);
        compare(&a, &c);
        settle(&[&a, &b, &c]);
        [&a, &b, &c].into_iter().for_each(check);
    }
}

#[test]
fn a_directory_out_of_a_backup_brings_nothing_back() {
    let (disk, other) = (SimulatedDisk::new(), member(&SimulatedDisk::new()));
    let node = member(&disk);
    create(&node);
    set(&node, "k", "old");
    node.checkpoint().expect("it writes");
    node.journal().sync().expect("synced");
    let copy = disk.fork();
    settle(&[&node, &other]);
    drop_it(&node);
    create(&node);
    set(&node, "n", "new");
    settle(&[&node, &other]);
    drop(node);
    crate::restore::renew(
        Arc::new(copy.clone()),
        crate::backup::Copied::default(),
        options(),
        entropy(),
    )
    .expect("it is renewed");
    let restored = open(&copy);
    assert_eq!(keys(&restored), ["k"]);
    set(&restored, "late", "old");
    take_over(&restored, &other, 1 << 20);
    settle(&[&restored, &other]);
    assert_eq!(
        (keys(&restored), keys(&other)),
        (vec!["n".into()], vec!["n".into()])
    );
}

#[test]
fn what_a_node_dropped_alone_does_not_drop_a_groups_table() {
    let [a, b, _] = members();
    create(&a);
    set(&a, "group", "1");
    settle(&[&a, &b]);
    let alone = open(&SimulatedDisk::new());
    create(&alone);
    set(&alone, "old", "1");
    drop_it(&alone);
    create(&alone);
    set(&alone, "mine", "1");
    drop_it(&alone);
    create(&alone);
    set(&alone, "kept", "1");
    join(&alone);
    settle(&[&a, &b, &alone]);
    for node in [&a, &b, &alone] {
        assert_eq!(keys(node), ["group", "kept"]);
    }
    for (from, to) in [(&alone, &a), (&a, &alone), (&b, &a)] {
        compare(from, to);
    }
    settle(&[&a, &b, &alone]);
    for node in [&a, &b, &alone] {
        assert_eq!(keys(node), ["group", "kept"]);
    }
}

#[test]
fn who_watches_is_told() {
    let node = member(&SimulatedDisk::new());
    create(&node);
    set(&node, "k", "old");
    let tables = node.tables();
    let since = tables
        .page(b"t", b"", 9, 99, 0)
        .expect("it reads")
        .expect("a table");
    drop_it(&node);
    let changes = |since| tables.changes(b"t", since, 9).expect("it reads");
    assert_eq!(changes(since.position), Changes::NotFound);
    create(&node);
    let made = tables
        .page(b"t", b"", 9, 99, 0)
        .expect("it reads")
        .expect("a table");
    set(&node, "n", "new");
    assert_eq!(changes(since.position), Changes::Reset);
    assert_eq!(changes(0), Changes::Reset);
    let Changes::Rows { rows, .. } = changes(made.position) else {
        panic!("nothing was dropped since");
    };
    assert_eq!((rows.len(), &rows[0].key[..]), (1, &b"n"[..]));
}

#[test]
fn a_drop_that_the_log_did_not_take_is_taken_back() {
    for in_file in [false, true] {
        let disk = SimulatedDisk::new();
        let node = member(&disk);
        node.journal().promise_synced();
        create(&node);
        set(&node, "a", "1");
        node.journal().sync().expect("synced");
        if in_file {
            node.tables().flush().expect("it writes");
        }
        set(&node, "b", "1");
        node.journal().sync().expect("synced");
        disk.fail_next(Operation::Sync, 0, ErrorKind::Other);
        let dropped = node.tables().drop_table(b"t");
        dropped.expect_err("the sync fails");
        assert_eq!(keys(&node), ["a", "b"]);
        assert_eq!(value(&node, "a").as_deref(), Some("1"));
        let summary = node
            .tables()
            .summary(b"t")
            .expect("whole")
            .expect("a table");
        assert_eq!((summary.rows, summary.table.epoch), (2, None));
    }
}

#[test]
fn a_table_that_is_exchanged_stays_dropped_until_somebody_makes_it() {
    let node = member(&SimulatedDisk::new());
    node.tables().link(b"t").expect("linked");
    set(&node, "k", "old");
    drop_it(&node);
    node.tables().link(b"t").expect("linked");
    let merged = node.tables().merge(b"t", [(b"k".to_vec(), row(9, "old"))]);
    assert_eq!(
        (merged.expect("it answers"), is_there(&node)),
        (None, false)
    );
    create(&node);
    let summary = node
        .tables()
        .summary(b"t")
        .expect("whole")
        .expect("a table");
    assert!(summary.table.linked, "its tombstones stay");
}
