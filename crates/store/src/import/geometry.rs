//! How a C `bloomd` sizes its layers: capacity, length and number of hashes of layer *i*, from
//! the filter's parameters. Protocol notes of `bloomd`, section 6.

use super::bloomd_config::FilterConfig;
use grapevine_core::filter::legacy::{BloomdLayer, HEADER_BYTES};
use std::f64::consts::LN_2;

/// Keys that layer `index` is made for.
pub(super) fn capacity(config: &FilterConfig, index: u32) -> u64 {
    let growth = u64::from(config.scale_size).saturating_pow(index);
    config.initial_capacity.saturating_mul(growth)
}

/// Keys that the first `layers` layers are made for.
pub(super) fn total_capacity(config: &FilterConfig, layers: u32) -> u64 {
    (0..layers)
        .map(|index| capacity(config, index))
        .fold(0, u64::saturating_add)
}

/// Hashes per key of a layer file of `length` bytes for `capacity` keys, which is above 0.
pub(super) fn hashes(length: u64, capacity: u64) -> u32 {
    (LN_2 * bits(length) / capacity as f64).round() as u32
}

fn bits(length: u64) -> f64 {
    length.saturating_sub(HEADER_BYTES as u64) as f64 * 8.0
}

/// Half of the last decimal with which the server writes rates.
const ROUNDING: f64 = 0.5e-6;
/// Bytes by which another machine's logarithm may move a file's length.
const LENGTH_SLACK_BYTES: u64 = 8;

/// Least and most bytes of layer `index`, from rates that are known to 6 decimals only. A rate
/// that was rounded to zero says nothing; the total and the number of hashes still do.
pub(super) fn length(config: &FilterConfig, index: u32) -> (u64, u64) {
    if config.default_probability < ROUNDING {
        return (0, u64::MAX);
    }
    let capacity = capacity(config, index) as f64;
    let (mut min, mut max) = (u64::MAX, 0);
    for probability_off in [-ROUNDING, ROUNDING] {
        for reduction_off in [-ROUNDING, ROUNDING] {
            let reduction = config.probability_reduction + reduction_off;
            let probability = config.default_probability + probability_off;
            let own = probability * (1.0 - reduction) * reduction.powi(index as i32);
            let bits = -capacity * own.ln() / LN_2.powi(2);
            // A rate that the rounding takes below zero has no logarithm and so no bound.
            let bytes = if bits.is_finite() {
                (bits.ceil() / 8.0).ceil() as u64
            } else {
                u64::MAX
            };
            (min, max) = (min.min(bytes), max.max(bytes));
        }
    }
    let header = HEADER_BYTES as u64;
    let least = min
        .saturating_add(header)
        .saturating_sub(LENGTH_SLACK_BYTES);
    (least, max.saturating_add(header + LENGTH_SLACK_BYTES))
}

/// The filter's error rate: as written, or where rounding left nothing of it, as the first layer
/// was sized for it.
pub(super) fn error_rate(config: &FilterConfig, first: Option<&BloomdLayer>) -> Option<f64> {
    if config.default_probability >= ROUNDING {
        return Some(config.default_probability);
    }
    let first = first?;
    let own = (-bits(first.bytes()) / first.capacity() as f64 * LN_2.powi(2)).exp();
    Some(own / (1.0 - config.probability_reduction)).filter(|rate| *rate > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(initial_capacity: u64, default_probability: f64) -> FilterConfig {
        FilterConfig {
            initial_capacity,
            default_probability,
            scale_size: 4,
            probability_reduction: 0.9,
            in_memory: false,
            size: 0,
            capacity: 0,
            bytes: 0,
        }
    }

    /// The lengths and hashes of layers that the C server made.
    #[test]
    fn layers_have_the_lengths_the_server_gave_them() {
        let made = [
            (100_000, 1e-4, 0, 300_046, 17),
            (10_001, 0.01, 0, 18_486, 10),
            (20_000, 1e-5, 0, 72_400, 20),
        ];
        for (keys, rate, index, bytes, k) in made {
            let config = config(keys, rate);
            let (min, max) = length(&config, index);
            assert!(
                (min..=max).contains(&bytes),
                "{bytes} is not in {min} to {max}"
            );
            assert_eq!(hashes(bytes, capacity(&config, index)), k);
        }
    }

    #[test]
    fn the_range_is_narrow_where_six_decimals_say_much() {
        let (min, max) = length(&config(1_000_000, 0.01), 2);
        assert!(max - min < max / 10_000, "{min} to {max}");
        // One millionth may have been half of that or half as much again.
        let (min, max) = length(&config(1_000_000, 1e-6), 0);
        assert!(max > min + min / 50, "{min} to {max}");
        assert_eq!(length(&config(1_000_000, 0.0), 0), (0, u64::MAX));
    }

    #[test]
    fn capacities_grow_and_saturate() {
        let config = config(10_001, 0.01);
        assert_eq!(
            [0, 1, 2].map(|i| capacity(&config, i)),
            [10_001, 40_004, 160_016]
        );
        assert_eq!(total_capacity(&config, 3), 210_021);
        assert_eq!(capacity(&config, 31), u64::MAX);
        assert_eq!(total_capacity(&config, 32), u64::MAX);
    }
}
