//! Filters of a C bloomd: entered here, or made exported ones for a node that is to have them.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use grapevine_core::catalogue::{
    FilterId, FilterRow, LegacyShape, NEVER, Scope, Storage, validate_name,
};
use grapevine_core::filter::legacy::BloomdLayer;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::hash::Seed;
use xxhash_rust::xxh3::xxh3_64;

use super::change::{Creation, NewFilter};
use super::error::FilterError;
use super::handle::lock;
use super::transfer::{Beside, ExportHead, head_bytes};
use super::{Filters, Recreation};
use crate::import::bloomd::ImportedFilter;

impl Filters {
    /// A filter of a C bloomd as the file of an exported one that is hashed with `seed`, so that a
    /// node can be sent it. It has no layer of its own: whoever takes it in opens the first.
    ///
    /// # Errors
    /// When its name or parameters make no filter.
    pub fn export_bloomd(
        imported: &ImportedFilter,
        id: FilterId,
        seed: Seed,
    ) -> Result<impl Read, FilterError> {
        validate_name(&imported.name)?;
        let parameters = parameters_of(imported);
        parameters.validate()?;
        let head = head_bytes(&ExportHead {
            id,
            parameters,
            seed,
            layers: 0,
            legacy: legacy_shapes(imported),
        });
        let layers = imported.layers.iter().map(BloomdLayer::as_bytes);
        Ok(Cursor::new(head).chain(Pieces(layers.collect())))
    }

    /// Makes a filter of the layers of a C bloomd's, kept as they are and only read, with new
    /// layers beside them for what comes. What is left of the error budget is theirs, so the
    /// bound over all is still the one the filter was made with.
    pub fn import_bloomd(&self, imported: ImportedFilter) -> Result<Creation, FilterError> {
        validate_name(&imported.name)?;
        self.ensure_writable()?;
        let parameters = parameters_of(&imported);
        let legacy = legacy_shapes(&imported);
        let storage = if imported.in_memory {
            Storage::Memory
        } else {
            Storage::Durable
        };
        let new = NewFilter {
            parameters,
            storage,
            seed: None,
            scope: Scope::Group,
        };
        if imported.layers.is_empty() {
            return self.create(&imported.name, new, Recreation::AtOnce);
        }
        parameters.validate()?;
        let first = parameters.layer(0, self.identity.origin, self.member_count())?;
        let layers: Vec<_> = imported.layers.into_iter().map(Arc::new).collect();
        let row = FilterRow {
            id: FilterId::new((self.entropy)()),
            created: NEVER,
            scope: Scope::Group,
            name: imported.name,
            parameters,
            seed: *lock(&self.seed),
            storage: Storage::Durable,
            layers: vec![first.into()],
            legacy,
            other: BTreeMap::new(),
        };
        let loaded = self.empty(row.parameters, row.seed, row.storage);
        self.grow(&loaded.memory, first.geometry.bytes())?;
        loaded.filter.add_layer(first)?;
        for layer in &layers {
            self.grow(&loaded.memory, layer.bytes())?;
            loaded.filter.add_legacy(Arc::clone(layer))?;
        }
        self.enter_with_files(row, loaded, &layers, Beside::Nothing)
    }
}

/// Bytes that lie in several places, as one file.
struct Pieces<'a>(VecDeque<&'a [u8]>);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.0.front_mut() {
            let read = piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            self.0.pop_front();
        }
        Ok(0)
    }
}

/// What the own layers of a C bloomd's filter are made for: the last of the foreign ones' size, and
/// what those leave of the error budget.
fn parameters_of(imported: &ImportedFilter) -> Parameters {
    let depth = imported.layers.len() as i32;
    let used = imported.error * (1.0 - imported.reduction.powi(depth));
    let scale = u64::from(imported.scale.max(1));
    Parameters {
        capacity: imported
            .capacity
            .saturating_mul(scale.saturating_pow((depth - 1).max(0) as u32)),
        error: imported.error - used,
        growth: Growth::By(imported.scale.max(1)),
    }
}

fn legacy_shapes(imported: &ImportedFilter) -> Vec<LegacyShape> {
    let shape = |(index, layer): (u32, &BloomdLayer)| LegacyShape {
        index,
        bytes: layer.bytes(),
        checksum: xxh3_64(layer.as_bytes()),
        capacity: layer.capacity(),
        inserted: layer.count(),
        error: imported.error * (1.0 - imported.reduction) * imported.reduction.powi(index as i32),
    };
    (0..).zip(&imported.layers).map(shape).collect()
}
