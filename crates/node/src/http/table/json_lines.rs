//! Tables as files of JSON objects, one a line: a row as the API describes it, with its expiry.
//!
//! `encoded` and `values_encoded` carry any bytes; where they are absent or null, `key` and `values`
//! count as they are. `version` is a string or a whole number, `expires` milliseconds since 1970 or
//! null.

use grapevine_core::limits::{TABLE_KEY_BYTES_MAX, TABLE_VALUES_BYTES_MAX};
use grapevine_core::table::{Content, Row, validate_key};
use grapevine_store::tables::KeyedRow;
use serde::Deserialize;

use super::super::name;
use super::lines::LineError;
use super::rows::describe;

/// Longest line, in bytes: a row in its longest writing, text and percent-encoded, and some blanks.
pub(super) const LINE_BYTES_MAX: usize = 10 * (TABLE_KEY_BYTES_MAX + TABLE_VALUES_BYTES_MAX);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    key: Option<String>,
    encoded: Option<String>,
    version: Version,
    values: Option<Vec<String>>,
    values_encoded: Option<Vec<String>>,
    expires: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    Number(i64),
    Text(String),
}

impl JsonRow {
    fn read(self) -> Result<KeyedRow, String> {
        let key = match (&self.encoded, &self.key) {
            (Some(encoded), _) => name::decode(encoded).ok_or("encoded is not percent-encoded")?,
            (None, Some(key)) => key.clone().into_bytes(),
            (None, None) => return Err("it has neither key nor encoded".to_owned()),
        };
        validate_key(&key).map_err(|error| error.to_string())?;
        let columns: Vec<Vec<u8>> = match (self.values_encoded, self.values) {
            (Some(encoded), _) => {
                let decoded = encoded.iter().map(|value| name::decode(value));
                let decoded: Option<_> = decoded.collect();
                decoded.ok_or("values_encoded is not percent-encoded")?
            }
            (None, Some(values)) => values.into_iter().map(String::into_bytes).collect(),
            (None, None) => return Err("it has neither values nor values_encoded".to_owned()),
        };
        if columns.is_empty() {
            return Err("it has no value; one may be empty".to_owned());
        }
        if let Some(at) = columns.iter().position(|column| column.contains(&b'\t')) {
            let number = at + 1;
            return Err(format!(
                "value {number} holds a tab, which separates values"
            ));
        }
        let version = match self.version {
            Version::Number(version) => version,
            Version::Text(text) => text.parse().map_err(|_| {
                let (least, most) = (i64::MIN, i64::MAX);
                format!("the version is no whole number from {least} to {most}")
            })?,
        };
        let row = Row {
            version,
            content: Content::Values(columns.join(&b'\t')),
            expires: self.expires,
        };
        row.validate().map_err(|error| error.to_string())?;
        Ok((key, row))
    }
}

/// The row of a line; none of an empty one.
pub(super) fn row(text: &[u8], line: u64) -> Result<Option<KeyedRow>, LineError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let read = serde_json::from_slice(text).map_err(|error| error.to_string());
    let row = read.and_then(JsonRow::read);
    row.map(Some).map_err(|what| LineError::Json { line, what })
}

/// Writes a row as a line; nothing for one without values.
pub(super) fn write_line(text: &mut Vec<u8>, key: &[u8], row: &Row) {
    if row.values().is_some() {
        text.extend_from_slice(describe(key, row).to_string().as_bytes());
        text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<KeyedRow, String> {
        let read = row(text.as_bytes(), 3);
        read.map(|row| row.expect("a row"))
            .map_err(|error| error.to_string())
    }

    fn keyed(key: &[u8], version: i64, values: &[u8], expires: Option<u64>) -> KeyedRow {
        let row = Row {
            version,
            content: Content::Values(values.to_vec()),
            expires,
        };
        (key.to_vec(), row)
    }

    #[test]
    fn a_line_by_hand_is_a_row() {
        let text = r#"{"key": "k", "version": -7, "values": ["a", ""], "expires": 9}"#;
        assert_eq!(read(text), Ok(keyed(b"k", -7, b"a\t", Some(9))));
        let text = r#"{"encoded":"%FF","key":"?","version":"9223372036854775807","values":["?"],"values_encoded":["%FE"]}"#;
        assert_eq!(read(text), Ok(keyed(b"\xff", i64::MAX, b"\xfe", None)));
        assert_eq!(row(b" ", 1), Ok(None));
    }

    #[test]
    fn what_is_no_row_is_refused_with_its_line() {
        for (text, said) in [
            ("x", "expected value"),
            (r#"{"key":"k","values":["v"]}"#, "missing field `version`"),
            (r#"{"version":1,"values":["v"]}"#, "neither key nor encoded"),
            (r#"{"key":"k","version":1}"#, "neither values nor"),
            (r#"{"key":"k","version":1,"values":[]}"#, "no value"),
            (
                r#"{"key":"k","version":"x","values":["v"]}"#,
                "no whole number",
            ),
            (
                r#"{"key":"k","version":1,"values":["a\tb"]}"#,
                "value 1 holds a tab",
            ),
            (r#"{"key":"k","version":1,"values":["a\n"]}"#, "line feed"),
            (r#"{"key":"","version":1,"values":["v"]}"#, "not 0"),
            (
                r#"{"encoded":"%4","version":1,"values":["v"]}"#,
                "not percent-encoded",
            ),
            (
                r#"{"key":"k","version":1,"values":["v"],"ttl":1}"#,
                "unknown field `ttl`",
            ),
        ] {
            let refused = read(text).expect_err(text);
            assert!(
                refused.starts_with("line 3: ") && refused.contains(said),
                "{refused}"
            );
        }
    }

    fn bytes(least: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<u8>().prop_filter("of a key", |byte| !b"\t\n\r\0".contains(byte));
        proptest::collection::vec(byte, least..40)
    }

    proptest! {
        #[test]
        fn any_row_comes_back(
            key in bytes(1),
            columns in proptest::collection::vec(bytes(0), 1..4),
            version: i64,
            expires: Option<u64>,
        ) {
            let row_of = keyed(&key, version, &columns.join(&b'\t'), expires);
            let mut text = Vec::new();
            write_line(&mut text, &row_of.0, &row_of.1);
            prop_assert_eq!(text.pop(), Some(b'\n'));
            prop_assert!(!text.contains(&b'\n'));
            prop_assert_eq!(row(&text, 1), Ok(Some(row_of)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(row(&text, 1));
        }
    }

    #[test]
    fn the_longest_row_fits_a_line() {
        let (key, values) = (
            vec![0xff; TABLE_KEY_BYTES_MAX],
            vec![1; TABLE_VALUES_BYTES_MAX - 1],
        );
        let values = [&values[..], b"\xff"].concat();
        let tabs = vec![b'\t'; TABLE_VALUES_BYTES_MAX];
        for values in [values, tabs] {
            let mut text = Vec::new();
            let (key, row) = keyed(&key, i64::MIN, &values, Some(u64::MAX));
            write_line(&mut text, &key, &row);
            assert!(text.len() <= LINE_BYTES_MAX, "{}", text.len());
        }
    }
}
