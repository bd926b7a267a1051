//! The filter itself: a named set of layers, grown as rights run out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::chain::{CHAIN_MAX, Chain};
use super::geometry::{GeometryError, Probe};
use super::layer::{Layer, Place, Spending};
use super::legacy::{BloomdLayer, LegacyHashes};
use super::parameters::{Growth, LayerId, LayerShape, Parameters, ParametersError};
use crate::catalogue::LayerRow;
use crate::hash::{KeyHash, Seed};
use crate::origin::Origin;

/// Keys probed together: their lines are all asked for before the first is looked at.
const BATCH: usize = 64;
/// Fewer keys are looked up one by one: asking for their lines ahead gains nothing.
const BATCH_MIN: usize = 4;
/// Locks that settle who inserted a key first; two keys share one only by chance.
const ARBITERS: usize = 64;

/// A key with its hash, ready to be looked up.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The key as it came; only layers of a foreign geometry look at it again.
    pub bytes: &'a [u8],
    /// Its hash under the filter's seed.
    pub hash: KeyHash,
}

/// What became of one key of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there and now is.
    New,
    /// It was (probably) there.
    Seen,
    /// It is not there and the fixed-size filter has no room.
    Full,
}

/// The change that an insert made, to be logged and sent on: per layer the new keys' hashes.
#[derive(Debug, Default)]
pub struct Effect {
    /// Hashes of the new keys, in order.
    pub hashes: Vec<KeyHash>,
    /// Which of them went into which layer: consecutive runs of `hashes`.
    pub runs: Vec<Run>,
}

/// Consecutive new keys of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The layer they went into.
    pub layer: LayerId,
    /// Number of the operation that opened it.
    pub opened: u64,
    /// How many.
    pub count: usize,
    /// Keys this node had inserted into the layer once they were in: a counter that only grows.
    pub inserted: u64,
}

impl Effect {
    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.hashes.clear();
        self.runs.clear();
    }
}

/// How far an insert came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every key has its outcome.
    Done,
    /// Keys can take no right from any layer: draw some, or open a layer, and go on with the rest.
    NeedsRights,
}

/// What becomes of a new key for which there is no right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithoutRights {
    /// The insert ends there, so that the caller can find some.
    Ask,
    /// It is refused: there are none to be had.
    Refuse,
}

/// A filter in memory. Checks take no lock; an insert of a new key takes one of a few, so that
/// of two callers with the same key exactly one is told it was new.
pub struct Filter {
    parameters: Parameters,
    seed: Seed,
    me: Origin,
    spending: Spending,
    place: Place,
    /// Layers of its own geometry, in the order they were opened.
    layers: Chain<Arc<Layer>>,
    /// Layers of a foreign geometry, only ever read.
    legacy: Chain<Arc<BloomdLayer>>,
    arbiters: [Mutex<()>; ARBITERS],
}

impl Filter {
    /// A filter without layers yet.
    pub fn new(parameters: Parameters, seed: Seed, me: Origin) -> Self {
        Filter {
            parameters,
            seed,
            me,
            spending: Spending::WithKeys,
            place: Place::Memory,
            layers: Chain::new(),
            legacy: Chain::new(),
            arbiters: std::array::from_fn(|_| Mutex::new(())),
        }
    }

    /// The same filter, still without layers, whose rights are spent in another way.
    #[must_use]
    pub fn with_spending(self, spending: Spending) -> Self {
        Filter { spending, ..self }
    }

    /// The same filter, still without layers, whose arrays are in that place.
    #[must_use]
    pub fn with_place(self, place: Place) -> Self {
        Filter { place, ..self }
    }

    /// Where the arrays of its layers are.
    pub fn place(&self) -> Place {
        self.place
    }

    /// What it was asked to be.
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// Hashes a key for this filter.
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key {
            bytes,
            hash: self.seed.hash(bytes),
        }
    }

    /// The layers of its own geometry, in the order they were opened.
    pub fn layers(&self) -> impl DoubleEndedIterator<Item = &Arc<Layer>> + ExactSizeIterator {
        self.layers.iter()
    }

    /// Layers of a foreign geometry, in the order they were added.
    pub fn legacy_layers(
        &self,
    ) -> impl DoubleEndedIterator<Item = &Arc<BloomdLayer>> + ExactSizeIterator {
        self.legacy.iter()
    }

    /// The layer of that name.
    pub fn layer(&self, id: LayerId) -> Option<&Arc<Layer>> {
        self.layers.iter().find(|layer| layer.id() == id)
    }

    /// The layer this node would open next in a group of `members`.
    pub fn next_layer(&self, members: u32) -> Result<LayerShape, ParametersError> {
        let last = self.layers.iter().map(|layer| layer.id().index).max();
        self.parameters
            .layer(last.map_or(0, |index| index + 1), self.me, members)
    }

    /// Adds a layer. Adding one that is there changes nothing.
    pub fn add_layer(&self, row: impl Into<LayerRow>) -> Result<&Arc<Layer>, AddLayerError> {
        let row = row.into();
        let id = row.shape.id;
        if let Some(layer) = self.layer(id) {
            layer.enter(row.opened);
            return Ok(layer);
        }
        let layer = Arc::new(Layer::with_spending(
            row,
            self.me,
            self.spending,
            self.place,
        )?);
        // No insert is under way while the layers change, so whoever holds an arbiter has seen
        // all layers that any other holder of it saw.
        let _all: Vec<MutexGuard<'_, ()>> = self.arbiters.iter().map(lock).collect();
        self.layers
            .push(layer, |other| other.id() == id)
            .ok_or(AddLayerError::TooMany(CHAIN_MAX))
    }

    /// Adds a layer of a foreign geometry.
    pub fn add_legacy(&self, layer: Arc<BloomdLayer>) -> Result<(), AddLayerError> {
        let _all: Vec<MutexGuard<'_, ()>> = self.arbiters.iter().map(lock).collect();
        self.legacy
            .push(layer, |_| false)
            .ok_or(AddLayerError::TooMany(CHAIN_MAX))?;
        Ok(())
    }

    /// Is the key (probably) in the filter?
    #[inline]
    pub fn contains(&self, key: Key<'_>) -> bool {
        self.layers
            .iter()
            .rev()
            .any(|layer| layer.contains(key.hash))
            || self.legacy_contains(key)
    }

    /// Looks all `keys` up, one answer each into `found` (of the same length).
    pub fn check(&self, keys: &[Key<'_>], found: &mut [bool]) {
        assert_eq!(keys.len(), found.len(), "one answer per key");
        for (keys, found) in keys.chunks(BATCH).zip(found.chunks_mut(BATCH)) {
            self.check_batch(keys, found);
        }
    }

    /// Inserts `keys` from the front, one outcome each appended to `outcomes`, until all are done
    /// or rights are needed; then the caller sees to that and comes back with the keys that have
    /// no outcome yet. What changed is added to `effect`.
    pub fn insert(
        &self,
        keys: &[Key<'_>],
        without: WithoutRights,
        outcomes: &mut Vec<Outcome>,
        effect: &mut Effect,
    ) -> Progress {
        let mut rest = keys;
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(BATCH)];
            let layers = self.layers.len();
            let mut found = [false; BATCH];
            self.check_batch(batch, &mut found[..batch.len()]);
            let before = outcomes.len();
            let step = self.insert_batch(batch, &found[..batch.len()], layers, outcomes, effect);
            rest = &rest[outcomes.len() - before..];
            if step == Step::NoRights {
                // The right that is missing may have gone to the same key just before.
                if self.contains(rest[0]) {
                    outcomes.push(Outcome::Seen);
                } else if without == WithoutRights::Refuse {
                    outcomes.push(Outcome::Full);
                } else {
                    return Progress::NeedsRights;
                }
                rest = &rest[1..];
            }
        }
        Progress::Done
    }

    /// Inserts those keys of a batch that were not found when there were `layers` layers.
    fn insert_batch(
        &self,
        keys: &[Key<'_>],
        found: &[bool],
        layers: usize,
        outcomes: &mut Vec<Outcome>,
        effect: &mut Effect,
    ) -> Step {
        let mut open: Option<Reserved<'_>> = None;
        let mut step = Step::Again;
        for (index, key) in keys.iter().enumerate() {
            if found[index] {
                outcomes.push(Outcome::Seen);
                continue;
            }
            if open.as_ref().is_none_or(|reserved| reserved.left == 0) {
                open.take().inspect(|reserved| reserved.close(effect));
                open = self.reserve(&found[index..]);
            }
            let Some(reserved) = &mut open else {
                step = Step::NoRights;
                break;
            };
            let _first = lock(&self.arbiters[key.hash.high as usize % ARBITERS]);
            if self.layers.len() != layers {
                break;
            }
            // With several layers another caller may since have put it into another one.
            let elsewhere = layers > 1 && self.layers.iter().any(|layer| layer.contains(key.hash));
            if !elsewhere && reserved.layer.apply(key.hash) {
                reserved.left -= 1;
                reserved.spent += 1;
                effect.hashes.push(key.hash);
                outcomes.push(Outcome::New);
            } else {
                outcomes.push(Outcome::Seen);
            }
        }
        open.take().inspect(|reserved| reserved.close(effect));
        step
    }

    /// Reserves rights for the keys of a batch that are left, from the oldest layer that has
    /// some. A fixed filter takes them singly: what one caller holds back for keys that turn out
    /// to be seen must not make it look full to another.
    fn reserve(&self, found: &[bool]) -> Option<Reserved<'_>> {
        let wanted = match self.parameters.growth {
            Growth::Fixed => 1,
            Growth::By(_) => found.iter().filter(|found| !**found).count() as u64,
        };
        self.layers.iter().find_map(|layer| {
            let left = layer.reserve(wanted);
            (left > 0).then_some(Reserved {
                layer,
                left,
                spent: 0,
            })
        })
    }

    fn legacy_contains(&self, key: Key<'_>) -> bool {
        if self.legacy.is_empty() {
            return false;
        }
        let hashes = LegacyHashes::of(key.bytes);
        self.legacy
            .iter()
            .rev()
            .any(|layer| layer.contains(&hashes))
    }

    /// At most [`BATCH`] keys: layer by layer, newest first, ask for all lines, then look.
    #[inline]
    fn check_batch(&self, keys: &[Key<'_>], found: &mut [bool]) {
        if keys.len() < BATCH_MIN {
            for (key, found) in keys.iter().zip(found.iter_mut()) {
                *found = self.contains(*key);
            }
            return;
        }
        found.fill(false);
        let mut probes = [Probe::default(); BATCH];
        for layer in self.layers.iter().rev() {
            for ((key, probe), found) in keys.iter().zip(&mut probes).zip(found.iter()) {
                if !found {
                    *probe = layer.probe(key.hash);
                    layer.prefetch(probe);
                }
            }
            for (probe, found) in probes.iter().zip(found.iter_mut()) {
                *found = *found || layer.contains_probe(probe);
            }
        }
        if !self.legacy.is_empty() {
            for (key, found) in keys.iter().zip(found.iter_mut()) {
                *found = *found || self.legacy_contains(*key);
            }
        }
    }

    /// Keys inserted into all layers by all members, as far as known; legacy layers included.
    pub fn inserted(&self) -> u64 {
        let own = self.layers.iter().map(|layer| layer.inserted());
        let legacy = self.legacy.iter().map(|layer| layer.count());
        own.chain(legacy).fold(0, u64::saturating_add)
    }

    /// Keys that the layers there are may hold in all.
    pub fn capacity(&self) -> u64 {
        let own = self.layers.iter().map(|layer| layer.shape().capacity);
        let legacy = self.legacy.iter().map(|layer| layer.capacity());
        own.chain(legacy).fold(0, u64::saturating_add)
    }

    /// Memory of the bits, in bytes.
    pub fn bytes(&self) -> u64 {
        let own = self
            .layers
            .iter()
            .map(|layer| layer.shape().geometry.bytes());
        let legacy = self.legacy.iter().map(|layer| layer.bytes());
        own.chain(legacy).sum()
    }

    /// Fill and error of all layers together, measured on samples of them.
    pub fn measure(&self) -> Measure {
        let mut measure = Measure::default();
        let (mut cells, mut set) = (0.0, 0.0);
        let mut all_absent = 1.0;
        for layer in self.layers.iter() {
            let (fill, geometry) = (layer.measure(), layer.shape().geometry);
            let bits = geometry.bytes() as f64 * 8.0;
            cells += bits;
            set += bits * fill.share;
            all_absent *= 1.0 - fill.false_positive_rate;
            measure.cardinality += fill.cardinality(geometry);
        }
        for layer in self.legacy.iter() {
            all_absent *= 1.0 - layer.false_positive_rate();
            measure.cardinality += layer.count() as f64;
        }
        measure.fill = if cells > 0.0 { set / cells } else { 0.0 };
        measure.error = 1.0 - all_absent;
        measure
    }
}

/// Why a layer was not added.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum AddLayerError {
    /// Its shape is impossible.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// The filter has as many layers as it can have.
    #[error("a filter has at most {0} layers")]
    TooMany(usize),
}

/// What a filter holds, estimated from its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    /// Distinct keys.
    pub cardinality: f64,
    /// Share of bits set, 0 to 1.
    pub fill: f64,
    /// Chance that an absent key is answered yes.
    pub error: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The batch is done, or the layers changed under it: look again at what is left.
    Again,
    /// The next key is new and no layer has a right left.
    NoRights,
}

/// Rights reserved from one layer for the keys of a batch.
struct Reserved<'a> {
    layer: &'a Layer,
    left: u64,
    spent: u64,
}

impl Reserved<'_> {
    fn close(&self, effect: &mut Effect) {
        self.layer.release(self.left);
        if self.spent > 0 {
            effect.runs.push(Run {
                layer: self.layer.id(),
                opened: self.layer.opened().sequence,
                count: self.spent as usize,
                inserted: self.layer.spend_reserved(self.spent),
            });
        }
    }
}

fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
