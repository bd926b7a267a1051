//! Which keys are asked for, in which order, and how they are written.
//!
//! The draws are our own few lines instead of a crate's, so that a seed names the same keys in
//! every later version: a result can be repeated.

use super::error::BenchError;

/// Order in which keys of the key space are used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Distribution {
    /// 0, 1, 2 … and again from 0.
    Sequential,
    /// Every key equally likely.
    Uniform,
    /// Key number r−1 in proportion to r to the power of −exponent.
    Zipf {
        /// Over 0.
        exponent: f64,
    },
}

/// SplitMix64 (Steele, Lea and Flood 2014): 64 bits of state, quick, good enough to draw load.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A generator of its own for each `stream` of one seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self { state: seed };
        let mixed = mixed.next() ^ stream;
        let mut state = Self { state: mixed };
        Self {
            state: state.next(),
        }
    }

    /// 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number from 0 up to but not including 1, with 53 random bits.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `bound`, by multiplication: the bias is `bound` in 2^64.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Zipf ranks in constant time and without a table, by rejection-inversion (Hörmann and
/// Derflinger 1996, "Rejection-inversion to generate variates from monotone discrete
/// distributions").
#[derive(Clone, Debug)]
pub(super) struct Zipf {
    ranks: u64,
    exponent: f64,
    area_first: f64,
    area_last: f64,
    shortcut: f64,
}

impl Zipf {
    /// Ranks 1 to `ranks`, rank r in proportion to r^−exponent.
    pub(super) fn new(ranks: u64, exponent: f64) -> Self {
        let mut zipf = Self {
            ranks,
            exponent,
            area_first: 0.0,
            area_last: 0.0,
            shortcut: 0.0,
        };
        zipf.area_first = zipf.area(1.5) - 1.0;
        zipf.area_last = zipf.area(ranks as f64 + 0.5);
        zipf.shortcut = 2.0 - zipf.area_inverse(zipf.area(2.5) - zipf.height(2.0));
        zipf
    }

    /// One rank, from 1.
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        loop {
            let area = self.area_last + random.fraction() * (self.area_first - self.area_last);
            let point = self.area_inverse(area);
            let rank = point.round().clamp(1.0, self.ranks as f64);
            let accepted =
                rank - point <= self.shortcut || area >= self.area(rank + 0.5) - self.height(rank);
            if accepted {
                return (rank as u64).min(self.ranks);
            }
        }
    }

    /// x^−exponent.
    fn height(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The area under `height` from 1 to x, also near exponent 1 where the power form divides by
    /// nothing.
    fn area(&self, x: f64) -> f64 {
        let log = x.ln();
        let power = (1.0 - self.exponent) * log;
        if power.abs() < 1e-9 {
            log
        } else {
            log * power.exp_m1() / power
        }
    }

    /// The x at which `area` is `area`.
    fn area_inverse(&self, area: f64) -> f64 {
        let slope = ((1.0 - self.exponent) * area).max(-1.0);
        let log = if slope.abs() < 1e-9 {
            area
        } else {
            area * slope.ln_1p() / slope
        };
        log.exp()
    }
}

/// How the number of a key becomes its bytes: prefix, zeros, decimal number; always one length.
#[derive(Clone, Debug)]
pub(super) struct KeyFormat {
    template: Vec<u8>,
}

impl KeyFormat {
    /// Keys of `length` bytes for numbers below `keys`.
    pub(super) fn new(prefix: &str, length: usize, keys: u64) -> Result<Self, BenchError> {
        let digits = keys.saturating_sub(1).max(1).ilog10() as usize + 1;
        let needed = prefix.len() + digits;
        if length < needed {
            return Err(BenchError::KeyLength { length, needed });
        }
        let mut template = prefix.as_bytes().to_vec();
        template.resize(length, b'0');
        Ok(Self { template })
    }

    /// Bytes of a key.
    pub(super) fn length(&self) -> usize {
        self.template.len()
    }

    /// Appends key `number` to `out`.
    pub(super) fn append(&self, mut number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.template);
        let mut digits = out.iter_mut().rev();
        while number > 0 {
            if let Some(digit) = digits.next() {
                *digit = b'0' + (number % 10) as u8;
            }
            number /= 10;
        }
    }
}

enum Order {
    Sequential { next: u64 },
    Uniform,
    Zipf(Zipf),
}

/// An endless supply of keys.
pub(super) struct KeySource {
    format: KeyFormat,
    keys: u64,
    order: Order,
    random: Random,
}

impl KeySource {
    /// Draws from `random`; sequential keys begin at number `first` of `keys`.
    pub(super) fn new(
        format: KeyFormat,
        keys: u64,
        distribution: Distribution,
        first: u64,
        random: Random,
    ) -> Self {
        let order = match distribution {
            Distribution::Sequential => Order::Sequential { next: first % keys },
            Distribution::Uniform => Order::Uniform,
            Distribution::Zipf { exponent } => Order::Zipf(Zipf::new(keys, exponent)),
        };
        Self {
            format,
            keys,
            order,
            random,
        }
    }

    /// Appends the next key to `out`.
    pub(super) fn append_next(&mut self, out: &mut Vec<u8>) {
        let number = self.next_number();
        self.format.append(number, out);
    }

    fn next_number(&mut self) -> u64 {
        match &mut self.order {
            Order::Sequential { next } => {
                let number = *next;
                *next = if number + 1 == self.keys {
                    0
                } else {
                    number + 1
                };
                number
            }
            Order::Uniform => self.random.below(self.keys),
            Order::Zipf(zipf) => zipf.draw(&mut self.random) - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn source(keys: u64, distribution: Distribution, first: u64) -> KeySource {
        let format = KeyFormat::new("k", 8, keys).unwrap();
        KeySource::new(format, keys, distribution, first, Random::new(7, 0))
    }

    #[test]
    fn keys_have_one_length_and_their_number() {
        let format = KeyFormat::new("key:", 10, 1_000_000).unwrap();
        for (number, key) in [
            (0, "key:000000"),
            (7, "key:000007"),
            (999_999, "key:999999"),
        ] {
            let mut out = b"x".to_vec();
            format.append(number, &mut out);
            assert_eq!(out, format!("x{key}").into_bytes());
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        assert!(KeyFormat::new("key:", 9, 100_000).is_ok());
        let error = KeyFormat::new("key:", 9, 100_001).unwrap_err();
        assert!(matches!(
            error,
            BenchError::KeyLength {
                length: 9,
                needed: 10
            }
        ));
        assert!(KeyFormat::new("", 1, 1).is_ok());
        assert!(KeyFormat::new("", 20, u64::MAX).is_ok());
    }

    #[test]
    fn sequential_keys_cover_the_space_and_start_over() {
        let mut source = source(100, Distribution::Sequential, 40);
        let numbers: Vec<u64> = (0..200).map(|_| source.next_number()).collect();
        assert_eq!(numbers[0], 40);
        assert_eq!(numbers[59..62], [99, 0, 1]);
        assert_eq!(numbers[..100].iter().collect::<BTreeSet<_>>().len(), 100);
        assert_eq!(numbers[..100], numbers[100..]);
    }

    #[test]
    fn uniform_keys_are_even() {
        let mut source = source(10, Distribution::Uniform, 0);
        let mut counts = [0_i64; 10];
        for _ in 0..100_000 {
            counts[source.next_number() as usize] += 1;
        }
        // Five standard deviations of a binomial (100000, 1/10).
        assert!(
            counts.iter().all(|count| (count - 10_000).abs() < 475),
            "{counts:?}"
        );
    }

    #[test]
    fn zipf_follows_its_law() {
        const DRAWS: u32 = 200_000;
        for exponent in [0.5, 0.99, 1.0, 1.5, 3.0] {
            let ranks = 1000;
            let zipf = Zipf::new(ranks, exponent);
            let mut random = Random::new(11, 3);
            let mut counts = vec![0_u32; ranks as usize + 1];
            for _ in 0..DRAWS {
                counts[zipf.draw(&mut random) as usize] += 1;
            }
            let total: f64 = (1..=ranks).map(|rank| (rank as f64).powf(-exponent)).sum();
            for rank in [1_usize, 2, 3, 10, 100, 1000] {
                let share = (rank as f64).powf(-exponent) / total;
                let expected = share * f64::from(DRAWS);
                let tolerance = 5.0 * (expected * (1.0 - share)).sqrt() + 3.0;
                let seen = f64::from(counts[rank]);
                assert!(
                    (seen - expected).abs() < tolerance,
                    "exponent {exponent}, rank {rank}: {seen} seen, {expected} expected"
                );
            }
            assert_eq!(counts[0], 0);
        }
    }

    #[test]
    fn zipf_stays_in_range_at_the_edges() {
        let mut random = Random::new(1, 1);
        for (ranks, exponent) in [(1, 1.0), (2, 10.0), (u64::MAX, 0.01), (u64::MAX, 1.0)] {
            let zipf = Zipf::new(ranks, exponent);
            for _ in 0..1000 {
                assert!((1..=ranks).contains(&zipf.draw(&mut random)));
            }
        }
    }

    #[test]
    fn streams_of_a_seed_differ_and_repeat() {
        let draw = |seed, stream| Random::new(seed, stream).next();
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        assert_ne!(draw(1, 0), draw(2, 0));
    }
}
