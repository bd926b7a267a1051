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

/// Everything about a filter but its bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterRow {
    /// The epoch.
    pub id: FilterId,
    /// 1 to 200 bytes, any.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// What its own layers are to hold and promise.
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

impl FilterRow {
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
            CatalogueChange::Create(row) | CatalogueChange::Import(row) => self.create(row),
            CatalogueChange::Drop(id) => self.drop(*id),
            CatalogueChange::Hide(id) => {
                self.edit(*id, |row| !std::mem::replace(&mut row.hidden, true))
            }
            CatalogueChange::Show(id) => {
                self.edit(*id, |row| std::mem::replace(&mut row.hidden, false))
            }
            CatalogueChange::OpenLayer(id, layer) | CatalogueChange::AdoptLayer(id, layer) => self
                .edit(*id, |row| {
                    let known = row.layers.iter().any(|known| known.id == layer.id);
                    let fits = !known && row.layers.len() < LAYERS_PER_FILTER_MAX;
                    if fits {
                        row.layers.push(*layer);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::parameters::Growth;
    use crate::origin::Origin;

    fn row(id: u8, name: &str) -> FilterRow {
        let parameters = Parameters {
            capacity: 10,
            error: 0.01,
            growth: Growth::By(2),
        };
        FilterRow {
            id: FilterId::new([id; 16]),
            name: name.as_bytes().to_vec(),
            parameters,
            seed: Seed::new([0; 16]),
            storage: Storage::Durable,
            hidden: false,
            layers: vec![],
            legacy: vec![],
        }
    }

    #[test]
    fn a_drop_ends_the_epoch_it_saw_and_no_other() {
        let mut catalogue = Catalogue::default();
        let (first, second) = (row(1, "a"), row(2, "a"));
        assert!(catalogue.apply(&CatalogueChange::Create(first.clone())));
        assert!(!catalogue.apply(&CatalogueChange::Create(first.clone())));
        assert!(catalogue.apply(&CatalogueChange::Drop(first.id)));
        assert!(catalogue.apply(&CatalogueChange::Create(second.clone())));
        assert!(!catalogue.apply(&CatalogueChange::Drop(first.id)));
        assert_eq!(catalogue.named(b"a"), Some(&second));
    }

    #[test]
    fn changes_have_no_effect_twice() {
        let mut catalogue = Catalogue::from_rows([row(1, "a")]);
        let id = FilterId::new([1; 16]);
        let layer = row(1, "a")
            .parameters
            .layer(0, Origin::new([1; 16]), 1)
            .unwrap();
        for change in [
            CatalogueChange::OpenLayer(id, layer),
            CatalogueChange::Hide(id),
            CatalogueChange::Show(id),
            CatalogueChange::Drop(id),
        ] {
            assert!(catalogue.apply(&change), "{change:?}");
            assert!(!catalogue.apply(&change), "{change:?}");
        }
        assert_eq!(catalogue, Catalogue::default());
    }

    #[test]
    fn names_are_bounded_and_fit_a_line() {
        assert_eq!(validate_name(&[b'x'; 200]), Ok(()));
        assert_eq!(validate_name(&[b'x'; 201]), Err(NameError::Length(201)));
        assert_eq!(validate_name(b""), Err(NameError::Length(0)));
        assert_eq!(validate_name(b"a b"), Err(NameError::Byte(1)));
        assert_eq!(validate_name(b"../\xe9\0:"), Ok(()));
    }
}
