//! State handed from node to node: rows with the rights of their layers, and bits by blocks and
//! lines. A block is 1024 lines of 512 bits.

use std::collections::BTreeSet;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, Scope, Storage};
use grapevine_core::filter::parameters::{LayerId, LayerShape};
use grapevine_core::filter::rights::Rights;
use grapevine_core::operation::{CatalogueChange, Epoch, Stream, encode_change, fits};
use grapevine_core::sync::{LayerName, Part};
use grapevine_core::version::{Dot, VersionVector};
use serde::{Deserialize, Serialize};

use super::Filters;
use super::apply::{Blocked, Effected};
use super::error::{FilterError, LoadError};
use super::handle::{Handle, lock};
use crate::journal::ReadOnly;

/// A row with what the catalogue does not hold of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SharedRow {
    pub(crate) row: FilterRow,
    /// Of its layers, in the row's order.
    rights: Vec<Rights>,
}

impl Filters {
    /// Rows of the group after `after`, about `bytes_max` bytes of them, and the last id of them
    /// if more follow.
    pub(crate) fn shared_rows(
        &self,
        after: Option<FilterId>,
        bytes_max: usize,
    ) -> Result<(Vec<SharedRow>, Option<FilterId>), FilterError> {
        let mut shared = Vec::new();
        let (mut bytes, mut last) = (0, after);
        loop {
            let row = self.with_catalogue(|catalogue| {
                let mut rows = catalogue.rows_after(last);
                // What came with a snapshot that is not whole yet is nothing to hand on.
                let entered = |row: &&FilterRow| {
                    row.scope == Scope::Group && self.journal.covers(row.created)
                };
                rows.find(entered).cloned()
            });
            let Some(row) = row else {
                return Ok((shared, None));
            };
            if bytes >= bytes_max {
                return Ok((shared, last));
            }
            last = Some(row.id);
            let rights = match self.by_id(row.id) {
                Some(handle) => self.rights_of(&handle, &row)?,
                // Dropped just now.
                None => continue,
            };
            let row = SharedRow { row, rights };
            bytes += rmp_serde::to_vec_named(&row).map_or(0, |encoded| encoded.len());
            shared.push(row);
        }
    }

    fn rights_of(&self, handle: &Handle, row: &FilterRow) -> Result<Vec<Rights>, FilterError> {
        if let Some(reason) = handle.damage() {
            return Err(FilterError::Damaged(reason));
        }
        let filter = handle.resident();
        let of_layer = |layer: &LayerRow| -> Result<Rights, FilterError> {
            let LayerShape { id, capacity, .. } = layer.shape;
            let known = match &filter {
                Some(filter) => filter.layer(id).map(|layer| layer.rights()),
                None if lock(&handle.snapshots).contains_key(&id) => {
                    let head = self.read_head(handle, &layer.shape);
                    let unreadable = |error: LoadError| error.to_string().into();
                    let head = head.map_err(|error| FilterError::Damaged(unreadable(error)))?;
                    Some(head.rights)
                }
                // Opened since the last snapshot, and not used yet.
                None => None,
            };
            Ok(known.unwrap_or_else(|| Rights::new(capacity, id.creator)))
        };
        row.layers.iter().map(of_layer).collect()
    }

    /// Leaves out filters of operations that are neither here nor in `version`. They come by
    /// themselves, or, of a history that parts from the one here, never: who waited for them would
    /// wait for ever.
    pub(crate) fn keep_known(&self, theirs: &mut Vec<SharedRow>, version: &VersionVector) {
        let applied = self.journal.applied();
        let known = |dot: Dot| version.covers(dot) || applied.covers(dot);
        theirs.retain(|shared| known(shared.row.created));
    }

    /// The operation that is to come before one that needs `opened`, which opened a layer, if that
    /// layer is lacking. One that is here needs it no more: it may have come with the state of a peer
    /// whose history of that origin is not the one here, and the operation never comes. And `opened`
    /// may be in as another operation, which opened no layer.
    pub(crate) fn lacking(&self, filter: FilterId, layer: LayerId, opened: Dot) -> Option<Dot> {
        let is_in = self.journal.covers(opened);
        let is_here = self.with_catalogue(|catalogue| match catalogue.row(filter) {
            Some(row) => row.layer(layer).is_some() && (is_in || self.journal.covers(row.created)),
            // Dropped, or not made yet.
            None => is_in,
        });
        (!is_here).then_some(opened)
    }

    /// Takes another node's rows in, those after the id `after`. Gives the parts whose bits must be
    /// compared. Filters that the other node has dropped stay until
    /// [`drop_unnamed`](Self::drop_unnamed): a state that never becomes whole drops nothing.
    pub(crate) fn merge_rows(
        &self,
        after: Option<FilterId>,
        theirs: &[SharedRow],
    ) -> Result<Vec<Part>, Blocked> {
        let rows: Vec<FilterRow> = theirs.iter().map(|shared| shared.row.clone()).collect();
        let ours = self.journal.applied();
        let changes = self.with_catalogue(|catalogue| catalogue.reconcile(&rows, &ours));
        let mut parts = Vec::new();
        for change in changes {
            match change {
                CatalogueChange::Create(row) if !row.legacy.is_empty() => {
                    parts.extend(self.await_filter(&row)?);
                    let shared = theirs.iter().find(|shared| shared.row.id == row.id);
                    if let Some(arrival) = lock(&self.arrivals).filters.get_mut(&row.id) {
                        arrival.rights = shared.map(|shared| shared.rights.clone());
                    }
                }
                CatalogueChange::Create(row) => {
                    let id = row.id;
                    self.take_over(&CatalogueChange::Create(row))?;
                    let mut arrivals = lock(&self.arrivals);
                    arrivals.partial.insert(id);
                    // Bits that came for it so far come again, into the filter itself.
                    arrivals.filters.remove(&id);
                }
                change => self.take_over(&change)?,
            }
        }
        if after.is_none() {
            lock(&self.arrivals).rights.clear();
        }
        for SharedRow { row, rights } in theirs {
            if let Some(handle) = self.by_id(row.id) {
                if handle.damage().is_some() {
                    parts.extend(self.gather(&handle, row, rights));
                    continue;
                }
                let mut arrivals = lock(&self.arrivals);
                let layers = row.layers.iter().map(|layer| LayerName {
                    filter: row.id,
                    layer: layer.shape.id,
                });
                for (name, rights) in layers.zip(rights) {
                    if row.storage == Storage::Durable {
                        parts.push(Part::Layer(name));
                    }
                    arrivals.rights.insert(name, rights.clone());
                }
            }
        }
        Ok(parts)
    }

    /// Drops the filters of the group that `version` made and a snapshot does not name.
    pub(crate) fn drop_unnamed(
        &self,
        version: &VersionVector,
        named: &BTreeSet<FilterId>,
    ) -> Effected {
        let dropped: Vec<Epoch> = self.with_catalogue(|catalogue| {
            let unnamed = catalogue.unnamed(version, named);
            unnamed.into_iter().map(FilterRow::epoch).collect()
        });
        let mut dropped = dropped.into_iter();
        dropped.try_for_each(|epoch| self.take_over(&CatalogueChange::Drop(epoch)))
    }

    /// The filters of the group that `version` made and a state with all of that does not name.
    pub(crate) fn unnamed(
        &self,
        version: &VersionVector,
        named: &BTreeSet<FilterId>,
    ) -> Vec<FilterId> {
        self.with_catalogue(|catalogue| {
            let unnamed = catalogue.unnamed(version, named);
            unnamed.into_iter().map(|row| row.id).collect()
        })
    }

    /// The name of a filter that is here.
    pub(crate) fn name_of(&self, id: FilterId) -> Option<Vec<u8>> {
        self.with_catalogue(|catalogue| catalogue.row(id).map(|row| row.name.clone()))
    }

    /// Drops what came with a snapshot that never became whole: filters that no operation here has
    /// made, whatever came under the number of the one that made them there.
    pub(crate) fn forget_partial(&self) -> Effected {
        let partial = {
            let mut arrivals = lock(&self.arrivals);
            arrivals.rights.clear();
            std::mem::take(&mut arrivals.partial)
        };
        let partial: Vec<Epoch> = self.with_catalogue(|catalogue| {
            let rows = partial.iter().filter_map(|id| catalogue.row(*id));
            rows.map(FilterRow::epoch).collect()
        });
        let mut partial = partial.into_iter();
        partial.try_for_each(|epoch| self.take_over(&CatalogueChange::Drop(epoch)))?;
        self.drop_unmade(&VersionVector::default())
    }

    /// The operation that made a filter is in, which may have come with a state before.
    pub(crate) fn confirm(&self, id: FilterId) {
        lock(&self.arrivals).partial.remove(&id);
    }

    /// The snapshot that filters came with is whole.
    pub(crate) fn keep_partial(&self) {
        lock(&self.arrivals).partial.clear();
    }

    /// Drops filters that no operation has made which is here or in `version`: they came with a
    /// snapshot that was given up.
    pub(crate) fn drop_unmade(&self, version: &VersionVector) -> Effected {
        let partial: Vec<Epoch> = self.with_catalogue(|catalogue| {
            let rows = catalogue.rows().filter(|row| row.scope == Scope::Group);
            rows.filter(|row| !self.journal.covers(row.created) && !version.covers(row.created))
                .map(FilterRow::epoch)
                .collect()
        });
        let mut partial = partial.into_iter();
        partial.try_for_each(|epoch| self.take_over(&CatalogueChange::Drop(epoch)))
    }

    /// Applies a change that came with a snapshot: what follows in this node's log rests on it.
    pub(super) fn take_over(&self, change: &CatalogueChange) -> Effected {
        let mut encoded = Vec::new();
        encode_change(&mut encoded, change);
        if let CatalogueChange::Create(row) = change
            && !fits(&encoded)
            && row.layers.len() > 1
        {
            return self.take_over_layered(row);
        }
        self.apply_change(change, &mut || {
            let append = |_, entry: &mut crate::log::EntryBuffer<'_>| {
                entry.extend_from_slice(&encoded);
            };
            Ok(self.journal.append(Stream::Local, append)?.0)
        })
    }

    /// Takes over a row with more layers than one operation has room for: it has grown since the
    /// one that made it.
    fn take_over_layered(&self, row: &FilterRow) -> Effected {
        let (first, rest) = row.layers.split_at(row.layers.len() / 2);
        let begun = FilterRow {
            layers: first.to_vec(),
            ..row.clone()
        };
        self.take_over(&CatalogueChange::Create(begun))?;
        let mut opened = rest
            .iter()
            .map(|layer| CatalogueChange::OpenLayer(row.epoch(), *layer));
        opened.try_for_each(|change| self.take_over(&change))
    }

    /// Takes in the rights that came with a snapshot, now that it is whole.
    pub(crate) fn take_over_rights(&self) -> Effected {
        let rights = std::mem::take(&mut lock(&self.arrivals).rights);
        for (name, rights) in rights {
            let merged = self.with_layer(name, |layer| {
                if layer.merge_rights(&rights).is_ok() {
                    layer.touch();
                }
            });
            // A damaged one keeps the snapshot from being taken over.
            match merged {
                Err(FilterError::ReadOnly(why)) => return Err(ReadOnly(why).into()),
                Err(FilterError::Memory(over)) => return Err(over.into()),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn merge_all_rights(
        &self,
        handle: &Handle,
        row: &FilterRow,
        rights: &[Rights],
    ) -> Effected {
        let bits = match self.replica(handle) {
            Ok(bits) => bits,
            Err(error) => return error.hindrance().map_or(Ok(()), Err),
        };
        let Some(held) = bits.held() else {
            return Ok(());
        };
        for (layer, rights) in row.layers.iter().zip(rights) {
            if let Some(own) = held.filter.layer(layer.shape.id)
                && own.merge_rights(rights).is_ok()
            {
                own.touch();
            }
        }
        Ok(())
    }
}
