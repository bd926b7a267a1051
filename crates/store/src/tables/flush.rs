//! From memory to the file.

use std::sync::{Arc, PoisonError};

use super::Tables;
use super::redb_store::RedbStore;
use super::row_store::{Commit, RowStore};
use crate::journal::ReadOnly;

impl Tables {
    /// Writes everything that is in memory only to the file, durably.
    ///
    /// # Errors
    /// When the disk refuses; the node takes no more writes then.
    pub fn flush(&self) -> Result<(), ReadOnly> {
        self.flush_after(|| self.journal.sync().map(drop))
    }

    /// The same while the journal is replayed: all of it is durable.
    pub(super) fn flush_replayed(&self) -> Result<(), ReadOnly> {
        self.flush_after(|| Ok(()))
    }

    pub(super) fn flush_after(
        &self,
        sync: impl FnOnce() -> Result<(), ReadOnly>,
    ) -> Result<(), ReadOnly> {
        let _alone = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (frozen, descriptions, file) = {
            let mut state = self.lock();
            if state.is_written() {
                return Ok(());
            }
            // After one that failed nothing more is written.
            self.journal.ensure_writable()?;
            let (frozen, descriptions) = state.freeze();
            (frozen, descriptions, state.file.clone())
        };
        // The file must not be ahead of the journal after a power cut.
        sync()?;
        let commit = Commit {
            position: descriptions.position,
            records: &frozen.records,
            tables: &descriptions.tables,
            floors: &descriptions.floors,
            knowledge: descriptions.knowledge.as_deref(),
        };
        let written: Result<Arc<dyn RowStore>, _> = match file {
            Some(file) => file.commit(&commit).map(|()| file),
            None => RedbStore::create(&*self.disk, &commit).map(|store| Arc::new(store) as _),
        };
        let file = written.map_err(|error| self.fail(&error))?;
        let mut state = self.lock();
        state.file = Some(file);
        state.frozen = None;
        state.in_file = descriptions.position;
        Ok(())
    }
}
