//! The filters of one node, durable: the catalogue, the bits, the log and their snapshots.
//!
//! Path of a change: bits are set in memory, the operation is appended to the log, and whoever
//! asked waits until the position it was given is committed or synced ([`Filters::commit`],
//! [`Filters::sync`]); which of the two is the caller's policy. Replies about keys that were seen
//! wait in the same way, since they acknowledge somebody's earlier insert.
//!
//! Who owns what: the catalogue has one lock, under which every change of it gets its place in
//! the log. Bits belong to their [`Handle`]; inserting into them takes the handle's lock for
//! reading, loading, unloading and dropping take it for writing. Locks are taken in the order
//! handle, catalogue, log. The snapshot lock is taken before all of them.

mod change;
mod checkpoint;
mod error;
mod handle;
mod keys;
mod load;
mod memory;
mod recovery;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use grapevine_core::catalogue::{Catalogue, FilterId};

pub use change::{Creation, NewFilter, Recreation};
pub use checkpoint::Clearance;
pub use error::{FilterError, OpenError};
pub use handle::{FILTERS_DIR, Handle, Summary, UsageCounts};
pub use keys::Scratch;
pub use memory::{MemoryBound, OverBound};
pub use recovery::Recovered;
pub use transfer::Merged;

use crate::disk::Disk;
use crate::identity::Identity;
use crate::log::{Log, LogConfig, LogCounts, LogState, Position};
use handle::lock;

/// Directory of the log in the data directory.
pub const LOG_DIR: &str = "log";

/// Source of the 16 random bytes that ids and seeds are made of.
pub type Entropy = Box<dyn Fn() -> [u8; 16] + Send + Sync>;

/// Settings.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of the log.
    pub log: LogConfig,
    /// Bound on the memory of all filters, in bytes.
    pub memory: u64,
    /// A snapshot is due when the log has grown by this many bytes, or by half of the bits in
    /// memory if that is more: writing them out then costs at most three bytes for one logged.
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
    log: Log,
    /// Sequence number of the next operation; given out under the log's append lock.
    sequence: AtomicU64,
    catalogue: Mutex<Catalogue>,
    handles: RwLock<Handles>,
    memory: Arc<MemoryBound>,
    /// Dropped filters whose files are still there: name, and position of the drop.
    reclaiming: Mutex<BTreeMap<FilterId, (Vec<u8>, Position)>>,
    /// Position of the last snapshot; held while one is taken.
    snapshot: Mutex<Position>,
    snapshot_position: AtomicU64,
    /// Position at which the last attempt at a snapshot began.
    tried: AtomicU64,
    /// The first write or sync of a snapshot that failed.
    snapshot_failure: OnceLock<Arc<str>>,
}

#[derive(Default)]
struct Handles {
    /// Those that answer to their name.
    by_name: BTreeMap<Vec<u8>, Arc<Handle>>,
    by_id: BTreeMap<FilterId, Arc<Handle>>,
}

impl Filters {
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

    /// Who this data directory is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The memory bound.
    pub fn memory(&self) -> &MemoryBound {
        &self.memory
    }

    /// Position after the last operation.
    pub fn appended(&self) -> Position {
        self.log.appended()
    }

    /// Hands everything up to `position` to the operating system.
    pub fn commit(&self, position: Position) -> Result<(), FilterError> {
        if self.log.committed() < position {
            Ok(self.log.commit(position)?)
        } else {
            Ok(())
        }
    }

    /// Everything before this position was handed to the operating system.
    pub fn committed(&self) -> Position {
        self.log.committed()
    }

    /// Makes everything appended so far durable; gives the position up to which it is.
    pub fn sync(&self) -> Result<Position, FilterError> {
        Ok(self.log.sync()?)
    }

    /// Everything before this position is durable.
    pub fn synced(&self) -> Position {
        self.log.synced()
    }

    /// Notes on disk that all of the log is durable, so that later damage to its end is told
    /// apart from a write that was cut off. To be called when the node has nothing to do.
    pub fn mark_synced(&self) -> Result<(), FilterError> {
        self.log.mark_synced()?;
        Ok(())
    }

    /// What the log did.
    pub fn log_counts(&self) -> LogCounts {
        self.log.counts()
    }

    /// Bytes of the log that a restart would replay.
    pub fn log_tail(&self) -> u64 {
        let snapshot = self
            .snapshot_position
            .load(std::sync::atomic::Ordering::Relaxed);
        self.log.appended().saturating_sub(snapshot)
    }

    /// Why the node takes no writes, if it does not.
    pub fn read_only(&self) -> Option<Arc<str>> {
        if let Some(reason) = self.snapshot_failure.get() {
            return Some(Arc::clone(reason));
        }
        match self.log.state() {
            LogState::Open => None,
            LogState::Failed(failure) => Some(failure.to_string().into()),
        }
    }

    /// Asked before bits are set: a key that is refused must not be answered as seen later.
    fn ensure_writable(&self) -> Result<(), FilterError> {
        match self.read_only() {
            Some(reason) => Err(FilterError::ReadOnly(reason)),
            None => Ok(()),
        }
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
}
