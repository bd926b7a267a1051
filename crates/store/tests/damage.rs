//! Every file of a data directory, lost or altered in every way: it is named by the start and by
//! the check, or everything that was acknowledged is served all the same. Never silently less.

mod fixture;

use std::collections::BTreeSet;
use std::sync::Arc;

use fixture::{Opened, answers, create, entropy, foreign, keys, new_filter, open, options, set};
use grapevine_core::catalogue::Storage;
use grapevine_core::filter::parameters::Growth;
use grapevine_store::collections::Collections;
use grapevine_store::disk::{Disk, OpenMode, SimulatedDisk};
use grapevine_store::filters::{NewFilter, Recreation};
use grapevine_store::tables::{ROWS_FILE, Written};
use grapevine_store::verify::verify;

/// What a fault does to a file.
#[derive(Debug)]
enum Fault {
    Removed,
    Emptied,
    Cut(u64),
    Flipped(u64),
    /// Replaced by bytes of an earlier moment, or of another directory.
    Replaced(&'static str, Vec<u8>),
}

/// A moment of a directory, and everything that was acknowledged until then.
struct Moment {
    name: &'static str,
    disk: SimulatedDisk,
    shown: BTreeSet<String>,
}

fn put(collections: &Collections, key: &str) {
    let tables = collections.tables();
    let written = tables.set(b"fruit", key.as_bytes(), &[b'v'; 40], None);
    let Ok(Written::Row { position, .. }) = written else {
        panic!("{written:?}");
    };
    collections
        .journal()
        .commit(position)
        .expect("acknowledged");
}

/// Everything that a directory shows, as lines.
fn shown(opened: &Opened) -> BTreeSet<String> {
    let mut shown = BTreeSet::new();
    let probes = [keys(0..6000), keys(100_000..100_200)].concat();
    for handle in opened.list(b"") {
        let name = String::from_utf8_lossy(handle.name()).into_owned();
        shown.insert(format!("filter {name}"));
        if opened.load(&handle).is_err() {
            continue;
        }
        if handle.storage() == Storage::Memory {
            continue;
        }
        for (probe, found) in probes.iter().zip(answers(opened, &handle, &probes)) {
            if found {
                shown.insert(format!("{name} has {}", String::from_utf8_lossy(probe)));
            }
        }
    }
    let bits = opened.0.bitmap().bits();
    shown.extend(bits.iter().map(|bit| format!("bit {bit}")));
    let page = opened.0.tables().page(b"fruit", b"", 10_000, 1 << 20, 0);
    if let Ok(Some(page)) = page {
        let lines = page.rows.iter().map(|row| format!("row {row:?}"));
        shown.extend(lines);
    }
    shown
}

fn moment(name: &'static str, opened: &Opened, disk: &SimulatedDisk) -> Moment {
    opened.journal().sync().expect("synced");
    opened.journal().mark_synced().expect("a mark");
    let (disk, shown) = (disk.fork(), shown(opened));
    disk.kill();
    Moment { name, disk, shown }
}

/// One directory at several moments of its life: before the first snapshot, after one, and with
/// more behind it.
fn life() -> Vec<Moment> {
    let disk = SimulatedDisk::new();
    let opened = open(Arc::new(disk.clone()));
    let mut moments = vec![moment("made", &opened, &disk)];
    opened.0.tables().create(b"fruit").expect("a table");
    let a = create(&opened, "a", 500);
    set(&opened, &a, &keys(0..600));
    let kept = NewFilter {
        storage: Storage::Memory,
        ..new_filter(100, Growth::By(4))
    };
    opened
        .create(b"kept", kept, Recreation::AtOnce)
        .expect("a filter");
    let handle = opened.get(b"kept").expect("the new filter");
    set(&opened, &handle, &keys(0..50));
    opened.0.bitmap().set(&[1, 5, 400]).expect("bits");
    (0..40).for_each(|n| put(&opened.0, &format!("early-{n}")));
    moments.push(moment("before the first snapshot", &opened, &disk));
    opened.import_bloomd(foreign("small")).expect("imported");
    opened.0.checkpoint().expect("a snapshot");
    moments.push(moment("after one", &opened, &disk));
    set(&opened, &a, &keys(600..900));
    opened.0.bitmap().set(&[7]).expect("bits");
    (0..40).for_each(|n| put(&opened.0, &format!("late-{n}")));
    opened.0.checkpoint().expect("a snapshot");
    set(&opened, &a, &keys(900..4000));
    let b = create(&opened, "b", 100);
    set(&opened, &b, &keys(0..300));
    (0..400).for_each(|n| put(&opened.0, &format!("tail-{n}")));
    opened.0.bitmap().set(&[8]).expect("bits");
    moments.push(moment("with a tail", &opened, &disk));
    opened.0.checkpoint().expect("a snapshot");
    moments.push(moment("after a clean end", &opened, &disk));
    moments
}

/// Paths of all files.
fn files(disk: &dyn Disk, dir: &str, found: &mut Vec<String>) {
    for name in disk.list(dir).expect("a list") {
        let path = if dir.is_empty() {
            name
        } else {
            format!("{dir}/{name}")
        };
        match disk.open(&path, OpenMode::Read).and_then(|file| file.len()) {
            Ok(_) => found.push(path),
            Err(_) => files(disk, &path, found),
        }
    }
}

fn faults(moment: &Moment, path: &str, others: &[(&'static str, &Moment)]) -> Vec<Fault> {
    let bytes = moment.disk.bytes(path).expect("a file");
    let length = bytes.len() as u64;
    let mut faults = vec![Fault::Removed, Fault::Emptied, Fault::Cut(length / 2)];
    let middle = [0, 9, length / 3, length / 2, length.saturating_sub(50)];
    let inside = middle.into_iter().filter(|offset| *offset < length);
    faults.extend(inside.map(Fault::Flipped));
    for (what, other) in others {
        if let Some(other) = other.disk.bytes(path).ok().filter(|other| *other != bytes) {
            faults.push(Fault::Replaced(what, other));
        }
    }
    faults
}

fn apply(disk: &SimulatedDisk, path: &str, fault: &Fault) {
    let write = |bytes: &[u8]| {
        let file = disk.open(path, OpenMode::Create).expect("opened");
        file.write_at(0, bytes).expect("written");
    };
    match fault {
        Fault::Removed => disk.remove(path).expect("removed"),
        Fault::Emptied => write(b""),
        Fault::Cut(length) => {
            let file = disk.open(path, OpenMode::ReadWrite).expect("opened");
            file.set_len(*length).expect("cut");
        }
        Fault::Flipped(offset) => disk.flip_bit(path, *offset, 3).expect("flipped"),
        Fault::Replaced(_, bytes) => write(bytes),
    }
}

/// Whether words name a file, or that segments of the log are missing.
fn names(words: &str, path: &str) -> bool {
    let segment = path
        .strip_prefix("log/")
        .filter(|name| name.ends_with(".log"));
    let missing = [
        "log: is missing",
        "segments of it are missing",
        "they are missing",
    ];
    words.contains(path)
        || segment.is_some_and(|name| {
            words.contains(name) || missing.iter().any(|missing| words.contains(missing))
        })
}

/// What is wrong with how a fault is told, if something is.
fn judge(moment: &Moment, path: &str, fault: &Fault) -> Result<(), String> {
    let disk = moment.disk.fork();
    apply(&disk, path, fault);
    let report = verify(&disk).expect("the directories can be listed");
    let all = report.findings.iter();
    let found: Vec<String> = all.map(|f| format!("{}: {}", f.file, f.what)).collect();
    let checked = found.iter().any(|words| names(words, path));
    let opened = Collections::open(Arc::new(disk.clone()), options(), entropy());
    let opened = match opened {
        Ok((collections, _)) => Opened(collections),
        Err(error) if path == ROWS_FILE => return Err(format!("it does not start: {error}")),
        Err(error) if !names(&error.to_string(), path) => {
            return Err(format!("the start says: {error}"));
        }
        Err(_) if !checked => return Err(format!("the check says {found:?}")),
        Err(_) => return Ok(()),
    };
    let served = shown(&opened);
    let damaged = opened.damaged();
    if let Some((_, reason)) = damaged.iter().find(|(_, reason)| !names(reason, path)) {
        return Err(format!("a filter is damaged: {reason}"));
    }
    let missing: Vec<&String> = moment.shown.difference(&served).collect();
    let rows = opened.0.damaged_rows();
    if let Some(reason) = rows.as_deref().filter(|reason| !names(reason, path)) {
        return Err(format!("the rows are damaged: {reason}"));
    }
    missing_is_told(&missing, &damaged, rows.is_some())?;
    if (!damaged.is_empty() || rows.is_some()) && !checked {
        return Err(format!("the check says {found:?}"));
    }
    Ok(())
}

/// What is not served belongs to a filter that says why, or to the rows if they do.
fn missing_is_told(
    missing: &[&String],
    damaged: &[(Vec<u8>, Arc<str>)],
    rows: bool,
) -> Result<(), String> {
    let told = |line: &str| {
        (rows && line.starts_with("row "))
            || damaged.iter().any(|(name, _)| {
                line.starts_with(&format!("{} has", String::from_utf8_lossy(name)))
            })
    };
    match missing.iter().find(|line| !told(line)) {
        None => Ok(()),
        Some(line) => Err(format!("silently less: {line}, and more")),
    }
}

#[test]
fn a_file_that_is_lost_or_altered_is_named_or_everything_is_served() {
    let (life, other) = (life(), life());
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (at, moment) in life.iter().enumerate() {
        let mut paths = Vec::new();
        files(&moment.disk, "", &mut paths);
        assert!(paths.iter().any(|path| path == "identity"), "{paths:?}");
        for path in paths {
            let mut others: Vec<_> = life[..at].iter().map(|m| ("an older copy", m)).collect();
            // Rows have no mark of the directory that they are of.
            if !path.starts_with("tables/") {
                others.push(("another directory's", &other[at]));
            }
            for fault in faults(moment, &path, &others) {
                tried += 1;
                if let Err(what) = judge(moment, &path, &fault) {
                    let fault = match &fault {
                        Fault::Replaced(by, _) => format!("replaced by {by}"),
                        fault => format!("{fault:?}"),
                    };
                    wrong.push(format!("{}: {path} {fault}: {what}", moment.name));
                }
            }
        }
    }
    assert!(tried > 300, "{tried}");
    assert!(
        wrong.is_empty(),
        "{} of {tried}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Nothing is made anew over what is left of a directory.
#[test]
fn what_is_left_of_a_directory_is_never_taken_for_an_empty_one() {
    let life = life();
    for moment in &life[1..] {
        let disk = moment.disk.fork();
        let lose = |disk: &SimulatedDisk, dir: &str| {
            for name in disk.list(dir).expect("a list") {
                let path = format!("{dir}/{name}");
                if disk
                    .open(&path, OpenMode::Read)
                    .and_then(|file| file.len())
                    .is_ok()
                {
                    disk.remove(&path).expect("removed");
                }
            }
        };
        if disk.exists("manifest.before").expect("asked") {
            disk.remove("manifest.before").expect("removed");
        }
        for file in ["manifest", "identity"] {
            disk.remove(file).expect("removed");
            let mut left = Vec::new();
            files(&disk, "", &mut left);
            let refused = Collections::open(Arc::new(disk.clone()), options(), entropy());
            let error = refused.err().expect("refused").to_string();
            assert!(error.contains(file) && error.contains("missing"), "{error}");
            let mut after = Vec::new();
            files(&disk, "", &mut after);
            assert_eq!(after, left, "nothing was changed");
        }
        lose(&disk, "log");
        let mut left = Vec::new();
        files(&disk, "", &mut left);
        let opened = Collections::open(Arc::new(disk.clone()), options(), entropy());
        let mut after = Vec::new();
        files(&disk, "", &mut after);
        if left.is_empty() {
            assert!(opened.is_ok(), "nothing is left of it");
        } else {
            let error = opened.err().expect("refused").to_string();
            assert!(error.contains("is missing, though"), "{error}");
            assert_eq!(after, left, "nothing was changed");
        }
    }
}

/// A directory whose making was interrupted is made: whenever the power goes.
#[test]
fn a_directory_that_was_only_being_made_is_made() {
    let counting = SimulatedDisk::new();
    drop(open(Arc::new(counting.clone())));
    for cut in 0..counting.operations() {
        for kill in [false, true] {
            let disk = SimulatedDisk::new();
            disk.cut_power_at_operation(cut);
            let opened = Collections::open(Arc::new(disk.clone()), options(), entropy());
            drop(opened);
            if kill {
                disk.kill();
            } else {
                disk.crash(grapevine_store::disk::CrashPlan {
                    writes: grapevine_store::disk::WriteFate::Random,
                    names: grapevine_store::disk::NameFate::Prefix,
                    seed: cut,
                });
            }
            let opened = open(Arc::new(disk.clone()));
            let a = create(&opened, "a", 100);
            set(&opened, &a, &keys(0..10));
            opened.journal().sync().expect("synced");
            drop(opened);
            assert!(verify(&disk).expect("a list").is_clean(), "cut at {cut}");
            assert!(open(Arc::new(disk)).get(b"a").is_some());
        }
    }
}
