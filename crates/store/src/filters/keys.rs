//! Checking and setting keys: the hot path.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{MutexGuard, RwLockReadGuard};

use grapevine_core::catalogue::{FilterId, Scope, Storage};
use grapevine_core::filter::parameters::Growth;
use grapevine_core::filter::{
    AddLayerError, Effect, Filter, Key, Outcome, Progress, WithoutRights,
};
use grapevine_core::limits::LAYERS_PER_FILTER_MAX;
use grapevine_core::operation::{INSERT_HASHES_MAX, encode_insert};

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, Handle, Loaded, lock};
use super::memory::{Reservation, USED, bytes_of};
use crate::log::{EntryBuffer, Position};

/// How often a filter that is unloaded as soon as it was loaded is loaded again.
pub(super) const LOAD_ATTEMPTS_MAX: usize = 16;

/// Buffers of one caller, kept between calls so that a request takes no memory of its own.
#[derive(Debug, Default)]
pub struct Scratch {
    outcomes: Vec<Outcome>,
    found: Vec<bool>,
    pub(super) effect: Effect,
    encoded: Vec<u8>,
    growth: NextLayer,
}

/// What is needed to open a layer.
#[derive(Debug, Default)]
struct NextLayer {
    /// Memory for it.
    room: Option<Reservation>,
    /// Bytes that were missing.
    missing: u64,
}

impl Scratch {
    /// One outcome per key of the last [`Filters::set`].
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// One answer per key of the last [`Filters::check`].
    pub fn found(&self) -> &[bool] {
        &self.found
    }

    /// Shows what an insert into `filter` changed: one operation per layer and at most so many
    /// keys.
    pub(super) fn each_insert<E>(
        &mut self,
        filter: FilterId,
        mut visit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut hashes = &self.effect.hashes[..];
        for run in &self.effect.runs {
            let (of_run, rest) = hashes.split_at(run.count);
            hashes = rest;
            for chunk in of_run.chunks(INSERT_HASHES_MAX) {
                self.encoded.clear();
                encode_insert(&mut self.encoded, filter, *run, chunk);
                visit(&self.encoded)?;
            }
        }
        Ok(())
    }
}

impl Filters {
    /// Looks up `keys`; the answers are in `scratch`. They may be given once the position
    /// returned is as durable as the node promises. May read the filter's files.
    pub fn check(
        &self,
        handle: &Handle,
        keys: &[&[u8]],
        scratch: &mut Scratch,
    ) -> Result<Position, FilterError> {
        let bits = self.loaded(handle)?;
        let filter = &loaded(&bits)?.filter;
        let hashed: Vec<Key<'_>> = keys.iter().map(|key| filter.key(key)).collect();
        scratch.found.clear();
        scratch.found.resize(keys.len(), false);
        filter.check(&hashed, &mut scratch.found);
        let also = handle.also();
        if !also.is_empty() {
            // Others may have to be read first, which is done with nothing held.
            drop(bits);
            self.check_others(&also, keys, &mut scratch.found)?;
        }
        let hits = scratch.found.iter().filter(|found| **found).count() as u64;
        handle.usage.check_hits.fetch_add(hits, Relaxed);
        handle
            .usage
            .check_misses
            .fetch_add(keys.len() as u64 - hits, Relaxed);
        handle.used.store(USED, Relaxed);
        Ok(if hits > 0 {
            self.position_of_what_was_seen(handle)
        } else {
            0
        })
    }

    /// Adds `keys` in order; the outcomes are in `scratch`. They may be given once the position
    /// returned is as durable as the node promises. May read the filter's files, and write those of
    /// others.
    pub fn set(
        &self,
        handle: &Handle,
        keys: &[&[u8]],
        scratch: &mut Scratch,
    ) -> Result<Position, FilterError> {
        self.ensure_writable()?;
        scratch.outcomes.clear();
        let mut set = self.set_some(handle, keys, scratch);
        // One layer each time.
        for _ in 0..LAYERS_PER_FILTER_MAX {
            let missing = std::mem::take(&mut scratch.growth.missing);
            if missing == 0 || set.is_ok() {
                break;
            }
            let beside = self.with_catalogue(|catalogue| catalogue.row(handle.id).map(bytes_of));
            let room = self.room(missing, beside.unwrap_or(0), handle.storage)?;
            scratch.growth.room = Some(room);
            let mut done = std::mem::take(&mut scratch.outcomes);
            set = self.set_some(handle, &keys[done.len()..], scratch);
            done.append(&mut scratch.outcomes);
            scratch.outcomes = done;
        }
        scratch.growth = NextLayer::default();
        set
    }

    /// Adds keys up to the first one that needs a layer for which there is no memory.
    fn set_some(
        &self,
        handle: &Handle,
        keys: &[&[u8]],
        scratch: &mut Scratch,
    ) -> Result<Position, FilterError> {
        let also = handle.also();
        scratch.effect.clear();
        if !also.is_empty() {
            scratch.found.clear();
            scratch.found.resize(keys.len(), false);
            self.check_others(&also, keys, &mut scratch.found)?;
        }
        let bits = self.loaded(handle)?;
        let loaded = loaded(&bits)?;
        let keys: Vec<Key<'_>> = keys.iter().map(|key| loaded.filter.key(key)).collect();
        let inserting = handle
            .inserting
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let inserted = if also.is_empty() {
            self.insert(handle, loaded, &keys, scratch)
        } else {
            self.insert_unseen(handle, loaded, &keys, scratch)
        };
        let appended = self.log_inserts(handle, scratch);
        drop(inserting);
        handle.used.store(USED, Relaxed);
        let new = scratch.effect.hashes.len() as u64;
        handle.usage.set_hits.fetch_add(new, Relaxed);
        let seen = scratch.outcomes.len() as u64 - new;
        handle.usage.set_misses.fetch_add(seen, Relaxed);
        inserted?;
        let appended = appended?;
        Ok(if seen > 0 {
            self.position_of_what_was_seen(handle)
        } else {
            appended
        })
    }

    pub(super) fn insert(
        &self,
        handle: &Handle,
        loaded: &Loaded,
        keys: &[Key<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), FilterError> {
        let Scratch {
            outcomes,
            effect,
            growth,
            ..
        } = scratch;
        let mut without = WithoutRights::Ask;
        while loaded
            .filter
            .insert(&keys[outcomes.len()..], without, outcomes, effect)
            != Progress::Done
        {
            if !self.find_rights(handle, loaded, growth)? {
                without = WithoutRights::Refuse;
            }
        }
        Ok(())
    }

    /// Sees to it that keys can take rights; false if there are none to be had.
    fn find_rights(
        &self,
        handle: &Handle,
        loaded: &Loaded,
        growth: &mut NextLayer,
    ) -> Result<bool, FilterError> {
        if self.draw(handle, loaded)? {
            return Ok(true);
        }
        if handle.parameters.growth == Growth::Fixed {
            return Ok(false);
        }
        self.open_layer(handle, loaded, growth)?;
        Ok(true)
    }

    /// Inserts those keys that no other filter of the name holds.
    fn insert_unseen(
        &self,
        handle: &Handle,
        loaded: &Loaded,
        keys: &[Key<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), FilterError> {
        let unseen = keys
            .iter()
            .zip(&scratch.found)
            .filter(|(_, found)| !**found);
        let unseen: Vec<Key<'_>> = unseen.map(|(key, _)| *key).collect();
        let inserted = self.insert(handle, loaded, &unseen, scratch);
        let mut outcomes = std::mem::take(&mut scratch.outcomes).into_iter();
        for found in &scratch.found {
            let outcome = if *found {
                Some(Outcome::Seen)
            } else {
                outcomes.next()
            };
            let Some(outcome) = outcome else { break };
            scratch.outcomes.push(outcome);
        }
        inserted
    }

    /// Looks up in other filters of the name what is not found yet. Each has its own seed.
    fn check_others(
        &self,
        others: &[Arc<Handle>],
        keys: &[&[u8]],
        found: &mut [bool],
    ) -> Result<(), FilterError> {
        for other in others {
            let bits = self.loaded(other)?;
            let filter = match &*bits {
                Bits::Loaded(loaded) => &loaded.filter,
                Bits::Damaged(reason) => return Err(FilterError::Damaged(Arc::clone(reason))),
                Bits::Unloaded | Bits::Apart(_) => return Err(self.crowded()),
                // Dropped just now.
                Bits::Gone => continue,
            };
            other.used.store(USED, Relaxed);
            for (key, found) in keys.iter().zip(found.iter_mut()) {
                *found = *found || filter.contains(filter.key(key));
            }
        }
        Ok(())
    }

    /// Appends what an insert changed, or hands it on.
    pub(super) fn log_inserts(
        &self,
        handle: &Handle,
        scratch: &mut Scratch,
    ) -> Result<Position, FilterError> {
        if handle.storage == Storage::Memory {
            self.pass_on(handle, scratch);
            return Ok(0);
        }
        let (mut position, stream) = (0, handle.scope.stream());
        scratch.each_insert(handle.id, |operation| -> Result<(), FilterError> {
            let append = |_, entry: &mut EntryBuffer<'_>| entry.extend_from_slice(operation);
            (position, _) = self.journal.append(stream, append)?;
            Ok(())
        })?;
        Ok(position)
    }

    /// A position that covers every insert whose bits were visible before the call.
    fn position_of_what_was_seen(&self, handle: &Handle) -> Position {
        if handle.storage == Storage::Memory && handle.also().is_empty() {
            return 0;
        }
        handle.wait_for_inserts();
        for other in handle.also().iter() {
            other.wait_for_inserts();
        }
        if self.journal.log_failed() {
            // Nothing more will be written. What is in memory is answered from: it is at least
            // what was acknowledged.
            return 0;
        }
        self.journal.appended()
    }

    /// The handle's bits, read into memory if need be.
    pub(super) fn loaded<'a>(
        &self,
        handle: &'a Handle,
    ) -> Result<RwLockReadGuard<'a, Bits>, FilterError> {
        for _ in 0..LOAD_ATTEMPTS_MAX {
            let bits = handle.bits_read();
            if matches!(*bits, Bits::Loaded(_)) {
                return Ok(bits);
            }
            drop(bits);
            self.load(handle)?;
        }
        // It was unloaded again and again before it could be used.
        let bits = handle.bits_read();
        match &*bits {
            Bits::Unloaded | Bits::Apart(_) => Err(self.crowded()),
            Bits::Loaded(_) | Bits::Damaged(_) | Bits::Gone => Ok(bits),
        }
    }

    /// The same for who writes files meanwhile.
    pub(super) fn loaded_alone<'a>(
        &'a self,
        handle: &'a Handle,
    ) -> Result<(MutexGuard<'a, ()>, RwLockReadGuard<'a, Bits>), FilterError> {
        for _ in 0..LOAD_ATTEMPTS_MAX {
            self.load(handle)?;
            let alone = self.alone();
            let bits = handle.bits_read();
            if matches!(*bits, Bits::Loaded(_)) {
                return Ok((alone, bits));
            }
        }
        Err(self.crowded())
    }

    /// All memory is in use.
    pub(super) fn crowded(&self) -> FilterError {
        self.memory.over(0, self.memory.used()).into()
    }

    /// Opens the next layer, unless another caller has just made room.
    fn open_layer(
        &self,
        handle: &Handle,
        loaded: &Loaded,
        growth: &mut NextLayer,
    ) -> Result<(), FilterError> {
        let mut catalogue = lock(&self.catalogue);
        let mut layers = loaded.filter.layers();
        if layers.any(|layer| layer.available() > 0 || layer.held() > 0) {
            return Ok(());
        }
        let shape = loaded.filter.next_layer(self.member_count())?;
        if loaded.filter.layers().len() >= LAYERS_PER_FILTER_MAX {
            return Err(FilterError::Layer(AddLayerError::TooMany(
                LAYERS_PER_FILTER_MAX,
            )));
        }
        let bytes = shape.geometry.bytes();
        let grown = loaded.memory.grow_by(growth.room.take(), bytes);
        grown.inspect_err(|_| growth.missing = bytes)?;
        self.clear_place(handle, shape.id)
            .map_err(|error| self.snapshot_failed(&error))?;
        let layer = self.log_layer(&mut catalogue, handle, shape)?;
        let layer = loaded.filter.add_layer(layer)?;
        if handle.scope == Scope::Group {
            self.share_out(handle.id, layer)?;
        }
        Ok(())
    }
}

/// The bits, as [`Filters::loaded`] left them; another caller may have dropped them since.
pub(super) fn loaded(bits: &Bits) -> Result<&Loaded, FilterError> {
    match bits {
        Bits::Loaded(loaded) => Ok(loaded),
        Bits::Damaged(reason) => Err(FilterError::Damaged(Arc::clone(reason))),
        Bits::Unloaded | Bits::Apart(_) | Bits::Gone => Err(FilterError::NotFound),
    }
}

/// The filter in memory, for as long as the caller keeps it.
impl Filters {
    /// The filter's bits, read into memory if need be, to look at.
    pub fn bits(&self, handle: &Handle) -> Result<Arc<Filter>, FilterError> {
        let bits = self.loaded(handle)?;
        Ok(Arc::clone(&loaded(&bits)?.filter))
    }
}
