//! One seed: a world of one node, its disk and its ledger.

mod check;
mod crash;
mod rot;
mod workload;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use grapevine_store::collections::Collections;
use grapevine_store::disk::{Operation, SimulatedDisk};
use grapevine_store::filters::{Filters, Options};

use crate::branch::Branch;
use crate::ledger::Ledger;
use crate::node::{self, Mutation};
use crate::outcome::{Checked, Outcome};
use crate::random::Random;
use workload::Export;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Steps to take.
    pub operations: u64,
    /// Fault to build into the node.
    pub mutation: Mutation,
    /// Whether to keep the trace.
    pub trace: bool,
}

/// When a reply is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    Os,
    Interval,
    Always,
}

struct World {
    plan: Plan,
    random: Random,
    disk: SimulatedDisk,
    options: Options,
    drawn: Arc<AtomicU64>,
    /// None only while the process is down.
    collections: Option<Collections>,
    ledger: Ledger,
    durability: Durability,
    /// A failure was planned since the last restart, of this kind.
    fault: Option<Operation>,
    disk_full: bool,
    /// The last restarts: nothing more is to go wrong.
    ending: bool,
    /// What happened since the last snapshot, to count what a restart will meet.
    since_snapshot: Vec<Branch>,
    reclaimable: bool,
    exports: Vec<Export>,
    now: u64,
    outcome: Outcome,
}

/// Runs one seed.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let mut world = World::new(plan);
    let result = world.live();
    world.outcome.violation = result.err();
    if let Some(violation) = world.outcome.violation.clone() {
        world.note(format!("VIOLATION {violation}"));
    }
    world.outcome
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let options = node::options(&mut random);
        let durability = [Durability::Os, Durability::Interval, Durability::Always];
        let durability = durability[random.below(3) as usize];
        let mut world = World {
            plan,
            random,
            disk: SimulatedDisk::new(),
            options,
            drawn: Arc::default(),
            collections: None,
            ledger: Ledger::default(),
            durability,
            fault: None,
            disk_full: false,
            ending: false,
            since_snapshot: Vec::new(),
            reclaimable: false,
            exports: Vec::new(),
            now: 0,
            outcome: Outcome::new(),
        };
        world.note(format!("seed {} {durability:?} {options:?}", plan.seed));
        world
    }

    fn live(&mut self) -> Checked {
        if self.random.one_in(4) {
            self.disk.cut_power_at_operation(self.random.below(40));
        }
        self.start()?;
        for _ in 0..self.plan.operations {
            self.step()?;
            if self.disk.is_down() {
                self.power_cut()?;
            }
        }
        self.ending = true;
        self.restart_cleanly()?;
        self.check_all()?;
        self.check_sequences()?;
        self.check_memory()?;
        if self.random.one_in(2) {
            self.rot()?;
        }
        Ok(())
    }

    fn filters(&self) -> Result<&Filters, String> {
        self.collections().map(Collections::filters)
    }

    fn collections(&self) -> Result<&Collections, String> {
        self.collections
            .as_ref()
            .ok_or_else(|| "the node is down".to_owned())
    }

    fn hit(&mut self, branch: Branch) {
        self.outcome.hit(branch);
    }

    fn note(&mut self, line: String) {
        self.outcome.note(self.plan.trace, || line);
    }
}
