//! An empty data directory in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grapevine_store::collections::Collections;
use grapevine_store::disk::SimulatedDisk;
use grapevine_store::filters::Options;
use grapevine_store::log::LogConfig;

/// Bound on the memory of all filters in bytes: well under what a run of the fuzzer may take.
pub const MEMORY_MAX: u64 = 64 << 20;

/// Opens an empty data directory. Ids and seeds are numbers in sequence, so a run can be repeated.
///
/// # Panics
/// If an empty directory does not open, which would be a bug.
pub fn open_empty() -> Collections {
    let options = Options {
        log: LogConfig::default(),
        memory: MEMORY_MAX,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    };
    let next = AtomicU64::new(1);
    let entropy = move || u128::from(next.fetch_add(1, Ordering::Relaxed)).to_le_bytes();
    Collections::open(Arc::new(SimulatedDisk::new()), options, Arc::new(entropy))
        .expect("an empty directory opens")
        .0
}
