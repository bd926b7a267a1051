//! Changes of the catalogue read from the log at a start.
//!
//! Files are newer than the operations that are being replayed: a layer may have been written, and
//! merged into, long after the operation that opens it. So what a file has is read as soon as its
//! layer is there, before want of memory could have it written anew with less.
//!
//! A file may also be of an opening that was lost in a power cut, after which another layer got the
//! same name. So a layer that is opened while the node runs begins with no file in its place.

use std::io;

use grapevine_core::catalogue::{LayerRow, Storage};
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::operation::{CatalogueChange, Epoch};

use super::Filters;
use super::apply::{Append, Blocked, Effected};
use super::arrival::not_kept;
use super::error::{FilterError, LoadError};
use super::handle::{Bits, Handle, directory, layer_path, lock};

impl Filters {
    /// Takes in a change of the catalogue once more.
    pub(crate) fn replay_change(&self, change: &CatalogueChange, append: Append<'_>) -> Effected {
        match change {
            CatalogueChange::AdoptLayer(epoch, layer, _) => {
                self.replay_adoption(*epoch, *layer, change, append)
            }
            CatalogueChange::Create(row) => {
                self.apply_change(change, append)?;
                self.read_early(row.epoch(), &row.layers)
            }
            CatalogueChange::OpenLayer(epoch, layer) => {
                self.apply_layer(*epoch, *layer, append)?;
                self.read_early(*epoch, std::slice::from_ref(layer))
            }
            change => self.apply_change(change, append),
        }
    }

    /// A layer whose file was written before this was logged: it has more in it than the log says.
    fn replay_adoption(
        &self,
        epoch: Epoch,
        layer: LayerRow,
        change: &CatalogueChange,
        append: Append<'_>,
    ) -> Effected {
        self.apply_to_row(epoch, append, change.clone(), Some(layer), |held| {
            if held.filter.layer(layer.shape.id).is_none() {
                let added = held.filter.add_layer(layer);
                added.map_err(|_| Blocked::UnknownLayer)?;
            }
            Ok(())
        })?;
        match self.by_id(epoch.filter) {
            Some(handle) => self.read_files(&handle, std::iter::once(layer.shape.id)),
            None => Ok(()),
        }
    }

    /// Removes the file that lies where one of a layer will be that is about to be opened.
    pub(super) fn clear_place(&self, handle: &Handle, layer: LayerId) -> io::Result<()> {
        let path = layer_path(handle.id, layer);
        if !lock(&handle.snapshots).contains_key(&layer) && self.disk.exists(&path)? {
            self.disk.remove(&path)?;
            self.disk.sync_dir(&directory(handle.id))?;
        }
        Ok(())
    }

    /// The same for a layer that another node opened, if it is not here yet.
    pub(super) fn clear_place_of_new(&self, epoch: Epoch, layer: LayerId) -> Effected {
        let known = self.with_catalogue(|catalogue| {
            let row = catalogue.row(epoch.filter);
            row.is_none_or(|row| row.layer(layer).is_some())
        });
        match self.by_id(epoch.filter) {
            Some(handle) if !known && handle.damage().is_none() => {
                let cleared = self.clear_place(&handle, layer);
                cleared.map_err(|error| not_kept(self.snapshot_failed(&error)))
            }
            _ => Ok(()),
        }
    }

    /// Reads the files that layers have already which were opened just now.
    fn read_early(&self, epoch: Epoch, layers: &[LayerRow]) -> Effected {
        let Some(handle) = self.by_id(epoch.filter) else {
            return Ok(());
        };
        if handle.storage == Storage::Memory {
            return Ok(());
        }
        for layer in layers {
            let id = layer.shape.id;
            let path = layer_path(handle.id, id);
            let exists = self.disk.exists(&path);
            if exists.map_err(|error| Blocked::NoFile(error.to_string().into()))? {
                self.read_files(&handle, std::iter::once(id))?;
            }
        }
        Ok(())
    }

    /// Takes in what the files of layers have that memory may not have. They are written anew at
    /// the next snapshot.
    pub(super) fn read_files(
        &self,
        handle: &Handle,
        layers: impl Iterator<Item = LayerId> + Clone,
    ) -> Effected {
        lock(&handle.snapshots).extend(layers.clone().map(|id| (id, u64::MAX)));
        let read = |id: LayerId| -> Result<(), LoadError> {
            match &*handle.bits_read() {
                Bits::Loaded(loaded) => match loaded.filter.layer(id) {
                    Some(layer) => self.read_layer(handle, layer),
                    None => Ok(()),
                },
                Bits::Apart(apart) => match apart.filter.layer(id) {
                    Some(layer) => self.read_rights(handle, layer),
                    None => Ok(()),
                },
                // They are read when the filter is used.
                Bits::Unloaded | Bits::Damaged(_) | Bits::Gone => Ok(()),
            }
        };
        let mut layers = layers;
        match layers.try_for_each(read).map_err(FilterError::from) {
            Ok(()) => Ok(()),
            Err(FilterError::Damaged(reason)) => {
                *handle.bits_write() = Bits::Damaged(reason);
                Ok(())
            }
            Err(error) => error.hindrance().map_or(Ok(()), Err),
        }
    }
}
