//! Pages of the file of rows that rot: a start does not look for them, and whoever meets one later
//! is told. Nothing that was acknowledged is lost by it, and nothing else stops.

mod fixture;

use std::sync::Arc;

use fixture::pair::{Node, restart, run_until, same};
use fixture::{create, entropy, found, keys, options, set};
use grapevine_store::collections::{Collections, Recovered};
use grapevine_store::disk::{Disk, OpenMode, SimulatedDisk};
use grapevine_store::log::LogConfig;
use grapevine_store::tables::{ROWS_FILE, RowStoreError, TableError, Written};
use grapevine_store::verify::verify;

const TABLE: &[u8] = b"fruit";
/// So few that the log has all of them.
const ROWS: u32 = 1500;
const VALUES: &[u8] = &[b'v'; 60];
const PAGE: u64 = 4096;
const SUMS: &str = "tables/rows.sums";

fn key(number: u32) -> Vec<u8> {
    format!("key-{number:05}").into_bytes()
}

fn put(node: &Collections, number: u32) {
    let written = node.tables().set(TABLE, &key(number), VALUES, None);
    let Ok(Written::Row { position, .. }) = written else {
        panic!("{written:?}");
    };
    node.journal().commit(position).expect("acknowledged");
}

fn opened(disk: &SimulatedDisk) -> (Collections, Recovered) {
    let options = grapevine_store::filters::Options {
        log: LogConfig::default(),
        ..options()
    };
    Collections::open(Arc::new(disk.clone()), options, entropy()).expect("it opens")
}

/// A node that was killed, with rows in its file and a filter.
fn killed() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let (node, _) = opened(&disk);
    node.tables().create(TABLE).expect("a table");
    set(
        node.filters(),
        &create(node.filters(), "a", 500),
        &keys(0..100),
    );
    (0..ROWS).for_each(|number| put(&node, number));
    node.checkpoint().expect("a snapshot");
    node.journal().mark_synced().expect("a mark");
    // Nothing is closed.
    std::mem::forget(node);
    disk.kill();
    disk
}

/// Disks of which each has another page of the last commit altered.
fn altered(disk: &SimulatedDisk) -> Vec<SimulatedDisk> {
    let length = disk.bytes(ROWS_FILE).expect("a file").len() as u64;
    let altered = (1..length / PAGE).step_by(3).map(|page| {
        let copy = disk.fork();
        copy.flip_bit(ROWS_FILE, page * PAGE + 50, 2)
            .expect("flipped");
        copy
    });
    altered
        .filter(|copy| !verify(copy).expect("a list").is_clean())
        .collect()
}

fn scrub(node: &Collections) {
    while !node.tables().scrub(&|| true).expect("it reads") {}
}

fn count(node: &Collections) -> Result<u64, TableError> {
    Ok(node
        .tables()
        .measure(TABLE, 0)?
        .map_or(0, |table| table.rows))
}

/// The rows are refused by name, everything else goes on, and the next start has all of them again.
fn is_mended_by_a_start(node: Collections, disk: &SimulatedDisk, rows: u64) {
    let lost = node.tables().take_lost().expect("it is told");
    assert!(lost.reason.contains(ROWS_FILE) && !lost.rebuilt, "{lost:?}");
    assert!(
        lost.set_aside
            .is_some_and(|name| disk.exists(&name).expect("asked"))
    );
    assert_eq!(node.tables().take_lost(), None, "once");
    let refused = node.tables().get(TABLE, &key(1), 0);
    assert!(
        matches!(refused, Err(TableError::Damaged(_))),
        "{refused:?}"
    );
    let refused = node.forget_lost_rows();
    assert!(
        matches!(refused, Err(TableError::RestartFirst)),
        "{refused:?}"
    );
    assert_eq!(node.journal().read_only(), None);
    let a = node.filters().get(b"a").expect("the filter");
    set(node.filters(), &a, &keys(100..200));
    assert_eq!(found(node.filters(), &a, &keys(0..200)), 200);
    node.checkpoint().expect("files are written");
    drop(node);
    disk.kill();
    let (node, recovered) = opened(disk);
    assert!(recovered.lost_rows.expect("it is told").rebuilt);
    assert_eq!(count(&node).expect("whole rows"), rows);
    drop(node);
    disk.kill();
    assert!(verify(disk).expect("a list").is_clean());
    assert_eq!(opened(disk).1.lost_rows, None);
}

#[test]
fn a_start_reads_a_few_pages_also_after_a_kill() {
    let altered = altered(&killed());
    let unseen = altered
        .iter()
        .filter(|disk| opened(&disk.fork()).1.lost_rows.is_none());
    let (unseen, all) = (unseen.count(), altered.len());
    assert!(all > 10 && unseen * 10 > all * 8, "{unseen} of {all}");
}

#[test]
fn a_damaged_page_is_found_by_the_scrub() {
    for disk in altered(&killed()).iter().step_by(2) {
        let (node, recovered) = opened(disk);
        if recovered.lost_rows.is_none() {
            // It may meet the page first.
            let set = node.tables().set(TABLE, &key(ROWS), VALUES, None);
            scrub(&node);
            is_mended_by_a_start(node, disk, u64::from(ROWS) + u64::from(set.is_ok()));
        }
    }
}

#[test]
fn a_damaged_page_is_found_by_who_reads_it_and_never_served() {
    let mut met = 0;
    for disk in altered(&killed()).iter().step_by(2) {
        let (node, recovered) = opened(disk);
        if recovered.lost_rows.is_some() {
            continue;
        }
        for number in 0..ROWS {
            match node.tables().get(TABLE, &key(number), 0) {
                Ok(found) => {
                    let row = found.expect("the table").row.expect("it was set");
                    assert_eq!(row.values(), Some(VALUES));
                }
                Err(TableError::Store(RowStoreError::Corrupt { .. }) | TableError::Damaged(_)) => {
                    met += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        scrub(&node);
        is_mended_by_a_start(node, disk, u64::from(ROWS));
    }
    assert!(met > 3, "{met}");
}

#[test]
fn a_damaged_page_that_a_commit_meets_loses_nothing() {
    let mut met = 0;
    for disk in altered(&killed()).iter().step_by(2) {
        let (node, recovered) = opened(disk);
        if recovered.lost_rows.is_some() {
            continue;
        }
        // Replaces rows without looking at all pages: the first are in memory by then.
        let tables = node.tables();
        for number in (0..ROWS).step_by(20) {
            if tables.set(TABLE, &key(number), b"new", None).is_err() {
                break;
            }
        }
        (ROWS..ROWS + 300).for_each(|number| {
            let written = tables.set(TABLE, &key(number), VALUES, None);
            assert!(written.is_ok() || tables.damage().is_some(), "{written:?}");
        });
        node.checkpoint().expect("files are written");
        node.journal().sync().expect("synced");
        if let Some(lost) = tables.take_lost() {
            met += 1;
            assert!(lost.reason.contains("checksum"), "{lost:?}");
        }
        assert_eq!(node.journal().read_only(), None);
        let end = node.journal().appended();
        drop(node);
        disk.kill();
        let (node, _) = opened(disk);
        assert!(node.journal().appended() >= end, "the log is whole");
        if node.damaged_rows().is_none() {
            scrub(&node);
        }
        drop(node);
        disk.kill();
        assert!(count(&opened(disk).0).expect("whole rows") >= u64::from(ROWS));
    }
    assert!(met > 0);
}

#[test]
fn rows_heal_from_a_peer_without_a_restart() {
    let disks = [SimulatedDisk::new(), SimulatedDisk::new()];
    let first = Node::new(&disks[0], None);
    let group = first.collections.group();
    let mut nodes = [first, Node::new(&disks[1], Some(group))];
    nodes[0].collections.tables().create(TABLE).expect("made");
    (0..300).for_each(|number| put(&nodes[0].collections, number));
    let both_have = |nodes: &[Node; 2], rows: u64| {
        let have = |node: &Node| count(&node.collections).is_ok_and(|count| count == rows);
        same(nodes) && nodes.iter().all(have)
    };
    run_until(&mut nodes, |nodes| both_have(nodes, 300));
    for node in &nodes {
        node.collections.checkpoint().expect("a snapshot");
        node.collections.journal().mark_synced().expect("a mark");
    }
    drop(nodes);
    disks.iter().for_each(SimulatedDisk::kill);
    let unseen = |disk: &SimulatedDisk| opened(&disk.fork()).1.lost_rows.is_none();
    let damaged = altered(&disks[1]).into_iter().find(unseen);
    let damaged = damaged.expect("a page that no start reads");
    let mut nodes = [restart(&disks[0]), restart(&damaged)];
    assert!(nodes[1].collections.damaged_rows().is_none());
    // What it makes before anybody finds the damage is kept.
    put(&nodes[1].collections, 900);
    scrub(&nodes[1].collections);
    assert!(nodes[1].collections.damaged_rows().is_some());
    put(&nodes[0].collections, 901);
    run_until(&mut nodes, |nodes| both_have(nodes, 302));
    let whole = nodes[1].collections.checkpoint_while(&|| true);
    assert!(whole.expect("written"), "recovery goes on from here again");
    nodes[1]
        .collections
        .journal()
        .mark_synced()
        .expect("a mark");
    drop(nodes);
    disks[0].kill();
    damaged.kill();
    let (node, recovered) = opened(&damaged);
    assert_eq!(recovered.lost_rows, None);
    assert_eq!(count(&node).expect("whole rows"), 302);
}

#[test]
fn checksums_that_are_missing_or_of_another_file_are_made_anew() {
    let disk = killed();
    let mine = disk.bytes(SUMS).expect("checksums");
    for fault in ["removed", "of another file", "cut short"] {
        let disk = disk.fork();
        let open = |mode| disk.open(SUMS, mode).expect("opened");
        match fault {
            "removed" => disk.remove(SUMS).expect("removed"),
            "cut short" => open(OpenMode::ReadWrite).set_len(5000).expect("cut"),
            _ => {
                let mut other = mine.clone();
                other[20] ^= 1;
                open(OpenMode::Create).write_at(0, &other).expect("written");
            }
        }
        let (node, recovered) = opened(&disk);
        assert_eq!(recovered.lost_rows, None, "{fault}");
        scrub(&node);
        assert_eq!(count(&node).expect("whole rows"), u64::from(ROWS));
        drop(node);
        disk.kill();
        // What is there is read again where nothing is known of its pages.
        let damaged = altered(&disk.fork()).swap_remove(5);
        damaged.remove(SUMS).expect("removed");
        assert!(opened(&damaged).1.lost_rows.expect("it is told").rebuilt);
    }
}
