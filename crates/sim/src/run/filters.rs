//! The steps of a workload that make, change and remove filters.

use grapevine_core::catalogue::Storage;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::filters::{Creation, FilterError, NewFilter, Recreation};

use super::{ERROR, NAMES, Run, Step, Stop, name_bytes};
use crate::ledger::{Change, Key};

impl Run {
    pub(super) fn create(&mut self) -> Step<()> {
        let name = self.chance.below(NAMES);
        let capacity = self.chance.pick(&[1, 5, 20, 60, 200]);
        let growth = match self.chance.below(6) {
            0 => Growth::Fixed,
            factor => Growth::By(factor.min(4) as u32),
        };
        let storage = if self.chance.once_in(6) {
            Storage::Memory
        } else {
            Storage::Durable
        };
        let parameters = Parameters {
            capacity,
            error: ERROR,
            growth,
        };
        let new = NewFilter {
            parameters,
            storage,
            seed: None,
        };
        let created = self
            .filters
            .create(&name_bytes(name), new, Recreation::AtOnce);
        let Some(created) = self.settled(created)? else {
            return Ok(());
        };
        self.note(|| format!("create {name} {new:?}: {created:?}"));
        match (created, self.ledger.named(name)) {
            (Creation::Created(position), None) => {
                let volatile = storage == Storage::Memory;
                let epoch = self.next_epoch;
                self.next_epoch += 1;
                self.ledger.enter(
                    position,
                    Change::Create {
                        name,
                        epoch,
                        volatile,
                    },
                );
                Ok(())
            }
            (Creation::Shown(position), Some(epoch)) => {
                self.branch("filter shown again");
                self.ledger.enter(position, Change::Show(epoch));
                Ok(())
            }
            (Creation::Exists(_), Some(epoch)) if self.ledger.visible(name) == Some(epoch) => {
                Ok(())
            }
            (created, named) => {
                self.violation(format!("create {name}: {created:?}, had {named:?}"))
            }
        }
    }

    pub(super) fn drop(&mut self) -> Step<()> {
        let Some((epoch, handle)) = self.handle()? else {
            return Ok(());
        };
        let dropped = self.filters.drop_filter(&handle);
        self.note(|| format!("drop {epoch}: {dropped:?}"));
        if let Some(position) = self.settled(dropped)? {
            self.ledger.enter(position, Change::Drop(epoch));
        }
        Ok(())
    }

    pub(super) fn unload(&mut self) -> Step<()> {
        let Some((epoch, handle)) = self.handle()? else {
            return Ok(());
        };
        let unloaded = self.filters.unload(&handle);
        self.note(|| format!("unload {epoch}: {unloaded:?}"));
        self.settled(unloaded)?;
        if !handle.is_loaded() {
            self.branch("filter unloaded");
        }
        Ok(())
    }

    pub(super) fn clear(&mut self) -> Step<()> {
        let Some((epoch, handle)) = self.handle()? else {
            return Ok(());
        };
        let hidden = self.filters.hide(&handle);
        self.note(|| format!("clear {epoch}: {hidden:?}"));
        if let Some(Some(position)) = self.settled(hidden)? {
            self.branch("filter cleared");
            self.ledger.enter(position, Change::Hide(epoch));
        }
        Ok(())
    }

    /// Exports a filter and imports it under another name, or merges it into one like it.
    pub(super) fn transfer(&mut self) -> Step<()> {
        let Some((epoch, handle)) = self.handle()? else {
            return Ok(());
        };
        let mut file = Vec::new();
        match self.filters.export(&handle, &mut file) {
            Ok(Ok(())) => {}
            _ if self.faulted => return Err(Stop::Failed),
            other => return self.violation(format!("export of {epoch}: {other:?}")),
        }
        let keys: Vec<Key> = self
            .ledger
            .filters
            .get(&epoch)
            .map(|filter| filter.keys.iter().copied().collect())
            .unwrap_or_default();
        let unsure: Vec<Key> = self
            .ledger
            .uncertain
            .iter()
            .filter(|(of, _)| *of == epoch)
            .map(|(_, key)| *key)
            .collect();
        let Some((into, target)) = self.handle()? else {
            return self.import(&file, keys, &unsure);
        };
        let merged = self.filters.merge(&target, &mut &file[..]);
        self.note(|| format!("merge {epoch} into {into}: {merged:?}"));
        match merged {
            Ok((_, position)) => {
                self.branch("filter merged");
                self.ledger
                    .uncertain
                    .extend(unsure.iter().map(|key| (into, *key)));
                self.ledger.enter(position, Change::Keys(into, keys));
                Ok(())
            }
            Err(FilterError::Unlike { .. } | FilterError::InMemory) => Ok(()),
            Err(FilterError::ReadOnly(_)) => {
                self.ledger
                    .uncertain
                    .extend(keys.iter().chain(&unsure).map(|key| (into, *key)));
                Err(Stop::Failed)
            }
            Err(_) if self.faulted => Err(Stop::Failed),
            Err(error) => self.violation(format!("merge: {error}")),
        }
    }

    fn import(&mut self, file: &[u8], keys: Vec<Key>, unsure: &[Key]) -> Step<()> {
        let free = (0..NAMES).find(|name| self.ledger.named(*name).is_none());
        let Some(name) = free else { return Ok(()) };
        let imported = self.filters.import(&name_bytes(name), &mut &file[..]);
        self.note(|| format!("import {name}: {imported:?}"));
        if let Some(Creation::Created(position)) = self.settled(imported)? {
            self.branch("filter exported and imported");
            let epoch = self.next_epoch;
            self.next_epoch += 1;
            self.ledger.enter(
                position,
                Change::Create {
                    name,
                    epoch,
                    volatile: false,
                },
            );
            self.ledger.enter(position, Change::Keys(epoch, keys));
            self.ledger
                .uncertain
                .extend(unsure.iter().map(|key| (epoch, *key)));
        }
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) -> Step<()> {
        let taken = self.filters.checkpoint();
        self.note(|| format!("checkpoint: {taken:?}"));
        self.settled(taken)?;
        self.branch("checkpoint");
        Ok(())
    }

    pub(super) fn commit_or_sync(&mut self) -> Step<()> {
        if self.chance.once_in(2) {
            let committed = self.filters.commit(self.filters.appended());
            self.settled(committed)?;
        } else {
            let synced = self.filters.sync();
            self.settled(synced)?;
        }
        if self.chance.once_in(3) {
            let marked = self.filters.mark_synced();
            self.settled(marked)?;
        }
        Ok(())
    }

    pub(super) fn tidy(&mut self) -> Step<()> {
        self.clock += self.chance.below(30);
        let tidied = self.filters.tidy(self.clock);
        self.note(|| format!("tidy: {tidied:?}"));
        if self
            .settled(tidied)?
            .is_some_and(|clearance| clearance.reclaimed > 0)
        {
            self.branch("dropped files removed");
        }
        Ok(())
    }
}
