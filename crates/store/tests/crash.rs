//! The power goes at every single disk operation of a short life, in every way, and the next
//! process must find what this one promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::collections::{Collections, OpenError};
use grapevine_store::disk::{CrashPlan, NameFate, SimulatedDisk, WriteFate};
use grapevine_store::filters::{
    Creation, Entropy, FilterError, Filters, NewFilter, Options, Recreation, Scratch,
};
use grapevine_store::log::LogConfig;

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
const KEYS: u64 = 40;

/// What the script was told is durable.
#[derive(Default, Debug)]
struct Ledger {
    /// Keys below this are in filter "a".
    in_a: u64,
    /// Keys tried.
    tried: u64,
    /// "b" was imported with keys below this; dropped again.
    in_b: Option<u64>,
    b_dropping: bool,
    b_dropped: bool,
    /// Bits of the bitmap below this are set.
    bits: u16,
    /// Bits tried.
    bits_tried: u16,
}

fn entropy() -> Entropy {
    let drawn = AtomicU64::new(1);
    Arc::new(move || {
        let number = u128::from(drawn.fetch_add(1, Ordering::Relaxed));
        number
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            .to_le_bytes()
    })
}

/// An opened data directory: its filters, and what concerns them all.
struct Opened(Collections);

impl std::ops::Deref for Opened {
    type Target = Filters;

    fn deref(&self) -> &Filters {
        self.0.filters()
    }
}

fn open(disk: &SimulatedDisk) -> Result<Opened, OpenError> {
    let log = LogConfig {
        segment_size: 1024,
        ..LogConfig::default()
    };
    let options = Options {
        log,
        memory: 1 << 20,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    };
    let opened = Collections::open(Arc::new(disk.clone()), options, entropy())?;
    Ok(Opened(opened.0))
}

fn keys(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(|key| format!("key-{key}").into_bytes()).collect()
}

fn new() -> NewFilter {
    NewFilter {
        parameters: Parameters {
            capacity: 8,
            error: 1e-9,
            growth: Growth::By(2),
        },
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    }
}

fn set(filters: &Filters, ledger: &mut Ledger, up_to: u64) -> Result<(), FilterError> {
    let handle = filters.get(b"a").ok_or(FilterError::NotFound)?;
    let all = keys(0..up_to);
    let slices: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    ledger.tried = ledger.tried.max(up_to);
    filters.set(&handle, &slices, &mut Scratch::default())?;
    filters.journal().sync()?;
    ledger.in_a = up_to;
    Ok(())
}

fn set_bits(filters: &Opened, ledger: &mut Ledger, up_to: u16) -> Result<(), FilterError> {
    let bits: Vec<u16> = (0..up_to).collect();
    ledger.bits_tried = ledger.bits_tried.max(up_to);
    filters.0.bitmap().set(&bits)?;
    filters.journal().sync()?;
    ledger.bits = up_to;
    Ok(())
}

/// Create, set, snapshot, grow, unload, import, merge, drop; every reply after a sync.
fn script(filters: &Opened, ledger: &mut Ledger) -> Result<(), FilterError> {
    filters.create(b"a", new(), Recreation::AtOnce)?;
    set(filters, ledger, 6)?;
    set_bits(filters, ledger, 20)?;
    filters.0.checkpoint()?;
    set(filters, ledger, 12)?;
    set_bits(filters, ledger, 450)?;
    let handle = filters.get(b"a").ok_or(FilterError::NotFound)?;
    let mut file = Vec::new();
    filters
        .export(&handle, &mut file)?
        .expect("memory takes it");
    filters.unload(&handle)?;
    set(filters, ledger, 20)?;
    let created = filters.import(b"b", &mut &file[..])?;
    assert!(matches!(created, Creation::Created(_)));
    filters.journal().sync()?;
    ledger.in_b = Some(12);
    filters.0.checkpoint()?;
    let other = filters.get(b"b").ok_or(FilterError::NotFound)?;
    filters.merge(&other, &mut &file[..])?;
    filters.journal().sync()?;
    ledger.b_dropping = true;
    filters.drop_filter(&other)?;
    filters.journal().sync()?;
    ledger.b_dropped = true;
    filters.tidy(0)?;
    set(filters, ledger, 30)?;
    set_bits(filters, ledger, 500)?;
    filters.0.checkpoint()?;
    Ok(())
}

fn found(filters: &Filters, name: &[u8]) -> Option<Vec<bool>> {
    let handle = filters.get(name)?;
    let all = keys(0..KEYS);
    let slices: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
    let mut scratch = Scratch::default();
    filters
        .check(&handle, &slices, &mut scratch)
        .expect("it answers");
    Some(scratch.found().to_vec())
}

fn verify(filters: &Opened, ledger: &Ledger) {
    let bits: Vec<u16> = filters.0.bitmap().bits().iter().collect();
    let kept = bits.iter().zip(0..).take_while(|(bit, n)| **bit == *n);
    assert!(kept.count() >= usize::from(ledger.bits), "bits: {bits:?}");
    assert!(bits.iter().all(|bit| *bit < ledger.bits_tried), "{bits:?}");
    assert!(filters.damaged().is_empty(), "{:?}", filters.damaged());
    let count = |found: &[bool]| found.iter().take_while(|found| **found).count() as u64;
    match found(filters, b"a") {
        Some(found) => {
            let first = count(&found[..ledger.in_a as usize]);
            assert_eq!(first, ledger.in_a, "acknowledged keys");
            let ghosts = found[ledger.tried as usize..]
                .iter()
                .filter(|found| **found);
            assert_eq!(ghosts.count(), 0, "keys that were never set");
        }
        None => assert_eq!(ledger.in_a, 0, "an acknowledged filter is gone"),
    }
    match found(filters, b"b") {
        Some(found) => {
            assert!(!ledger.b_dropped, "a dropped filter is back");
            assert_eq!(count(&found), 12);
        }
        None => assert!(
            ledger.in_b.is_none() || ledger.b_dropping,
            "an imported filter is gone"
        ),
    }
    if let Some(handle) = filters.get(b"a") {
        let filter = filters.bits(&handle).expect("loaded");
        for layer in filter.layers() {
            assert!(layer.inserted() <= layer.shape().capacity);
        }
    }
}

/// Runs the script on `disk` until it ends or the power is gone.
fn live(disk: &SimulatedDisk) -> Ledger {
    let mut ledger = Ledger::default();
    if let Ok(filters) = open(disk) {
        let result = script(&filters, &mut ledger);
        assert!(result.is_ok() || disk.is_down(), "{result:?}");
    }
    ledger
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let whole = SimulatedDisk::new();
    live(&whole);
    let operations = whole.operations();
    assert!(operations > 100, "{operations}");
    for nth in 0..operations {
        let disk = SimulatedDisk::new();
        disk.cut_power_at_operation(nth);
        let ledger = live(&disk);
        assert!(disk.is_down(), "operation {nth}");
        for writes in WRITES {
            for names in NAMES {
                let disk = disk.fork();
                let seed = nth;
                disk.crash(CrashPlan {
                    writes,
                    names,
                    seed,
                });
                let context = format!("cut at {nth}, {writes:?}, {names:?}, {ledger:?}");
                let filters = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    verify(&filters, &ledger);
                }));
                assert!(result.is_ok(), "{context}");
            }
        }
    }
}

#[test]
fn a_kill_between_any_two_operations_loses_nothing_acknowledged() {
    let whole = SimulatedDisk::new();
    live(&whole);
    for nth in 0..whole.operations() {
        let disk = SimulatedDisk::new();
        disk.cut_power_at_operation(nth);
        let ledger = live(&disk);
        disk.kill();
        let filters = open(&disk).unwrap_or_else(|error| panic!("killed at {nth}: {error}"));
        verify(&filters, &ledger);
    }
}
