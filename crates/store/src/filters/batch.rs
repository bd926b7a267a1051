//! Files of layers written many at a time: their syncs, and those of their directories, wait for the
//! device together.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, Storage};
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::filter::{Layer, Place};

use super::Filters;
use super::error::FilterError;
use super::handle::{FILTERS_DIR, Handle, directory, layer_path, lock};
use super::load::{GoOn, beside, write_beside};
use crate::disk::{DiskFile, Unsynced};
use crate::layer_file::{write_layer, write_rights};

/// Files of a batch: they are open at once.
const FILES_MAX: usize = 64;
/// Bytes of a batch, about: they wait for the device, and others for them.
const BYTES_MAX: u64 = 32 << 20;

/// How often a snapshot yields to those who wait before it goes on.
const YIELDS_MAX: usize = 1000;

/// Files that are written beside their places.
#[derive(Default)]
pub(super) struct Batch {
    files: Vec<Beside>,
    bytes: u64,
}

struct Beside {
    handle: Arc<Handle>,
    layer: LayerId,
    revision: u64,
    file: Arc<dyn DiskFile>,
}

/// Whether all files were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// They were.
    All,
    /// They were, but for those of a filter that is damaged.
    AllButDamaged,
    /// It was not to go on.
    Stopped,
}

impl Filters {
    /// Writes the files of all layers that have changed, as long as it is to `go_on`. Says whether
    /// the log may be forgotten up to where it was before the call: not while a filter is damaged,
    /// since what it was given since its last good file is only in the log. Should the file come
    /// back, by a disk that reads again or from a backup, replay must begin there.
    pub(crate) fn write_all(&self, go_on: GoOn<'_>) -> Result<Written, FilterError> {
        let mut all = self.all().into_iter().peekable();
        while all.peek().is_some() {
            // Those who wait for room, or to unload something, get in between.
            for _ in 0..YIELDS_MAX {
                if !self.ring.is_waited_for() {
                    break;
                }
                std::thread::yield_now();
            }
            let _alone = lock(&self.snapshot);
            let mut batch = Batch::default();
            while !batch.is_full()
                && let Some(handle) = all.next()
            {
                if !self.write_beside(&handle, &mut batch, go_on)? {
                    return Ok(Written::Stopped);
                }
            }
            self.settle(&mut batch)
                .map_err(|error| self.snapshot_failed(&error))?;
        }
        let damaged = self.all().iter().any(|handle| handle.damage().is_some());
        Ok(if damaged {
            Written::AllButDamaged
        } else {
            Written::All
        })
    }

    /// Writes what a filter has that its files have not; false if it was not to go on.
    fn write_beside(
        &self,
        handle: &Arc<Handle>,
        batch: &mut Batch,
        go_on: GoOn<'_>,
    ) -> Result<bool, FilterError> {
        let Some(filter) = handle.resident() else {
            return Ok(go_on());
        };
        for layer in filter.layers().filter(|layer| handle.is_unwritten(layer)) {
            if !go_on() {
                return Ok(false);
            }
            if layer.place() == Place::File {
                self.write_layer(handle, layer)?;
                continue;
            }
            match self.write_layer_beside(handle, layer, go_on) {
                Ok(beside) => batch.add(beside, layer),
                Err(_) if !go_on() => return Ok(false),
                Err(error) => return Err(self.snapshot_failed(&error)),
            }
            if batch.is_full() {
                self.settle(batch)
                    .map_err(|error| self.snapshot_failed(&error))?;
            }
        }
        Ok(true)
    }

    fn write_layer_beside(
        &self,
        handle: &Arc<Handle>,
        layer: &Layer,
        go_on: GoOn<'_>,
    ) -> io::Result<Beside> {
        // Read first: keys that come while the file is written make the next one due.
        let revision = layer.revision();
        let id: FilterId = handle.id;
        self.disk.create_dir(&directory(id))?;
        let path = layer_path(id, layer.id());
        let write = |out: &mut dyn io::Write| match handle.storage {
            Storage::Durable => write_layer(out, id, layer),
            Storage::Memory => write_rights(out, id, layer),
        };
        let file = write_beside(&*self.disk, &path, go_on, write)?;
        Ok(Beside {
            handle: Arc::clone(handle),
            layer: layer.id(),
            revision,
            file,
        })
    }

    /// Moves the files of a batch to their places, durably.
    fn settle(&self, batch: &mut Batch) -> io::Result<()> {
        let Batch { files, .. } = std::mem::take(batch);
        if files.is_empty() {
            return Ok(());
        }
        let synced = |one: &Beside| Unsynced::File(Arc::clone(&one.file));
        let syncs: Vec<Unsynced> = files.iter().map(synced).collect();
        self.disk.sync_all(&syncs)?;
        let mut directories = BTreeSet::from([FILTERS_DIR.to_owned()]);
        for one in &files {
            let path = layer_path(one.handle.id, one.layer);
            self.disk.rename(&beside(&path), &path)?;
            directories.insert(directory(one.handle.id));
        }
        let names: Vec<Unsynced> = directories.into_iter().map(Unsynced::Directory).collect();
        self.disk.sync_all(&names)?;
        for one in files {
            lock(&one.handle.snapshots).insert(one.layer, one.revision);
        }
        Ok(())
    }
}

impl Batch {
    fn add(&mut self, file: Beside, layer: &Layer) {
        self.bytes += layer.shape().geometry.bytes();
        self.files.push(file);
    }

    fn is_full(&self) -> bool {
        self.files.len() >= FILES_MAX || self.bytes >= BYTES_MAX
    }
}
