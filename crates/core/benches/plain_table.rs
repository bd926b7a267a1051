//! Merging of plain tables from bytes to bytes, in rows a second (those of both texts counted).
//!
//! `cargo bench -p grapevine-core --bench plain_table`
// A benchmark is not the core: it takes the time.
#![allow(clippy::disallowed_methods)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use grapevine_core::plain_table::merge;

const ROWS: [u64; 3] = [1_000, 100_000, 1_000_000];

/// A fixed random order (splitmix64).
fn scattered(number: u64) -> u64 {
    let mut word = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// Rows of addresses, of which every other one is in each table.
fn table(rows: u64, which: u64) -> Vec<u8> {
    let row = |number: u64| {
        let number = 2 * number + which * (number % 2);
        let key = scattered(number);
        let [a, b, c, d, ..] = key.to_be_bytes();
        let version = scattered(key ^ which) >> 20;
        format!("{a}.{b}.{c}.{d}\t{version}\thost-{number:x}\teth{which}\n").into_bytes()
    };
    (0..rows).flat_map(row).collect()
}

fn merging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    group.sample_size(10);
    for rows in ROWS {
        let unsorted = [table(rows, 0), table(rows, 1)];
        let sorted = unsorted
            .each_ref()
            .map(|text| merge(&[text]).expect("small"));
        group.throughput(Throughput::Elements(2 * rows));
        for (name, texts) in [("sorted", &sorted), ("unsorted", &unsorted)] {
            let texts = texts.each_ref().map(Vec::as_slice);
            group.bench_function(BenchmarkId::new(name, 2 * rows), |bencher| {
                bencher.iter(|| merge(black_box(&texts)).expect("small").len());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, merging);
criterion_main!(benches);
