//! Checking and setting keys: the hot path.

use std::sync::Arc;
use std::sync::RwLockReadGuard;
use std::sync::atomic::Ordering::Relaxed;

use grapevine_core::catalogue::Storage;
use grapevine_core::filter::{Effect, Filter, Key, Outcome, Progress};
use grapevine_core::operation::{INSERT_HASHES_MAX, encode_insert};

use super::Filters;
use super::error::FilterError;
use super::handle::{Bits, Handle, Loaded, lock};
use crate::log::{LogState, Position};

/// How often a filter that is unloaded as soon as it was loaded is loaded again.
const LOAD_ATTEMPTS_MAX: usize = 16;

/// Buffers of one caller, kept between calls so that a request takes no memory of its own.
#[derive(Debug, Default)]
pub struct Scratch {
    outcomes: Vec<Outcome>,
    found: Vec<bool>,
    effect: Effect,
    encoded: Vec<u8>,
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
        let keys: Vec<Key<'_>> = keys.iter().map(|key| filter.key(key)).collect();
        scratch.found.clear();
        scratch.found.resize(keys.len(), false);
        filter.check(&keys, &mut scratch.found);
        let hits = scratch.found.iter().filter(|found| **found).count() as u64;
        handle.usage.check_hits.fetch_add(hits, Relaxed);
        handle
            .usage
            .check_misses
            .fetch_add(keys.len() as u64 - hits, Relaxed);
        handle.used.store(true, Relaxed);
        Ok(if hits > 0 {
            self.position_of_what_was_seen(handle)
        } else {
            0
        })
    }

    /// Adds `keys` in order; the outcomes are in `scratch`. They may be given once the position
    /// returned is as durable as the node promises. May read the filter's files.
    pub fn set(
        &self,
        handle: &Handle,
        keys: &[&[u8]],
        scratch: &mut Scratch,
    ) -> Result<Position, FilterError> {
        self.ensure_writable()?;
        let bits = self.loaded(handle)?;
        let loaded = loaded(&bits)?;
        let keys: Vec<Key<'_>> = keys.iter().map(|key| loaded.filter.key(key)).collect();
        scratch.outcomes.clear();
        scratch.effect.clear();
        let inserting = handle
            .inserting
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let inserted = self.insert(handle, loaded, &keys, scratch);
        let appended = self.log_inserts(handle, scratch);
        drop(inserting);
        handle.used.store(true, Relaxed);
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

    fn insert(
        &self,
        handle: &Handle,
        loaded: &Loaded,
        keys: &[Key<'_>],
        scratch: &mut Scratch,
    ) -> Result<(), FilterError> {
        let Scratch {
            outcomes, effect, ..
        } = scratch;
        while loaded
            .filter
            .insert(&keys[outcomes.len()..], outcomes, effect)
            != Progress::Done
        {
            self.open_layer(handle, loaded)?;
        }
        Ok(())
    }

    /// Appends what an insert changed, one operation per layer and at most so many keys.
    fn log_inserts(&self, handle: &Handle, scratch: &mut Scratch) -> Result<Position, FilterError> {
        let mut position = 0;
        if handle.storage == Storage::Memory {
            return Ok(position);
        }
        let mut hashes = &scratch.effect.hashes[..];
        for run in &scratch.effect.runs {
            let (of_run, rest) = hashes.split_at(run.count);
            hashes = rest;
            for chunk in of_run.chunks(INSERT_HASHES_MAX) {
                scratch.encoded.clear();
                encode_insert(&mut scratch.encoded, handle.id, *run, chunk);
                position = self.append(&scratch.encoded)?;
            }
        }
        Ok(position)
    }

    /// Appends one operation under the next sequence number.
    pub(super) fn append(&self, operation: &[u8]) -> Result<Position, FilterError> {
        Ok(self.log.append_with(|entry| {
            // Under the append lock, so numbers have the order of the log.
            let sequence = self.sequence.fetch_add(1, Relaxed);
            entry.extend_from_slice(&sequence.to_le_bytes());
            entry.extend_from_slice(operation);
        })?)
    }

    /// A position that covers every insert whose bits were visible before the call.
    fn position_of_what_was_seen(&self, handle: &Handle) -> Position {
        if handle.storage == Storage::Memory {
            return 0;
        }
        handle.wait_for_inserts();
        match self.log.state() {
            LogState::Open => self.log.appended(),
            // Nothing more will be written. What is in memory is answered from: it is at least
            // what was acknowledged.
            LogState::Failed(_) => 0,
        }
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
        Ok(handle.bits_read())
    }

    /// Opens the next layer, unless another caller has just made room.
    fn open_layer(&self, handle: &Handle, loaded: &Loaded) -> Result<(), FilterError> {
        let mut catalogue = lock(&self.catalogue);
        if loaded.filter.layers().any(|layer| layer.available() > 0) {
            return Ok(());
        }
        let shape = loaded.filter.next_layer(1)?;
        loaded.memory.grow(shape.geometry.bytes())?;
        if handle.storage == Storage::Durable {
            self.log_layer(&mut catalogue, handle, shape)?;
        }
        loaded.filter.add_layer(shape)?;
        Ok(())
    }
}

/// The bits, as [`Filters::loaded`] left them; another caller may have dropped them since.
pub(super) fn loaded(bits: &Bits) -> Result<&Loaded, FilterError> {
    match bits {
        Bits::Loaded(loaded) => Ok(loaded),
        Bits::Damaged(reason) => Err(FilterError::Damaged(Arc::clone(reason))),
        Bits::Unloaded | Bits::Gone => Err(FilterError::NotFound),
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
