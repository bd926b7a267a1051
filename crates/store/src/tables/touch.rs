//! Giving a row more time to live.

use grapevine_core::table::{Row, next_version, validate_key};

use super::record::record_key;
use super::write::Change;
use super::{TableError, Tables};
use crate::log::Position;

/// What came of touching a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touching {
    /// It expires then.
    Touched {
        /// Its version.
        version: i64,
        /// Acknowledge it once this position is as durable as promised.
        position: Position,
    },
    /// There is none.
    Absent(Position),
    /// There is no such table.
    NotFound,
}

impl Tables {
    /// Lets a row that readers see at `now` expire at `expires` instead, both in milliseconds since
    /// 1970. Nobody who watches is told, unless it expires earlier than before or had no time to
    /// live.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn touch(
        &self,
        name: &[u8],
        key: &[u8],
        expires: u64,
        now: u64,
    ) -> Result<Touching, TableError> {
        validate_key(key)?;
        let mut state = self.whole()?;
        let Some(table) = state.present(name) else {
            return Ok(Touching::NotFound);
        };
        let floor = table.floors.of(key);
        let before = state.get_one(record_key(name, key))?;
        let Some(record) = before.filter(|record| !record.row.is_gone(now)) else {
            return Ok(Touching::Absent(state.position));
        };
        self.journal.ensure_writable()?;
        self.ensure_clock()?;
        let row = Row {
            version: next_version(Some(record.row.version), floor, self.step())?,
            content: record.row.content.clone(),
            expires: Some(expires),
        };
        let version = row.version;
        let change = Change {
            key: key.to_vec(),
            row,
            before: Some(record),
        };
        let position = self.write_rows(&mut state, name, vec![change], true)?;
        self.end(state)?;
        Ok(Touching::Touched { version, position })
    }
}
