//! Filters whose files are not what they were.

use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, FilterRow};
use grapevine_core::filter::parameters::LayerId;

use super::Filters;
use super::error::LoadError;
use super::handle::{Bits, layer_path, lock};
use crate::layer_file::LayerFileError;

impl Filters {
    /// The revisions of the files of these rows' layers, at least, in the rows' order; 0 where
    /// there is no file or it is not known.
    pub(crate) fn file_revisions(&self, rows: &[FilterRow]) -> Vec<Vec<u64>> {
        let of_row = |row: &FilterRow| {
            let handle = self.by_id(row.id);
            let snapshots = handle.as_ref().map(|handle| lock(&handle.snapshots));
            let of_layer = |id: LayerId| {
                let revision = snapshots.as_ref()?.get(&id).copied();
                // The largest stands for one that is to be written anew.
                revision.filter(|revision| *revision < u64::MAX)
            };
            let layers = row.layers.iter();
            layers
                .map(|layer| of_layer(layer.shape.id).unwrap_or_default())
                .collect()
        };
        rows.iter().map(of_row).collect()
    }

    /// Holds the files that were found against the revisions that a manifest says they have at
    /// least: an older copy of a file has fewer keys than were acknowledged, and what is missing
    /// in it is no longer in the log.
    pub(crate) fn refuse_older(&self, expected: impl Iterator<Item = (FilterId, LayerId, u64)>) {
        for (filter, layer, expected) in expected {
            let Some(handle) = self.by_id(filter) else {
                continue;
            };
            let found = lock(&handle.snapshots).get(&layer).copied();
            if let Some(found) = found.filter(|found| *found < expected) {
                let error = LoadError::File {
                    path: layer_path(filter, layer),
                    source: LayerFileError::Older { found, expected },
                };
                *handle.bits_write() = Bits::Damaged(Arc::from(error.to_string()));
            }
        }
    }
}
