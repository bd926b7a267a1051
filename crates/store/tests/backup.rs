//! Backup and restore: a copy of a directory in use is whole, and what is restored is somebody
//! else.

mod fixture;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fixture::{
    Opened, answers, create, entropy, foreign, found, keys, new_filter, new_in, open, options,
    paths, set,
};
use grapevine_core::filter::Outcome;
use grapevine_core::filter::parameters::Growth;
use grapevine_core::operation::EntryHeader;
use grapevine_store::backup::{BackupError, backup, copy};
use grapevine_store::disk::{Disk, RealDisk, SimulatedDisk};
use grapevine_store::filters::Recreation;
use grapevine_store::identity::Identity;
use grapevine_store::journal::LOG_DIR;
use grapevine_store::log::verify_entries;
use grapevine_store::manifest::Manifest;
use grapevine_store::restore::{Lost, Restored, restore};
use grapevine_store::{StagingError, verify};

fn real(path: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::new(path.to_owned()))
}

fn directory(path: &Path) -> Opened {
    RealDisk::new(path.to_owned())
        .create_root()
        .expect("a root");
    open(real(path))
}

fn restored(from: &Path, to: &Path) -> Restored {
    restore(from, to, Lost::Keep, options(), entropy()).expect("restored")
}

/// Sequence numbers of the operations in a log.
fn numbers(disk: &dyn Disk) -> Vec<u64> {
    let mut numbers = Vec::new();
    verify_entries(disk, LOG_DIR, |_, entry| {
        let (header, _) = EntryHeader::decode(entry).expect("an operation");
        numbers.push(header.dot.sequence);
    })
    .expect("a log");
    numbers
}

const FILTERS: [&str; 3] = ["a", "b", "c"];
/// Keys set at once by a writer.
const BATCH: u64 = 40;
/// Backups taken meanwhile.
const ROUNDS: usize = 6;
/// Keys after which a writer only repeats itself, so that the files stay small.
const KEYS_MAX: u64 = 60_000;

/// Writers that set ever new keys, a thread that takes one snapshot after the other, and one that
/// makes, imports and drops filters.
fn use_until(stop: &AtomicBool, filters: &Opened, acknowledged: &[AtomicU64; 3]) {
    let running = || !stop.load(Ordering::Acquire);
    thread::scope(|scope| {
        for (name, acknowledged) in FILTERS.iter().zip(acknowledged) {
            scope.spawn(move || {
                let handle = filters.get(name.as_bytes()).expect("the filter");
                let mut next = 0;
                while running() {
                    if next == KEYS_MAX {
                        thread::yield_now();
                        continue;
                    }
                    set(filters, &handle, &keys(next..next + BATCH));
                    next += BATCH;
                    acknowledged.store(next, Ordering::Release);
                }
            });
        }
        scope.spawn(|| {
            while running() {
                filters.0.checkpoint().expect("a snapshot");
            }
        });
        scope.spawn(|| {
            while running() {
                let passing = create(filters, "passing", 50);
                set(filters, &passing, &keys(0..200));
                filters.flush(&passing).expect("flushed");
                filters.import_bloomd(foreign("small")).expect("imported");
                let small = filters.get(b"small").expect("the import");
                filters.drop_filter(&passing).expect("dropped");
                filters.drop_filter(&small).expect("dropped");
                filters.tidy(0).expect("tidied");
            }
        });
    });
}

/// Ends the work also when an assertion fails, which would otherwise wait for it for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn every_backup_of_a_directory_in_use_holds_what_was_acknowledged_before_it() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("source");
    let filters = directory(&source);
    for name in FILTERS {
        create(&filters, name, 2000);
    }
    let acknowledged = [0; 3].map(AtomicU64::new);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let working = scope.spawn(|| use_until(&stop, &filters, &acknowledged));
        let stopping = Stop(&stop);
        for round in 0..ROUNDS {
            let before: Vec<u64> = acknowledged
                .iter()
                .map(|count| count.load(Ordering::Acquire))
                .collect();
            let kept = root.path().join(format!("backup-{round}"));
            let again = root.path().join(format!("restored-{round}"));
            backup(&source, &kept).expect("a backup");
            let restored = restored(&kept, &again);
            assert!(verify(&*real(&again)).unwrap().is_clean());
            let copy = open(real(&again));
            assert_eq!(copy.identity().origin, restored.now);
            for (name, count) in FILTERS.iter().zip(before) {
                let handle = copy.get(name.as_bytes()).expect("the filter");
                let there = found(&copy, &handle, &keys(0..count));
                assert_eq!(there as u64, count, "round {round}: {name}");
            }
        }
        drop(stopping);
        assert!(working.join().is_ok());
    });
    let busy = acknowledged.each_ref().map(|c| c.load(Ordering::Acquire));
    assert!(busy.iter().all(|count| *count > BATCH), "{busy:?}");
}

#[test]
fn what_only_the_log_names_is_copied() {
    let disk = SimulatedDisk::new();
    let filters = open(Arc::new(disk.clone()));
    let a = create(&filters, "a", 100);
    let gone = create(&filters, "gone", 100);
    set(&filters, &gone, &keys(0..50));
    set(&filters, &a, &keys(0..500));
    filters.0.checkpoint().unwrap();
    filters.drop_filter(&gone).unwrap();
    filters.tidy(0).unwrap();
    filters.import_bloomd(foreign("small")).unwrap();
    let mut exported = Vec::new();
    filters.export(&a, &mut exported).unwrap().unwrap();
    let b = create(&filters, "b", 100);
    set(&filters, &b, &keys(900..1000));
    filters.merge(&b, &mut &exported[..]).unwrap();
    set(&filters, &a, &keys(500..2000));
    filters.journal().sync().unwrap();

    let target = SimulatedDisk::new();
    let copied = copy(&disk, &target).unwrap();
    assert_eq!(copied.attempts, 1);
    assert!(copied.report.notes.is_empty(), "{:?}", copied.report.notes);
    // All of it is durable.
    target.crash(grapevine_store::disk::CrashPlan {
        writes: grapevine_store::disk::WriteFate::Lost,
        names: grapevine_store::disk::NameFate::Lost,
        seed: 0,
    });
    let copy = open(Arc::new(target));
    assert!(copy.damaged().is_empty());
    assert!(copy.get(b"gone").is_none());
    for (name, range) in [("a", 0..2000), ("b", 0..500), ("b", 900..1000)] {
        let handle = copy.get(name.as_bytes()).unwrap();
        let count = (range.end - range.start) as usize;
        assert_eq!(found(&copy, &handle, &keys(range)), count, "{name}");
    }
    let small = copy.get(b"small").unwrap();
    assert_eq!(found(&copy, &small, &keys(0..9000)), 9000);
}

#[test]
fn a_restored_directory_is_another_origin_and_goes_on_counting() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let filters = directory(&at("source"));
    let a = create(&filters, "a", 5000);
    let fixed = new_filter(5000, Growth::Fixed);
    filters.create(b"fixed", fixed, Recreation::AtOnce).unwrap();
    let fixed = filters.get(b"fixed").unwrap();
    set(&filters, &a, &keys(0..1000));
    set(&filters, &fixed, &keys(0..1000));
    filters.0.bitmap().set(&[7]).unwrap();
    filters.0.checkpoint().unwrap();
    filters.0.bitmap().set(&[64_000]).unwrap();
    set(&filters, &a, &keys(1000..1500));
    let before = filters.identity();
    backup(&at("source"), &at("backup")).unwrap();
    // The source goes on: its numbers are known to others.
    let last = *numbers(&*real(&at("backup"))).last().unwrap();
    set(&filters, &a, &keys(1500..1600));

    let made = restored(&at("backup"), &at("restored"));
    assert_eq!((made.before, made.filters), (before.origin, 2));
    assert_ne!(made.now, before.origin);
    assert_eq!(made.operations, last);
    let disk = real(&at("restored"));
    let identity = Identity::read(&*disk).unwrap().unwrap();
    assert_eq!((identity.origin, identity.seed), (made.now, before.seed));
    let manifest = Manifest::read(&*disk).unwrap().unwrap();
    assert_eq!(
        manifest.bookmark.at.version.iter().map(|(_, n)| n).max(),
        Some(last)
    );
    assert!(numbers(&*disk).is_empty(), "the log is empty");

    let copy = open(Arc::clone(&disk));
    let bits: Vec<u16> = copy.0.bitmap().bits().iter().collect();
    assert_eq!(bits, [7, 64_000]);
    let a = copy.get(b"a").unwrap();
    assert_eq!(found(&copy, &a, &keys(0..1500)), 1500);
    assert!(found(&copy, &a, &keys(1500..1600)) < 2);
    let outcomes = set(&copy, &a, &keys(0..2000));
    assert!(new_in(&outcomes) >= 499, "{}", new_in(&outcomes));
    // The old origin may have spent its rights after the backup: they are not used.
    let creators: Vec<_> = a
        .in_memory()
        .unwrap()
        .layers()
        .map(|layer| (layer.id().creator, layer.inserted()))
        .collect();
    assert_eq!(creators.len(), 2);
    assert_eq!(creators[0], (made.before, 1500));
    assert_eq!(creators[1].0, made.now);
    let fixed = copy.get(b"fixed").unwrap();
    let outcomes = set(&copy, &fixed, &keys(999..1001));
    assert_eq!(outcomes, [Outcome::Seen, Outcome::Full]);
    copy.journal().sync().unwrap();
    let numbers = numbers(&*disk);
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    drop(copy);
    let copy = open(disk);
    let a = copy.get(b"a").unwrap();
    assert_eq!(found(&copy, &a, &keys(0..2000)), 2000);
}

#[test]
fn a_backup_is_its_owners_alone_and_whole() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let filters = directory(&at("source"));
    let a = create(&filters, "a", 100);
    set(&filters, &a, &keys(0..300));
    filters.import_bloomd(foreign("small")).unwrap();
    filters.0.checkpoint().unwrap();
    fs::create_dir(at("backup")).unwrap();
    backup(&at("source"), &at("backup")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&at("backup")), 0o700);
    let files = paths(&*real(&at("backup")));
    assert!(files.len() > 4, "{files:?}");
    for path in files {
        assert_eq!(mode(&at("backup").join(&path)), 0o600, "{path}");
    }
    let taken = backup(&at("source"), &at("backup"));
    let taken = taken.expect_err("the place is taken");
    let BackupError::Destination(StagingError::NotEmpty { path }) = taken else {
        panic!("{taken:?}");
    };
    assert_eq!(path, at("backup"));
    let nothing = backup(&at("nothing"), &at("other"));
    let nothing = nothing.expect_err("there is nothing").to_string();
    assert!(nothing.contains("is no data directory"), "{nothing}");
    let inside = restore(
        &at("backup"),
        &at("source"),
        Lost::Keep,
        options(),
        entropy(),
    );
    assert!(inside.is_err(), "a directory in use is not replaced");
    let mut left: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["backup", "source"]);
}

#[test]
fn a_damaged_source_or_backup_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let filters = directory(&at("source"));
    let a = create(&filters, "a", 1000);
    set(&filters, &a, &keys(0..1000));
    filters.0.checkpoint().unwrap();
    drop(filters);
    backup(&at("source"), &at("backup")).unwrap();
    for place in ["source", "backup"] {
        let layer = paths(&*real(&at(place)))
            .into_iter()
            .find(|path| path.ends_with(".layer"))
            .unwrap();
        let mut bytes = fs::read(at(place).join(&layer)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(at(place).join(&layer), bytes).unwrap();
        let refused = if place == "source" {
            backup(&at(place), &at("other")).map(drop)
        } else {
            restore(&at(place), &at("other"), Lost::Keep, options(), entropy()).map(drop)
        };
        let refused = refused.expect_err("damage");
        let BackupError::Damaged(findings) = &refused else {
            panic!("{refused:?}");
        };
        assert_eq!(findings[0].file, layer);
        assert!(refused.to_string().contains(&layer), "{refused}");
        assert!(!at("other").exists());
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
}

#[test]
fn a_torn_tail_of_the_log_does_not_keep_a_backup_from_being_restored() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let filters = directory(&at("source"));
    let a = create(&filters, "a", 1000);
    set(&filters, &a, &keys(0..700));
    drop(filters);
    let disk = real(&at("source"));
    let log = paths(&*disk)
        .into_iter()
        .rfind(|path| path.ends_with(".log"))
        .unwrap();
    let log = at("source").join(log);
    let mut bytes = fs::read(&log).unwrap();
    bytes.extend_from_slice(b"GvF1 the beginning of a frame");
    fs::write(&log, bytes).unwrap();
    let copied = backup(&at("source"), &at("backup")).unwrap();
    assert_eq!(copied.report.notes.len(), 1, "{:?}", copied.report.notes);
    let made = restored(&at("backup"), &at("restored"));
    assert!(made.recovered.cut.is_some());
    let copy = open(real(&at("restored")));
    let a = copy.get(b"a").unwrap();
    assert!(answers(&copy, &a, &keys(0..700)).iter().all(|found| *found));
}
