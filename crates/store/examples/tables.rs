//! What tables cost on this machine: rows merged durably, set one by one, read, found again at a
//! start.
//!
//! ```sh
//! cargo run --release -p grapevine-store --example tables -- DIRECTORY [ROWS]
//! ```
//! The directory must be absent or empty; it is left as it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use grapevine_core::table::{Content, Row};
use grapevine_store::collections::Collections;
use grapevine_store::disk::RealDisk;
use grapevine_store::filters::{Entropy, Options};
use grapevine_store::log::LogConfig;

/// Bytes of values of a row.
const VALUES_BYTES: usize = 64;
/// Rows given to one merge, which is made durable before the next.
const MERGED: u64 = 10_000;
/// Rows set or read one by one.
const SINGLE: u64 = 100_000;

type Failed = Box<dyn std::error::Error>;

fn entropy() -> Entropy {
    let drawn = AtomicU64::new(1);
    Arc::new(move || {
        let number = u128::from(drawn.fetch_add(1, Ordering::Relaxed));
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        mixed.to_le_bytes()
    })
}

fn open(directory: &Path) -> Result<Collections, Failed> {
    let disk = RealDisk::new(directory.to_owned());
    disk.create_root()?;
    let options = Options {
        log: LogConfig::default(),
        memory: 1 << 30,
        checkpoint_log: 256 << 20,
        idle_unload: None,
    };
    Ok(Collections::open(Arc::new(disk), options, entropy())?.0)
}

/// Keys in no order.
fn key(number: u64) -> Vec<u8> {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{mixed:016x}").into_bytes()
}

fn rate(what: &str, count: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{what}: {count} in {seconds:.2} s, {:.0}/s",
        count as f64 / seconds
    );
}

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name a directory")?);
    let rows: u64 = arguments
        .next()
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let collections = open(&directory)?;
    let tables = collections.tables();
    tables.create(b"t")?;
    let values = vec![b'v'; VALUES_BYTES];
    let row = |version| Row {
        version,
        content: Content::Values(values.clone()),
        expires: None,
    };
    for (what, version) in [
        ("merged, new", 1),
        ("merged, changed", 2),
        ("merged, old", 1),
    ] {
        let begun = Instant::now();
        for first in (0..rows).step_by(MERGED as usize) {
            let batch = (first..rows.min(first + MERGED)).map(|n| (key(n), row(version)));
            tables.merge(b"t", batch)?;
            collections.journal().sync()?;
            if collections.checkpoint_due() {
                collections.checkpoint()?;
            }
        }
        rate(what, rows, begun);
    }
    let begun = Instant::now();
    collections.checkpoint()?;
    println!("snapshot: {:.2} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    for number in 0..SINGLE {
        tables.get(b"t", &key(number * 7 % rows), 0)?;
    }
    rate("read", SINGLE, begun);
    let begun = Instant::now();
    for number in 0..SINGLE {
        tables.set(b"t", &key(number * 7 % rows), &values, None)?;
    }
    collections.journal().sync()?;
    rate("set", SINGLE, begun);
    let begun = Instant::now();
    let (mut after, mut seen) = (Vec::new(), 0);
    while let Some(page) = tables.page(b"t", &after, 10_000, 1 << 20, 0)? {
        seen += page.rows.len() as u64;
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    rate("read in order", seen, begun);
    drop(collections);
    let begun = Instant::now();
    open(&directory)?;
    println!("opened: {:.2} s", begun.elapsed().as_secs_f64());
    Ok(())
}
