//! From memory to the file.

use std::sync::{Arc, PoisonError};

use super::Tables;
use super::redb_store::{NewFiles, RedbStore, io_refused};
use super::row_store::{Commit, RowStore, RowStoreError};
use crate::disk::is_passing;
use crate::filters::FilterError;
use crate::journal::ReadOnly;

/// Why rows are in memory only.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// No file can be opened for the moment.
    #[error("no file can be opened now: {0}")]
    NoFile(Arc<str>),
    /// The node takes no writes.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
}

impl From<FlushError> for FilterError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::NoFile(reason) => FilterError::NoFile(reason),
            FlushError::ReadOnly(error) => error.into(),
        }
    }
}

/// What rows are written to.
enum Target {
    Store(Arc<dyn RowStore>),
    /// The files of a database that is to be made.
    New(NewFiles),
}

impl Tables {
    /// Writes everything that is in memory only to the file, durably.
    ///
    /// # Errors
    /// When the disk refuses; the node takes no more writes then.
    pub fn flush(&self) -> Result<(), FlushError> {
        self.flush_after(|| self.journal.sync().map(drop))
    }

    /// The same while the journal is replayed: all of it is durable.
    pub(super) fn flush_replayed(&self) -> Result<(), FlushError> {
        self.flush_after(|| Ok(()))
    }

    pub(super) fn flush_after(
        &self,
        sync: impl FnOnce() -> Result<(), ReadOnly>,
    ) -> Result<(), FlushError> {
        let _alone = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.lock().is_written() {
            return Ok(());
        }
        // After one that failed nothing more is written.
        self.journal.ensure_writable()?;
        let target = self.target()?;
        let (frozen, descriptions) = self.lock().freeze();
        // The file must not be ahead of the journal after a power cut.
        sync()?;
        let commit = Commit {
            position: descriptions.position,
            cleared: &frozen.cleared,
            records: &frozen.records,
            tables: &descriptions.tables,
            floors: &descriptions.floors,
            knowledge: descriptions.knowledge.as_deref(),
            damage: descriptions.damage.as_deref(),
        };
        let written: Result<Arc<dyn RowStore>, _> = match target {
            Target::Store(file) => file.commit(&commit).map(|()| file),
            Target::New(files) => RedbStore::create(&*self.disk, files, self.memory.cache, &commit)
                .map(|store| Arc::new(store) as _),
        };
        let file = match written {
            Ok(file) => file,
            // It met a page that does not hold. The log has what was to be written.
            Err(RowStoreError::Corrupt { .. }) if self.damage().is_some() => return Ok(()),
            Err(error) => {
                let failed = self.fail(&error);
                self.read_on();
                return Err(failed.into());
            }
        };
        let mut state = self.lock();
        // Meanwhile the file may have been given up.
        let frozen_still = state.frozen.as_ref();
        if !frozen_still.is_some_and(|still| Arc::ptr_eq(still, &frozen)) {
            return Ok(());
        }
        state.file = Some(file);
        state.frozen = None;
        state.in_file = descriptions.position;
        Ok(())
    }

    /// What rows are written to. It is opened before anything is begun: where no file can be, they
    /// wait in memory.
    fn target(&self) -> Result<Target, FlushError> {
        if let Some(file) = &self.lock().file {
            return Ok(Target::Store(Arc::clone(file)));
        }
        match RedbStore::prepare(&*self.disk) {
            Ok(files) => Ok(Target::New(files)),
            Err(error) if is_passing(&error) => Err(FlushError::NoFile(error.to_string().into())),
            Err(error) => Err(self.fail(&io_refused(error)).into()),
        }
    }

    /// Goes on reading the last commit of the file: a database of which a write failed answers
    /// nothing more. What was to be written stays in memory.
    fn read_on(&self) {
        if self.lock().file.is_none() {
            return;
        }
        // Where it cannot be read either, the database says so.
        if let Ok(Some(store)) = RedbStore::open_unwritten(&*self.disk, self.memory.cache) {
            self.lock().file = Some(Arc::new(store));
        }
    }
}
