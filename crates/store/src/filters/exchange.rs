//! State handed from node to node: rows with the rights of their layers, and bits by blocks and
//! lines. A block is 1024 lines of 512 bits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, Scope, Storage};
use grapevine_core::filter::Layer;
use grapevine_core::filter::legacy::BloomdLayer;
use grapevine_core::filter::rights::Rights;
use grapevine_core::operation::{CatalogueChange, Epoch, Stream, encode_change};
use grapevine_core::sync::fingerprint::{block_hash, line_hash};
use grapevine_core::sync::{
    BLOCK_LINES, BlockHashes, BlockLines, LayerName, LegacyName, Line, Part,
};
use grapevine_core::version::{Dot, VersionVector};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Filters;
use super::apply::{Append, Blocked, Effected};
use super::error::FilterError;
use super::handle::{Bits, Handle, Loaded, lock};
use super::keys::loaded;
use crate::filters::legacy_path;
use crate::journal::ReadOnly;

const LINE_WORDS: usize = 8;
const BLOCK_WORDS: usize = BLOCK_LINES * LINE_WORDS;

/// A row with what the catalogue does not hold of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SharedRow {
    pub(crate) row: FilterRow,
    /// Of its layers, in the row's order; none for one that is kept in memory.
    rights: Vec<Rights>,
}

/// Bits on their way here, of what is not entered yet.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Filters that came to be beside the log of another node.
    filters: BTreeMap<FilterId, Arrival>,
    /// Parts of those that have been fetched whole.
    whole: BTreeSet<Part>,
    /// Rights as the pages of a snapshot have them: taken in when it is whole. Until then nobody
    /// here may spend what an operation gave that is not in.
    rights: BTreeMap<LayerName, Rights>,
    /// Layers that were fetched for an operation. Another one that needs the same layer has it
    /// fetched again, with what it put into it.
    fetched: BTreeSet<(Dot, Part)>,
    /// Filters that somebody dropped, since who had applied what waits for their bits has them no
    /// more.
    dropped: BTreeSet<FilterId>,
}

struct Arrival {
    row: FilterRow,
    /// Those of its layers, if it came with a snapshot.
    rights: Option<Vec<Rights>>,
    loaded: Loaded,
    /// Files of foreign layers as far as they have come.
    legacy: BTreeMap<u32, Vec<u8>>,
}

impl Arrival {
    /// Length of a foreign layer's file.
    fn length(&self, index: u32) -> Option<u64> {
        let shape = self.row.legacy.iter().find(|shape| shape.index == index);
        shape.map(|shape| shape.bytes)
    }
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
        let filter = handle.in_memory();
        let of_layer = |layer: &LayerRow| match &filter {
            Some(filter) => filter.layer(layer.shape.id).map(|layer| layer.rights()),
            None => self
                .read_head(handle, &layer.shape)
                .ok()
                .map(|head| head.rights),
        };
        Ok(row
            .layers
            .iter()
            .map(|layer| {
                let untouched = Rights::new(layer.shape.capacity, layer.shape.id.creator);
                of_layer(layer).unwrap_or(untouched)
            })
            .collect())
    }

    /// Takes another node's rows of a range of ids in, which had all of `version`. Gives the parts
    /// whose bits must be compared.
    pub(crate) fn merge_rows(
        &self,
        after: Option<FilterId>,
        up_to: Option<FilterId>,
        theirs: &[SharedRow],
        version: &VersionVector,
    ) -> Result<Vec<Part>, Blocked> {
        let rows: Vec<FilterRow> = theirs.iter().map(|shared| shared.row.clone()).collect();
        let ours = self.journal.applied();
        let changes = self
            .with_catalogue(|catalogue| catalogue.reconcile(after, up_to, &rows, version, &ours));
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
                    // Bits that came for it so far come again, into the filter itself.
                    lock(&self.arrivals).filters.remove(&id);
                }
                change => self.take_over(&change)?,
            }
        }
        let mut arrivals = lock(&self.arrivals);
        if after.is_none() {
            arrivals.rights.clear();
        }
        for SharedRow { row, rights } in theirs {
            if self.by_id(row.id).is_some() {
                let layers = row.layers.iter().map(|layer| LayerName {
                    filter: row.id,
                    layer: layer.shape.id,
                });
                for (name, rights) in layers.zip(rights) {
                    parts.push(Part::Layer(name));
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
            let rows = catalogue.rows().filter(|row| row.scope == Scope::Group);
            rows.filter(|row| version.covers(row.created) && !named.contains(&row.id))
                .map(FilterRow::epoch)
                .collect()
        });
        let mut dropped = dropped.into_iter();
        dropped.try_for_each(|epoch| self.take_over(&CatalogueChange::Drop(epoch)))
    }

    /// Drops what came with a snapshot that never became whole: filters that no operation here
    /// has made.
    pub(crate) fn forget_partial(&self) -> Effected {
        lock(&self.arrivals).rights.clear();
        let partial: Vec<Epoch> = self.with_catalogue(|catalogue| {
            let rows = catalogue.rows().filter(|row| row.scope == Scope::Group);
            rows.filter(|row| !self.journal.covers(row.created))
                .map(FilterRow::epoch)
                .collect()
        });
        let mut partial = partial.into_iter();
        partial.try_for_each(|epoch| self.take_over(&CatalogueChange::Drop(epoch)))
    }

    /// Applies a change that came with a snapshot: what follows in this node's log rests on it.
    fn take_over(&self, change: &CatalogueChange) -> Effected {
        let mut encoded = Vec::new();
        encode_change(&mut encoded, change);
        self.apply_change(change, &mut || {
            let append = |_, entry: &mut crate::log::EntryBuffer<'_>| {
                entry.extend_from_slice(&encoded);
            };
            Ok(self.journal.append(Stream::Local, append)?.0)
        })
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
            match merged {
                Err(FilterError::Memory(over)) => return Err(over.into()),
                // A damaged one keeps the snapshot from being taken over.
                Err(_) | Ok(_) => {}
            }
        }
        Ok(())
    }

    fn merge_all_rights(&self, handle: &Handle, row: &FilterRow, rights: &[Rights]) -> Effected {
        let bits = match self.loaded(handle) {
            Ok(bits) => bits,
            Err(FilterError::Memory(over)) => return Err(over.into()),
            Err(_) => return Ok(()),
        };
        let Bits::Loaded(loaded) = &*bits else {
            return Ok(());
        };
        for (layer, rights) in row.layers.iter().zip(rights) {
            if let Some(own) = loaded.filter.layer(layer.shape.id)
                && own.merge_rights(rights).is_ok()
            {
                own.touch();
            }
        }
        Ok(())
    }

    /// Looks at a layer while nobody unloads it. None when there is no such layer.
    fn with_layer<T>(
        &self,
        name: LayerName,
        look: impl FnOnce(&Layer) -> T,
    ) -> Result<Option<T>, FilterError> {
        let Some(handle) = self.by_id(name.filter) else {
            let arrivals = lock(&self.arrivals);
            let arrival = arrivals.filters.get(&name.filter);
            let layer = arrival.and_then(|arrival| arrival.loaded.filter.layer(name.layer));
            return Ok(layer.map(|layer| look(layer)));
        };
        let bits = match self.loaded(&handle) {
            Ok(bits) => bits,
            Err(FilterError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        match loaded(&bits) {
            Ok(loaded) => Ok(loaded.filter.layer(name.layer).map(|layer| look(layer))),
            Err(FilterError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fingerprints of up to `count_max` blocks from `first` on.
    pub(crate) fn block_hashes(
        &self,
        name: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, FilterError> {
        self.with_layer(name, |layer| {
            let total = layer.word_count().div_ceil(BLOCK_WORDS) as u32;
            let count = u32::try_from(count_max).unwrap_or(u32::MAX);
            let end = total.min(first.saturating_add(count));
            let hash = |block| block_hash(block, &lines_of(layer, block));
            let hashes = (first..end).map(hash).collect();
            BlockHashes { total, hashes }
        })
    }

    /// Blocks from `first` on whose fingerprint is another here.
    pub(crate) fn differing(
        &self,
        name: LayerName,
        first: u32,
        hashes: &[u64],
    ) -> Result<Vec<u32>, FilterError> {
        let own = self.block_hashes(name, first, hashes.len())?;
        let own = own.map(|own| own.hashes).unwrap_or_default();
        Ok((first..)
            .zip(own.iter().zip(hashes))
            .filter(|(_, (own, theirs))| own != theirs)
            .map(|(block, _)| block)
            .collect())
    }

    /// Hashes under `salt` of the lines of a block.
    pub(crate) fn line_hashes(
        &self,
        name: LayerName,
        block: u32,
        salt: u64,
    ) -> Result<Vec<u32>, FilterError> {
        let hashes = self.with_layer(name, |layer| {
            let lines = lines_of(layer, block);
            lines.iter().map(|line| line_hash(salt, line)).collect()
        })?;
        Ok(hashes.unwrap_or_default())
    }

    /// The lines of a block whose hash under `salt` is not the one shown, and that are not empty.
    pub(crate) fn differing_lines(
        &self,
        name: LayerName,
        block: u32,
        salt: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, FilterError> {
        let lines = self.with_layer(name, |layer| {
            let lines = lines_of(layer, block);
            (!lines.is_empty()).then(|| BlockLines {
                hash: block_hash(block, &lines),
                lines: (0..)
                    .zip(&lines)
                    .filter(|(index, line)| {
                        let shown = hashes.get(usize::from(*index));
                        **line != [0; LINE_WORDS] && shown != Some(&line_hash(salt, line))
                    })
                    .map(|(index, words)| Line {
                        index,
                        words: *words,
                    })
                    .collect(),
            })
        })?;
        Ok(lines.flatten())
    }

    /// ORs lines of another copy into a block; true if a bit was new.
    pub(crate) fn merge_lines(
        &self,
        name: LayerName,
        block: u32,
        lines: &[Line],
    ) -> Result<bool, FilterError> {
        let merged = self.with_layer(name, |layer| {
            let from = block as usize * BLOCK_WORDS;
            let room = layer.word_count().saturating_sub(from).min(BLOCK_WORDS);
            let mut news = false;
            for line in lines {
                let at = usize::from(line.index) * LINE_WORDS;
                if at + LINE_WORDS <= room {
                    news |= layer.merge_words(from + at, &line.words);
                }
            }
            if news {
                layer.touch();
            }
            news
        })?;
        Ok(merged.unwrap_or(false))
    }

    /// A piece of a foreign layer's file and the file's length.
    pub(crate) fn foreign_piece(
        &self,
        name: LegacyName,
        offset: u64,
        bytes_max: usize,
    ) -> Option<(u64, Vec<u8>)> {
        let row = self.with_catalogue(|catalogue| catalogue.row(name.filter).cloned())?;
        let shape = row.legacy.iter().find(|shape| shape.index == name.index)?;
        let path = legacy_path(name.filter, name.index);
        let file = self.disk.open(&path, crate::disk::OpenMode::Read).ok()?;
        let left = shape.bytes.checked_sub(offset)?;
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max)];
        file.read_at(offset, &mut bytes).ok()?;
        Some((shape.bytes, bytes))
    }

    /// Takes a piece of a foreign layer's file in; gives the offset of the next one wanted.
    pub(crate) fn take_foreign_piece(
        &self,
        name: LegacyName,
        offset: u64,
        bytes: &[u8],
    ) -> Option<u64> {
        let mut arrivals = lock(&self.arrivals);
        let arrival = arrivals.filters.get_mut(&name.filter)?;
        let length = arrival.length(name.index)?;
        let file = arrival.legacy.entry(name.index).or_default();
        let here = file.len() as u64;
        if offset == here && bytes.len() as u64 <= length - here {
            file.extend_from_slice(bytes);
        }
        ((file.len() as u64) < length).then_some(file.len() as u64)
    }

    /// Everything that a peer has of a part is here, or nobody has it any more.
    pub(crate) fn part_fetched(&self, part: Part, waiting: Option<Dot>) {
        let mut arrivals = lock(&self.arrivals);
        let arrivals = &mut *arrivals;
        if arrivals.filters.contains_key(&part.filter()) {
            arrivals.whole.insert(part);
        } else if let Some(dot) = waiting {
            // What came in another way meanwhile waits no more.
            let journal = &self.journal;
            arrivals.fetched.retain(|(dot, _)| !journal.covers(*dot));
            arrivals.fetched.insert((dot, part));
        }
    }

    /// A peer that must have had a part has it no more: its filter was dropped there.
    pub(crate) fn part_given_up(&self, part: Part, waiting: Option<Dot>) {
        self.part_fetched(part, waiting);
        lock(&self.arrivals).dropped.insert(part.filter());
    }

    /// Drops what others are known to have dropped. The operation that did so there may never
    /// come, and copies would keep whatever bits they had got by then.
    pub(crate) fn relay_drops(&self) -> Result<(), ReadOnly> {
        let ids: Vec<FilterId> = lock(&self.arrivals).dropped.iter().copied().collect();
        for id in ids {
            let dropped = {
                let mut catalogue = lock(&self.catalogue);
                let epoch = catalogue.row(id).map(FilterRow::epoch);
                match epoch {
                    Some(epoch) if !self.journal.covers(epoch.created) => continue,
                    Some(epoch) => {
                        let drop = |_| CatalogueChange::Drop(epoch);
                        let (position, _) = self.change(&mut catalogue, Stream::Group, drop)?;
                        self.forget(&catalogue, id, position)
                    }
                    None => None,
                }
            };
            lock(&self.arrivals).dropped.remove(&id);
            if let Some(handle) = dropped {
                *handle.bits_write() = Bits::Gone;
            }
        }
        Ok(())
    }

    /// Begins to gather the bits of a filter that came to be beside the log of another node;
    /// gives the parts that are still to be fetched.
    fn await_filter(&self, row: &FilterRow) -> Result<Vec<Part>, Blocked> {
        let mut arrivals = lock(&self.arrivals);
        if !arrivals.filters.contains_key(&row.id) {
            let loaded = self.fresh(row)?;
            for shape in &row.legacy {
                loaded.memory.grow(shape.bytes)?;
            }
            let arrival = Arrival {
                row: row.clone(),
                rights: None,
                loaded,
                legacy: BTreeMap::new(),
            };
            arrivals.filters.insert(row.id, arrival);
        }
        let layers = row.layers.iter().map(|layer| {
            Part::Layer(LayerName {
                filter: row.id,
                layer: layer.shape.id,
            })
        });
        let foreign = row.legacy.iter().map(|shape| {
            Part::Legacy(LegacyName {
                filter: row.id,
                index: shape.index,
            })
        });
        let parts = layers.chain(foreign);
        Ok(parts
            .filter(|part| !arrivals.whole.contains(part))
            .collect())
    }

    /// Takes in a filter that another node imported, once its bits are here: files first.
    pub(crate) fn apply_import(
        &self,
        dot: Dot,
        row: &FilterRow,
        rights: &[Rights],
        append: Append<'_>,
    ) -> Effected {
        if let Some(handle) = self.by_id(row.id) {
            // It came with a snapshot that may not be whole yet.
            return self.complete_import(dot, &handle, row, rights, append);
        }
        if row.storage == Storage::Durable {
            let missing = self.await_filter(row)?;
            if !missing.is_empty() {
                return Err(Blocked::Parts(missing));
            }
            self.write_arrival(row, rights)?;
        }
        let change = CatalogueChange::Import(row.clone(), rights.to_vec());
        self.apply_change(&change, append)
    }

    /// Enters the filters of a snapshot, whose bits have all come.
    pub(crate) fn take_over_arrivals(&self) -> Effected {
        let arrived: Vec<(FilterRow, Vec<Rights>)> = {
            let arrivals = lock(&self.arrivals);
            let arrived = arrivals.filters.values();
            let arrived = arrived.filter_map(|arrival| {
                let rights = arrival.rights.clone()?;
                Some((arrival.row.clone(), rights))
            });
            arrived.collect()
        };
        for (row, rights) in arrived {
            // What an operation waits for enters with that operation.
            if self.await_filter(&row)?.is_empty() {
                self.write_arrival(&row, &rights)?;
                self.take_over(&CatalogueChange::Import(row, rights))?;
            }
        }
        Ok(())
    }

    /// An import of what is here already waits until its bits have been compared.
    fn complete_import(
        &self,
        dot: Dot,
        handle: &Handle,
        row: &FilterRow,
        rights: &[Rights],
        append: Append<'_>,
    ) -> Effected {
        let layers = row.layers.iter().map(|layer| LayerName {
            filter: row.id,
            layer: layer.shape.id,
        });
        let parts: Vec<Part> = layers.map(Part::Layer).collect();
        {
            let mut arrivals = lock(&self.arrivals);
            let missing: Vec<Part> = parts
                .iter()
                .filter(|part| !arrivals.fetched.contains(&(dot, **part)))
                .copied()
                .collect();
            if !missing.is_empty() {
                return Err(Blocked::Parts(missing));
            }
            for part in &parts {
                arrivals.fetched.remove(&(dot, *part));
            }
        }
        self.merge_all_rights(handle, row, rights)?;
        // What came of them is in memory only.
        let _alone = lock(&self.snapshot);
        self.write_layers(handle).map_err(|error| {
            let reason = || format!("writing an imported filter failed: {error}");
            Blocked::ReadOnly(self.journal.fail(reason))
        })?;
        append()?;
        Ok(())
    }

    fn write_arrival(&self, row: &FilterRow, rights: &[Rights]) -> Effected {
        let arrival = {
            let mut arrivals = lock(&self.arrivals);
            arrivals.whole.retain(|part| part.filter() != row.id);
            arrivals.filters.remove(&row.id)
        };
        let Some(Arrival { loaded, legacy, .. }) = arrival else {
            return Ok(());
        };
        for (layer, rights) in row.layers.iter().zip(rights) {
            if let Some(own) = loaded.filter.layer(layer.shape.id) {
                // Rights of another layer say nothing about this one.
                own.merge_rights(rights).ok();
            }
        }
        let mut layers = Vec::new();
        for shape in &row.legacy {
            let bytes = legacy.get(&shape.index).cloned().unwrap_or_default();
            // One that did not come whole, since what it belonged to was dropped there, is left
            // out: the filter will be found damaged until its drop arrives.
            if xxh3_64(&bytes) == shape.checksum
                && let Ok(layer) = BloomdLayer::from_vec(bytes)
            {
                layers.push(Arc::new(layer));
            }
        }
        let _alone = lock(&self.snapshot);
        let written = self.write_files(row.id, &loaded.filter, &layers);
        written.map_err(|error| {
            let reason = || format!("writing an imported filter failed: {error}");
            self.journal.fail(reason).into()
        })
    }

    /// Takes in a layer that another node merged from a file, once its bits are here.
    pub(crate) fn apply_adopted(
        &self,
        dot: Dot,
        epoch: Epoch,
        layer: LayerRow,
        rights: &Rights,
        append: Append<'_>,
    ) -> Effected {
        let name = LayerName {
            filter: epoch.filter,
            layer: layer.shape.id,
        };
        let Some(handle) = self.by_id(epoch.filter) else {
            append()?;
            return Ok(());
        };
        let ready = {
            let bits = match self.loaded(&handle) {
                Ok(bits) => bits,
                Err(FilterError::Memory(over)) => return Err(over.into()),
                Err(_) => {
                    append()?;
                    return Ok(());
                }
            };
            match &*bits {
                Bits::Loaded(loaded) => {
                    let known = loaded.filter.layer(layer.shape.id).cloned();
                    if known.is_none() {
                        loaded.memory.grow(layer.shape.geometry.bytes())?;
                        let added = loaded.filter.add_layer(layer);
                        added.map_err(|_| Blocked::UnknownLayer)?;
                    }
                    let part = Part::Layer(name);
                    known.filter(|_| lock(&self.arrivals).fetched.remove(&(dot, part)))
                }
                _ => None,
            }
        };
        let Some(ready) = ready else {
            return Err(Blocked::Parts(vec![Part::Layer(name)]));
        };
        // Of a layer that came under another name they say nothing.
        ready.merge_rights(rights).ok();
        {
            let _alone = lock(&self.snapshot);
            let written = self.write_layer_file(epoch.filter, &ready);
            written.map_err(|error| {
                let reason = || format!("writing a merged layer failed: {error}");
                Blocked::ReadOnly(self.journal.fail(reason))
            })?;
        }
        self.enter_adopted(epoch, layer, rights, append)
    }
}

/// The lines of a block; none behind the end of the layer.
fn lines_of(layer: &Layer, block: u32) -> Vec<[u64; LINE_WORDS]> {
    let from = block as usize * BLOCK_WORDS;
    let count = layer.word_count().saturating_sub(from).min(BLOCK_WORDS);
    let mut words = vec![0; count];
    layer.copy_words(from, &mut words);
    words.as_chunks().0.to_vec()
}
