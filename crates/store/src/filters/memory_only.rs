//! Filters that are kept in memory: the log has their rows, layers and rights, not their keys.
//!
//! Keys go to the other members beside the log, through the [`MemoryStream`]. So that no right is
//! spent again by the next life of the node, rights are drawn ahead, many at a time, and the log
//! has the draws; a restart loses what was drawn and not used. Their layers' files hold rights
//! and no bits.
//!
//! [`MemoryStream`]: crate::memory_stream::MemoryStream

use std::collections::BTreeSet;
use std::convert::Infallible;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, Scope, Storage};
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::operation::{CatalogueChange, Insert, Spent, encode_draw};
use grapevine_core::sync::{LayerName, Part};
use grapevine_core::version::Dot;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;

use super::Filters;
use super::apply::{Blocked, Effected};
use super::error::FilterError;
use super::handle::{Bits, Handle, Loaded, lock};
use super::keys::Scratch;
use super::rights::is_entered;

/// The part of a layer's rights that is drawn at a time.
const DRAW_PART: u64 = 64;
/// Rights that are drawn at a time at least.
const DRAW_MIN: u64 = 16;
/// What a layer takes in a page, about.
const LAYER_BYTES: usize = 80;

/// A filter that is kept in memory, as it is compared with a peer's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeptRow {
    filter: FilterId,
    created: Dot,
    /// Each layer with the operation that opened it.
    layers: Vec<(LayerId, Dot)>,
}

impl Filters {
    /// Draws rights for keys of a filter that is kept in memory; false if none are held.
    pub(super) fn draw(&self, handle: &Handle, loaded: &Loaded) -> Result<bool, FilterError> {
        for layer in loaded.filter.layers().filter(|layer| is_entered(layer)) {
            let wanted = (layer.shape().capacity / DRAW_PART).max(DRAW_MIN);
            if let Some(draw) = layer.draw(wanted) {
                let spent = Spent {
                    filter: handle.id,
                    layer: layer.id(),
                    opened: layer.opened().sequence,
                    total: draw.total,
                };
                let mut encoded = Vec::new();
                encode_draw(&mut encoded, &spent);
                let drawn = self.journal.append(handle.scope.stream(), |_, entry| {
                    entry.extend_from_slice(&encoded);
                });
                // Also when the log has failed: then nobody else ever sees the keys.
                layer.release(draw.count);
                drawn?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Hands new keys of a filter that is kept in memory to those who follow.
    pub(super) fn pass_on(&self, handle: &Handle, scratch: &mut Scratch) {
        if handle.scope == Scope::Local || scratch.effect.hashes.is_empty() {
            return;
        }
        // What the keys rest on, their layer and their rights, is before this.
        let appended = self.journal.appended();
        if !self.followed.load(Relaxed) {
            return self.stream.skip(appended);
        }
        let Ok(()) = scratch.each_insert(handle.id, |operation| -> Result<(), Infallible> {
            self.stream.append(operation, appended);
            Ok(())
        });
        self.journal.ring_bell();
    }

    /// Takes in keys of a filter that is kept in memory, whose layer was opened before; `append`
    /// puts them into the stream.
    pub(crate) fn apply_unlogged(&self, insert: &Insert<'_>, append: impl Fn()) -> Effected {
        let spent = &insert.spent;
        let there = &mut || {
            append();
            Ok(0)
        };
        self.apply_to_layer(spent.filter, there, |handle, loaded| {
            if handle.storage == Storage::Durable {
                return Err(Blocked::UnknownLayer);
            }
            let layer = loaded.filter.layer(spent.layer);
            layer
                .ok_or(Blocked::UnknownLayer)?
                .apply_all(insert.hashes());
            Ok(())
        })
    }

    /// Filters of the group after `after` that are kept in memory, about `bytes_max` bytes of
    /// them, and the last id of them if more follow.
    pub(crate) fn kept_rows(
        &self,
        after: Option<FilterId>,
        bytes_max: usize,
    ) -> (Vec<KeptRow>, Option<FilterId>) {
        self.with_catalogue(|catalogue| {
            let (mut kept, mut bytes, mut last) = (Vec::new(), 0, None);
            for row in catalogue.rows_after(after) {
                if row.scope == Scope::Local
                    || row.storage == Storage::Durable
                    || !self.journal.covers(row.created)
                {
                    continue;
                }
                if bytes >= bytes_max {
                    return (kept, last);
                }
                let layers = row.layers.iter();
                let layers: Vec<_> = layers
                    .filter(|layer| self.journal.covers(layer.opened))
                    .map(|layer| (layer.shape.id, layer.opened))
                    .collect();
                bytes += LAYER_BYTES * (1 + layers.len());
                last = Some(row.id);
                kept.push(KeptRow {
                    filter: row.id,
                    created: row.created,
                    layers,
                });
            }
            (kept, None)
        })
    }

    /// The layers to be compared of a filter that a peer keeps in memory; false if what made it,
    /// or one of them, is not here yet.
    pub(crate) fn kept_parts(&self, theirs: &KeptRow, parts: &mut Vec<Part>) -> bool {
        if !self.journal.covers(theirs.created) {
            return false;
        }
        // Without a handle it was dropped.
        if self.by_id(theirs.filter).is_none() {
            return true;
        }
        let mut known = true;
        for (layer, opened) in &theirs.layers {
            if self.journal.covers(*opened) {
                parts.push(Part::Layer(LayerName {
                    filter: theirs.filter,
                    layer: *layer,
                }));
            } else {
                known = false;
            }
        }
        known
    }

    /// What the start of the node is for filters that are kept in memory. Where others may have
    /// their keys they go on, and get them back. Those of a node that is `alone`, and was since it
    /// was made, begin again, as new filters of the same name.
    pub(crate) fn begin_again(&self, alone: bool) -> Result<(), FilterError> {
        let mut renewed = BTreeSet::new();
        for handle in self.all() {
            if handle.storage == Storage::Durable {
                continue;
            }
            // A node that takes no writes makes none anew: the empty one stands.
            let kept = self.journal.read_only().is_some();
            let result = if kept || (handle.scope == Scope::Group && !alone) {
                self.load(&handle)
            } else {
                self.renew(&handle, renewed.insert(handle.name.clone()))
            };
            match result {
                // It holds nothing; its first use says so where there is still no room.
                Ok(()) | Err(FilterError::Memory(_) | FilterError::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether nothing was ever put in: no right was spent.
    fn is_untouched(&self, handle: &Handle) -> Result<bool, FilterError> {
        let filter = self.bits(handle)?;
        Ok(filter.layers().all(|layer| layer.inserted() == 0))
    }

    /// Ends a filter whose keys are nowhere any more; with `again` another one takes its place,
    /// which is made first: a crash in between leaves both.
    fn renew(&self, handle: &Handle, again: bool) -> Result<(), FilterError> {
        if again && self.is_untouched(handle)? {
            return Ok(());
        }
        let bytes = self.with_catalogue(|catalogue| {
            let first = catalogue.row(handle.id)?.layers.first()?;
            Some(first.shape.geometry.bytes())
        });
        let room = match bytes.filter(|_| again) {
            Some(bytes) => Some(self.room(bytes, 0, handle.storage)?),
            None => None,
        };
        let mut catalogue = lock(&self.catalogue);
        let Some(old) = catalogue.row(handle.id).cloned() else {
            return Ok(());
        };
        let (epoch, scope) = (old.epoch(), old.scope);
        if again {
            let first = old
                .parameters
                .layer(0, self.identity.origin, self.member_count())?;
            let loaded = self.empty(old.parameters, old.seed, old.storage);
            loaded.memory.grow_by(room, first.geometry.bytes())?;
            let id = FilterId::new((self.entropy)());
            self.enter(&mut catalogue, loaded, scope, |created| {
                CatalogueChange::Create(FilterRow {
                    id,
                    created,
                    layers: vec![LayerRow {
                        shape: first,
                        opened: created,
                    }],
                    ..old
                })
            })?;
        }
        let drop = |_| CatalogueChange::Drop(epoch);
        let (position, _) = self.change(&mut catalogue, scope.stream(), drop)?;
        let dropped = self.forget(&catalogue, epoch.filter, position);
        std::mem::drop(catalogue);
        if let Some(handle) = dropped {
            *handle.bits_write() = Bits::Gone;
        }
        Ok(())
    }
}
