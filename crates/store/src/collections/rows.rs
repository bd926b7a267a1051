//! The rows of tables when the directory is opened, and when their file is lost: what the log has of
//! them is replayed from its beginning, before anything else is.

use std::ops::ControlFlow;
use std::sync::Arc;

use grapevine_core::membership::GroupIdentity;
use grapevine_core::operation::{EntryHeader, Operation, OperationError, Stream, decode};

use super::{Collections, OpenError, Recovered, lineage};
use crate::disk::Disk;
use crate::filters::Entropy;
use crate::journal::{Journal, ReadOnly};
use crate::log::Position;
use crate::log::frame::ENTRY_PREFIX_LEN;
use crate::manifest::Manifest;
use crate::tables::{Extent, FlushError, LostRows, RowsMemory, TableError, Tables};

/// The tables of a directory, and what was found if their file is lost. It is to have everything up to
/// the position that is given, and not more than the journal; beside it stands whose epochs count.
pub(super) fn open_tables(
    disk: &Arc<dyn Disk>,
    journal: &Arc<Journal>,
    entropy: &Entropy,
    memory: RowsMemory,
    (extent, lineage): (Extent, [u8; 16]),
) -> Result<(Tables, Option<LostRows>), OpenError> {
    let (disk, journal_of_tables) = (Arc::clone(disk), Arc::clone(journal));
    let entropy = Arc::clone(entropy);
    let (tables, lost) = Tables::open(disk, journal_of_tables, entropy, memory, extent, lineage)?;
    let (position, end) = (tables.in_file(), journal.appended());
    if position > end {
        return Err(OpenError::TablesAhead { position, end });
    }
    Ok((tables, lost))
}

/// Whether an operation changes tables or their rows.
pub(super) fn is_of_tables(operation: &Operation<'_>) -> bool {
    matches!(
        operation,
        Operation::Table(_) | Operation::DropTable(_) | Operation::Rows(_)
    )
}

/// Whether an entry came with the state of another node, with which rows may have gone that no entry
/// tells of.
pub(super) fn is_of_a_state(header: &EntryHeader, operation: &Operation<'_>) -> bool {
    header.stream == Stream::Local
        && matches!(
            operation,
            Operation::Table(_) | Operation::Rows(_) | Operation::AdoptVersion(_)
        )
}

/// Why the older part of the log was not replayed to its end.
enum Broken {
    /// An entry is no operation.
    Unreadable(OperationError),
    Open(OpenError),
}

impl Collections {
    /// Replays what the log has of rows from the snapshot before on and before `until`, from which on
    /// everything is replayed, if the file has less than is `expected`. It has not less than that one
    /// says.
    pub(super) fn replay_older_rows(
        &self,
        before: &Manifest,
        expected: Position,
        until: Position,
        recovered: &mut Recovered,
    ) -> Result<(), OpenError> {
        let (group, in_file) = (self.group(), self.tables.in_file());
        if in_file >= expected || self.tables.rebuilds_before(Position::MAX) {
            return Ok(());
        }
        recovered.older_rows = Some(in_file);
        self.replay_lineage(&before.group.unwrap_or(group))?;
        let mut broken = None;
        let read = self
            .journal
            .log()
            .read_from(before.position(), |position, entry| {
                let end = position + (ENTRY_PREFIX_LEN + entry.len()) as Position;
                if position >= until {
                    return ControlFlow::Break(());
                }
                recovered.operations += 1;
                match self.replay_rows_of(position, entry, end > in_file) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        broken = Some((position, error));
                        ControlFlow::Break(())
                    }
                }
            });
        self.replay_lineage(&group)?;
        match broken {
            Some((_, Broken::Open(error))) => return Err(error),
            Some((position, Broken::Unreadable(source))) => {
                return Err(OpenError::Operation { position, source });
            }
            None => {}
        }
        read?;
        Ok(())
    }

    /// Replays what the log has of rows before `until`, from which on everything is replayed; true if
    /// that is all there ever was.
    pub(super) fn replay_lost_rows(&self, until: Position) -> Result<bool, OpenError> {
        let log = self.journal.log();
        let start = log.start();
        if !self.tables.rebuilds_before(until) {
            return Ok(false);
        }
        let group = self.group();
        if start == 0 {
            // As a node begins: alone.
            self.replay_lineage(&GroupIdentity {
                met: false,
                ..group
            })?;
        }
        let mut broken = None;
        let read = log.read_from(start, |position, entry| {
            if position >= until {
                return ControlFlow::Break(());
            }
            match self.replay_rows_of(position, entry, true) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    broken = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        self.replay_lineage(&group)?;
        match broken {
            Some(Broken::Open(error)) => Err(error),
            // Nothing else needs this part of the log. What it had comes from peers.
            Some(Broken::Unreadable(_)) => Ok(false),
            None => Ok(read.is_ok() && start == 0),
        }
    }

    /// From here on in the log the node belongs to this group.
    pub(super) fn replay_lineage(&self, group: &GroupIdentity) -> Result<(), ReadOnly> {
        let lineage = lineage(group, self.journal.origin());
        self.tables.change_lineage(lineage, || Ok(0)).map(drop)
    }

    /// Replays an entry as far as it is about rows; those that the file has are passed over.
    fn replay_rows_of(&self, position: Position, entry: &[u8], new: bool) -> Result<(), Broken> {
        let (header, bytes) = EntryHeader::decode(entry).map_err(Broken::Unreadable)?;
        let operation = decode(bytes).map_err(Broken::Unreadable)?;
        if is_of_a_state(&header, &operation) {
            self.tables.replayed_of_a_state();
        }
        if let Operation::Group(group) = &operation {
            let changed = self.replay_lineage(group);
            changed.map_err(|error| Broken::Open(OpenError::ReadOnly(error)))?;
        }
        if is_of_tables(&operation) && new {
            let end = position + (ENTRY_PREFIX_LEN + entry.len()) as Position;
            self.replay_operation(position, end, &header, &operation)
                .map_err(Broken::Open)?;
        }
        Ok(())
    }

    /// Everything is replayed: says in the new file what is missing, if something is. Where nothing can
    /// be written it is found again by the next start.
    pub(super) fn settle_lost_rows(&self) {
        if self.journal.read_only().is_none() {
            drop(self.tables.flush());
        }
    }

    /// Why rows are missing on this node, if they are.
    pub fn damaged_rows(&self) -> Option<Arc<str>> {
        self.tables.damage()
    }

    /// Takes the rows that are left on a node without other members for all there are; false: none are
    /// missing.
    ///
    /// # Errors
    /// When the node has other members, from whom they come, or takes no writes.
    pub fn forget_lost_rows(&self) -> Result<bool, TableError> {
        self.journal.ensure_writable()?;
        if self.tables.damage().is_none() {
            return Ok(false);
        }
        if self.lock_system().members.joined().count() > 1 {
            return Err(TableError::OthersHaveRows);
        }
        if self.tables.wants_restart() {
            return Err(TableError::RestartFirst);
        }
        let forgotten = self.tables.forget_damage();
        match self.tables.flush() {
            // It is written with the next snapshot; a restart before it asks again.
            Ok(()) | Err(FlushError::NoFile(_)) => Ok(forgotten),
            Err(FlushError::ReadOnly(error)) => Err(error.into()),
        }
    }
}
