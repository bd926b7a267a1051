//! Damaged filters get their bits back from other members.
//!
//! A copy is gathered beside the damaged one: it begins with what the files still give, and takes
//! the lines that a peer has and it lacks whenever the state is compared with one. Operations that
//! come meanwhile are applied to it as well. It takes the place of the damaged filter once a peer
//! has shown everything that was in here when the gathering began: nothing that was acknowledged
//! can be missing then, and no right that was spent is held again. Until then the filter answers
//! with the damage, and nothing of the copy is shown to anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, FilterRow, Scope, Storage};
use grapevine_core::filter::legacy::BloomdLayer;
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::filter::rights::Rights;
use grapevine_core::origin::Origin;
use grapevine_core::sync::{LayerName, LegacyName, Part};
use grapevine_core::version::VersionVector;
use xxhash_rust::xxh3::xxh3_64;

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, Handle, Loaded, Summary, lock};

/// What a filter says that was forgotten on this node.
const FORGOTTEN: &str = "its bits were forgotten here and come from the other members";

/// Revisions that the files of layers have, at least.
pub(crate) type Revisions = BTreeMap<(FilterId, LayerId), u64>;

/// The copy of a damaged filter that is being gathered.
pub(super) struct Healing {
    pub(super) loaded: Loaded,
    /// What was in here when it began.
    from: VersionVector,
    /// What only this node knew of other nodes' operations was given up.
    given_up: bool,
    /// Layers that were compared with what a peer has, since the last page that named them.
    whole: BTreeSet<LayerId>,
    /// As that page has them.
    rights: BTreeMap<LayerId, Rights>,
    foreign: BTreeMap<u32, Foreign>,
}

/// A layer of a foreign geometry.
enum Foreign {
    Whole(Arc<BloomdLayer>),
    /// Its file as far as it has come.
    Begun(Vec<u8>),
}

impl Healing {
    /// Whether all of `row` is in that a peer with `version` has, and that is all that was here.
    fn is_whole(&self, row: &FilterRow, me: Origin, version: &VersionVector) -> bool {
        let covered = if self.given_up {
            // Rights of this node that nobody knows to be spent must not be spent again.
            version.get(me) >= self.from.get(me)
        } else {
            version.includes(&self.from)
        };
        let mut layers = row.layers.iter().map(|layer| layer.shape.id);
        let bits = row.storage == Storage::Memory;
        let mut foreign = row.legacy.iter();
        covered
            && layers.all(|id| self.rights.contains_key(&id) && (bits || self.whole.contains(&id)))
            && foreign
                .all(|shape| matches!(self.foreign.get(&shape.index), Some(Foreign::Whole(_))))
    }
}

impl Filters {
    /// Whether a filter of the group is damaged, so that the state of a peer is wanted.
    pub(crate) fn wants_healing(&self) -> bool {
        let damaged =
            |handle: &Arc<Handle>| handle.scope == Scope::Group && handle.damage().is_some();
        self.all().iter().any(damaged)
    }

    /// Drops the bits of a filter here and lets them come from the other members. Nothing is lost
    /// that they have; of a filter that is not damaged nothing at all.
    ///
    /// # Errors
    /// When the node is alone or the filter is its own, so that nobody else has the bits.
    pub fn forget_copy(&self, handle: &Handle) -> Result<(), FilterError> {
        self.ensure_writable()?;
        if handle.storage == Storage::Memory {
            return Err(FilterError::InMemory);
        }
        let alone = !self.followed.load(std::sync::atomic::Ordering::Relaxed);
        if alone || handle.scope == Scope::Local {
            return Err(FilterError::OnlyCopy);
        }
        let also = handle.also();
        for handle in std::iter::once(handle).chain(also.iter().map(AsRef::as_ref)) {
            let damaged = handle.damage().is_some();
            *handle.bits_write() = Bits::Damaged(Arc::from(FORGOTTEN));
            let mut arrivals = lock(&self.arrivals);
            arrivals.healing.remove(&handle.id);
            arrivals.forgotten.insert(handle.id, damaged);
        }
        Ok(())
    }

    /// Goes on gathering a damaged filter from a peer whose state names it as `theirs`; gives the
    /// parts that are to be compared. Where there is no room for the copy it stays as it is.
    pub(super) fn gather(
        &self,
        handle: &Handle,
        theirs: &FilterRow,
        rights: &[Rights],
    ) -> Vec<Part> {
        let row = self.with_catalogue(|catalogue| catalogue.row(handle.id).cloned());
        let Some(row) = row.filter(|row| row.scope == Scope::Group) else {
            return Vec::new();
        };
        let mut arrivals = lock(&self.arrivals);
        let arrivals = &mut *arrivals;
        let healing = match arrivals.healing.remove(&row.id) {
            Some(healing) => healing,
            None => {
                match self.begin_healing(handle, &row, arrivals.forgotten.get(&row.id).copied()) {
                    Some(healing) => healing,
                    None => return Vec::new(),
                }
            }
        };
        let healing = arrivals.healing.entry(row.id).or_insert(healing);
        healing.whole.clear();
        let ids = theirs.layers.iter().map(|layer| layer.shape.id);
        healing.rights = ids.clone().zip(rights.iter().cloned()).collect();
        let mut parts = Vec::new();
        if row.storage == Storage::Durable {
            let known = ids.filter(|id| healing.loaded.filter.layer(*id).is_some());
            parts.extend(known.map(|layer| {
                Part::Layer(LayerName {
                    filter: row.id,
                    layer,
                })
            }));
        }
        for (index, foreign) in &mut healing.foreign {
            if let Foreign::Begun(bytes) = foreign {
                bytes.clear();
                parts.push(Part::Legacy(LegacyName {
                    filter: row.id,
                    index: *index,
                }));
            }
        }
        parts
    }

    /// The copy of a damaged filter as its files still give it; of one that was forgotten it is
    /// empty. None when there is no room for it.
    fn begin_healing(
        &self,
        handle: &Handle,
        row: &FilterRow,
        forgotten: Option<bool>,
    ) -> Option<Healing> {
        // It does not give way to others.
        let loaded = self.fresh(row, Storage::Memory).ok()?;
        if loaded.is_apart() {
            return None;
        }
        let mut foreign = BTreeMap::new();
        for shape in &row.legacy {
            let read = self.read_legacy(handle, shape).ok();
            let read = read.filter(|_| forgotten.is_none());
            let begun = || Foreign::Begun(Vec::new());
            let layer = read.map_or_else(begun, |layer| Foreign::Whole(Arc::new(layer)));
            foreign.insert(shape.index, layer);
        }
        if forgotten.is_none() {
            for layer in loaded.filter.layers() {
                // Blocks before the damaged one are in; the rest comes.
                drop(self.read_layer(handle, layer));
            }
        }
        Some(Healing {
            loaded,
            from: self.journal.applied(),
            given_up: forgotten == Some(true),
            whole: BTreeSet::new(),
            rights: BTreeMap::new(),
            foreign,
        })
    }

    /// Applies a change to the copy of a damaged filter. One that cannot take it is gathered anew.
    pub(super) fn change_healing(
        &self,
        filter: FilterId,
        change: impl FnOnce(&Loaded) -> super::apply::Effected,
    ) {
        let mut arrivals = lock(&self.arrivals);
        if let Some(healing) = arrivals.healing.get(&filter)
            && change(&healing.loaded).is_err()
        {
            arrivals.healing.remove(&filter);
        }
    }

    /// What comes now is not in the copy: it is gathered anew.
    pub(super) fn stop_healing(&self, filter: FilterId) {
        lock(&self.arrivals).healing.remove(&filter);
    }

    /// Puts those damaged filters back of which everything has come from a peer that has
    /// `version`; true if there are any. Their files are replaced, with revisions above those that
    /// the manifest names.
    pub(crate) fn heal(
        &self,
        version: &VersionVector,
        revisions: impl FnOnce() -> Revisions,
    ) -> Result<bool, FilterError> {
        let gathered: Vec<FilterId> = lock(&self.arrivals).healing.keys().copied().collect();
        let mut healed = Vec::new();
        for id in gathered {
            let handle = self.by_id(id).filter(|handle| handle.damage().is_some());
            let row = self.with_catalogue(|catalogue| catalogue.row(id).cloned());
            let mut arrivals = lock(&self.arrivals);
            let (Some(handle), Some(row)) = (handle, row) else {
                arrivals.healing.remove(&id);
                continue;
            };
            let me = self.identity.origin;
            let whole = |healing: &&Healing| healing.is_whole(&row, me, version);
            if arrivals.healing.get(&id).filter(whole).is_some()
                && let Some(healing) = arrivals.healing.remove(&id)
            {
                arrivals.forgotten.remove(&id);
                healed.push((handle, row, healing));
            }
        }
        if healed.is_empty() {
            return Ok(false);
        }
        let revisions = revisions();
        for (handle, row, healing) in healed {
            self.put_back(&handle, &row, healing, &revisions)?;
        }
        Ok(true)
    }

    fn put_back(
        &self,
        handle: &Arc<Handle>,
        row: &FilterRow,
        healing: Healing,
        revisions: &Revisions,
    ) -> Result<(), FilterError> {
        let Healing {
            loaded,
            rights,
            foreign,
            ..
        } = healing;
        let mut legacy = Vec::new();
        for foreign in foreign.into_values() {
            if let Foreign::Whole(layer) = foreign {
                loaded.filter.add_legacy(Arc::clone(&layer))?;
                legacy.push(layer);
            }
        }
        for layer in loaded.filter.layers() {
            if let Some(rights) = rights.get(&layer.id()) {
                // Rights of another layer say nothing about this one.
                layer.merge_rights(rights).ok();
            }
            let before = revisions.get(&(row.id, layer.id())).copied();
            layer.raise_revision(before.unwrap_or_default().saturating_add(1));
        }
        let _alone = self.alone();
        let revisions: Vec<(LayerId, u64)> = loaded
            .filter
            .layers()
            .map(|layer| (layer.id(), layer.revision()))
            .collect();
        let written = match row.storage {
            Storage::Durable => self.write_files(row.id, &loaded.filter, &legacy),
            Storage::Memory => loaded
                .filter
                .layers()
                .try_for_each(|layer| self.write_layer_file(row.id, layer, row.storage)),
        };
        written.map_err(|error| self.snapshot_failed(&error))?;
        lock(&handle.snapshots).extend(revisions);
        *lock(&handle.summary) = Summary::of(&loaded.filter);
        // From now on it may give way to others.
        let Loaded { filter, memory } = loaded;
        let memory = memory.counted_as(row.storage);
        *handle.bits_write() = Bits::Loaded(Loaded { filter, memory });
        lock(&self.apart).remove(&row.id);
        self.ring.enter(handle);
        Ok(())
    }
}

impl super::arrival::Arrivals {
    /// Notes that all of a part has come, if it is of a filter that is being gathered.
    pub(super) fn healing_fetched(&mut self, part: Part) -> bool {
        let Some(healing) = self.healing.get_mut(&part.filter()) else {
            return false;
        };
        if let Part::Layer(layer) = part {
            healing.whole.insert(layer.layer);
        }
        true
    }

    /// Takes a piece of a foreign layer's file of a filter that is being gathered; the outer none:
    /// it is none. Gives the offset of the next one wanted.
    pub(super) fn healing_piece(
        &mut self,
        shape: &grapevine_core::catalogue::LegacyShape,
        filter: FilterId,
        offset: u64,
        bytes: &[u8],
    ) -> Option<Option<u64>> {
        let foreign = self
            .healing
            .get_mut(&filter)?
            .foreign
            .get_mut(&shape.index)?;
        let Foreign::Begun(file) = foreign else {
            return Some(None);
        };
        let here = file.len() as u64;
        if offset == here && bytes.len() as u64 <= shape.bytes - here {
            file.extend_from_slice(bytes);
        }
        if (file.len() as u64) < shape.bytes {
            return Some(Some(file.len() as u64));
        }
        let file = std::mem::take(file);
        if xxh3_64(&file) == shape.checksum
            && let Ok(layer) = BloomdLayer::from_vec(file)
        {
            let layer = layer.with_capacity(shape.capacity);
            *foreign = Foreign::Whole(Arc::new(layer));
        }
        Some(None)
    }
}
