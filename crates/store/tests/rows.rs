//! A file of rows that is lost or altered keeps no node from starting: the rows come from the log
//! where it has all of them, else from a peer, and until then nobody is told that there are none.

mod fixture;

use std::sync::Arc;

use fixture::pair::{Node, restart, run, run_until, same};
use fixture::{create, entropy, found, keys, options, set};
use grapevine_core::sync::Replica;
use grapevine_core::table::Row;
use grapevine_store::collections::{Collections, Recovered};
use grapevine_store::disk::{Disk, OpenMode, SimulatedDisk};
use grapevine_store::log::LogConfig;
use grapevine_store::tables::{ROWS_FILE, TableError, Written};
use grapevine_store::verify::verify;

const FAULTS: [&str; 5] = ["removed", "emptied", "cut short", "older", "a bit flipped"];
const TABLE: &[u8] = b"fruit";
/// The sections of a snapshot that are about rows.
const SECTIONS_OF_ROWS: [u8; 3] = [4, 5, 6];

fn put(collections: &Collections, keys: std::ops::Range<u32>) {
    for number in keys {
        let key = format!("key-{number}");
        let written = collections
            .tables()
            .set(TABLE, key.as_bytes(), &[b'v'; 600], None);
        let Ok(Written::Row { position, .. }) = written else {
            panic!("{written:?}");
        };
        let committed = collections.journal().commit(position);
        committed.expect("acknowledged");
    }
}

fn rows(collections: &Collections) -> Vec<(Vec<u8>, Row)> {
    let page = collections.tables().page(TABLE, b"", 10_000, 1 << 24, 0);
    page.expect("whole rows").expect("the table").rows
}

/// Does to the file what the fault is called.
fn damage(disk: &SimulatedDisk, fault: &str, older: &[u8]) {
    let file = disk.open(ROWS_FILE, OpenMode::ReadWrite).expect("opened");
    let length = file.len().expect("a length");
    match fault {
        "removed" => disk.remove(ROWS_FILE).expect("removed"),
        "emptied" => file.set_len(0).expect("emptied"),
        "cut short" => file.set_len(length / 2).expect("cut"),
        "older" => {
            let file = disk.open(ROWS_FILE, OpenMode::Create).expect("opened");
            file.write_at(0, older).expect("written");
        }
        _ => {
            // Not every bit is one of a page that counts.
            let harms = |offset: &u64| {
                let copy = disk.fork();
                copy.flip_bit(ROWS_FILE, *offset, 3).expect("flipped");
                !verify(&copy).expect("a list").is_clean()
            };
            let harmful = (0..length).step_by(997).find(harms).expect("a page");
            disk.flip_bit(ROWS_FILE, harmful, 3).expect("flipped");
        }
    }
}

fn opened(disk: &SimulatedDisk, segment: u64) -> (Collections, Recovered) {
    let log = LogConfig {
        segment_size: segment,
        ..LogConfig::default()
    };
    let options = grapevine_store::filters::Options { log, ..options() };
    Collections::open(Arc::new(disk.clone()), options, entropy()).expect("it opens")
}

/// A node that ended, with rows in its file and some in the log only; and its file as it once was.
fn life(segment: u64) -> (SimulatedDisk, Vec<u8>) {
    let disk = SimulatedDisk::new();
    let (node, _) = opened(&disk, segment);
    node.tables().create(TABLE).expect("a table");
    let a = create(node.filters(), "a", 500);
    set(node.filters(), &a, &keys(0..100));
    put(&node, 0..60);
    node.checkpoint().expect("a snapshot");
    let older = disk.bytes(ROWS_FILE).expect("a file");
    put(&node, 60..120);
    // What is older than the snapshot before the newest is of no use.
    node.checkpoint().expect("a snapshot");
    node.checkpoint().expect("a snapshot");
    put(&node, 120..125);
    node.journal().mark_synced().expect("a mark");
    drop(node);
    disk.kill();
    (disk, older)
}

/// Nobody is answered from rows of which some are missing, and nothing is changed.
fn is_refused(node: &Collections) {
    let tables = node.tables();
    let answers = [
        tables.get(TABLE, b"key-1", 0).err(),
        tables.find(TABLE, b"key-1").err(),
        tables.page(TABLE, b"", 10, 10, 0).err(),
        tables.page_of_all(TABLE, b"", 10, 10).err(),
        tables.changes(TABLE, 0, 10).err(),
        tables.list().err(),
        tables.summary(TABLE).err(),
        tables.set(TABLE, b"key-1", b"x", None).err(),
        tables.delete(TABLE, b"key-1", 0).err(),
        tables.retire(TABLE, b"key-1").err(),
        tables.create(b"other").err(),
        tables.merge(TABLE, []).err(),
    ];
    for (at, answer) in answers.iter().enumerate() {
        let named = matches!(answer, Some(TableError::Damaged(why)) if why.contains(ROWS_FILE));
        assert!(named, "{at}: {answer:?}");
    }
}

#[test]
fn where_the_log_has_everything_the_rows_are_made_anew_from_it() {
    let (disk, older) = life(LogConfig::default().segment_size);
    let whole = rows(&opened(&disk.fork(), 1 << 20).0);
    for fault in FAULTS {
        let disk = disk.fork();
        damage(&disk, fault, &older);
        let report = verify(&disk).expect("a list");
        assert!(!report.is_clean(), "{fault}");
        let (node, recovered) = opened(&disk, 1 << 20);
        let lost = recovered.lost_rows.expect("it is told");
        assert!(lost.rebuilt && lost.reason.contains(ROWS_FILE), "{lost:?}");
        let kept = (fault != "removed").then_some("tables/rows.redb.damaged-1");
        assert_eq!(lost.set_aside.as_deref(), kept, "{fault}");
        assert!(kept.is_none_or(|kept| disk.exists(kept).expect("asked")));
        assert_eq!(rows(&node), whole, "{fault}");
        put(&node, 200..201);
        drop(node);
        disk.kill();
        let report = verify(&disk).expect("a list");
        assert!(report.is_clean(), "{fault}: {:?}", report.findings);
        let (node, recovered) = opened(&disk, 1 << 20);
        assert_eq!(recovered.lost_rows, None, "{fault}");
        assert_eq!(rows(&node).len(), whole.len() + 1, "{fault}");
    }
}

#[test]
fn where_the_log_was_cut_rows_are_refused_by_name_also_after_restarts() {
    let (disk, older) = life(16 << 10);
    for fault in FAULTS {
        let disk = disk.fork();
        damage(&disk, fault, &older);
        for start in 0..3 {
            let (node, recovered) = opened(&disk, 16 << 10);
            let lost = recovered.lost_rows.expect("it is told");
            assert!(!lost.rebuilt && lost.reason.contains(ROWS_FILE), "{lost:?}");
            is_refused(&node);
            // All else goes on, and nothing is forgotten that the log has.
            let a = node.filters().get(b"a").expect("the filter");
            set(node.filters(), &a, &keys(100..200 + start));
            assert_eq!(found(node.filters(), &a, &keys(0..200)), 200);
            let files = disk.list("log").expect("a list");
            node.checkpoint().expect("files are written");
            let kept = disk.list("log").expect("a list");
            assert!(files.iter().all(|name| kept.contains(name)), "{fault}");
            node.journal().mark_synced().expect("a mark");
            drop(node);
            disk.kill();
            let report = verify(&disk).expect("a list");
            let named = |f: &grapevine_store::verify::Finding| f.file == ROWS_FILE;
            assert!(report.findings.iter().any(named), "{:?}", report.findings);
        }
        let kept = disk.list("tables").expect("a list");
        let aside = kept.iter().filter(|name| name.contains(".damaged-"));
        assert!(aside.count() <= 1, "set aside once: {kept:?}");
    }
}

#[test]
fn a_node_without_others_may_take_what_is_left() {
    let (disk, older) = life(16 << 10);
    damage(&disk, "emptied", &older);
    let (node, _) = opened(&disk, 16 << 10);
    assert!(node.forget_lost_rows().expect("it is alone"));
    let left = rows(&node);
    assert!(left.iter().any(|(key, _)| key == b"key-124"), "{left:?}");
    assert!(left.len() < 125, "the log had been cut");
    put(&node, 300..301);
    drop(node);
    disk.kill();
    assert!(verify(&disk).expect("a list").is_clean());
    let (node, recovered) = opened(&disk, 16 << 10);
    assert_eq!(recovered.lost_rows, None);
    assert_eq!(rows(&node).len(), left.len() + 1);
    assert!(!node.forget_lost_rows().expect("nothing is missing"));
}

#[test]
fn files_that_are_set_aside_are_bounded() {
    let (disk, older) = life(LogConfig::default().segment_size);
    for _ in 0..12 {
        damage(&disk, "cut short", &older);
        drop(opened(&disk, 1 << 20));
        disk.kill();
    }
    let kept = disk.list("tables").expect("a list");
    let kept = kept.iter().filter(|name| name.contains(".damaged-"));
    assert_eq!(kept.count(), 8);
}

fn both_have(nodes: &[Node; 2], count: u64) -> bool {
    let count_of = |node: &Node| {
        let summary = node.collections.tables().summary(TABLE);
        summary.expect("whole rows").map(|table| table.rows)
    };
    same(nodes) && nodes.iter().all(|node| count_of(node) == Some(count))
}

/// Two disks with the same rows, which are in no log any more, and the second's older file.
fn two() -> ([SimulatedDisk; 2], Vec<u8>) {
    let disks = [SimulatedDisk::new(), SimulatedDisk::new()];
    let first = Node::new(&disks[0], None);
    let group = first.collections.group();
    let mut nodes = [first, Node::new(&disks[1], Some(group))];
    nodes[0].collections.tables().create(TABLE).expect("made");
    put(&nodes[0].collections, 0..60);
    run_until(&mut nodes, |nodes| both_have(nodes, 60));
    nodes[1].collections.checkpoint().expect("a snapshot");
    let older = disks[1].bytes(ROWS_FILE).expect("a file");
    put(&nodes[1].collections, 60..120);
    run_until(&mut nodes, |nodes| both_have(nodes, 120));
    for node in &nodes {
        node.collections.checkpoint().expect("a snapshot");
        node.collections.checkpoint().expect("a snapshot");
        node.collections.journal().mark_synced().expect("a mark");
    }
    drop(nodes);
    disks.iter().for_each(SimulatedDisk::kill);
    (disks, older)
}

fn is_whole(node: &Node) -> bool {
    node.collections.damaged_rows().is_none()
}

#[test]
fn rows_come_back_from_a_peer_and_stay() {
    let (whole, older) = two();
    for fault in FAULTS {
        let disks = [whole[0].fork(), whole[1].fork()];
        damage(&disks[1], fault, &older);
        let mut nodes = [restart(&disks[0]), restart(&disks[1])];
        is_refused(&nodes[1].collections);
        for section in SECTIONS_OF_ROWS {
            let shown = nodes[1].exchange.page(section, b"", 1 << 20);
            assert_eq!(shown, None, "nobody is told that there are none");
        }
        let refused = nodes[1].collections.forget_lost_rows();
        assert!(
            matches!(refused, Err(TableError::OthersHaveRows)),
            "{refused:?}"
        );
        // What comes and goes meanwhile does so here too.
        put(&nodes[0].collections, 200..210);
        let gone = nodes[0].collections.tables().delete(TABLE, b"key-3", 0);
        gone.expect("deleted");
        run_until(&mut nodes, |nodes| same(nodes) && is_whole(&nodes[1]));
        let [one, other] = nodes.each_ref().map(|node| rows(&node.collections));
        assert_eq!((one.len(), &one), (129, &other), "{fault}");
        assert!(nodes[1].collections.checkpoint_while(&|| true).expect("ok"));
        put(&nodes[1].collections, 300..301);
        nodes[1].collections.journal().mark_synced().expect("ok");
        drop(nodes);
        disks.iter().for_each(SimulatedDisk::kill);
        let report = verify(&disks[1]).expect("a list");
        assert!(report.is_clean(), "{fault}: {:?}", report.findings);
        let node = restart(&disks[1]);
        assert_eq!(rows(&node.collections).len(), 130, "{fault}");
    }
}

#[test]
fn a_peer_that_lacks_what_was_here_makes_no_rows_whole() {
    let (disks, older) = two();
    let node = restart(&disks[1]);
    put(&node.collections, 400..460);
    node.collections.checkpoint().expect("a snapshot");
    node.collections.checkpoint().expect("a snapshot");
    node.collections.journal().mark_synced().expect("a mark");
    drop(node);
    disks[1].kill();
    damage(&disks[1], "emptied", &older);
    let mut nodes = [restart(&disks[0]), restart(&disks[1])];
    // Nobody else ever had them, nor can anybody get them.
    assert!(!run(&mut nodes, 2000, |nodes| is_whole(&nodes[1])));
    is_refused(&nodes[1].collections);
    assert_eq!(rows(&nodes[0].collections).len(), 120, "nothing is removed");
}
