//! Nodes whose memory does not fit all filters, and that get more at a restart.

use std::cell::Cell;

use grapevine_core::catalogue::FilterId;
use grapevine_core::hash::KeyHash;
use grapevine_core::operation::{Operation, decode};
use grapevine_store::collections::Collections;
use grapevine_store::filters::{FilterError, Scratch};

use super::workload::key_bytes;
use super::{Checked, World};
use crate::branch::Branch;
use crate::random::Random;

/// A bound that no seed reaches.
const AMPLE_BYTES: u64 = 1 << 30;
/// Bounds below this do not fit all filters.
const SMALL_BYTES_MAX: u64 = 1 << 12;

/// What the filters of a node may take, drawn apart from everything else.
pub(super) struct Bound {
    random: Random,
    /// Of a node that is small.
    small: Option<u64>,
}

impl Bound {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6d65_6d6f_7279);
        let small = random.one_in(3);
        let bytes = 128 + random.below(SMALL_BYTES_MAX);
        Bound {
            random,
            small: small.then_some(bytes),
        }
    }

    /// Of a node that has room for everything.
    pub(super) fn ample() -> Self {
        Bound {
            random: Random::new(0),
            small: None,
        }
    }

    /// Whether it is small at some of its starts.
    pub(super) fn is_ever_small(&self) -> bool {
        self.small.is_some()
    }

    /// At the first start.
    pub(super) fn first(&self) -> u64 {
        self.small.unwrap_or(AMPLE_BYTES)
    }

    /// At a later one: now and then it was raised, or lowered again.
    fn next(&mut self) -> u64 {
        match self.small {
            Some(small) if !self.random.one_in(3) => small,
            _ => AMPLE_BYTES,
        }
    }
}

impl World {
    /// A node starts with the bound that it has now.
    pub(super) fn draw_bound(&mut self, node: usize) {
        let bytes = self.nodes[node].bound.next();
        self.nodes[node].options.memory = bytes;
    }

    fn is_small(&self, node: usize) -> bool {
        self.nodes[node].options.memory < AMPLE_BYTES
    }

    /// Whether a request was refused for want of memory, which a small node may do.
    pub(super) fn is_refused(&mut self, node: usize, error: &FilterError) -> bool {
        let refused = self.is_small(node) && matches!(error, FilterError::Memory(_));
        if refused {
            self.hit(Branch::OverMemory);
        }
        refused
    }

    /// Takes a snapshot, which now and then is cut short; false if it was.
    pub(super) fn take_checkpoint(&mut self, node: usize) -> Result<bool, FilterError> {
        let random = &mut self.nodes[node].bound.random;
        let files = if random.one_in(3) {
            random.below(8)
        } else {
            u64::MAX
        };
        let asked = Cell::new(0);
        let go_on = || asked.replace(asked.get() + 1) < files;
        let whole = self.collections(node).checkpoint_while(&go_on)?;
        if !whole {
            self.hit(Branch::SnapshotCutShort);
        }
        Ok(whole)
    }

    /// A small node gives no wrong answer about a key that it must have.
    pub(super) fn check_answer(&mut self, node: usize, id: FilterId, key: u64) -> Checked {
        if !self.is_small(node) {
            return Ok(());
        }
        let collections = self.collections(node);
        let Some(handle) = collections.filters().epoch(id) else {
            return Ok(());
        };
        let (bytes, mut scratch) = (key_bytes(key), Scratch::default());
        match collections
            .filters()
            .check(&handle, &[&bytes], &mut scratch)
        {
            Ok(_) if scratch.found() == [true] => Ok(()),
            Ok(_) => Err(format!("node {node} denies key {key} of {id}")),
            Err(error) if self.is_refused(node, &error) => Ok(()),
            Err(error) => Err(format!("check: {error}")),
        }
    }

    /// With room for everything, every filter of every node is whole.
    pub(super) fn raise_bounds(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            if self.nodes[node].left || !self.is_small(node) {
                continue;
            }
            if !self.collections(node).filters().too_large().is_empty() {
                self.hit(Branch::BoundRaised);
            }
            self.stop_cleanly(node)?;
            self.nodes[node].bound.small = None;
            self.start(node)?;
            let collections = self.collections(node);
            for row in collections.filters().rows() {
                let Some(handle) = collections.filters().epoch(row.id) else {
                    continue;
                };
                let loaded = collections.filters().load(&handle);
                loaded.map_err(|error| format!("node {node} stays without {}: {error}", row.id))?;
            }
            self.check_node(node)?;
        }
        Ok(())
    }
}

/// The operation as a node takes it in that says it has what a large filter was given, and does not.
pub(super) fn emptied(collections: &Collections, operation: &[u8]) -> Option<Vec<u8>> {
    let Ok(Operation::Insert(insert)) = decode(operation) else {
        return None;
    };
    let handle = collections.filters().epoch(insert.spent.filter)?;
    collections.filters().excess(&handle)?;
    let hashes = insert.hashes().len() * KeyHash::BYTES;
    let mut emptied = operation.to_vec();
    let from = emptied.len() - hashes;
    emptied[from..].fill(0x5A);
    Some(emptied)
}
