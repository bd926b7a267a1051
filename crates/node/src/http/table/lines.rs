//! Tables as files of lines, the format of p2ptbl: `KEY TAB VERSION TAB VALUE…`. The version is a
//! decimal number of 64 bits with a sign, the value the rest of the line, whose own tabs separate
//! columns. No escapes, no header; a line may lack its last tab. Empty lines are skipped.

use grapevine_core::limits::{TABLE_KEY_BYTES_MAX, TABLE_VALUES_BYTES_MAX};
use grapevine_core::table::{Row, RowError};
use grapevine_core::wire::p2ptbl;
use grapevine_store::tables::KeyedRow;

use super::json_lines;
use crate::gateway::p2ptbl::line;

/// How much of a version that is none is repeated, in bytes.
const VERSION_BYTES_SHOWN: usize = 64;
/// Longest line, in bytes, with some zeros in front of its version.
const LINE_BYTES_MAX: usize =
    TABLE_KEY_BYTES_MAX + VERSION_BYTES_SHOWN + TABLE_VALUES_BYTES_MAX + 2;

/// Why a line is no row.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(in super::super) enum LineError {
    #[error("line {line} has no tab: a row is KEY, VERSION and values, separated by tabs")]
    NoVersion { line: u64 },
    #[error(
        "line {line}: the version \"{text}\" is no whole number from {} to {}",
        i64::MIN,
        i64::MAX
    )]
    Version { line: u64, text: String },
    #[error("line {line}: {source}")]
    Row { line: u64, source: RowError },
    #[error("line {line}: {what}")]
    Json { line: u64, what: String },
    #[error("line {line} is longer than {limit} bytes")]
    TooLong { line: u64, limit: usize },
}

/// How rows stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// As p2ptbl's files have them.
    P2ptbl,
    /// See `json_lines.rs`.
    JsonLines,
}

impl Format {
    /// The format of that name.
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"p2ptbl" => Some(Format::P2ptbl),
            b"jsonl" => Some(Format::JsonLines),
            _ => None,
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Format::P2ptbl => "text/tab-separated-values",
            Format::JsonLines => "application/x-ndjson",
        }
    }

    fn line_bytes_max(self) -> usize {
        match self {
            Format::P2ptbl => LINE_BYTES_MAX,
            Format::JsonLines => json_lines::LINE_BYTES_MAX,
        }
    }

    fn row(self, text: &[u8], line: u64) -> Result<Option<KeyedRow>, LineError> {
        match self {
            Format::P2ptbl => row(text, line),
            Format::JsonLines => json_lines::row(text, line),
        }
    }

    /// Writes a row as a line; nothing for one without values.
    pub(super) fn write_line(self, text: &mut Vec<u8>, key: &[u8], row: &Row) {
        match self {
            Format::P2ptbl => write_line(text, key, row),
            Format::JsonLines => json_lines::write_line(text, key, row),
        }
    }
}

/// Takes pieces of a file, gives rows. Of what has come, no more than one unfinished line is kept.
#[derive(Debug)]
pub(super) struct RowLines {
    format: Format,
    carry: Vec<u8>,
    /// Number of the line that begins in `carry`.
    line: u64,
}

impl RowLines {
    /// A file, or a part of one, whose first line has that number.
    pub(super) fn new(format: Format, first: u64) -> Self {
        RowLines {
            format,
            carry: Vec::new(),
            line: first,
        }
    }

    /// Takes the next piece. Rows before a fault are given.
    pub(super) fn feed(
        &mut self,
        mut piece: &[u8],
        rows: &mut Vec<KeyedRow>,
    ) -> Result<(), LineError> {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            if self.carry.is_empty() {
                rows.extend(self.format.row(line, self.line)?);
            } else {
                self.keep(line)?;
                rows.extend(self.format.row(&self.carry, self.line)?);
                self.carry.clear();
            }
            self.line += 1;
            piece = rest;
        }
        self.keep(piece)
    }

    /// Takes the end of the file.
    pub(super) fn finish(&mut self, rows: &mut Vec<KeyedRow>) -> Result<(), LineError> {
        rows.extend(self.format.row(&self.carry, self.line)?);
        self.carry.clear();
        Ok(())
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), LineError> {
        let limit = self.format.line_bytes_max();
        if self.carry.len() + part.len() > limit {
            let line = self.line;
            return Err(LineError::TooLong { line, limit });
        }
        self.carry.extend_from_slice(part);
        Ok(())
    }
}

/// The row of a line; none of an empty one.
fn row(text: &[u8], line: u64) -> Result<Option<KeyedRow>, LineError> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.contains(&p2ptbl::SEPARATOR) {
        return Err(LineError::NoVersion { line });
    }
    let columns = p2ptbl::Row::parse(text);
    let row = line::read(&columns).map_err(|why| match why {
        line::LineError::Version => {
            let shown = columns.version.len().min(VERSION_BYTES_SHOWN);
            LineError::Version {
                line,
                text: columns.version[..shown].escape_ascii().to_string(),
            }
        }
        line::LineError::Row(source) => LineError::Row { line, source },
    })?;
    Ok(Some(row))
}

/// Writes a row as a line; nothing for one without values.
fn write_line(text: &mut Vec<u8>, key: &[u8], row: &Row) {
    let Some(value) = row.values() else { return };
    let version = row.version.to_string();
    let line = p2ptbl::Row {
        key,
        version: version.as_bytes(),
        value,
    };
    line.encode(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use grapevine_core::table::Content;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]]) -> (Vec<KeyedRow>, Result<(), LineError>) {
        let (mut lines, mut rows) = (RowLines::new(Format::P2ptbl, 1), Vec::new());
        for piece in pieces {
            if let Err(error) = lines.feed(piece, &mut rows) {
                return (rows, Err(error));
            }
        }
        let ended = lines.finish(&mut rows);
        (rows, ended)
    }

    fn expected(key: &str, version: i64, values: &str) -> KeyedRow {
        let row = Row {
            version,
            content: Content::Values(values.into()),
            expires: None,
        };
        (key.into(), row)
    }

    #[test]
    fn lines_are_rows() {
        let text = b"a\t5\tx\ty\n\nb b\t-3\t\nc\t+7\nd\t007\t v ";
        let rows = vec![
            expected("a", 5, "x\ty"),
            expected("b b", -3, ""),
            expected("c", 7, ""),
            expected("d", 7, " v "),
        ];
        assert_eq!(read(&[text]), (rows, Ok(())));
    }

    #[test]
    fn what_is_no_row_is_refused_with_its_line_and_what_came_before_is_given() {
        let long_key = [&vec![b'k'; 1025][..], b"\t1\tv"].concat();
        let long_values = [b"k\t1\t", &vec![b'v'; (64 << 10) + 1][..]].concat();
        for (line, said) in [
            (&b"x"[..], "has no tab"),
            (b"\t1\tv", "a key has 1 to 1024 bytes, not 0"),
            (b"k\t\tv", "the version \"\" is no whole number"),
            (b"k\t9223372036854775808\tv", "to 9223372036854775807"),
            (b"k\t0x10\tv", "the version \"0x10\""),
            (b"k\t1\tv\r", "0x0d at 1"),
            (b"k\0\t1\tv", "0x00 at 1"),
            (&long_key, "not 1025"),
            (&long_values, "at most 65536 bytes, not 65537"),
            (&vec![b'x'; 200_000], "is longer than 66626 bytes"),
            (&[b"k\t", &[b'9'; 65][..]].concat(), "the version"),
        ] {
            let text = [b"a\t1\t\n\n", line, b"\nb\t1\t\n"].concat();
            let pieces: Vec<&[u8]> = text.chunks(1000).collect();
            let (rows, ended) = read(&pieces);
            assert_eq!(rows, [expected("a", 1, "")]);
            let said_is = ended.map_err(|error| error.to_string());
            let said_is = said_is.expect_err("no row");
            assert!(
                said_is.starts_with("line 3") && said_is.contains(said),
                "{said_is}"
            );
        }
        let largest = read(&[b"k\t9223372036854775807\tv"]).0;
        assert_eq!(largest, [expected("k", i64::MAX, "v")]);
    }

    proptest! {
        #[test]
        fn rows_come_back_however_the_file_is_cut(
            rows in proptest::collection::vec(("[^\t\n\r\0]{1,9}", any::<i64>(), "[^\n\r\0]{0,9}"), 0..9),
            size in 1usize..20,
        ) {
            let rows: Vec<KeyedRow> = rows.iter().map(|(k, n, v)| expected(k, *n, v)).collect();
            let mut text = Vec::new();
            for (key, row) in &rows {
                write_line(&mut text, key, row);
            }
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            prop_assert_eq!(read(&pieces), (rows, Ok(())));
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&[&text]));
        }
    }
}
