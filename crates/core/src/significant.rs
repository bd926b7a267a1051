//! Fractions as people read them.

use std::fmt;

/// A number shown to six significant digits: `0.9 * 0.001` is `0.0009` and not
/// `0.0009000000000000001`. Below a millionth the exponent is written, as `9e-10`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Significant(pub f64);

/// Smallest number that is written without an exponent.
const PLAIN_MIN: f64 = 1e-6;

impl fmt::Display for Significant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = format!("{:.5e}", self.0).parse().unwrap_or(self.0);
        if rounded != 0.0 && f64::abs(rounded) < PLAIN_MIN {
            write!(f, "{rounded:e}")
        } else {
            write!(f, "{rounded}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_of_binary_fractions_is_left_out() {
        for (number, shown) in [
            (0.9 * 0.001, "0.0009"),
            (0.1 + 0.2, "0.3"),
            (1.0 / 3.0, "0.333333"),
            (9e-10 * 1.0000000001, "9e-10"),
            (0.0, "0"),
            (123_456_789.0, "123457000"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(Significant(number).to_string(), shown);
        }
    }
}
