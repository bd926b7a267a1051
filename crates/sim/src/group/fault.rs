//! What goes wrong: crashes, cuts, restores, nodes that come and leave, clocks that jump.

use std::collections::BTreeSet;

use grapevine_core::group::Input as GroupInput;
use grapevine_core::origin::Origin;
use grapevine_core::sync::{Event as SyncEvent, Input, Message, Output};
use grapevine_core::version::VersionVector;
use grapevine_store::backup::Copied;
use grapevine_store::restore::renew;
use std::sync::Arc;

use super::network::{Connection, Event, Fate, Topic};
use super::node::Node;
use super::{Checked, Time, World};
use crate::branch::Branch;
use crate::node;

/// Most nodes of one seed, those that left included.
const NODES_MAX: usize = 9;
/// An hour, in milliseconds.
const HOUR_MS: i64 = 3_600_000;

impl World {
    /// Starts a new node with an empty directory.
    pub(super) fn add_node(&mut self) -> Checked {
        let join = self.where_to_join();
        let mut node = Node::new(&mut self.random, self.plan.mutation, join);
        self.ledger.clocks.equip(&mut node, self.now);
        self.nodes.push(node);
        self.start(self.nodes.len() - 1)
    }

    /// Whom a new node calls: the first, or once things happen any that stays.
    fn where_to_join(&mut self) -> BTreeSet<usize> {
        if self.operator.discovery || self.nodes.is_empty() {
            return BTreeSet::new();
        }
        let staying = (0..self.nodes.len()).filter(|node| !self.nodes[*node].left);
        let staying: Vec<usize> = staying.collect();
        if self.now == 0 {
            return BTreeSet::from([0]);
        }
        self.operator
            .random
            .pick(&staying)
            .copied()
            .into_iter()
            .collect()
    }

    /// Starts a node that is down.
    pub(super) fn start(&mut self, node: usize) -> Checked {
        self.nodes[node].start_planned = false;
        if self.nodes[node].is_up() || self.nodes[node].left {
            return Ok(());
        }
        self.note(|| format!("start {node}"));
        self.draw_bound(node);
        self.nodes[node]
            .open(node, self.now, &mut self.random)
            .map_err(|error| format!("node {node} does not open: {error}"))?;
        self.forget_volatile(node);
        let life = self.nodes[node].life;
        self.network.at(self.now + 1, Event::Tick { node, life });
        self.network.at(self.now + 1, Event::Links);
        self.changed(node);
        self.note_lacking(node);
        self.discover(node)?;
        if self.is_outside(node) {
            self.come_back_later(node);
        }
        self.check_node(node)
    }

    /// Filters that a node kept in memory before it met anybody have begun again.
    fn forget_volatile(&mut self, node: usize) {
        let collections = self.collections(node);
        if collections.group().met {
            return;
        }
        for (id, epoch) in &mut self.ledger.epochs {
            let its_own = epoch.created.is_some_and(|ack| ack.node == node);
            if epoch.in_memory && its_own && collections.filters().epoch(*id).is_none() {
                epoch.may_be_dropped = true;
            }
        }
    }

    /// A node's process ends without warning.
    pub(super) fn kill(&mut self, node: usize) -> Checked {
        self.note(|| format!("kill {node}"));
        self.hit(Branch::Kill);
        self.stop(node)?;
        self.nodes[node].disk.kill();
        self.start_later(node);
        Ok(())
    }

    /// A node's power goes: what it had not synced may be lost.
    pub(super) fn cut_power(&mut self, node: usize) -> Checked {
        let plan = node::crash_plan(&mut self.random);
        self.note(|| format!("power cut {node} {plan:?}"));
        self.hit(Branch::PowerCut);
        self.note_synced(node);
        self.stop(node)?;
        self.nodes[node].disk.crash(plan);
        self.ledger.power_cut(node);
        self.start_later(node);
        Ok(())
    }

    /// A node ends as it should.
    pub(super) fn stop_cleanly(&mut self, node: usize) -> Checked {
        self.note(|| format!("stop {node}"));
        self.nodes[node].sync()?;
        self.note_synced(node);
        self.stop(node)?;
        self.nodes[node].disk.kill();
        self.start_later(node);
        Ok(())
    }

    /// A node's process is gone, and nothing it handed to its disk is.
    pub(super) fn stop_now(&mut self, node: usize) -> Checked {
        self.stop(node)?;
        self.nodes[node].disk.kill();
        Ok(())
    }

    pub(super) fn stop(&mut self, node: usize) -> Checked {
        for connection in self.network.connections_of(node) {
            self.cut_off(connection, Some(node))?;
        }
        self.nodes[node].running = None;
        self.nodes[node].sync_planned = false;
        Ok(())
    }

    fn start_later(&mut self, node: usize) {
        if !self.nodes[node].start_planned {
            self.nodes[node].start_planned = true;
            let pause = [50, 2000, 20_000][self.random.below(3) as usize];
            let at = self.now + 1 + self.random.below(pause);
            self.network.at(at, Event::Start { node });
        }
    }

    /// What is durable on a node is safe.
    pub(super) fn note_synced(&mut self, node: usize) {
        if let Some(running) = &self.nodes[node].running {
            let synced = running.collections.journal().synced();
            self.ledger.synced(node, synced);
        }
    }

    /// One of the faults of this seed.
    pub(super) fn fail(&mut self) -> Checked {
        self.disturb_clocks();
        self.damage_any()?;
        let (faults, node) = (
            self.faults,
            self.random.below(self.nodes.len() as u64) as usize,
        );
        let up = self.nodes[node].is_up();
        match self.random.below(10) {
            0 | 1 if faults.crashes && up => self.kill(node)?,
            2 if faults.power_cuts && up => self.cut_power(node)?,
            3 if up => self.stop_cleanly(node)?,
            4 | 5 if faults.partitions => self.partition(),
            6 if faults.one_way_cuts => self.cut_one_way(),
            7 if faults.restores => self.restore(node)?,
            8 if faults.joins && self.nodes.len() < NODES_MAX => {
                self.hit(Branch::Joined);
                self.add_node()?;
            }
            9 if faults.leaves && self.random.one_in(4) => self.leave(node)?,
            _ if faults.clock_jumps && up && self.random.one_in(4) => self.jump_clock(node),
            _ => {}
        }
        Ok(())
    }

    /// Some nodes no longer hear the others.
    fn partition(&mut self) {
        self.hit(Branch::Partition);
        let sides: Vec<bool> = (0..self.nodes.len())
            .map(|_| self.random.one_in(2))
            .collect();
        let until = self.now + 500 + self.random.below(30_000);
        self.note(|| format!("partition {sides:?} until {until}"));
        for from in 0..sides.len() {
            for to in 0..sides.len() {
                if sides[from] != sides[to] {
                    self.network.block(from, to);
                    self.network.at(until, Event::Heal { from, to });
                }
            }
        }
        self.network
            .at(self.now + 1000 + self.random.below(4000), Event::Links);
        self.network.at(until + 1, Event::Links);
    }

    /// One node is no longer heard by another, which it still hears.
    fn cut_one_way(&mut self) {
        self.hit(Branch::OneWayCut);
        let count = self.nodes.len() as u64;
        let (from, to) = (
            self.random.below(count) as usize,
            self.random.below(count) as usize,
        );
        let until = self.now + 500 + self.random.below(30_000);
        self.note(|| format!("cut {from} -> {to} until {until}"));
        self.network.block(from, to);
        self.network.at(until, Event::Heal { from, to });
        if self.random.one_in(2) {
            self.network.at(self.now + 4000, Event::Links);
        }
        self.network.at(until + 1, Event::Links);
    }

    /// A node is taken back to a backup, or one is taken.
    fn restore(&mut self, node: usize) -> Checked {
        if self.nodes[node].left {
            return Ok(());
        }
        let Some((backup, taken)) = self.nodes[node].backup.take() else {
            if self.nodes[node].is_up() {
                // What a backup holds is durable where it was taken: it reads the log's files.
                self.nodes[node].sync()?;
                self.note_synced(node);
                let copy = self.nodes[node].disk.fork();
                copy.kill();
                self.nodes[node].backup = Some((copy, self.now));
            }
            return Ok(());
        };
        self.note(|| format!("restore {node} as of {taken}"));
        self.hit(Branch::RestoredOld);
        if self.nodes[node].is_up() {
            self.stop(node)?;
        }
        let entropy = node::entropy(self.nodes[node].seed, &self.nodes[node].drawn);
        let options = self.nodes[node].options;
        let copied = Copied::default();
        renew(Arc::new(backup.clone()), copied, options, entropy)
            .map_err(|error| format!("node {node} cannot be restored: {error}"))?;
        backup.kill();
        self.nodes[node].disk = backup;
        // Of the directory that was there before.
        self.nodes[node].copy = None;
        let elsewhere = self.durable_elsewhere(node);
        self.ledger.taken_back(node, &elsewhere);
        self.start_later(node);
        Ok(())
    }

    /// What nodes other than this one have for good.
    pub(super) fn durable_elsewhere(&self, node: usize) -> VersionVector {
        let mut elsewhere = VersionVector::default();
        if self.tampering.ambiguous {
            return elsewhere;
        }
        for (index, other) in self.nodes.iter().enumerate() {
            if let (true, Some(running)) = (index != node, &other.running) {
                elsewhere.merge(&running.collections.journal().durable());
            }
        }
        elsewhere
    }

    /// A node leaves, to come back or for good, with or without a word.
    fn leave(&mut self, node: usize) -> Checked {
        let staying = self.nodes.iter().filter(|node| !node.left).count();
        let up = self.nodes[node].is_up();
        if self.nodes[node].left {
            return Ok(());
        }
        if up && self.operator.random.one_in(2) {
            self.hit(Branch::LeftForAWhile);
            return self.order_leave(node);
        }
        if staying <= 2 || self.would_leave_twins(node) {
            return Ok(());
        }
        self.note(|| format!("{node} leaves for good"));
        self.hit(Branch::Left);
        let id = self.nodes[node].id();
        if up {
            if self.operator.random.one_in(2) {
                self.order_leave(node)?;
            }
            self.stop(node)?;
        }
        self.nodes[node].left = true;
        let elsewhere = self.durable_elsewhere(node);
        self.ledger.taken_back(node, &elsewhere);
        match id {
            Some(id) if self.operator.random.one_in(2) => self.order_removal(id),
            _ => Ok(()),
        }
    }

    /// A node's clock jumps by an hour, ahead as after a sleep, or back.
    fn jump_clock(&mut self, node: usize) {
        let (by, branch) = if self.random.one_in(2) {
            (HOUR_MS, Branch::ClockJump)
        } else {
            (-HOUR_MS, Branch::ClockSetBack)
        };
        self.note(|| format!("clock of {node} {by:+} ms"));
        self.hit(branch);
        self.nodes[node].ahead += by;
    }

    /// Nothing fails any more; everything that stays starts.
    pub(super) fn heal(&mut self) -> Checked {
        self.note(|| "heal".to_owned());
        self.healed = true;
        self.network.heal();
        self.set_clocks_right();
        for node in 0..self.nodes.len() {
            self.start(node)?;
        }
        self.look_at_links()
    }

    /// Whether two are one directory, or one is connected to the other's twin: a peer is one origin.
    pub(super) fn has_its_twin(&self, a: usize, b: usize) -> bool {
        let name = |node: usize| self.nodes[node].name(Topic::Group);
        let to_twin = |from: usize, to: usize| {
            let others = (0..self.nodes.len()).filter(|other| *other != to);
            let twins = others.filter(|other| name(*other) == name(to));
            twins
                .into_iter()
                .any(|twin| self.network.connection(from, twin).is_some())
        };
        name(a) == name(b) || to_twin(a, b) || to_twin(b, a)
    }

    /// A message arrives, if its connection is still there.
    pub(super) fn deliver(
        &mut self,
        to: usize,
        connection: Connection,
        topic: Topic,
        bytes: &[u8],
    ) -> Checked {
        let from = connection.other(to);
        let (true, Some(name)) = (self.network.has(connection), self.nodes[from].name(topic))
        else {
            return Ok(());
        };
        // From before the session was established here: it is repaired.
        let running = self.nodes[to].running.as_ref();
        if !running.is_some_and(|running| running.is_open(connection)) {
            return Ok(());
        }
        let message = Message::decode(bytes).map_err(|error| format!("a message: {error}"))?;
        self.handle(to, topic, Input::Received(name, message))
    }

    /// Gives both of a node's machines an input.
    pub(super) fn handle_all(&mut self, node: usize, input: &Input) -> Checked {
        for topic in Topic::ALL {
            self.handle(node, topic, input.clone())?;
        }
        Ok(())
    }

    /// Gives a node's protocol the time, and looks at the connections now and then.
    pub(super) fn tick_group(&mut self, node: usize) -> Checked {
        self.drive_group(node, GroupInput::Tick)?;
        let now = self.now;
        if let Some(running) = &mut self.nodes[node].running {
            running.detector.run(now);
            running.detector.look(now);
        }
        self.send_packets(node);
        if self.nodes[node].looks() {
            self.look_at_links()?;
        }
        Ok(())
    }

    /// Gives one of a node's machines an input and carries out what it wants.
    pub(super) fn handle(&mut self, node: usize, topic: Topic, input: Input) -> Checked {
        let tick = input == Input::Tick;
        let out = self.nodes[node].handle(self.now, topic, input);
        if tick {
            let kept = self.nodes[node].keep_and_collect(self.now);
            kept.map_err(|error| format!("node {node}: {error}"))?;
            if std::mem::take(&mut self.nodes[node].removed) > 0 {
                self.hit(Branch::RowsRemoved);
            }
            self.note_unseen(node);
            self.check_healed_rows(node)?;
        }
        self.perform(node, topic, out)?;
        self.changed(node);
        Ok(())
    }

    fn perform(&mut self, node: usize, topic: Topic, out: Vec<Output>) -> Checked {
        if let Some(trouble) = self.nodes[node].take_trouble() {
            self.note(|| format!("{node}: trouble: {trouble}"));
        }
        for output in out {
            match output {
                Output::Send(peer, message) => self.send(node, topic, peer, &message),
                Output::Event(event) => {
                    self.record(node, topic, &event);
                    self.heed_histories(node, &event)?;
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, from: usize, topic: Topic, peer: Origin, message: &Message) {
        let connection = |to: usize| {
            let is_peer = self.nodes[to].name(topic) == Some(peer);
            let connection = is_peer.then(|| self.network.connection(from, to))??;
            let running = self.nodes[from].running.as_ref()?;
            running.is_open(connection).then_some((to, connection))
        };
        let Some((to, connection)) = (0..self.nodes.len()).find_map(connection) else {
            return;
        };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.network.sent.0 += 1;
        self.network.sent.1 += bytes.len() as u64;
        // What clocks say draws for itself: without it a seed has the same history.
        let random = match message {
            Message::TimeQuestion { .. } | Message::Time { .. } => &mut self.ledger.clocks.network,
            _ => &mut self.random,
        };
        let (times, branch) = match self.network.fate(random, from, to) {
            Fate::Lost => (0, Some(Branch::MessageLost)),
            Fate::Once => (1, None),
            Fate::Twice => (2, Some(Branch::MessageTwice)),
        };
        let mut delay = || self.network.delay(random, from);
        let delays: Vec<Time> = (0..times).map(|_| delay()).collect();
        if let Some(branch) = branch {
            self.hit(branch);
        }
        for delay in delays {
            let at = self.now + delay;
            let bytes = bytes.clone();
            let event = Event::Deliver {
                to,
                connection,
                topic,
                bytes,
            };
            self.network.at(at, event);
        }
    }

    fn record(&mut self, node: usize, topic: Topic, event: &SyncEvent) {
        let branch = match event {
            SyncEvent::Rewound { .. } => Some(Branch::Rewound),
            SyncEvent::Asked { .. } => Some(Branch::Repaired),
            SyncEvent::Parked(_) => Some(Branch::Parked),
            SyncEvent::ParkedForParts(_) => Some(Branch::ParkedForParts),
            SyncEvent::SnapshotFinished(_) if topic == Topic::Memory => Some(Branch::KeptFetched),
            SyncEvent::SnapshotFinished(_) => Some(Branch::SnapshotTaken),
            SyncEvent::ScrubBegun(_) => Some(Branch::Scrubbed),
            SyncEvent::SnapshotMoved(_) => Some(Branch::SnapshotMoved),
            SyncEvent::SnapshotAbandoned(_) => Some(Branch::SnapshotAbandoned),
            SyncEvent::PartsFinished(_) => Some(Branch::PartsFetched),
            SyncEvent::PeerLowered(_) => Some(Branch::PeerLowered),
            SyncEvent::RightsAsked(_) => Some(Branch::RightsAsked),
            _ => None,
        };
        if let Some(branch) = branch {
            self.hit(branch);
        }
        self.note(|| format!("{node}: {topic:?}: {event:?}"));
    }

    /// Something may have been appended on a node: it is synced soon.
    pub(super) fn changed(&mut self, node: usize) {
        if self.nodes[node].needs_sync() && !self.nodes[node].sync_planned {
            self.nodes[node].sync_planned = true;
            let life = self.nodes[node].life;
            let at = self.now + 1 + self.random.below(30);
            self.network.at(at, Event::Sync { node, life });
        }
    }
}
