//! Changes of the catalogue: filters made, dropped, hidden and shown, and layers opened.

use std::sync::Arc;

use grapevine_core::catalogue::{Catalogue, FilterId, FilterRow, Storage, validate_name};
use grapevine_core::filter::Filter;
use grapevine_core::filter::parameters::{LayerShape, Parameters};
use grapevine_core::hash::Seed;
use grapevine_core::operation::{CatalogueChange, encode_change};

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, Handle, Loaded, lock};
use super::memory::Reservation;
use crate::log::Position;

/// What a filter is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewFilter {
    /// Size, error and growth.
    pub parameters: Parameters,
    /// Whether its keys outlive the process.
    pub storage: Storage,
    /// Its own seed; none: the data directory's.
    pub seed: Option<Seed>,
}

/// Whether a name may be used again while the files of its last bearer are being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recreation {
    /// At once: the new filter has files of its own.
    AtOnce,
    /// Not yet (bloomd's clients expect to be told).
    WhenReclaimed,
}

/// What became of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The filter is new. To be acknowledged once this position is durable.
    Created(Position),
    /// It had been cleared and answers again, with what it held.
    Shown(Position),
    /// There is one, made by an operation before this position.
    Exists(Position),
    /// The files of the last one are still being removed.
    Reclaiming,
}

impl Filters {
    /// Makes a filter unless there is one of that name.
    pub fn create(
        &self,
        name: &[u8],
        new: NewFilter,
        recreation: Recreation,
    ) -> Result<Creation, FilterError> {
        validate_name(name)?;
        new.parameters.validate()?;
        self.ensure_writable()?;
        let mut catalogue = lock(&self.catalogue);
        if let Some(row) = catalogue.named(name) {
            if !row.hidden {
                return Ok(Creation::Exists(self.log.appended()));
            }
            let id = row.id;
            let position = self.change(&mut catalogue, CatalogueChange::Show(id))?;
            let mut handles = self.handles_write();
            if let Some(handle) = handles.by_id.get(&id).cloned() {
                handles.by_name.insert(name.to_vec(), handle);
            }
            return Ok(Creation::Shown(position));
        }
        if recreation == Recreation::WhenReclaimed && self.is_reclaiming(name) {
            return Ok(Creation::Reclaiming);
        }
        let first = new.parameters.layer(0, self.identity.origin, 1)?;
        let row = FilterRow {
            id: FilterId::new((self.entropy)()),
            name: name.to_vec(),
            parameters: new.parameters,
            seed: new.seed.unwrap_or(self.identity.seed),
            storage: new.storage,
            hidden: false,
            layers: if new.storage == Storage::Durable {
                vec![first]
            } else {
                vec![]
            },
            legacy: vec![],
        };
        let loaded = self.empty(&row, &[first])?;
        let handle = Handle::new(&row, Bits::Loaded(loaded));
        let position = self.enter(&mut catalogue, handle, CatalogueChange::Create(row))?;
        Ok(Creation::Created(position))
    }

    /// An empty filter in memory with these layers.
    pub(super) fn empty(
        &self,
        row: &FilterRow,
        layers: &[LayerShape],
    ) -> Result<Loaded, FilterError> {
        let memory = Reservation::empty(&self.memory);
        let filter = Filter::new(row.parameters, row.seed, self.identity.origin);
        for shape in layers {
            memory.grow(shape.geometry.bytes())?;
            filter.add_layer(*shape)?;
        }
        Ok(Loaded {
            filter: Arc::new(filter),
            memory,
        })
    }

    /// Logs a new filter and makes it answer to its name.
    pub(super) fn enter(
        &self,
        catalogue: &mut Catalogue,
        handle: Handle,
        change: CatalogueChange,
    ) -> Result<Position, FilterError> {
        let position = self.change(catalogue, change)?;
        self.register(handle, false);
        Ok(position)
    }

    /// Ends this epoch of the filter. It no longer answers; its files are removed in the
    /// background.
    pub fn drop_filter(&self, handle: &Handle) -> Result<Position, FilterError> {
        self.ensure_writable()?;
        let position = {
            let mut catalogue = lock(&self.catalogue);
            if catalogue.row(handle.id).is_none() {
                return Err(FilterError::NotFound);
            }
            let position = self.change(&mut catalogue, CatalogueChange::Drop(handle.id))?;
            let mut handles = self.handles_write();
            handles.by_id.remove(&handle.id);
            if handles
                .by_name
                .get(&handle.name)
                .is_some_and(|other| other.id == handle.id)
            {
                handles.by_name.remove(&handle.name);
            }
            lock(&self.reclaiming).insert(handle.id, (handle.name.clone(), position));
            position
        };
        *handle.bits_write() = Bits::Gone;
        Ok(position)
    }

    /// Makes an unloaded filter stop answering to its name, keeping its data. None when it is in
    /// memory: it has to be unloaded first, and one that is kept in memory only never is.
    pub fn hide(&self, handle: &Handle) -> Result<Option<Position>, FilterError> {
        self.ensure_writable()?;
        if handle.is_loaded() {
            return Ok(None);
        }
        let mut catalogue = lock(&self.catalogue);
        if catalogue.row(handle.id).is_none_or(|row| row.hidden) {
            return Err(FilterError::NotFound);
        }
        let position = self.change(&mut catalogue, CatalogueChange::Hide(handle.id))?;
        self.handles_write().by_name.remove(&handle.name);
        Ok(Some(position))
    }

    /// Logs and applies a change of the catalogue, whose lock the caller holds.
    pub(super) fn change(
        &self,
        catalogue: &mut Catalogue,
        change: CatalogueChange,
    ) -> Result<Position, FilterError> {
        let mut encoded = Vec::new();
        encode_change(&mut encoded, &change);
        let position = self.append(&encoded)?;
        catalogue.apply(&change);
        Ok(position)
    }

    pub(super) fn log_layer(
        &self,
        catalogue: &mut Catalogue,
        handle: &Handle,
        shape: LayerShape,
    ) -> Result<Position, FilterError> {
        self.change(catalogue, CatalogueChange::OpenLayer(handle.id, shape))
    }
}
