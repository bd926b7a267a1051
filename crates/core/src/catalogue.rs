//! The catalogue: which filters there are.
//!
//! A filter has a name, which people use, and an id drawn at random when it is made: its epoch.
//! A drop ends one epoch; a filter made later under the same name is another. Filters of one
//! name made on two sides of a cut are both there: together they are what the name stands for,
//! and one of them, the same on every copy, takes what comes.
//!
//! A row says which operation made it. So a copy that knows that operation and has no such row
//! knows that the filter was dropped, and no list of dropped filters is kept.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::filter::parameters::{LayerId, LayerShape, Parameters};
use crate::hash::Seed;
use crate::limits::NAME_BYTES_MAX;
use crate::operation::{CatalogueChange, Epoch, Stream};
use crate::origin::Origin;
use crate::version::{Dot, VersionVector};

/// The random 128-bit name of one epoch of a filter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FilterId(#[serde(with = "serde_bytes")] [u8; 16]);

impl FilterId {
    /// An id from 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        FilterId(bytes)
    }

    /// The 16 bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Display for FilterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for FilterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FilterId({self})")
    }
}

/// Whether a filter's keys outlive the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Storage {
    /// Logged and snapshotted.
    Durable,
    /// Only the row is kept: after a restart the filter is there and empty.
    Memory,
}

/// A layer of a foreign geometry, kept as the file it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegacyShape {
    /// Its place among the filter's foreign layers, oldest first.
    pub index: u32,
    /// Length of the file.
    pub bytes: u64,
    /// XXH3-64 of the file.
    pub checksum: u64,
    /// Keys it was made for.
    pub capacity: u64,
    /// Keys in it.
    pub inserted: u64,
    /// Share of the error budget that it was made with.
    pub error: f64,
}

/// A layer as the catalogue knows it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRow {
    /// Its description.
    pub shape: LayerShape,
    /// The operation that opened it.
    pub opened: Dot,
}

/// The operation that opened a layer which none did: one in memory only, or not yet entered.
pub const NEVER: Dot = Dot {
    origin: Origin::new([0; 16]),
    sequence: 0,
};

impl LayerRow {
    /// Whether this opening of a layer counts rather than `other`: that of its creator, whose
    /// rights rest on it, before any that brought the layer from a file; else the smaller dot.
    fn precedes(&self, other: &LayerRow) -> bool {
        let rank = |row: &LayerRow| (row.opened.origin != row.shape.id.creator, row.opened);
        rank(self) < rank(other)
    }
}

impl From<LayerShape> for LayerRow {
    fn from(shape: LayerShape) -> Self {
        LayerRow {
            shape,
            opened: NEVER,
        }
    }
}

/// Who has a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Every member of the group.
    Group,
    /// This node alone.
    Local,
}

impl Scope {
    /// The stream that its operations belong to.
    pub fn stream(self) -> Stream {
        match self {
            Scope::Group => Stream::Group,
            Scope::Local => Stream::Local,
        }
    }
}

/// Everything about a filter but its bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterRow {
    /// The epoch.
    pub id: FilterId,
    /// The operation that made it.
    pub created: Dot,
    /// Who has it.
    pub scope: Scope,
    /// 1 to 200 bytes, any but white space.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// What its own layers are to hold and promise.
    pub parameters: Parameters,
    /// The key of its hash.
    pub seed: Seed,
    /// Whether its keys outlive the process.
    pub storage: Storage,
    /// Its layers, ascending by name; none for one kept in memory.
    pub layers: Vec<LayerRow>,
    /// Its layers of a foreign geometry, oldest first.
    pub legacy: Vec<LegacyShape>,
    /// What a newer version says of it.
    #[serde(flatten)]
    pub other: BTreeMap<String, rmpv::Value>,
}

impl FilterRow {
    /// The epoch with the operation that made it.
    pub fn epoch(&self) -> Epoch {
        Epoch {
            filter: self.id,
            created: self.created,
        }
    }

    /// The layer of that name.
    pub fn layer(&self, id: LayerId) -> Option<&LayerRow> {
        self.layers.iter().find(|layer| layer.shape.id == id)
    }

    /// Adds a layer, or notes an earlier opening of one that is there; true if that was news.
    fn add_layer(&mut self, layer: LayerRow) -> bool {
        match self
            .layers
            .binary_search_by_key(&layer.shape.id, |known| known.shape.id)
        {
            Ok(known) if !layer.precedes(&self.layers[known]) => false,
            Ok(known) => {
                self.layers[known].opened = layer.opened;
                true
            }
            Err(place) => {
                self.layers.insert(place, layer);
                true
            }
        }
    }

    /// Bound on the false-positive rate over all layers, those of a foreign geometry included.
    pub fn error(&self) -> f64 {
        self.parameters.error + self.legacy.iter().map(|layer| layer.error).sum::<f64>()
    }
}

/// Why a name cannot be a collection's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes, not {0}")]
    Length(usize),
    /// It holds a byte that the line protocols cannot carry in a name.
    #[error("a name cannot hold a space, tab, carriage return or line feed (byte {0})")]
    Byte(usize),
}

/// Checks the name of a collection. Any other bytes are allowed: names never become paths.
pub fn validate_name(name: &[u8]) -> Result<(), NameError> {
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Err(NameError::Length(name.len()));
    }
    match name
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
    {
        Some(at) => Err(NameError::Byte(at)),
        None => Ok(()),
    }
}

/// All filters of a node, by epoch and by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    rows: BTreeMap<FilterId, FilterRow>,
    names: BTreeMap<Vec<u8>, BTreeSet<FilterId>>,
    /// Names that do not answer on this node.
    hidden: BTreeSet<Vec<u8>>,
}

impl Catalogue {
    /// A catalogue of stored rows and hidden names.
    pub fn from_rows(
        rows: impl IntoIterator<Item = FilterRow>,
        hidden: impl IntoIterator<Item = Vec<u8>>,
    ) -> Self {
        let mut catalogue = Catalogue::default();
        for row in rows {
            catalogue.create(&row);
        }
        for name in hidden {
            catalogue.hide(&name);
        }
        catalogue
    }

    /// The row of an epoch.
    pub fn row(&self, id: FilterId) -> Option<&FilterRow> {
        self.rows.get(&id)
    }

    /// All rows that a name stands for now, the one that takes new keys first.
    pub fn named(&self, name: &[u8]) -> Vec<&FilterRow> {
        let ids = self.names.get(name).into_iter().flatten();
        let mut rows: Vec<_> = ids.filter_map(|id| self.rows.get(id)).collect();
        // A node's own filter stands before the group's; otherwise ids are in order.
        rows.sort_by_key(|row| row.scope == Scope::Group);
        rows
    }

    /// Whether a name does not answer on this node.
    pub fn is_hidden(&self, name: &[u8]) -> bool {
        self.hidden.contains(name)
    }

    /// Names that do not answer on this node.
    pub fn hidden(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.hidden.iter().map(Vec::as_slice)
    }

    /// All rows, ascending by id.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &FilterRow> {
        self.rows.values()
    }

    /// The rows after `after`, ascending by id.
    pub fn rows_after(&self, after: Option<FilterId>) -> impl Iterator<Item = &FilterRow> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.rows.range((from, Unbounded)).map(|(_, row)| row)
    }

    /// Applies one change; true if it made a difference.
    pub fn apply(&mut self, change: &CatalogueChange) -> bool {
        match change {
            CatalogueChange::Create(row) | CatalogueChange::Import(row, _) => self.create(row),
            CatalogueChange::Drop(epoch) => self.drop(epoch.filter),
            CatalogueChange::Hide(name) => self.hide(&name.name),
            CatalogueChange::Show(name) => self.hidden.remove(&name.name),
            CatalogueChange::OpenLayer(epoch, layer)
            | CatalogueChange::AdoptLayer(epoch, layer, _) => {
                let row = self.rows.get_mut(&epoch.filter);
                row.is_some_and(|row| row.add_layer(*layer))
            }
        }
    }

    /// What is to change here so that this copy has what `theirs` have: rows of another copy.
    /// `ours` is what is in here: of a row that is there and not here, it was dropped here if the
    /// operation that made it is in. What was dropped there is told by
    /// [`unnamed`](Self::unnamed), once all rows of the copy were seen.
    pub fn reconcile(&self, theirs: &[FilterRow], ours: &VersionVector) -> Vec<CatalogueChange> {
        let mut changes = Vec::new();
        for row in theirs.iter().filter(|row| row.scope == Scope::Group) {
            match self.rows.get(&row.id) {
                None if ours.covers(row.created) => {}
                None => changes.push(CatalogueChange::Create(row.clone())),
                Some(own) => {
                    let news = row.layers.iter().filter(|layer| {
                        own.layer(layer.shape.id)
                            .is_none_or(|known| layer.precedes(known))
                    });
                    changes
                        .extend(news.map(|layer| CatalogueChange::OpenLayer(row.epoch(), *layer)));
                }
            }
        }
        changes
    }

    /// The rows of the group that `version` has made and a copy with all of that version does not
    /// name.
    pub fn unnamed(&self, version: &VersionVector, named: &BTreeSet<FilterId>) -> Vec<&FilterRow> {
        let rows = self.rows.values().filter(|row| row.scope == Scope::Group);
        rows.filter(|row| version.covers(row.created) && !named.contains(&row.id))
            .collect()
    }

    fn create(&mut self, row: &FilterRow) -> bool {
        if self.rows.contains_key(&row.id) {
            return false;
        }
        self.names
            .entry(row.name.clone())
            .or_default()
            .insert(row.id);
        self.rows.insert(row.id, row.clone());
        true
    }

    fn drop(&mut self, id: FilterId) -> bool {
        let Some(row) = self.rows.remove(&id) else {
            return false;
        };
        if let Some(ids) = self.names.get_mut(&row.name) {
            ids.remove(&id);
            if ids.is_empty() {
                self.names.remove(&row.name);
                self.hidden.remove(&row.name);
            }
        }
        true
    }

    fn hide(&mut self, name: &[u8]) -> bool {
        self.names.contains_key(name) && self.hidden.insert(name.to_vec())
    }
}

#[cfg(test)]
mod tests;
