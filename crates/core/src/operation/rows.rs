//! Rows of a table as bytes.
//!
//! ```text
//! rows    = lineage 16, number u64 (of the table's epoch, in `rows of an epoch`)
//!           | name length u8 | name | row, 1 to 8192 times
//! row     = flags u8 | key length u16 | key | version i64
//!           | expires u64 (with flag 2) | origin 16, sequence u64 (with flag 4)
//!           | values length u32 | values (both without flag 1)
//! ```
//! Integers are little endian. Flag 1: a tombstone. Flag 2: it expires, in milliseconds since
//! 1970. Flag 8: it has the values of the row before it and expires no earlier, so nobody who watches
//! is told. Flag 4: the operation that made the row is another one than this; such rows came with a
//! snapshot, and an operation that has one is for this node alone.

use super::OperationError;
use crate::catalogue::{NameError, validate_name};
use crate::limits::{OPERATION_BODY_BYTES_MAX, ROWS_PER_OPERATION_MAX};
use crate::origin::Origin;
use crate::table::{Content, Row, RowError, TableEpoch, validate_key, validate_values};
use crate::version::Dot;

const TOMBSTONE: u8 = 1;
const EXPIRES: u8 = 2;
const MADE_BY: u8 = 4;
const RENEWED: u8 = 8;

/// What a row takes beside its key and values, at most.
pub const ROW_OVERHEAD_BYTES: usize = 1 + 2 + 8 + 8 + 24 + 4;

/// Rows of one table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rows<'a> {
    /// The table.
    pub name: &'a [u8],
    /// Which of the tables that had this name.
    pub epoch: Option<TableEpoch>,
    rows: &'a [u8],
    count: usize,
    /// Whether some row was made by another operation than this.
    carries_dots: bool,
}

/// One row with its key.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyedRow<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The row.
    pub row: Row,
    /// The operation that made it, if it is another one than that which carries it.
    pub made_by: Option<Dot>,
    /// It was made to expire later, and for nothing else.
    pub renewed: bool,
}

/// Why bytes are not rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// They end too early.
    #[error("a row is cut short, {0} bytes before the end")]
    Short(usize),
    /// None at all, or too many.
    #[error("more than {ROWS_PER_OPERATION_MAX} rows, or none")]
    Count,
    /// Flags that this version does not know.
    #[error("a row has unknown flags {0:#04x}: written by a newer version")]
    Flags(u8),
    /// Their table was dropped by then.
    #[error("rows of epoch {0}, in which the table is dropped")]
    Dropped(u64),
    /// The table's name cannot be one.
    #[error("the table's {0}")]
    Name(NameError),
    /// A row cannot be one.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Appends the table's epoch and name before the rows. The name must be valid.
pub fn encode_rows_of(buffer: &mut Vec<u8>, name: &[u8], epoch: Option<TableEpoch>) {
    debug_assert!(validate_name(name).is_ok());
    match epoch {
        None => buffer.push(super::KIND_ROWS),
        Some(epoch) => {
            buffer.push(super::KIND_ROWS_OF_EPOCH);
            buffer.extend_from_slice(&epoch.lineage);
            buffer.extend_from_slice(&epoch.number.to_le_bytes());
        }
    }
    buffer.push(name.len() as u8);
    buffer.extend_from_slice(name);
}

/// Appends a row, which must be valid, as its key must.
pub fn encode_row(buffer: &mut Vec<u8>, key: &[u8], row: &Row, made_by: Option<Dot>) {
    encode(buffer, key, row, made_by, false);
}

/// The same of a row that was made to expire later, and for nothing else.
pub fn encode_renewed_row(buffer: &mut Vec<u8>, key: &[u8], row: &Row, made_by: Option<Dot>) {
    encode(buffer, key, row, made_by, true);
}

fn encode(buffer: &mut Vec<u8>, key: &[u8], row: &Row, made_by: Option<Dot>, renewed: bool) {
    debug_assert!(validate_key(key).is_ok() && row.validate().is_ok());
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    buffer.push(
        flag(row.is_tombstone(), TOMBSTONE)
            | flag(row.expires.is_some(), EXPIRES)
            | flag(made_by.is_some(), MADE_BY)
            | flag(renewed, RENEWED),
    );
    buffer.extend_from_slice(&(key.len() as u16).to_le_bytes());
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(&row.version.to_le_bytes());
    if let Some(expires) = row.expires {
        buffer.extend_from_slice(&expires.to_le_bytes());
    }
    if let Some(dot) = made_by {
        buffer.extend_from_slice(&dot.origin.bytes());
        buffer.extend_from_slice(&dot.sequence.to_le_bytes());
    }
    if let Content::Values(values) = &row.content {
        buffer.extend_from_slice(&(values.len() as u32).to_le_bytes());
        buffer.extend_from_slice(values);
    }
}

impl<'a> Rows<'a> {
    /// Reads the body of an operation, and checks all of it.
    pub(super) fn decode(kind: u8, body: &'a [u8]) -> Result<Self, OperationError> {
        if body.len() > OPERATION_BODY_BYTES_MAX {
            return Err(OperationError::TooLong(body.len()));
        }
        let mut reader = Reader(body);
        let mut epoch = None;
        if kind == super::KIND_ROWS_OF_EPOCH {
            let read = TableEpoch {
                lineage: reader.array()?,
                number: u64::from_le_bytes(reader.array()?),
            };
            if read.is_dropped() {
                return Err(RowsError::Dropped(read.number).into());
            }
            epoch = Some(read);
        }
        let length = usize::from(reader.array::<1>()?[0]);
        let name = reader.take(length)?;
        validate_name(name).map_err(RowsError::Name)?;
        let rows = reader.0;
        let (count, carries_dots) = check(rows)?;
        Ok(Rows {
            name,
            epoch,
            rows,
            count,
            carries_dots,
        })
    }

    /// How many, from 1 to [`ROWS_PER_OPERATION_MAX`].
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether some row was made by another operation than this.
    pub fn carries_dots(&self) -> bool {
        self.carries_dots
    }

    /// The rows, in the order they were written.
    pub fn iter(&self) -> impl Iterator<Item = KeyedRow<'a>> + use<'a> {
        let mut reader = Reader(self.rows);
        // All of them were read once.
        std::iter::from_fn(move || reader.row().ok())
    }
}

/// Reads rows that stand alone: a page of them.
pub fn decode_rows(bytes: &[u8]) -> Result<impl Iterator<Item = KeyedRow<'_>>, RowsError> {
    check(bytes)?;
    let mut reader = Reader(bytes);
    Ok(std::iter::from_fn(move || reader.row().ok()))
}

/// How many rows there are, and whether some name the operation that made them.
fn check(rows: &[u8]) -> Result<(usize, bool), RowsError> {
    let mut reader = Reader(rows);
    let (mut count, mut carries_dots) = (0, false);
    while !reader.0.is_empty() {
        let parts = reader.parts()?;
        validate_key(parts.key)?;
        match parts.values {
            Some(values) => validate_values(values)?,
            None if parts.expires.is_some() => return Err(RowError::TombstoneExpires.into()),
            None => {}
        }
        carries_dots |= parts.made_by.is_some();
        count += 1;
        if count > ROWS_PER_OPERATION_MAX {
            return Err(RowsError::Count);
        }
    }
    if count == 0 {
        return Err(RowsError::Count);
    }
    Ok((count, carries_dots))
}

/// A row as it lies in the bytes.
struct Parts<'a> {
    key: &'a [u8],
    version: i64,
    expires: Option<u64>,
    made_by: Option<Dot>,
    renewed: bool,
    /// None of a tombstone.
    values: Option<&'a [u8]>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RowsError> {
        let taken = self.0.split_at_checked(count);
        let (taken, rest) = taken.ok_or(RowsError::Short(self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RowsError> {
        let taken = self.0.split_first_chunk::<N>();
        let (taken, rest) = taken.ok_or(RowsError::Short(self.0.len()))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn row(&mut self) -> Result<KeyedRow<'a>, RowsError> {
        let parts = self.parts()?;
        let content = parts.values.map_or(Content::Tombstone, |values| {
            Content::Values(values.to_vec())
        });
        Ok(KeyedRow {
            key: parts.key,
            row: Row {
                version: parts.version,
                content,
                expires: parts.expires,
            },
            made_by: parts.made_by,
            renewed: parts.renewed,
        })
    }

    fn parts(&mut self) -> Result<Parts<'a>, RowsError> {
        let [flags] = self.array()?;
        if flags & !(TOMBSTONE | EXPIRES | MADE_BY | RENEWED) != 0 {
            return Err(RowsError::Flags(flags));
        }
        let length = u16::from_le_bytes(self.array()?);
        let key = self.take(usize::from(length))?;
        let version = i64::from_le_bytes(self.array()?);
        let mut expires = None;
        if flags & EXPIRES != 0 {
            expires = Some(u64::from_le_bytes(self.array()?));
        }
        let mut made_by = None;
        if flags & MADE_BY != 0 {
            made_by = Some(Dot {
                origin: Origin::new(self.array()?),
                sequence: u64::from_le_bytes(self.array()?),
            });
        }
        let mut values = None;
        if flags & TOMBSTONE == 0 {
            let length = u32::from_le_bytes(self.array()?) as usize;
            values = Some(self.take(length)?);
        }
        Ok(Parts {
            key,
            version,
            expires,
            made_by,
            renewed: flags & RENEWED != 0,
            values,
        })
    }
}
