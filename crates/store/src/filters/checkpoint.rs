//! Snapshots of the whole, and what goes with them in the background: unloading what is idle,
//! removing what was dropped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use grapevine_core::catalogue::{FilterId, Storage};

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, FILTERS_DIR, Handle, directory, lock};
use super::memory::USED_IDLE;

/// Most names removed from one filter's directory.
const FILES_PER_FILTER_MAX: usize = 100_000;

/// Most filters unloaded, and most dropped ones removed, in one round: each waits for the device a few
/// times, and whoever stops the node waits for the round.
const PER_ROUND_MAX: usize = 128;

/// What a round of tidying did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clearance {
    /// Filters unloaded.
    pub unloaded: usize,
    /// Dropped filters whose files are gone now.
    pub reclaimed: usize,
}

impl Filters {
    /// Bytes of the layers that a snapshot would write.
    pub(crate) fn unwritten(&self) -> u64 {
        let all = self.all().into_iter();
        let durable = all.filter(|handle| handle.storage == Storage::Durable);
        durable.map(|handle| handle.unwritten_bytes()).sum()
    }

    /// Makes one filter's keys durable in their compact form.
    pub fn flush(&self, handle: &Handle) -> Result<(), FilterError> {
        self.ensure_writable()?;
        if handle.is_gone() {
            return Err(FilterError::NotFound);
        }
        {
            let _alone = self.alone();
            for handle in std::iter::once(handle).chain(handle.also().iter().map(AsRef::as_ref)) {
                self.write_layers(handle)?;
            }
        }
        self.journal.sync()?;
        Ok(())
    }

    /// Unloads filters that were not used for the time set, and removes the files of dropped
    /// ones. `now` is in seconds of any clock; where it was set back, idleness counts from there.
    pub fn tidy(&self, now: u64) -> Result<Clearance, FilterError> {
        let reclaimed = self.reclaim()?;
        let mut unloaded = 0;
        if let Some(idle) = self.options.idle_unload {
            for handle in self.all() {
                if handle.used.fetch_and(!USED_IDLE, Relaxed) & USED_IDLE != 0 {
                    handle.used_at.store(now, Relaxed);
                } else if now - handle.used_at.fetch_min(now, Relaxed).min(now) >= idle.as_secs()
                    && handle.is_loaded()
                    && unloaded < PER_ROUND_MAX
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
            .take(PER_ROUND_MAX)
            .map(|(id, (_, position))| (*id, *position))
            .collect();
        let Some(last) = dropped.iter().map(|(_, position)| *position).max() else {
            return Ok(0);
        };
        self.ensure_writable()?;
        // A snapshot under way may still be writing a file of a filter that was dropped.
        let _alone = self.alone();
        if self.journal.synced() < last {
            self.journal.sync()?;
        }
        for (id, _) in &dropped {
            // One that has come back with a snapshot since has files of its own there.
            if self.by_id(*id).is_none() {
                self.remove_files(*id)
                    .map_err(|error| self.snapshot_failed(&error))?;
            }
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
