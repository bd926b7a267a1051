//! Filters in and out of files: export, load, merge.
//!
//! ```text
//! "GrpvnFlt" | version u32 | head length u32 | head (MessagePack) | XXH3-64 of all before
//! layer*     : as in a layer file
//! foreign*   : the bytes of each layer of a foreign geometry
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use grapevine_core::catalogue::{
    FilterId, FilterRow, LayerRow, LegacyShape, NEVER, Scope, Storage, validate_name,
};
use grapevine_core::filter::legacy::BloomdLayer;
use grapevine_core::filter::parameters::{Growth, LayerId, LayerShape, Parameters};
use grapevine_core::filter::{Filter, Layer};
use grapevine_core::hash::Seed;
use grapevine_core::operation::CatalogueChange;
use grapevine_core::origin::Origin;
use grapevine_core::significant::Significant;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::Filters;
use super::change::Creation;
use super::error::FilterError;
use super::handle::{Handle, Loaded, directory, legacy_path, lock};
use super::keys::loaded;
use super::load::write_atomically;
use super::memory::Reservation;
use crate::layer_file::{LayerReader, write_layer};
use crate::log::Position;

const MAGIC: &[u8; 8] = b"GrpvnFlt";
const FORMAT_VERSION: u32 = 1;
/// Largest head: a row with thousands of layers.
const HEAD_BYTES_MAX: u32 = 16 << 20;

#[derive(Serialize, Deserialize)]
pub(super) struct ExportHead {
    pub(super) id: FilterId,
    pub(super) parameters: Parameters,
    pub(super) seed: Seed,
    pub(super) layers: u32,
    pub(super) legacy: Vec<LegacyShape>,
}

/// A filter read from a file, not yet anyone's.
struct Exported {
    head: ExportHead,
    loaded: Loaded,
}

/// Beside what a filter may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Only if there is none of its name.
    Nothing,
    /// Whatever there is of its name.
    Anything,
}

/// What a merge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Layers that both had.
    pub merged: usize,
    /// Layers that only the file had.
    pub adopted: usize,
}

impl Filters {
    /// Writes a filter, as it is now, to `out`. The bytes hold its seed: keep them secret.
    pub fn export(
        &self,
        handle: &Handle,
        out: &mut dyn Write,
    ) -> Result<io::Result<()>, FilterError> {
        let filter = self.bits(handle)?;
        let row = lock(&self.catalogue)
            .row(handle.id)
            .cloned()
            .ok_or(FilterError::NotFound)?;
        let layers: Vec<&Arc<Layer>> = filter.layers().collect();
        let head = ExportHead {
            id: handle.id,
            parameters: row.parameters,
            seed: row.seed,
            layers: layers.len() as u32,
            legacy: row.legacy,
        };
        let write = || -> io::Result<()> {
            out.write_all(&head_bytes(&head))?;
            for layer in layers {
                write_layer(out, handle.id, layer)?;
            }
            filter
                .legacy_layers()
                .try_for_each(|layer| out.write_all(layer.as_bytes()))?;
            out.flush()
        };
        Ok(write())
    }

    /// Makes a filter called `name` from an exported one, unless there is one of that name.
    pub fn import(&self, name: &[u8], input: &mut dyn Read) -> Result<Creation, FilterError> {
        validate_name(name)?;
        self.ensure_writable()?;
        let exported = self.read_export(input)?;
        let head = &exported.head;
        if head.layers == 0 {
            // Opened here, once: later ones at this place would each have the whole share of the
            // error budget.
            let (parameters, me) = (head.parameters, self.identity.origin);
            let first = parameters.layer(0, me, self.member_count())?;
            self.grow(&exported.loaded.memory, first.geometry.bytes())?;
            exported.loaded.filter.add_layer(first)?;
        }
        let row = FilterRow {
            id: FilterId::new((self.entropy)()),
            created: NEVER,
            scope: Scope::Group,
            name: name.to_vec(),
            parameters: head.parameters,
            seed: head.seed,
            storage: Storage::Durable,
            layers: vec![],
            legacy: vec![],
            other: BTreeMap::new(),
        };
        self.enter_read(row, exported, Beside::Nothing)
    }

    /// Makes a filter like the one of `row`, with another id and what an exported one holds,
    /// whatever there is of its name.
    pub(super) fn enter_exported(
        &self,
        row: FilterRow,
        input: &mut dyn Read,
    ) -> Result<(), FilterError> {
        let row = FilterRow {
            id: FilterId::new((self.entropy)()),
            created: NEVER,
            other: BTreeMap::new(),
            ..row
        };
        let exported = self.read_export(input)?;
        self.enter_read(row, exported, Beside::Anything).map(drop)
    }

    /// Enters a filter with the layers that were read.
    fn enter_read(
        &self,
        row: FilterRow,
        exported: Exported,
        beside: Beside,
    ) -> Result<Creation, FilterError> {
        let Exported { head, loaded } = exported;
        let legacy: Vec<_> = loaded.filter.legacy_layers().cloned().collect();
        let layers = loaded.filter.layers();
        let row = FilterRow {
            layers: layers.map(|layer| LayerRow::from(layer.shape())).collect(),
            legacy: head.legacy,
            ..row
        };
        self.enter_with_files(row, loaded, &legacy, beside)
    }

    /// Writes the files of a finished filter, then enters it. What is left behind by a crash in
    /// between belongs to no row and is removed at the next start.
    pub(super) fn enter_with_files(
        &self,
        mut row: FilterRow,
        loaded: Loaded,
        legacy: &[Arc<BloomdLayer>],
        beside: Beside,
    ) -> Result<Creation, FilterError> {
        let _alone = self.alone();
        let mut catalogue = lock(&self.catalogue);
        if beside == Beside::Nothing && !self.entered(&catalogue, &row.name).is_empty() {
            return Ok(Creation::Exists(self.journal.appended()));
        }
        // From now on it may give way to others.
        let loaded = Loaded {
            memory: loaded.memory.counted_as(row.storage),
            ..loaded
        };
        let (id, filter) = (row.id, Arc::clone(&loaded.filter));
        self.write_files(id, &filter, legacy)
            .map_err(|error| self.snapshot_failed(&error))?;
        // What the files hold: rights handed on when it is entered are not in them.
        let written: Vec<_> = filter
            .layers()
            .map(|layer| (layer.id(), layer.revision()))
            .collect();
        let scope = row.scope;
        // As the file has them, in the row's order.
        row.layers.sort_by_key(|layer| layer.shape.id);
        let rights = row
            .layers
            .iter()
            .filter_map(|layer| Some(filter.layer(layer.shape.id)?.rights()))
            .collect();
        let position = self.enter(&mut catalogue, loaded, scope, |created| {
            row.created = created;
            row.layers
                .iter_mut()
                .for_each(|layer| layer.opened = created);
            CatalogueChange::Import(row, rights)
        })?;
        if let Some(handle) = self.by_id(id) {
            lock(&handle.snapshots).extend(written);
        }
        Ok(Creation::Created(position))
    }

    /// Writes the files of all layers of a filter that has none yet.
    pub(super) fn write_files(
        &self,
        id: FilterId,
        filter: &Filter,
        legacy: &[Arc<BloomdLayer>],
    ) -> io::Result<()> {
        self.disk.create_dir(&directory(id))?;
        for (index, layer) in (0..).zip(legacy) {
            let path = legacy_path(id, index);
            write_atomically(&*self.disk, &path, |out| out.write_all(layer.as_bytes()))?;
        }
        filter
            .layers()
            .try_for_each(|layer| self.write_layer_file(id, layer, Storage::Durable))
    }

    /// Takes the keys of an exported filter into one of the same parameters and seed. Layers of
    /// one name and epoch are ORed; others are added beside, under a name made of both.
    pub fn merge(
        &self,
        handle: &Handle,
        input: &mut dyn Read,
    ) -> Result<(Merged, Position), FilterError> {
        self.ensure_writable()?;
        if handle.storage == Storage::Memory {
            return Err(FilterError::InMemory);
        }
        let Exported {
            head,
            loaded: other,
        } = self.read_export(input)?;
        if (head.parameters, head.seed) != (handle.parameters, handle.seed)
            || !head.legacy.is_empty()
        {
            return Err(FilterError::Unlike {
                ours: describe(handle.parameters, handle.seed),
                theirs: describe(head.parameters, head.seed),
            });
        }
        // Layers that only the file has are kept beside those that are here.
        let adopted = self.adopted_bytes(handle, &head, &other.filter)?;
        let room = self.room(adopted, handle.summary().bytes, handle.storage)?;
        let (_alone, bits) = self.loaded_alone(handle)?;
        drop(room);
        let ours = loaded(&bits)?;
        let mut merged = Merged::default();
        for layer in other.filter.layers() {
            let id = name_here(handle, &head, layer);
            match ours.filter.layer(id) {
                Some(own) if own.shape().geometry == layer.shape().geometry => {
                    merge_layer(own, layer);
                    take_counts(own, layer);
                    self.keep_merged(handle, own)?;
                    merged.merged += 1;
                }
                Some(own) => {
                    return Err(FilterError::Unlike {
                        ours: own.shape().geometry.to_string(),
                        theirs: layer.shape().geometry.to_string(),
                    });
                }
                None => {
                    self.adopt(
                        handle,
                        ours,
                        layer,
                        LayerShape {
                            id,
                            ..layer.shape()
                        },
                    )?;
                    merged.adopted += 1;
                }
            }
        }
        Ok((merged, self.journal.appended()))
    }

    /// Memory of the layers of `other` that are not here.
    fn adopted_bytes(
        &self,
        handle: &Handle,
        head: &ExportHead,
        other: &Filter,
    ) -> Result<u64, FilterError> {
        let ours = self.bits(handle)?;
        let adopted = other
            .layers()
            .filter(|layer| ours.layer(name_here(handle, head, layer)).is_none());
        Ok(adopted.map(|layer| layer.shape().geometry.bytes()).sum())
    }

    /// Writes the file of a layer that was merged into, then says so in the log: recovery reads
    /// a layer's file only if the manifest or an operation says that there is one.
    fn keep_merged(&self, handle: &Handle, layer: &Layer) -> Result<(), FilterError> {
        layer.touch();
        let revision = layer.revision();
        self.write_layer_file(handle.id, layer, handle.storage)
            .map_err(|error| self.snapshot_failed(&error))?;
        lock(&handle.snapshots).insert(layer.id(), revision);
        self.log_adopted(handle, layer)?;
        Ok(())
    }

    /// Adds a layer with bits: its file first, then the operation, then the bits in memory.
    fn adopt(
        &self,
        handle: &Handle,
        ours: &Loaded,
        layer: &Layer,
        shape: LayerShape,
    ) -> Result<(), FilterError> {
        ours.memory.grow(shape.geometry.bytes())?;
        let copy = Layer::new(shape, self.identity.origin)
            .map_err(|error| FilterError::Layer(error.into()))?;
        merge_layer(&copy, layer);
        take_counts(&copy, layer);
        // Said first, so that nobody who opens the layer meanwhile takes the file for an old one.
        lock(&handle.snapshots).insert(shape.id, u64::MAX);
        self.write_layer_file(handle.id, &copy, handle.storage)
            .map_err(|error| {
                lock(&handle.snapshots).remove(&shape.id);
                self.snapshot_failed(&error)
            })?;
        let row = self.log_adopted(handle, &copy)?;
        let own = ours.filter.add_layer(row)?;
        merge_layer(own, &copy);
        take_counts(own, layer);
        Ok(())
    }

    /// Logs and enters a layer whose file is written.
    fn log_adopted(&self, handle: &Handle, layer: &Layer) -> Result<LayerRow, FilterError> {
        let (shape, rights) = (layer.shape(), layer.rights());
        let mut catalogue = lock(&self.catalogue);
        let entered = catalogue.row(handle.id).ok_or(FilterError::NotFound)?;
        let epoch = entered.epoch();
        let known = entered.layer(shape.id).copied();
        let mut row = known.unwrap_or(LayerRow::from(shape));
        self.change(&mut catalogue, handle.scope.stream(), |opened| {
            if known.is_none() {
                row.opened = opened;
            }
            CatalogueChange::AdoptLayer(epoch, row, rights)
        })?;
        Ok(row)
    }

    /// Takes more memory, unloading others where need be.
    pub(super) fn grow(&self, memory: &Reservation, bytes: u64) -> Result<(), FilterError> {
        let room = self.room(bytes, memory.bytes(), Storage::Memory)?;
        Ok(memory.grow_by(Some(room), bytes)?)
    }

    fn read_export(&self, mut input: &mut dyn Read) -> Result<Exported, FilterError> {
        let head = read_head(&mut input)?;
        head.parameters.validate()?;
        // It does not give way to others.
        let memory = Reservation::empty(&self.memory, Storage::Memory);
        let filter = Filter::new(head.parameters, head.seed, self.identity.origin);
        for _ in 0..head.layers {
            let reader = LayerReader::new(input).map_err(unreadable)?;
            let shape = reader.head().shape;
            self.grow(&memory, shape.geometry.bytes())?;
            input = reader.load(filter.add_layer(shape)?).map_err(unreadable)?;
        }
        for shape in &head.legacy {
            self.grow(&memory, shape.bytes)?;
            let mut bytes = Vec::new();
            input
                .take(shape.bytes)
                .read_to_end(&mut bytes)
                .map_err(unreadable)?;
            if bytes.len() as u64 != shape.bytes || xxh3_64(&bytes) != shape.checksum {
                return Err(unreadable("a foreign layer's checksum does not match"));
            }
            let layer = BloomdLayer::from_vec(bytes).map_err(unreadable)?;
            filter.add_legacy(Arc::new(layer.with_capacity(shape.capacity)))?;
        }
        match input.read(&mut [0]) {
            Ok(0) => {
                let loaded = Loaded {
                    filter: Arc::new(filter),
                    memory,
                };
                Ok(Exported { head, loaded })
            }
            Ok(_) => Err(unreadable("bytes after the end")),
            Err(error) => Err(unreadable(error)),
        }
    }
}

pub(super) fn head_bytes(head: &ExportHead) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(head).expect("a head is plain data");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    bytes
}

fn read_head(input: &mut dyn Read) -> Result<ExportHead, FilterError> {
    let mut bytes = vec![0; 16];
    input.read_exact(&mut bytes).map_err(unread)?;
    let field = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
    if !bytes.starts_with(MAGIC) {
        return Err(unreadable("it does not begin as an exported filter"));
    }
    if field(8) != FORMAT_VERSION {
        return Err(unreadable(format!("format version {}", field(8))));
    }
    let length = field(12);
    if length > HEAD_BYTES_MAX {
        return Err(unreadable("its head is longer than any"));
    }
    bytes.resize(16 + length as usize, 0);
    input.read_exact(&mut bytes[16..]).map_err(unread)?;
    let mut checksum = [0; 8];
    input.read_exact(&mut checksum).map_err(unread)?;
    if xxh3_64(&bytes) != u64::from_le_bytes(checksum) {
        return Err(unreadable("the head's checksum does not match"));
    }
    rmp_serde::from_slice(&bytes[16..]).map_err(unreadable)
}

/// Why a part of the file was not read.
fn unread(error: io::Error) -> FilterError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => unreadable("it is cut short"),
        _ => unreadable(error),
    }
}

fn unreadable(what: impl ToString) -> FilterError {
    FilterError::Import(what.to_string().into())
}

/// Takes in who has put how many keys into a layer. One of another epoch comes under another
/// creator's name, and all that is known of it is their sum.
fn take_counts(into: &Layer, from: &Layer) {
    if into.merge_rights(&from.rights()).is_err() {
        into.observe_inserted(into.id().creator, from.inserted());
    }
}

/// ORs the bits of a layer into one of the same geometry.
fn merge_layer(into: &Layer, from: &Layer) {
    let mut words = vec![0; crate::layer_file::BLOCK_WORDS];
    let total = from.word_count();
    for start in (0..total).step_by(words.len()) {
        let words = &mut words[..crate::layer_file::BLOCK_WORDS.min(total - start)];
        if from.copy_words(start, words) {
            into.merge_words(start, words);
        }
    }
}

/// The name that a layer of an exported filter has here.
fn name_here(handle: &Handle, head: &ExportHead, layer: &Layer) -> LayerId {
    if head.id == handle.id {
        layer.id()
    } else {
        foreign_id(head.id, layer.id())
    }
}

/// The name under which a layer of another epoch is kept: the same for the same layer, so that
/// merging a file twice is merging it once, and nobody's own, so that no key is ever added to it.
fn foreign_id(filter: FilterId, layer: LayerId) -> LayerId {
    let name = [filter.bytes(), layer.creator.bytes()].concat();
    LayerId {
        index: layer.index,
        creator: Origin::new(xxh3_128(&name).to_le_bytes()),
    }
}

fn describe(parameters: Parameters, seed: Seed) -> String {
    let Parameters {
        capacity,
        error,
        growth,
    } = parameters;
    let growth = match growth {
        Growth::Fixed => "fixed size".to_owned(),
        Growth::By(factor) => format!("growth {factor}"),
    };
    let seed = xxh3_64(&seed.bytes()) >> 48;
    let error = Significant(error);
    format!("capacity {capacity}, error {error}, {growth}, seed #{seed:04x}")
}
