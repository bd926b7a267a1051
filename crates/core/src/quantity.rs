//! Sizes, times and counts as people write them.

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

/// Units of counts, as powers of ten.
const COUNT_UNITS: [(char, u32); 5] = [('k', 3), ('K', 3), ('M', 6), ('G', 9), ('T', 12)];

/// How a count may be written, for messages and help.
pub const COUNT_FORMS: &str = "100000, 100_000, 100k or 1e5";

/// Reads a count: `1000000`, `1_000_000`, `100k`, `1.5M`, `1e6`. Nothing when it is no whole number
/// of at most 64 bits.
pub fn parse_count(text: &str) -> Option<u64> {
    let text = text.trim();
    let unit = COUNT_UNITS.iter().find(|(unit, _)| text.ends_with(*unit));
    let (number, power) = match (unit, text.split_once(['e', 'E'])) {
        (Some((unit, power)), None) => (text.strip_suffix(*unit)?, *power),
        (None, Some((number, power))) => {
            let power = power.strip_prefix('+').unwrap_or(power);
            (number, power.parse().ok()?)
        }
        (None, None) => (text, 0),
        (Some(_), Some(_)) => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let (whole, part) = (digits(whole)?, digits(part)?);
    let part = part.trim_end_matches('0');
    let shift = power.checked_sub(u32::try_from(part.len()).ok()?)?;
    let number: u64 = format!("{whole}{part}").parse().ok()?;
    if number == 0 {
        return Some(0);
    }
    number.checked_mul(10u64.checked_pow(shift)?)
}

/// Reads a count of at least 1.
///
/// # Errors
/// What it takes.
pub fn positive_count(text: &str) -> Result<u64, String> {
    let count = parse_count(text).filter(|count| *count > 0);
    count.ok_or_else(|| format!("it takes a whole number above 0, as {COUNT_FORMS}"))
}

/// Digits without the underscores between them.
fn digits(text: &str) -> Option<String> {
    let groups = text.split('_');
    let sound = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    groups.clone().all(sound).then(|| groups.collect())
}

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
pub fn parse_size(text: &str) -> Option<u64> {
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
pub fn show_size(bytes: u64) -> String {
    for (name, unit) in SIZE_UNITS {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

/// Reads a time: `500ms`, `1s`, `5m`, `1h`, `7d`. The unit is needed, except for `0`.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    if unit.is_empty() && number == 0 {
        return Some(Duration::ZERO);
    }
    let (_, millis) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*millis).map(Duration::from_millis)
}

/// Writes a time, cut to milliseconds, in the largest unit that divides it.
pub fn show_time(time: Duration) -> String {
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

    #[test]
    fn counts_take_the_forms_that_people_write() {
        for (text, count) in [
            ("0", 0),
            ("7", 7),
            ("1_000_000", 1_000_000),
            ("100k", 100_000),
            ("100K", 100_000),
            ("1.5M", 1_500_000),
            ("2G", 2_000_000_000),
            ("1e6", 1_000_000),
            ("1E+6", 1_000_000),
            ("2.50e3", 2500),
            (" 12 ", 12),
            ("1.0", 1),
            ("0e400", 0),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_count(text), Some(count), "{text:?}");
        }
        for wrong in [
            "",
            "k",
            "-1",
            "+1",
            "1.5",
            "1.2345k",
            "1e",
            "1e-3",
            "1e6k",
            "_1",
            "1_",
            "1__0",
            "1 000",
            "0x10",
            "1e400",
            "1KiB",
            "inf",
            "nan",
            "18446744073709551616",
            "1e20",
            ".5k",
            "1.k",
        ] {
            assert_eq!(parse_count(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = (parse_size(&text), parse_time(&text), parse_count(&text));
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
