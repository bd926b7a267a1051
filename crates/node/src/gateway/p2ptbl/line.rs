//! Rows of tables as lines of p2ptbl's, in packets and in files, and back.

use grapevine_core::table::{Content, Row, RowError, validate_key, validate_values};
use grapevine_core::wire::p2ptbl;
use grapevine_store::tables::KeyedRow;

/// Why a line is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// Its version is no signed number of 64 bits.
    #[error("a version is no number from -2^63 to 2^63 - 1")]
    Version,
    /// It cannot be a row of a table.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// The row that a line stands for. It does not expire: the line cannot say when.
pub(crate) fn read(line: &p2ptbl::Row<'_>) -> Result<KeyedRow, LineError> {
    let version = line.number().ok_or(LineError::Version)?;
    validate_key(line.key)?;
    validate_values(line.value)?;
    let row = Row {
        version,
        content: Content::Values(line.value.to_vec()),
        expires: None,
    };
    Ok((line.key.to_vec(), row))
}

/// The columns of the line for a row: its version, and its value, empty for a deletion: that
/// supersedes the value of the same version, also where there are no deletions. None for a row
/// that has expired: the line could not say so, and with an empty value it would be another row.
pub(super) fn columns(row: &Row, now_ms: u64) -> Option<(String, &[u8])> {
    if row.is_gone(now_ms) && !row.is_tombstone() {
        return None;
    }
    Some((row.version.to_string(), row.values().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<KeyedRow, LineError> {
        read(&p2ptbl::Row::parse(text.as_bytes()))
    }

    #[test]
    fn lines_become_rows_and_lines_again() {
        let (key, row) = line("k\t007\ta\tb ").expect("a row");
        assert_eq!((key.as_slice(), row.version), (&b"k"[..], 7));
        let columns = columns(&row, u64::MAX).expect("it does not expire");
        assert_eq!(columns, ("7".to_owned(), &b"a\tb "[..]));
        assert_eq!(line("k\t9223372036854775808\tv"), Err(LineError::Version));
        assert_eq!(line("k"), Err(LineError::Version));
        assert!(matches!(
            line("\t5\tv"),
            Err(LineError::Row(RowError::KeyLength(0)))
        ));
        assert!(matches!(line("k\t5\tv\0w"), Err(LineError::Row(_))));
    }

    #[test]
    fn a_deletion_has_an_empty_value_that_wins_over_the_one_before() {
        let deleted = Some(("5".to_owned(), &b""[..]));
        assert_eq!(columns(&Row::tombstone(5), 0), deleted);
        let (_, row) = line("k\t5\tvalue").expect("a row");
        let (_, empty) = line("k\t5\t").expect("a row");
        // What comes back does not bring the row back.
        assert!(empty.supersedes(&row) && Row::tombstone(5).supersedes(&empty));
    }

    #[test]
    fn what_has_expired_is_not_told() {
        let (_, mut row) = line("k\t5\tvalue").expect("a row");
        let told = row.clone();
        row.expires = Some(1000);
        assert!(columns(&row, 999).is_some());
        assert_eq!(columns(&row, 1000), None);
        assert!(
            row.supersedes(&told),
            "what comes back does not make it last"
        );
    }
}
