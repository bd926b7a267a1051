//! One seed: a node on a simulated disk, a workload and faults drawn for it, and after every
//! restart the ledger.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grapevine_core::catalogue::Storage;
use grapevine_core::filter::Outcome;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::disk::{CrashPlan, Disk, NameFate, Operation, SimulatedDisk, WriteFate};
use grapevine_store::filters::{
    Creation, Entropy, FilterError, Filters, Handle, NewFilter, Options, Recreation, Scratch,
};
use grapevine_store::log::LogConfig;

use crate::chance::Chance;
use crate::ledger::{Change, Epoch, Key, Ledger};

/// Names that filters are made under: few, so that they are dropped and made again.
const NAMES: u64 = 4;
/// So small that a single false positive in a run is a violation.
const ERROR: f64 = 1e-9;
/// Keys of one request, at most.
const KEYS_MAX: u64 = 40;
/// Keys that were never set, asked for after each restart.
const ABSENT_CHECKED: u64 = 20;

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What must not happen and did; nothing for a good run.
    pub violation: Option<String>,
    /// How often each rare branch was taken.
    pub branches: BTreeMap<&'static str, u64>,
    /// What happened, for people, if asked for.
    pub trace: String,
    /// Depends on every choice and every answer.
    pub fingerprint: u64,
}

/// The rare branches a set of seeds should have taken.
pub const BRANCHES: &[&str] = &[
    "bit rot named",
    "checkpoint",
    "disk full",
    "dropped files removed",
    "filter cleared",
    "filter exported and imported",
    "filter merged",
    "filter shown again",
    "filter unloaded",
    "fixed filter full",
    "kill",
    "layer opened",
    "log tail cut",
    "operations lost to a power cut",
    "power cut",
    "power cut at an operation",
    "read-only after a failed sync",
    "read-only after a failed write",
    "volatile filter emptied",
];

/// A violation, or the node's failure after an injected fault.
enum Stop {
    Violation(String),
    Failed,
}

type Step<T> = Result<T, Stop>;

/// A node and its ledger.
struct Run {
    chance: Chance,
    disk: SimulatedDisk,
    filters: Filters,
    ledger: Ledger,
    report: Report,
    traced: bool,
    entropy_seed: u64,
    next_epoch: Epoch,
    next_key: Key,
    clock: u64,
    /// A fault was planned; errors are its doing.
    faulted: bool,
    scratch: Scratch,
}

/// Runs one seed of `operations` steps.
#[must_use]
pub fn run(seed: u64, operations: u64, traced: bool) -> Report {
    let disk = SimulatedDisk::new();
    let filters = match open(&disk, seed) {
        Ok(filters) => filters,
        Err(error) => {
            let violation = Some(format!("an empty directory does not open: {error}"));
            return Report {
                violation,
                ..Report::default()
            };
        }
    };
    let mut run = Run {
        chance: Chance::new(seed),
        disk,
        filters,
        ledger: Ledger::default(),
        report: Report::default(),
        traced,
        entropy_seed: seed,
        next_epoch: 0,
        next_key: 0,
        clock: 0,
        faulted: false,
        scratch: Scratch::default(),
    };
    let outcome = run.all(operations);
    if let Err(Stop::Violation(violation)) = outcome {
        run.report.violation = Some(violation);
    }
    run.report
}

fn open(disk: &SimulatedDisk, seed: u64) -> Result<Filters, grapevine_store::filters::OpenError> {
    let drawn = AtomicU64::new(seed << 20);
    let entropy: Entropy = Box::new(move || {
        let number = Chance::new(drawn.fetch_add(1, Ordering::Relaxed)).bits();
        (u128::from(number) << 64 | u128::from(number ^ 0x5555)).to_le_bytes()
    });
    let options = Options {
        log: LogConfig {
            segment_size: 8 << 10,
            ..LogConfig::default()
        },
        memory: 1 << 30,
        checkpoint_log: 16 << 10,
        idle_unload: Some(Duration::from_secs(20)),
    };
    Filters::open(Arc::new(disk.clone()), options, entropy).map(|(filters, _)| filters)
}

impl Run {
    fn all(&mut self, operations: u64) -> Step<()> {
        for _ in 0..operations {
            match self.step() {
                Ok(()) => {}
                Err(Stop::Failed) if self.faulted => self.recover_from_fault()?,
                Err(Stop::Failed) => return self.violation("the node failed without a fault"),
                Err(violation) => return Err(violation),
            }
        }
        self.faulted = false;
        self.restart_after_kill()?;
        self.give_all_memory_back()
    }

    fn step(&mut self) -> Step<()> {
        match self.chance.below(100) {
            0..45 => self.set(),
            45..60 => self.check(),
            60..67 => self.create(),
            67..69 => self.drop(),
            69..73 => self.unload(),
            73..75 => self.clear(),
            75..78 => self.transfer(),
            78..81 => self.checkpoint(),
            81..84 => self.commit_or_sync(),
            84..87 => self.tidy(),
            87..90 => self.restart_after_kill(),
            90..93 => self.restart_after_power_cut(),
            93..94 => self.bit_rot(),
            _ => self.plan_fault(),
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.traced {
            let line = what();
            let _ = writeln!(self.report.trace, "{line}");
        }
    }

    fn branch(&mut self, name: &'static str) {
        *self.report.branches.entry(name).or_default() += 1;
    }

    fn mix(&mut self, value: u64) {
        let mixed = self.report.fingerprint ^ value;
        self.report.fingerprint = Chance::new(mixed).bits();
    }

    fn violation<T>(&self, what: impl Into<String>) -> Step<T> {
        Err(Stop::Violation(what.into()))
    }

    /// A failure that a planned fault explains.
    fn settled<T>(&mut self, outcome: Result<T, FilterError>) -> Step<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(FilterError::ReadOnly(_)) => Err(Stop::Failed),
            // Chains of tiny layers come to their end.
            Err(FilterError::Parameters(_)) => Ok(None),
            Err(error) => self.violation(format!("refused without a reason: {error}")),
        }
    }

    fn handle(&mut self) -> Step<Option<(Epoch, Arc<Handle>)>> {
        let name = self.chance.below(NAMES);
        let found = self.filters.get(&name_bytes(name));
        match (self.ledger.visible(name), found) {
            (Some(epoch), Some(handle)) => Ok(Some((epoch, handle))),
            (None, None) => Ok(None),
            (Some(_), None) => self.violation(format!("filter {name} is missing")),
            (None, Some(_)) => self.violation(format!("filter {name} should not be there")),
        }
    }

    fn create(&mut self) -> Step<()> {
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

    fn set(&mut self) -> Step<()> {
        let Some((epoch, handle)) = self.handle()? else {
            return Ok(());
        };
        let mut keys = Vec::new();
        for _ in 0..=self.chance.below(KEYS_MAX) {
            if self.next_key > 0 && self.chance.once_in(4) {
                keys.push(self.chance.below(self.next_key));
            } else {
                keys.push(self.next_key);
                self.next_key += 1;
            }
        }
        let bytes: Vec<Vec<u8>> = keys.iter().map(|key| key_bytes(*key)).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let layers = handle.summary().layers;
        let set = self.filters.set(&handle, &slices, &mut self.scratch);
        let outcomes = self.scratch.outcomes().to_vec();
        self.note(|| format!("set {epoch} {keys:?}: {outcomes:?} {set:?}"));
        let position = match self.settled(set) {
            Ok(Some(position)) => position,
            other => {
                self.ledger
                    .uncertain
                    .extend(keys.iter().map(|key| (epoch, *key)));
                return other.map(drop);
            }
        };
        if handle.summary().layers > layers {
            self.branch("layer opened");
        }
        let mut held = Vec::new();
        for (key, outcome) in keys.iter().zip(&outcomes) {
            self.mix(*outcome as u64);
            let known = held.contains(key) || self.holds(epoch, *key);
            match (
                outcome,
                known,
                self.ledger.uncertain.contains(&(epoch, *key)),
            ) {
                (Outcome::Full, false, _) => {
                    self.branch("fixed filter full");
                    continue;
                }
                (Outcome::New, false, _) | (Outcome::Seen, true, _) | (_, _, true) => {
                    held.push(*key)
                }
                _ => {
                    return self
                        .violation(format!("set of key {key}: {outcome:?}, known: {known}"));
                }
            }
        }
        self.ledger.enter(
            position.max(self.filters.appended()),
            Change::Keys(epoch, held),
        );
        self.check_rights(&handle)
    }

    fn holds(&self, epoch: Epoch, key: Key) -> bool {
        self.ledger
            .filters
            .get(&epoch)
            .is_some_and(|filter| filter.keys.contains(&key))
    }

    /// No layer holds more keys than it has room for.
    fn check_rights(&self, handle: &Handle) -> Step<()> {
        let Some(filter) = handle.in_memory() else {
            return Ok(());
        };
        for layer in filter.layers() {
            if layer.inserted() > layer.shape().capacity {
                return self.violation(format!(
                    "{:?} holds {} keys",
                    layer.shape(),
                    layer.inserted()
                ));
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Step<()> {
        let Some((epoch, handle)) = self.handle()? else {
            return Ok(());
        };
        self.check_all(epoch, &handle)
    }

    /// Every key that must be found is, and none that was never set.
    fn check_all(&mut self, epoch: Epoch, handle: &Handle) -> Step<()> {
        let expected = self.ledger.filters.get(&epoch).cloned().unwrap_or_default();
        let mut keys: Vec<Key> = expected.keys.iter().copied().collect();
        let present = keys.len();
        let absent = (0..ABSENT_CHECKED).map(|number| u64::MAX - number);
        let others: Vec<Key> = (0..ABSENT_CHECKED)
            .filter(|_| self.next_key > 0)
            .map(|_| self.chance.below(self.next_key))
            .filter(|key| {
                !expected.keys.contains(key) && !self.ledger.uncertain.contains(&(epoch, *key))
            })
            .collect();
        keys.extend(absent.chain(others));
        let bytes: Vec<Vec<u8>> = keys.iter().map(|key| key_bytes(*key)).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        let checked = self.filters.check(handle, &slices, &mut self.scratch);
        match checked {
            Ok(_) => {}
            // A read of its files met the planned fault.
            Err(_) if self.faulted => return Err(Stop::Failed),
            Err(error) => return self.violation(format!("check of {epoch}: {error}")),
        }
        let found = self.scratch.found();
        if let Some(lost) = found[..present].iter().position(|found| !found) {
            return self.violation(format!("key {} of filter {epoch} is lost", keys[lost]));
        }
        if let Some(wrong) = found[present..].iter().position(|found| *found) {
            let key = keys[present + wrong];
            return self.violation(format!("key {key} was never set in filter {epoch}"));
        }
        Ok(())
    }

    fn drop(&mut self) -> Step<()> {
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

    fn unload(&mut self) -> Step<()> {
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

    fn clear(&mut self) -> Step<()> {
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
    fn transfer(&mut self) -> Step<()> {
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

    fn checkpoint(&mut self) -> Step<()> {
        let taken = self.filters.checkpoint();
        self.note(|| format!("checkpoint: {taken:?}"));
        self.settled(taken)?;
        self.branch("checkpoint");
        Ok(())
    }

    fn commit_or_sync(&mut self) -> Step<()> {
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

    fn tidy(&mut self) -> Step<()> {
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

    /// Something will fail soon.
    fn plan_fault(&mut self) -> Step<()> {
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
    fn recover_from_fault(&mut self) -> Step<()> {
        self.note(|| "the node has failed".to_owned());
        self.restart_after_power_cut()
    }

    fn restart_after_kill(&mut self) -> Step<()> {
        if self.disk.is_down() || self.faulted {
            return self.restart_after_power_cut();
        }
        self.branch("kill");
        let promised = self.filters.committed();
        self.disk.kill();
        self.reopen(promised, "kill")
    }

    fn restart_after_power_cut(&mut self) -> Step<()> {
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
        self.filters = match open(&self.disk, self.entropy_seed) {
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
    fn bit_rot(&mut self) -> Step<()> {
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
        match open(&rotten, self.entropy_seed + 500) {
            Err(error)
                if error
                    .to_string()
                    .contains(path.rsplit('/').next().unwrap_or(&path)) =>
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

    fn give_all_memory_back(&mut self) -> Step<()> {
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

fn name_bytes(name: u64) -> Vec<u8> {
    format!("filter-{name}").into_bytes()
}

fn key_bytes(key: Key) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}
