//! One seed of many nodes: stores on simulated disks, their sync machines, and the network
//! between them, on one thread in simulated time.
//!
//! While faults run, what was acknowledged is checked on every node after each restart and now
//! and then in between. Then the network heals, everything that is down starts, and all nodes
//! must become the same within a bounded time.

mod bits;
mod check;
mod clocks;
mod damage;
mod drops;
pub mod error_bound;
mod fault;
mod histories;
mod ledger;
mod members;
mod memory;
mod mutant;
mod network;
mod node;
mod operator;
mod protocol;
mod tables;
mod workload;

use grapevine_core::group::End;
use grapevine_core::sync::Input;

use crate::branch::Branch;
use crate::outcome::{Checked, Outcome};
use crate::random::Random;
use histories::Tampering;
use ledger::Ledger;
pub use mutant::GroupMutation;
use network::{Event, Network};
use node::Node;
use operator::Operator;

/// Milliseconds of simulated time.
pub(crate) type Time = u64;

/// Time within which all nodes must be the same once nothing fails any more.
const HEALED_WITHIN_MS: Time = 180_000;
/// Time for comparisons of the whole state to be over, where copies seem to lack rows.
const COMPARED_WITHIN_MS: Time = 60_000;
/// How often that is looked at.
const LOOK_EVERY_MS: Time = 1000;
/// Events of one seed; more are a loop that does not end.
const EVENTS_MAX: u64 = 3_000_000;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct GroupPlan {
    /// Everything follows from it.
    pub seed: u64,
    /// Nodes at the start; drawn from 3 to 7 if not named.
    pub nodes: Option<usize>,
    /// Steps of the workload.
    pub operations: u64,
    /// Fault to build into the nodes.
    pub mutation: GroupMutation,
    /// Whether directories are also set back, run twice and swapped; drawn by the seed if not named.
    pub forks: Option<bool>,
    /// Whether to keep the trace.
    pub trace: bool,
}

/// Which faults a seed has.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    crashes: bool,
    power_cuts: bool,
    partitions: bool,
    one_way_cuts: bool,
    restores: bool,
    joins: bool,
    leaves: bool,
    clock_jumps: bool,
}

struct World {
    plan: GroupPlan,
    random: Random,
    now: Time,
    nodes: Vec<Node>,
    network: Network,
    ledger: Ledger,
    faults: Faults,
    damage: damage::Damage,
    tampering: Tampering,
    operator: Operator,
    /// Nothing more is to go wrong.
    healed: bool,
    outcome: Outcome,
}

/// Runs one seed.
#[must_use]
pub fn run(plan: GroupPlan) -> Outcome {
    let mut world = World::new(plan);
    let result = world.live();
    if let Err(violation) = result {
        world.note(|| format!("VIOLATION {violation}"));
        world.outcome.violation = Some(violation);
    }
    world.outcome
}

impl World {
    fn new(plan: GroupPlan) -> Self {
        let mut random = Random::new(plan.seed ^ 0x6772_6f75_7000);
        let mut maybe = || random.one_in(2);
        let faults = Faults {
            crashes: maybe(),
            power_cuts: maybe(),
            partitions: maybe(),
            one_way_cuts: maybe(),
            restores: maybe(),
            joins: maybe(),
            leaves: maybe(),
            clock_jumps: maybe(),
        };
        let network = Network::new(&mut random);
        let tampering = Tampering::new(plan.seed, plan.forks);
        let mut world = World {
            plan,
            random,
            now: 0,
            nodes: Vec::new(),
            network,
            ledger: Ledger::new(plan.seed),
            faults,
            damage: damage::Damage::new(plan.seed, faults, &tampering),
            tampering,
            operator: Operator::new(plan.seed),
            healed: false,
            outcome: Outcome::new(),
        };
        let (faults, shape) = (world.faults, world.network.shape());
        world.note(|| format!("seed {} {faults:?} {shape:?}", plan.seed));
        world
    }

    fn live(&mut self) -> Checked {
        let drawn = 3 + self.random.below(5) as usize;
        for _ in 0..self.plan.nodes.unwrap_or(drawn) {
            self.add_node()?;
        }
        self.network.at(1, Event::Step(self.plan.operations));
        self.run_until(|world| world.network.is_idle_of_steps())?;
        self.heal()?;
        self.become_same()?;
        self.check_end()?;
        if let Some(node) = self.damage.node
            && !self.note_mended(node)
        {
            return Err(format!("node {node} is still damaged in the end"));
        }
        if self.ledger.clocks.hides_rows() {
            let until = self.now + COMPARED_WITHIN_MS;
            self.run_until(|world| world.now >= until)?;
            self.become_same()?;
            self.check_end()?;
        }
        self.see_expired_rows_go()?;
        self.see_clocks_agree()?;
        self.check_end()?;
        self.raise_bounds()
    }

    /// Runs until all nodes are the same.
    fn become_same(&mut self) -> Checked {
        let deadline = self.now + HEALED_WITHIN_MS;
        let mut difference = None;
        while self.now < deadline {
            let look = self.now + LOOK_EVERY_MS;
            self.run_until(|world| world.now >= look)?;
            self.mend()?;
            self.gather()?;
            difference = self.difference()?;
            if difference.is_none() {
                break;
            }
        }
        if let Some(difference) = difference {
            for node in 0..self.nodes.len() {
                let machine = self.nodes[node].machine_text();
                self.note(|| format!("{node}: {machine}"));
            }
            return Err(format!(
                "not the same {HEALED_WITHIN_MS} ms after healing: {difference}"
            ));
        }
        Ok(())
    }

    /// Carries events out until the condition holds.
    fn run_until(&mut self, done: impl Fn(&World) -> bool) -> Checked {
        while !done(self) {
            self.outcome.events += 1;
            if self.outcome.events > EVENTS_MAX {
                return Err(format!("{EVENTS_MAX} events and no end"));
            }
            let Some((time, event)) = self.network.next() else {
                return Err("nothing is left to happen".to_owned());
            };
            self.now = self.now.max(time);
            self.carry_out(event)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, event: Event) -> Checked {
        match event {
            Event::Step(left) => {
                self.step()?;
                if left > 1 {
                    let pause = 10 + self.random.below(300);
                    self.network.at(self.now + pause, Event::Step(left - 1));
                }
            }
            Event::Tick { node, life } => {
                if self.nodes[node].life == life && self.nodes[node].is_up() {
                    self.handle_all(node, &Input::Tick)?;
                    self.tick_group(node)?;
                    self.network.at(self.now + 100, Event::Tick { node, life });
                }
            }
            Event::Sync { node, life } => {
                if self.nodes[node].life == life && self.nodes[node].is_up() {
                    self.nodes[node].sync()?;
                    self.handle_all(node, &Input::Advanced)?;
                }
            }
            Event::Deliver {
                to,
                connection,
                topic,
                bytes,
            } => self.deliver(to, connection, topic, &bytes)?,
            Event::Admitted {
                to,
                connection,
                peer,
                greeting,
                dialed,
            } => self.admitted(to, connection, peer, greeting, dialed)?,
            Event::Standing {
                to,
                connection,
                standing,
            } => self.standing(to, connection, standing)?,
            Event::Packet {
                to,
                connection,
                bytes,
            } => self.packet(to, connection, &bytes),
            Event::Closed {
                to,
                connection,
                goodbye,
            } => self.closed(to, connection, End::Goodbye(goodbye))?,
            Event::Links => self.look_at_links()?,
            Event::Rejoin { node } => self.rejoin(node)?,
            Event::Start { node } => self.start(node)?,
            Event::Heal { from, to } => self.network.unblock(from, to),
        }
        Ok(())
    }

    fn hit(&mut self, branch: Branch) {
        self.outcome.hit(branch);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let (now, trace) = (self.now, self.plan.trace);
        self.outcome.note(trace, || format!("{now:>7} {}", line()));
    }
}
