//! One seed: a node on a simulated disk, a workload and faults drawn for it, and after every
//! restart the ledger.

mod faults;
mod filters;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grapevine_core::filter::Outcome;
use grapevine_store::disk::{Disk, SimulatedDisk};
use grapevine_store::filters::{Entropy, FilterError, Filters, Handle, Options, Scratch};
use grapevine_store::log::LogConfig;

use crate::chance::Chance;
use crate::forgetful::ForgetfulDisk;
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
    world: World,
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

/// What a run happens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// A disk that keeps what it synced.
    Honest,
    /// One that does not, to see that it is noticed.
    Forgetful,
}

/// Runs one seed of `operations` steps.
#[must_use]
pub fn run(seed: u64, operations: u64, traced: bool) -> Report {
    run_in(World::Honest, seed, operations, traced)
}

/// [`run`] in a world of choice.
#[must_use]
pub fn run_in(world: World, seed: u64, operations: u64, traced: bool) -> Report {
    let disk = SimulatedDisk::new();
    let filters = match open(world, &disk, seed) {
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
        world,
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

fn open(
    world: World,
    disk: &SimulatedDisk,
    seed: u64,
) -> Result<Filters, grapevine_store::filters::OpenError> {
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
    let disk: Arc<dyn Disk> = match world {
        World::Honest => Arc::new(disk.clone()),
        World::Forgetful => Arc::new(ForgetfulDisk(disk.clone())),
    };
    Filters::open(disk, options, entropy).map(|(filters, _)| filters)
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
}

fn name_bytes(name: u64) -> Vec<u8> {
    format!("filter-{name}").into_bytes()
}

fn key_bytes(key: Key) -> Vec<u8> {
    format!("key-{key}").into_bytes()
}
