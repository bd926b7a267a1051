//! What outlives the process and the power.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::disk::{CrashPlan, Disk, NameFate, Operation, WriteFate};
use crate::journal::ReadOnly;
use crate::tables::{FlushError, ROWS_FILE, TableError, Written};
use crate::verify;

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
        let (before, counts) = (shown(&node, "t"), node.tables().list().expect("whole rows"));
        drop(node);
        disk.kill();
        node = open(&disk);
        assert_eq!(shown(&node, "t"), before);
        assert_eq!(node.tables().list().expect("whole rows"), counts);
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

/// What is written while the file is, to the same frame of the log, begins where the file ends.
#[test]
fn a_row_that_is_set_while_others_go_to_the_file_is_replayed() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    set(&node, "a", "1");
    let flushed = node.tables().flush_after(|| {
        set(&node, "b", "2");
        node.journal().sync().map(drop)
    });
    flushed.expect("it writes");
    let before = shown(&node, "t");
    assert_eq!(before.len(), 2);
    drop(node);
    disk.kill();
    assert_eq!(shown(&open(&disk), "t"), before);
}

#[test]
fn many_rows_in_the_first_operation_of_a_log_are_replayed() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    let rows = (0..300).map(|number| (format!("{number:03}").into_bytes(), row(1, "")));
    node.tables().merge(b"t", rows).expect("merged");
    node.journal().sync().expect("synced");
    let before = shown(&node, "t");
    drop(node);
    disk.kill();
    assert_eq!(shown(&open(&disk), "t"), before);
}

fn flush(node: &Collections) -> Result<(), TableError> {
    match node.tables().flush() {
        Err(FlushError::ReadOnly(error)) => Err(error.into()),
        Err(FlushError::NoFile(reason)) => panic!("{reason}"),
        Ok(()) => Ok(()),
    }
}

/// What a short life was promised: keys with the versions of their acknowledged rows (none: an
/// acknowledged deletion), and the ones that were tried and not acknowledged.
#[derive(Default)]
struct Ledger {
    sure: BTreeMap<String, Option<i64>>,
    tried: BTreeSet<String>,
    created: bool,
}

impl Ledger {
    fn set(&mut self, node: &Collections, key: &str) -> Result<(), TableError> {
        self.tried.insert(key.to_owned());
        let written = node.tables().set(b"t", key.as_bytes(), b"v", None)?;
        node.journal().sync()?;
        self.tried.remove(key);
        if let Written::Row { version, .. } = written {
            self.sure.insert(key.to_owned(), Some(version));
        }
        Ok(())
    }

    fn delete(&mut self, node: &Collections, key: &str) -> Result<(), TableError> {
        self.tried.insert(key.to_owned());
        node.tables().delete(b"t", key.as_bytes(), 0)?;
        node.journal().sync()?;
        self.tried.remove(key);
        self.sure.insert(key.to_owned(), None);
        Ok(())
    }

    fn live(&mut self, node: &Collections) -> Result<(), TableError> {
        node.tables().create(b"t")?;
        node.journal().sync()?;
        self.created = true;
        self.set(node, "a")?;
        self.set(node, "b")?;
        self.delete(node, "a")?;
        flush(node)?;
        node.tables().collect(&stable(&[node]))?;
        self.set(node, "c")?;
        flush(node)?;
        self.set(node, "a")?;
        let snapshot = node.checkpoint();
        snapshot.map_err(|_| ReadOnly("the snapshot failed".into()))?;
        self.delete(node, "b")?;
        self.set(node, "d")?;
        let snapshot = node.checkpoint();
        snapshot.map_err(|_| ReadOnly("the snapshot failed".into()))?;
        node.tables().collect(&stable(&[node]))?;
        self.set(node, "e")
    }

    fn check(&self, node: &Collections) {
        if !self.created {
            return;
        }
        for (key, version) in &self.sure {
            let found = node
                .tables()
                .get(b"t", key.as_bytes(), 0)
                .expect("it reads");
            let row = found.expect("the table was made").row;
            if !self.tried.contains(key) {
                assert_eq!(row.map(|row| row.version), *version, "key {key}");
            }
        }
        let live = self.sure.values().filter(|version| version.is_some());
        let found = shown(node, "t").len();
        assert!(found.abs_diff(live.count()) <= self.tried.len());
        assert_eq!(
            node.tables()
                .summary(b"t")
                .expect("whole rows")
                .expect("one")
                .rows,
            found as u64
        );
    }
}

const WRITES: [WriteFate; 5] = [
    WriteFate::Lost,
    WriteFate::Torn,
    WriteFate::Reordered,
    WriteFate::Flipped,
    WriteFate::Kept,
];
const NAMES: [NameFate; 4] = [
    NameFate::Lost,
    NameFate::Kept,
    NameFate::Prefix,
    NameFate::Reordered,
];

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged_and_brings_nothing_back() {
    let begun = SimulatedDisk::new();
    drop(open(&begun));
    let whole = begun.fork();
    let before = whole.operations();
    let node = open(&whole);
    Ledger::default().live(&node).expect("nothing fails");
    let operations = whole.operations() - before;
    assert!(operations > 50, "{operations} operations");
    drop(node);
    for cut in 0..operations {
        let disk = begun.fork();
        disk.cut_power_at_operation(cut);
        let mut ledger = Ledger::default();
        if let Ok(node) = try_open(&disk) {
            let lived = ledger.live(&node);
            assert!(lived.is_err() || disk.is_down() || cut + 20 > operations);
        }
        for writes in WRITES {
            let after = disk.fork();
            after.crash(CrashPlan {
                writes,
                names: NAMES[(cut as usize + writes as usize) % NAMES.len()],
                seed: cut,
            });
            let node = try_open(&after).unwrap_or_else(|error| {
                panic!("cut at {cut} of {operations}, {writes:?}: {error}")
            });
            ledger.check(&node);
            drop(node);
            let report = verify(&after).expect("a directory");
            assert!(report.is_clean(), "{:?}", report.findings);
        }
    }
}

#[test]
fn a_file_that_is_gone_or_old_is_named_and_made_anew_from_the_log() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    set(&node, "a", "1");
    node.checkpoint().expect("a snapshot");
    let old = disk.fork();
    set(&node, "b", "1");
    node.checkpoint().expect("a snapshot");
    node.checkpoint().expect("a snapshot");
    drop(node);
    disk.kill();
    let missing = disk.fork();
    missing.remove(ROWS_FILE).expect("removed");
    let behind = disk.fork();
    crate::disk::replace_file(&behind, ROWS_FILE, &old.bytes(ROWS_FILE).expect("read"))
        .expect("replaced");
    for (damaged, kept) in [
        (missing, None),
        (behind, Some("tables/rows.redb.damaged-1")),
    ] {
        let report = verify(&damaged).expect("a directory");
        assert!(report.findings.iter().any(|found| found.file == ROWS_FILE));
        let opened = Collections::open(Arc::new(damaged.clone()), options(), entropy());
        let (node, recovered) = opened.expect("it opens");
        let lost = recovered.lost_rows.expect("it is told");
        assert!(lost.rebuilt && lost.reason.contains(ROWS_FILE), "{lost:?}");
        assert_eq!(lost.set_aside.as_deref(), kept);
        assert_eq!(shown(&node, "t").len(), 2);
        drop(node);
        damaged.kill();
        let report = verify(&damaged).expect("a directory");
        assert!(report.is_clean(), "{:?}", report.findings);
    }
    let report = verify(&disk).expect("a directory");
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!((report.counts.tables, report.counts.rows), (1, 2));
}

#[test]
fn a_flipped_bit_in_the_file_is_found_or_of_no_consequence() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    for number in 0..200 {
        set(&node, &format!("k{number}"), "value");
    }
    node.checkpoint().expect("a snapshot");
    let expected = shown(&node, "t");
    drop(node);
    disk.kill();
    let bytes = disk.bytes(ROWS_FILE).expect("read");
    let places = (0..bytes.len()).filter(|at| bytes[*at] != 0);
    let (mut found, mut harmless) = (0, 0);
    for at in places.step_by(97) {
        let damaged = disk.fork();
        damaged
            .flip_bit(ROWS_FILE, at as u64, (at % 8) as u8)
            .expect("flipped");
        let report = verify(&damaged).expect("a directory");
        let start = || {
            let opened = Collections::open(Arc::new(damaged.clone()), options(), entropy());
            opened.unwrap_or_else(|error| panic!("byte {at}: {error}"))
        };
        let (mut node, mut recovered) = start();
        scrub(&node);
        if node.tables().take_lost().is_some() {
            drop(node);
            damaged.kill();
            (node, recovered) = start();
        }
        // The log has all of it.
        assert_eq!(shown(&node, "t"), expected, "byte {at}");
        match recovered.lost_rows {
            None => harmless += 1,
            Some(lost) => {
                assert!(lost.reason.contains(ROWS_FILE), "{lost:?}");
                assert!(!report.is_clean(), "byte {at}");
                found += 1;
            }
        }
    }
    assert!(found > 20, "{found} found, {harmless} of no consequence");
}

#[test]
fn a_copy_made_beside_writers_has_what_was_acknowledged() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    node.journal().sync().expect("synced");
    let done = AtomicBool::new(false);
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..4000 {
                set(&node, &format!("{number:05}"), "v");
                node.journal()
                    .commit(node.journal().appended())
                    .expect("written");
                acknowledged.store(number + 1, Ordering::Release);
                match number % 50 {
                    20 => node.tables().flush().expect("flushed"),
                    40 => node.checkpoint().expect("a snapshot"),
                    _ => {}
                }
            }
            done.store(true, Ordering::Release);
        });
        let mut copies = 0;
        while !done.load(Ordering::Acquire) || copies == 0 {
            let sure = acknowledged.load(Ordering::Acquire);
            let copy = SimulatedDisk::new();
            crate::backup::copy(&disk, &copy).expect("copied");
            let copied = open(&copy);
            let rows = shown(&copied, "t");
            assert!(rows.len() as u64 >= sure, "{} of {sure}", rows.len());
            let in_order = rows.iter().enumerate();
            assert!(
                in_order
                    .clone()
                    .all(|(n, (key, _))| *key == format!("{n:05}"))
            );
            copies += 1;
        }
    });
}

#[test]
fn a_file_that_is_cut_while_it_is_copied_is_copied_again() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    set(&node, "a", "1");
    node.checkpoint().expect("a snapshot");
    let copy = SimulatedDisk::new();
    // The head is read, then the file.
    disk.fail_next(Operation::Read, 1, io::ErrorKind::UnexpectedEof);
    let copied = crate::tables::copy_rows(&disk, &copy).expect("copied");
    let bytes = disk.bytes(ROWS_FILE).expect("read");
    assert_eq!(copied, bytes.len() as u64);
    assert!(copy.bytes(ROWS_FILE).expect("read") == bytes);
    disk.fail_next(Operation::Read, 1, io::ErrorKind::InvalidData);
    let refused = crate::tables::copy_rows(&disk, &copy).expect_err("a disk that cannot read");
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_restored_directory_has_the_rows_and_goes_on() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    let version = set(&node, "a", "1");
    node.checkpoint().expect("a snapshot");
    set(&node, "b", "2");
    node.journal().sync().expect("synced");
    let copy = SimulatedDisk::new();
    let copied = crate::backup::copy(&disk, &copy).expect("copied");
    let before = origin(&node);
    let renewed = crate::restore::renew(Arc::new(copy.clone()), copied, options(), entropy());
    renewed.expect("renewed");
    let restored = open(&copy);
    assert_ne!(origin(&restored), before);
    assert_eq!(shown(&restored, "t"), shown(&node, "t"));
    assert!(set(&restored, "a", "3") > version);
    restored.journal().sync().expect("synced");
    drop(restored);
    copy.kill();
    assert_eq!(value(&open(&copy), "a").as_deref(), Some("3"));
}

#[test]
fn many_rows_go_to_the_file_by_themselves_also_while_they_are_replayed() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    let values = "v".repeat(60_000);
    let rows = (0..1500).map(|number| (format!("{number:04}").into_bytes(), row(1, &values)));
    node.tables().merge(b"t", rows).expect("merged");
    assert!(disk.exists(ROWS_FILE).expect("asked"));
    let held = node.tables().lock().overlay.bytes;
    assert!(
        held < crate::tables::RowsMemory::default().unwritten / 2,
        "{held} bytes"
    );
    node.journal().sync().expect("synced");
    drop(node);
    disk.kill();
    let node = open(&disk);
    assert_eq!(shown(&node, "t").len(), 1500);
    assert_eq!(
        node.tables()
            .summary(b"t")
            .expect("whole rows")
            .expect("one")
            .rows,
        1500
    );
}
