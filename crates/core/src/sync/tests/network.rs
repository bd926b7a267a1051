//! Many machines with toy replicas, and a network between them that does its worst.

use std::collections::{BTreeMap, BTreeSet};

use super::toy::{Toy, origin};
use crate::origin::Origin;
use crate::sync::limits::*;
use crate::sync::*;
use crate::version::Dot;

/// SplitMix64.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What the network does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) loss_percent: u64,
    pub(super) duplicate_percent: u64,
    pub(super) reorder: bool,
}

/// Numbers taken over a run.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) operations: u64,
    /// Operations that a node got from one peer more than once.
    pub(super) repeated: u64,
    pub(super) events: BTreeMap<String, u64>,
}

enum Happening {
    Deliver(usize, usize, Message),
    Link(usize, usize),
}

pub(super) struct Network {
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) toys: Vec<Toy>,
    pub(super) machines: Vec<Machine>,
    /// Links that are wanted, and those that each end thinks it has.
    pub(super) open: BTreeSet<(usize, usize)>,
    connected: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(u64, u64), Happening>,
    order: u64,
    latest: BTreeMap<(usize, usize), u64>,
    seen: BTreeSet<(usize, usize, Dot)>,
    window: u32,
    pub(super) tally: Tally,
}

/// The largest payload that a toy's operation has.
pub(super) const PADDING_MAX: usize = 3000;
const TICK_MS: u64 = 100;

impl Network {
    pub(super) fn new(seed: u64, nodes: usize, window: u32) -> Self {
        let mut network = Network {
            now: 0,
            random: Random(seed),
            faults: Faults::default(),
            toys: (0..nodes).map(|node| Toy::new(origin(node))).collect(),
            machines: Vec::new(),
            open: BTreeSet::new(),
            connected: BTreeSet::new(),
            queue: BTreeMap::new(),
            order: 0,
            latest: BTreeMap::new(),
            seen: BTreeSet::new(),
            window,
            tally: Tally::default(),
        };
        for node in 0..nodes {
            let machine = network.machine(node);
            network.machines.push(machine);
        }
        network
    }

    fn machine(&mut self, node: usize) -> Machine {
        let mut machine = Machine::new(origin(node), self.random.draw());
        machine.set_window(self.window);
        machine.set_members((0..self.toys.len()).map(origin).collect());
        machine
    }

    pub(super) fn connect_all(&mut self) {
        for a in 0..self.toys.len() {
            for b in 0..a {
                self.open(a, b);
            }
        }
    }

    pub(super) fn open(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            if self.open.insert((from, to)) {
                self.link(from, to);
            }
        }
    }

    pub(super) fn close(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            if self.open.remove(&(from, to)) {
                self.link(from, to);
            }
        }
    }

    /// Each end notices by itself, some time later.
    fn link(&mut self, at: usize, peer: usize) {
        let after = 1 + self.random.below(50);
        self.schedule(after, Happening::Link(at, peer));
    }

    fn schedule(&mut self, after: u64, happening: Happening) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), happening);
    }

    /// Takes the power from a node; it starts again at once, and its peers notice sometime.
    pub(super) fn crash(&mut self, node: usize) {
        self.toys[node].crash();
        self.machines[node] = self.machine(node);
        self.connected.retain(|(at, _)| *at != node);
        let peers: Vec<usize> = (0..self.toys.len())
            .filter(|peer| self.open.contains(&(node, *peer)))
            .collect();
        for peer in peers {
            self.seen
                .retain(|(to, from, _)| (*to, *from) != (node, peer));
            self.link(node, peer);
            if self.random.chance(70) {
                self.link(peer, node);
            }
        }
    }

    pub(super) fn input(&mut self, node: usize, input: Input) {
        let mut out = Vec::new();
        self.machines[node].handle(self.now, input, &mut self.toys[node], &mut out);
        for output in out {
            match output {
                Output::Send(to, message) => self.send(node, to, message),
                Output::Event(event) => {
                    let name = format!("{event:?}");
                    let end = name.find(['(', ' ', '{']).unwrap_or(name.len());
                    *self.tally.events.entry(name[..end].into()).or_default() += 1;
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: Origin, message: Message) {
        let to = usize::from(to.bytes()[0] - 1);
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert!(bytes.len() <= MESSAGE_BYTES_MAX, "a message is bounded");
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
        self.tally.messages += 1;
        self.tally.bytes += bytes.len() as u64;
        if !self.open.contains(&(from, to)) || self.random.chance(self.faults.loss_percent) {
            return;
        }
        let twice = self.random.chance(self.faults.duplicate_percent);
        for _ in 0..=u8::from(twice) {
            let mut at = self.now + 1 + self.random.below(40);
            if !self.faults.reorder && !twice {
                let latest = self.latest.entry((from, to)).or_default();
                at = at.max(*latest);
                *latest = at;
            }
            let happening = Happening::Deliver(from, to, message.clone());
            self.schedule(at - self.now, happening);
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) {
        if let Message::Operations { run, .. } = &message {
            for sequence in (run.first..).take(run.operations.len()) {
                let origin = run.origin;
                let dot = Dot { origin, sequence };
                self.tally.operations += 1;
                self.tally.repeated += u64::from(!self.seen.insert((to, from, dot)));
            }
        }
        self.input(to, Input::Received(origin(from), message));
    }

    /// Lets the time pass until `end`.
    pub(super) fn run_until(&mut self, end: u64) {
        while self.now < end {
            let tick = (self.now / TICK_MS + 1) * TICK_MS;
            let next = self.queue.keys().next().map_or(u64::MAX, |(at, _)| *at);
            self.now = tick.min(end).min(next);
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                match entry.remove() {
                    Happening::Deliver(from, to, message) => self.deliver(from, to, message),
                    Happening::Link(at, peer) => self.notice(at, peer),
                }
            }
            if self.now == tick {
                for node in 0..self.toys.len() {
                    self.input(node, Input::Tick);
                }
                self.check_windows();
            }
        }
    }

    /// An end notices that its link is not the one it was.
    fn notice(&mut self, at: usize, peer: usize) {
        if self.connected.remove(&(at, peer)) {
            self.input(at, Input::Disconnected(origin(peer)));
        }
        if self.open.contains(&(at, peer)) {
            self.connected.insert((at, peer));
            let session = self.random.draw() | 1;
            self.input(at, Input::Connected(origin(peer), session));
        }
    }

    pub(super) fn sync(&mut self, node: usize) {
        self.toys[node].sync();
        self.input(node, Input::Advanced);
    }

    fn check_windows(&self) {
        let most = (self.window as usize).max(PADDING_MAX + 100);
        for (machine, toy) in self.machines.iter().zip(&self.toys) {
            for status in machine.status(toy) {
                assert!(status.in_flight <= most, "{status:?} beyond {most}");
            }
        }
    }

    /// Why not all nodes have the same, if so.
    pub(super) fn difference(&self) -> Option<String> {
        let first = &self.toys[0].live;
        self.toys.iter().enumerate().find_map(|(node, toy)| {
            let state = &toy.live;
            let what = if state.applied != first.applied {
                format!("applied {:?} not {:?}", state.applied, first.applied)
            } else if state.values != first.values {
                "values".into()
            } else if state.layers != first.layers {
                "layers".into()
            } else if state.files != first.files {
                "files".into()
            } else {
                return None;
            };
            Some(format!("node {node} differs: {what}"))
        })
    }

    /// Runs until these nodes have the same as the first of them.
    pub(super) fn settle_some(&mut self, nodes: &[usize], limit: u64) {
        let end = self.now + limit;
        let same = |network: &Network| {
            let applied = |node: &usize| &network.toys[*node].disk.applied;
            nodes.iter().all(|node| applied(node) == applied(&nodes[0]))
        };
        while !same(self) || self.toys[nodes[0]].disk.applied.is_empty() {
            assert!(self.now < end, "{nodes:?} do not settle");
            self.run_until(self.now + 100);
            for node in nodes {
                self.sync(*node);
            }
        }
    }

    /// Runs until all nodes have the same, syncing each as it goes; the time that took.
    pub(super) fn settle(&mut self, limit: u64) -> Result<u64, String> {
        let start = self.now;
        while self.now < start + limit {
            self.run_until(self.now + 100);
            for node in 0..self.toys.len() {
                self.sync(node);
            }
            if self.difference().is_none() {
                return Ok(self.now - start);
            }
        }
        Err(self.difference().unwrap_or_default())
    }
}
