//! One filter of a node: its name, its bits while they are in memory, and what is known of them
//! while they are not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use grapevine_core::catalogue::{FilterId, FilterRow, Scope, Storage};
use grapevine_core::filter::parameters::{LayerId, Parameters};
use grapevine_core::filter::{Filter, Layer, Place};
use grapevine_core::hash::Seed;

use super::memory::{Reservation, USED};

/// A filter. Kept by whoever uses it; after a drop it answers that it is gone.
#[derive(Debug)]
pub struct Handle {
    pub(super) id: FilterId,
    pub(super) name: Vec<u8>,
    pub(super) parameters: Parameters,
    pub(super) error: f64,
    pub(super) seed: Seed,
    pub(super) storage: Storage,
    pub(super) scope: Scope,
    pub(super) bits: RwLock<Bits>,
    /// Other filters of the same name, made where this one was not known: they are looked up
    /// too, and take no new keys.
    also: RwLock<Arc<[Arc<Handle>]>>,
    /// Held for reading from before an insert sets its bits until it has been appended to the
    /// log. Whoever answers from a bit it saw passes through it for writing, and so knows that
    /// the operation behind that bit has a position.
    pub(super) inserting: RwLock<()>,
    /// Layers that have a file, with the revision that it holds.
    pub(super) snapshots: Mutex<BTreeMap<LayerId, u64>>,
    pub(super) summary: Mutex<Summary>,
    pub(super) usage: Usage,
    /// Rights spent here when shortages were last looked for.
    pub(super) rights_spent: AtomicU64,
    /// [`USED`] is stored at each use; whoever looks for filters to unload takes a mark of its own
    /// away.
    pub(super) used: AtomicU8,
    /// Its place among those in memory; zero when it has none.
    pub(super) place: AtomicU64,
    /// Second of that clock at which it was last seen used.
    pub(super) used_at: AtomicU64,
}

/// Where a filter's bits are.
#[derive(Debug)]
pub(super) enum Bits {
    /// In files only.
    Unloaded,
    /// In memory.
    Loaded(Loaded),
    /// In files, since there is no room for them in memory. What other nodes put in waits in memory
    /// until it is merged into the files; keys of clients are refused.
    Apart(Loaded),
    /// A file is corrupt; the filter answers with this and nothing else.
    Damaged(Arc<str>),
    /// Dropped.
    Gone,
}

impl Bits {
    /// What memory has of them, whether that is all or not.
    pub(super) fn held(&self) -> Option<&Loaded> {
        match self {
            Bits::Loaded(held) | Bits::Apart(held) => Some(held),
            Bits::Unloaded | Bits::Damaged(_) | Bits::Gone => None,
        }
    }
}

/// Bits in memory, or what memory has of those that are apart.
pub(super) struct Loaded {
    pub(super) filter: Arc<Filter>,
    /// The memory they take from the node's bound.
    pub(super) memory: Reservation,
}

impl Loaded {
    /// Whether the bits are in files only.
    pub(super) fn is_apart(&self) -> bool {
        self.filter.place() == Place::File
    }

    /// Whether there is memory for that layer: of one that it has, or that is in a file, none is
    /// needed.
    pub(super) fn has_room_for(&self, layer: LayerId) -> bool {
        self.is_apart() || self.filter.layer(layer).is_some()
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// Sizes of a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys that all layers together may hold.
    pub capacity: u64,
    /// Keys inserted.
    pub inserted: u64,
    /// Memory of the bits, in bytes.
    pub bytes: u64,
    /// Number of layers.
    pub layers: u64,
}

impl Summary {
    pub(super) fn of(filter: &Filter) -> Self {
        Summary {
            capacity: filter.capacity(),
            inserted: filter.inserted(),
            bytes: filter.bytes(),
            layers: (filter.layers().len() + filter.legacy_layers().len()) as u64,
        }
    }
}

/// How often a filter was asked what, since the process started.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub(super) check_hits: AtomicU64,
    pub(super) check_misses: AtomicU64,
    pub(super) set_hits: AtomicU64,
    pub(super) set_misses: AtomicU64,
    pub(super) page_ins: AtomicU64,
    pub(super) page_outs: AtomicU64,
}

/// `Usage` at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts {
    /// Checked keys that were there.
    pub check_hits: u64,
    /// Checked keys that were not.
    pub check_misses: u64,
    /// Set keys that were new.
    pub set_hits: u64,
    /// Set keys that were there.
    pub set_misses: u64,
    /// Times the bits were read back into memory.
    pub page_ins: u64,
    /// Times they were unloaded.
    pub page_outs: u64,
}

impl Handle {
    pub(super) fn new(row: &FilterRow, bits: Bits) -> Self {
        let summary = match &bits {
            Bits::Loaded(loaded) => Summary::of(&loaded.filter),
            _ => Summary::default(),
        };
        Handle {
            id: row.id,
            name: row.name.clone(),
            parameters: row.parameters,
            error: row.error(),
            seed: row.seed,
            storage: row.storage,
            scope: row.scope,
            bits: RwLock::new(bits),
            also: RwLock::new(Arc::new([])),
            inserting: RwLock::new(()),
            snapshots: Mutex::new(BTreeMap::new()),
            summary: Mutex::new(summary),
            usage: Usage::default(),
            rights_spent: AtomicU64::new(0),
            used: AtomicU8::new(USED),
            place: AtomicU64::new(0),
            used_at: AtomicU64::new(0),
        }
    }

    /// Its epoch.
    pub fn id(&self) -> FilterId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What its own layers were asked to be.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Bound on its false-positive rate over all layers.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Whether its keys outlive the process.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Who has it.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Other filters of the same name, made where this one was not known.
    pub fn also(&self) -> Arc<[Arc<Handle>]> {
        Arc::clone(&self.also.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn stand_alone(&self) {
        self.stand_with(Vec::new());
    }

    pub(super) fn stand_with(&self, others: Vec<Arc<Handle>>) {
        *self.also.write().unwrap_or_else(PoisonError::into_inner) = others.into();
    }

    /// Whether its bits are in memory, so that using it reads no file.
    pub fn is_loaded(&self) -> bool {
        matches!(*self.bits_read(), Bits::Loaded(_))
    }

    /// Whether its bits are in files only, for want of room.
    pub(super) fn is_apart(&self) -> bool {
        matches!(*self.bits_read(), Bits::Apart(_))
    }

    /// Whether using it would read files first.
    pub fn needs_load(&self) -> bool {
        matches!(*self.bits_read(), Bits::Unloaded | Bits::Apart(_))
            || self.also().iter().any(|other| other.needs_load())
    }

    /// Whether it was dropped.
    pub fn is_gone(&self) -> bool {
        matches!(*self.bits_read(), Bits::Gone)
    }

    /// Why it cannot be used, if a file of it is corrupt.
    pub fn damage(&self) -> Option<Arc<str>> {
        match &*self.bits_read() {
            Bits::Damaged(reason) => Some(Arc::clone(reason)),
            _ => None,
        }
    }

    /// The filter, if it is in memory. To look at, not to insert into.
    pub fn in_memory(&self) -> Option<Arc<Filter>> {
        match &*self.bits_read() {
            Bits::Loaded(loaded) => Some(Arc::clone(&loaded.filter)),
            _ => None,
        }
    }

    /// The filter as far as memory has it, for what the node does by itself.
    pub(super) fn resident(&self) -> Option<Arc<Filter>> {
        let bits = self.bits_read();
        bits.held().map(|held| Arc::clone(&held.filter))
    }

    /// Whether a layer has something that its file has not.
    pub(super) fn is_unwritten(&self, layer: &Layer) -> bool {
        let written = lock(&self.snapshots).get(&layer.id()).copied();
        written != Some(layer.revision()) || layer.waiting_count() > 0
    }

    /// Bytes of the layers that have something which their files have not.
    pub(super) fn unwritten_bytes(&self) -> u64 {
        let Some(filter) = self.resident() else {
            return 0;
        };
        let unwritten = filter.layers().filter(|layer| self.is_unwritten(layer));
        let bytes = unwritten.map(|layer| layer.shape().geometry.bytes());
        bytes.fold(0, u64::saturating_add)
    }

    /// Its sizes, from memory or as of when it was unloaded, those of the others of its name
    /// included.
    pub fn summary(&self) -> Summary {
        let own = match &*self.bits_read() {
            Bits::Loaded(held) | Bits::Apart(held) => Summary::of(&held.filter),
            _ => *lock(&self.summary),
        };
        self.also().iter().fold(own, |sum, other| {
            let other = other.summary();
            Summary {
                capacity: sum.capacity.saturating_add(other.capacity),
                inserted: sum.inserted.saturating_add(other.inserted),
                bytes: sum.bytes + other.bytes,
                layers: sum.layers + other.layers,
            }
        })
    }

    /// How often it was asked what.
    pub fn usage(&self) -> UsageCounts {
        let usage = &self.usage;
        UsageCounts {
            check_hits: usage.check_hits.load(Relaxed),
            check_misses: usage.check_misses.load(Relaxed),
            set_hits: usage.set_hits.load(Relaxed),
            set_misses: usage.set_misses.load(Relaxed),
            page_ins: usage.page_ins.load(Relaxed),
            page_outs: usage.page_outs.load(Relaxed),
        }
    }

    pub(super) fn bits_read(&self) -> RwLockReadGuard<'_, Bits> {
        self.bits.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bits_write(&self) -> RwLockWriteGuard<'_, Bits> {
        self.bits.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once every insert whose bits were visible before the call has been appended.
    pub(super) fn wait_for_inserts(&self) {
        if self.inserting.try_write().is_err() {
            drop(self.inserting.write());
        }
    }
}

/// Directory of a filter's files. Its name never becomes part of a path.
pub(super) fn directory(id: FilterId) -> String {
    format!("{FILTERS_DIR}/{id}")
}

/// File of a layer.
pub(crate) fn layer_path(id: FilterId, layer: LayerId) -> String {
    format!(
        "{FILTERS_DIR}/{id}/{:05}-{}.layer",
        layer.index, layer.creator
    )
}

/// File of a layer of a foreign geometry.
pub(crate) fn legacy_path(id: FilterId, index: u32) -> String {
    format!("{FILTERS_DIR}/{id}/legacy-{index:05}.bloomd")
}

/// Directory that holds a directory per filter.
pub const FILTERS_DIR: &str = "filters";

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
