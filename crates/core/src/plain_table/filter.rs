//! What a program leaves of a table: it is given the rows without their versions, and those whose
//! key it prints stay, with the value it printed and a version that is not less.

use super::{TooLarge, merge, show};
use crate::wire::p2ptbl::{Row, SEPARATOR, column_order, lines, rows};

/// What the program is given of a table: `KEY TAB VALUE`, a line for each row, sorted.
///
/// # Errors
/// The text is no table that can be merged.
pub fn without_versions(text: &[u8]) -> Result<Vec<u8>, TooLarge> {
    Ok(show(&merge(&[text])?))
}

/// The table of those rows whose key is in `printed`, the program's output, with the values that
/// stand there. Each row's version is raised by what `step` gives for it. New keys in `printed`
/// count for nothing; of several values for one key the first in the order of bytes does.
///
/// # Errors
/// The text is no table that can be merged, or would become one that is too long.
pub fn filter(
    text: &[u8],
    printed: &[u8],
    mut step: impl FnMut() -> u16,
) -> Result<Vec<u8>, TooLarge> {
    let mut kept: Vec<(&[u8], &[u8])> = lines(printed).map(key_and_value).collect();
    kept.sort_by(|one, other| column_order(one.0, other.0).then_with(|| one.1.cmp(other.1)));
    let merged = merge(&[text])?;
    let mut table = Vec::new();
    for row in rows(&merged) {
        let at = kept.partition_point(|(key, _)| column_order(key, row.key).is_lt());
        let Some((key, value)) = kept.get(at) else {
            continue;
        };
        if *key != row.key {
            continue;
        }
        let number = row.number().unwrap_or(0);
        let version = number.saturating_add(step().into()).to_string();
        let raised = Row {
            key,
            version: version.as_bytes(),
            value,
        };
        super::check_length(table.len() + raised.encoded_bytes())?;
        raised.encode(&mut table);
    }
    Ok(table)
}

fn key_and_value(line: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(SEPARATOR, line).unwrap_or(line.len());
    (&line[..at], line.get(at + 1..).unwrap_or_default())
}
