//! Promises of the filter as a whole: no key is ever lost, the error stays under its bound,
//! merging is a join, and of many callers exactly one is told that a key was new.

use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::parameters::{Growth, Parameters};
use super::*;
use crate::hash::Seed;
use crate::operation::Share;
use crate::origin::Origin;

const ME: Origin = Origin::new([1; 16]);
const SEED: Seed = Seed::new(*b"a seed of 16 by.");

fn filter(capacity: u64, error: f64, growth: Growth) -> Filter {
    let filter = Filter::new(
        Parameters {
            capacity,
            error,
            growth,
        },
        SEED,
        ME,
    );
    filter.add_layer(filter.next_layer(1).unwrap()).unwrap();
    filter
}

/// Inserts as the store does: opens a layer whenever one is needed.
fn insert(filter: &Filter, keys: &[Vec<u8>]) -> (Vec<Outcome>, Effect) {
    let keys: Vec<Key<'_>> = keys.iter().map(|key| filter.key(key)).collect();
    let (mut outcomes, mut effect) = (Vec::new(), Effect::default());
    let without = match filter.parameters().growth {
        Growth::Fixed => WithoutRights::Refuse,
        Growth::By(_) => WithoutRights::Ask,
    };
    let mut rest = &keys[..];
    while filter.insert(rest, without, &mut outcomes, &mut effect) != Progress::Done {
        rest = &keys[outcomes.len()..];
        filter.add_layer(filter.next_layer(1).unwrap()).unwrap();
    }
    (outcomes, effect)
}

fn numbered(prefix: &str, range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range
        .map(|number| format!("{prefix}{number}").into_bytes())
        .collect()
}

fn contains(filter: &Filter, keys: &[Vec<u8>]) -> Vec<bool> {
    let keys: Vec<Key<'_>> = keys.iter().map(|key| filter.key(key)).collect();
    let mut found = vec![false; keys.len()];
    filter.check(&keys, &mut found);
    assert!(
        keys.iter()
            .zip(&found)
            .all(|(key, found)| filter.contains(*key) == *found)
    );
    found
}

/// The largest count of hits that `trials` at rate `error` give but once in a million runs
/// (normal bound with a margin for small means).
fn hits_max(trials: u64, error: f64) -> u64 {
    let mean = trials as f64 * error;
    (mean + 5.0 * mean.sqrt() + 5.0).ceil() as u64
}

/// Fills `layers` layers to the brim and measures on keys that were never set.
fn measured_error_holds(error: f64, layers: u32, trials: u64) {
    let first = 3000;
    let filter = filter(first, error, Growth::By(2));
    let total: u64 = (0..layers).map(|index| first << index).sum();
    let mut inserted = 0;
    let mut next = 0;
    while inserted < total {
        let keys = numbered("key", next..next + (total - inserted));
        next += keys.len() as u64;
        let (outcomes, _) = insert(&filter, &keys);
        inserted += outcomes
            .iter()
            .filter(|outcome| **outcome == Outcome::New)
            .count() as u64;
    }
    assert_eq!(filter.layers().len() as u32, layers);
    assert_eq!(filter.inserted(), total);
    let mut hits = 0;
    for chunk in 0..trials / 10_000 {
        let keys = numbered("absent", chunk * 10_000..(chunk + 1) * 10_000);
        hits += contains(&filter, &keys)
            .into_iter()
            .filter(|found| *found)
            .count() as u64;
    }
    let most = hits_max(trials, error);
    assert!(
        hits <= most,
        "{hits} of {trials} at {error} with {layers} layers, bound {most}"
    );
    let estimate = filter.measure();
    assert!(
        estimate.error <= error * 1.25,
        "estimate {} for {error}",
        estimate.error
    );
    let off = (estimate.cardinality - total as f64).abs() / total as f64;
    assert!(
        off < 0.05,
        "cardinality {} for {total}",
        estimate.cardinality
    );
}

#[test]
fn error_stays_under_its_bound_with_one_to_five_layers() {
    for exponent in 1..=6 {
        let error = 10f64.powi(-exponent);
        let trials = if exponent < 4 { 200_000 } else { 2_000_000 };
        for layers in [1, 2, 3, 5] {
            measured_error_holds(error, layers, trials);
        }
    }
}

/// The bound is not met by being far too large: a filter filled to three times its capacity
/// without growing must show more error, or the test above could not fail.
#[test]
fn an_overfilled_layer_breaks_the_bound_and_the_measurement_shows_it() {
    let filter = filter(3000, 1e-3, Growth::Fixed);
    let layer = filter.layers().next().unwrap();
    for key in numbered("key", 0..9000) {
        layer.apply(SEED.hash(&key));
    }
    let found = contains(&filter, &numbered("absent", 0..100_000));
    let hits = found.into_iter().filter(|found| *found).count() as u64;
    assert!(hits > hits_max(100_000, 1e-3), "{hits}");
}

#[test]
fn a_fixed_filter_refuses_new_keys_when_full_and_still_knows_the_old() {
    let filter = filter(100, 0.001, Growth::Fixed);
    let keys = numbered("key", 0..200);
    let (outcomes, _) = insert(&filter, &keys);
    assert_eq!(outcomes.iter().filter(|o| **o == Outcome::New).count(), 100);
    assert!(outcomes.iter().filter(|o| **o == Outcome::Full).count() >= 95);
    let (again, effect) = insert(&filter, &keys[..50]);
    assert!(again.iter().all(|outcome| *outcome == Outcome::Seen));
    assert!(effect.hashes.is_empty());
}

/// Found by the simulator: the last right goes to a key that comes again in the same batch.
#[test]
fn the_key_that_took_the_last_right_is_seen_and_needs_no_layer() {
    let fixed = filter(1, 1e-9, Growth::Fixed);
    let keys: Vec<Vec<u8>> = ["a", "a", "b", "a"]
        .iter()
        .map(|key| key.as_bytes().to_vec())
        .collect();
    let (outcomes, _) = insert(&fixed, &keys);
    assert_eq!(
        outcomes,
        [Outcome::New, Outcome::Seen, Outcome::Full, Outcome::Seen]
    );
    let growing = filter(1, 1e-9, Growth::By(2));
    let (outcomes, _) = insert(&growing, &keys[..2]);
    assert_eq!(outcomes, [Outcome::New, Outcome::Seen]);
    assert_eq!(growing.layers().len(), 1);
}

#[test]
fn a_key_twice_in_one_batch_is_new_once() {
    let filter = filter(100, 0.001, Growth::By(2));
    let keys: Vec<Vec<u8>> = ["a", "b", "a", "a"]
        .iter()
        .map(|key| key.as_bytes().to_vec())
        .collect();
    let (outcomes, effect) = insert(&filter, &keys);
    assert_eq!(
        outcomes,
        [Outcome::New, Outcome::New, Outcome::Seen, Outcome::Seen]
    );
    assert_eq!(effect.hashes.len(), 2);
    assert_eq!(effect.runs.len(), 1);
    assert_eq!(effect.runs[0].inserted, 2);
}

// The core starts no threads, but its bits are shared by those of its callers.
#[allow(clippy::disallowed_methods)]
#[test]
fn of_many_callers_exactly_one_is_told_that_a_key_is_new() {
    let filter = filter(1000, 1e-9, Growth::By(2));
    let told_new = AtomicU64::new(0);
    let growth = std::sync::Mutex::new(());
    let keys = numbered("key", 0..20_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (filter, told_new, growth, keys) = (&filter, &told_new, &growth, &keys);
            scope.spawn(move || {
                for chunk in keys.chunks(50 + thread * 7) {
                    let chunk: Vec<Key<'_>> = chunk.iter().map(|key| filter.key(key)).collect();
                    let (mut outcomes, mut effect) = (Vec::new(), Effect::default());
                    let without = WithoutRights::Ask;
                    let mut rest = &chunk[..];
                    while filter.insert(rest, without, &mut outcomes, &mut effect) != Progress::Done
                    {
                        rest = &chunk[outcomes.len()..];
                        let _alone = growth.lock().unwrap();
                        if filter.layers().all(|layer| layer.available() == 0) {
                            filter.add_layer(filter.next_layer(1).unwrap()).unwrap();
                        }
                    }
                    let new = outcomes.iter().filter(|o| **o == Outcome::New).count();
                    assert_eq!(new, effect.hashes.len());
                    told_new.fetch_add(new as u64, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(told_new.load(Ordering::Relaxed), 20_000);
    assert_eq!(filter.inserted(), 20_000);
    for layer in filter.layers() {
        assert!(layer.inserted() <= layer.shape().capacity);
    }
}

#[test]
fn rights_given_away_are_not_spent_here() {
    let filter = filter(100, 0.001, Growth::By(2));
    let other = Origin::new([2; 16]);
    let layer = filter.layers().next().unwrap();
    let mut rights = layer.rights();
    rights.grant(ME, other, 90).unwrap();
    layer.merge_rights(&rights).unwrap();
    assert_eq!(layer.available(), 10);
    let (outcomes, effect) = insert(&filter, &numbered("key", 0..11));
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::New));
    assert_eq!(
        effect.runs.iter().map(|run| run.count).collect::<Vec<_>>(),
        [10, 1]
    );
    assert_eq!(effect.runs[1].layer.index, 1);
}

#[test]
fn drawn_rights_are_spent_whether_keys_take_them_or_not() {
    let parameters = filter(100, 0.001, Growth::By(2)).parameters();
    let filter = Filter::new(parameters, SEED, ME).with_spending(Spending::Drawn);
    filter.add_layer(filter.next_layer(1).unwrap()).unwrap();
    let layer = filter.layers().next().unwrap();
    let keys = numbered("key", 0..20);
    let keys: Vec<Key<'_>> = keys.iter().map(|key| filter.key(key)).collect();
    let (mut outcomes, mut effect) = (Vec::new(), Effect::default());
    let mut insert = |keys: &[Key<'_>]| {
        outcomes.clear();
        let ask = WithoutRights::Ask;
        (
            filter.insert(keys, ask, &mut outcomes, &mut effect),
            outcomes.len(),
        )
    };
    assert_eq!(insert(&keys), (Progress::NeedsRights, 0));
    assert_eq!(layer.held(), 100);
    let draw = layer.draw(16).unwrap();
    assert_eq!((draw.count, draw.total, layer.held()), (16, 16, 84));
    assert_eq!(
        insert(&keys),
        (Progress::NeedsRights, 0),
        "not before it is logged"
    );
    layer.release(draw.count);
    assert_eq!(insert(&keys), (Progress::NeedsRights, 16));
    assert_eq!((layer.inserted(), layer.available()), (16, 0));
    let revision = layer.revision();
    assert_eq!(layer.grant(&[(Origin::new([2; 16]), 80)])[0].total, 80);
    assert!(layer.revision() > revision);
    assert_eq!((layer.held(), layer.draw(16).unwrap().count), (4, 4));
    assert_eq!(layer.draw(16), None);

    // The next life knows what was drawn, and spends none of it again.
    let next = Filter::new(parameters, SEED, ME).with_spending(Spending::Drawn);
    let copy = next.add_layer(layer.shape()).unwrap();
    copy.merge_rights(&layer.rights()).unwrap();
    assert_eq!((copy.held(), copy.available(), copy.inserted()), (0, 0, 20));
    copy.observe_grant(
        Origin::new([2; 16]),
        &[Share {
            taker: ME,
            total: 7,
        }],
    );
    assert_eq!((copy.held(), copy.available()), (7, 0));
}

#[test]
fn replay_restores_bits_and_counters_once_or_twice() {
    let filter = filter(50, 0.001, Growth::By(2));
    let keys = numbered("key", 0..120);
    let (_, effect) = insert(&filter, &keys);
    let copy = Filter::new(filter.parameters(), SEED, ME);
    for _ in 0..2 {
        let mut hashes = effect.hashes.iter();
        for run in &effect.runs {
            let shape = filter.layer(run.layer).unwrap().shape();
            let layer = copy.add_layer(shape).unwrap();
            layer.apply_all(hashes.by_ref().take(run.count).copied());
            layer.observe_inserted(ME, run.inserted);
        }
    }
    assert!(contains(&copy, &keys).into_iter().all(|found| found));
    assert_eq!(copy.inserted(), filter.inserted());
    for (a, b) in copy.layers().zip(filter.layers()) {
        assert_eq!(words(a), words(b));
        assert_eq!(a.available(), b.available());
    }
}

fn words(layer: &Layer) -> Vec<u64> {
    let mut words = vec![0; layer.word_count()];
    layer.copy_words(0, &mut words);
    words
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_key_is_ever_lost(
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..300),
        capacity in 1..100u64,
        exponent in 1..9i32,
        growth in 1..5u32,
    ) {
        let filter = filter(capacity, 10f64.powi(-exponent), Growth::By(growth));
        // Growth by 1 with a tiny capacity runs out of layers: that is the caller's refusal.
        let room: u64 = (0..40).map(|index| capacity * u64::from(growth).pow(index.min(9))).sum();
        let keys = &keys[..keys.len().min(room as usize)];
        insert(&filter, keys);
        prop_assert!(contains(&filter, keys).into_iter().all(|found| found));
        let (again, _) = insert(&filter, keys);
        prop_assert!(again.into_iter().all(|outcome| outcome == Outcome::Seen));
    }

    #[test]
    fn merging_bits_is_a_join(
        sets in prop::collection::vec(prop::collection::vec(any::<u64>(), 0..60), 3),
        error in prop_oneof![Just(0.1), Just(0.01), Just(1e-4)],
    ) {
        let shape = Parameters { capacity: 100, error, growth: Growth::Fixed }.layer(0, ME, 1).unwrap();
        let layer = |keys: &[u64]| {
            let layer = Layer::new(shape, ME).unwrap();
            keys.iter().for_each(|key| _ = layer.apply(SEED.hash(&key.to_le_bytes())));
            layer
        };
        let join = |a: &Layer, b: &Layer| {
            let joined = layer(&[]);
            joined.merge_words(0, &words(a));
            joined.merge_words(0, &words(b));
            joined
        };
        let (a, b, c) = (layer(&sets[0]), layer(&sets[1]), layer(&sets[2]));
        prop_assert_eq!(words(&join(&a, &a)), words(&a));
        prop_assert_eq!(words(&join(&a, &b)), words(&join(&b, &a)));
        prop_assert_eq!(words(&join(&join(&a, &b), &c)), words(&join(&a, &join(&b, &c))));
        let all: Vec<u64> = sets.concat();
        prop_assert_eq!(words(&join(&join(&a, &b), &c)), words(&layer(&all)));
        prop_assert!(!join(&a, &b).merge_words(0, &words(&a)));
    }
}
