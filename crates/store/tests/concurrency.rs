//! Many threads on one real directory, then a restart: what they were told must be there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::Outcome;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::collections::Collections;
use grapevine_store::disk::RealDisk;
use grapevine_store::filters::{
    Creation, Entropy, FilterError, Filters, NewFilter, Options, Recreation, Scratch,
};
use grapevine_store::log::LogConfig;

const WRITERS: u64 = 4;
const ROUNDS: u64 = 150;
const KEYS_PER_ROUND: u64 = 20;

/// An opened data directory: its filters, and what concerns them all.
struct Opened(Collections);

impl std::ops::Deref for Opened {
    type Target = Filters;

    fn deref(&self) -> &Filters {
        self.0.filters()
    }
}

fn open(root: &Path) -> Opened {
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    let entropy: Entropy = Arc::new(|| {
        let number = u128::from(DRAWN.fetch_add(1, Ordering::Relaxed));
        number
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            .to_le_bytes()
    });
    let options = Options {
        log: LogConfig {
            segment_size: 64 << 10,
            ..LogConfig::default()
        },
        memory: 1 << 28,
        checkpoint_log: 1 << 14,
        idle_unload: Some(Duration::from_secs(0)),
    };
    let disk = RealDisk::new(root.to_owned());
    let opened = Collections::open(Arc::new(disk), options, entropy);
    Opened(opened.expect("it opens").0)
}

fn new() -> NewFilter {
    NewFilter {
        parameters: Parameters {
            capacity: 50,
            error: 1e-9,
            growth: Growth::By(2),
        },
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    }
}

fn keys(of: impl Iterator<Item = u64>) -> Vec<Vec<u8>> {
    of.map(|key| format!("key-{key}").into_bytes()).collect()
}

/// Sets keys and gives how many were new.
fn set(filters: &Filters, name: &[u8], keys: &[Vec<u8>]) -> Result<u64, FilterError> {
    let handle = filters.get(name).ok_or(FilterError::NotFound)?;
    let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut scratch = Scratch::default();
    let position = filters.set(&handle, &slices, &mut scratch)?;
    filters.journal().commit(position)?;
    let new = scratch
        .outcomes()
        .iter()
        .filter(|outcome| **outcome == Outcome::New);
    Ok(new.count() as u64)
}

fn found(filters: &Filters, name: &[u8], keys: &[Vec<u8>]) -> usize {
    let handle = filters.get(name).expect("it answers to its name");
    let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut scratch = Scratch::default();
    filters
        .check(&handle, &slices, &mut scratch)
        .expect("it answers");
    scratch.found().iter().filter(|found| **found).count()
}

/// Snapshots, unloads and tidies until told to stop.
fn disturb(filters: &Opened, name: &[u8], stop: &AtomicBool) {
    let mut now = 0;
    while !stop.load(Ordering::Relaxed) {
        now += 1;
        filters.0.checkpoint().expect("a snapshot");
        if let Some(handle) = filters.get(name) {
            filters.unload(&handle).expect("unloaded");
        }
        filters.tidy(now).expect("tidied");
    }
}

/// Stops the disturber also when a writer panics, so that the test ends.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn keys_set_while_the_filter_is_snapshotted_and_unloaded_are_there_after_a_restart() {
    let root = tempfile::tempdir().expect("a directory");
    let filters = open(root.path());
    filters
        .create(b"a", new(), Recreation::AtOnce)
        .expect("created");
    let stop = AtomicBool::new(false);
    let total: u64 = std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| disturb(&filters, b"a", &stop));
        let write = |writer: u64| {
            let filters = &filters;
            // Neighbours overlap by half, so two of them race for each key.
            scope.spawn(move || {
                (0..ROUNDS)
                    .map(|round| {
                        let from = round * KEYS_PER_ROUND * WRITERS + writer * KEYS_PER_ROUND / 2;
                        let keys = keys(from..from + KEYS_PER_ROUND);
                        let new = set(filters, b"a", &keys).expect("set");
                        assert_eq!(found(filters, b"a", &keys), keys.len());
                        new
                    })
                    .sum::<u64>()
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .sum()
    });
    let all: BTreeSet<u64> = (0..ROUNDS)
        .flat_map(|round| {
            let from = round * KEYS_PER_ROUND * WRITERS;
            from..from + KEYS_PER_ROUND / 2 * (WRITERS + 1)
        })
        .collect();
    assert_eq!(total, all.len() as u64, "each key was new to one caller");
    drop(filters);
    let filters = open(root.path());
    assert!(filters.damaged().is_empty(), "{:?}", filters.damaged());
    let keys = keys(all.iter().copied());
    assert_eq!(found(&filters, b"a", &keys), keys.len());
    let handle = filters.get(b"a").expect("it is there");
    assert_eq!(handle.summary().inserted, total);
    let filter = filters.bits(&handle).expect("loaded");
    for layer in filter.layers() {
        assert!(layer.inserted() <= layer.shape().capacity);
    }
}

#[test]
fn filters_made_and_dropped_during_snapshots_leave_only_the_last_ones() {
    let root = tempfile::tempdir().expect("a directory");
    let filters = open(root.path());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| disturb(&filters, b"name-0", &stop));
        let churn = |number: u64| {
            let filters = &filters;
            scope.spawn(move || {
                let name = format!("name-{number}").into_bytes();
                for round in 0..ROUNDS / 3 {
                    let created = filters
                        .create(&name, new(), Recreation::AtOnce)
                        .expect("made");
                    assert!(matches!(created, Creation::Created(_)), "{created:?}");
                    let keys = keys(round * 100..round * 100 + 60);
                    assert_eq!(set(filters, &name, &keys).expect("set"), 60, "it was empty");
                    let handle = filters.get(&name).expect("it answers");
                    if round + 1 < ROUNDS / 3 {
                        let position = filters.drop_filter(&handle).expect("dropped");
                        filters.journal().commit(position).expect("committed");
                    }
                }
            })
        };
        let churners: Vec<_> = (0..WRITERS).map(churn).collect();
        churners
            .into_iter()
            .for_each(|churner| churner.join().expect("a churner"));
    });
    let bound = filters.memory().used();
    drop(filters);
    assert!(
        bound < 1 << 20,
        "dropped filters gave their memory back: {bound}"
    );
    let filters = open(root.path());
    assert!(filters.damaged().is_empty(), "{:?}", filters.damaged());
    assert_eq!(filters.list(b"").len() as u64, WRITERS);
    let last = ROUNDS / 3 - 1;
    for number in 0..WRITERS {
        let name = format!("name-{number}").into_bytes();
        assert_eq!(
            found(&filters, &name, &keys(last * 100..last * 100 + 60)),
            60
        );
        assert_eq!(
            found(&filters, &name, &keys(0..60)),
            0,
            "keys of a dropped filter"
        );
    }
    let names = std::fs::read_dir(root.path().join("filters")).expect("a directory");
    assert!(
        names.count() as u64 <= WRITERS,
        "files of dropped filters are gone"
    );
}
