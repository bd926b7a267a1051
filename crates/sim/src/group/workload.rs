//! What users do, on any node.

use std::sync::Arc;

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::Outcome as KeyOutcome;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::version::Dot;
use grapevine_store::collections::Collections;
use grapevine_store::filters::{Creation, FilterError, Handle, NewFilter, Recreation, Scratch};

use super::ledger::Ack;
use super::mutant::{GroupMutation, ignore_rights};
use super::{Checked, World};
use crate::branch::Branch;

/// Keys are the numbers below this.
pub(super) const KEYS: u64 = 400;
/// Names of filters.
const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
/// Small enough that no seed meets a false positive by chance.
const ERROR: f64 = 1e-9;
/// Steps in a hundred on which something fails.
const FAILS_PERCENT: u64 = 15;

pub(super) fn key_bytes(key: u64) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

/// A filter's file, and the keys in it.
type Exported = (Vec<u8>, Vec<u64>);

impl World {
    /// One step of the workload.
    pub(super) fn step(&mut self) -> Checked {
        if self.random.below(100) < FAILS_PERCENT {
            self.fail()?;
        }
        self.tamper()?;
        self.mend()?;
        let node = self.random.below(self.nodes.len() as u64) as usize;
        if !self.nodes[node].is_up() || self.is_forked(node) {
            return Ok(());
        }
        match self.random.below(124) {
            0..50 => self.set(node)?,
            50..55 => self.set_bits(node)?,
            55..67 => self.create(node)?,
            67..71 => self.drop_filter(node)?,
            71..77 => self.check_node(node)?,
            77..85 => self.checkpoint(node)?,
            85..88 => self.unload(node)?,
            88..92 => self.copy_filter(node)?,
            92..95 => self.merge_filter(node)?,
            95..97 => self.change_member(node)?,
            97..100 => self.flush(node)?,
            _ => self.change_table(node)?,
        }
        self.change_lease(node)?;
        self.change_switches(node)?;
        if self.plan.mutation == GroupMutation::RightsIgnored {
            self.ignore_all_rights();
        }
        self.changed(node);
        self.handle_all(node, &grapevine_core::sync::Input::Advanced)
    }

    fn ignore_all_rights(&self) {
        for running in self.nodes.iter().filter_map(|node| node.running.as_ref()) {
            for handle in running.collections.filters().list(b"") {
                if let Some(filter) = handle.in_memory() {
                    ignore_rights(&filter, running.origin);
                }
            }
        }
    }

    /// The collections of a node that runs.
    pub(super) fn collections(&self, node: usize) -> Arc<Collections> {
        let running = self.nodes[node].running.as_ref();
        Arc::clone(&running.expect("the node runs").collections)
    }

    /// An operation of a node at or after its last one.
    fn last_dot(&self, node: usize) -> Dot {
        let collections = self.collections(node);
        let origin = collections.journal().origin();
        Dot {
            origin,
            sequence: collections.journal().applied().get(origin),
        }
    }

    /// Waits until a reply may be given, and gives the acknowledgement.
    pub(super) fn acknowledge(&mut self, node: usize, position: u64) -> Result<Ack, String> {
        let collections = self.collections(node);
        let settled = if self.random.one_in(8) {
            collections.journal().sync().map(drop)
        } else {
            collections.journal().commit(position)
        };
        settled.map_err(|error| error.to_string())?;
        let ack = Ack::new(node, position, self.last_dot(node));
        Ok(ack)
    }

    fn any_filter(&mut self, node: usize) -> Option<Arc<Handle>> {
        let handles = self.collections(node).filters().list(b"");
        let handle = self.random.pick(&handles).cloned()?;
        let damaged = |id| self.is_healing(node, id);
        let also = handle.also();
        // A client is told that it is damaged.
        (!damaged(handle.id()) && !also.iter().any(|other| damaged(other.id()))).then_some(handle)
    }

    fn create(&mut self, node: usize) -> Checked {
        let name = *self.random.pick(&NAMES).unwrap_or(&NAMES[0]);
        let growth = if self.random.one_in(8) {
            Growth::Fixed
        } else {
            Growth::By(1 + self.random.below(3) as u32)
        };
        let new = NewFilter {
            parameters: Parameters {
                capacity: 10 + self.random.below(60),
                error: ERROR,
                growth,
            },
            storage: if self.random.one_in(5) {
                Storage::Memory
            } else {
                Storage::Durable
            },
            seed: None,
            scope: if self.random.one_in(10) {
                Scope::Local
            } else {
                Scope::Group
            },
        };
        let collections = self.collections(node);
        let created = collections.filters().create(name, new, Recreation::AtOnce);
        if let Err(error) = &created
            && self.is_refused(node, error)
        {
            return Ok(());
        }
        match created.map_err(|error| format!("create: {error}"))? {
            Creation::Created(position) => {
                let id = collections
                    .filters()
                    .get(name)
                    .ok_or("a new filter does not answer")?;
                let ack = self.acknowledge(node, position)?;
                self.note(|| format!("create {} {} on {node}", name.escape_ascii(), id.id()));
                if new.scope == Scope::Group {
                    let epoch = self.ledger.epoch(id.id(), name);
                    epoch.created = Some(ack);
                    epoch.in_memory = new.storage == Storage::Memory;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn drop_filter(&mut self, node: usize) -> Checked {
        let Some(handle) = self.any_filter(node) else {
            return Ok(());
        };
        let ids: Vec<_> = std::iter::once(handle.id())
            .chain(handle.also().iter().map(|other| other.id()))
            .collect();
        let dropped = self.collections(node).filters().drop_filter(&handle);
        let position = dropped.map_err(|error| format!("drop: {error}"))?;
        let ack = self.acknowledge(node, position)?;
        self.note(|| format!("drop {ids:?} on {node}"));
        self.ledger.dropped_names.insert(handle.name().to_vec());
        for id in ids {
            let epoch = self.ledger.epoch(id, handle.name());
            epoch.may_be_dropped = true;
            epoch.dropped.push(ack);
        }
        Ok(())
    }

    fn set(&mut self, node: usize) -> Checked {
        let Some(handle) = self.any_filter(node) else {
            return self.create(node);
        };
        let count = 1 + self.random.below(12);
        let keys: Vec<u64> = (0..count).map(|_| self.random.below(KEYS)).collect();
        let bytes: Vec<Vec<u8>> = keys.iter().map(|key| key_bytes(*key)).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let mut scratch = Scratch::default();
        let collections = self.collections(node);
        if handle.scope() == Scope::Group {
            self.ledger
                .epoch(handle.id(), handle.name())
                .attempted
                .extend(&keys);
        }
        let layers = handle.summary().layers;
        let set = collections.filters().set(&handle, &slices, &mut scratch);
        if let Err(error) = &set
            && self.is_refused(node, error)
        {
            return Ok(());
        }
        let position = set.map_err(|error| format!("set: {error}"))?;
        let ack = self.acknowledge(node, position)?;
        if handle.summary().layers > layers {
            self.hit(Branch::LayerOpened);
        }
        self.note(|| {
            format!(
                "set {keys:?} in {} on {node}: {:?}",
                handle.id(),
                scratch.outcomes()
            )
        });
        if handle.scope() == Scope::Local {
            return Ok(());
        }
        let life = self.nodes[node].life;
        for (key, outcome) in keys.iter().zip(scratch.outcomes()) {
            match outcome {
                KeyOutcome::New if handle.storage() == Storage::Memory => {
                    let epoch = self.ledger.epoch(handle.id(), handle.name());
                    epoch.volatile.push((node, life, *key));
                }
                KeyOutcome::New => {
                    let epoch = self.ledger.epoch(handle.id(), handle.name());
                    epoch.keys.entry(*key).or_default().push(ack);
                }
                KeyOutcome::Full => self.hit(Branch::FilterFull),
                KeyOutcome::Seen => {}
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, node: usize) -> Checked {
        let whole = self.take_checkpoint(node);
        let whole = whole.map_err(|error| format!("checkpoint: {error}"))?;
        self.note(|| format!("checkpoint on {node}: {whole}"));
        self.note_synced(node);
        Ok(())
    }

    fn unload(&mut self, node: usize) -> Checked {
        match self.any_filter(node) {
            Some(handle) => {
                self.note(|| format!("unload {} on {node}", handle.id()));
                let unloaded = self.collections(node).filters().unload(&handle);
                unloaded.map_err(|error| format!("unload: {error}"))
            }
            None => Ok(()),
        }
    }

    fn flush(&mut self, node: usize) -> Checked {
        self.note(|| format!("tidy {node}"));
        let now = self.nodes[node].clock(self.now) / 1000;
        let tidied = self.collections(node).filters().tidy(now);
        tidied.map(drop).map_err(|error| format!("tidy: {error}"))
    }

    /// A filter of any node is exported and imported under another name.
    fn copy_filter(&mut self, node: usize) -> Checked {
        let Some((bytes, keys)) = self.exported()? else {
            return Ok(());
        };
        let name = *self.random.pick(&NAMES).unwrap_or(&NAMES[0]);
        let collections = self.collections(node);
        let imported = collections.filters().import(name, &mut &bytes[..]);
        if let Err(error) = &imported
            && self.is_refused(node, error)
        {
            return Ok(());
        }
        let Creation::Created(position) = imported.map_err(|error| format!("import: {error}"))?
        else {
            return Ok(());
        };
        let handle = collections
            .filters()
            .get(name)
            .ok_or("an import does not answer")?;
        let ack = self.acknowledge(node, position)?;
        self.note(|| format!("import {} on {node}", handle.id()));
        self.hit(Branch::Imported);
        self.ledger.epoch(handle.id(), handle.name()).created = Some(ack);
        self.enter_found(&handle, &keys, ack);
        Ok(())
    }

    /// A filter of any node is exported and merged into one of the same parameters.
    fn merge_filter(&mut self, node: usize) -> Checked {
        let (Some(handle), Some((bytes, keys))) = (self.any_filter(node), self.exported()?) else {
            return Ok(());
        };
        let collections = self.collections(node);
        self.ledger
            .epoch(handle.id(), handle.name())
            .attempted
            .extend(&keys);
        let merged = collections.filters().merge(&handle, &mut &bytes[..]);
        let position = match merged {
            Ok((_, position)) => position,
            Err(FilterError::Unlike { .. } | FilterError::InMemory) => return Ok(()),
            Err(error) if self.is_refused(node, &error) => return Ok(()),
            Err(error) => return Err(format!("merge: {error}")),
        };
        let ack = self.acknowledge(node, position)?;
        self.note(|| format!("merge into {} on {node}", handle.id()));
        self.hit(Branch::Merged);
        if handle.scope() == Scope::Local {
            return Ok(());
        }
        self.enter_found(&handle, &keys, ack);
        Ok(())
    }

    /// A filter of any node as a file, and the keys in it.
    fn exported(&mut self) -> Result<Option<Exported>, String> {
        let from = self.random.below(self.nodes.len() as u64) as usize;
        if !self.nodes[from].is_up() {
            return Ok(None);
        }
        let Some(handle) = self.any_filter(from) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let exported = self.collections(from).filters().export(&handle, &mut bytes);
        if let Err(error) = &exported
            && self.is_refused(from, error)
        {
            return Ok(None);
        }
        exported
            .map_err(|error| format!("export: {error}"))?
            .map_err(|error| format!("export: {error}"))?;
        let alone = handle.in_memory().ok_or("the filter is not in memory")?;
        let inside = |key: &u64| alone.contains(alone.key(&key_bytes(*key)));
        Ok(Some((bytes, (0..KEYS).filter(inside).collect())))
    }

    /// What is in a file was acknowledged with it.
    fn enter_found(&mut self, handle: &Handle, keys: &[u64], ack: Ack) {
        let epoch = self.ledger.epoch(handle.id(), handle.name());
        for key in keys {
            epoch.attempted.insert(*key);
            epoch.keys.entry(*key).or_default().push(ack);
        }
    }
}
