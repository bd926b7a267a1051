//! The catalogue: which filters there are.
//!
//! A filter has a name, which people use, and an id drawn at random when it is made: its epoch.
//! A drop ends one epoch; a filter made later under the same name is another. Changes name the
//! id, so replaying one that is already in has no effect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::filter::parameters::{LayerShape, Parameters};
use crate::hash::Seed;
use crate::limits::{LAYERS_PER_FILTER_MAX, NAME_BYTES_MAX};
use crate::operation::CatalogueChange;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyShape {
    /// Its place among the filter's foreign layers, oldest first.
    pub index: u32,
    /// Length of the file.
    pub bytes: u64,
    /// XXH3-64 of the file.
    pub checksum: u64,
}

/// Everything about a filter but its bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterRow {
    /// The epoch.
    pub id: FilterId,
    /// 1 to 200 bytes, any.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// What it was asked to be.
    pub parameters: Parameters,
    /// The key of its hash.
    pub seed: Seed,
    /// Whether its keys outlive the process.
    pub storage: Storage,
    /// True after `clear`: it does not answer to its name until it is created again.
    pub hidden: bool,
    /// Its layers, in the order they were opened; none for one kept in memory.
    pub layers: Vec<LayerShape>,
    /// Its layers of a foreign geometry, oldest first.
    pub legacy: Vec<LegacyShape>,
}

/// Why a name cannot be a collection's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes, not {0}")]
    Length(usize),
    /// It holds a byte that the line protocols cannot carry in a name.
    #[error("a name cannot hold a space, tab, carriage return, line feed or NUL (byte {0})")]
    Byte(usize),
}

/// Checks the name of a collection. Any other bytes are allowed: names never become paths.
pub fn validate_name(name: &[u8]) -> Result<(), NameError> {
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Err(NameError::Length(name.len()));
    }
    match name
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0))
    {
        Some(at) => Err(NameError::Byte(at)),
        None => Ok(()),
    }
}

/// All filters of a node, by epoch and by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalogue {
    rows: BTreeMap<FilterId, FilterRow>,
    names: BTreeMap<Vec<u8>, FilterId>,
}

impl Catalogue {
    /// A catalogue of stored rows.
    pub fn from_rows(rows: impl IntoIterator<Item = FilterRow>) -> Self {
        let mut catalogue = Catalogue::default();
        for row in rows {
            catalogue.apply(&CatalogueChange::Create(row));
        }
        catalogue
    }

    /// The row of an epoch.
    pub fn row(&self, id: FilterId) -> Option<&FilterRow> {
        self.rows.get(&id)
    }

    /// The row that a name stands for now, hidden or not.
    pub fn named(&self, name: &[u8]) -> Option<&FilterRow> {
        self.names.get(name).and_then(|id| self.rows.get(id))
    }

    /// All rows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &FilterRow> {
        self.rows.values()
    }

    /// Applies one change; true if it made a difference.
    pub fn apply(&mut self, change: &CatalogueChange) -> bool {
        match change {
            CatalogueChange::Create(row) => self.create(row),
            CatalogueChange::Drop(id) => self.drop(*id),
            CatalogueChange::Hide(id) => {
                self.edit(*id, |row| !std::mem::replace(&mut row.hidden, true))
            }
            CatalogueChange::Show(id) => {
                self.edit(*id, |row| std::mem::replace(&mut row.hidden, false))
            }
            CatalogueChange::OpenLayer(id, layer) => self.edit(*id, |row| {
                let known = row.layers.iter().any(|known| known.id == layer.id);
                let fits = !known && row.layers.len() < LAYERS_PER_FILTER_MAX;
                if fits {
                    row.layers.push(*layer);
                }
                fits
            }),
            CatalogueChange::AddLegacy(id, layer) => self.edit(*id, |row| {
                let known = row.legacy.iter().any(|known| known.index == layer.index);
                let fits = !known && row.legacy.len() < LAYERS_PER_FILTER_MAX;
                if fits {
                    row.legacy.push(layer.clone());
                }
                fits
            }),
        }
    }

    fn create(&mut self, row: &FilterRow) -> bool {
        if self.rows.contains_key(&row.id) {
            return false;
        }
        if let Some(before) = self.names.insert(row.name.clone(), row.id) {
            self.rows.remove(&before);
        }
        self.rows.insert(row.id, row.clone());
        true
    }

    fn drop(&mut self, id: FilterId) -> bool {
        let Some(row) = self.rows.remove(&id) else {
            return false;
        };
        if self.names.get(&row.name) == Some(&id) {
            self.names.remove(&row.name);
        }
        true
    }

    fn edit(&mut self, id: FilterId, change: impl FnOnce(&mut FilterRow) -> bool) -> bool {
        self.rows.get_mut(&id).is_some_and(change)
    }
}
