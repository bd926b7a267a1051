//! The nodes, the network between them, and the parts of a run.
//!
//! A node does what the running group's thread does: it syncs its log at most every 2 ms and lets
//! its machine say what to send, tells it the time every 100 ms, and looks at members and peers
//! every half second. Messages of one way stay in order, as on a stream; lost ones leave a gap.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use grapevine_core::origin::Origin;
use grapevine_core::sync::{Input, Machine, Message, Output, Replica};

use super::arrivals::Arrivals;
use super::traffic::Traffic;
use super::{Data, Gauges, Part, Plan};
use crate::random::Random;

type Time = u64;

const TICK_MS: Time = 100;
/// Time between two looks at members and peers.
const LOOK_MS: Time = 500;
/// Least time between two syncs of one log.
const SYNC_SPACING_MS: Time = 2;
/// Longest time that a message takes; each way has its own, from 1 on.
const DELAY_MS_MAX: u64 = 5;
/// Time in which everything must have arrived.
const ARRIVED_WITHIN_MS: Time = 300_000;
/// What all wall clocks show at the start.
const CLOCK_START_MS: u64 = 1_800_000_000_000;
/// How often that is looked at.
const STEP_MS: Time = 10;

enum Event {
    Tick(usize),
    Sync(usize),
    Look(usize),
    /// From, to.
    Deliver(usize, usize, Message),
}

struct Timed {
    at: Time,
    number: u64,
    event: Event,
}

impl Timed {
    fn key(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

struct Node<D> {
    origin: Origin,
    data: D,
    machine: Machine,
    sync_planned: bool,
    synced_at: Time,
    /// Per origin, the operations whose arrival was noted.
    noted: Vec<u64>,
}

pub(super) struct World<D> {
    plan: Plan,
    gauges: Gauges,
    random: Random,
    now: Time,
    made: u64,
    events: BinaryHeap<Reverse<Timed>>,
    nodes: Vec<Node<D>>,
    numbers: BTreeMap<Origin, usize>,
    keys: u64,
    operations: u64,
    traffic: Traffic,
    machines: Duration,
    looks: Duration,
    arrivals: Arrivals,
}

impl<D: Data> World<D> {
    pub(super) fn new(plan: Plan, gauges: Gauges) -> Result<Self, String> {
        let mut random = Random::new(plan.seed);
        let mut nodes = Vec::new();
        for number in 0..plan.nodes {
            let mut data = D::new(number, plan.nodes)?;
            // Of all origins, its own operation alone is in.
            let (origin, _) = data
                .replica()
                .applied()
                .iter()
                .next()
                .ok_or("no operation")?;
            nodes.push(Node {
                origin,
                data,
                machine: Machine::new(origin, random.bits()),
                sync_planned: false,
                synced_at: 0,
                noted: vec![0; plan.nodes],
            });
        }
        let numbers = nodes.iter().map(|node| node.origin).zip(0..).collect();
        Ok(World {
            plan,
            gauges,
            random,
            now: 1000,
            made: 0,
            events: BinaryHeap::new(),
            nodes,
            numbers,
            keys: 0,
            operations: 0,
            traffic: Traffic::default(),
            machines: Duration::ZERO,
            looks: Duration::ZERO,
            arrivals: Arrivals::default(),
        })
    }

    /// Runs a part, and on until everything arrived.
    pub(super) fn part(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<Part, String> {
        let begun = self.now;
        run(self)?;
        let deadline = self.now + ARRIVED_WITHIN_MS;
        while !self.arrivals.are_complete() {
            self.run_until(self.now + STEP_MS)?;
            if self.now > deadline {
                return Err("operations do not arrive everywhere".to_owned());
            }
        }
        Ok(Part {
            seconds: (self.now - begun) as f64 / 1000.0,
            operations: std::mem::take(&mut self.operations),
            traffic: std::mem::take(&mut self.traffic),
            machines: std::mem::take(&mut self.machines),
            looks: std::mem::take(&mut self.looks),
            convergence: self.arrivals.take(),
        })
    }

    /// All nodes are connected, and one makes what the keys go into.
    pub(super) fn meet(&mut self) -> Result<(), String> {
        for node in 0..self.nodes.len() {
            let phase = self.random.below(TICK_MS);
            self.at(self.now + phase, Event::Tick(node));
            let phase = self.random.below(LOOK_MS);
            self.at(self.now + phase, Event::Look(node));
        }
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                let session = self.random.bits() | 1;
                for (node, other) in [(a, b), (b, a)] {
                    let peer = self.nodes[other].origin;
                    self.handle(node, Input::Connected(peer, session))?;
                }
            }
            // Nobody connects to all others at one moment.
            let pause = 1 + self.random.below(20);
            self.run_until(self.now + pause)?;
        }
        self.until_same()?;
        self.nodes[0].data.prepare()?;
        self.changed(0);
        self.run_until(self.now + STEP_MS)?;
        self.until_same()?;
        for index in 0..self.nodes.len() {
            let version = self.nodes[index].data.replica().applied().clone();
            for (origin, count) in version.iter() {
                let number = self.numbers[&origin];
                self.nodes[index].noted[number] = count;
            }
        }
        Ok(())
    }

    /// Until all have the same, and then until they have told each other so.
    fn until_same(&mut self) -> Result<(), String> {
        let deadline = self.now + ARRIVED_WITHIN_MS;
        loop {
            self.run_until(self.now + 1000)?;
            let first = self.nodes[0].data.replica().durable().clone();
            let mut rest = self.nodes.iter_mut().skip(1);
            if rest.all(|node| *node.data.replica().durable() == first) {
                return self.run_until(self.now + 5000);
            }
            if self.now > deadline {
                return Err("the nodes do not become the same".to_owned());
            }
        }
    }

    pub(super) fn rest(&mut self) -> Result<(), String> {
        self.run_until(self.now + self.plan.seconds * 1000)
    }

    pub(super) fn work_steadily(&mut self) -> Result<(), String> {
        let begun = self.now;
        for key in 0..self.plan.seconds * self.plan.rate {
            self.run_until(begun + key * 1000 / self.plan.rate)?;
            let node = self.random.below(self.nodes.len() as u64) as usize;
            self.set(node)?;
        }
        Ok(())
    }

    pub(super) fn work_in_bursts(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.seconds {
            let node = self.random.below(self.nodes.len() as u64) as usize;
            for _ in 0..self.plan.burst {
                self.set(node)?;
            }
            self.run_until(self.now + 1000)?;
        }
        Ok(())
    }

    fn set(&mut self, index: usize) -> Result<(), String> {
        self.keys += 1;
        let (nodes, key) = (self.nodes.len(), self.keys);
        let node = &mut self.nodes[index];
        // A false positive makes no operation.
        if node.data.set(key)? {
            self.operations += 1;
            let number = node.data.replica().applied().get(node.origin);
            self.arrivals.set(self.now, nodes, index, number);
            self.changed(index);
        }
        Ok(())
    }

    fn at(&mut self, at: Time, event: Event) {
        self.made += 1;
        let number = self.made;
        self.events.push(Reverse(Timed { at, number, event }));
    }

    fn run_until(&mut self, end: Time) -> Result<(), String> {
        while self
            .events
            .peek()
            .is_some_and(|Reverse(next)| next.at <= end)
        {
            let Some(Reverse(next)) = self.events.pop() else {
                break;
            };
            self.now = next.at;
            self.carry_out(next.event)?;
        }
        self.now = end;
        Ok(())
    }

    fn carry_out(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Tick(node) => {
                self.at(self.now + TICK_MS, Event::Tick(node));
                self.handle(node, Input::Tick)
            }
            Event::Sync(index) => {
                let node = &mut self.nodes[index];
                (node.sync_planned, node.synced_at) = (false, self.now);
                node.data.sync()?;
                self.handle(index, Input::Advanced)
            }
            Event::Look(node) => {
                self.at(self.now + LOOK_MS, Event::Look(node));
                self.look(node);
                Ok(())
            }
            Event::Deliver(from, to, message) => {
                let origin = match &message {
                    Message::Operations { run, .. } => Some(run.origin),
                    _ => None,
                };
                let peer = self.nodes[from].origin;
                self.handle(to, Input::Received(peer, message))?;
                if let Some(origin) = origin {
                    self.note(origin, from, to);
                }
                Ok(())
            }
        }
    }

    /// Notes which operations of `origin` have just come.
    fn note(&mut self, origin: Origin, from: usize, to: usize) {
        let number = self.numbers[&origin];
        let node = &mut self.nodes[to];
        let there = node.data.replica().applied().get(origin);
        let before = std::mem::replace(&mut node.noted[number], there);
        for operation in before + 1..=there {
            self.arrivals
                .arrive(self.now, (number, operation), from, to);
        }
    }

    fn handle(&mut self, index: usize, input: Input) -> Result<(), String> {
        let mut out = Vec::new();
        let node = &mut self.nodes[index];
        node.machine.set_clocks(CLOCK_START_MS + self.now, self.now);
        let begun = (self.gauges.processor)();
        node.machine
            .handle(self.now, input, node.data.replica(), &mut out);
        self.machines += (self.gauges.processor)().saturating_sub(begun);
        for output in out {
            if let Output::Send(peer, message) = output {
                let to = *self.numbers.get(&peer).ok_or("a message to nobody")?;
                self.send(index, to, message);
            }
        }
        self.changed(index);
        Ok(())
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        self.traffic.count(&message);
        // What clocks say draws nothing: without it a seed has the same history.
        let of_clocks = matches!(message, Message::TimeQuestion { .. } | Message::Time { .. });
        if !of_clocks && self.random.below(100) < self.plan.loss {
            return;
        }
        let way = (from * self.nodes.len() + to) as u64;
        let delay = 1 + Random::new(self.plan.seed ^ way).below(DELAY_MS_MAX);
        self.at(self.now + delay, Event::Deliver(from, to, message));
    }

    /// Something may be in that is not durable.
    fn changed(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if node.data.needs_sync() && !node.sync_planned {
            node.sync_planned = true;
            let at = self.now.max(node.synced_at + SYNC_SPACING_MS);
            self.at(at, Event::Sync(index));
        }
    }

    fn look(&mut self, index: usize) {
        let members: BTreeSet<Origin> = self.numbers.keys().copied().collect();
        let node = &mut self.nodes[index];
        let begun = (self.gauges.processor)();
        node.machine.set_members(members);
        let held = node.machine.held_by_all(node.data.replica());
        let status = node.machine.status(node.data.replica());
        std::hint::black_box((held, status));
        self.looks += (self.gauges.processor)().saturating_sub(begun);
    }

    /// Bytes that one machine gives back when it goes, on the average.
    pub(super) fn machine_bytes(self) -> f64 {
        let count = self.nodes.len().max(1) as f64;
        let mut bytes = 0;
        for node in self.nodes {
            let before = (self.gauges.allocated)();
            drop(node.machine);
            bytes += before.saturating_sub((self.gauges.allocated)());
        }
        bytes as f64 / count
    }
}
