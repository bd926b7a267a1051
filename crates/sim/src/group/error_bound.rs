//! The error of a filter whose copies grew while they were cut apart, measured.
//!
//! Nodes that know each other share a filter, are cut apart, insert different keys each, and are
//! healed. Then every node is asked for keys that nobody put in. With growth rights the answers
//! that are wrong stay within the filter's bound; with rights ignored every node fills the shared
//! layer as if it were alone, which is what copies do that only OR their bits together.

use std::collections::BTreeSet;
use std::sync::Arc;

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::operation::Share;
use grapevine_core::origin::Origin;
use grapevine_store::filters::{Creation, Handle, NewFilter, Recreation, Scratch};

use super::network::Network;
use super::{Checked, Faults, GroupMutation, GroupPlan, Time, World};
use crate::branch::Branch;

const NAME: &[u8] = b"seen";
/// Keys of one insert or check.
const BATCH: u64 = 1000;
/// Simulated time between two inserts of one node: the log is synced and the machine ticks.
const PAUSE_MS: Time = 20;
/// Time within which copies must be the same again.
const SAME_WITHIN_MS: Time = 600_000;
/// Bytes of a segment of the nodes' logs: as in the running node, not tiny as in crash seeds.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Who handed out the rights that nobody had, where rights are ignored.
const NOBODY: Origin = Origin::new([0xEE; 16]);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Everything follows from it.
    pub seed: u64,
    /// Nodes, each alone in the cut.
    pub nodes: usize,
    /// Of the filter.
    pub parameters: Parameters,
    /// Keys that each node inserts while it is alone.
    pub keys_per_node: u64,
    /// Absent keys that each node is asked for afterwards.
    pub probes: u64,
    /// Whether rights are heeded.
    pub rights: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Wrong answers of each node, of [`Cut::probes`] each.
    pub false_positives: Vec<u64>,
    /// Keys that were answered to be new, on all nodes together.
    pub keys: u64,
    /// Layers of the healed filter.
    pub layers: usize,
    /// Keys in the fullest layer for each that it may hold.
    pub fill_max: f64,
    /// Bytes of the healed filter's bits.
    pub bytes: u64,
    /// Bytes of one filter of the same error, sized for all the keys.
    pub bytes_sized_right: u64,
    /// Snapshots that were taken in healing.
    pub snapshots: u64,
}

impl Measured {
    /// The largest share of wrong answers of any node.
    #[must_use]
    pub fn error_max(&self, probes: u64) -> f64 {
        let most = self.false_positives.iter().copied().max().unwrap_or(0);
        most as f64 / probes.max(1) as f64
    }
}

/// The number of wrong answers among `probes` that an error of `error` exceeds with a chance of
/// less than `significance`: Chernoff's bound of the binomial tail (Chernoff 1952, Hoeffding
/// 1963), `P(X >= k) <= exp(-n KL(k/n || p))`.
#[must_use]
pub fn false_positives_max(probes: u64, error: f64, significance: f64) -> u64 {
    let needed = -significance.ln();
    let exceeds = |count: u64| {
        let share = count as f64 / probes as f64;
        let rest = if share < 1.0 {
            (1.0 - share) * ((1.0 - share) / (1.0 - error)).ln()
        } else {
            0.0
        };
        probes as f64 * (share * (share / error).ln() + rest) >= needed
    };
    let (mut low, mut high) = ((probes as f64 * error).ceil() as u64, probes);
    while low < high {
        let middle = low + (high - low) / 2;
        if exceeds(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low.saturating_sub(1)
}

/// Runs it.
pub fn measure(cut: &Cut) -> Result<Measured, String> {
    let mut world = World::quiet(cut.seed);
    for _ in 0..cut.nodes {
        world.add_node_with_segments(SEGMENT_BYTES)?;
    }
    world.until_same()?;
    let new = NewFilter {
        parameters: cut.parameters,
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    };
    let created = world
        .collections(0)
        .filters()
        .create(NAME, new, Recreation::AtOnce);
    if !matches!(created, Ok(Creation::Created(_))) {
        return Err("the filter was not created".to_owned());
    }
    world.changed(0);
    world.until_same()?;
    if !cut.rights {
        world.give_all_rights_to_everybody()?;
    }
    world.cut_all(true)?;
    let keys = world.insert_apart(cut.keys_per_node)?;
    // What one of them has then travels as state, what the others have as operations.
    let checkpoint = world.collections(0).checkpoint();
    checkpoint.map_err(|error| format!("checkpoint: {error}"))?;
    world.cut_all(false)?;
    world.until_same()?;
    world.count_errors(cut, keys)
}

impl World {
    /// A world without faults.
    fn quiet(seed: u64) -> Self {
        let mut world = World::new(GroupPlan {
            seed,
            nodes: None,
            operations: 0,
            mutation: GroupMutation::None,
            forks: Some(false),
            trace: false,
        });
        world.network = Network::quiet();
        world.faults = Faults::default();
        world.operator.discovery = false;
        world
    }

    fn add_node_with_segments(&mut self, bytes: u64) -> Checked {
        let join = BTreeSet::from_iter((!self.nodes.is_empty()).then_some(0));
        let mut node = super::node::Node::new(&mut self.random, GroupMutation::None, join);
        node.options.log.segment_size = bytes;
        node.bound = super::memory::Bound::ample();
        node.options.memory = node.bound.first();
        self.nodes.push(node);
        self.start(self.nodes.len() - 1)
    }

    fn run_for(&mut self, time: Time) -> Checked {
        let until = self.now + time;
        // Whatever happens next, there is a tick within 100 ms.
        self.run_until(|world| world.now >= until)
    }

    fn until_same(&mut self) -> Checked {
        let deadline = self.now + SAME_WITHIN_MS;
        loop {
            self.run_for(1000)?;
            let difference = self.difference()?;
            match difference {
                None => return Ok(()),
                Some(what) if self.now >= deadline => return Err(what),
                Some(_) => {}
            }
        }
    }

    /// Cuts every node from every other, or mends that.
    fn cut_all(&mut self, apart: bool) -> Checked {
        for from in 0..self.nodes.len() {
            for to in (0..self.nodes.len()).filter(|to| *to != from) {
                if apart {
                    self.network.block(from, to);
                } else {
                    self.network.unblock(from, to);
                }
            }
        }
        if apart {
            self.hit(Branch::Partition);
        }
        self.look_at_links()
    }

    fn shared_filter(&self, node: usize) -> Result<Arc<Handle>, String> {
        let handle = self.collections(node).filters().get(NAME);
        handle.ok_or_else(|| format!("node {node} has no filter"))
    }

    /// Every node may fill every layer there is as if it were alone.
    fn give_all_rights_to_everybody(&mut self) -> Checked {
        let mut shares = Vec::new();
        let mut filters = Vec::new();
        for node in 0..self.nodes.len() {
            let handle = self.shared_filter(node)?;
            let bits = self.collections(node).filters().bits(&handle);
            let filter = bits.map_err(|error| error.to_string())?;
            let layer = filter.layers().next().ok_or("a filter without layers")?;
            shares.push(Share {
                taker: self.collections(node).filters().identity().origin,
                total: layer.shape().capacity - layer.available(),
            });
            filters.push(filter);
        }
        for filter in filters {
            for layer in filter.layers() {
                layer.observe_grant(NOBODY, &shares);
            }
        }
        Ok(())
    }

    /// Every node inserts so many keys that no other has; gives how many were new.
    fn insert_apart(&mut self, keys_per_node: u64) -> Result<u64, String> {
        let mut new = 0;
        let mut scratch = Scratch::default();
        for from in (0..keys_per_node).step_by(BATCH as usize) {
            for node in 0..self.nodes.len() {
                let keys: Vec<String> = (from..keys_per_node.min(from + BATCH))
                    .map(|key| format!("of {node}: {key}"))
                    .collect();
                let slices: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
                let handle = self.shared_filter(node)?;
                let collections = self.collections(node);
                let set = collections.filters().set(&handle, &slices, &mut scratch);
                set.map_err(|error| format!("set: {error}"))?;
                let outcomes = scratch.outcomes().iter();
                new += outcomes
                    .filter(|outcome| **outcome == grapevine_core::filter::Outcome::New)
                    .count() as u64;
                self.changed(node);
            }
            self.run_for(PAUSE_MS)?;
        }
        Ok(new)
    }

    fn count_errors(&mut self, cut: &Cut, keys: u64) -> Result<Measured, String> {
        let mut false_positives = Vec::new();
        let mut scratch = Scratch::default();
        for node in 0..self.nodes.len() {
            let handle = self.shared_filter(node)?;
            let collections = self.collections(node);
            let mut wrong = 0;
            for from in (0..cut.probes).step_by(BATCH as usize) {
                let absent: Vec<String> = (from..cut.probes.min(from + BATCH))
                    .map(|key| format!("nobody's, for {node}: {key}"))
                    .collect();
                let slices: Vec<&[u8]> = absent.iter().map(String::as_bytes).collect();
                let checked = collections.filters().check(&handle, &slices, &mut scratch);
                checked.map_err(|error| format!("check: {error}"))?;
                wrong += scratch.found().iter().filter(|found| **found).count() as u64;
            }
            false_positives.push(wrong);
        }
        let handle = self.shared_filter(0)?;
        let filter = self.collections(0).filters().bits(&handle);
        let filter = filter.map_err(|error| error.to_string())?;
        let fill = filter
            .layers()
            .map(|layer| layer.inserted() as f64 / layer.shape().capacity as f64);
        let sized_right = Parameters {
            capacity: keys.max(1),
            growth: Growth::Fixed,
            ..cut.parameters
        };
        let one_layer = sized_right.layer(0, NOBODY, 1);
        let snapshots = self.outcome.branches.get(&Branch::SnapshotTaken);
        Ok(Measured {
            false_positives,
            keys,
            layers: filter.layers().len(),
            fill_max: fill.fold(0.0, f64::max),
            bytes: filter.bytes(),
            bytes_sized_right: one_layer
                .map_err(|error| error.to_string())?
                .geometry
                .bytes(),
            snapshots: snapshots.copied().unwrap_or(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::false_positives_max;

    /// Of the binomial distribution, summed up term by term.
    fn tail(probes: u64, error: f64, from: u64) -> f64 {
        let mut logarithm = probes as f64 * (1.0 - error).ln();
        let mut sum = 0.0;
        for count in 0..=probes {
            if count >= from {
                sum += logarithm.exp();
            }
            let (n, k) = (probes as f64, count as f64);
            logarithm += ((n - k) / (k + 1.0)).ln() + (error / (1.0 - error)).ln();
        }
        sum
    }

    #[test]
    fn the_bound_is_exceeded_as_seldom_as_it_says_and_not_much_less() {
        for (probes, error) in [(1_000_000, 1e-2), (1_000_000, 1e-3), (10_000, 0.3)] {
            let most = false_positives_max(probes, error, 1e-6);
            assert!(tail(probes, error, most + 1) < 1e-6);
            // Chernoff's bound gives away about a factor of ten.
            assert!(tail(probes, error, most + 1) > 1e-8, "{probes} {error}");
        }
    }
}
