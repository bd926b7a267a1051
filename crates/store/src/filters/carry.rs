//! Filters that go to another data directory, as operations of its own, beside whatever the group
//! has under their names.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, Storage};
use grapevine_core::filter::{Key, Outcome};
use grapevine_core::hash::KeyHash;
use grapevine_core::operation::CatalogueChange;

use super::error::FilterError;
use super::handle::{Handle, lock};
use super::keys::loaded;
use super::{Filters, Scratch};

impl Filters {
    /// Makes a filter like the one of `row`, with another id and nothing in it. All its rights are
    /// here: what is carried into it may need more than this node's part.
    pub(crate) fn carry_empty(&self, row: &FilterRow) -> Result<Arc<Handle>, FilterError> {
        let parameters = row.parameters;
        let first = parameters.layer(0, self.identity.origin, self.member_count())?;
        let empty = self.empty(parameters, row.seed, row.storage);
        empty.memory.grow(first.geometry.bytes())?;
        let id = FilterId::new((self.entropy)());
        let mut catalogue = lock(&self.catalogue);
        self.enter_unshared(&mut catalogue, empty, row.scope, |created| {
            CatalogueChange::Create(FilterRow {
                id,
                created,
                layers: vec![LayerRow {
                    shape: first,
                    opened: created,
                }],
                legacy: vec![],
                other: BTreeMap::new(),
                ..row.clone()
            })
        })?;
        drop(catalogue);
        self.by_id(id).ok_or(FilterError::NotFound)
    }

    /// Makes a filter like the one of `row`, with another id and what `exported` holds in it.
    pub(crate) fn carry_whole(
        &self,
        row: &FilterRow,
        exported: &mut dyn Read,
    ) -> Result<(), FilterError> {
        let kept = FilterRow {
            storage: Storage::Durable,
            ..row.clone()
        };
        self.enter_exported(kept, exported)
    }

    /// Puts keys, by their hashes, into a filter without layers of a foreign geometry. Gives those
    /// for which it has no room.
    pub(crate) fn carry_keys(
        &self,
        handle: &Handle,
        hashes: Vec<KeyHash>,
    ) -> Result<Vec<KeyHash>, FilterError> {
        let keys = hashes.iter().map(|hash| Key {
            bytes: b"",
            hash: *hash,
        });
        let keys: Vec<Key<'_>> = keys.collect();
        let mut scratch = Scratch::default();
        let bits = self.loaded(handle)?;
        self.insert(handle, loaded(&bits)?, &keys, &mut scratch)?;
        let outcomes = scratch.outcomes().iter().zip(&hashes);
        let full = outcomes.filter(|(outcome, _)| **outcome == Outcome::Full);
        let left = full.map(|(_, hash)| *hash).collect();
        self.log_inserts(handle, &mut scratch)?;
        Ok(left)
    }
}
