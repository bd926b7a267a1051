//! The tables of the group: small, fully copied maps from a key to a row.
//!
//! A change is an operation in the journal; the row is then in memory, and a while later in a file
//! together with many others. The file says up to which position of the journal it has everything,
//! and a start replays what follows: each operation meets the rows exactly once. That matters
//! since rows that are gone are removed some time, and an old operation must not bring one back.
//!
//! The file's commits are durable, and made only once the journal is, up to the position they say.
//! So after a power cut the rows are never ahead of the journal.
//!
//! Locks: `flushing`, then `state`, then the journal's. Whoever reads or changes rows holds
//! `state`, also while the file is read; nobody holds it while the file is written.
//!
//! Read in this order: `record.rs`, `state.rs` (memory and file as one), `write.rs`, `touch.rs`, `read.rs`, `measure.rs`,
//! `epochs.rs` (tables that are dropped), `changes.rs` with `recent.rs` (watching), `collect.rs` with `knowledge.rs`
//! (removing what is gone),
//! `exchange.rs` (other nodes' state), `damage.rs` (a file that is lost), `flush.rs`, `row_store.rs` with `redb_store.rs` (the file),
//! `checked_file.rs` (its pages), `scrub.rs` (reading all of them now and then), `inspection.rs` (the file from outside).

mod carry;
mod changes;
mod checked_file;
mod collect;
mod damage;
mod epochs;
mod exchange;
mod flush;
mod inspection;
mod knowledge;
mod measure;
mod read;
mod recent;
mod record;
mod redb_store;
mod row_store;
mod scrub;
mod state;
#[cfg(test)]
mod tests;
mod touch;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use grapevine_core::catalogue::NameError;
use grapevine_core::sync::Off;
use grapevine_core::table::{Row, RowError, VersionsExhausted};

pub use changes::{Backlog, Changed, Changes};
pub(crate) use checked_file::SUMS_FILE;
pub use damage::LostRows;
pub(crate) use damage::SET_ASIDE_PREFIX;
pub use epochs::Dropping;
pub(crate) use exchange::{Kept, TakeOverError};
pub use flush::FlushError;
pub(crate) use inspection::{copy_rows, head, inspect};
pub use measure::Measure;
pub use read::{Lookup, Page, TableSummary};
pub use row_store::RowStoreError;
pub use scrub::Scrubbed;
pub use touch::Touching;
pub use write::{Creation, Deletion, Merged, Written};

use crate::disk::Disk;
use crate::filters::Entropy;
use crate::journal::{Journal, ReadOnly};
use crate::log::Position;
use crate::manifest::Manifest;
use redb_store::RedbStore;
use scrub::Scrub;
use state::State;

/// Directory of the file in the data directory.
pub const TABLES_DIR: &str = "tables";
/// The file of all rows; there is none before the first table.
pub const ROWS_FILE: &str = "tables/rows.redb";
/// Most tables that a node makes; those that others made are taken as they come.
pub const TABLES_MAX: usize = 10_000;
/// Names of dropped tables that are kept, from which on no more tables are dropped here; those that
/// others dropped are taken as they come.
pub const DROPPED_TABLES_MAX: usize = 65_536;
/// Memory that tables may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowsMemory {
    /// Pages of the file of rows.
    pub cache: usize,
    /// Rows that are not in the file yet: half of it is filled while the other half is written.
    pub unwritten: usize,
    /// The last changes of all tables, kept for those who watch.
    pub recent: usize,
}

impl Default for RowsMemory {
    fn default() -> Self {
        RowsMemory {
            cache: 128 << 20,
            unwritten: 128 << 20,
            recent: 64 << 20,
        }
    }
}

/// Up to where in the journal the file of rows is to have everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// As the snapshot says.
    pub(crate) expected: Position,
    /// As the snapshot before says: what follows is replayed from the journal.
    pub(crate) enough: Position,
}

impl Extent {
    /// As the snapshot says, and the one before if the journal goes back to it.
    pub(crate) fn of(expected: Position, before: Option<&Manifest>) -> Self {
        let enough = before.map_or(expected, |before| before.tables.min(expected));
        Extent { expected, enough }
    }
}

/// Why nothing was read, or nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// No table can have that name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There are as many tables as a node makes.
    #[error("there are {0} tables, and no more are made here")]
    TooMany(usize),
    /// The names of as many dropped tables are kept as a node keeps.
    #[error("the names of {0} dropped tables are kept, and no more tables are dropped here")]
    TooManyDropped(usize),
    /// A name was dropped and made again as often as can be counted.
    #[error("the table was dropped and made again too often: use another name")]
    Epochs,
    /// No row can have that key or those values.
    #[error(transparent)]
    Row(#[from] RowError),
    /// There is no version above that of the row.
    #[error(transparent)]
    Versions(#[from] VersionsExhausted),
    /// The row would expire by a clock that is off.
    #[error(transparent)]
    Clock(#[from] Off),
    /// The node takes no writes.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
    /// The file of rows cannot be read.
    #[error(transparent)]
    Store(#[from] RowStoreError),
    /// Rows are missing here, and it is not known which. Nothing was changed.
    #[error("the rows of this node are damaged and are being fetched from peers: {0}")]
    Damaged(Arc<str>),
    /// The file was found damaged while the node ran, and only a start reads the whole log.
    #[error(
        "restart the node before rows are given up: it makes them anew from the log, as far as that \
         has them"
    )]
    RestartFirst,
    /// Rows that are missing here come from the members that have them.
    #[error(
        "the rows come from the other members of the group; enter for those that will not come \
         back that they have left"
    )]
    OthersHaveRows,
}

/// A row with its key.
pub type KeyedRow = (Vec<u8>, Row);

type Bell = Box<dyn Fn() + Send + Sync>;

/// The tables of one data directory.
pub struct Tables {
    disk: Arc<dyn Disk>,
    journal: Arc<Journal>,
    entropy: Entropy,
    /// Held while rows are written to the file.
    flushing: Mutex<()>,
    state: Mutex<State>,
    bell: OnceLock<Bell>,
    /// What was found of the file since the start, until somebody asks.
    lost: Mutex<Option<LostRows>>,
    /// How far the file is read by the scrub.
    scrub: Mutex<Scrub>,
    /// How this node's clock is off, while it is.
    off: Mutex<Option<Off>>,
    memory: RowsMemory,
}

impl Tables {
    /// The tables of a directory, as its file has them; what the journal has behind that position
    /// is replayed by the caller. A file that is damaged, or does not have enough,
    /// is set aside: what was found is given, and the caller replays all that the journal has.
    /// Epochs of `lineage` count.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        journal: Arc<Journal>,
        entropy: Entropy,
        memory: RowsMemory,
        extent: Extent,
        lineage: [u8; 16],
    ) -> Result<(Self, Option<LostRows>), RowStoreError> {
        let store = match journal.read_only() {
            Some(_) => RedbStore::open_unwritten(&*disk, memory.cache),
            None => RedbStore::open(&*disk, memory.cache),
        };
        let store = match store {
            // It is whole, and can be read without the room that mending it takes.
            Err(full @ RowStoreError::Full { .. }) => {
                drop(journal.fail(|| full.to_string()));
                RedbStore::open_unwritten(&*disk, memory.cache)
            }
            store => store,
        };
        let loaded = store.and_then(|store| match store {
            Some(store) => State::load(store.contents()?, Arc::new(store)),
            None => Ok(State::default()),
        });
        let (mut state, lost) = match loaded {
            Ok(state) if state.is_of_use(extent) => {
                let lost = state.mending.damage.as_ref().map(damage::Damage::told);
                (state, lost)
            }
            Ok(state) => lost(&*disk, &journal, state, extent.expected),
            Err(error @ RowStoreError::Corrupt { .. }) => {
                set_aside(&*disk, &journal, error.to_string())
            }
            Err(error) => return Err(error),
        };
        state.recent_bytes_max = memory.recent;
        state.lineage = lineage;
        let tables = Tables {
            disk,
            journal,
            entropy,
            flushing: Mutex::new(()),
            state: Mutex::new(state),
            bell: OnceLock::new(),
            lost: Mutex::default(),
            scrub: Mutex::default(),
            off: Mutex::new(None),
            memory,
        };
        Ok((tables, lost))
    }

    /// Everything that changed rows before this position of the journal is in the file.
    pub(crate) fn in_file(&self) -> Position {
        self.lock().in_file
    }

    /// Called after each change of a row, from whatever thread makes it: it must not block, and
    /// not call back. Only the first one counts.
    pub fn set_bell(&self, bell: impl Fn() + Send + Sync + 'static) {
        // Later ones would take the bell from the first.
        drop(self.bell.set(Box::new(bell)));
    }

    /// Says whether this node's clock is off from those of most members. Until it is not, no rows with a
    /// time to live are made here; those that others made are taken in.
    pub fn set_off(&self, off: Option<Off>) {
        *self.off.lock().unwrap_or_else(PoisonError::into_inner) = off;
    }

    fn ensure_clock(&self) -> Result<(), Off> {
        let off = *self.off.lock().unwrap_or_else(PoisonError::into_inner);
        off.map_or(Ok(()), Err)
    }

    /// Whether so many rows are in memory only that they are to be written, or the file has many that
    /// do not count.
    fn is_full(&self, state: &State) -> bool {
        state.overlay.bytes >= self.memory.unwritten / 2 || !state.overlay.cleared.is_empty()
    }

    fn ring(&self) {
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// The state. What was changed and will never be written, since the log has failed, is taken
    /// back: all that is left is as durable as promised.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.give_up_damaged(&mut state);
        state.settle(self.journal.settled());
        if self.journal.log_failed() && !state.is_settled() {
            state.take_back(self.journal.settled_at_last());
        }
        state
    }

    /// A random step of a version.
    fn step(&self) -> u32 {
        let [a, b, c, d, ..] = (self.entropy)();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Reads while a change is under way, which goes on with damaged rows where the file turns out to be
    /// damaged. Where it cannot be read for another reason, the node takes no more changes.
    fn read<T>(
        &self,
        state: &mut State,
        read: impl Fn(&State) -> Result<T, RowStoreError>,
    ) -> Result<T, ReadOnly> {
        let mut result = read(state);
        if result.is_err() && self.give_up_damaged(state) {
            result = read(state);
        }
        result.map_err(|error| self.fail(&error))
    }

    /// After the file could not be read while a change was under way: the node takes no more.
    fn fail(&self, error: &RowStoreError) -> ReadOnly {
        self.journal.fail(|| error.to_string())
    }
}

/// What becomes of a file that was read and is not the one that is expected.
fn lost(
    disk: &dyn Disk,
    journal: &Journal,
    found: State,
    expected: Position,
) -> (State, Option<LostRows>) {
    let position = found.in_file;
    let there = found.file.is_some();
    let damage = found.mending.damage;
    // The database ends before its file gets another name.
    drop(found.file);
    let reason = match &damage {
        // It says so itself, and has nothing that would not come again: the next one takes its place.
        Some(damage) => {
            return (State::lost(damage.reason().to_owned()), Some(damage.told()));
        }
        None if !there => format!("{ROWS_FILE} is missing"),
        None => format!(
            "{ROWS_FILE} is old: it is as of log position {position}, the snapshot says {expected}"
        ),
    };
    set_aside(disk, journal, reason)
}

/// Sets the file aside, and gives the rows that are begun instead.
fn set_aside(disk: &dyn Disk, journal: &Journal, reason: String) -> (State, Option<LostRows>) {
    let lost = damage::set_aside(disk, journal, reason.clone());
    (State::lost(reason), Some(lost))
}
