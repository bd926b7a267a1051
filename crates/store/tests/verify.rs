//! Checking a data directory: damage of every kind is found and named, and nothing else is.

mod fixture;

use std::sync::Arc;

use fixture::{Opened, create, entropy, foreign, keys, open, options, paths, set};
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::operation::{ENTRY_HEADER_BYTES, EntryHeader, Stream};
use grapevine_core::origin::Origin;
use grapevine_core::version::Dot;
use grapevine_store::collections::Collections;
use grapevine_store::disk::{CrashPlan, Disk, NameFate, OpenMode, SimulatedDisk, WriteFate};
use grapevine_store::identity::Identity;
use grapevine_store::journal::LOG_DIR;
use grapevine_store::log::{self, Log};
use grapevine_store::manifest::{BEFORE_FILE, Manifest};
use grapevine_store::verify::{Fault, VerifyReport, verify};

/// Filters in every state: with files and a log behind them, with a log only, of foreign layers.
fn fill(filters: &Opened) {
    let a = create(filters, "a", 100);
    set(filters, &a, &keys(0..1000));
    filters.import_bloomd(foreign("small")).expect("imported");
    filters.0.checkpoint().expect("a snapshot");
    set(filters, &a, &keys(1000..4000));
    let b = create(filters, "b", 100);
    set(filters, &b, &keys(0..300));
    let dropped = create(filters, "dropped", 100);
    set(filters, &dropped, &keys(0..10));
    filters.drop_filter(&dropped).expect("dropped");
    filters.import_bloomd(foreign("strict")).expect("imported");
    filters.journal().sync().expect("synced");
    filters.journal().mark_synced().expect("a mark");
}

fn filled() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let filters = open(Arc::new(disk.clone()));
    fill(&filters);
    drop(filters);
    disk
}

fn check(disk: &SimulatedDisk) -> VerifyReport {
    verify(disk).expect("the directories can be listed")
}

fn names(report: &VerifyReport, file: &str) -> bool {
    report.findings.iter().any(|finding| finding.file == file)
}

fn log_file(disk: &SimulatedDisk) -> String {
    paths(disk)
        .into_iter()
        .rfind(|path| path.ends_with(".log"))
        .expect("a segment")
}

fn length(disk: &SimulatedDisk, path: &str) -> u64 {
    disk.bytes(path).expect("a file").len() as u64
}

#[test]
fn a_sound_directory_is_clean_and_left_as_it_is() {
    let disk = filled();
    let before = disk.operations();
    let report = check(&disk);
    assert_eq!(disk.operations(), before, "nothing was written");
    assert!(report.is_clean(), "{:?}", report.findings);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    let counts = report.counts;
    assert_eq!((counts.filters, counts.foreign), (4, 2));
    // Three of the snapshot's layers of `a` and those of the two imports; the rest is in the log.
    assert_eq!(counts.layers, 5);
    assert!(counts.segments > 1 && counts.frames > 3, "{counts:?}");
    assert!(counts.keys >= 3300, "{counts:?}");
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_named() {
    let whole = filled();
    let last = log_file(&whole);
    for path in paths(&whole) {
        let length = length(&whole, &path);
        let step = (length / 60).max(1);
        for offset in (0..length).step_by(step as usize).chain([length - 1]) {
            let disk = whole.fork();
            disk.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
            let report = check(&disk);
            // The mark at the log's end is vouched for by nothing after it.
            let torn = path == last
                && report.notes.iter().any(|note| {
                    note.file == path && matches!(note.what, Fault::Log(log::Fault::Torn { .. }))
                });
            assert!(
                names(&report, &path) || torn,
                "{path} at {offset}: {report:?}"
            );
            assert!(!torn || offset + 64 > length, "{path} at {offset}");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let whole = filled();
    // The snapshot ends where the first segment does, which is thus no longer needed.
    let log = |path: &&String| path.ends_with(".log");
    let unneeded = paths(&whole).iter().find(log).cloned();
    assert!(paths(&whole).iter().filter(log).count() > 2);
    for path in paths(&whole) {
        let disk = whole.fork();
        disk.remove(&path).unwrap();
        let report = check(&disk);
        if ["log/reached", BEFORE_FILE].contains(&&path[..]) || Some(&path) == unneeded.as_ref() {
            // Without the first the log is judged by its segments; the others are not needed.
            continue;
        }
        assert!(!report.is_clean(), "{path}");
        if !path.ends_with(".log") {
            let missing: Vec<&str> = report.missing().collect();
            assert_eq!(missing, [path.as_str()], "{report:?}");
        }
    }
}

#[test]
fn a_file_cut_short_or_grown_is_named() {
    let whole = filled();
    for path in paths(&whole) {
        let length = length(&whole, &path);
        for change in [length / 2, length - 1, length + 1] {
            let disk = whole.fork();
            let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
            file.set_len(change).unwrap();
            let report = check(&disk);
            let noted = report.notes.iter().any(|note| note.file == path);
            let told = names(&report, &path) || (path == log_file(&whole) && noted);
            assert!(told, "{path}: {length} became {change}: {report:?}");
        }
    }
}

#[test]
fn files_in_the_wrong_place_are_named() {
    let disk = filled();
    let layers: Vec<String> = paths(&disk)
        .into_iter()
        .filter(|path| path.ends_with(".layer"))
        .collect();
    let (first, second) = (&layers[0], &layers[1]);
    let bytes = [first, second].map(|path| disk.bytes(path).unwrap());
    for (path, bytes) in [second, first].into_iter().zip(bytes) {
        let file = disk.open(path, OpenMode::Create).unwrap();
        file.write_at(0, &bytes).unwrap();
    }
    let report = check(&disk);
    assert!(
        names(&report, first) && names(&report, second),
        "{report:?}"
    );
    let other = SimulatedDisk::new();
    drop(open(Arc::new(other.clone())));
    let identity = Identity::read(&other).unwrap().unwrap();
    let disk = filled();
    identity.write(&disk).unwrap();
    let report = check(&disk);
    let other = |f: &grapevine_store::verify::Finding| matches!(f.what, Fault::OtherDirectory);
    assert!(report.findings.iter().any(other), "{report:?}");
}

#[test]
fn a_snapshot_that_the_log_does_not_reach_is_found() {
    let disk = filled();
    // The log is kept behind the snapshot before.
    let filters = open(Arc::new(disk.clone()));
    filters.0.checkpoint().unwrap();
    filters.0.checkpoint().unwrap();
    drop(filters);
    let mut manifest = Manifest::read(&disk).unwrap().unwrap();
    let sound = manifest.position();
    for position in [0, 1 << 40] {
        manifest.bookmark.at.position = position;
        manifest.write(&disk).unwrap();
        let report = check(&disk);
        let held = |f: &grapevine_store::verify::Finding| matches!(f.what, Fault::NotHeld { position: p, .. } if p == position);
        assert!(report.findings.iter().any(held), "{report:?}");
    }
    manifest.bookmark.at.position = sound;
    manifest.write(&disk).unwrap();
    for name in disk.list(LOG_DIR).unwrap() {
        disk.remove(&format!("{LOG_DIR}/{name}")).unwrap();
    }
    let report = check(&disk);
    assert_eq!(report.missing().next(), Some(LOG_DIR), "{report:?}");
}

/// Appends entries to the log of `disk` as they are.
fn append(disk: &SimulatedDisk, entries: &[Vec<u8>]) {
    let identity = Identity::read(disk).unwrap().unwrap();
    let position = Manifest::read(disk).unwrap().unwrap().position();
    let id = identity.origin.bytes();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (log, _) = Log::open(disk, LOG_DIR, id, options().log, position).unwrap();
    let end = log
        .append_all(entries.iter().map(Vec::as_slice))
        .expect("appended");
    log.commit(end).unwrap();
    log.mark_synced().unwrap();
}

/// What an entry of some origin begins with.
fn header(sequence: u64) -> [u8; ENTRY_HEADER_BYTES] {
    let dot = Dot {
        origin: Origin::new([1; 16]),
        sequence,
    };
    let stream = Stream::Group;
    EntryHeader { stream, dot }.encode()
}

#[test]
fn entries_that_are_no_operations_are_found_with_their_place() {
    let whole = filled();
    let next = |number: u64| [&header(number)[..], &[99, 1, 2]].concat();
    let disk = whole.fork();
    append(&disk, &[next(1 << 40)]);
    let report = check(&disk);
    let [finding] = &report.findings[..] else {
        panic!("{report:?}");
    };
    assert!(matches!(finding.what, Fault::Operation(_)), "{finding:?}");
    let bytes = disk.bytes(&finding.file).unwrap();
    let at = finding.offset as usize + 4;
    assert_eq!(
        bytes[at..at + ENTRY_HEADER_BYTES + 3],
        next(1 << 40),
        "the offset is right"
    );

    let row = Manifest::read(&whole).unwrap().unwrap().rows.remove(0);
    let insert = |number: u64, creator: Origin| {
        let layer = LayerId { index: 0, creator };
        let run = grapevine_core::filter::Run {
            layer,
            opened: 1,
            count: 1,
            inserted: 1,
        };
        let mut entry = header(number).to_vec();
        grapevine_core::operation::encode_insert(&mut entry, row.id, run, &[Default::default()]);
        entry
    };
    let known = row.layers[0].shape.id.creator;
    let disk = whole.fork();
    append(&disk, &[insert(1 << 40, Origin::new([9; 16]))]);
    let report = check(&disk);
    let [finding] = &report.findings[..] else {
        panic!("{report:?}");
    };
    assert!(matches!(finding.what, Fault::UnknownLayer), "{finding:?}");
    let disk = whole.fork();
    append(&disk, &[insert(1 << 40, known), insert(1 << 40, known)]);
    let report = check(&disk);
    let [finding] = &report.findings[..] else {
        panic!("{report:?}");
    };
    assert!(matches!(finding.what, Fault::Sequence { .. }));
}

#[test]
fn what_belongs_to_nothing_is_a_note() {
    let disk = filled();
    let layer = paths(&disk)
        .into_iter()
        .find(|path| path.ends_with(".layer"))
        .expect("a layer");
    let strays = [
        format!("{layer}.new"),
        format!("{layer}.old"),
        "manifest.new".to_owned(),
        "log/notes".to_owned(),
        "log/cut-00000000000000000007".to_owned(),
    ];
    for path in &strays {
        disk.open(path, OpenMode::Create).unwrap();
    }
    disk.create_dir("filters/00000000000000000000000000000000")
        .unwrap();
    let report = check(&disk);
    assert!(report.is_clean(), "{:?}", report.findings);
    for path in &strays {
        assert!(
            report.notes.iter().any(|note| note.file == *path),
            "{path}: {report:?}"
        );
    }
    assert_eq!(report.notes.len(), strays.len() + 1);
}

/// The check and a start agree about what a power cut leaves, whenever it comes.
#[test]
fn a_power_cut_leaves_nothing_to_find() {
    let counting = SimulatedDisk::new();
    fill(&open(Arc::new(counting.clone())));
    let operations = counting.operations();
    assert!(operations > 50);
    for cut in (0..operations).step_by(3) {
        let disk = SimulatedDisk::new();
        disk.cut_power_at_operation(cut);
        let opened = Collections::open(Arc::new(disk.clone()), options(), entropy());
        if let Ok((filters, _)) = opened {
            work_until_it_fails(&Opened(filters));
        }
        disk.crash(CrashPlan {
            writes: WriteFate::Random,
            names: NameFate::Prefix,
            seed: cut,
        });
        if !disk.exists("identity").unwrap() {
            continue;
        }
        let report = check(&disk);
        assert!(report.is_clean(), "cut at {cut}: {:?}", report.findings);
        let filters = open(Arc::new(disk.clone()));
        assert!(filters.damaged().is_empty(), "cut at {cut}");
    }
}

/// What [`fill`] does, up to the first refusal.
fn work_until_it_fails(filters: &Opened) {
    let work = || -> Result<(), grapevine_store::filters::FilterError> {
        let growth = grapevine_core::filter::parameters::Growth::By(4);
        let new = fixture::new_filter(100, growth);
        let at_once = grapevine_store::filters::Recreation::AtOnce;
        filters.create(b"a", new, at_once)?;
        filters.import_bloomd(foreign("small"))?;
        let mut scratch = Default::default();
        let keys = keys(0..4000);
        for part in keys.chunks(500) {
            let part: Vec<&[u8]> = part.iter().map(Vec::as_slice).collect();
            let a = filters
                .get(b"a")
                .ok_or(grapevine_store::filters::FilterError::NotFound)?;
            let position = filters.set(&a, &part, &mut scratch)?;
            filters.journal().commit(position)?;
            filters.0.checkpoint()?;
        }
        let small = filters.get(b"small");
        if let Some(small) = small {
            filters.drop_filter(&small)?;
        }
        filters.tidy(0)?;
        Ok(())
    };
    // It ends where the power was cut, or was done before.
    let _ = work();
}
