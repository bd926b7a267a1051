//! What is in a table, by looking at all of its rows.

use std::ops::ControlFlow;

use super::record::{after_table, record_key};
use super::{TableError, Tables};
use crate::log::Position;

/// Rows that are looked at before others have their turn.
const ROWS_PER_TURN: usize = 4096;

/// What readers see of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Rows.
    pub rows: u64,
    /// Those of them that have a time to live.
    pub expiring: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The changes that were met are those before this position. What was seen may be told once it
    /// is as durable as promised.
    pub position: Position,
}

impl Tables {
    /// Counts the rows of a table that are not gone at `now`, in milliseconds since 1970; none:
    /// there is no such table. Rows that change meanwhile are counted as before or after.
    ///
    /// # Errors
    /// When the file of rows cannot be read, or rows are missing here.
    pub fn measure(&self, name: &[u8], now: u64) -> Result<Option<Measure>, TableError> {
        let mut measure = Measure::default();
        let (mut from, to) = (record_key(name, b""), after_table(name));
        loop {
            let state = self.whole()?;
            if state.present(name).is_none() {
                return Ok(None);
            }
            measure.position = state.position;
            let (mut looked, mut next) = (0, None);
            state.visit(&from, Some(&to), &mut |key, record| {
                looked += 1;
                if !record.row.is_gone(now) {
                    let values = record.row.values().map_or(0, <[u8]>::len);
                    // The table's name and a tab stand before the key.
                    measure.bytes += (key.len() - name.len() - 1 + values) as u64;
                    measure.rows += 1;
                    measure.expiring += u64::from(record.row.expires.is_some());
                }
                if looked < ROWS_PER_TURN {
                    return ControlFlow::Continue(());
                }
                next = Some(key.to_vec());
                ControlFlow::Break(())
            })?;
            match next {
                Some(key) => from = key,
                None => return Ok(Some(measure)),
            }
        }
    }
}
