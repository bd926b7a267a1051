//! Snapshots of the whole, and what goes with them in the background: unloading what is idle,
//! removing what was dropped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use grapevine_core::catalogue::FilterId;

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, FILTERS_DIR, Handle, directory, lock};
use crate::manifest::{Manifest, ManifestError};

/// Most names removed from one filter's directory.
const FILES_PER_FILTER_MAX: usize = 100_000;

/// What a round of tidying did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clearance {
    /// Filters unloaded.
    pub unloaded: usize,
    /// Dropped filters whose files are gone now.
    pub reclaimed: usize,
}

impl Filters {
    /// Whether the log has grown so much that a snapshot is due.
    pub fn checkpoint_due(&self) -> bool {
        let grown = self.log.appended().saturating_sub(self.tried.load(Relaxed));
        grown >= self.options.checkpoint_log.max(self.memory.used() / 2)
    }

    /// Takes a snapshot of everything that changed and drops the log before it. Requests go on
    /// meanwhile. While a filter is damaged, files are written but recovery goes on from where
    /// it would have before.
    pub fn checkpoint(&self) -> Result<(), FilterError> {
        self.ensure_writable()?;
        let mut snapshot = lock(&self.snapshot);
        let manifest = {
            let catalogue = lock(&self.catalogue);
            // The append lock holds position and sequence number together.
            let appender = self.log.begin()?;
            let position = self.log.appended();
            let sequence = self.sequence.load(Relaxed);
            drop(appender);
            Manifest {
                position,
                sequence,
                rows: catalogue.rows().cloned().collect(),
            }
        };
        for handle in self.all() {
            self.write_layers(&handle)
                .map_err(|error| self.snapshot_failed(&error))?;
        }
        // The manifest must not say more than the log holds after a power cut.
        self.log.sync()?;
        self.tried.store(manifest.position, Relaxed);
        // What a damaged filter was given since its last good file is only in the log. Should the
        // file come back, by a disk that reads again or from a backup, replay must begin there.
        if self.all().iter().any(|handle| handle.damage().is_some()) {
            return Ok(());
        }
        manifest.write(&*self.disk).map_err(|error| match error {
            ManifestError::Io(error) => self.snapshot_failed(&error),
            error => self.snapshot_failed(&io::Error::other(error.to_string())),
        })?;
        *snapshot = manifest.position;
        self.snapshot_position.store(manifest.position, Relaxed);
        // A removal that may not be durable, followed by others that are, would leave a hole.
        self.log
            .truncate_before(manifest.position)
            .map_err(|error| self.snapshot_failed(&io::Error::other(error)))?;
        Ok(())
    }

    /// Makes one filter's keys durable in their compact form.
    pub fn flush(&self, handle: &Handle) -> Result<(), FilterError> {
        self.ensure_writable()?;
        if handle.is_gone() {
            return Err(FilterError::NotFound);
        }
        let _alone = lock(&self.snapshot);
        self.write_layers(handle)
            .map_err(|error| self.snapshot_failed(&error))?;
        self.log.sync()?;
        Ok(())
    }

    /// Unloads filters that were not used for the time set, and removes the files of dropped
    /// ones. `now` is in seconds of any clock that does not go back.
    pub fn tidy(&self, now: u64) -> Result<Clearance, FilterError> {
        let reclaimed = self.reclaim()?;
        let mut unloaded = 0;
        if let Some(idle) = self.options.idle_unload {
            for handle in self.all() {
                if handle.used.swap(false, Relaxed) {
                    handle.used_at.store(now, Relaxed);
                } else if now.saturating_sub(handle.used_at.load(Relaxed)) >= idle.as_secs()
                    && handle.is_loaded()
                {
                    self.unload(&handle)?;
                    unloaded += usize::from(!handle.is_loaded());
                }
            }
        }
        Ok(Clearance {
            unloaded,
            reclaimed,
        })
    }

    /// Removes the files of filters whose drop is durable.
    fn reclaim(&self) -> Result<usize, FilterError> {
        let dropped: Vec<_> = lock(&self.reclaiming)
            .iter()
            .map(|(id, (_, position))| (*id, *position))
            .collect();
        let Some(last) = dropped.iter().map(|(_, position)| *position).max() else {
            return Ok(0);
        };
        self.ensure_writable()?;
        // A snapshot under way may still be writing a file of a filter that was dropped.
        let _alone = lock(&self.snapshot);
        if self.log.synced() < last {
            self.log.sync()?;
        }
        for (id, _) in &dropped {
            self.remove_files(*id)
                .map_err(|error| self.snapshot_failed(&error))?;
            lock(&self.reclaiming).remove(id);
        }
        Ok(dropped.len())
    }

    pub(super) fn remove_files(&self, id: FilterId) -> io::Result<()> {
        let directory = directory(id);
        let names = self.disk.list(&directory)?;
        for name in names.iter().take(FILES_PER_FILTER_MAX) {
            self.disk.remove(&format!("{directory}/{name}"))?;
        }
        if self.disk.exists(&directory)? {
            self.disk.sync_dir(&directory)?;
            self.disk.remove_dir(&directory)?;
            self.disk.sync_dir(FILTERS_DIR)?;
        }
        Ok(())
    }

    pub(super) fn all(&self) -> Vec<Arc<Handle>> {
        self.handles_read().by_id.values().cloned().collect()
    }

    /// Filters that cannot be used because a file of theirs is corrupt, with the reason.
    pub fn damaged(&self) -> Vec<(Vec<u8>, Arc<str>)> {
        self.all()
            .iter()
            .filter_map(|handle| match &*handle.bits_read() {
                Bits::Damaged(reason) => Some((handle.name.clone(), Arc::clone(reason))),
                _ => None,
            })
            .collect()
    }
}
