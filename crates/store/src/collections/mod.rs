//! Everything a data directory holds: the collections on one journal, their recovery and their
//! snapshots.
//!
//! A start reads the manifest and replays the journal from its bookmark. A snapshot writes the
//! files of filters and the rows of tables, then the manifest, then forgets what lies before it in the journal, as far
//! as no member of the group still needs it.
//!
//! Locks: a snapshot holds `checkpointing`, then takes the catalogue, the system state, the bitmap
//! and the journal's append lock together, for a moment.

mod bitmap;
mod checkpoint;
mod creation;
mod divergence;
mod error;
mod exchange;
mod foreign;
mod forks;
mod memory_exchange;
mod recovery;
mod rows;
#[cfg(test)]
mod tests;
mod view;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grapevine_core::membership::{GroupIdentity, MemberError, MemberRow, Members, NodeId};
use grapevine_core::operation::{Stream, encode_group, encode_member};
use grapevine_core::origin::Origin;
use grapevine_core::version::VersionVector;

pub use bitmap::GroupBitmap;
pub(crate) use creation::{Held, begin, held};
pub use divergence::{Diverged, Divergence};
pub use error::OpenError;
pub use exchange::Exchange;
pub use foreign::Hindrance;
pub use memory_exchange::MemoryExchange;
pub use recovery::Recovered;

use crate::disk::Disk;
use crate::filters::{Filters, Options};
use crate::journal::{Journal, ReadOnly};
use crate::log::Position;
use crate::tables::Tables;

/// The collections of one data directory.
pub struct Collections {
    disk: Arc<dyn Disk>,
    options: Options,
    journal: Arc<Journal>,
    filters: Filters,
    system: Mutex<System>,
    bitmap: GroupBitmap,
    tables: Tables,
    /// Held while a snapshot is taken.
    checkpointing: Mutex<()>,
    /// Why the last snapshot was written and not taken: it could not be read back.
    unreadable: Mutex<Option<Arc<str>>>,
    /// Position of the last snapshot.
    snapshot_position: AtomicU64,
    /// Position at which the last attempt at a snapshot began.
    tried: AtomicU64,
    /// The journal from here on is kept for members that have not seen it.
    keep_from: AtomicU64,
    /// What members were found to lack.
    diverged: Mutex<divergence::Counts>,
}

/// What the node knows of its group.
struct System {
    group: GroupIdentity,
    members: Members,
}

impl System {
    fn belong_to(&mut self, group: GroupIdentity) {
        self.group = group;
        self.members.set_group(group.id);
    }
}

/// Whose epochs of tables count on a node of this group: those of the group, or while it was always
/// alone its own.
fn lineage(group: &GroupIdentity, origin: Origin) -> [u8; 16] {
    if group.met { group.id } else { origin.bytes() }
}

/// Why a member's row was not entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The row cannot be used.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The node takes no writes.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
}

impl Collections {
    /// The filters.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// The bitmap.
    pub fn bitmap(&self) -> &GroupBitmap {
        &self.bitmap
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The journal.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The group that the node belongs to.
    pub fn group(&self) -> GroupIdentity {
        self.lock_system().group
    }

    /// All nodes that belong to the group, or did.
    pub fn members(&self) -> Members {
        self.lock_system().members.clone()
    }

    /// Whether a node is a member, or there is room for it among the members.
    pub fn has_room_for(&self, node: NodeId) -> bool {
        self.lock_system().members.has_room_for(node)
    }

    /// The node belongs to this group from now on.
    pub fn join(&self, group: GroupIdentity) -> Result<Position, ReadOnly> {
        let mut encoded = Vec::new();
        encode_group(&mut encoded, &group);
        let mut system = self.lock_system();
        let lineage = lineage(&group, self.journal.origin());
        let position = self.tables.change_lineage(lineage, || {
            let appended = self
                .journal
                .append(Stream::Local, |_, entry| entry.extend_from_slice(&encoded));
            appended.map(|(position, _)| position)
        })?;
        system.belong_to(group);
        self.tell_filters(&system);
        Ok(position)
    }

    /// Enters what a member is now, for the whole group to know. None when a row that is there
    /// wins over it.
    pub fn enter_member(&self, row: MemberRow) -> Result<Option<Position>, EnterError> {
        let mut encoded = Vec::new();
        encode_member(&mut encoded, &row);
        self.journal.ensure_writable()?;
        let mut system = self.lock_system();
        if !system.members.merge(row)? {
            return Ok(None);
        }
        let (position, _) = self
            .journal
            .append(Stream::Group, |_, entry| entry.extend_from_slice(&encoded))?;
        self.tell_filters(&system);
        Ok(Some(position))
    }

    /// New filters are shaped for the group as it is known now.
    fn tell_filters(&self, system: &System) {
        let members = system.members.joined();
        let origins = members.map(|(_, member)| member.origin).collect();
        self.filters.join(system.group.seed, origins);
    }

    /// Makes everything that can be seen now durable, as what is shown to a peer must be: it would
    /// keep what a power cut here takes back, and nobody else would ever get it.
    fn settle_for_peers(&self) -> Result<(), ReadOnly> {
        self.filters.wait_for_inserts();
        if self.journal.synced() < self.journal.appended() {
            self.journal.sync()?;
        }
        Ok(())
    }

    /// From now on the log is kept for members that do not have all of it: behind what all of
    /// them have, and at most `bytes_max` bytes of it. Who stays away longer gets a snapshot.
    pub fn keep_for(&self, held_by_all: &VersionVector, bytes_max: u64) {
        let held = self.journal.position_of(held_by_all);
        let bound = self.journal.appended().saturating_sub(bytes_max);
        self.keep_from.store(held.max(bound), Relaxed);
    }

    /// Bytes of the log that a restart would replay.
    pub fn log_tail(&self) -> u64 {
        let snapshot = self.snapshot_position.load(Relaxed);
        self.journal.appended().saturating_sub(snapshot)
    }

    fn lock_system(&self) -> MutexGuard<'_, System> {
        self.system.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
