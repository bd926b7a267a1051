//! A disk that takes nothing more: what was promised is still told.

use std::io::ErrorKind;
use std::sync::Mutex;

use super::*;
use crate::disk::{Disk, Operation};
use crate::tables::{Changes, ROWS_FILE};

/// Everything that is read can be told: each position is as durable as promised.
fn all_settled(node: &Collections, keys: &[&str]) {
    let (tables, settled) = (node.tables(), node.journal().settled());
    for key in keys {
        let lookup = tables.get(b"t", key.as_bytes(), 0).expect("it reads");
        assert!(lookup.expect("a table").position <= settled, "{key}");
    }
    let page = tables.page(b"t", b"", 100, 1 << 20, 0).expect("it reads");
    assert!(page.expect("a table").position <= settled);
    match tables.changes(b"t", 0, 100).expect("it reads") {
        Changes::Rows { next, .. } => assert!(next <= settled),
        other => panic!("{other:?}"),
    }
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter()
        .map(|(key, values)| ((*key).to_owned(), (*values).to_owned()))
        .collect()
}

#[test]
fn after_the_log_failed_what_it_has_is_told_and_the_rest_taken_back() {
    for in_file in [false, true] {
        let disk = SimulatedDisk::new();
        let node = open(&disk);
        node.tables().create(b"t").expect("made");
        set(&node, "a", "1");
        set(&node, "b", "1");
        node.journal().sync().expect("synced");
        if in_file {
            node.tables().flush().expect("it writes");
        }
        let before = node.tables().list().expect("whole rows");
        set(&node, "a", "2");
        set(&node, "c", "1");
        delete(&node, "b");
        node.tables().create(b"u").expect("made");
        disk.fail_next(Operation::Write, 0, ErrorKind::StorageFull);
        let written = node.journal().commit(node.journal().appended());
        written.expect_err("the disk is full");
        assert_eq!(shown(&node, "t"), pairs(&[("a", "1"), ("b", "1")]));
        assert_eq!(node.tables().list().expect("whole rows"), before);
        all_settled(&node, &["a", "b", "c", "d"]);
        let refused = node.tables().set(b"t", b"d", b"1", None);
        refused.expect_err("it takes no writes");
        drop(node);
        disk.kill();
        assert_eq!(shown(&open(&disk), "t"), pairs(&[("a", "1"), ("b", "1")]));
    }
}

/// Where replies wait for a sync, what was only written is not told after one failed.
#[test]
fn what_was_written_and_not_synced_is_taken_back_where_syncs_are_promised() {
    for promised in [false, true] {
        let disk = SimulatedDisk::new();
        let node = open(&disk);
        if promised {
            node.journal().promise_synced();
        }
        node.tables().create(b"t").expect("made");
        set(&node, "a", "1");
        node.journal().sync().expect("synced");
        set(&node, "a", "2");
        let position = node.journal().appended();
        node.journal().commit(position).expect("written");
        disk.fail_next(Operation::Sync, 0, ErrorKind::Other);
        node.journal().sync().expect_err("the sync fails");
        let told = if promised { "1" } else { "2" };
        assert_eq!(value(&node, "a").as_deref(), Some(told));
        all_settled(&node, &["a"]);
    }
}

/// A row has its own position: nothing that came after holds it up.
#[test]
fn a_row_that_is_settled_waits_for_nothing_that_came_after() {
    let node = open(&SimulatedDisk::new());
    node.tables().create(b"t").expect("made");
    set(&node, "a", "1");
    let settled = node.journal().sync().expect("synced");
    set(&node, "b", "1");
    let position = |key: &[u8]| {
        let lookup = node.tables().get(b"t", key, 0).expect("it reads");
        lookup.expect("a table").position
    };
    assert!(position(b"a") <= settled && position(b"b") > settled);
}

#[test]
fn rows_of_the_file_are_read_after_writing_it_failed_and_it_is_told_once() {
    for (operation, error) in [
        (Operation::Write, ErrorKind::StorageFull),
        (Operation::Sync, ErrorKind::Other),
    ] {
        let disk = SimulatedDisk::new();
        let node = open(&disk);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        node.journal()
            .set_alarm(move |reason| tell.lock().expect("alone").push(reason.to_owned()));
        node.tables().create(b"t").expect("made");
        set(&node, "a", "1");
        node.tables().flush().expect("it writes");
        set(&node, "b", "1");
        node.journal().sync().expect("synced");
        disk.fail_next(operation, 0, error);
        node.tables().flush().expect_err("the disk refuses");
        node.tables().flush().expect_err("nothing more is written");
        assert_eq!(shown(&node, "t"), pairs(&[("a", "1"), ("b", "1")]));
        all_settled(&node, &["a", "b"]);
        let told = told.lock().expect("alone");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(ROWS_FILE), "{told:?}");
    }
}

/// On a full disk a node starts and serves what it has, however its last life ended.
#[test]
fn a_node_starts_on_a_full_disk_and_serves_what_it_has() {
    for checkpoint in [false, true] {
        let disk = SimulatedDisk::new();
        let node = open(&disk);
        node.tables().create(b"t").expect("made");
        set(&node, "a", "1");
        if checkpoint {
            node.checkpoint().expect("a snapshot");
        }
        set(&node, "b", "1");
        node.journal().sync().expect("synced");
        // What follows is not synced and may be torn.
        set(&node, "c", "1");
        let end = node.journal().appended();
        disk.fail_next(Operation::Write, 0, ErrorKind::StorageFull);
        node.journal().commit(end).expect_err("the disk is full");
        drop(node);
        disk.kill();
        disk.set_capacity(0);
        let node = open(&disk);
        let reason = node.journal().read_only().expect("it takes no writes");
        assert!(reason.contains("log segment"), "{reason}");
        assert_eq!(shown(&node, "t"), pairs(&[("a", "1"), ("b", "1")]));
        all_settled(&node, &["a", "b", "c"]);
        drop(node);
        disk.kill();
        disk.set_capacity(u64::MAX);
        let node = open(&disk);
        assert_eq!(shown(&node, "t"), pairs(&[("a", "1"), ("b", "1")]));
        set(&node, "c", "2");
        node.checkpoint().expect("a snapshot");
        assert!(disk.exists(ROWS_FILE).expect("asked"));
    }
}
