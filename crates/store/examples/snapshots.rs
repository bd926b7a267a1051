//! What writing many small filters costs on this machine: one by one, and as a snapshot.
//!
//! ```sh
//! cargo run --release -p grapevine-store --example snapshots -- DIRECTORY [FILTERS]
//! ```
//! The directory must be absent or empty; it is left as it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::collections::Collections;
use grapevine_store::disk::RealDisk;
use grapevine_store::filters::{Entropy, NewFilter, Options, Recreation, Scratch};
use grapevine_store::log::LogConfig;

type Failed = Box<dyn std::error::Error>;

fn entropy() -> Entropy {
    let drawn = AtomicU64::new(1);
    Arc::new(move || {
        let number = u128::from(drawn.fetch_add(1, Ordering::Relaxed));
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        mixed.to_le_bytes()
    })
}

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("which directory?")?);
    let count: u64 = match arguments.next() {
        Some(text) => text.to_string_lossy().parse()?,
        None => 20_000,
    };
    let disk = RealDisk::new(directory);
    disk.create_root()?;
    let options = Options {
        log: LogConfig::default(),
        memory: 8 << 30,
        checkpoint_log: 1 << 40,
        idle_unload: None,
    };
    let (collections, _) = Collections::open(Arc::new(disk), options, entropy())?;
    let new = NewFilter {
        parameters: Parameters {
            capacity: 1000,
            error: 0.01,
            growth: Growth::By(2),
        },
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    };
    let filters = collections.filters();
    for number in 0..count {
        let name = format!("filter-{number}");
        filters.create(name.as_bytes(), new, Recreation::AtOnce)?;
    }
    for (round, whole) in [(0_u64, false), (1, true)] {
        let mut scratch = Scratch::default();
        let handles = filters.list(b"");
        for handle in &handles {
            filters.set(handle, &[&round.to_le_bytes()], &mut scratch)?;
        }
        collections.journal().sync()?;
        let begun = Instant::now();
        let what = if whole {
            collections.checkpoint()?;
            "as a snapshot"
        } else {
            handles
                .iter()
                .try_for_each(|handle| filters.flush(handle))?;
            "one by one"
        };
        let seconds = begun.elapsed().as_secs_f64();
        let rate = count as f64 / seconds;
        println!("{count} filters {what}: {seconds:.2} s, {rate:.0}/s");
    }
    Ok(())
}
