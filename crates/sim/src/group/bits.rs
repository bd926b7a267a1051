//! The bitmap of the group: bits set on any node, and what must come of them.

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::bitmap::BITMAP_BITS_MAX;
use grapevine_store::collections::Collections;

use super::ledger::Ack;
use super::{Checked, World};

/// Most bits set by one step.
const BITS_PER_STEP_MAX: u64 = 30;
/// Bits of the rows that every node shows; the others are set on those that show more.
const BITS_SHOWN_BY_ALL: u64 = 2000;

/// What is known of the bitmap.
#[derive(Debug, Default)]
pub(super) struct BitLedger {
    /// Bits that were set, and not before as the node saw it.
    pub(super) set: BTreeMap<u16, Vec<Ack>>,
    /// Bits that somebody tried to set. No other may be found.
    attempted: BTreeSet<u16>,
}

impl World {
    pub(super) fn set_bits(&mut self, node: usize) -> Checked {
        let among = if self.random.one_in(3) {
            u64::from(BITMAP_BITS_MAX)
        } else {
            BITS_SHOWN_BY_ALL
        };
        let count = 1 + self.random.below(BITS_PER_STEP_MAX);
        let bits: Vec<u16> = (0..count)
            .map(|_| self.random.below(among) as u16)
            .collect();
        let collections = self.collections(node);
        let unset = |bit: &u16| !collections.bitmap().bits().contains(*bit);
        let new: Vec<u16> = bits.iter().copied().filter(unset).collect();
        self.ledger.bits.attempted.extend(&bits);
        let set = collections.bitmap().set(&bits);
        let position = set.map_err(|error| format!("set bits: {error}"))?;
        let ack = self.acknowledge(node, position)?;
        self.note(|| format!("set bits {bits:?} on {node}, {} new", new.len()));
        for bit in new {
            self.ledger.bits.set.entry(bit).or_default().push(ack);
        }
        Ok(())
    }

    /// A node has every bit of an operation that it has, has lost none that it acknowledged, and
    /// has none that nobody set. With `all`, it has those that were safely acknowledged anywhere.
    pub(super) fn check_bits(&self, node: usize, all: bool) -> Checked {
        let collections = self.collections(node);
        let applied = self.applied(node);
        let bits = collections.bitmap().bits();
        for (bit, acks) in &self.ledger.bits.set {
            let must = acks
                .iter()
                .any(|ack| ack.binds(node) || applied.covers(ack.dot) || (all && ack.is_safe()));
            if must && !bits.contains(*bit) {
                return Err(format!(
                    "node {node} has not bit {bit}, acknowledged as {acks:?}"
                ));
            }
        }
        let stray = bits
            .iter()
            .find(|bit| !self.ledger.bits.attempted.contains(bit));
        stray.map_or(Ok(()), |bit| {
            Err(format!("bit {bit} was never set and is on node {node}"))
        })
    }
}

/// The bitmap as a line, for a comparison.
pub(super) fn line(collections: &Collections) -> String {
    let bits: Vec<u16> = collections.bitmap().bits().iter().collect();
    format!("bitmap {} bits {bits:?}", bits.len())
}
