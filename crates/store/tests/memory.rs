//! Filters and the memory bound: one that does not fit concerns nobody else, and the many that do
//! not fit at once take turns.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::sync::{LayerName, Read, Replica};
use grapevine_store::collections::{Collections, Exchange};
use grapevine_store::disk::{CrashPlan, NameFate, Operation, SimulatedDisk, WriteFate};
use grapevine_store::filters::{
    Creation, Entropy, FilterError, NewFilter, Options, Recreation, Scratch,
};
use grapevine_store::log::LogConfig;

const AMPLE: u64 = 1 << 30;
const SMALL: u64 = 64 << 10;
/// Keys of a filter that takes about 240 KiB.
const LARGE_KEYS: u64 = 200_000;

fn open(disk: &SimulatedDisk, memory: u64) -> Arc<Collections> {
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    let entropy: Entropy = Arc::new(|| {
        let number = u128::from(DRAWN.fetch_add(1, Ordering::Relaxed));
        number
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            .to_le_bytes()
    });
    let options = Options {
        log: LogConfig::default(),
        memory,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    };
    let opened = Collections::open(Arc::new(disk.clone()), options, entropy);
    Arc::new(opened.expect("it opens").0)
}

fn create(collections: &Collections, name: &str, capacity: u64, storage: Storage) {
    let new = NewFilter {
        parameters: Parameters {
            capacity,
            error: 0.01,
            growth: Growth::By(2),
        },
        storage,
        seed: None,
        scope: Scope::Group,
    };
    let created = collections
        .filters()
        .create(name.as_bytes(), new, Recreation::AtOnce);
    assert!(matches!(created, Ok(Creation::Created(_))), "{created:?}");
}

fn set(collections: &Collections, name: &str, keys: std::ops::Range<u64>) {
    let keys: Vec<[u8; 8]> = keys.map(u64::to_le_bytes).collect();
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 8]>::as_slice).collect();
    let handle = collections.filters().get(name.as_bytes()).expect("it is");
    let mut scratch = Scratch::default();
    let set = collections.filters().set(&handle, &keys, &mut scratch);
    set.expect("set");
    assert_eq!(scratch.outcomes().len(), keys.len());
    collections.journal().sync().expect("synced");
}

fn check(
    collections: &Collections,
    name: &str,
    keys: std::ops::Range<u64>,
) -> Result<bool, FilterError> {
    let keys: Vec<[u8; 8]> = keys.map(u64::to_le_bytes).collect();
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 8]>::as_slice).collect();
    let handle = collections.filters().get(name.as_bytes()).expect("it is");
    let mut scratch = Scratch::default();
    collections.filters().check(&handle, &keys, &mut scratch)?;
    Ok(scratch.found().iter().all(|found| *found))
}

/// Everything of `from` goes to `to`; gives how many operations were left over.
fn follow(from: &Arc<Collections>, to: &Arc<Collections>) -> u64 {
    from.journal().sync().expect("synced");
    let origin = from.journal().origin();
    let (mut source, mut target) = (
        Exchange::new(Arc::clone(from)),
        Exchange::new(Arc::clone(to)),
    );
    let first = to.journal().applied().get(origin) + 1;
    let wanted = [(origin, first)].into();
    let Read::Runs { runs, .. } = source.read(&wanted, None, usize::MAX >> 1) else {
        panic!("the log reaches back");
    };
    for run in runs {
        target.apply(run.origin, run.first, &run.operations);
    }
    to.journal().sync().expect("synced");
    from.journal().durable().get(origin) - to.journal().applied().get(origin)
}

/// The first layers of a filter of both have the same bits, as peers compare them.
fn is_same(name: &str, a: &Arc<Collections>, b: &Arc<Collections>) -> bool {
    let id = a.filters().get(name.as_bytes()).expect("it is").id();
    let row = a.filters().rows().into_iter().find(|row| row.id == id);
    let layer = LayerName {
        filter: id,
        layer: row.expect("a row").layers[0].shape.id,
    };
    let hashes = |collections: &Arc<Collections>| {
        let mut exchange = Exchange::new(Arc::clone(collections));
        let hashes = exchange.block_hashes(layer, 0, 1000);
        hashes.expect("they can be shown").expect("it is there")
    };
    hashes(a) == hashes(b)
}

#[test]
fn a_filter_that_does_not_fit_stops_nothing_else_and_is_whole_with_more_memory() {
    let (a, disk) = (open(&SimulatedDisk::new(), AMPLE), SimulatedDisk::new());
    let b = open(&disk, SMALL);
    create(&a, "large", LARGE_KEYS, Storage::Durable);
    set(&a, "large", 0..5000);
    create(&a, "small", 100, Storage::Durable);
    set(&a, "small", 0..50);
    assert_eq!(follow(&a, &b), 0, "B follows everything of A");
    assert!(check(&b, "small", 0..50).expect("small answers"));
    let refused = check(&b, "large", 0..1);
    assert!(
        matches!(refused, Err(FilterError::Memory(_))),
        "{refused:?}"
    );
    let large = b.filters().too_large();
    assert_eq!(large.len(), 1);
    assert_eq!(large[0].0, b"large");
    assert!(large[0].1 > SMALL && b.filters().memory().used() < SMALL);
    assert!(is_same("large", &a, &b), "peers see what A put in");

    // Its files follow, so the log need not reach back.
    b.checkpoint().expect("a snapshot");
    assert_eq!(b.log_tail(), 0);
    drop(b);
    let b = open(&disk, SMALL);
    assert_eq!(b.filters().too_large().len(), 1);
    set(&a, "large", 5000..9000);
    set(&a, "small", 50..60);
    assert_eq!(follow(&a, &b), 0);
    assert!(check(&b, "small", 0..60).expect("small answers"));
    assert!(is_same("large", &a, &b));

    // Half of it is in files, half in the log.
    drop(b);
    let b = open(&disk, AMPLE);
    assert!(b.filters().too_large().is_empty());
    assert!(check(&b, "large", 0..9000).expect("it is whole"));
    assert!(!check(&b, "large", 9000..9001).expect("it answers"));
    // What it has it can give.
    let c = open(&SimulatedDisk::new(), AMPLE);
    assert_eq!(follow(&a, &c), 0);
    assert!(is_same("large", &c, &b));
}

#[test]
fn equal_nodes_that_make_one_each_do_not_block_one_another() {
    let bound = 300 << 10;
    let disks = [SimulatedDisk::new(), SimulatedDisk::new()];
    let [a, b] = disks.each_ref().map(|disk| open(disk, bound));
    create(&a, "of-a", LARGE_KEYS, Storage::Durable);
    create(&b, "of-b", LARGE_KEYS, Storage::Durable);
    set(&a, "of-a", 0..1000);
    set(&b, "of-b", 0..1000);
    assert_eq!((follow(&a, &b), follow(&b, &a)), (0, 0));
    // They fit one at a time.
    for name in ["of-a", "of-b", "of-a"] {
        for node in [&a, &b] {
            assert!(check(node, name, 0..1000).expect("it answers"));
        }
    }
}

#[test]
fn much_that_waits_for_a_file_is_merged_into_it() {
    let (a, disk) = (open(&SimulatedDisk::new(), AMPLE), SimulatedDisk::new());
    let b = open(&disk, SMALL);
    create(&a, "large", 3_000_000, Storage::Durable);
    for from in (0..60_000).step_by(2000) {
        set(&a, "large", from..from + 2000);
        assert_eq!(follow(&a, &b), 0);
    }
    assert!(is_same("large", &a, &b));
    drop(b);
    assert!(check(&open(&disk, AMPLE), "large", 0..60_000).unwrap());
}

#[test]
fn a_filter_that_grows_too_large_is_refused_and_followed() {
    let (a, disk) = (open(&SimulatedDisk::new(), AMPLE), SimulatedDisk::new());
    let b = open(&disk, SMALL);
    for storage in [Storage::Durable, Storage::Memory] {
        let name = format!("{storage:?}");
        create(&a, &name, 10_000, storage);
        set(&a, &name, 0..9000);
        assert_eq!(follow(&a, &b), 0);
        check(&b, &name, 0..1).expect("it fits");
        set(&a, &name, 9000..50_000);
        assert_eq!(follow(&a, &b), 0);
        let refused = check(&b, &name, 0..1);
        assert!(
            matches!(refused, Err(FilterError::Memory(_))),
            "{refused:?}"
        );
    }
    drop(b);
    let b = open(&disk, AMPLE);
    assert!(check(&b, "Durable", 0..50_000).unwrap());
}

#[test]
fn the_coldest_filters_make_room() {
    const FILTERS: u64 = 600;
    const BOUND: u64 = 16 << 10;
    let disk = SimulatedDisk::new();
    let collections = open(&disk, BOUND);
    let name = |number: u64| format!("filter-{number}");
    for number in 0..FILTERS {
        create(&collections, &name(number), 100, Storage::Durable);
        set(&collections, &name(number), number..number + 5);
        // One is used all the time.
        assert!(check(&collections, &name(0), 0..5).unwrap());
    }
    assert!(collections.filters().memory().used() <= BOUND);
    let hot = collections.filters().get(name(0).as_bytes()).unwrap();
    let out = hot.usage().page_outs;
    assert!(out < FILTERS / 50, "{out} times unloaded while in use");
    let ask = |collections: &Arc<Collections>, from: u64| {
        for step in 0..FILTERS {
            let number = (from + step * 7) % FILTERS;
            let keys = number..number + 5;
            assert!(check(collections, &name(number), keys).unwrap());
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let collections = &collections;
            scope.spawn(move || {
                ask(collections, thread * 150);
                for number in (thread * 150..thread * 150 + 150).step_by(5) {
                    // Layers are opened, too.
                    set(collections, &name(number), 10_000..10_200);
                }
            });
        }
        scope.spawn(|| collections.checkpoint().expect("a snapshot"));
    });
    assert!(collections.filters().memory().used() <= BOUND);
    drop(collections);
    let collections = open(&disk, BOUND);
    ask(&collections, 3);
    for number in (0..FILTERS).step_by(5) {
        assert!(check(&collections, &name(number), 10_000..10_200).unwrap());
    }
}

#[test]
fn a_snapshot_that_is_cut_short_leaves_the_rest_to_the_log() {
    let disk = SimulatedDisk::new();
    let collections = open(&disk, AMPLE);
    for number in 0..300 {
        create(&collections, &format!("{number}"), 100, Storage::Durable);
        set(&collections, &format!("{number}"), 0..5);
    }
    let asked = AtomicU64::new(0);
    let go_on = || asked.fetch_add(1, Ordering::Relaxed) < 200;
    let whole = collections.checkpoint_while(&go_on).expect("it is stopped");
    assert!(
        !whole && collections.log_tail() > 0,
        "nothing was forgotten"
    );
    assert!(asked.load(Ordering::Relaxed) < 205, "it ends at once");
    drop(collections);
    disk.crash(CrashPlan {
        writes: WriteFate::Lost,
        names: NameFate::Lost,
        seed: 1,
    });
    let collections = open(&disk, AMPLE);
    for number in 0..300 {
        assert!(check(&collections, &format!("{number}"), 0..5).unwrap());
    }
    assert!(collections.checkpoint_while(&|| true).expect("a snapshot"));
    assert_eq!(collections.log_tail(), 0);
}

#[test]
fn what_cannot_be_unloaded_refuses_at_once() {
    let collections = open(&SimulatedDisk::new(), SMALL);
    create(&collections, "kept", 25_000, Storage::Memory);
    create(&collections, "other", 10_000, Storage::Durable);
    let used = collections.filters().memory().used();
    let new = NewFilter {
        parameters: Parameters {
            capacity: 35_000,
            error: 0.01,
            growth: Growth::Fixed,
        },
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    };
    let created = collections
        .filters()
        .create(b"more", new, Recreation::AtOnce);
    let Err(FilterError::Memory(over)) = created else {
        panic!("there is no room: {created:?}");
    };
    assert!(over.to_string().contains("limits.memory"), "{over}");
    // Nothing was unloaded for it.
    assert_eq!(collections.filters().memory().used(), used);
}

#[test]
fn what_files_have_makes_room_also_when_nothing_can_be_written() {
    let disk = SimulatedDisk::new();
    let collections = open(&disk, SMALL);
    for number in 0..500 {
        create(&collections, &format!("{number}"), 100, Storage::Durable);
        set(&collections, &format!("{number}"), 0..5);
    }
    collections.checkpoint().expect("a snapshot");
    set(&collections, "0", 100..101);
    disk.fail_next(Operation::Sync, 0, ErrorKind::StorageFull);
    let handle = collections.filters().get(b"1").expect("it is");
    let mut scratch = Scratch::default();
    let last = collections
        .filters()
        .set(&handle, &[b"one more"], &mut scratch);
    last.expect("it is in memory");
    collections.journal().sync().expect_err("the disk is full");
    for number in 0..500 {
        let keys = 0..5;
        assert!(check(&collections, &format!("{number}"), keys).unwrap());
    }
}
