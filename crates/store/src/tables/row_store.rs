//! What tables need of the file their rows are in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use super::record::Record;
use crate::log::Position;

/// What was changed since the last commit, to be written as one.
pub(super) struct Commit<'a> {
    /// Everything that changed rows before this position of the journal is in, nothing after it.
    pub(super) position: Position,
    /// Tables of which all records are removed that were there before.
    pub(super) cleared: &'a BTreeSet<Vec<u8>>,
    /// By the keys of records, ascending; none: the record is removed.
    pub(super) records: &'a BTreeMap<Vec<u8>, Option<Record>>,
    /// Tables by name, as `state.rs` encodes them.
    pub(super) tables: &'a [(Vec<u8>, Vec<u8>)],
    /// Floors of tables by name.
    pub(super) floors: &'a [(Vec<u8>, Vec<u8>)],
    /// What is known of collections, if it changed, as `knowledge.rs` encodes it.
    pub(super) knowledge: Option<&'a [u8]>,
    /// That rows are missing, as `damage.rs` encodes it; none: they are whole.
    pub(super) damage: Option<&'a [u8]>,
}

/// Everything but the records.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) position: Position,
    pub(super) tables: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) floors: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) knowledge: Option<Vec<u8>>,
    pub(super) damage: Option<Vec<u8>>,
}

/// Why the file of rows cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RowStoreError {
    /// It does not hold.
    #[error("{file} is corrupt: {what}")]
    Corrupt {
        /// The file.
        file: &'static str,
        /// What does not hold.
        what: String,
    },
    /// The disk has no room for what was to be written.
    #[error("{file}: {what}")]
    Full {
        /// The file.
        file: &'static str,
        /// The answer.
        what: String,
    },
    /// The disk refused, or what was asked of it before failed.
    #[error("{file}: {what}")]
    Refused {
        /// The file.
        file: &'static str,
        /// The answer.
        what: String,
    },
}

/// Visits records in the order of their keys until it breaks off.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u8], Record) -> ControlFlow<()>;

/// Records by key, durable with the position of the journal that they stand for.
pub(super) trait RowStore: Send + Sync {
    /// The records of these keys, in the same order.
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Record>>, RowStoreError>;

    /// Visits the records whose keys are from `begin` on and before `before` (none: all).
    fn visit(
        &self,
        begin: Bound<&[u8]>,
        before: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), RowStoreError>;

    /// Up to `count` keys of records that are due at `horizon` (milliseconds since 1970), behind
    /// `after`, each with its place.
    fn due(&self, after: &[u8], horizon: u64, count: usize) -> Result<Vec<Due>, RowStoreError>;

    /// Makes a commit durable; when it fails nothing of it is in.
    fn commit(&self, commit: &Commit<'_>) -> Result<(), RowStoreError>;

    /// Reads on in the last commit from the disk, past what is in memory, while it is to `go_on` (asked
    /// for each record, with its bytes). Nobody commits meanwhile. None: it is at the end.
    fn scrub(
        &self,
        from: &ScrubPlace,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<ScrubPlace>, RowStoreError>;

    /// Why the file cannot be used any more, once something was found in it that does not hold.
    fn damage(&self) -> Option<&str>;
}

/// How far a scrub has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ScrubPlace {
    /// The records up to this key are read.
    Records(Vec<u8>),
    /// All records, and what is due up to this place.
    Due(Vec<u8>),
}

/// A record that may be removed.
pub(super) struct Due {
    /// Its place among those that are due.
    pub(super) place: Vec<u8>,
    /// Its key.
    pub(super) key: Vec<u8>,
}
