//! Filters for which there is no room in memory: their bits are in files only, which follow what
//! other nodes put in.
//!
//! Such a filter refuses keys of clients, and is otherwise a copy like any other: what operations and
//! peers bring waits in memory, line by line, and is merged into the files at every snapshot, or once
//! it is much; peers that compare bits are answered from the files. So nothing of the log has to be
//! kept for it, and it is whole as soon as there is room to read it.

use std::sync::{Arc, RwLockReadGuard};

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, Storage};
use grapevine_core::filter::{Filter, Layer, Place};

use super::Filters;
use super::error::{FilterError, LoadError};
use super::handle::{Bits, Handle, Loaded, directory, layer_path, lock};
use super::keys::LOAD_ATTEMPTS_MAX;
use super::load::{FileReader, write_atomically};
use crate::layer_file::{MergeError, write_merged};

/// Lines that wait for the files of all such filters at least, about.
const WAITING_LINES_MIN: u64 = 16 << 10;
/// They may take this part of what filters in memory may take: the more wait, the less often the
/// files are written anew.
const WAITING_PART: u64 = 8;
/// What a line takes that waits, about.
const WAITING_LINE_BYTES: u64 = 100;

impl Filters {
    /// The handle's bits for what other nodes put in or ask for: in memory if there is room.
    pub(super) fn replica<'a>(
        &self,
        handle: &'a Handle,
    ) -> Result<RwLockReadGuard<'a, Bits>, FilterError> {
        for _ in 0..LOAD_ATTEMPTS_MAX {
            let bits = handle.bits_read();
            match &*bits {
                Bits::Loaded(_) => return Ok(bits),
                Bits::Apart(apart) if !self.is_crowded(&apart.filter) => return Ok(bits),
                Bits::Apart(_) => {
                    drop(bits);
                    let _alone = self.alone();
                    self.write_layers(handle)?;
                }
                Bits::Unloaded | Bits::Damaged(_) | Bits::Gone => {
                    drop(bits);
                    match self.load(handle) {
                        Err(FilterError::Memory(_)) => self.set_apart(handle)?,
                        loaded => loaded?,
                    }
                }
            }
        }
        Err(self.crowded())
    }

    /// The same, with memory for a layer that is about to be added: where there is none, the filter
    /// is apart from then on.
    pub(super) fn replica_with_room<'a>(
        &self,
        handle: &'a Handle,
        layer: &LayerRow,
    ) -> Result<RwLockReadGuard<'a, Bits>, FilterError> {
        let bytes = layer.shape.geometry.bytes();
        for _ in 0..LOAD_ATTEMPTS_MAX {
            let bits = self.replica(handle)?;
            let Some(held) = bits.held() else {
                return Ok(bits);
            };
            if held.has_room_for(layer.shape.id) || held.memory.grow(bytes).is_ok() {
                return Ok(bits);
            }
            let beside = held.memory.bytes();
            drop(bits);
            match self.room(bytes, beside, handle.storage) {
                // Given back: most likely it is still there at the next attempt.
                Ok(room) => drop(room),
                Err(FilterError::Memory(_)) => self.set_apart(handle)?,
                Err(error) => return Err(error),
            }
        }
        Err(self.crowded())
    }

    /// Whether so much waits that it is to be merged into the files.
    pub(super) fn is_crowded(&self, apart: &Filter) -> bool {
        let waiting: usize = apart.layers().map(|layer| layer.waiting_count()).sum();
        let part = self.memory.limit() / WAITING_PART / WAITING_LINE_BYTES;
        let count = lock(&self.apart).len().max(1);
        waiting as u64 > part.max(WAITING_LINES_MIN) / count as u64
    }

    /// From now on the bits are in files only.
    pub(super) fn set_apart(&self, handle: &Handle) -> Result<(), FilterError> {
        let row = self.with_catalogue(|catalogue| catalogue.row(handle.id).cloned());
        let row = row.ok_or(FilterError::NotFound)?;
        let _alone = self.alone();
        let mut bits = handle.bits_write();
        let apart = match &*bits {
            Bits::Unloaded => self.apart_of_files(handle, &row),
            Bits::Loaded(loaded) => {
                self.write_whole(handle, &loaded.filter)?;
                let apart = self.elsewhere(&row);
                let layers = loaded.filter.layers();
                let mut layers = layers.map(|layer| (layer.shape(), layer.opened()));
                let add = |layer: (_, _)| -> Result<(), LoadError> {
                    let (shape, opened) = layer;
                    self.read_new_layer(handle, &apart, LayerRow { shape, opened })
                };
                layers.try_for_each(add).map(|()| apart)
            }
            Bits::Apart(_) | Bits::Damaged(_) | Bits::Gone => return Ok(()),
        };
        self.ring.leave(handle);
        match apart {
            Ok(apart) => {
                *bits = Bits::Apart(apart);
                lock(&self.apart).insert(handle.id);
                Ok(())
            }
            Err(error) => {
                let error = FilterError::from(error);
                if let FilterError::Damaged(reason) = &error {
                    *bits = Bits::Damaged(Arc::clone(reason));
                }
                Err(error)
            }
        }
    }

    /// A filter of that row without layers yet, whose arrays are in files.
    pub(super) fn elsewhere(&self, row: &FilterRow) -> Loaded {
        self.empty_in(Place::File, row.parameters, row.seed, row.storage)
    }

    /// Writes what is only in memory, also of a filter that is kept there.
    fn write_whole(&self, handle: &Handle, filter: &Filter) -> Result<(), FilterError> {
        for layer in filter.layers() {
            if handle.storage == Storage::Memory || handle.is_unwritten(layer) {
                let revision = layer.revision();
                self.write_layer_file(handle.id, layer, Storage::Durable)
                    .map_err(|error| self.snapshot_failed(&error))?;
                lock(&handle.snapshots).insert(layer.id(), revision);
            }
        }
        Ok(())
    }

    fn apart_of_files(&self, handle: &Handle, row: &FilterRow) -> Result<Loaded, LoadError> {
        let apart = self.elsewhere(row);
        for layer in &row.layers {
            self.read_new_layer(handle, &apart, *layer)?;
        }
        Ok(apart)
    }

    /// The filter with all its bits, whatever the memory bound, for who compares copies.
    pub fn whole(&self, handle: &Handle) -> Result<Arc<Filter>, FilterError> {
        let bits = handle.bits_read();
        let apart = match &*bits {
            Bits::Loaded(loaded) => return Ok(Arc::clone(&loaded.filter)),
            Bits::Damaged(reason) => return Err(FilterError::Damaged(Arc::clone(reason))),
            Bits::Gone => return Err(FilterError::NotFound),
            Bits::Unloaded => None,
            Bits::Apart(apart) => Some(&apart.filter),
        };
        let row = self.with_catalogue(|catalogue| catalogue.row(handle.id).cloned());
        let row = row.ok_or(FilterError::NotFound)?;
        let Loaded { filter, .. } = self.empty(row.parameters, row.seed, row.storage);
        let read = || -> Result<(), LoadError> {
            for legacy in &row.legacy {
                filter.add_legacy(Arc::new(self.read_legacy(handle, legacy)?))?;
            }
            for layer in &row.layers {
                let layer = filter.add_layer(*layer)?;
                if lock(&handle.snapshots).contains_key(&layer.id()) {
                    self.read_layer(handle, layer)?;
                }
            }
            Ok(())
        };
        read()?;
        if let Some(apart) = apart {
            carry_over(apart, &filter);
        }
        Ok(filter)
    }

    /// Takes in the rights that a layer's file has, and its revision.
    pub(super) fn read_rights(&self, handle: &Handle, layer: &Layer) -> Result<(), LoadError> {
        let head = self.read_head(handle, &layer.shape())?;
        // The head is of this very layer.
        layer.merge_rights(&head.rights).ok();
        layer.raise_revision(head.revision);
        Ok(())
    }

    /// Merges what waits for a layer into its file, if it has one.
    pub(super) fn merge_layer_file(
        &self,
        id: FilterId,
        layer: &Layer,
        has_file: bool,
    ) -> Result<(), MergeError> {
        let path = layer_path(id, layer.id());
        let waiting = layer.waiting();
        let old = has_file.then(|| FileReader::open(&*self.disk, &path)?.layer());
        let old = old.transpose().map_err(MergeError::Read)?;
        self.disk.create_dir(&directory(id))?;
        write_atomically(&*self.disk, &path, |out| {
            write_merged(out, id, layer, old, &waiting)
        })?;
        self.disk.sync_dir(super::FILTERS_DIR)?;
        layer.settle(&waiting);
        Ok(())
    }
}

/// Puts what waits for the files of `apart` into the same filter in memory.
pub(super) fn carry_over(apart: &Filter, into: &Filter) {
    for (layer, own) in apart
        .layers()
        .filter_map(|layer| Some((layer, into.layer(layer.id())?)))
    {
        // They are rights of one layer.
        own.merge_rights(&layer.rights()).ok();
        for (index, words) in layer.waiting() {
            own.merge_words(index as usize * words.len(), &words);
        }
        own.touch();
    }
}
