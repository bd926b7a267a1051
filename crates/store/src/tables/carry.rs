//! Rows that go to another data directory, as operations of its own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use grapevine_core::origin::Origin;
use grapevine_core::table::TableRow;

use super::epochs::Relation;
use super::record::split_key;
use super::{KeyedRow, TableError, Tables};

/// Records that are looked at before what is found goes over.
const RECORDS_PER_TURN: usize = 4096;

impl Tables {
    /// Gives `other` all tables with what is left of those that were dropped, and of the rows those that were made by operations of an origin
    /// from the number in `firsts` on, tombstones too, with their versions; says how many.
    pub(crate) fn carry(
        &self,
        other: &Tables,
        firsts: &BTreeMap<Origin, u64>,
    ) -> Result<u64, TableError> {
        let rows: Vec<TableRow> = {
            let state = self.whole()?;
            state
                .tables
                .values()
                .map(|table| table.row.clone())
                .collect()
        };
        for row in rows {
            let mut state = other.lock();
            if state.relation(&row.name, row.epoch) != Relation::Foreign {
                other.describe(&mut state, &row)?;
            }
        }
        let (mut carried, mut after) = (0, Vec::new());
        loop {
            let mut found: BTreeMap<Vec<u8>, Vec<KeyedRow>> = BTreeMap::new();
            let mut looked_at = 0;
            let from = std::mem::take(&mut after);
            self.whole()?.visit(&from, None, &mut |key, record| {
                looked_at += 1;
                let first = firsts.get(&record.dot.origin);
                if let (Some((name, row_key)), true) = (
                    split_key(key),
                    first.is_some_and(|first| record.dot.sequence >= *first),
                ) {
                    let rows = found.entry(name.to_vec()).or_default();
                    rows.push((row_key.to_vec(), record.row.clone()));
                }
                if looked_at < RECORDS_PER_TURN {
                    return ControlFlow::Continue(());
                }
                after = key.to_vec();
                ControlFlow::Break(())
            })?;
            for (name, rows) in found {
                carried += rows.len() as u64;
                other.merge(&name, rows)?;
            }
            if looked_at < RECORDS_PER_TURN {
                return Ok(carried);
            }
        }
    }
}
