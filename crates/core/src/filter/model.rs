//! The exact false-positive model of a blocked Bloom filter: how likely it is that all probed
//! bits of an absent key are set, given how many keys a line holds on average.
//!
//! A line of 512 cells receives `X` keys, `X` Poisson-distributed (Putze, Sanders and Singler
//! 2007); each key throws `b` bits into it with replacement. After `s` throws the number of
//! occupied cells follows the classical occupancy distribution, so the chance that `k` further
//! throws all hit occupied cells is its `k`-th moment, tabulated once per process below.

use std::sync::OnceLock;

/// Cells in a line: one cache line of bits.
pub(super) const LINE_BITS: u64 = 512;
/// Most bits one key may set in one line.
pub(super) const BITS_PER_LINE_MAX: usize = 16;
/// Throws covered by the table; more leave a line so full that it is of no use.
const THROWS_MAX: usize = 2048;

/// Numbers of keys that are less likely than this, compared with the likeliest, do not count.
const WEIGHT_MIN: f64 = 1e-32;

/// `moments[s][k]`: expectation of (occupied share)^k after `s` throws.
fn moments() -> &'static [[f64; BITS_PER_LINE_MAX + 1]] {
    static TABLE: OnceLock<Vec<[f64; BITS_PER_LINE_MAX + 1]>> = OnceLock::new();
    TABLE.get_or_init(occupancy_moments)
}

fn occupancy_moments() -> Vec<[f64; BITS_PER_LINE_MAX + 1]> {
    let cells = LINE_BITS as usize;
    let mut occupied = vec![0.0f64; cells + 1];
    occupied[0] = 1.0;
    let mut table = Vec::with_capacity(THROWS_MAX + 1);
    for throw in 0..=THROWS_MAX {
        let mut row = [0.0; BITS_PER_LINE_MAX + 1];
        for (count, probability) in occupied.iter().enumerate().take(throw.min(cells) + 1) {
            let share = count as f64 / cells as f64;
            let mut power = *probability;
            for moment in &mut row {
                *moment += power;
                power *= share;
            }
        }
        table.push(row);
        for count in (0..=cells).rev() {
            let stays = occupied[count] * count as f64 / cells as f64;
            let grows = match count {
                0 => 0.0,
                _ => occupied[count - 1] * (cells - count + 1) as f64 / cells as f64,
            };
            occupied[count] = stays + grows;
        }
    }
    table
}

/// The chance that `bits` probes of one line all hit set bits, where the line holds on average
/// `load` keys of `bits` bits each.
pub(super) fn line_false_positive(load: f64, bits: usize) -> f64 {
    let table = moments();
    let hit = |keys: usize| table[keys.saturating_mul(bits).min(THROWS_MAX)][bits];
    // Outwards from the likeliest number of keys, whose weight is 1 until all are added up.
    let mode = load as usize;
    let (mut weights, mut hits) = (1.0, hit(mode));
    let mut weight = 1.0;
    let mut keys = mode;
    while keys > 0 && weight > WEIGHT_MIN {
        weight *= keys as f64 / load;
        keys -= 1;
        weights += weight;
        hits += weight * hit(keys);
    }
    weight = 1.0;
    keys = mode;
    while weight > WEIGHT_MIN {
        keys += 1;
        weight *= load / keys as f64;
        weights += weight;
        hits += weight * hit(keys);
    }
    (hits / weights).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_answers_no_and_a_full_one_yes() {
        assert!(line_false_positive(0.0, 4) < 1e-12);
        assert!(line_false_positive(1000.0, 4) > 0.5);
    }

    #[test]
    fn more_load_means_more_false_positives() {
        let mut before = 0.0;
        for load in 1..200 {
            let now = line_false_positive(f64::from(load), 6);
            assert!(now > before, "load {load}: {now} after {before}");
            before = now;
        }
    }
}
