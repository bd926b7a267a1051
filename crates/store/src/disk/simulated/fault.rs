//! Planned failures and power cuts, counted in operations.

use std::io;

use rustix::io::Errno;

/// The kinds of operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening a file that was not there, with a mode that makes it.
    Create,
    /// Making a directory.
    CreateDir,
    /// Reading from a file.
    Read,
    /// Removing a file or a directory.
    Remove,
    /// Renaming a file.
    Rename,
    /// Changing the length of a file, also by opening it emptied.
    SetLen,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDir,
    /// Writing to a file.
    Write,
}

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Proceed,
    Fail(io::ErrorKind),
    /// The power goes while it is in flight.
    Cut,
}

impl Outcome {
    /// The result the caller sees.
    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Proceed => Ok(()),
            Self::Fail(kind) => Err(kind.into()),
            Self::Cut => Err(power_cut()),
        }
    }
}

fn power_cut() -> io::Error {
    io::Error::other("the power is cut")
}

#[derive(Clone, Copy)]
struct Planned {
    operation: Operation,
    left: u64,
    error: io::ErrorKind,
}

/// Counters and plans.
#[derive(Clone, Default)]
pub(super) struct Faults {
    planned: Vec<Planned>,
    operations: u64,
    syncs: u64,
    cut_at_operation: Option<u64>,
    cut_at_sync: Option<u64>,
    /// A file that rots whenever it is synced.
    pub(super) rotting: Option<String>,
    down: bool,
    no_descriptors: bool,
}

impl Faults {
    pub(super) fn plan(&mut self, operation: Operation, nth: u64, error: io::ErrorKind) {
        self.planned.push(Planned {
            operation,
            left: nth,
            error,
        });
    }

    pub(super) fn cut_after_operations(&mut self, nth: u64) {
        self.cut_at_operation = Some(self.operations.saturating_add(nth));
    }

    pub(super) fn cut_after_syncs(&mut self, nth: u64) {
        self.cut_at_sync = Some(self.syncs.saturating_add(nth));
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn syncs(&self) -> u64 {
        self.syncs
    }

    pub(super) fn is_down(&self) -> bool {
        self.down
    }

    pub(super) fn restart(&mut self) {
        self.planned.clear();
        self.cut_at_operation = None;
        self.cut_at_sync = None;
        self.down = false;
        self.no_descriptors = false;
    }

    pub(super) fn take_descriptors(&mut self, none_left: bool) {
        self.no_descriptors = none_left;
    }

    /// Fails where no file can be opened.
    pub(super) fn check_descriptors(&self) -> io::Result<()> {
        if self.no_descriptors {
            return Err(Errno::MFILE.into());
        }
        Ok(())
    }

    pub(super) fn check_up(&self) -> io::Result<()> {
        if self.down { Err(power_cut()) } else { Ok(()) }
    }

    pub(super) fn begin_read(&mut self) -> io::Result<()> {
        self.due(Operation::Read)
            .map_or(Ok(()), |kind| Err(kind.into()))
    }

    /// Counts one changing operation and says what becomes of it.
    pub(super) fn begin(&mut self, operation: Operation) -> io::Result<Outcome> {
        self.check_up()?;
        let mut cut = self.cut_at_operation == Some(self.operations);
        self.operations += 1;
        if matches!(operation, Operation::Sync | Operation::SyncDir) {
            cut |= self.cut_at_sync == Some(self.syncs);
            self.syncs += 1;
        }
        if cut {
            self.down = true;
            return Ok(Outcome::Cut);
        }
        Ok(self.due(operation).map_or(Outcome::Proceed, Outcome::Fail))
    }

    /// Counts down the plans for `operation` and takes out one that is due.
    fn due(&mut self, operation: Operation) -> Option<io::ErrorKind> {
        let due = self
            .planned
            .iter()
            .position(|p| p.operation == operation && p.left == 0);
        for planned in self.planned.iter_mut().filter(|p| p.operation == operation) {
            planned.left = planned.left.saturating_sub(1);
        }
        due.map(|index| self.planned.remove(index).error)
    }
}
