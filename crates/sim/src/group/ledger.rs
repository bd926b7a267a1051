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
    /// Its node was made anew since, and may be fetching it.
    settling: bool,
}

impl Ack {
    pub(super) fn new(node: usize, position: Position, dot: Dot) -> Self {
        Ack {
            node,
            position,
            dot,
            safe: false,
            settling: false,
        }
    }

    /// Whether a node must have what was acknowledged, at any time: it did so itself.
    pub(super) fn binds(&self, node: usize) -> bool {
        self.node == node && !self.settling
    }

    pub(super) fn is_safe(&self) -> bool {
        self.safe
    }
}

/// One epoch of a filter.
#[derive(Clone, Debug, Default)]
pub(super) struct Epoch {
    pub(super) name: Vec<u8>,
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
    /// Names of filters that somebody tried to drop.
    pub(super) dropped_names: BTreeSet<Vec<u8>>,
}

impl Ledger {
    pub(super) fn new(seed: u64) -> Self {
        Ledger {
            epochs: BTreeMap::new(),
            bits: BitLedger::default(),
            tables: TableLedger::new(seed),
            clocks: Clocks::new(seed),
            dropped_names: BTreeSet::new(),
        }
    }

    pub(super) fn epoch(&mut self, id: FilterId, name: &[u8]) -> &mut Epoch {
        let epoch = self.epochs.entry(id).or_default();
        if epoch.name.is_empty() {
            epoch.name = name.to_vec();
        }
        epoch
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

    /// A node's directory is what it was when its log ended at `position`: of what it acknowledged
    /// since, that is sure which others have for good.
    pub(super) fn set_back(&mut self, node: usize, position: Position, elsewhere: &VersionVector) {
        self.each(|ack| {
            let kept = ack.node == node && ack.position <= position && !ack.settling;
            // What was only on others by now may have been on this one alone.
            if kept || (ack.node != node && ack.node != NOBODY) {
                return true;
            }
            ack.node = NOBODY;
            ack.safe = elsewhere.covers(ack.dot);
            ack.safe
        });
    }

    /// A node's directory was made anew from what was there, all of it durable: some of it comes
    /// from the group again.
    pub(super) fn made_anew(&mut self, node: usize) {
        self.each(|ack| {
            if ack.node == node {
                ack.settling = true;
                ack.position = 0;
            }
            true
        });
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
