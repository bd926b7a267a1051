//! Snapshots of the whole.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, MutexGuard, PoisonError};

use serde_bytes::ByteBuf;

use super::Collections;
use crate::filters::{FilterError, GoOn, Written};
use crate::journal::ReadOnly;
use crate::manifest::{Manifest, ManifestError};

/// A segment of at least this size is ended by a snapshot and removed after it; a smaller one is
/// not worth the file.
const ROLL_OVER_BYTES: u64 = 256 << 10;

impl Collections {
    /// Whether the log has grown so much that a snapshot is due.
    pub fn checkpoint_due(&self) -> bool {
        let tried = self.tried.load(Relaxed);
        let tail = self.journal.appended().saturating_sub(tried);
        tail >= self.options.checkpoint_log && tail >= self.filters.unwritten() / 2
    }

    /// Takes a snapshot of everything that changed and drops the log before the snapshot before it.
    /// Requests go on meanwhile. While a filter or the rows are damaged, files are written but recovery goes on from
    /// where it would have before.
    pub fn checkpoint(&self) -> Result<(), FilterError> {
        self.checkpoint_whole(&|| true).map(drop)
    }

    /// The same as long as it is to `go_on`: asked between files, and while a large one is written.
    /// False when recovery would not begin with it. What is in files by then is so for good, and the
    /// log has the rest.
    pub fn checkpoint_while(&self, go_on: &dyn Fn() -> bool) -> Result<bool, FilterError> {
        self.checkpoint_whole(go_on)
    }

    /// A snapshot; false when recovery would not begin with it, since a filter or the rows are
    /// damaged, or it was not to go on.
    pub(super) fn checkpoint_whole(&self, go_on: GoOn<'_>) -> Result<bool, FilterError> {
        self.journal.ensure_writable()?;
        let _alone = self
            .checkpointing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.journal
            .log()
            .roll_over(ROLL_OVER_BYTES)
            .map_err(ReadOnly::from)?;
        let mut manifest = self.manifest()?;
        let position = manifest.position();
        let written = self.filters.write_all(go_on)?;
        if written == Written::Stopped {
            return Ok(false);
        }
        // What changed rows before the position entered memory before this.
        self.tables.flush()?;
        let rows_damaged = self.tables.damage().is_some();
        manifest.tables = self.tables.in_file();
        manifest.revisions = self.filters.file_revisions(&manifest.rows);
        // The manifest must not say more than the log holds after a power cut.
        self.journal.sync()?;
        self.tried.store(position, Relaxed);
        if written == Written::AllButDamaged || rows_damaged {
            return Ok(false);
        }
        let failed = |error: io::Error| self.filters.snapshot_failed(&error);
        Manifest::keep_before(&*self.disk).map_err(failed)?;
        manifest.write(&*self.disk).map_err(|error| match error {
            ManifestError::Unreadable(_) => self.keep_snapshot(&error),
            ManifestError::Io(error) => failed(error),
            error => failed(io::Error::other(error)),
        })?;
        *self.lock_unreadable() = None;
        // What is lost of this snapshot is made good from the one before and the log behind that.
        let before = self.snapshot_position.swap(position, Relaxed);
        // A removal that may not be durable, followed by others that are, would leave a hole.
        self.journal
            .log()
            .truncate_before(before.min(self.keep_from.load(Relaxed)))
            .map_err(|error| failed(io::Error::other(error)))?;
        Ok(true)
    }

    /// Notes that the snapshot before is kept, with the log behind it: what was written does not
    /// read back.
    fn keep_snapshot(&self, error: &ManifestError) -> FilterError {
        let reason: Arc<str> = error.to_string().into();
        *self.lock_unreadable() = Some(Arc::clone(&reason));
        FilterError::Unreadable(reason)
    }

    /// Why the last snapshot was not taken, if what was written could not be read back.
    pub fn unreadable_snapshot(&self) -> Option<Arc<str>> {
        self.lock_unreadable().clone()
    }

    fn lock_unreadable(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.unreadable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything but the bits of filters as of now. What lies before its position is in the files of filters
    /// that are written after this call.
    pub(super) fn manifest(&self) -> Result<Manifest, ReadOnly> {
        self.filters.with_catalogue(|catalogue| {
            let system = self.lock_system();
            let bitmap = self.bitmap.hold();
            Ok(Manifest {
                directory: Some(self.journal.origin()),
                bookmark: self.journal.bookmark()?,
                rows: catalogue.rows().cloned().collect(),
                hidden: catalogue.hidden().map(ByteBuf::from).collect(),
                group: Some(system.group),
                members: system.members.records(),
                bitmap: bitmap.to_bytes().into(),
                tables: 0,
                revisions: Vec::new(),
            })
        })
    }
}
