//! Operations taken in: from the log when the node starts, from peers while it runs.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use grapevine_core::catalogue::{Catalogue, FilterId, FilterRow, LayerRow, Storage};
use grapevine_core::filter::rights::Rights;
use grapevine_core::operation::{CatalogueChange, Epoch, Grant, Insert, Spent};
use grapevine_core::origin::Origin;

use super::Filters;
use super::error::{FilterError, LoadError};
use super::handle::{Bits, FILTERS_DIR, Handle, Loaded, lock};
use super::memory::{OverBound, bytes_of};
use crate::disk::Disk;
use crate::journal::ReadOnly;
use crate::log::Position;
use grapevine_core::sync::Part;

/// Why an operation was not taken in. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Blocked {
    /// Its filter was unloaded again and again before it could be changed.
    #[error(transparent)]
    Memory(#[from] OverBound),
    /// It names a layer that was never opened, though what opened it is said to be in.
    #[error("an operation on a layer that was never opened")]
    UnknownLayer,
    /// Its bits never were operations: they are to be fetched from who has them.
    #[error("bits of {} layers are to be fetched first", .0.len())]
    Parts(Vec<Part>),
    /// No file can be opened for the moment.
    #[error("no file can be opened now: {0}")]
    NoFile(Arc<str>),
    /// The node takes no writes.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
}

/// Whether an operation was taken in.
pub type Effected = Result<(), Blocked>;

/// Puts the operation into the journal; of one that is replayed it is there already. Called once
/// its bits are set, and before the catalogue shows it.
pub(super) type Append<'a> = &'a mut dyn FnMut() -> Result<Position, ReadOnly>;

impl Filters {
    /// Takes in new keys of `origin`.
    pub(crate) fn apply_insert(
        &self,
        origin: Origin,
        insert: &Insert<'_>,
        append: Append<'_>,
    ) -> Effected {
        self.apply_to_layer(insert.spent.filter, append, |handle, loaded| {
            let _inserting = handle
                .inserting
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let layer = loaded
                .filter
                .layer(insert.spent.layer)
                .ok_or(Blocked::UnknownLayer)?;
            layer.apply_all(insert.hashes());
            // The count may have come before the keys, with rights of another copy.
            layer.touch();
            layer.observe_inserted(origin, insert.spent.total);
            Ok(())
        })
    }

    /// Takes in rights that `origin` has drawn.
    pub(crate) fn apply_draw(&self, origin: Origin, drawn: &Spent, append: Append<'_>) -> Effected {
        self.apply_to_layer(drawn.filter, append, |_, loaded| {
            let layer = loaded
                .filter
                .layer(drawn.layer)
                .ok_or(Blocked::UnknownLayer)?;
            layer.observe_inserted(origin, drawn.total);
            layer.touch();
            Ok(())
        })
    }

    /// Takes in rights that `giver` has handed on.
    pub(crate) fn apply_grant(&self, giver: Origin, grant: &Grant, append: Append<'_>) -> Effected {
        self.apply_to_layer(grant.filter, append, |_, loaded| {
            let layer = loaded
                .filter
                .layer(grant.layer)
                .ok_or(Blocked::UnknownLayer)?;
            layer.observe_grant(giver, &grant.shares);
            Ok(())
        })
    }

    /// Changes a filter, wherever its bits are, and appends. One that was dropped, or is damaged, is
    /// passed over: the journal keeps what a damaged one was given.
    pub(super) fn apply_to_layer(
        &self,
        filter: FilterId,
        append: Append<'_>,
        change: impl FnOnce(&Handle, &Loaded) -> Effected,
    ) -> Effected {
        if let Some(handle) = self.by_id(filter) {
            match self.replica(&handle) {
                Ok(bits) => {
                    if let Some(held) = bits.held() {
                        change(&handle, held)?;
                    }
                    // Still under the bits' lock: who unloads them finds them in the journal.
                    append()?;
                    return Ok(());
                }
                Err(error) => match error.hindrance() {
                    Ok(blocked) => return Err(blocked),
                    Err(_) => self.change_healing(filter, |copy| change(&handle, copy)),
                },
            }
        }
        append()?;
        Ok(())
    }

    /// Takes in a change of the catalogue.
    pub(crate) fn apply_change(&self, change: &CatalogueChange, append: Append<'_>) -> Effected {
        match change {
            CatalogueChange::Create(row) => self.apply_creation(row, append),
            CatalogueChange::Drop(epoch) => self.apply_drop(*epoch, append),
            CatalogueChange::OpenLayer(epoch, layer) => {
                self.clear_place_of_new(*epoch, layer.shape.id)?;
                self.apply_layer(*epoch, *layer, append)
            }
            CatalogueChange::Hide(name) | CatalogueChange::Show(name) => {
                let mut catalogue = lock(&self.catalogue);
                append()?;
                catalogue.apply(change);
                self.rename(&mut self.handles_write(), &catalogue, &name.name);
                Ok(())
            }
            CatalogueChange::Import(row, _) => {
                let mut catalogue = lock(&self.catalogue);
                append()?;
                if catalogue.apply(change) {
                    let handle = self.handle_of_files(row);
                    self.register(&catalogue, handle);
                } else if let Some(handle) = self.by_id(row.id) {
                    drop(catalogue);
                    // They were put beside the log.
                    let layers = row.layers.iter().map(|layer| layer.shape.id);
                    self.read_files(&handle, layers)?;
                }
                Ok(())
            }
            CatalogueChange::AdoptLayer(epoch, layer, rights) => {
                self.enter_adopted(*epoch, *layer, rights, append)
            }
        }
    }

    fn apply_creation(&self, row: &FilterRow, append: Append<'_>) -> Effected {
        let fresh = self.fresh(row, row.storage)?;
        let mut catalogue = lock(&self.catalogue);
        if catalogue.row(row.id).is_some() {
            append()?;
            self.rename(&mut self.handles_write(), &catalogue, &row.name);
            return Ok(());
        }
        append()?;
        catalogue.apply(&CatalogueChange::Create(row.clone()));
        let bits = if fresh.is_apart() {
            lock(&self.apart).insert(row.id);
            Bits::Apart(fresh)
        } else {
            Bits::Loaded(fresh)
        };
        self.register(&catalogue, Handle::new(row, bits));
        Ok(())
    }

    /// The filter of a row, empty; in memory if there is room for it, which it takes as `storage`
    /// does.
    pub(super) fn fresh(&self, row: &FilterRow, storage: Storage) -> Result<Loaded, Blocked> {
        let loaded = match self.room(bytes_of(row), 0, storage) {
            Ok(memory) => Loaded {
                memory,
                ..self.empty(row.parameters, row.seed, row.storage)
            },
            Err(FilterError::ReadOnly(why)) => return Err(ReadOnly(why).into()),
            Err(_) => self.elsewhere(row),
        };
        for layer in &row.layers {
            let added = loaded.filter.add_layer(*layer);
            added.map_err(|_| Blocked::UnknownLayer)?;
        }
        Ok(loaded)
    }

    fn apply_drop(&self, epoch: Epoch, append: Append<'_>) -> Effected {
        let dropped = {
            let mut catalogue = lock(&self.catalogue);
            let position = append()?;
            catalogue.apply(&CatalogueChange::Drop(epoch));
            self.forget(&catalogue, epoch.filter, position)
        };
        if let Some(handle) = dropped {
            *handle.bits_write() = Bits::Gone;
        }
        Ok(())
    }

    pub(super) fn apply_layer(
        &self,
        epoch: Epoch,
        layer: LayerRow,
        append: Append<'_>,
    ) -> Effected {
        self.apply_to_row(
            epoch,
            append,
            CatalogueChange::OpenLayer(epoch, layer),
            Some(layer),
            |held| {
                let added = held.filter.add_layer(layer);
                added.map(drop).map_err(|_| Blocked::UnknownLayer)
            },
        )
    }

    /// Changes a filter and its row with it, once there is memory for the layer that is added. The
    /// layers of a filter that is in use are those of its row, or more.
    pub(super) fn apply_to_row(
        &self,
        epoch: Epoch,
        append: Append<'_>,
        change: CatalogueChange,
        added: Option<LayerRow>,
        add: impl FnOnce(&Loaded) -> Effected,
    ) -> Effected {
        let handle = self.by_id(epoch.filter);
        let bits = handle.as_ref().map(|handle| match added {
            Some(layer) => self.replica_with_room(handle, &layer),
            None => self.replica(handle),
        });
        let bits = match bits {
            Some(Ok(bits)) => Some(bits),
            Some(Err(error)) => match error.hindrance() {
                Ok(blocked) => return Err(blocked),
                Err(_) => None,
            },
            None => None,
        };
        let mut catalogue = lock(&self.catalogue);
        if let Some(held) = bits.as_deref().and_then(Bits::held) {
            add(held)?;
        } else {
            self.change_healing(epoch.filter, |copy| {
                if let Some(LayerRow { shape, .. }) = added
                    && !copy.has_room_for(shape.id)
                {
                    copy.memory.grow(shape.geometry.bytes())?;
                }
                add(copy)
            });
        }
        append()?;
        catalogue.apply(&change);
        Ok(())
    }

    /// Enters a layer whose bits are in memory and in its file.
    pub(super) fn enter_adopted(
        &self,
        epoch: Epoch,
        layer: LayerRow,
        rights: &Rights,
        append: Append<'_>,
    ) -> Effected {
        let handle = self.by_id(epoch.filter);
        let change = CatalogueChange::AdoptLayer(epoch, layer, rights.clone());
        self.apply_to_row(epoch, append, change, None, |held| {
            let own = held.filter.layer(layer.shape.id);
            if let (Some(handle), Some(own)) = (&handle, own) {
                lock(&handle.snapshots).insert(layer.shape.id, own.revision());
            }
            Ok(())
        })
    }

    /// A filter whose layers all have files.
    pub(super) fn handle_of_files(&self, row: &FilterRow) -> Handle {
        let handle = Handle::new(row, Bits::Unloaded);
        match self.read_summary(&handle, row) {
            Ok(()) => {}
            Err(LoadError::NotOpened { .. }) => {
                // They are there all the same, and are read when the filter is used.
                let ids = row.layers.iter().map(|layer| (layer.shape.id, u64::MAX));
                lock(&handle.snapshots).extend(ids);
            }
            Err(error) => *handle.bits_write() = Bits::Damaged(error.to_string().into()),
        }
        handle
    }

    /// Removes the files of filters that the catalogue does not know: dropped just before the
    /// last process ended, or never entered.
    pub(crate) fn remove_orphans(&self) -> io::Result<()> {
        let known: BTreeSet<String> = self
            .handles_read()
            .by_id
            .keys()
            .map(FilterId::to_string)
            .collect();
        for name in self.disk.list(FILTERS_DIR)? {
            if let (false, Ok(id)) = (known.contains(&name), u128::from_str_radix(&name, 16)) {
                self.remove_files(FilterId::new(id.to_be_bytes()))?;
            }
        }
        lock(&self.reclaiming).clear();
        Ok(())
    }

    /// Makes the directory of the files, durably, before anything is put into it: syncing a
    /// directory keeps the names in it, not its own.
    pub(crate) fn make_directory(disk: &dyn Disk) -> io::Result<()> {
        disk.create_dir(FILTERS_DIR)?;
        disk.sync_dir("")
    }

    /// Looks at the catalogue while nothing changes it.
    pub(crate) fn with_catalogue<T>(&self, look: impl FnOnce(&Catalogue) -> T) -> T {
        look(&lock(&self.catalogue))
    }
}
