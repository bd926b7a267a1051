//! What must hold, looked at from outside.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, Storage};
use grapevine_core::operation::EntryHeader;
use grapevine_store::disk::{CrashPlan, Disk, NameFate, SimulatedDisk, WriteFate};
use grapevine_store::filters::{Creation, FilterError, Filters, Handle, Recreation, Scratch};
use grapevine_store::journal::LOG_DIR;
use grapevine_store::log::Log;

use super::workload::{KEYS, key_bytes};
use super::{Checked, World};
use crate::node::{self, Mutation};

/// Every answer of a filter, one per key of `0..KEYS`, and the position it waits for.
fn answers(filters: &Filters, handle: &Handle) -> Result<(Vec<bool>, u64), FilterError> {
    let keys: Vec<Vec<u8>> = (0..KEYS).map(key_bytes).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut scratch = Scratch::default();
    let position = filters.check(handle, &keys, &mut scratch)?;
    Ok((scratch.found().to_vec(), position))
}

/// All that a node holds: per name the epoch, and per layer its counter and all its words.
fn contents(filters: &Filters) -> Result<String, FilterError> {
    let mut text = String::new();
    for handle in filters.list(b"") {
        let _ = writeln!(text, "{:?} {:?}", handle.name(), handle.id());
        let filter = match filters.bits(&handle) {
            Err(FilterError::Memory(_)) => {
                let _ = writeln!(text, " does not fit");
                continue;
            }
            bits => bits?,
        };
        let layers: BTreeMap<_, _> = filter.layers().map(|layer| (layer.id(), layer)).collect();
        for (id, layer) in layers {
            let mut words = vec![0; layer.word_count()];
            layer.copy_words(0, &mut words);
            let _ = writeln!(text, " {id:?} {} {words:x?}", layer.inserted());
        }
        // One at a time, whatever the memory bound.
        drop(filter);
        let _ = filters.unload(&handle);
    }
    Ok(text)
}

impl World {
    /// Checks every filter that answers to its name.
    pub(super) fn check_all(&mut self) -> Checked {
        let handles = self.filters()?.list(b"");
        for handle in handles {
            self.check_filter(&handle)?;
        }
        Ok(())
    }

    /// Checks the answers and the counters of one filter.
    pub(super) fn check_filter(&mut self, handle: &Arc<Handle>) -> Checked {
        let filters = self.filters()?;
        let (found, _) = match answers(filters, handle) {
            Ok(answers) => answers,
            // Others take the room; it answers when they are unloaded.
            Err(FilterError::Memory(_)) => return Ok(()),
            Err(_) if self.disk.is_down() || self.fault.is_some() => return Ok(()),
            Err(error) => return Err(format!("{:?} does not answer: {error}", handle.name())),
        };
        let position = filters.journal().appended();
        let summary = handle.summary();
        if let Some(filter) = handle.in_memory() {
            for layer in filter.layers() {
                let (inserted, capacity) = (layer.inserted(), layer.shape().capacity);
                if inserted > capacity {
                    return Err(format!("{inserted} inserts into a layer for {capacity}"));
                }
            }
        }
        let name = String::from_utf8_lossy(handle.name()).into_owned();
        let epoch = self.ledger.epochs.get_mut(&handle.id());
        let epoch = epoch.ok_or_else(|| format!("{name}: nobody made {:?}", handle.id()))?;
        let checked = epoch.check(&found, position);
        checked.map_err(|what| format!("{name}: {what}"))?;
        let range = epoch.inserted_min()..=epoch.inserted_max;
        if !range.contains(&summary.inserted) {
            return Err(format!(
                "{name}: counter {} outside {range:?}",
                summary.inserted
            ));
        }
        Ok(())
    }

    /// A restart right after this one, and one after a power cut right after this one, must both
    /// find what this one serves.
    pub(super) fn check_second_recovery(&mut self) -> Checked {
        let cut = CrashPlan {
            writes: WriteFate::Lost,
            names: NameFate::Lost,
            seed: 0,
        };
        let (killed, crashed) = (self.disk.fork(), self.disk.fork());
        killed.kill();
        crashed.crash(cut);
        let reference = self.disk.fork();
        reference.kill();
        let served = self.contents_of(&reference)?;
        for (disk, how) in [(killed, "kill"), (crashed, "power cut")] {
            drop(self.contents_of(&disk)?);
            disk.kill();
            if self.contents_of(&disk)? != served {
                return Err(format!(
                    "a {how} right after recovery changes what is served"
                ));
            }
        }
        Ok(())
    }

    fn contents_of(&self, disk: &SimulatedDisk) -> Result<String, String> {
        let entropy = node::entropy(self.plan.seed, &Arc::default());
        let opened = node::open(disk, Mutation::None, self.options, entropy);
        let (collections, _) = opened.map_err(|error| format!("the next start fails: {error}"))?;
        contents(collections.filters()).map_err(|error| format!("after the next start: {error}"))
    }

    /// A node that no longer writes still answers what it acknowledged, and takes nothing.
    pub(super) fn check_read_only(&mut self) -> Checked {
        let filters = self.filters()?;
        for handle in filters.list(b"") {
            let before = answers(filters, &handle);
            let key = key_bytes(self.plan.seed % KEYS);
            let mut scratch = Scratch::default();
            let set = filters.set(&handle, &[&key], &mut scratch);
            if set
                .and_then(|position| Ok(filters.journal().commit(position)?))
                .is_ok()
                && handle.storage() == Storage::Durable
                && before
                    .as_ref()
                    .is_ok_and(|(found, _)| !found[(self.plan.seed % KEYS) as usize])
            {
                return Err("a read-only node acknowledged a new key".to_owned());
            }
            if let (Ok((before, _)), Ok((after, position))) = (before, answers(filters, &handle))
                && before != after
                && filters.journal().commit(position).is_ok()
            {
                return Err("a read-only node acknowledged a key it had refused".to_owned());
            }
        }
        Ok(())
    }

    /// Sequence numbers grow along the log, over all restarts.
    pub(super) fn check_sequences(&mut self) -> Checked {
        let disk = self.disk.fork();
        disk.kill();
        let id = self.filters()?.identity().origin.bytes();
        let names = disk.list(LOG_DIR).map_err(|error| error.to_string())?;
        let first = names
            .iter()
            .find_map(|name| name.strip_suffix(".log")?.parse().ok())
            .ok_or("a log without segments")?;
        let opened = Log::open(Arc::new(disk), LOG_DIR, id, self.options.log, first);
        let (log, _) = opened.map_err(|error| error.to_string())?;
        let (mut last, mut wrong) = (BTreeMap::new(), None);
        let read = log.read_from(first, |position, entry| match EntryHeader::decode(entry) {
            Ok((header, _))
                if last
                    .get(&header.stream)
                    .is_none_or(|last| header.dot.sequence > *last) =>
            {
                last.insert(header.stream, header.dot.sequence);
                ControlFlow::Continue(())
            }
            other => {
                wrong = Some(format!("at {position} after {last:?}: {other:?}"));
                ControlFlow::Break(())
            }
        });
        read.map_err(|error| error.to_string())?;
        wrong.map_or(Ok(()), |what| Err(format!("sequence numbers: {what}")))
    }

    /// All memory comes back when everything is unloaded or dropped.
    pub(super) fn check_memory(&mut self) -> Checked {
        let filters = self.filters()?;
        let mut dropped: Vec<FilterId> = Vec::new();
        let mut last = 0;
        for handle in filters.list(b"") {
            let result = if handle.storage() == Storage::Memory {
                dropped.push(handle.id());
                filters.drop_filter(&handle).map(|position| last = position)
            } else {
                filters.unload(&handle)
            };
            result.map_err(|error| format!("cannot unload: {error}"))?;
        }
        // Hidden filters that the log's tail loaded are in memory too; showing them is undone.
        for name in self.ledger.hidden() {
            last = last.max(self.unload_hidden(&name)?);
        }
        let filters = self.filters()?;
        filters
            .journal()
            .sync()
            .map_err(|error| error.to_string())?;
        let used = filters.memory().used();
        if used > 0 {
            return Err(format!("{used} bytes are taken by nothing"));
        }
        self.ledger.change(last, |names| {
            names.retain(|_, (id, _)| !dropped.contains(id))
        });
        (self.ledger.committed, self.ledger.synced) = (last, last);
        Ok(())
    }

    fn unload_hidden(&self, name: &[u8]) -> Result<u64, String> {
        let filters = self.filters()?;
        let failed = |error: FilterError| format!("a hidden filter: {error}");
        let new = super::workload::smallest();
        let created = filters
            .create(name, new, Recreation::AtOnce)
            .map_err(failed)?;
        let handle = filters.get(name).ok_or("a shown filter does not answer")?;
        if matches!(created, Creation::Created(_)) {
            // It was hidden in another past only.
            return filters.drop_filter(&handle).map_err(failed);
        }
        filters.unload(&handle).map_err(failed)?;
        let position = filters.hide(&handle).map_err(failed)?;
        position.ok_or_else(|| "an unloaded filter cannot be hidden".to_owned())
    }
}
