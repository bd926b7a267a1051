//! Tables: made, described and dropped. Their rows are in `rows.rs`.

use serde::{Deserialize, Serialize};

use super::{KIND_DROP_TABLE, KIND_TABLE, OperationError, decode_body, encode_body};
use crate::catalogue::validate_name;
use crate::table::TableRow;
use crate::version::VersionVector;

/// The end of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableDrop {
    /// The table, with an epoch that says that it was dropped.
    pub table: TableRow,
    /// The operations that its dropper had. Where the epoch is of another lineage, only rows that
    /// these made are gone.
    pub seen: VersionVector,
}

/// Appends the description of a table, whose name must be valid, to `buffer`.
pub fn encode_table(buffer: &mut Vec<u8>, row: &TableRow) {
    encode_body(buffer, KIND_TABLE, row);
}

/// Appends the drop of a table, whose name must be valid, to `buffer`.
pub fn encode_table_drop(buffer: &mut Vec<u8>, dropped: &TableDrop) {
    debug_assert!(dropped.table.is_dropped());
    encode_body(buffer, KIND_DROP_TABLE, dropped);
}

pub(super) fn decode_table(body: &[u8]) -> Result<TableRow, OperationError> {
    let row: TableRow = decode_body(KIND_TABLE, body)?;
    validate_name(&row.name).map_err(OperationError::TableName)?;
    Ok(row)
}

pub(super) fn decode_table_drop(body: &[u8]) -> Result<TableDrop, OperationError> {
    let dropped: TableDrop = decode_body(KIND_DROP_TABLE, body)?;
    validate_name(&dropped.table.name).map_err(OperationError::TableName)?;
    if !dropped.table.is_dropped() {
        return Err(OperationError::NoDrop);
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Operation, RowsError, decode, encode_row, encode_rows_of};
    use crate::origin::Origin;
    use crate::table::{Row, TableEpoch};

    fn epoch(number: u64) -> Option<TableEpoch> {
        let lineage = [7; 16];
        Some(TableEpoch { lineage, number })
    }

    fn table(number: u64) -> TableRow {
        TableRow {
            epoch: epoch(number),
            ..TableRow::new(b"leases")
        }
    }

    #[test]
    fn a_drop_survives_its_bytes_and_one_that_drops_nothing_is_refused() {
        let seen = [(Origin::new([1; 16]), 5)].into_iter().collect();
        let dropped = TableDrop {
            table: table(3),
            seen,
        };
        let mut bytes = Vec::new();
        encode_table_drop(&mut bytes, &dropped);
        let operation = decode(&bytes).expect("its own bytes");
        assert!(operation.is_for_all() && operation.needs().is_none());
        assert_eq!(operation, Operation::DropTable(dropped.clone()));
        let body = TableDrop {
            table: table(2),
            ..dropped
        };
        let mut bytes = Vec::new();
        encode_body(&mut bytes, KIND_DROP_TABLE, &body);
        assert!(matches!(decode(&bytes), Err(OperationError::NoDrop)));
    }

    #[test]
    fn rows_of_an_epoch_say_which_and_none_are_of_a_dropped_one() {
        let encoded = |number| {
            let mut bytes = Vec::new();
            encode_rows_of(&mut bytes, b"t", epoch(number));
            encode_row(&mut bytes, b"k", &Row::tombstone(1), None);
            bytes
        };
        let bytes = encoded(2);
        assert_eq!(bytes[..18], [&[21][..], &[7; 16], &[2]].concat());
        let Ok(Operation::Rows(rows)) = decode(&bytes) else {
            panic!("these are rows");
        };
        assert_eq!((rows.name, rows.epoch), (&b"t"[..], epoch(2)));
        assert_eq!(rows.count(), 1);
        let bytes = encoded(3);
        let refused = decode(&bytes);
        let Err(OperationError::Rows(error)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error, RowsError::Dropped(3));
    }
}
