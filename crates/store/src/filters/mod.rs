//! The filters of one node, durable: the catalogue, the bits and their snapshots.
//!
//! Path of a change: bits are set in memory, the operation is appended to the journal, and
//! whoever asked waits until the position it was given is committed or synced; which of the two
//! is the caller's policy. Replies about keys that were seen wait in the same way, since they
//! acknowledge somebody's earlier insert.
//!
//! Who owns what: the catalogue has one lock, under which every change of it gets its place in
//! the journal. Bits belong to their [`Handle`]; inserting into them takes the handle's lock for
//! reading, loading, unloading and dropping take it for writing. Locks are taken in the order
//! handle, catalogue, journal. The snapshot lock is taken before all of them, also by who needs
//! memory that others have to give back: it is asked for with nothing held.

mod apart;
mod apply;
mod arrival;
mod batch;
mod blocks;
mod carry;
mod change;
mod checkpoint;
mod clear;
mod damage;
mod error;
mod exchange;
mod foreign;
mod handle;
mod heal;
mod keys;
mod load;
mod memory;
mod memory_only;
mod replay;
mod rights;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use grapevine_core::catalogue::{Catalogue, FilterId, FilterRow, Scope};
use grapevine_core::hash::Seed;
use grapevine_core::origin::Origin;

pub use apply::{Blocked, Effected};
pub use change::{Creation, NewFilter, Recreation};
pub use checkpoint::Clearance;
pub use error::FilterError;
pub use handle::{FILTERS_DIR, Handle, Summary, UsageCounts};
pub use keys::Scratch;
pub use memory::{Aside, MemoryBound, OverBound};
pub use transfer::Merged;

pub(crate) use batch::Written;
pub(crate) use exchange::SharedRow;
pub(crate) use handle::{layer_path, legacy_path};
pub(crate) use heal::Revisions;
pub(crate) use load::{FileReader, FileWriter, GoOn};
pub(crate) use memory_only::KeptRow;

use crate::disk::Disk;
use crate::identity::Identity;
use crate::journal::{Journal, ReadOnly};
use crate::log::{LogConfig, Position};
use crate::memory_stream::MemoryStream;
use handle::lock;

/// Source of the 16 random bytes that ids and seeds are made of.
pub type Entropy = Arc<dyn Fn() -> [u8; 16] + Send + Sync>;

/// Settings.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of the log.
    pub log: LogConfig,
    /// Bound on the memory of all filters, in bytes.
    pub memory: u64,
    /// A snapshot is due when the log has grown by this many bytes, or by half of what a
    /// snapshot would write if that is more: writing them out then costs at most three bytes for one logged.
    pub checkpoint_log: u64,
    /// A filter that was not used for so long is unloaded; none: never.
    pub idle_unload: Option<Duration>,
}

/// The filters of one data directory.
pub struct Filters {
    disk: Arc<dyn Disk>,
    identity: Identity,
    options: Options,
    entropy: Entropy,
    journal: Arc<Journal>,
    catalogue: Mutex<Catalogue>,
    handles: RwLock<Handles>,
    memory: Arc<MemoryBound>,
    /// Those in memory that may give way to others.
    ring: memory::Ring,
    /// Those whose bits are in files for want of room.
    apart: Mutex<BTreeSet<FilterId>>,
    /// Seed of filters that are not given one of their own.
    seed: Mutex<Seed>,
    /// Origins of the members of the group, those that left included: among so many the error of
    /// layers that they open while cut apart is divided.
    members: Mutex<Vec<Origin>>,
    /// Dropped filters whose files are still there: name, and position of the drop.
    reclaiming: Mutex<BTreeMap<FilterId, (Vec<u8>, Position)>>,
    /// Held while files of layers are written.
    snapshot: Mutex<()>,
    /// Bits on their way here from other nodes.
    arrivals: Mutex<arrival::Arrivals>,
    /// What was put into filters that are kept in memory.
    stream: MemoryStream,
    /// Whether the group has other members, who follow that.
    followed: AtomicBool,
}

#[derive(Default)]
struct Handles {
    /// Those that answer to their name and take its new keys.
    by_name: BTreeMap<Vec<u8>, Arc<Handle>>,
    by_id: BTreeMap<FilterId, Arc<Handle>>,
}

impl Filters {
    /// The filters of `rows`, not yet in memory.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        identity: Identity,
        options: Options,
        entropy: Entropy,
        journal: Arc<Journal>,
        catalogue: Catalogue,
    ) -> Self {
        let rows: Vec<FilterRow> = catalogue.rows().cloned().collect();
        let life = Origin::new(entropy());
        let filters = Filters {
            disk,
            seed: Mutex::new(identity.seed),
            identity,
            options,
            entropy,
            journal,
            catalogue: Mutex::new(catalogue),
            handles: RwLock::default(),
            memory: MemoryBound::new(options.memory),
            ring: memory::Ring::default(),
            apart: Mutex::default(),
            members: Mutex::default(),
            reclaiming: Mutex::default(),
            snapshot: Mutex::default(),
            arrivals: Mutex::default(),
            stream: MemoryStream::new(life),
            followed: AtomicBool::new(false),
        };
        for row in &rows {
            let handle = filters.handle_of_files(row);
            filters.register(&lock(&filters.catalogue), handle);
        }
        filters
    }

    /// The filter of that name.
    pub fn get(&self, name: &[u8]) -> Option<Arc<Handle>> {
        self.handles_read().by_name.get(name).cloned()
    }

    /// All filters whose name begins with `prefix`, ascending by name.
    pub fn list(&self, prefix: &[u8]) -> Vec<Arc<Handle>> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.handles_read()
            .by_name
            .range::<[u8], _>(from)
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(_, handle)| Arc::clone(handle))
            .collect()
    }

    /// The rows of all filters.
    pub fn rows(&self) -> Vec<FilterRow> {
        self.with_catalogue(|catalogue| catalogue.rows().cloned().collect())
    }

    /// The filter of that epoch, whether it answers to its name or not.
    pub fn epoch(&self, id: FilterId) -> Option<Arc<Handle>> {
        self.by_id(id)
    }

    /// Who this data directory is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The memory bound.
    pub fn memory(&self) -> &MemoryBound {
        &self.memory
    }

    /// The journal that every change goes through.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// New filters get this seed from now on, and layers share their error and their rights among
    /// these members.
    pub(crate) fn join(&self, seed: Seed, members: Vec<Origin>) {
        *lock(&self.seed) = seed;
        self.followed.store(members.len() > 1, Relaxed);
        *lock(&self.members) = members;
    }

    fn member_count(&self) -> u32 {
        u32::try_from(lock(&self.members).len())
            .unwrap_or(u32::MAX)
            .max(1)
    }

    /// What was put into filters that are kept in memory, for those who follow it.
    pub fn memory_stream(&self) -> &MemoryStream {
        &self.stream
    }

    /// Asked before bits are set: a key that is refused must not be answered as seen later.
    fn ensure_writable(&self) -> Result<(), ReadOnly> {
        self.journal.ensure_writable()
    }

    /// Returns once every insert whose bits were visible before the call has been appended.
    pub(crate) fn wait_for_inserts(&self) {
        self.all()
            .iter()
            .for_each(|handle| handle.wait_for_inserts());
    }

    fn handles_read(&self) -> std::sync::RwLockReadGuard<'_, Handles> {
        self.handles.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn handles_write(&self) -> std::sync::RwLockWriteGuard<'_, Handles> {
        self.handles.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of dropped filters whose files are not gone yet.
    fn is_reclaiming(&self, name: &[u8]) -> bool {
        lock(&self.reclaiming)
            .values()
            .any(|(dropped, _)| dropped == name)
    }

    /// Makes a new filter known.
    fn register(&self, catalogue: &Catalogue, handle: Handle) -> Arc<Handle> {
        let loaded = handle.is_loaded();
        let handle = Arc::new(handle);
        let mut handles = self.handles_write();
        handles.by_id.insert(handle.id, Arc::clone(&handle));
        self.rename(&mut handles, catalogue, &handle.name);
        if loaded {
            self.ring.enter(&handle);
        }
        handle
    }

    /// Lets a name stand for what the catalogue says now. A filter that came with a snapshot does
    /// not answer before the operation that made it is in: an operation of this node that rests
    /// on one which nobody else has would keep all that follow it from everybody.
    fn rename(&self, handles: &mut Handles, catalogue: &Catalogue, name: &[u8]) {
        let mut bearers = Vec::new();
        if !catalogue.is_hidden(name) {
            let rows = self.entered(catalogue, name).into_iter();
            bearers.extend(rows.filter_map(|row| handles.by_id.get(&row.id).cloned()));
        }
        for bearer in &bearers {
            bearer.stand_alone();
        }
        let mut bearers = bearers.into_iter();
        match bearers.next() {
            Some(first) => {
                first.stand_with(bearers.collect());
                handles.by_name.insert(name.to_vec(), first);
            }
            None => drop(handles.by_name.remove(name)),
        }
    }

    /// The rows of a name that this node may change.
    fn entered<'a>(&self, catalogue: &'a Catalogue, name: &[u8]) -> Vec<&'a FilterRow> {
        let mut rows = catalogue.named(name);
        rows.retain(|row| row.scope == Scope::Local || self.journal.covers(row.created));
        rows
    }

    /// Lets every name stand for what it should after the version has moved in leaps.
    pub(crate) fn rename_all(&self) {
        let catalogue = lock(&self.catalogue);
        let mut handles = self.handles_write();
        let names: BTreeSet<Vec<u8>> = catalogue.rows().map(|row| row.name.clone()).collect();
        for name in names {
            self.rename(&mut handles, &catalogue, &name);
        }
    }

    /// Makes a filter unknown.
    fn unregister(&self, catalogue: &Catalogue, id: FilterId) -> Option<Arc<Handle>> {
        let mut handles = self.handles_write();
        let handle = handles.by_id.remove(&id)?;
        self.ring.leave(&handle);
        lock(&self.apart).remove(&id);
        self.rename(&mut handles, catalogue, &handle.name);
        Some(handle)
    }

    fn by_id(&self, id: FilterId) -> Option<Arc<Handle>> {
        self.handles_read().by_id.get(&id).cloned()
    }
}
