//! What outlives the process and the power.

use super::*;
use crate::disk::{CrashPlan, Disk, NameFate, WriteFate};
use crate::tables::ROWS_FILE;

#[test]
fn a_directory_without_tables_has_no_file_of_rows() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.checkpoint().expect("a snapshot");
    assert!(!disk.exists(ROWS_FILE).expect("asked"));
    node.tables().create(b"t").expect("made");
    assert!(!disk.exists(ROWS_FILE).expect("asked"));
    node.checkpoint().expect("a snapshot");
    assert!(disk.exists(ROWS_FILE).expect("asked"));
}

#[test]
fn rows_are_in_the_log_then_in_the_file() {
    let disk = SimulatedDisk::new();
    let mut node = open(&disk);
    node.tables().create(b"t").expect("made");
    let version = set(&node, "a", "1");
    for checkpoint in [false, true, true] {
        if checkpoint {
            node.checkpoint().expect("a snapshot");
        }
        node.journal().sync().expect("synced");
        let (before, counts) = (shown(&node, "t"), node.tables().list());
        drop(node);
        disk.kill();
        node = open(&disk);
        assert_eq!(shown(&node, "t"), before);
        assert_eq!(node.tables().list(), counts);
        set(&node, "b", "2");
        delete(&node, "b");
    }
    let row = node
        .tables()
        .get(b"t", b"a", 0)
        .expect("reads")
        .expect("table");
    assert_eq!(row.row.expect("there").version, version);
}
