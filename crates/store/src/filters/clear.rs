//! Emptying a filter that stays.
//!
//! A filter is emptied by another epoch: one of the same parameters is made, and those that its name
//! stood for are dropped. So keys that were set before go on all nodes, also where they arrive late,
//! and those that are set into the new one stay. It is made first: a crash between the two leaves
//! the keys, which nobody was told are gone.

use std::collections::BTreeMap;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, Scope};
use grapevine_core::operation::{CatalogueChange, Epoch};

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, Handle, lock};
use super::memory::Reservation;
use crate::log::Position;

impl Filters {
    /// Empties the filters that the handle's name stands for, keeping capacity, error, growth, seed,
    /// storage and scope. Bits of a foreign geometry go too.
    ///
    /// # Errors
    /// When it was dropped, there is no memory for an empty one beside it, or the node takes no writes.
    pub fn clear(&self, handle: &Handle) -> Result<Position, FilterError> {
        self.ensure_writable()?;
        let models = self.models(handle)?;
        let mut rooms: Vec<(FilterRow, Reservation)> = Vec::new();
        for row in models {
            let first = row
                .parameters
                .layer(0, self.identity.origin, self.member_count())?;
            let room = self.room(first.geometry.bytes(), 0, row.storage)?;
            rooms.push((row, room));
        }
        let (dropped, position) = {
            let mut catalogue = lock(&self.catalogue);
            if catalogue.row(handle.id).is_none() {
                return Err(FilterError::NotFound);
            }
            let entered = self.entered(&catalogue, &handle.name);
            let before: Vec<(Epoch, Scope)> =
                entered.iter().map(|row| (row.epoch(), row.scope)).collect();
            for (row, room) in rooms {
                self.make_like(&mut catalogue, &row, room)?;
            }
            let (mut dropped, mut position) = (Vec::new(), 0);
            for (epoch, scope) in before {
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

    /// The rows that empty filters are made after: of this node's own and of the group's, the first.
    fn models(&self, handle: &Handle) -> Result<Vec<FilterRow>, FilterError> {
        self.with_catalogue(|catalogue| {
            if catalogue.row(handle.id).is_none() {
                return Err(FilterError::NotFound);
            }
            let mut models: Vec<FilterRow> = Vec::new();
            for row in self.entered(catalogue, &handle.name) {
                if models.iter().all(|model| model.scope != row.scope) {
                    models.push(row.clone());
                }
            }
            Ok(models)
        })
    }

    fn make_like(
        &self,
        catalogue: &mut grapevine_core::catalogue::Catalogue,
        row: &FilterRow,
        room: Reservation,
    ) -> Result<(), FilterError> {
        let members = self.member_count();
        let first = row.parameters.layer(0, self.identity.origin, members)?;
        let loaded = self.empty(row.parameters, row.seed, row.storage);
        loaded.memory.grow_by(Some(room), first.geometry.bytes())?;
        let id = FilterId::new((self.entropy)());
        self.enter(catalogue, loaded, row.scope, |created| {
            let layer = LayerRow {
                shape: first,
                opened: created,
            };
            CatalogueChange::Create(FilterRow {
                id,
                created,
                scope: row.scope,
                name: row.name.clone(),
                parameters: row.parameters,
                seed: row.seed,
                storage: row.storage,
                layers: vec![layer],
                legacy: vec![],
                other: BTreeMap::new(),
            })
        })?;
        Ok(())
    }
}
