//! The filters of one node on a simulated disk: what survives a restart, an unload, a power cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::Outcome;
use grapevine_core::filter::parameters::{Growth, Parameters};

use super::*;
use crate::collections::Collections;
use crate::disk::{CrashPlan, Disk as _, NameFate, SimulatedDisk, WriteFate};

/// Distinct bytes each time, the same in every run.
fn entropy() -> Entropy {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Arc::new(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        u128::from(number)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            .to_le_bytes()
    })
}

fn options() -> Options {
    Options {
        log: LogConfig::default(),
        memory: 1 << 30,
        checkpoint_log: 1 << 20,
        idle_unload: Some(Duration::from_secs(10)),
    }
}

/// An opened data directory: its filters, and what concerns them all.
struct Opened(Collections);

impl std::ops::Deref for Opened {
    type Target = Filters;

    fn deref(&self) -> &Filters {
        self.0.filters()
    }
}

fn open(disk: &SimulatedDisk) -> Opened {
    open_with(disk, options())
}

fn open_with(disk: &SimulatedDisk, options: Options) -> Opened {
    let opened = Collections::open(Arc::new(disk.clone()), options, entropy());
    Opened(opened.expect("the directory opens").0)
}

fn plain(capacity: u64) -> NewFilter {
    let parameters = Parameters {
        capacity,
        error: 1e-6,
        growth: Growth::By(4),
    };
    NewFilter {
        parameters,
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    }
}

fn create(filters: &Filters, name: &str, new: NewFilter) -> Arc<Handle> {
    let created = filters
        .create(name.as_bytes(), new, Recreation::AtOnce)
        .expect("created");
    assert!(matches!(created, Creation::Created(_)), "{created:?}");
    filters
        .get(name.as_bytes())
        .expect("it answers to its name")
}

fn keys(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range
        .map(|number| format!("key-{number}").into_bytes())
        .collect()
}

fn set(filters: &Filters, handle: &Handle, keys: &[Vec<u8>]) -> usize {
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut scratch = Scratch::default();
    let position = filters.set(handle, &keys, &mut scratch).expect("set");
    filters.journal().commit(position).expect("committed");
    assert_eq!(scratch.outcomes().len(), keys.len());
    scratch
        .outcomes()
        .iter()
        .filter(|outcome| **outcome == Outcome::New)
        .count()
}

fn found(filters: &Filters, handle: &Handle, keys: &[Vec<u8>]) -> usize {
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut scratch = Scratch::default();
    filters.check(handle, &keys, &mut scratch).expect("checked");
    scratch.found().iter().filter(|found| **found).count()
}

/// The process is killed and starts again.
fn restart(filters: Opened, disk: &SimulatedDisk) -> Opened {
    drop(filters);
    disk.kill();
    open(disk)
}

#[test]
fn committed_keys_survive_a_kill_with_and_without_a_snapshot() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(&filters, "a", plain(100));
    assert_eq!(set(&filters, &handle, &keys(0..1000)), 1000);
    filters.0.checkpoint().unwrap();
    assert_eq!(set(&filters, &handle, &keys(500..1500)), 500);
    let filters = restart(filters, &disk);
    let handle = filters.get(b"a").unwrap();
    assert_eq!(found(&filters, &handle, &keys(0..1500)), 1500);
    assert_eq!(handle.summary().inserted, 1500);
    assert!(found(&filters, &handle, &keys(10_000..11_000)) < 5);
    assert_eq!(set(&filters, &handle, &keys(0..1500)), 0);
}

#[test]
fn a_snapshot_takes_hardly_more_room_than_the_bits() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let new = NewFilter {
        parameters: Parameters {
            error: 1e-3,
            ..plain(1).parameters
        },
        ..plain(1)
    };
    let new = NewFilter {
        parameters: Parameters {
            capacity: 200_000,
            ..new.parameters
        },
        ..new
    };
    let handle = create(&filters, "a", new);
    set(&filters, &handle, &keys(0..199_000));
    // The log is kept behind the snapshot before.
    filters.0.checkpoint().unwrap();
    filters.0.checkpoint().unwrap();
    let classic = 200_000.0 * 1e3f64.log2() * std::f64::consts::LOG2_E / 8.0;
    let mut bytes = 0;
    for directory in [
        crate::journal::LOG_DIR.to_owned(),
        String::new(),
        handle::directory(handle.id()),
    ] {
        for name in disk.list(&directory).unwrap() {
            let path = format!("{directory}/{name}");
            bytes += disk
                .bytes(path.trim_start_matches('/'))
                .map_or(0, |file| file.len());
        }
    }
    assert!(
        (bytes as f64) < 1.1 * classic,
        "{bytes} bytes for {classic}"
    );
}

#[test]
fn an_unloaded_filter_comes_back_when_it_is_used() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(&filters, "a", plain(100));
    set(&filters, &handle, &keys(0..1000));
    let summary = handle.summary();
    filters.unload(&handle).unwrap();
    assert!(!handle.is_loaded());
    assert_eq!(filters.memory().used(), 0);
    assert_eq!(handle.summary(), summary);
    assert_eq!(found(&filters, &handle, &keys(0..1000)), 1000);
    assert_eq!(handle.summary(), summary);
    assert_eq!((handle.usage().page_ins, handle.usage().page_outs), (1, 1));
    for now in [0, 5, 15, 16] {
        filters.tidy(now).unwrap();
    }
    assert!(!handle.is_loaded(), "idle for ten seconds");
    assert_eq!(found(&filters, &handle, &keys(0..1000)), 1000);
    for now in [3616, 16, 25] {
        filters.tidy(now).unwrap();
        assert!(handle.is_loaded(), "the clock was set back");
    }
    filters.tidy(26).unwrap();
    assert!(!handle.is_loaded(), "idle for ten seconds since");
    let filters = restart(filters, &disk);
    let handle = filters.get(b"a").unwrap();
    assert_eq!(found(&filters, &handle, &keys(0..1000)), 1000);
}

#[test]
fn a_layer_opened_after_the_snapshot_needs_no_file() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(&filters, "a", plain(100));
    set(&filters, &handle, &keys(0..100));
    filters.0.checkpoint().unwrap();
    let mut filters = restart(filters, &disk);
    for round in 0..4 {
        let handle = filters.get(b"a").unwrap();
        set(&filters, &handle, &keys(0..200 + round * 300));
        filters = restart(filters, &disk);
        filters.0.checkpoint().unwrap();
        filters = restart(filters, &disk);
    }
    assert!(filters.damaged().is_empty());
    let handle = filters.get(b"a").unwrap();
    assert_eq!(found(&filters, &handle, &keys(0..1100)), 1100);
    assert_eq!(handle.summary().inserted, 1100);
}

#[test]
fn a_dropped_filter_stays_gone_and_a_new_one_of_its_name_is_empty() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(&filters, "a", plain(100));
    set(&filters, &handle, &keys(0..100));
    filters.0.checkpoint().unwrap();
    filters.drop_filter(&handle).unwrap();
    assert!(filters.get(b"a").is_none());
    assert!(matches!(
        filters.drop_filter(&handle),
        Err(FilterError::NotFound)
    ));
    let wait = filters
        .create(b"a", plain(100), Recreation::WhenReclaimed)
        .unwrap();
    assert_eq!(wait, Creation::Reclaiming);
    let handle = create(&filters, "a", plain(100));
    assert_eq!(found(&filters, &handle, &keys(0..100)), 0);
    assert_eq!(filters.tidy(0).unwrap().reclaimed, 1);
    let filters = restart(filters, &disk);
    let handle = filters.get(b"a").unwrap();
    assert_eq!(found(&filters, &handle, &keys(0..100)), 0);
    assert_eq!(filters.list(b"").len(), 1);
}

#[test]
fn a_cleared_filter_is_hidden_until_it_is_created_again() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(&filters, "a", plain(100));
    set(&filters, &handle, &keys(0..100));
    assert_eq!(filters.hide(&handle).unwrap(), None, "it is in memory");
    filters.unload(&handle).unwrap();
    let hidden = filters.hide(&handle).unwrap().expect("it is unloaded");
    filters.journal().commit(hidden).unwrap();
    assert!(filters.get(b"a").is_none());
    let filters = restart(filters, &disk);
    assert!(filters.get(b"a").is_none());
    let shown = filters.create(b"a", plain(5), Recreation::AtOnce).unwrap();
    assert!(matches!(shown, Creation::Shown(_)));
    let handle = filters.get(b"a").unwrap();
    assert_eq!(found(&filters, &handle, &keys(0..100)), 100);
}

#[test]
fn a_filter_in_memory_is_there_and_empty_after_a_restart() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(
        &filters,
        "m",
        NewFilter {
            storage: Storage::Memory,
            ..plain(100)
        },
    );
    let before = filters.journal().log_counts().bytes;
    assert_eq!(set(&filters, &handle, &keys(0..1000)), 1000);
    assert_eq!(
        filters.journal().log_counts().bytes,
        before,
        "its keys are not logged"
    );
    filters
        .journal()
        .commit(filters.journal().appended())
        .unwrap();
    let filters = restart(filters, &disk);
    let handle = filters.get(b"m").unwrap();
    assert_eq!(found(&filters, &handle, &keys(0..1000)), 0);
    assert_eq!(handle.summary().capacity, 100);
}

#[test]
fn the_memory_bound_refuses_and_leaves_nothing() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let refused = filters.create(b"big", plain(1 << 34), Recreation::AtOnce);
    assert!(
        matches!(refused, Err(FilterError::Memory(_))),
        "{refused:?}"
    );
    assert_eq!(filters.memory().used(), 0);
    create(&filters, "big", plain(100));
}

#[test]
fn a_corrupt_layer_is_named_and_never_served_and_the_log_is_kept() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(&filters, "a", plain(100));
    let other = create(&filters, "b", plain(100));
    set(&filters, &handle, &keys(0..100));
    set(&filters, &other, &keys(0..100));
    filters.0.checkpoint().unwrap();
    let layer = handle.in_memory().unwrap().layers().next().unwrap().id();
    let path = handle::layer_path(handle.id(), layer);
    drop(filters);
    disk.kill();
    disk.flip_bit(&path, 500, 3).unwrap();
    let (collections, recovered) =
        Collections::open(Arc::new(disk.clone()), options(), entropy()).expect("it opens");
    let filters = Opened(collections);
    let handle = filters.get(b"a").unwrap();
    let mut scratch = Scratch::default();
    let refused = filters.check(&handle, &[b"key-1"], &mut scratch);
    assert!(
        matches!(&refused, Err(FilterError::Damaged(why)) if why.contains(&path)),
        "{refused:?}"
    );
    assert!(recovered.damaged.len() <= 1);
    assert_eq!(filters.damaged().len(), 1);
    let other = filters.get(b"b").unwrap();
    assert_eq!(found(&filters, &other, &keys(0..100)), 100);
    filters.drop_filter(&handle).unwrap();
    create(&filters, "a", plain(100));
}

#[test]
fn after_a_failed_sync_the_node_is_read_only_and_says_so() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(&filters, "a", plain(100));
    set(&filters, &handle, &keys(0..10));
    disk.fail_next(
        crate::disk::Operation::Sync,
        0,
        std::io::ErrorKind::StorageFull,
    );
    assert!(filters.journal().sync().is_err());
    assert!(filters.journal().read_only().is_some());
    let mut scratch = Scratch::default();
    let refused = filters
        .set(&handle, &[b"new"], &mut scratch)
        .and_then(|p| Ok(filters.journal().commit(p)?));
    assert!(
        matches!(refused, Err(FilterError::ReadOnly(_))),
        "{refused:?}"
    );
    assert_eq!(found(&filters, &handle, &keys(0..10)), 10);
}

#[test]
fn exported_filters_load_and_merge() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let a = create(&filters, "a", plain(100));
    set(&filters, &a, &keys(0..1000));
    let mut file = Vec::new();
    filters.export(&a, &mut file).unwrap().unwrap();
    let loaded = filters.import(b"copy", &mut &file[..]).unwrap();
    assert!(matches!(loaded, Creation::Created(_)));
    let b = create(&filters, "b", plain(100));
    set(&filters, &b, &keys(900..1500));
    let (first, _) = filters.merge(&b, &mut &file[..]).unwrap();
    assert_eq!(
        first,
        Merged {
            merged: 0,
            adopted: 3
        }
    );
    let (again, position) = filters.merge(&b, &mut &file[..]).unwrap();
    assert_eq!(
        again,
        Merged {
            merged: 3,
            adopted: 0
        }
    );
    filters.journal().commit(position).unwrap();
    let unlike = create(&filters, "unlike", plain(101));
    let refused = filters.merge(&unlike, &mut &file[..]);
    assert!(
        matches!(refused, Err(FilterError::Unlike { .. })),
        "{refused:?}"
    );
    for cut in [0, 10, 40, file.len() - 1] {
        let refused = filters.import(b"cut", &mut &file[..cut]);
        assert!(
            matches!(refused, Err(FilterError::Import(_))),
            "{refused:?}"
        );
    }
    let filters = restart(filters, &disk);
    for (name, range) in [("copy", 0..1000), ("b", 0..1500), ("a", 0..1000)] {
        let handle = filters.get(name.as_bytes()).unwrap();
        let count = range.end - range.start;
        assert_eq!(
            found(&filters, &handle, &keys(range)) as u64,
            count,
            "{name}"
        );
    }
}

/// While the log is replayed the files are newer than what is in memory: what the log says of a file
/// comes after the operations that open layers, at which the filter may not fit any more.
#[test]
fn what_was_merged_survives_a_restart_with_too_little_memory_for_the_replay() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    let handle = create(&filters, "a", plain(100));
    let first = handle.summary().bytes;
    set(&filters, &handle, &keys(0..300));
    let bytes = {
        let twin = disk.fork();
        twin.kill();
        let twin = open(&twin);
        let handle = twin.get(b"a").unwrap();
        set(&twin, &handle, &keys(300..400));
        let mut bytes = Vec::new();
        twin.export(&handle, &mut bytes).unwrap().unwrap();
        bytes
    };
    let (merged, position) = filters.merge(&handle, &mut &bytes[..]).unwrap();
    assert_eq!(merged.merged, 2);
    filters.journal().commit(position).unwrap();
    drop((filters, handle));
    disk.kill();
    let small = Options {
        memory: first,
        ..options()
    };
    for options in [small, options()] {
        let filters = open_with(&disk, options);
        let handle = filters.get(b"a").unwrap();
        let whole = filters.whole(&handle).unwrap();
        let all = keys(0..400);
        let found = all.iter().filter(|key| whole.contains(whole.key(key)));
        assert_eq!(found.count(), 400);
        drop((whole, handle, filters));
        disk.kill();
    }
}

#[test]
fn a_power_cut_loses_only_what_was_not_synced() {
    for seed in 0..200 {
        let disk = SimulatedDisk::new();
        let filters = open(&disk);
        let handle = create(&filters, "a", plain(50));
        set(&filters, &handle, &keys(0..120));
        filters.journal().sync().unwrap();
        if seed % 2 == 0 {
            filters.0.checkpoint().unwrap();
        }
        set(&filters, &handle, &keys(120..200));
        drop(filters);
        disk.crash(CrashPlan {
            writes: WriteFate::Random,
            names: NameFate::Prefix,
            seed,
        });
        let filters = open(&disk);
        assert!(filters.damaged().is_empty());
        let handle = filters.get(b"a").unwrap();
        assert_eq!(found(&filters, &handle, &keys(0..120)), 120, "seed {seed}");
    }
}

#[test]
fn a_cleared_filter_is_empty_and_keeps_what_it_is_and_what_comes_after() {
    let disk = SimulatedDisk::new();
    let filters = open(&disk);
    for (name, storage) in [("a", Storage::Durable), ("m", Storage::Memory)] {
        let new = NewFilter {
            storage,
            ..plain(100)
        };
        let handle = create(&filters, name, new);
        set(&filters, &handle, &keys(0..300));
        let before = (handle.parameters(), handle.storage(), handle.scope());
        filters.clear(&handle).expect("cleared");
        let cleared = filters.get(name.as_bytes()).expect("it is listed");
        assert_eq!(
            (cleared.parameters(), cleared.storage(), cleared.scope()),
            before
        );
        assert_eq!(found(&filters, &cleared, &keys(0..300)), 0);
        assert_eq!(cleared.summary().layers, 1);
        assert_eq!(set(&filters, &cleared, &keys(100..110)), 10);
        assert!(matches!(filters.clear(&handle), Err(FilterError::NotFound)));
    }
    assert_eq!(filters.list(b"").len(), 2);
    let filters = restart(filters, &disk);
    let handle = filters.get(b"a").expect("it is there");
    assert_eq!(found(&filters, &handle, &keys(0..300)), 10);
}
