//! The oracle of a group: what was acknowledged where, and how safe it is.
//!
//! An acknowledgement is *safe* once the log of the node that gave it is durable up to its
//! position, or another node has its operation for good. What is not safe when the power of its
//! node is cut, or its directory is taken back to a backup, may be lost; everything else must be
//! on every node in the end.

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::catalogue::FilterId;
use grapevine_core::version::{Dot, VersionVector};
use grapevine_store::log::Position;

use super::bits::BitLedger;
use super::clocks::Clocks;
use super::tables::TableLedger;

/// The node of an acknowledgement whose own is gone.
const NOBODY: usize = usize::MAX;

/// One acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    /// Who gave it.
    pub(super) node: usize,
    /// Which covers it in that node's log.
    pub(super) position: Position,
    /// An operation of that node at or after the one acknowledged.
    pub(super) dot: Dot,
    safe: bool,
}

impl Ack {
    pub(super) fn new(node: usize, position: Position, dot: Dot) -> Self {
        Ack {
            node,
            position,
            dot,
            safe: false,
        }
    }

    pub(super) fn is_safe(&self) -> bool {
        self.safe
    }
}

/// One epoch of a filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Epoch {
    /// That it was made.
    pub(super) created: Option<Ack>,
    /// That it was dropped.
    pub(super) dropped: Vec<Ack>,
    /// Somebody tried to drop it: it may be gone.
    pub(super) may_be_dropped: bool,
    /// It may be refused to hold more.
    pub(super) keys: BTreeMap<u64, Vec<Ack>>,
    /// It is kept in memory.
    pub(super) in_memory: bool,
    /// Keys of one that is kept in memory: on which node they were put in, and in which life of it.
    pub(super) volatile: Vec<(usize, u64, u64)>,
    /// Keys that somebody tried to put in. No other may be found.
    pub(super) attempted: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) epochs: BTreeMap<FilterId, Epoch>,
    pub(super) bits: BitLedger,
    pub(super) tables: TableLedger,
    pub(super) clocks: Clocks,
}

impl Ledger {
    pub(super) fn new(seed: u64) -> Self {
        Ledger {
            epochs: BTreeMap::new(),
            bits: BitLedger::default(),
            tables: TableLedger::default(),
            clocks: Clocks::new(seed),
        }
    }

    pub(super) fn epoch(&mut self, id: FilterId) -> &mut Epoch {
        self.epochs.entry(id).or_default()
    }

    fn each(&mut self, mut change: impl FnMut(&mut Ack) -> bool) {
        for epoch in self.epochs.values_mut() {
            if let Some(created) = &mut epoch.created
                && !change(created)
            {
                epoch.created = None;
            }
            epoch.dropped.retain_mut(&mut change);
            for acks in epoch.keys.values_mut() {
                acks.retain_mut(&mut change);
            }
            epoch.keys.retain(|_, acks| !acks.is_empty());
        }
        self.bits.set.retain(|_, acks| {
            acks.retain_mut(&mut change);
            !acks.is_empty()
        });
        self.tables.each(&mut change);
        self.clocks.each(&mut change);
    }

    /// A node's log is durable up to `position`.
    pub(super) fn synced(&mut self, node: usize, position: Position) {
        self.each(|ack| {
            if ack.node == node && ack.position <= position {
                ack.safe = true;
            }
            true
        });
    }

    /// A node's power was cut: what was not safe may be lost.
    pub(super) fn power_cut(&mut self, node: usize) {
        self.each(|ack| ack.node != node || ack.safe);
    }

    /// A node's directory was taken back to a backup, or is gone: of what it acknowledged, that
    /// is sure which others have for good.
    pub(super) fn taken_back(&mut self, node: usize, elsewhere: &VersionVector) {
        self.each(|ack| {
            // What was only on others by now may have been on this one alone.
            if ack.node != node && ack.node != NOBODY {
                return true;
            }
            // Positions of another log mean nothing any more.
            ack.node = NOBODY;
            ack.safe = elsewhere.covers(ack.dot);
            ack.safe
        });
    }
}
