//! What users ask for, drawn at random.

use std::io::ErrorKind;
use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, Scope, Storage};
use grapevine_core::filter::Outcome;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::collections::Collections;
use grapevine_store::disk::{Disk, Operation};
use grapevine_store::filters::{
    Creation, FilterError, Filters, Handle, NewFilter, Recreation, Scratch,
};
use grapevine_store::log::Position;

use super::{Checked, Durability, World};
use crate::branch::Branch;
use crate::ledger::{Epoch, Member};
use crate::node::Mutation;

/// Keys of a world.
pub(super) const KEYS: u64 = 120;
/// Names of filters.
const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
/// So unlikely that one false positive is a violation.
const ERROR: f64 = 1e-9;
/// Exported filters kept for later.
const EXPORTS_MAX: usize = 4;

/// A filter in a file, and what was in it.
pub(super) struct Export {
    bytes: Vec<u8>,
    id: FilterId,
    epoch: Epoch,
}

/// The bytes of a key.
pub(super) fn key_bytes(key: u64) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}

/// The smallest filter.
pub(super) fn smallest() -> NewFilter {
    NewFilter {
        parameters: Parameters {
            capacity: 4,
            error: ERROR,
            growth: Growth::By(2),
        },
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    }
}

impl World {
    /// One drawn step.
    pub(super) fn step(&mut self) -> Checked {
        match self.random.below(100) {
            0..8 => self.create(),
            8..42 => self.set(),
            42..52 => self.check(),
            52..56 => self.drop_filter(),
            56..59 => self.hide(),
            59..64 => self.on_one("unload", |world, handle| world.filters_ref().unload(handle)),
            64..67 => self.on_one("flush", |world, handle| world.filters_ref().flush(handle)),
            67..74 => self.checkpoint(),
            74..78 => self.tidy(),
            78..80 => self.export(),
            80..82 => self.import(),
            82..86 => self.merge(),
            86..90 => self.sync(),
            90..93 => self.kill(),
            93..97 => {
                let nth = self.random.below(30);
                self.note(format!("the power goes at operation {nth}"));
                self.disk.cut_power_at_operation(nth);
                Ok(())
            }
            97..99 => self.plan_failure(),
            _ => self.fill_disk(),
        }
    }

    /// The filters of a node that is known to run.
    fn collections_ref(&self) -> &Collections {
        self.collections
            .as_ref()
            .expect("steps are taken by a node that runs")
    }

    fn filters_ref(&self) -> &Filters {
        self.collections_ref().filters()
    }

    fn handle(&mut self) -> Option<Arc<Handle>> {
        let handles = self.filters_ref().list(b"");
        self.random.pick(&handles).cloned()
    }

    /// Waits as long as the node promises for `position`, then notes what is safe.
    fn acknowledge(&mut self, position: Position) -> Result<(), FilterError> {
        if self.plan.mutation == Mutation::AcknowledgedEarly {
            self.ledger.committed = self.ledger.committed.max(position);
            return Ok(());
        }
        self.filters_ref().journal().commit(position)?;
        self.ledger.committed = self.ledger.committed.max(position);
        if self.durability == Durability::Always {
            self.synced()?;
        }
        Ok(())
    }

    fn synced(&mut self) -> Result<(), FilterError> {
        let appended = self.filters_ref().journal().appended();
        self.filters_ref().journal().sync()?;
        self.ledger.committed = self.ledger.committed.max(appended);
        self.ledger.synced = self.ledger.synced.max(appended);
        Ok(())
    }

    fn answered<T>(
        &mut self,
        what: &str,
        result: Result<T, FilterError>,
    ) -> Result<Option<T>, String> {
        match result {
            Ok(answer) => Ok(Some(answer)),
            Err(FilterError::Memory(_)) => {
                self.hit(Branch::OverMemory);
                Ok(None)
            }
            Err(FilterError::Damaged(reason)) if self.fault.is_none() && !self.disk.is_down() => {
                Err(format!("{what}: damaged: {reason}"))
            }
            Err(error) => {
                self.failed(what, &error.to_string())?;
                Ok(None)
            }
        }
    }

    fn create(&mut self) -> Checked {
        let name = NAMES[self.random.below(4) as usize];
        let growth = match self.random.below(5) {
            0 => Growth::Fixed,
            factor => Growth::By(factor as u32),
        };
        let new = NewFilter {
            parameters: Parameters {
                capacity: 4 + 4 * self.random.below(4),
                error: ERROR,
                growth,
            },
            storage: if self.random.one_in(8) {
                Storage::Memory
            } else {
                Storage::Durable
            },
            seed: None,
            scope: Scope::Group,
        };
        let recreation =
            [Recreation::AtOnce, Recreation::WhenReclaimed][self.random.below(2) as usize];
        self.note(format!(
            "create {:?} {new:?}",
            String::from_utf8_lossy(name)
        ));
        let created = self.filters_ref().create(name, new, recreation);
        let Some(created) = self.answered("create", created)? else {
            return Ok(());
        };
        self.created(
            name,
            created,
            Epoch::new(new.storage, growth == Growth::Fixed),
        )
    }

    /// Notes what a creation or an import did, and acknowledges it.
    fn created(&mut self, name: &[u8], created: Creation, epoch: Epoch) -> Checked {
        let now = self.filters_ref().get(name).map(|handle| handle.id());
        self.note(format!("  {created:?}"));
        let was = |before| self.ledger.may_be(name, before);
        let position = match (created, now) {
            (Creation::Created(position), Some(id)) if was(None) => {
                self.ledger.epochs.insert(id, epoch);
                self.ledger.change(position, |names| {
                    _ = names.insert(name.to_vec(), (id, false))
                });
                position
            }
            (Creation::Shown(position), Some(id)) if was(Some((id, true))) => {
                self.hit(Branch::Shown);
                self.ledger.change(position, |names| {
                    _ = names.insert(name.to_vec(), (id, false))
                });
                position
            }
            (Creation::Exists(position), Some(id)) if was(Some((id, false))) => position,
            // An import does not show what is hidden.
            (Creation::Exists(position), None) if self.ledger.may_be_hidden(name) => position,
            (Creation::Reclaiming, None) if was(None) => return Ok(()),
            other => return Err(format!("{name:?}: impossible answer {other:?}")),
        };
        let acknowledged = self.acknowledge(position);
        self.answered("create", acknowledged).map(drop)
    }

    fn set(&mut self) -> Checked {
        let Some(handle) = self.handle() else {
            return Ok(());
        };
        let from = self.random.below(KEYS);
        let length = 1 + self.random.below(24);
        let keys: Vec<u64> = (from..from + length).map(|key| key % KEYS).collect();
        let bytes: Vec<Vec<u8>> = keys.iter().map(|key| key_bytes(*key)).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        self.note(format!("set {:?} {from}+{length}", handle.name()));
        if !handle.is_loaded() {
            self.hit(Branch::PagedIn);
        }
        let layers = handle.summary().layers;
        let segments = self.filters_ref().journal().log_counts().segments;
        let mut scratch = Scratch::default();
        let set = self.filters_ref().set(&handle, &slices, &mut scratch);
        let Ok(position) = set else {
            if let Some(epoch) = self.ledger.epochs.get_mut(&handle.id()) {
                epoch.attempt(&keys);
            }
            // A filter can have only so many layers.
            if let Err(FilterError::Parameters(_)) = set {
                return Ok(());
            }
            self.answered("set", set)?;
            return Ok(());
        };
        self.outcomes(&handle, &keys, scratch.outcomes(), position)?;
        if layers > 0 && handle.summary().layers > layers {
            self.since_snapshot.push(Branch::LayerReplayed);
        }
        let acknowledged = self.acknowledge(position);
        if self.filters_ref().journal().log_counts().segments > segments {
            self.hit(Branch::SegmentBegun);
        }
        self.answered("set", acknowledged).map(drop)
    }

    fn outcomes(
        &mut self,
        handle: &Handle,
        keys: &[u64],
        outcomes: &[Outcome],
        position: Position,
    ) -> Checked {
        let mut full = 0;
        let epoch = self
            .ledger
            .epochs
            .get_mut(&handle.id())
            .ok_or("a set of no filter")?;
        for (key, outcome) in keys.iter().zip(outcomes) {
            let known = epoch.members.contains_key(key);
            let doubt = epoch.doubt.remove(key);
            match outcome {
                Outcome::New if !known => {
                    epoch.attempted.insert(*key);
                    epoch.inserted_max = epoch.inserted_max.saturating_add(1);
                    epoch.members.insert(
                        *key,
                        Member {
                            position,
                            counted: true,
                        },
                    );
                }
                Outcome::Seen if known => {}
                Outcome::Seen if doubt => {
                    epoch.members.insert(
                        *key,
                        Member {
                            position,
                            counted: false,
                        },
                    );
                }
                Outcome::Full if epoch.fixed && !known => full += 1,
                other => {
                    return Err(format!(
                        "{:?}: key {key} is {other:?}, known: {known}",
                        handle.name()
                    ));
                }
            }
        }
        if full > 0 {
            self.hit(Branch::FilterFull);
        }
        Ok(())
    }

    fn check(&mut self) -> Checked {
        let Some(handle) = self.handle() else {
            return Ok(());
        };
        self.note(format!("check {:?}", handle.name()));
        self.check_filter(&handle)?;
        let acknowledged = self.acknowledge(self.filters_ref().journal().appended());
        self.answered("check", acknowledged).map(drop)
    }

    fn drop_filter(&mut self) -> Checked {
        let Some(handle) = self.handle() else {
            return Ok(());
        };
        self.note(format!("drop {:?}", handle.name()));
        let dropped = self.filters_ref().drop_filter(&handle);
        let Some(position) = self.answered("drop", dropped)? else {
            return Ok(());
        };
        self.ledger
            .change(position, |names| _ = names.remove(handle.name()));
        self.since_snapshot.push(Branch::DropReplayed);
        self.reclaimable = true;
        let acknowledged = self.acknowledge(position);
        self.answered("drop", acknowledged).map(drop)
    }

    fn hide(&mut self) -> Checked {
        let Some(handle) = self.handle() else {
            return Ok(());
        };
        self.note(format!("hide {:?}", handle.name()));
        let hidden = self
            .filters_ref()
            .unload(&handle)
            .and_then(|()| self.filters_ref().hide(&handle));
        let Some(Some(position)) = self.answered("hide", hidden)? else {
            return Ok(());
        };
        self.ledger.change(position, |names| {
            names.insert(handle.name().to_vec(), (handle.id(), true));
        });
        let acknowledged = self.acknowledge(position);
        self.answered("hide", acknowledged).map(drop)
    }

    fn on_one(
        &mut self,
        what: &str,
        act: impl FnOnce(&Self, &Handle) -> Result<(), FilterError>,
    ) -> Checked {
        let Some(handle) = self.handle() else {
            return Ok(());
        };
        self.note(format!("{what} {:?}", handle.name()));
        let done = act(self, &handle);
        self.answered(what, done).map(drop)
    }

    fn checkpoint(&mut self) -> Checked {
        self.note("snapshot".to_owned());
        let appended = self.filters_ref().journal().appended();
        let taken = self.collections_ref().checkpoint();
        if taken.is_err() {
            self.hit(Branch::SnapshotAhead);
        }
        if self.answered("snapshot", taken)?.is_some() {
            self.since_snapshot.clear();
            self.ledger.synced = self.ledger.synced.max(appended);
            self.ledger.committed = self.ledger.committed.max(appended);
        }
        Ok(())
    }

    fn tidy(&mut self) -> Checked {
        self.now += 1;
        self.note(format!("tidy {}", self.now));
        let tidied = self.filters_ref().tidy(self.now);
        if let Some(clearance) = self.answered("tidy", tidied)?
            && clearance.reclaimed > 0
        {
            self.reclaimable = false;
            self.hit(Branch::Reclaimed);
        }
        Ok(())
    }

    fn export(&mut self) -> Checked {
        let Some(handle) = self.handle() else {
            return Ok(());
        };
        // Settles what is in doubt: a copy is of something known.
        self.check_filter(&handle)?;
        let mut bytes = Vec::new();
        let exported = self.filters_ref().export(&handle, &mut bytes);
        self.note(format!("export {:?}", handle.name()));
        let Some(written) = self.answered("export", exported)? else {
            return Ok(());
        };
        written.map_err(|error| error.to_string())?;
        let epoch = self
            .ledger
            .epochs
            .get(&handle.id())
            .ok_or("an export of no filter")?;
        let (id, mut epoch) = (handle.id(), epoch.clone());
        if epoch.storage == Storage::Memory {
            // What was drawn counts as spent.
            epoch.inserted_max = u64::MAX;
        }
        self.exports.truncate(EXPORTS_MAX - 1);
        self.exports.insert(0, Export { bytes, id, epoch });
        Ok(())
    }

    fn import(&mut self) -> Checked {
        let Some(export) = self.random.pick(&self.exports) else {
            return Ok(());
        };
        let (bytes, mut epoch) = (export.bytes.clone(), export.epoch.clone());
        let name = NAMES[self.random.below(4) as usize];
        self.note(format!("import {:?}", String::from_utf8_lossy(name)));
        let imported = self.filters_ref().import(name, &mut &bytes[..]);
        let Some(created) = self.answered("import", imported)? else {
            return Ok(());
        };
        epoch.storage = Storage::Durable;
        if let Creation::Created(position) = created {
            epoch
                .members
                .values_mut()
                .for_each(|member| member.position = position);
            self.since_snapshot.push(Branch::TransferReplayed);
            self.hit(Branch::Imported);
        }
        self.created(name, created, epoch)
    }

    fn merge(&mut self) -> Checked {
        let Some(handle) = self.handle() else {
            return Ok(());
        };
        let Some(export) = self.random.pick(&self.exports) else {
            return Ok(());
        };
        let (bytes, from, id) = (export.bytes.clone(), export.epoch.clone(), export.id);
        self.note(format!("merge {id:?} into {:?}", handle.name()));
        let merged = self.filters_ref().merge(&handle, &mut &bytes[..]);
        if let Err(FilterError::Unlike { .. } | FilterError::InMemory) = merged {
            return Ok(());
        }
        let epoch = self
            .ledger
            .epochs
            .get_mut(&handle.id())
            .ok_or("a merge into no filter")?;
        epoch.inserted_max = epoch.inserted_max.saturating_add(from.inserted_max);
        let keys: Vec<u64> = from.members.keys().copied().collect();
        let Ok((what, position)) = merged else {
            epoch.attempt(&keys);
            return self.answered("merge", merged).map(drop);
        };
        for key in keys {
            epoch.attempted.insert(key);
            epoch.doubt.remove(&key);
            let counted = false;
            epoch
                .members
                .entry(key)
                .or_insert(Member { position, counted });
        }
        epoch.attempted.extend(&from.attempted);
        epoch.doubt.extend(
            from.doubt
                .iter()
                .filter(|key| !epoch.members.contains_key(key)),
        );
        self.note(format!("  {what:?}"));
        if what.adopted > 0 {
            self.hit(Branch::Adopted);
        }
        if what.merged > 0 {
            self.hit(Branch::MergedInPlace);
        }
        self.since_snapshot.push(Branch::TransferReplayed);
        let acknowledged = self.acknowledge(position);
        self.answered("merge", acknowledged).map(drop)
    }

    fn sync(&mut self) -> Checked {
        if self.durability == Durability::Os && self.random.one_in(2) {
            return Ok(());
        }
        self.note("sync".to_owned());
        let synced = self.synced();
        self.answered("sync", synced).map(drop)
    }

    fn plan_failure(&mut self) -> Checked {
        let kinds = [
            Operation::Create,
            Operation::CreateDir,
            Operation::Remove,
            Operation::Rename,
            Operation::SetLen,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Write,
        ];
        let operation = kinds[self.random.below(kinds.len() as u64) as usize];
        let nth = self.random.below(6);
        if self.fault.is_none() {
            self.note(format!("{operation:?} {nth} will fail"));
            self.disk.fail_next(operation, nth, ErrorKind::Other);
            self.fault = Some(operation);
        }
        Ok(())
    }

    fn fill_disk(&mut self) -> Checked {
        let free = self.disk.free_space();
        let room = self.random.below(400);
        if let (Ok(free), false) = (free, self.disk_full) {
            self.note(format!("room for {room} bytes is left"));
            self.disk
                .set_capacity((u64::MAX - free).saturating_add(room));
            self.disk_full = true;
        }
        Ok(())
    }
}
