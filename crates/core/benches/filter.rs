//! The filter in process, next to the `fastbloom` crate in one run: checks and inserts, single
//! and batched, at 1 M, 10 M and 100 M keys and an error of 1 in 1000.
//!
//! `cargo bench -p grapevine-core` runs all sizes; `cargo bench -p grapevine-core -- 1M` one.
// A benchmark is not the core: it takes the time and reads which sizes to run.
#![allow(clippy::disallowed_methods)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::filter::{Effect, Filter, Key, Progress, WithoutRights};
use grapevine_core::hash::Seed;
use grapevine_core::origin::Origin;

const ERROR: f64 = 1e-3;
/// Keys asked for in a round; random ones, so that the processor cannot know the lines ahead.
const ROUND: usize = 1 << 18;
const BATCH: usize = 256;
const KEY_BYTES: usize = 16;

type KeyBytes = [u8; KEY_BYTES];

fn key(number: u64) -> KeyBytes {
    let mut bytes = *b"key-000000000000";
    let mut rest = number;
    for byte in bytes[4..].iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    bytes
}

/// Numbers below `below` in a fixed random order (splitmix64).
fn numbers(below: u64) -> impl Iterator<Item = u64> {
    let mut state = 42u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % below
    })
}

fn empty(capacity: u64) -> Filter {
    let parameters = Parameters {
        capacity,
        error: ERROR,
        growth: Growth::By(4),
    };
    let filter = Filter::new(parameters, Seed::new([7; 16]), Origin::new([1; 16]));
    filter
        .add_layer(filter.next_layer(1).expect("a shape"))
        .expect("a layer");
    filter
}

fn insert(filter: &Filter, keys: &[KeyBytes], effect: &mut Effect) {
    let mut outcomes = Vec::with_capacity(BATCH);
    for batch in keys.chunks(BATCH) {
        let batch: Vec<Key<'_>> = batch.iter().map(|key| filter.key(key)).collect();
        outcomes.clear();
        effect.clear();
        let inserted = filter.insert(&batch, WithoutRights::Refuse, &mut outcomes, effect);
        assert_eq!(inserted, Progress::Done);
    }
}

fn round(present: bool, capacity: u64) -> Vec<KeyBytes> {
    let offset = if present { 0 } else { capacity };
    numbers(capacity)
        .take(ROUND)
        .map(|number| key(number + offset))
        .collect()
}

fn checks(c: &mut Criterion, label: &str, capacity: u64) {
    let ours = empty(capacity);
    let mut theirs = fastbloom::BloomFilter::with_false_pos(ERROR)
        .seed(&7)
        .expected_items(capacity as usize);
    let mut effect = Effect::default();
    let all = 0..capacity * 999 / 1000;
    for start in all.clone().step_by(BATCH) {
        let keys: Vec<KeyBytes> = (start..(start + BATCH as u64).min(all.end))
            .map(key)
            .collect();
        insert(&ours, &keys, &mut effect);
        keys.iter()
            .for_each(|key| _ = black_box(theirs.insert(&key[..])));
    }
    let mut group = c.benchmark_group(format!("check-{label}"));
    group.throughput(Throughput::Elements(ROUND as u64));
    for (what, present) in [("present", true), ("absent", false)] {
        let keys = round(present, capacity * 999 / 1000);
        group.bench_with_input(BenchmarkId::new("grapevine", what), &keys, |b, keys| {
            b.iter(|| {
                keys.iter()
                    .filter(|key| ours.contains(ours.key(&key[..])))
                    .count()
            });
        });
        group.bench_with_input(BenchmarkId::new("fastbloom", what), &keys, |b, keys| {
            b.iter(|| keys.iter().filter(|key| theirs.contains(&key[..])).count());
        });
        group.bench_with_input(
            BenchmarkId::new("grapevine-batched", what),
            &keys,
            |b, keys| {
                let mut found = [false; BATCH];
                let mut batch: Vec<Key<'_>> = Vec::with_capacity(BATCH);
                b.iter(|| {
                    let mut hits = 0;
                    for keys in keys.chunks(BATCH) {
                        batch.clear();
                        batch.extend(keys.iter().map(|key| ours.key(key)));
                        ours.check(&batch, &mut found[..keys.len()]);
                        hits += found[..keys.len()].iter().filter(|found| **found).count();
                    }
                    hits
                });
            },
        );
    }
    group.finish();
}

fn inserts(c: &mut Criterion, label: &str, capacity: u64) {
    let mut group = c.benchmark_group(format!("insert-{label}"));
    group.throughput(Throughput::Elements(ROUND as u64));
    let keys = round(true, capacity);
    let timed = |rounds: u64, mut work: Box<dyn FnMut() -> Duration + '_>| {
        (0..rounds).map(|_| work()).sum::<Duration>()
    };
    group.bench_function("grapevine", |b| {
        let mut effect = Effect::default();
        b.iter_custom(|rounds| {
            timed(
                rounds,
                Box::new(|| {
                    let filter = empty(capacity);
                    let start = Instant::now();
                    insert(&filter, &keys, &mut effect);
                    start.elapsed()
                }),
            )
        });
    });
    group.bench_function("fastbloom", |b| {
        b.iter_custom(|rounds| {
            timed(
                rounds,
                Box::new(|| {
                    let mut filter = fastbloom::BloomFilter::with_false_pos(ERROR)
                        .seed(&7)
                        .expected_items(capacity as usize);
                    let start = Instant::now();
                    keys.iter()
                        .for_each(|key| _ = black_box(filter.insert(&key[..])));
                    start.elapsed()
                }),
            )
        });
    });
    group.finish();
}

fn all(c: &mut Criterion) {
    for (label, capacity) in [
        ("1M", 1_000_000),
        ("10M", 10_000_000),
        ("100M", 100_000_000),
    ] {
        let wanted = std::env::args().skip(1).rfind(|arg| arg.ends_with('M'));
        if wanted.is_none_or(|wanted| wanted.ends_with(label)) {
            checks(c, label, capacity);
            inserts(c, label, capacity);
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(3));
    targets = all
}
criterion_main!(benches);
