//! The log is kept behind the snapshot before the newest: when the newest one is lost, the manifest
//! or what went to the file of rows, nothing that was acknowledged is.

mod fixture;

use std::sync::Arc;

use fixture::{create, entropy, found, keys, options, set};
use grapevine_store::collections::{Collections, Recovered};
use grapevine_store::disk::{Disk, OpenMode, SimulatedDisk};
use grapevine_store::manifest::{BEFORE_FILE, MANIFEST_FILE, Manifest};
use grapevine_store::tables::{ROWS_FILE, Written};
use grapevine_store::verify::verify;

const TABLE: &[u8] = b"fruit";

fn opened(disk: &SimulatedDisk) -> (Collections, Recovered) {
    let options = grapevine_store::filters::Options {
        log: grapevine_store::log::LogConfig {
            segment_size: 4096,
            ..options().log
        },
        ..options()
    };
    Collections::open(Arc::new(disk.clone()), options, entropy()).expect("it opens")
}

fn put(node: &Collections, rows: std::ops::Range<u32>) {
    for number in rows {
        let key = format!("key-{number}");
        let written = node.tables().set(TABLE, key.as_bytes(), &[b'v'; 300], None);
        let Ok(Written::Row { position, .. }) = written else {
            panic!("{written:?}");
        };
        node.journal().commit(position).expect("acknowledged");
    }
}

fn position(disk: &SimulatedDisk) -> u64 {
    let manifest = Manifest::read(disk).expect("it reads");
    manifest.expect("it is there").position()
}

/// A node that ended behind its fourth snapshot, what was in the file of rows at the first and the third,
/// and the positions of the snapshots.
struct Life {
    disk: SimulatedDisk,
    first: Vec<u8>,
    third: Vec<u8>,
    positions: Vec<u64>,
}

fn life() -> Life {
    let disk = SimulatedDisk::new();
    let (node, _) = opened(&disk);
    node.tables().create(TABLE).expect("a table");
    let a = create(node.filters(), "a", 2000);
    let gone = create(node.filters(), "gone", 500);
    let (mut files, mut positions) = (Vec::new(), Vec::new());
    for round in 0..4 {
        put(&node, round * 50..(round + 1) * 50);
        let first = u64::from(round) * 100;
        set(node.filters(), &a, &keys(first..first + 100));
        set(node.filters(), &gone, &keys(first..first + 10));
        node.checkpoint().expect("a snapshot");
        files.push(disk.bytes(ROWS_FILE).expect("a file"));
        positions.push(position(&disk));
    }
    // Between the newest two snapshots and behind them things went, too.
    let deleted = node.tables().delete(TABLE, b"key-3", 0);
    deleted.expect("deleted");
    node.filters().drop_filter(&gone).expect("dropped");
    put(&node, 200..210);
    set(node.filters(), &a, &keys(400..410));
    node.journal().mark_synced().expect("a mark");
    drop(node);
    disk.kill();
    Life {
        disk,
        first: files.swap_remove(0),
        third: files.swap_remove(2),
        positions,
    }
}

fn replace(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::Create).expect("opened");
    file.write_at(0, bytes).expect("written");
}

/// Everything that was acknowledged is there, and the next snapshot leaves nothing to find.
fn is_whole(disk: &SimulatedDisk) -> Recovered {
    let (node, recovered) = opened(disk);
    assert_eq!(recovered.lost_rows, None);
    assert_eq!(recovered.damaged, []);
    let page = node.tables().page(TABLE, b"", 1000, 1 << 24, 0);
    let rows = page.expect("whole rows").expect("the table").rows;
    assert_eq!(rows.len(), 209);
    assert!(rows.iter().all(|(key, _)| key != b"key-3"));
    let a = node.filters().get(b"a").expect("the filter");
    assert_eq!(found(node.filters(), &a, &keys(0..410)), 410);
    assert!(node.filters().get(b"gone").is_none());
    node.checkpoint().expect("a snapshot");
    node.journal().mark_synced().expect("a mark");
    drop(node);
    disk.kill();
    let report = verify(disk).expect("a list");
    assert!(report.is_clean(), "{:?}", report.findings);
    recovered
}

#[test]
fn the_log_begins_behind_the_snapshot_before_the_newest() {
    let life = life();
    let starts = life.disk.list("log").expect("a list");
    let starts = starts
        .iter()
        .filter_map(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
    let start = starts.min().expect("a segment");
    let [_, second, third, _] = life.positions[..] else {
        panic!("four snapshots");
    };
    assert!(
        start <= third && start > second,
        "{start}: {:?}",
        life.positions
    );
}

#[test]
fn a_lost_manifest_is_made_good_from_the_one_before() {
    let life = life();
    let bytes = life.disk.bytes(MANIFEST_FILE).expect("a manifest");
    for fault in ["removed", "emptied", "cut short", "a bit flipped"] {
        let disk = life.disk.fork();
        match fault {
            "removed" => disk.remove(MANIFEST_FILE).expect("removed"),
            "emptied" => replace(&disk, MANIFEST_FILE, b""),
            "cut short" => replace(&disk, MANIFEST_FILE, &bytes[..bytes.len() / 2]),
            _ => disk.flip_bit(MANIFEST_FILE, 100, 1).expect("flipped"),
        }
        assert!(!verify(&disk).expect("a list").is_clean(), "{fault}");
        let started = disk.fork();
        drop(opened(&started));
        started.kill();
        assert!(verify(&started).expect("a list").is_clean(), "{fault}");
        let lost = is_whole(&disk).lost_manifest.expect("it is told");
        assert!(lost.contains(MANIFEST_FILE), "{fault}: {lost}");
        assert_eq!(is_whole(&disk).lost_manifest, None, "{fault}");
    }
    // Without either, or with one that the log does not go back to, nothing is made up.
    for before in [None, Some(Manifest::default())] {
        let disk = life.disk.fork();
        disk.remove(MANIFEST_FILE).expect("removed");
        disk.remove(BEFORE_FILE).expect("removed");
        if let Some(before) = before {
            before.write(&disk).expect("written");
            disk.rename(MANIFEST_FILE, BEFORE_FILE).expect("renamed");
        }
        let refused = Collections::open(Arc::new(disk), options(), entropy());
        let error = refused.err().expect("refused").to_string();
        assert!(error.contains("manifest is missing"), "{error}");
    }
}

#[test]
fn a_file_of_rows_as_of_the_snapshot_before_is_gone_on_with() {
    let life = life();
    for lost_manifest in [false, true] {
        let disk = life.disk.fork();
        replace(&disk, ROWS_FILE, &life.third);
        if lost_manifest {
            disk.remove(MANIFEST_FILE).expect("removed");
        }
        assert!(!verify(&disk).expect("a list").is_clean());
        let recovered = is_whole(&disk);
        // By the manifest before, it is what it should be.
        assert_eq!(recovered.older_rows.is_none(), lost_manifest);
        assert_eq!(is_whole(&disk).older_rows, None);
    }
    let disk = life.disk.fork();
    replace(&disk, ROWS_FILE, &life.first);
    let (_, recovered) = opened(&disk);
    let lost = recovered.lost_rows.expect("it is told");
    assert!(!lost.rebuilt && lost.reason.contains("old"), "{lost:?}");
}
