//! One layer of a filter: its bits and the rights to insert into it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::geometry::{Geometry, GeometryError, Probe};
use super::lines::Lines;
use super::model::LINE_BITS;
use super::parameters::{LayerId, LayerShape};
use super::rights::{Rights, RightsError};
use super::waiting::{Waiting, WaitingLines};
use crate::catalogue::{LayerRow, NEVER};
use crate::hash::KeyHash;
use crate::operation::Share;
use crate::origin::Origin;
use crate::version::Dot;

/// Lines looked at for an estimate of the fill: enough for two digits, few enough to answer at
/// once whatever the size.
const FILL_SAMPLE_LINES: u64 = 4096;

/// Hashes whose lines are asked for before the first is written.
const APPLY_BATCH: usize = 64;

/// When the rights of this node count as spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spending {
    /// With the key that takes one: whoever knows of the key knows that the right is spent.
    #[default]
    WithKeys,
    /// When they are drawn, many at a time, before keys take them: keys leave no trace that
    /// outlives the process, and no right may be spent again in its next life.
    Drawn,
}

/// Where a layer's array is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In memory.
    #[default]
    Memory,
    /// In its file: memory has the rights, and the bits that are not in the file yet. No key can be
    /// looked up.
    File,
}

/// A layer in memory, or what memory has of it.
pub struct Layer {
    shape: LayerShape,
    /// The operation that opened it, once there is one.
    opened: OnceLock<Dot>,
    me: Origin,
    lines: Lines,
    /// Of a layer whose array is not in memory: bits that are to go to its file.
    waiting: Option<Waiting>,
    spending: Spending,
    /// Keys this node inserted: its spent rights, unless those are drawn.
    inserted: AtomicU64,
    /// Rights that keys can take now: those this node holds, or has drawn, less those reserved or
    /// spent. Below zero only while a replay has seen more spent than it has yet seen given.
    available: AtomicI64,
    /// Grants, and what the other members spent.
    rights: Mutex<Rights>,
    /// Changes that the number of keys does not show.
    changes: AtomicU64,
}

impl Layer {
    /// An empty layer as seen by `me`.
    pub fn new(row: impl Into<LayerRow>, me: Origin) -> Result<Self, GeometryError> {
        Self::with_spending(row, me, Spending::WithKeys, Place::Memory)
    }

    /// An empty layer as seen by `me`.
    pub(super) fn with_spending(
        row: impl Into<LayerRow>,
        me: Origin,
        spending: Spending,
        place: Place,
    ) -> Result<Self, GeometryError> {
        let LayerRow { shape, opened } = row.into();
        let geometry = shape.geometry.validate()?;
        let rights = Rights::new(shape.capacity, shape.id.creator);
        let available = match spending {
            Spending::WithKeys => signed(rights.received_by(me)),
            Spending::Drawn => 0,
        };
        let (lines, waiting) = match place {
            Place::Memory => (Lines::zeroed(geometry), None),
            Place::File => (Lines::elsewhere(geometry), Some(Waiting::default())),
        };
        let layer = Layer {
            shape,
            opened: OnceLock::new(),
            me,
            lines,
            waiting,
            spending,
            inserted: AtomicU64::new(0),
            available: AtomicI64::new(available),
            rights: Mutex::new(rights),
            changes: AtomicU64::new(0),
        };
        layer.enter(opened);
        Ok(layer)
    }

    /// Notes the operation that opened it. A layer that another than its creator brought, from a
    /// file, takes no new keys: who inserts names the operation by its number and the creator.
    pub(super) fn enter(&self, opened: Dot) {
        if opened == NEVER || self.opened.set(opened).is_err() {
            return;
        }
        if opened.origin != self.shape.id.creator {
            self.available.store(i64::MIN / 2, Relaxed);
        }
    }

    /// Its name.
    pub fn id(&self) -> LayerId {
        self.shape.id
    }

    /// Its description.
    pub fn shape(&self) -> LayerShape {
        self.shape
    }

    /// The operation that opened it.
    pub fn opened(&self) -> Dot {
        self.opened.get().copied().unwrap_or(NEVER)
    }

    #[inline]
    pub(super) fn probe(&self, hash: KeyHash) -> Probe {
        self.shape.geometry.probe(hash)
    }

    #[inline]
    pub(super) fn prefetch(&self, probe: &Probe) {
        self.lines.prefetch(probe, self.shape.geometry);
    }

    #[inline]
    pub(super) fn contains_probe(&self, probe: &Probe) -> bool {
        self.lines.contains(probe, self.shape.geometry)
    }

    /// Is the key (probably) in this layer?
    #[inline]
    pub fn contains(&self, hash: KeyHash) -> bool {
        self.lines.contains_key(hash, self.shape.geometry)
    }

    /// Sets the bits of an insert that was acknowledged elsewhere or is replayed; true if a bit
    /// was new. Spends no right of this node.
    #[inline]
    pub fn apply(&self, hash: KeyHash) -> bool {
        self.lines.insert(&self.probe(hash), self.shape.geometry)
    }

    /// [`apply`](Self::apply) for many hashes: their lines are asked for ahead.
    pub fn apply_all(&self, hashes: impl IntoIterator<Item = KeyHash>) {
        let mut hashes = hashes.into_iter();
        if let Some(waiting) = &self.waiting {
            return hashes.for_each(|hash| waiting.insert(&self.probe(hash), self.shape.geometry));
        }
        let mut probes = [Probe::default(); APPLY_BATCH];
        loop {
            let mut count = 0;
            for (probe, hash) in probes.iter_mut().zip(&mut hashes) {
                *probe = self.probe(hash);
                self.prefetch(probe);
                count += 1;
            }
            for probe in &probes[..count] {
                self.lines.insert(probe, self.shape.geometry);
            }
            if count < APPLY_BATCH {
                return;
            }
        }
    }

    /// Takes up to `wanted` of the rights this node holds; the caller spends or releases them.
    pub(super) fn reserve(&self, wanted: u64) -> u64 {
        let mut taken = 0;
        let _ = self.available.fetch_update(Relaxed, Relaxed, |available| {
            taken = available.clamp(0, signed(wanted));
            (taken > 0).then(|| available - taken)
        });
        taken.unsigned_abs()
    }

    /// Lets keys take these rights.
    pub fn release(&self, unused: u64) {
        self.available.fetch_add(signed(unused), Relaxed);
    }

    /// Turns reserved rights into spent ones and returns the number of keys this node has
    /// inserted.
    pub(super) fn spend_reserved(&self, count: u64) -> u64 {
        self.inserted.fetch_add(count, Relaxed) + count
    }

    /// Draws up to `wanted` of the rights that this node holds: they are spent from now on. The
    /// caller notes the total in the log, then hands them out with [`release`](Self::release).
    pub fn draw(&self, wanted: u64) -> Option<Draw> {
        if self.spending == Spending::WithKeys {
            return None;
        }
        let mut rights = self.lock();
        let count = rights.held_by(self.me).min(wanted);
        if count == 0 {
            return None;
        }
        let total = rights.spent_by(self.me) + count;
        rights.observe_spent(self.me, total);
        drop(rights);
        self.touch();
        Some(Draw { count, total })
    }

    /// Rights that keys can take now.
    pub fn available(&self) -> u64 {
        self.available.load(Relaxed).max(0).unsigned_abs()
    }

    /// Rights this node can still spend here or hand on.
    pub fn held(&self) -> u64 {
        match self.spending {
            Spending::WithKeys => self.available(),
            Spending::Drawn => self.lock().held_by(self.me),
        }
    }

    /// Keys this node has inserted here. Of drawn rights all count that keys cannot take any more.
    pub fn inserted_here(&self) -> u64 {
        match self.spending {
            Spending::WithKeys => self.inserted.load(Relaxed),
            Spending::Drawn => {
                let drawn = self.lock().spent_by(self.me);
                drawn.saturating_sub(self.available())
            }
        }
    }

    /// Keys all members have inserted here, as far as known.
    pub fn inserted(&self) -> u64 {
        let others = {
            let rights = self.lock();
            rights.spent().saturating_sub(rights.spent_by(self.me))
        };
        others.saturating_add(self.inserted_here())
    }

    /// A number that grows with every change of what is kept in the layer's file: whoever has
    /// written it at one revision need not write it again while it is the same.
    pub fn revision(&self) -> u64 {
        let changes = self.changes.load(Relaxed);
        match self.spending {
            Spending::WithKeys => self.inserted().saturating_add(changes),
            Spending::Drawn => changes,
        }
    }

    /// Notes a change that the number of keys does not show.
    pub fn touch(&self) {
        self.changes.fetch_add(1, Relaxed);
    }

    /// Goes on from the revision of the file that was read into the layer, so that revisions grow
    /// over restarts too and tell an older copy of a file from a newer one.
    pub fn raise_revision(&self, to: u64) {
        let short = to.saturating_sub(self.revision());
        self.changes.fetch_add(short, Relaxed);
    }

    /// The rights as known here.
    pub fn rights(&self) -> Rights {
        let mut rights = self.lock().clone();
        if self.spending == Spending::WithKeys {
            rights.observe_spent(self.me, self.inserted_here());
        }
        rights
    }

    /// Hands up to `wanted` of this node's rights to each of `takers`, as far as they reach;
    /// gives each one's total. The caller makes the operation that says so.
    pub fn grant(&self, takers: &[(Origin, u64)]) -> Vec<Share> {
        let mut rights = self.lock();
        self.touch();
        let mut shares = Vec::new();
        for (taker, wanted) in takers {
            let given = match self.spending {
                Spending::WithKeys => self.reserve(*wanted),
                Spending::Drawn => rights.held_by(self.me).min(*wanted),
            };
            if given > 0 && *taker != self.me {
                let total = rights.granted(self.me, *taker).saturating_add(given);
                rights.observe_granted(self.me, *taker, total);
                shares.push(Share {
                    taker: *taker,
                    total,
                });
            } else if self.spending == Spending::WithKeys {
                self.release(given);
            }
        }
        shares
    }

    /// Notes that `giver` has handed on rights, as one of its operations says. For this node
    /// itself that is a replay.
    pub fn observe_grant(&self, giver: Origin, shares: &[Share]) {
        let mut rights = self.lock();
        self.touch();
        self.change(&mut rights, |rights| {
            for share in shares {
                rights.observe_granted(giver, share.taker, share.total);
            }
        });
    }

    /// Notes that `member` had inserted `total` keys here, as one of its operations says. For
    /// this node itself that is a replay, not concurrent with inserts.
    pub fn observe_inserted(&self, member: Origin, total: u64) {
        let mut rights = self.lock();
        rights.observe_spent(member, total);
        if member == self.me {
            self.observe_own(total);
        }
    }

    /// Takes in the rights that another copy of the layer knows of. Like
    /// [`Layer::observe_inserted`], for this node's own numbers this is a reload.
    pub fn merge_rights(&self, other: &Rights) -> Result<(), RightsError> {
        let mut rights = self.lock();
        self.change(&mut rights, |rights| rights.merge(other))?;
        self.observe_own(rights.spent_by(self.me));
        Ok(())
    }

    /// Lets what this node was given, less what it gave, follow a change of the rights.
    fn change<T>(&self, rights: &mut Rights, change: impl FnOnce(&mut Rights) -> T) -> T {
        if self.spending == Spending::Drawn {
            return change(rights);
        }
        let before = signed(rights.received_by(self.me)) - signed(rights.given_by(self.me));
        let outcome = change(rights);
        let after = signed(rights.received_by(self.me)) - signed(rights.given_by(self.me));
        self.available.fetch_add(after - before, Relaxed);
        outcome
    }

    fn observe_own(&self, total: u64) {
        if self.spending == Spending::Drawn {
            return;
        }
        let before = self.inserted.fetch_max(total, Relaxed);
        let news = total.saturating_sub(before);
        self.available.fetch_sub(signed(news), Relaxed);
    }

    /// Number of 64-bit words of the bit array.
    pub fn word_count(&self) -> usize {
        self.lines.word_count()
    }

    /// Copies words from index `from` into `into` while others may be writing; every bit set
    /// before the call is in the copy. False when all of them are zero. `from` is the start of a
    /// line. Of a layer that is in its file it copies nothing: see [`lay_over`](Self::lay_over).
    pub fn copy_words(&self, from: usize, into: &mut [u64]) -> bool {
        match &self.waiting {
            None => self.lines.copy(from, into),
            Some(_) => false,
        }
    }

    /// ORs `words` into the bit array from index `from`, the start of a line; true if a bit was
    /// new, or may be in a layer that is in its file.
    pub fn merge_words(&self, from: usize, words: &[u64]) -> bool {
        match &self.waiting {
            None => self.lines.merge(from, words),
            Some(waiting) => waiting.merge(from, words),
        }
    }

    /// Where its array is.
    pub fn place(&self) -> Place {
        match &self.waiting {
            None => Place::Memory,
            Some(_) => Place::File,
        }
    }

    /// Lines with bits that are not in the file yet.
    pub fn waiting_count(&self) -> usize {
        self.waiting.as_ref().map_or(0, Waiting::count)
    }

    /// Those lines.
    pub fn waiting(&self) -> WaitingLines {
        self.waiting
            .as_ref()
            .map(Waiting::lines)
            .unwrap_or_default()
    }

    /// Completes words of the file, from index `from` on, by what waits for them.
    pub fn lay_over(&self, from: usize, words: &mut [u64]) {
        if let Some(waiting) = &self.waiting {
            waiting.lay_over(from, words);
        }
    }

    /// These lines have been written to the file.
    pub fn settle(&self, written: &WaitingLines) {
        if let Some(waiting) = &self.waiting {
            waiting.settle(written);
        }
    }

    /// Share of bits set, and the false-positive rate that follows from it, both measured on a
    /// sample of lines.
    pub fn measure(&self) -> Fill {
        let geometry = self.shape.geometry;
        let sample = geometry.lines.min(FILL_SAMPLE_LINES);
        let bits = i32::from(geometry.bits_per_line);
        let (mut weight, mut hits) = (0.0, 0.0);
        for step in 0..sample {
            let index = (u128::from(step) * u128::from(geometry.lines) / u128::from(sample)) as u64;
            let share = f64::from(self.lines.line_weight(index)) / LINE_BITS as f64;
            weight += share;
            hits += share.powi(bits);
        }
        let lines_per_key = i32::from(geometry.lines_per_key);
        Fill {
            share: weight / sample as f64,
            false_positive_rate: (hits / sample as f64).powi(lines_per_key),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Rights> {
        self.rights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts of rights stay far below 2^63: no layer has room for so many keys.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX / 4)
}

/// Rights that were drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// How many.
    pub count: u64,
    /// All that this node ever drew from the layer.
    pub total: u64,
}

/// How full a layer is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fill {
    /// Share of bits set, 0 to 1.
    pub share: f64,
    /// Chance that an absent key is answered yes by this layer.
    pub false_positive_rate: f64,
}

impl Fill {
    /// The number of distinct keys that would fill a layer of this shape so far.
    pub fn cardinality(self, geometry: Geometry) -> f64 {
        let cells = (geometry.lines * LINE_BITS) as f64;
        let bits_per_key = f64::from(geometry.bits_per_line) * f64::from(geometry.lines_per_key);
        -cells * (1.0 - self.share).max(f64::MIN_POSITIVE).ln() / bits_per_key
    }
}
