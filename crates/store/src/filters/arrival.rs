//! Filters and layers that came to be beside the log of another node, whose bits never were
//! operations: they are gathered from who has them before the operation is taken in.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Mutex;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, LegacyShape, Storage};
use grapevine_core::filter::Layer;
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::filter::rights::Rights;
use grapevine_core::operation::{CatalogueChange, Epoch, Stream};
use grapevine_core::sync::{LayerName, LegacyName, Part};
use grapevine_core::version::Dot;
use xxhash_rust::xxh3::Xxh3Default;

use super::Filters;
use super::apply::{Append, Blocked, Effected};
use super::error::FilterError;
use super::handle::{Bits, Handle, Loaded, directory, legacy_path, lock};
use super::heal::Healing;
use super::load::FileReader;
use crate::disk::{Disk, OpenMode, is_passing};
use crate::journal::ReadOnly;

/// Bytes of a file that are read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Bits on their way here, of what is not entered yet.
#[derive(Default)]
pub(super) struct Arrivals {
    /// Filters that came to be beside the log of another node.
    pub(super) filters: BTreeMap<FilterId, Arrival>,
    /// Parts of those that have been fetched whole.
    whole: BTreeSet<Part>,
    /// Rights as the pages of a snapshot have them: taken in when it is whole. Until then nobody
    /// here may spend what an operation gave that is not in.
    pub(super) rights: BTreeMap<LayerName, Rights>,
    /// Layers that were fetched for an operation. Another one that needs the same layer has it
    /// fetched again, with what it put into it.
    fetched: BTreeSet<(Dot, Part)>,
    /// Filters that somebody dropped, since who had applied what waits for their bits has them no
    /// more.
    dropped: BTreeSet<FilterId>,
    /// Filters that came with a state which is not whole yet, and with no operation.
    pub(super) partial: BTreeSet<FilterId>,
    /// Copies of damaged filters that are being gathered.
    pub(super) healing: BTreeMap<FilterId, Healing>,
    /// Filters whose bits were forgotten here, and whether they were damaged.
    pub(super) forgotten: BTreeMap<FilterId, bool>,
}

pub(super) struct Arrival {
    row: FilterRow,
    /// Those of its layers, if it came with a snapshot.
    pub(super) rights: Option<Vec<Rights>>,
    pub(super) loaded: Loaded,
    /// Layers that have a file already, since there is no room for their bits in memory.
    written: Mutex<BTreeSet<LayerId>>,
    /// Bytes of the files of foreign layers that have come.
    legacy: BTreeMap<u32, u64>,
}

impl Arrival {
    /// Whether a layer has a file.
    pub(super) fn has_file(&self, layer: LayerId) -> bool {
        lock(&self.written).contains(&layer)
    }

    /// Length of a foreign layer's file.
    fn length(&self, index: u32) -> Option<u64> {
        let shape = self.row.legacy.iter().find(|shape| shape.index == index);
        shape.map(|shape| shape.bytes)
    }
}

impl Filters {
    /// Takes a piece of a foreign layer's file in; gives the offset of the next one wanted.
    pub(crate) fn take_foreign_piece(
        &self,
        name: LegacyName,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Option<u64>, FilterError> {
        let row = self.with_catalogue(|catalogue| catalogue.row(name.filter).cloned());
        let mut arrivals = lock(&self.arrivals);
        let legacy = row.iter().flat_map(|row| &row.legacy);
        for shape in legacy.filter(|shape| shape.index == name.index) {
            if let Some(next) = arrivals.healing_piece(shape, name.filter, offset, bytes) {
                return Ok(next);
            }
        }
        let Some(arrival) = arrivals.filters.get_mut(&name.filter) else {
            return Ok(None);
        };
        let Some(length) = arrival.length(name.index) else {
            return Ok(None);
        };
        let here = arrival.legacy.entry(name.index).or_default();
        if offset == *here && bytes.len() as u64 <= length - *here {
            self.write_piece(name, offset, bytes)
                .map_err(|error| self.snapshot_failed(&error))?;
            *here += bytes.len() as u64;
        }
        Ok((*here < length).then_some(*here))
    }

    /// Files of what is not entered yet are removed at the next start.
    fn write_piece(&self, name: LegacyName, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let path = legacy_path(name.filter, name.index);
        self.disk.create_dir(&directory(name.filter))?;
        let mode = match offset {
            0 => OpenMode::Create,
            _ => OpenMode::ReadWrite,
        };
        self.disk.open(&path, mode)?.write_at(offset, bytes)
    }

    /// Merges what waits for a layer that is not entered yet into its file, if it is much.
    pub(super) fn relieve(&self, arrival: &Arrival, layer: &Layer) -> Result<(), FilterError> {
        if self.is_crowded(&arrival.loaded.filter) {
            self.write_apart(arrival, layer)?;
        }
        Ok(())
    }

    fn write_apart(&self, arrival: &Arrival, layer: &Layer) -> Result<(), FilterError> {
        let has_file = arrival.has_file(layer.id());
        self.merge_layer_file(arrival.row.id, layer, has_file)
            .map_err(|error| self.snapshot_failed(&io::Error::other(error)))?;
        lock(&arrival.written).insert(layer.id());
        Ok(())
    }

    /// Everything that a peer has of a part is here, or nobody has it any more.
    pub(crate) fn part_fetched(&self, part: Part, waiting: Option<Dot>) {
        let mut arrivals = lock(&self.arrivals);
        let arrivals = &mut *arrivals;
        if arrivals.healing_fetched(part) {
            return;
        }
        if arrivals.filters.contains_key(&part.filter()) {
            arrivals.whole.insert(part);
        } else if let Some(dot) = waiting {
            // What came in another way meanwhile waits no more.
            let journal = &self.journal;
            arrivals.fetched.retain(|(dot, _)| !journal.covers(*dot));
            arrivals.fetched.insert((dot, part));
        }
    }

    /// The operation that made a filter which is here or on its way here.
    pub(crate) fn made(&self, id: FilterId) -> Option<Dot> {
        let here = self.with_catalogue(|catalogue| catalogue.row(id).map(|row| row.created));
        here.or_else(|| {
            let arrivals = lock(&self.arrivals);
            arrivals.filters.get(&id).map(|arrival| arrival.row.created)
        })
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
    pub(super) fn await_filter(&self, row: &FilterRow) -> Result<Vec<Part>, Blocked> {
        let mut arrivals = lock(&self.arrivals);
        if let Entry::Vacant(place) = arrivals.filters.entry(row.id) {
            let arrival = Arrival {
                row: row.clone(),
                rights: None,
                // It does not give way to others.
                loaded: self.fresh(row, Storage::Memory)?,
                written: Mutex::default(),
                legacy: BTreeMap::new(),
            };
            place.insert(arrival);
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
        if handle.damage().is_some() {
            // Its bits come with all others of the filter.
            self.stop_healing(handle.id);
            append()?;
            let catalogue = lock(&self.catalogue);
            self.rename(&mut self.handles_write(), &catalogue, &row.name);
            return Ok(());
        }
        let layers = row.layers.iter().map(|layer| LayerName {
            filter: row.id,
            layer: layer.shape.id,
        });
        let kept = layers.filter(|_| row.storage == Storage::Durable);
        let parts: Vec<Part> = kept.map(Part::Layer).collect();
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
        {
            let _alone = self.alone();
            self.write_layers(handle).map_err(not_kept)?;
        }
        append()?;
        // It may answer to its name from now on.
        let catalogue = lock(&self.catalogue);
        self.rename(&mut self.handles_write(), &catalogue, &row.name);
        Ok(())
    }

    fn write_arrival(&self, row: &FilterRow, rights: &[Rights]) -> Effected {
        let arrival = {
            let mut arrivals = lock(&self.arrivals);
            arrivals.whole.retain(|part| part.filter() != row.id);
            arrivals.filters.remove(&row.id)
        };
        let Some(arrival) = arrival else {
            return Ok(());
        };
        let filter = &arrival.loaded.filter;
        for (layer, rights) in row.layers.iter().zip(rights) {
            if let Some(own) = filter.layer(layer.shape.id) {
                // Rights of another layer say nothing about this one.
                own.merge_rights(rights).ok();
            }
        }
        let _alone = self.alone();
        if arrival.loaded.is_apart() {
            let mut layers = filter.layers();
            let written = layers.try_for_each(|layer| self.write_apart(&arrival, layer));
            written.map_err(not_kept)?;
        } else {
            let written = self.write_files(row.id, filter, &[]);
            written.map_err(|error| self.not_imported(&error))?;
        }
        let mut foreign = row.legacy.iter();
        let kept = foreign.try_for_each(|shape| self.keep_foreign(row.id, shape));
        kept.map_err(|error| self.not_imported(&error))
    }

    /// Makes a foreign layer's file durable. One that did not come whole, since what it belonged to
    /// was dropped there, is left out: the filter will be found damaged until its drop arrives.
    fn keep_foreign(&self, id: FilterId, shape: &LegacyShape) -> io::Result<()> {
        let path = legacy_path(id, shape.index);
        if !self.disk.exists(&path)? {
            return Ok(());
        }
        if checksum_of(&*self.disk, &path)? != shape.checksum {
            self.disk.remove(&path)?;
            return Ok(());
        }
        self.disk.open(&path, OpenMode::ReadWrite)?.sync()?;
        self.disk.sync_dir(&directory(id))
    }

    /// Bits that came were not written: for good, unless no file could be opened.
    fn not_imported(&self, error: &io::Error) -> Blocked {
        if is_passing(error) {
            return Blocked::NoFile(error.to_string().into());
        }
        let reason = || format!("writing an imported filter failed: {error}");
        self.journal.fail(reason).into()
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
            let bits = match self.replica_with_room(&handle, &layer) {
                Ok(bits) => bits,
                Err(FilterError::Damaged(_)) => {
                    // Its bits come with all others of the filter.
                    self.stop_healing(epoch.filter);
                    return self.enter_adopted(epoch, layer, rights, append);
                }
                Err(error) => {
                    if let Ok(blocked) = error.hindrance() {
                        return Err(blocked);
                    }
                    append()?;
                    return Ok(());
                }
            };
            match bits.held() {
                Some(held) => {
                    let known = held.filter.layer(layer.shape.id).cloned();
                    if known.is_none() {
                        let added = held.filter.add_layer(layer);
                        added.map_err(|_| Blocked::UnknownLayer)?;
                    }
                    let part = Part::Layer(name);
                    known.filter(|_| lock(&self.arrivals).fetched.remove(&(dot, part)))
                }
                None => None,
            }
        };
        let Some(ready) = ready else {
            return Err(Blocked::Parts(vec![Part::Layer(name)]));
        };
        // Of a layer that came under another name they say nothing.
        ready.merge_rights(rights).ok();
        {
            let _alone = self.alone();
            self.write_layer(&handle, &ready).map_err(not_kept)?;
        }
        self.enter_adopted(epoch, layer, rights, append)
    }
}

/// Bits that came were not written: the operation waits.
pub(super) fn not_kept(error: FilterError) -> Blocked {
    let read_only = |error: FilterError| ReadOnly(error.to_string().into()).into();
    error.hindrance().unwrap_or_else(read_only)
}

fn checksum_of(disk: &dyn Disk, path: &str) -> io::Result<u64> {
    let mut file = FileReader::open(disk, path)?;
    let (mut hash, mut piece) = (Xxh3Default::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.digest()),
            read => hash.update(&piece[..read]),
        }
    }
}
