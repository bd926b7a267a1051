//! Rows whose file is not what it was.
//!
//! The file is set aside and another one begun. It is filled from the log; where that holds
//! everything from the beginning, and nothing in it came as another node's state, the rows are
//! whole again at once. Else they are *damaged*: nobody is answered from them and nothing is changed
//! by a client, until a peer has shown all of its rows, floors and what it knows of removed ones, and
//! that peer had everything that was in here when the damage was found. What is in the log is then
//! in, or newer. That the rows are damaged stands in the new file, in the same commit as they, so a
//! restart goes on; the manifest and the log stay as they are meanwhile.
//!
//! A file that is found damaged while the node runs is given up in the same way, at once. Only what is in
//! the log is not read again before the next start. So the new file says until then that it is
//! being filled, and a start that finds it so replays all of the log; a peer may have healed the rows before.
//!
//! A row that is here and not at that peer, though it had the operation, was removed there: what is
//! here came from the log, which knows nothing of removals.

use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};

use grapevine_core::table::Floors;
use grapevine_core::version::VersionVector;
use serde::{Deserialize, Serialize};

use super::knowledge::Knowledge;
use super::redb_store::corrupt;
use super::state::{Counts, Overlay, State};
use super::{Extent, ROWS_FILE, SUMS_FILE, TABLES_DIR, TableError, Tables};
use crate::disk::Disk;
use crate::journal::Journal;
use crate::log::Position;

/// How the names of files begin that were set aside, in [`TABLES_DIR`].
pub(crate) const SET_ASIDE_PREFIX: &str = "rows.redb.damaged-";
/// Most files that are kept so. The first of them stay: what they have is in no later one.
const SET_ASIDE_MAX: u32 = 8;

/// What was found of a file of rows that is not what it was, by a start or later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRows {
    /// What is wrong with the file.
    pub reason: Arc<str>,
    /// What it is called now; none: there was none, or it could not be renamed.
    pub set_aside: Option<String>,
    /// All rows are there again, out of the log.
    pub rebuilt: bool,
}

/// Why rows are damaged, as the file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Damage {
    reason: String,
    /// What was in here when it was found; none while the log is still being replayed: a file that
    /// says so is of no use.
    from: Option<VersionVector>,
}

impl Damage {
    fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("versions are plain data")
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        rmp_serde::from_slice(bytes).ok()
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// As a file says it that an earlier start began.
    pub(super) fn told(&self) -> LostRows {
        LostRows {
            reason: Arc::from(&self.reason[..]),
            set_aside: None,
            rebuilt: false,
        }
    }
}

/// How far damaged rows have come.
#[derive(Debug, Default)]
pub(super) struct Mending {
    pub(super) damage: Option<Damage>,
    /// The file does not say so yet, or still does.
    pub(super) unwritten: bool,
    /// Something in the log came as the state of another node, and what that removed is not there.
    of_a_state: bool,
    /// The log was not replayed since: the next start is to do that.
    unreplayed: bool,
    /// The state of one peer is gathered from its beginning.
    gathering: bool,
    /// Of that state: all rows, and then the floors of all tables.
    rows: bool,
    floors: bool,
}

impl Mending {
    pub(super) fn is_damaged(&self) -> bool {
        self.damage.is_some()
    }

    /// Whether the rows are being made anew from the log.
    pub(super) fn is_rebuilding(&self) -> bool {
        self.damage.as_ref().is_some_and(|d| d.from.is_none())
    }

    /// The damage as the file is to say it.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut damage = self.damage.clone()?;
        if self.unreplayed {
            damage.from = None;
        }
        Some(damage.encode())
    }
}

impl State {
    /// Rows of a file that is lost.
    pub(super) fn lost(reason: String) -> Self {
        let mut state = State::default();
        state.mending.damage = Some(Damage { reason, from: None });
        state.mending.unwritten = true;
        state
    }

    /// Whether a file that was read can be gone on with: it has enough, and does not say of itself
    /// that it was only being filled from the log. Where there is none, nothing may be expected.
    pub(super) fn is_of_use(&self, extent: Extent) -> bool {
        let least = match self.file {
            Some(_) => extent.enough,
            None => extent.expected,
        };
        self.in_file >= least && !self.mending.is_rebuilding()
    }

    /// The state of a peer is gathered from its beginning: what an earlier one brought beside rows is
    /// forgotten, as all of it comes anew.
    pub(super) fn begin_gathering(&mut self) {
        (self.mending.rows, self.mending.floors) = (false, false);
        self.mending.gathering = true;
        let horizon = std::mem::take(&mut self.knowledge).horizon;
        self.knowledge = Knowledge {
            horizon,
            ..Knowledge::default()
        };
        self.knowledge_dirty = true;
        for table in self.tables.values_mut() {
            table.floors = Floors::default();
            table.touch_floors();
        }
    }

    /// Forgets the rows, of which some cannot be read. What is known of tables stays, and so does
    /// what is known of members. `applied` is all that was in here.
    fn forget_rows(&mut self, reason: String, applied: VersionVector) {
        self.file = None;
        self.frozen = None;
        self.overlay = Overlay::default();
        self.unsettled.clear();
        self.due_after.clear();
        for table in self.tables.values_mut() {
            table.counts = Counts::default();
            table.touch_floors();
        }
        self.knowledge_dirty = true;
        self.mending = Mending {
            damage: Some(Damage {
                reason,
                from: Some(applied),
            }),
            unwritten: true,
            unreplayed: true,
            ..Mending::default()
        };
    }

    fn mended(&mut self) {
        self.mending = Mending {
            unwritten: true,
            ..Mending::default()
        };
        // Who watched before has not seen what went meanwhile.
        let position = self.position;
        for table in self.tables.values_mut() {
            table.forget_changes(position);
            table.touch();
        }
    }
}

impl Tables {
    /// Why the rows are damaged, if they are.
    pub fn damage(&self) -> Option<Arc<str>> {
        let state = self.lock();
        let damage = state.mending.damage.as_ref();
        damage.map(|damage| Arc::from(damage.reason()))
    }

    /// The state, if it has all rows.
    pub(super) fn whole(&self) -> Result<MutexGuard<'_, State>, TableError> {
        let state = self.lock();
        match &state.mending.damage {
            None => Ok(state),
            Some(damage) => Err(TableError::Damaged(Arc::from(damage.reason()))),
        }
    }

    /// Up to which position the file has everything, if rows are being made anew from the log and
    /// that is before `position`.
    pub(crate) fn rebuilds_before(&self, position: Position) -> bool {
        let state = self.lock();
        state.mending.is_rebuilding() && state.in_file < position
    }

    /// Something that came as the state of another node is replayed.
    pub(crate) fn replayed_of_a_state(&self) {
        self.lock().mending.of_a_state = true;
    }

    /// The log is replayed, and `applied` is in. With `whole_log` it had everything of rows from the
    /// beginning. The file has everything up to `expected`, or it would. True if all rows are there
    /// again.
    pub(crate) fn replayed(
        &self,
        applied: VersionVector,
        whole_log: bool,
        expected: Position,
    ) -> bool {
        let mut state = self.lock();
        if !state.mending.is_rebuilding() {
            return false;
        }
        state.position = state.position.max(expected);
        let rebuilt = whole_log && !state.mending.of_a_state;
        if rebuilt {
            state.mending = Mending::default();
        } else if let Some(damage) = &mut state.mending.damage {
            damage.from = Some(applied);
        }
        state.mending.unwritten = true;
        rebuilt
    }

    /// All rows of a peer's state are in.
    pub(crate) fn gathered_rows(&self) {
        let mut state = self.lock();
        // One that was under way when the damage was found says nothing of rows that it passed over.
        state.mending.rows = state.mending.gathering;
    }

    /// The floors of all tables of a peer's state are in.
    pub(crate) fn gathered_floors(&self) {
        let mut state = self.lock();
        state.mending.floors = state.mending.gathering;
    }

    /// Damaged rows are whole if the state of a peer was gathered that has `version`, and that
    /// is everything which was in here; true if they were damaged and are whole now. It is to be
    /// flushed.
    pub(crate) fn heal(&self, version: &VersionVector) -> bool {
        let mut state = self.lock();
        let mending = &state.mending;
        let from = mending.damage.as_ref().and_then(|d| d.from.as_ref());
        let whole = mending.rows && mending.floors && from.is_some_and(|f| version.includes(f));
        if whole {
            state.mended();
            drop(state);
            self.ring();
        }
        whole
    }

    /// Whether the log may have rows that are missing here and that only a start finds.
    pub(crate) fn wants_restart(&self) -> bool {
        self.lock().mending.unreplayed
    }

    /// Gives the file up once something was found in it that does not hold; true if that is so.
    pub(super) fn give_up_damaged(&self, state: &mut State) -> bool {
        let damage = state.file.as_ref().and_then(|file| file.damage());
        let Some(damage) = damage.map(corrupt) else {
            return false;
        };
        state.forget_rows(damage.to_string(), self.journal.applied());
        let lost = set_aside(&*self.disk, &self.journal, damage.to_string());
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = Some(lost);
        true
    }

    /// What was found of the file since the start, if that was not yet asked for.
    pub fn take_lost(&self) -> Option<LostRows> {
        drop(self.lock());
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.take()
    }

    /// Takes what is left of damaged rows for all there are; false: they are not damaged.
    pub(crate) fn forget_damage(&self) -> bool {
        let mut state = self.lock();
        let damaged = state.mending.is_damaged();
        if damaged {
            state.mended();
        }
        damaged
    }
}

/// Sets the file aside. On a node that takes no writes it stays where it is, and nothing is written
/// over it.
pub(super) fn set_aside(disk: &dyn Disk, journal: &Journal, reason: String) -> LostRows {
    let renamed = match journal.read_only() {
        Some(_) => None,
        None => rename(disk).unwrap_or_else(|error| {
            drop(journal.fail(|| format!("setting {ROWS_FILE} aside: {error}")));
            None
        }),
    };
    LostRows {
        reason: Arc::from(reason),
        set_aside: renamed,
        rebuilt: false,
    }
}

/// Renames the file of rows, which is damaged; gives its new name, or none where there is no file.
fn rename(disk: &dyn Disk) -> io::Result<Option<String>> {
    if !disk.exists(ROWS_FILE)? {
        return Ok(None);
    }
    let names = disk.list(TABLES_DIR)?;
    let numbers = names.iter().filter_map(|name| {
        let number = name.strip_prefix(SET_ASIDE_PREFIX)?;
        number.parse::<u32>().ok()
    });
    let next = numbers.max().unwrap_or(0).saturating_add(1);
    let next = next.min(SET_ASIDE_MAX);
    let name = format!("{TABLES_DIR}/{SET_ASIDE_PREFIX}{next}");
    disk.rename(ROWS_FILE, &name)?;
    if disk.exists(SUMS_FILE)? {
        disk.remove(SUMS_FILE)?;
    }
    disk.sync_dir(TABLES_DIR)?;
    Ok(Some(name))
}
