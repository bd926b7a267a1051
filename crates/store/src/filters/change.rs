//! Changes of the catalogue: filters made, dropped, hidden and shown, and layers opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use grapevine_core::catalogue::{
    Catalogue, FilterId, FilterRow, LayerRow, Scope, Storage, validate_name,
};
use grapevine_core::filter::parameters::{LayerShape, Parameters};
use grapevine_core::filter::{Filter, Place, Spending};
use grapevine_core::hash::Seed;
use grapevine_core::operation::{CatalogueChange, Epoch, Name, Stream, encode_change};
use grapevine_core::version::Dot;

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, Handle, Loaded, lock};
use super::memory::Reservation;
use super::rights::opened_by;
use crate::journal::ReadOnly;
use crate::log::Position;

/// What a filter is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NewFilter {
    /// Size, error and growth.
    pub parameters: Parameters,
    /// Whether its keys outlive the process.
    pub storage: Storage,
    /// Its own seed; none: the group's.
    pub seed: Option<Seed>,
    /// Who has it.
    pub scope: Scope,
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
        let room = self.room_for_new(name, &new)?;
        let mut catalogue = lock(&self.catalogue);
        if !self.entered(&catalogue, name).is_empty() {
            if !catalogue.is_hidden(name) {
                return Ok(Creation::Exists(self.journal.appended()));
            }
            let name = Name {
                name: name.to_vec(),
            };
            let (position, _) = self.change(&mut catalogue, Stream::Local, |_| {
                CatalogueChange::Show(name.clone())
            })?;
            self.rename(&mut self.handles_write(), &catalogue, &name.name);
            return Ok(Creation::Shown(position));
        }
        if recreation == Recreation::WhenReclaimed && self.is_reclaiming(name) {
            return Ok(Creation::Reclaiming);
        }
        let first = new
            .parameters
            .layer(0, self.identity.origin, self.member_count())?;
        let seed = new.seed.unwrap_or(*lock(&self.seed));
        let loaded = self.empty(new.parameters, seed, new.storage);
        loaded.memory.grow_by(room, first.geometry.bytes())?;
        let id = FilterId::new((self.entropy)());
        let position = self.enter(&mut catalogue, loaded, new.scope, |created| {
            let layer = LayerRow {
                shape: first,
                opened: created,
            };
            CatalogueChange::Create(FilterRow {
                id,
                created,
                scope: new.scope,
                name: name.to_vec(),
                parameters: new.parameters,
                seed,
                storage: new.storage,
                layers: vec![layer],
                legacy: vec![],
                other: BTreeMap::new(),
            })
        })?;
        Ok(Creation::Created(position))
    }

    /// Room for a filter that is to be made; none if there is one of that name.
    fn room_for_new(
        &self,
        name: &[u8],
        new: &NewFilter,
    ) -> Result<Option<Reservation>, FilterError> {
        if !self.with_catalogue(|catalogue| self.entered(catalogue, name).is_empty()) {
            return Ok(None);
        }
        let members = self.member_count();
        let first = new.parameters.layer(0, self.identity.origin, members)?;
        self.room(first.geometry.bytes(), 0, new.storage).map(Some)
    }

    /// A filter in memory without layers yet.
    pub(super) fn empty(&self, parameters: Parameters, seed: Seed, storage: Storage) -> Loaded {
        self.empty_in(Place::Memory, parameters, seed, storage)
    }

    /// A filter without layers yet, whose arrays will be in that place.
    pub(super) fn empty_in(
        &self,
        place: Place,
        parameters: Parameters,
        seed: Seed,
        storage: Storage,
    ) -> Loaded {
        let spending = match storage {
            Storage::Durable => Spending::WithKeys,
            Storage::Memory => Spending::Drawn,
        };
        let filter = Filter::new(parameters, seed, self.identity.origin).with_spending(spending);
        Loaded {
            filter: Arc::new(filter.with_place(place)),
            memory: Reservation::empty(&self.memory, storage),
        }
    }

    /// Logs a new filter and makes it answer to its name, the other members getting their part of
    /// its rights. Layers of its row that `loaded` does not have yet are added, their memory being
    /// taken.
    pub(super) fn enter(
        &self,
        catalogue: &mut Catalogue,
        loaded: Loaded,
        scope: Scope,
        change: impl FnOnce(Dot) -> CatalogueChange,
    ) -> Result<Position, FilterError> {
        let filter = Arc::clone(&loaded.filter);
        let (position, row) = self.enter_unshared(catalogue, loaded, scope, change)?;
        if scope == Scope::Group {
            for layer in opened_by(&filter, &row.layers, self.identity.origin) {
                self.share_out(row.id, layer)?;
            }
        }
        Ok(position)
    }

    /// The same, all rights staying here until somebody asks for some.
    pub(super) fn enter_unshared(
        &self,
        catalogue: &mut Catalogue,
        loaded: Loaded,
        scope: Scope,
        change: impl FnOnce(Dot) -> CatalogueChange,
    ) -> Result<(Position, FilterRow), FilterError> {
        let (position, change) = self.change(catalogue, scope.stream(), change)?;
        let (CatalogueChange::Create(row) | CatalogueChange::Import(row, _)) = change else {
            unreachable!("only a creation enters a filter");
        };
        for layer in &row.layers {
            loaded.filter.add_layer(*layer)?;
        }
        self.register(catalogue, Handle::new(&row, Bits::Loaded(loaded)));
        Ok((position, row))
    }

    /// Ends the filters that the handle's name stands for. They no longer answer; their files
    /// are removed in the background.
    pub fn drop_filter(&self, handle: &Handle) -> Result<Position, FilterError> {
        self.ensure_writable()?;
        let (dropped, position) = {
            let mut catalogue = lock(&self.catalogue);
            if catalogue.row(handle.id).is_none() {
                return Err(FilterError::NotFound);
            }
            let mut rows: Vec<(Epoch, Scope)> = Vec::new();
            for row in self.entered(&catalogue, &handle.name) {
                rows.push((row.epoch(), row.scope));
            }
            let (mut dropped, mut position) = (Vec::new(), 0);
            for (epoch, scope) in rows {
                let drop = |_| CatalogueChange::Drop(epoch);
                (position, _) = self.change(&mut catalogue, scope.stream(), drop)?;
                dropped.extend(self.forget(&catalogue, epoch.filter, position));
            }
            (dropped, position)
        };
        for handle in dropped {
            *handle.bits_write() = Bits::Gone;
        }
        Ok(position)
    }

    /// Makes a dropped filter unknown; its files are to be removed. The caller ends its bits,
    /// without the catalogue's lock.
    pub(super) fn forget(
        &self,
        catalogue: &Catalogue,
        id: FilterId,
        position: Position,
    ) -> Option<Arc<Handle>> {
        let handle = self.unregister(catalogue, id)?;
        lock(&self.reclaiming).insert(id, (handle.name.clone(), position));
        Some(handle)
    }

    /// Makes an unloaded filter stop answering to its name on this node, keeping its data. None
    /// when it is in memory: it has to be unloaded first, and one that is kept in memory only
    /// never is.
    pub fn hide(&self, handle: &Handle) -> Result<Option<Position>, FilterError> {
        self.ensure_writable()?;
        if handle.is_loaded() || handle.also().iter().any(|other| other.is_loaded()) {
            return Ok(None);
        }
        let mut catalogue = lock(&self.catalogue);
        if catalogue.row(handle.id).is_none() || catalogue.is_hidden(&handle.name) {
            return Err(FilterError::NotFound);
        }
        let name = Name {
            name: handle.name.clone(),
        };
        let (position, _) = self.change(&mut catalogue, Stream::Local, |_| {
            CatalogueChange::Hide(name)
        })?;
        self.rename(&mut self.handles_write(), &catalogue, &handle.name);
        Ok(Some(position))
    }

    /// Logs and applies a change of the catalogue, whose lock the caller holds. What the change
    /// is may depend on the operation's own dot.
    pub(super) fn change(
        &self,
        catalogue: &mut Catalogue,
        stream: Stream,
        change: impl FnOnce(Dot) -> CatalogueChange,
    ) -> Result<(Position, CatalogueChange), ReadOnly> {
        let mut made = None;
        let (position, _) = self.journal.append(stream, |dot, entry| {
            let change = change(dot);
            let mut encoded = Vec::new();
            encode_change(&mut encoded, &change);
            entry.extend_from_slice(&encoded);
            made = Some(change);
        })?;
        let change = made.expect("an entry that was appended was written");
        catalogue.apply(&change);
        Ok((position, change))
    }

    pub(super) fn log_layer(
        &self,
        catalogue: &mut Catalogue,
        handle: &Handle,
        shape: LayerShape,
    ) -> Result<LayerRow, FilterError> {
        let epoch = catalogue
            .row(handle.id)
            .map(FilterRow::epoch)
            .ok_or(FilterError::NotFound)?;
        let mut layer = LayerRow::from(shape);
        self.change(catalogue, handle.scope.stream(), |opened| {
            layer.opened = opened;
            CatalogueChange::OpenLayer(epoch, layer)
        })?;
        Ok(layer)
    }
}
