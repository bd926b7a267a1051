//! What goes wrong in a run, and what must hold after it.

use grapevine_store::disk::{CrashPlan, Disk, NameFate, Operation, SimulatedDisk, WriteFate};
use grapevine_store::filters::{FilterError, Filters};

use super::{NAMES, Run, Step, key_bytes, name_bytes, open};
use crate::ledger::Epoch;

impl Run {
    /// Something will fail soon.
    pub(super) fn plan_fault(&mut self) -> Step<()> {
        if self.faulted || !self.chance.once_in(3) {
            return Ok(());
        }
        self.faulted = true;
        let soon = self.chance.below(4);
        match self.chance.below(4) {
            0 => {
                self.branch("read-only after a failed sync");
                self.disk
                    .fail_next(Operation::Sync, soon, std::io::ErrorKind::Other);
            }
            1 => {
                self.branch("read-only after a failed write");
                self.disk
                    .fail_next(Operation::Write, soon, std::io::ErrorKind::Other);
            }
            2 => {
                self.branch("disk full");
                self.disk.set_capacity(self.chance.below(64 << 10));
            }
            _ => {
                self.branch("power cut at an operation");
                let nth = self.chance.below(40);
                self.disk.cut_power_at_operation(nth);
            }
        }
        self.note(|| "a fault is planned".to_owned());
        Ok(())
    }

    /// The node has failed after a fault: whoever runs it starts it again.
    pub(super) fn recover_from_fault(&mut self) -> Step<()> {
        self.note(|| "the node has failed".to_owned());
        self.restart_after_power_cut()
    }

    pub(super) fn restart_after_kill(&mut self) -> Step<()> {
        if self.disk.is_down() || self.faulted {
            return self.restart_after_power_cut();
        }
        self.branch("kill");
        let promised = self.filters.committed();
        self.disk.kill();
        self.reopen(promised, "kill")
    }

    pub(super) fn restart_after_power_cut(&mut self) -> Step<()> {
        self.branch("power cut");
        let promised = self.filters.synced();
        let writes = self.chance.pick(&[
            WriteFate::Lost,
            WriteFate::Kept,
            WriteFate::Torn,
            WriteFate::Reordered,
            WriteFate::Flipped,
            WriteFate::Random,
        ]);
        let names = self
            .chance
            .pick(&[NameFate::Lost, NameFate::Kept, NameFate::Prefix]);
        let seed = self.chance.bits();
        self.disk.set_capacity(u64::MAX);
        self.disk.crash(CrashPlan {
            writes,
            names,
            seed,
        });
        self.reopen(promised, "power cut")
    }

    fn reopen(&mut self, promised: u64, why: &str) -> Step<()> {
        self.faulted = false;
        self.entropy_seed += 1;
        let before = self.filters.appended();
        self.filters = match open(self.world, &self.disk, self.entropy_seed) {
            Ok(filters) => filters,
            Err(error) => return self.violation(format!("does not open after a {why}: {error}")),
        };
        let end = self.filters.appended();
        self.note(|| format!("{why}: log promised {promised}, was {before}, is {end}"));
        if end < promised {
            return self.violation(format!(
                "after a {why} the log ends at {end}, {promised} was promised"
            ));
        }
        if end < before {
            self.branch(if why == "kill" {
                "log tail cut"
            } else {
                "operations lost to a power cut"
            });
        }
        if let Some((name, reason)) = self.filters.damaged().first() {
            let name = name.escape_ascii();
            return self.violation(format!("after a {why} filter {name} is damaged: {reason}"));
        }
        if self
            .ledger
            .filters
            .values()
            .any(|filter| filter.volatile && !filter.keys.is_empty())
        {
            self.branch("volatile filter emptied");
        }
        self.ledger.restart(end);
        self.mix(end);
        self.check_everything()
    }

    fn check_everything(&mut self) -> Step<()> {
        for name in 0..NAMES {
            let found = self.filters.get(&name_bytes(name));
            match (self.ledger.visible(name), found) {
                (None, None) => {}
                (Some(epoch), Some(handle)) => {
                    self.check_all(epoch, &handle)?;
                    self.check_rights(&handle)?;
                    let expected = self
                        .ledger
                        .filters
                        .get(&epoch)
                        .map_or(0, |filter| filter.keys.len());
                    let inserted = handle.summary().inserted;
                    if inserted < expected as u64 && !self.may_share(epoch) {
                        return self
                            .violation(format!("{inserted} keys counted, {expected} are there"));
                    }
                }
                (wanted, found) => {
                    let found = found.is_some();
                    return self
                        .violation(format!("filter {name}: {wanted:?} wanted, there: {found}"));
                }
            }
        }
        Ok(())
    }

    /// Merging copies may count a key of both once only.
    fn may_share(&self, _epoch: Epoch) -> bool {
        self.report.branches.contains_key("filter merged")
    }

    /// A bit flips in a file of a stopped node: it is named, or its filter is, or nothing is lost.
    pub(super) fn bit_rot(&mut self) -> Step<()> {
        if self.faulted {
            return Ok(());
        }
        let synced = self.filters.sync().and_then(|_| self.filters.mark_synced());
        self.settled(synced)?;
        let rotten = self.disk.fork();
        let files = all_files(&rotten);
        if files.is_empty() {
            return Ok(());
        }
        let path = files[self.chance.below(files.len() as u64) as usize].clone();
        let length = rotten.bytes(&path).map_or(0, |bytes| bytes.len() as u64);
        if length == 0 {
            return Ok(());
        }
        let (offset, bit) = (self.chance.below(length), self.chance.below(8) as u8);
        rotten.kill();
        if rotten.flip_bit(&path, offset, bit).is_err() {
            return Ok(());
        }
        self.note(|| format!("bit {bit} of byte {offset} of {path} flips"));
        match open(self.world, &rotten, self.entropy_seed + 500) {
            // The file, or for a mark that the manifest has covered the log it ends.
            Err(error)
                if error
                    .to_string()
                    .contains(path.split('/').next().unwrap_or(&path)) =>
            {
                self.branch("bit rot named");
                Ok(())
            }
            Err(error) => self.violation(format!(
                "{path} is rotten, the error names another: {error}"
            )),
            Ok(filters) => self.check_rotten(&filters, &path),
        }
    }

    fn check_rotten(&mut self, filters: &Filters, path: &str) -> Step<()> {
        for name in 0..NAMES {
            let Some(epoch) = self.ledger.visible(name) else {
                continue;
            };
            let Some(handle) = filters.get(&name_bytes(name)) else {
                return self.violation(format!("{path} is rotten and filter {name} is gone"));
            };
            let expected = self.ledger.filters.get(&epoch).cloned().unwrap_or_default();
            if expected.volatile {
                continue;
            }
            let bytes: Vec<Vec<u8>> = expected.keys.iter().map(|key| key_bytes(*key)).collect();
            let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
            match filters.check(&handle, &slices, &mut self.scratch) {
                Ok(_) if self.scratch.found().iter().all(|found| *found) => {}
                Ok(_) => {
                    return self
                        .violation(format!("{path} is rotten and keys of {name} are denied"));
                }
                Err(FilterError::Damaged(reason)) if reason.contains(path) => {
                    self.branch("bit rot named");
                }
                Err(error) => return self.violation(format!("{path} is rotten: {error}")),
            }
        }
        Ok(())
    }

    pub(super) fn give_all_memory_back(&mut self) -> Step<()> {
        for handle in self.filters.list(b"") {
            let dropped = self.filters.drop_filter(&handle);
            self.settled(dropped)?;
        }
        let hidden = self.ledger.filters.values().any(|filter| filter.hidden);
        let used = self.filters.memory().used();
        if used != 0 && !hidden {
            return self.violation(format!("{used} bytes are still accounted for"));
        }
        Ok(())
    }
}

fn all_files(disk: &SimulatedDisk) -> Vec<String> {
    let mut files = Vec::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for name in disk.list(&directory).unwrap_or_default() {
            let path = if directory.is_empty() {
                name
            } else {
                format!("{directory}/{name}")
            };
            match disk.bytes(&path) {
                Ok(_) => files.push(path),
                Err(_) => directories.push(path),
            }
        }
    }
    files
}
