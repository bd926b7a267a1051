//! How long a start takes with a large file of rows.
//!
//! ```sh
//! cargo run --release -p grapevine-store --example open_rows -- DIRECTORY fill ROWS
//! cargo run --release -p grapevine-store --example open_rows -- DIRECTORY open
//! cargo run --release -p grapevine-store --example open_rows -- DIRECTORY scrub
//! ```
//! `fill` and `open` end as if killed: nothing is closed. `open` without `tables/rows.sums` reads the whole
//! file, as every start once did.

use std::path::PathBuf;
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
/// Rows given to one merge.
const MERGED: u64 = 10_000;

type Failed = Box<dyn std::error::Error>;

fn entropy() -> Entropy {
    let drawn = AtomicU64::new(1);
    Arc::new(move || u128::from(drawn.fetch_add(1, Ordering::Relaxed)).to_le_bytes())
}

/// Keys in no order.
fn key(number: u64) -> Vec<u8> {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{mixed:016x}").into_bytes()
}

fn fill(collections: &Collections, rows: u64) -> Result<(), Failed> {
    let tables = collections.tables();
    tables.create(b"t")?;
    for first in (0..rows).step_by(MERGED as usize) {
        let batch = (first..rows.min(first + MERGED)).map(|number| {
            let row = Row {
                version: 1,
                content: Content::Values(vec![b'v'; VALUES_BYTES]),
                expires: None,
            };
            (key(number), row)
        });
        tables.merge(b"t", batch)?;
        if collections.checkpoint_due() {
            let begun = Instant::now();
            collections.checkpoint()?;
            println!("snapshot: {:.2} s", begun.elapsed().as_secs_f64());
        }
    }
    collections.checkpoint()?;
    collections.journal().sync()?;
    Ok(())
}

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name a directory")?);
    let what = arguments.next().ok_or("say fill, open or scrub")?;
    let disk = RealDisk::new(directory);
    disk.create_root()?;
    let options = Options {
        log: LogConfig::default(),
        memory: 1 << 30,
        checkpoint_log: 64 << 20,
        idle_unload: None,
    };
    let begun = Instant::now();
    let (collections, recovered) = Collections::open(Arc::new(disk), options, entropy())?;
    println!("opened: {:.3} s", begun.elapsed().as_secs_f64());
    if let Some(lost) = recovered.lost_rows {
        println!("lost: {}", lost.reason);
    }
    match &what[..] {
        "fill" => fill(
            &collections,
            arguments.next().ok_or("say how many rows")?.parse()?,
        )?,
        "scrub" => {
            let (mut longest, mut pieces, begun) = (0.0_f64, 0, Instant::now());
            loop {
                let piece = Instant::now();
                let ended = collections.tables().scrub(&|| true)?;
                longest = longest.max(piece.elapsed().as_secs_f64());
                pieces += 1;
                if ended {
                    break;
                }
            }
            let seconds = begun.elapsed().as_secs_f64();
            println!("scrubbed: {seconds:.2} s in {pieces} pieces, the longest {longest:.3} s");
        }
        _ => {}
    }
    // Not even what is dropped otherwise is closed.
    std::process::exit(0);
}
