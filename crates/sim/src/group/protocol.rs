//! The group's protocol of every node, carried out: connections are made where a node aims at
//! another, and greetings, standings and goodbyes travel in order.

use grapevine_core::group::{Admitted, End, Event, Input, Liveness, Output, Rejected, Store};
use grapevine_core::membership::{GroupIdentity, Member, MemberRow, MemberState, Members, NodeId};
use grapevine_core::sync::{Input as SyncInput, Machine};
use grapevine_core::wire::group::{Goodbye, Greeting, Standing};
use grapevine_store::collections::Collections;
use std::net::SocketAddr;

use super::members::address;
use super::mutant::{GroupMutation, Mutant};
use super::network::{Connection, Event as NetworkEvent, Topic};
use super::{Checked, Time, World};
use crate::branch::Branch;

/// Between two calls of a peer that said why it takes no calls: shorter than the program's minute.
const LASTING_MS: Time = 10_000;
/// Between two calls of any other.
const AGAIN_MS: Time = 500;

/// What a node's protocol reads and writes.
pub(super) struct View<'a> {
    pub(super) collections: &'a Collections,
    pub(super) machine: &'a Machine,
    pub(super) replica: &'a Mutant,
    pub(super) mutation: GroupMutation,
}

impl Store for View<'_> {
    fn group(&self) -> GroupIdentity {
        self.collections.group()
    }

    fn members(&self) -> Members {
        self.collections.members()
    }

    fn has_room_for(&self, node: NodeId) -> bool {
        self.collections.has_room_for(node)
    }

    fn join(&mut self, group: GroupIdentity) -> Result<(), Rejected> {
        let before = self.collections.group();
        let members = self.collections.members();
        let joined = self.collections.join(group);
        joined.map_err(|error| Rejected(error.to_string()))?;
        if self.mutation == GroupMutation::SpeaksForOthers && before.id != group.id {
            let me = NodeId::new(self.collections.filters().identity().key.bytes());
            for (node, member) in members.joined().filter(|(node, _)| *node != me) {
                let left = Member {
                    state: MemberState::Left,
                    ..member
                };
                self.enter(MemberRow::new(node, members.version(node) + 1, &left))?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, row: MemberRow) -> Result<u64, Rejected> {
        let entered = self.collections.enter_member(row);
        entered.map_err(|error| Rejected(error.to_string()))?;
        let journal = self.collections.journal();
        Ok(journal.applied().get(journal.origin()))
    }

    fn delivered(&self) -> u64 {
        let origin = self.collections.journal().origin();
        let peers = self.machine.status(self.replica);
        let connected = peers.iter().filter(|peer| peer.connected);
        connected
            .map(|peer| peer.version.get(origin))
            .max()
            .unwrap_or(0)
    }
}

fn remote(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], 1))
}

impl World {
    /// Gives a node's protocol an input and carries out what it wants.
    pub(super) fn drive_group(&mut self, node: usize, input: Input) -> Checked {
        let (now, mutation) = (self.now, self.nodes[node].mutation);
        let Some(running) = &mut self.nodes[node].running else {
            return Ok(());
        };
        let mut out = Vec::new();
        running.drive_group(now, input, mutation, &mut out);
        for output in out {
            self.carry_out_for(node, output)?;
        }
        self.changed(node);
        Ok(())
    }

    fn carry_out_for(&mut self, node: usize, output: Output) -> Checked {
        if self.plan.trace && !matches!(output, Output::Announce(_)) {
            self.note(|| format!("{node}: {output:?}"));
        }
        let now = self.now;
        let Some(running) = &mut self.nodes[node].running else {
            return Ok(());
        };
        match output {
            Output::Greet(greeting) => running.greeting = greeting,
            Output::Send {
                session, standing, ..
            } => self.send_standing(node, session, standing),
            Output::Disconnect {
                session, goodbye, ..
            } => self.disconnect(node, session, goodbye),
            Output::Aim(targets) => {
                running.targets = targets;
                self.network.at(self.now + 1, NetworkEvent::Links);
            }
            Output::CallSeed(seed) => {
                let is_it = |other: &usize| address(*other) == seed;
                if let Some(other) = (0..self.nodes.len()).find(is_it) {
                    self.network.call_again(node, other, 0);
                }
                self.network.at(self.now + 1, NetworkEvent::Links);
            }
            Output::Call { peer, .. } => {
                let is_it = |other: &usize| self.nodes[*other].id() == Some(peer);
                if let Some(other) = (0..self.nodes.len()).find(is_it)
                    && self.can_be_connected(node, other)
                {
                    self.connect(node, other);
                }
            }
            Output::Members(members) => {
                let known = running.protocol.members();
                running.set_members(known);
                running.detector.retain(|node| members.contains_key(node));
            }
            Output::Established {
                session,
                origin,
                life,
                ..
            } => {
                running.open(session);
                let group = running.collections.group().id;
                self.ledger.tables.drops.in_group(group);
                for (topic, peer) in [(Topic::Group, origin), (Topic::Memory, life)] {
                    let number = self.random.bits() | 1;
                    self.handle(node, topic, SyncInput::Connected(peer, number))?;
                }
            }
            Output::Ended { origin, life, .. } => {
                for (topic, peer) in [(Topic::Group, origin), (Topic::Memory, life)] {
                    self.handle(node, topic, SyncInput::Disconnected(peer))?;
                }
            }
            Output::Announce(peer) => {
                running.detector.announce(now, peer);
                self.send_packets(node);
            }
            Output::Depart => self.depart(node),
            Output::Joined(_, outcome) => self.joined(node, outcome.is_ok()),
            Output::Left(_, outcome) => self.left(node, outcome.is_ok()),
            Output::Event(Event::Refused(..)) => self.hit(Branch::PeerRefused),
            Output::Event(_) => {}
        }
        Ok(())
    }

    /// Says to all failure detectors that the node leaves, and begins anew.
    fn depart(&mut self, node: usize) {
        let now = self.now;
        if let Some(running) = &mut self.nodes[node].running {
            running.detector.leave(now);
        }
        self.send_packets(node);
        let renewed = self.plan.mutation != GroupMutation::NeverRenewed;
        if let (true, Some(running)) = (renewed, &mut self.nodes[node].running) {
            running.detector.begin_again();
        }
    }

    /// Sends what a node's failure detector wants sent.
    pub(super) fn send_packets(&mut self, node: usize) {
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        while let Some((peer, bytes)) = running.detector.packet() {
            let Some((to, connection)) = running.channel_to(peer) else {
                continue;
            };
            if self.network.is_blocked(node, to) {
                continue;
            }
            let at = self.now + self.network.delay(&mut self.operator.random, node);
            let event = NetworkEvent::Packet {
                to,
                connection,
                bytes,
            };
            self.network.at(at, event);
        }
    }

    /// A packet of the failure detector arrives.
    pub(super) fn packet(&mut self, to: usize, connection: Connection, bytes: &[u8]) {
        let (now, has) = (self.now, self.network.has(connection));
        if let Some(running) = &mut self.nodes[to].running
            && has
            && running.is_open(connection)
        {
            running.detector.receive(now, bytes);
        }
        self.send_packets(to);
    }

    /// A member that is connected to `at` and seems not to be alive there. Of two that run with one
    /// key nobody can say.
    pub(super) fn member_that_seems_dead(&self, at: usize) -> Option<String> {
        if self.tampering.is_enabled() {
            return None;
        }
        let running = self.nodes[at].running.as_ref()?;
        let mut peers = running.sessions.iter();
        peers.find_map(|(other, (_, peer))| {
            let seems = running.detector.of(peer).0;
            let is_alive = seems == Liveness::Alive;
            (!is_alive).then(|| format!("{other} is connected to {at} and seems {}", seems.word()))
        })
    }

    fn send_standing(&mut self, node: usize, session: u64, standing: Standing) {
        let Some((other, connection)) = self.session(node, session) else {
            return;
        };
        // A stream that stands still until its connection is gone.
        if self.network.is_blocked(node, other) {
            return;
        }
        let delay = self.network.delay(&mut self.operator.random, node);
        let event = NetworkEvent::Standing {
            to: other,
            connection,
            standing,
        };
        self.network
            .in_order(connection, other, self.now + delay, event);
    }

    /// A node ends a session; the other learns why if it hears it.
    fn disconnect(&mut self, node: usize, session: u64, goodbye: Goodbye) {
        let Some((other, connection)) = self.session(node, session) else {
            return;
        };
        if let Some(running) = &mut self.nodes[node].running {
            running.sessions.remove(&other);
        }
        self.network.disconnect(connection);
        let pause = if goodbye.reason.lasts() {
            LASTING_MS
        } else {
            AGAIN_MS
        };
        self.network.call_again(node, other, self.now + pause);
        self.network.at(self.now + pause + 1, NetworkEvent::Links);
        let delay = self.network.delay(&mut self.operator.random, node);
        let event = NetworkEvent::Closed {
            to: other,
            connection,
            goodbye,
        };
        self.network
            .in_order(connection, other, self.now + delay, event);
    }

    fn session(&self, node: usize, session: u64) -> Option<(usize, Connection)> {
        let running = self.nodes[node].running.as_ref()?;
        let mut sessions = running.sessions.iter();
        let found = sessions.find(|(_, (connection, _))| connection.number == session);
        found.map(|(other, (connection, _))| (*other, *connection))
    }

    /// The two ends of a new connection learn of each other.
    pub(super) fn admitted(
        &mut self,
        to: usize,
        connection: Connection,
        peer: NodeId,
        greeting: Greeting,
        dialed: bool,
    ) -> Checked {
        let other = connection.other(to);
        if !self.network.has(connection) {
            return Ok(());
        }
        let Some(running) = &mut self.nodes[to].running else {
            return Ok(());
        };
        running.sessions.insert(other, (connection, peer));
        self.drive_group(
            to,
            Input::Admitted(Admitted {
                peer,
                session: connection.number,
                greeting,
                remote: remote(other),
                dialed,
            }),
        )
    }

    pub(super) fn standing(
        &mut self,
        to: usize,
        connection: Connection,
        standing: Standing,
    ) -> Checked {
        if !self.network.has(connection) {
            return Ok(());
        }
        match self.peer_in(to, connection) {
            Some(peer) => self.drive_group(
                to,
                Input::Standing {
                    peer,
                    session: connection.number,
                    standing,
                },
            ),
            None => Ok(()),
        }
    }

    /// A session of a node is over, and it notices.
    pub(super) fn closed(&mut self, to: usize, connection: Connection, end: End) -> Checked {
        let Some(peer) = self.peer_in(to, connection) else {
            return Ok(());
        };
        if let Some(running) = &mut self.nodes[to].running {
            running.sessions.remove(&connection.other(to));
        }
        self.drive_group(
            to,
            Input::Closed {
                peer,
                session: connection.number,
                end,
            },
        )
    }

    fn peer_in(&self, node: usize, connection: Connection) -> Option<NodeId> {
        let running = self.nodes[node].running.as_ref()?;
        let (known, peer) = running.sessions.get(&connection.other(node))?;
        (*known == connection).then_some(*peer)
    }

    /// Makes the connections that nodes want and that can be made, and lets those go that no longer
    /// can be.
    pub(super) fn look_at_links(&mut self) -> Checked {
        let count = self.nodes.len();
        for a in 0..count {
            for b in a + 1..count {
                let can = self.takes_part(a) && self.takes_part(b);
                let can = can && self.network.can_connect(a, b);
                match self.network.connection(a, b) {
                    Some(connection) if !can => self.cut_off(connection, None)?,
                    None if self.can_be_connected(a, b) => match (self.aims(a, b), self.aims(b, a))
                    {
                        (true, _) => self.connect(a, b),
                        (_, true) => self.connect(b, a),
                        _ => {}
                    },
                    _ => {}
                }
            }
        }
        for node in 0..count {
            self.fail_calls(node)?;
        }
        Ok(())
    }

    /// Calls of seeds that come to nothing are reported.
    fn fail_calls(&mut self, node: usize) -> Checked {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let running = self.nodes[node].running.as_ref();
            let seeds = running.map(|running| &running.targets.seeds);
            let address = address(other);
            let called = seeds.is_some_and(|seeds| seeds.contains(&address));
            let reached = self.takes_part(other) && self.network.can_connect(node, other);
            if called && !reached {
                let reason = "nobody answers".to_owned();
                self.drive_group(node, Input::CallFailed { address, reason })?;
            }
        }
        Ok(())
    }

    /// Whether a node calls another.
    fn aims(&self, node: usize, other: usize) -> bool {
        let Some(running) = &self.nodes[node].running else {
            return false;
        };
        let (targets, at) = (&running.targets, address(other));
        let id = self.nodes[other].id();
        let wanted = id.and_then(|id| targets.wanted.get(&id));
        let wanted = wanted.is_some_and(|addresses| addresses.contains(&at));
        (wanted || targets.seeds.contains(&at)) && self.network.may_call(node, other, self.now)
    }

    /// Whether two that are not connected can be now.
    fn can_be_connected(&self, a: usize, b: usize) -> bool {
        let knows = |node: usize, other: usize| {
            let running = self.nodes[node].running.as_ref();
            running.is_none_or(|running| running.sessions.contains_key(&other))
        };
        a != b
            && self.takes_part(a)
            && self.takes_part(b)
            && self.network.can_connect(a, b)
            && self.network.connection(a, b).is_none()
            // Each has noticed that the last connection is gone.
            && !knows(a, b)
            && !knows(b, a)
            && !self.has_its_twin(a, b)
    }

    /// One calls another, and is let in.
    fn connect(&mut self, from: usize, to: usize) {
        let connection = self.network.connect(from, to);
        for (node, other) in [(from, to), (to, from)] {
            let Some(running) = &self.nodes[other].running else {
                continue;
            };
            let event = NetworkEvent::Admitted {
                to: node,
                connection,
                peer: running.settings.node,
                greeting: running.greeting.clone(),
                dialed: node == from,
            };
            let delay = self.network.delay(&mut self.operator.random, other);
            self.network
                .in_order(connection, node, self.now + delay, event);
        }
    }

    /// A connection is gone; `dead` cannot notice.
    pub(super) fn cut_off(&mut self, connection: Connection, dead: Option<usize>) -> Checked {
        self.network.disconnect(connection);
        for node in [connection.a, connection.b] {
            if Some(node) != dead {
                let lost = End::Lost("the connection was lost".to_owned());
                self.closed(node, connection, lost)?;
            }
        }
        self.network.at(self.now + AGAIN_MS, NetworkEvent::Links);
        Ok(())
    }
}
