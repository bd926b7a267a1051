//! The bound on the memory that all filters of a node take, and who gives way when it is reached.
//!
//! Memory is taken before bits are read or made, as a [`Reservation`]. Where there is none left the
//! filters that were not used for longest are unloaded, one after the other: those in memory stand
//! in a ring, and one that was used since it was last looked at goes behind the others once more.
//! What takes more than all that could be unloaded is refused at once, and nothing is unloaded for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use grapevine_core::catalogue::{FilterRow, Storage};

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, Handle, lock};

/// How long a caller waits at a time when all filters in memory are in use, or being read.
const WAIT: Duration = Duration::from_millis(10);
/// How often it does.
const WAITS_MAX: usize = 200;

/// The bound and what is taken of it.
#[derive(Debug)]
pub struct MemoryBound {
    limit: u64,
    used: AtomicU64,
    /// Of that, what is never unloaded.
    pinned: AtomicU64,
}

/// There is not so much left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} bytes of filters do not fit: {used} of {limit} bytes are in use and cannot be \
     unloaded now (limits.memory)"
)]
pub struct OverBound {
    /// Bytes asked for.
    pub wanted: u64,
    /// Bytes in use.
    pub used: u64,
    /// The bound.
    pub limit: u64,
}

impl MemoryBound {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(MemoryBound {
            limit,
            used: AtomicU64::new(0),
            pinned: AtomicU64::new(0),
        })
    }

    /// Bytes that filters take now.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Bytes that they may take.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn over(&self, wanted: u64, used: u64) -> OverBound {
        OverBound {
            wanted,
            used,
            limit: self.limit,
        }
    }

    fn take(&self, wanted: u64) -> Result<(), OverBound> {
        self.used
            .fetch_update(Relaxed, Relaxed, |used| {
                used.checked_add(wanted).filter(|sum| *sum <= self.limit)
            })
            .map(drop)
            .map_err(|used| self.over(wanted, used))
    }

    /// Refuses what would not fit if everything were unloaded that can be.
    fn ensure_possible(&self, wanted: u64) -> Result<(), OverBound> {
        let pinned = self.pinned.load(Relaxed);
        match pinned.checked_add(wanted) {
            Some(sum) if sum <= self.limit => Ok(()),
            _ => Err(self.over(wanted, pinned)),
        }
    }
}

/// Bytes taken from the bound, given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    bound: Arc<MemoryBound>,
    bytes: AtomicU64,
    pinned: bool,
}

impl Reservation {
    /// Nothing yet, for a filter of that kind.
    pub(super) fn empty(bound: &Arc<MemoryBound>, storage: Storage) -> Self {
        Reservation {
            bound: Arc::clone(bound),
            bytes: AtomicU64::new(0),
            pinned: storage == Storage::Memory,
        }
    }

    /// Takes more.
    pub(super) fn grow(&self, bytes: u64) -> Result<(), OverBound> {
        self.bound.take(bytes)?;
        self.add(bytes);
        Ok(())
    }

    /// Takes what was reserved before, and more if that is too little.
    pub(super) fn grow_by(&self, room: Option<Reservation>, bytes: u64) -> Result<(), OverBound> {
        let Some(mut room) = room else {
            return self.grow(bytes);
        };
        let had = *room.bytes.get_mut();
        if had < bytes {
            self.bound.take(bytes - had)?;
        } else {
            self.bound.used.fetch_sub(had - bytes, Relaxed);
        }
        if room.pinned {
            self.bound.pinned.fetch_sub(had, Relaxed);
        }
        *room.bytes.get_mut() = 0;
        self.add(bytes);
        Ok(())
    }

    /// The same for a filter of that kind.
    pub(super) fn counted_as(mut self, storage: Storage) -> Self {
        let bytes = *self.bytes.get_mut();
        let pinned = storage == Storage::Memory;
        match (self.pinned, pinned) {
            (true, false) => _ = self.bound.pinned.fetch_sub(bytes, Relaxed),
            (false, true) => _ = self.bound.pinned.fetch_add(bytes, Relaxed),
            _ => {}
        }
        self.pinned = pinned;
        self
    }

    /// How much.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        if self.pinned {
            self.bound.pinned.fetch_add(bytes, Relaxed);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.bound.used.fetch_sub(bytes, Relaxed);
        if self.pinned {
            self.bound.pinned.fetch_sub(bytes, Relaxed);
        }
    }
}

/// What came of looking for room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Room,
    /// None, but there may be soon.
    Wait,
    Nothing,
}

/// A filter that is being read; others that need room wait for it.
pub(super) struct Loading<'a>(&'a Ring);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.0.loading.fetch_sub(1, Relaxed);
    }
}

/// Runs work that waits for files where it keeps nobody else waiting.
pub type Aside = fn(&mut dyn FnMut());

/// The filters in memory that may be unloaded, the one to be looked at first in front.
#[derive(Default)]
pub(super) struct Ring {
    places: Mutex<Places>,
    /// A filter has been read.
    entered: Condvar,
    /// Callers that wait for room.
    waiting: AtomicUsize,
    /// Filters that are being read into the room they have.
    loading: AtomicUsize,
    aside: OnceLock<Aside>,
}

#[derive(Default)]
struct Places {
    next: u64,
    handles: BTreeMap<u64, Arc<Handle>>,
}

impl Ring {
    /// The handle's bits are in memory now.
    pub(super) fn enter(&self, handle: &Arc<Handle>) {
        if handle.storage == Storage::Durable {
            let mut places = lock(&self.places);
            places.next += 1;
            let place = places.next;
            let before = handle.place.swap(place, Relaxed);
            places.handles.remove(&before);
            places.handles.insert(place, Arc::clone(handle));
            self.entered.notify_one();
        }
    }

    /// They are no longer.
    pub(super) fn leave(&self, handle: &Handle) {
        let mut places = lock(&self.places);
        places.handles.remove(&handle.place.swap(0, Relaxed));
    }

    fn front(&self) -> Option<Arc<Handle>> {
        let places = lock(&self.places);
        places.handles.values().next().cloned()
    }

    fn len(&self) -> usize {
        lock(&self.places).handles.len()
    }

    fn wait(&self) {
        let waited = self.entered.wait_timeout(lock(&self.places), WAIT);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// To be kept while bits are read into the room that was taken for them.
    pub(super) fn loading(&self) -> Loading<'_> {
        self.loading.fetch_add(1, Relaxed);
        Loading(self)
    }

    /// Whether somebody waits for room: who writes files for longer lets them in between.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }
}

/// The use of a handle that unloading what is idle looks for.
pub(super) const USED_IDLE: u8 = 1;
/// The use of a handle that making room looks for.
pub(super) const USED_RING: u8 = 2;
/// What a use leaves behind.
pub(super) const USED: u8 = USED_IDLE | USED_RING;

impl Filters {
    /// From now on, files are written and read for room by `aside`.
    pub fn set_aside(&self, aside: Aside) {
        // A second one changes nothing.
        self.ring.aside.set(aside).ok();
    }

    /// Takes `bytes` for a filter that has `beside` already, unloading what was not used for longest
    /// where need be. Called without any lock held.
    pub(super) fn room(
        &self,
        bytes: u64,
        beside: u64,
        storage: Storage,
    ) -> Result<Reservation, FilterError> {
        let room = Reservation::empty(&self.memory, storage);
        if room.grow(bytes).is_ok() {
            return Ok(room);
        }
        let mut made = Ok(());
        let mut make = || made = self.await_room(&room, bytes, beside);
        match self.ring.aside.get() {
            Some(aside) => aside(&mut make),
            None => make(),
        }
        made.map(|()| room)
    }

    /// Alone with the files of layers; a snapshot under way is interrupted.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.ring.waiting.fetch_add(1, Relaxed);
        let alone = lock(&self.snapshot);
        self.ring.waiting.fetch_sub(1, Relaxed);
        alone
    }

    fn await_room(&self, room: &Reservation, bytes: u64, beside: u64) -> Result<(), FilterError> {
        for _ in 0..WAITS_MAX {
            self.memory.ensure_possible(bytes.saturating_add(beside))?;
            let alone = self.alone();
            match self.make_room(room, bytes)? {
                Made::Room => return Ok(()),
                Made::Nothing => break,
                // Uses are short, and what is being read can give way then.
                Made::Wait => drop(alone),
            }
            self.ring.wait();
        }
        Ok(room.grow(bytes)?)
    }

    /// Unloads until the room is there. The caller holds the snapshot lock.
    fn make_room(&self, room: &Reservation, bytes: u64) -> Result<Made, FilterError> {
        let mut busy = self.ring.loading.load(Relaxed) > 0;
        // Twice each: the first look takes the mark of the last use away.
        for _ in 0..=2 * self.ring.len() {
            if room.grow(bytes).is_ok() {
                return Ok(Made::Room);
            }
            let Some(handle) = self.ring.front() else {
                break;
            };
            if handle.used.fetch_and(!USED_RING, Relaxed) & USED_RING == 0 {
                match self.give_way(&handle)? {
                    Made::Room => continue,
                    Made::Wait => busy = true,
                    Made::Nothing => {}
                }
            }
            self.ring.enter(&handle);
        }
        Ok(if busy { Made::Wait } else { Made::Nothing })
    }

    /// Unloads a filter unless somebody uses it at this moment.
    fn give_way(&self, handle: &Handle) -> Result<Made, FilterError> {
        // What its files have already can go also when nothing can be written.
        if self.journal.read_only().is_some() && handle.unwritten_bytes() > 0 {
            return Ok(Made::Nothing);
        }
        match self.write_layers(handle) {
            // Others can go, and reads go on.
            Err(FilterError::ReadOnly(_)) => return Ok(Made::Nothing),
            written => written?,
        }
        let Ok(mut bits) = handle.bits.try_write() else {
            return Ok(Made::Wait);
        };
        // A layer whose operation waits for its bits would lose those that came so far.
        let entered = self.with_catalogue(|catalogue| {
            let row = catalogue.row(handle.id);
            row.map_or(usize::MAX, |row| row.layers.len())
        });
        if matches!(&*bits, Bits::Loaded(held) if held.filter.layers().len() > entered) {
            return Ok(Made::Nothing);
        }
        match self.unload_bits(handle, &mut bits) {
            Ok(()) => Ok(Made::Room),
            Err(FilterError::ReadOnly(_)) => {
                drop(bits);
                Ok(Made::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Filters that this node cannot keep in memory, ascending by name, with the bytes that they
    /// would take. It has them in files, follows what others put into them, and refuses keys.
    pub fn too_large(&self) -> Vec<(Vec<u8>, u64)> {
        let mut large: Vec<_> = self
            .all()
            .iter()
            .filter_map(|handle| Some((handle.name.clone(), self.excess(handle)?)))
            .collect();
        large.sort();
        large
    }

    /// Bytes that the filter would take, if they do not fit the bound.
    pub fn excess(&self, handle: &Handle) -> Option<u64> {
        let bytes = match &*handle.bits_read() {
            Bits::Apart(_) => {
                self.with_catalogue(|catalogue| catalogue.row(handle.id).map(bytes_of))?
            }
            Bits::Unloaded => lock(&handle.summary).bytes,
            Bits::Loaded(_) | Bits::Damaged(_) | Bits::Gone => return None,
        };
        self.memory.ensure_possible(bytes).is_err().then_some(bytes)
    }
}

/// Memory that a filter of that row takes.
pub(super) fn bytes_of(row: &FilterRow) -> u64 {
    let layers = row.layers.iter().map(|layer| layer.shape.geometry.bytes());
    let legacy = row.legacy.iter().map(|layer| layer.bytes);
    layers.chain(legacy).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_the_bound_holds() {
        let bound = MemoryBound::new(100);
        let first = Reservation::empty(&bound, Storage::Durable);
        first.grow(60).unwrap();
        let second = Reservation::empty(&bound, Storage::Memory);
        let refused = OverBound {
            wanted: 41,
            used: 60,
            limit: 100,
        };
        assert_eq!(second.grow(41), Err(refused));
        assert_eq!(
            second.grow(u64::MAX).map_err(|error| error.wanted),
            Err(u64::MAX)
        );
        second.grow(40).unwrap();
        drop(first);
        assert_eq!(bound.used(), 40);
        // What is kept in memory only does not give way.
        assert!(bound.ensure_possible(60).is_ok());
        assert_eq!(bound.ensure_possible(61).unwrap_err().used, 40);
        let room = Reservation::empty(&bound, Storage::Durable);
        room.grow(30).unwrap();
        second.grow_by(Some(room), 20).unwrap();
        assert_eq!((second.bytes(), bound.used()), (60, 60));
        drop(second);
        assert_eq!(bound.used(), 0);
    }
}
