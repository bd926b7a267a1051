//! Sizes and times as people write them: a whole number and a unit.

use std::time::Duration;

const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Units of time in milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Splits `12 MiB` into its number and its unit; refuses signs, fractions and overflow.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Reads a size in bytes: `64MiB`, `512 KiB`, `1000B`, or plain bytes.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    if unit.is_empty() {
        return Some(number);
    }
    let (_, bytes) = SIZE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*bytes)
}

/// Writes a size in the largest unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    for (name, unit) in SIZE_UNITS {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

/// Reads a time: `500ms`, `1s`, `5m`, `1h`, `7d`. The unit is needed, except for `0`.
pub(crate) fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    if unit.is_empty() && number == 0 {
        return Some(Duration::ZERO);
    }
    let (_, millis) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

/// Writes a time, cut to milliseconds, in the largest unit that divides it.
pub(crate) fn show_time(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    for (name, unit) in TIME_UNITS {
        if millis >= unit && millis.is_multiple_of(unit) {
            return format!("{}{name}", millis / unit);
        }
    }
    format!("{millis}ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_take_binary_units_and_plain_bytes() {
        assert_eq!(parse_size("1000"), Some(1000));
        assert_eq!(parse_size("7B"), Some(7));
        assert_eq!(parse_size("64KiB"), Some(64 << 10));
        assert_eq!(parse_size(" 16 mib "), Some(16 << 20));
        assert_eq!(parse_size("3GiB"), Some(3 << 30));
        assert_eq!(parse_size("2TiB"), Some(2 << 40));
        for wrong in [
            "",
            "MiB",
            "1.5MiB",
            "-1",
            "+1",
            "1MB",
            "1K",
            "16777216TiB",
            "1MiB x",
        ] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn times_need_a_unit_but_for_zero() {
        assert_eq!(parse_time("0"), Some(Duration::ZERO));
        assert_eq!(parse_time("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_time("2s"), Some(Duration::from_secs(2)));
        assert_eq!(parse_time("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_time("1 h"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_time("2d"), Some(Duration::from_secs(172_800)));
        for wrong in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "1M",
            "99999999999999999d",
            "1h30m",
        ] {
            assert_eq!(parse_time(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = (parse_size(&text), parse_time(&text));
        }

        #[test]
        fn sizes_read_back_as_written(bytes in any::<u64>(), shift in 0u32..64) {
            let bytes = bytes >> shift;
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
            let round = bytes >> 24 << 20;
            prop_assert_eq!(parse_size(&show_size(round)), Some(round));
        }

        #[test]
        fn times_read_back_as_written(millis in any::<u64>(), shift in 0u32..64) {
            let time = Duration::from_millis(millis >> shift);
            prop_assert_eq!(parse_time(&show_time(time)), Some(time));
        }
    }
}
