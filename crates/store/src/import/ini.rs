//! The INI dialect of the C servers' files.
//!
//! `[section]`, `name = value` or `name: value`, comments that start a line with `;` or `#` or
//! follow a blank with `;`. Names and sections are compared without regard to case. Indentation
//! means nothing (the C parser takes an indented line for the previous name's next value, which
//! no file of these servers uses on purpose).

/// Largest INI file: 64 KiB; the servers' own have a few hundred bytes.
pub(super) const INI_BYTES_MAX: usize = 64 << 10;

/// One line that says something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) content: Content<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// `name = value`, in the latest section (empty before the first).
    Pair {
        section: &'a str,
        name: &'a str,
        value: &'a str,
    },
    /// Neither a section nor a pair.
    Malformed(&'a str),
}

/// The lines of `text` that are pairs or malformed, in order. Allocates nothing.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut section = "";
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            return None;
        }
        let content = match line.strip_prefix('[') {
            Some(rest) => match rest.split_once(']') {
                Some((name, _)) => {
                    section = name.trim();
                    return None;
                }
                None => Content::Malformed(line),
            },
            None => pair(section, line),
        };
        Some(Line {
            number: index + 1,
            content,
        })
    })
}

fn pair<'a>(section: &'a str, line: &'a str) -> Content<'a> {
    let line = without_comment(line);
    match line.split_once(['=', ':']) {
        Some((name, value)) => Content::Pair {
            section,
            name: name.trim(),
            value: value.trim(),
        },
        None => Content::Malformed(line),
    }
}

/// The line up to a `;` that follows a blank.
fn without_comment(line: &str) -> &str {
    let mut after_blank = false;
    for (at, c) in line.char_indices() {
        if c == ';' && after_blank {
            return line[..at].trim_end();
        }
        after_blank = c.is_whitespace();
    }
    line
}

/// What C's `strtoll` reads: the sign and digits in front, whatever follows them. None without
/// a digit or beyond 64 bits.
pub(super) fn leading_integer(value: &str) -> Option<i64> {
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let sign = value.len() - digits.len();
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    value[..sign + count].parse().ok()
}

/// What C's `strtod` reads of a decimal number: its longest prefix that is one.
pub(super) fn leading_decimal(value: &str) -> Option<f64> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    let end = value.find(|c| !is_part(c)).unwrap_or(value.len());
    // No number needs more; the bound keeps the search below linear.
    let end = end.min(DECIMAL_BYTES_MAX);
    (1..=end)
        .rev()
        .find_map(|end| value[..end].parse::<f64>().ok())
        .filter(|v| v.is_finite())
}

/// Longest decimal number read.
const DECIMAL_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(usize, &str, &str, &str)> {
        lines(text)
            .map(|line| match line.content {
                Content::Pair {
                    section,
                    name,
                    value,
                } => (line.number, section, name, value),
                Content::Malformed(text) => (line.number, "malformed", text, ""),
            })
            .collect()
    }

    #[test]
    fn sections_pairs_and_comments() {
        let text = "\u{feff}; note\n# note\n\nearly=1\r\n[ bloomd ] ; note\n a = b ; note\r\n\
                    c:d;e\nurl = x=y ;\n[open\nword ; note\n[other]\nz =\n";
        let expected = [
            (4, "", "early", "1"),
            (6, "bloomd", "a", "b"),
            (7, "bloomd", "c", "d;e"),
            (8, "bloomd", "url", "x=y"),
            (9, "malformed", "[open", ""),
            (10, "malformed", "word", ""),
            (12, "other", "z", ""),
        ];
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        let integers = [
            ("20000xyz", 20_000),
            ("1e6", 1),
            ("-5", -5),
            ("+7", 7),
            ("60 s", 60),
        ];
        for (text, number) in integers {
            assert_eq!(leading_integer(text), Some(number), "{text}");
        }
        for text in ["", "x1", "-", "é", "99999999999999999999"] {
            assert_eq!(leading_integer(text), None, "{text}");
        }
        let decimals = [
            ("0.01", 0.01),
            ("1e-4", 1e-4),
            (".5x", 0.5),
            ("1e", 1.0),
            ("-1-", -1.0),
        ];
        for (text, number) in decimals {
            assert_eq!(leading_decimal(text), Some(number), "{text}");
        }
        for text in ["", "e", "nan", "inf", "é1", "1e999"] {
            assert_eq!(leading_decimal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,80}(\n\\PC{0,40}){0,6}") {
            let count = text.lines().count();
            prop_assert!(lines(&text).all(|line| line.number <= count));
            let _ = (leading_integer(&text), leading_decimal(&text));
        }
    }
}
