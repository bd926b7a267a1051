//! Carries out what the group's protocol wants, and reports what it meets.

use std::net::SocketAddr;

use bytes::Bytes;
use grapevine_core::group::{Admitted, End, Event, Input, Output, Party, Rejected, Store};
use grapevine_core::membership::{GroupIdentity, MemberRow, Members, NodeId};
use grapevine_core::origin::Origin;
use grapevine_core::sync::{Input as SyncInput, Machine};
use grapevine_core::wire::group::Greeting;
use grapevine_store::collections::{Collections, Exchange};

use super::courier::Errand;
use super::frame::{self, Frame};
use super::owner::Owner;
use super::status::Counts;
use grapevine_net::{CloseReason, DialFailure, Goodbye, PeerKey, Reason, Refusal, SessionId};

/// The session with a member, while operations flow in it.
pub(super) struct Channel {
    session: SessionId,
    origin: Origin,
    pub(super) life: Origin,
    /// It was noted that the member sends what only a newer version knows.
    newer: bool,
}

/// What the protocol reads and writes.
pub(super) struct View<'a> {
    pub(super) collections: &'a Collections,
    pub(super) machine: &'a Machine,
    pub(super) exchange: &'a Exchange,
    pub(super) origin: Origin,
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
        let joined = self.collections.join(group);
        joined
            .map(drop)
            .map_err(|error| Rejected(error.to_string()))
    }

    fn enter(&mut self, row: MemberRow) -> Result<u64, Rejected> {
        let entered = self.collections.enter_member(row);
        entered.map_err(|error| Rejected(error.to_string()))?;
        Ok(self.collections.journal().applied().get(self.origin))
    }

    fn delivered(&self) -> u64 {
        let peers = self.machine.status(self.exchange);
        let connected = peers.iter().filter(|peer| peer.connected);
        let counts = connected.map(|peer| peer.version.get(self.origin));
        counts.max().unwrap_or(0)
    }
}

impl Owner {
    /// Gives the group's protocol an input and carries out what it wants.
    pub(super) fn drive_group(&mut self, input: Input) {
        let now = self.now();
        let mut outputs = Vec::new();
        let mut view = View {
            collections: &self.collections,
            machine: &self.machine,
            exchange: &self.exchange,
            origin: self.origin,
        };
        self.protocol.handle(now, input, &mut view, &mut outputs);
        let mut answers = Vec::new();
        let mut shows = false;
        for output in outputs {
            match output {
                Output::Joined(..) | Output::Left(..) => answers.push(output),
                output => shows |= self.carry_out(now, output),
            }
        }
        // Who is answered sees what was done.
        if shows || !answers.is_empty() {
            self.show(now);
        }
        for answer in answers {
            match answer {
                Output::Joined(ticket, outcome) => self.waiting.joined(ticket, outcome),
                Output::Left(ticket, outcome) => self.waiting.left(ticket, outcome),
                _ => {}
            }
        }
    }

    /// Carries out one output; true if it changes what is to be seen.
    fn carry_out(&mut self, now: u64, output: Output) -> bool {
        match output {
            Output::Greet(greeting) => self.greet(&greeting),
            Output::Send {
                peer,
                session,
                standing,
            } => self.send_in(&peer.into(), session, frame::of_standing(standing)),
            Output::Disconnect {
                peer,
                session,
                goodbye,
            } => self
                .errands
                .run(Errand::Disconnect(peer.into(), session, goodbye)),
            Output::Aim(targets) => self.errands.aim(targets.into()),
            Output::CallSeed(address) => {
                if let Ok(address) = address.parse() {
                    self.errands.ask(address);
                }
            }
            Output::Call { peer, addresses } => {
                let addresses = super::courier::parsed(&addresses);
                self.errands.run(Errand::Call(peer.into(), addresses));
            }
            Output::Members(members) => {
                self.machine.set_members(self.protocol.members());
                self.detector.retain(|node| members.contains_key(node));
                self.keep_log();
            }
            Output::Established {
                peer,
                session,
                origin,
                life,
            } => {
                self.open(peer.into(), session, origin, life);
                return true;
            }
            Output::Ended { peer, origin, life } => {
                let peer = PeerKey::from(peer);
                self.channels.remove(&peer);
                self.drive(SyncInput::Disconnected(origin));
                self.forget_life(life, &peer);
                return true;
            }
            Output::Announce(peer) => self.detector.announce(now, peer),
            Output::Depart => {
                self.detector.leave(now);
                self.send_packets();
                self.detector.begin_again();
            }
            Output::Event(event) => self.group_event(now, event),
            Output::Joined(..) | Output::Left(..) => {}
        }
        false
    }

    fn greet(&self, greeting: &Greeting) {
        if let Err(error) = self.handle.set_greeting(greeting.encode().into()) {
            tracing::error!("the greeting: {error}");
        }
    }

    /// Operations flow from now on.
    fn open(&mut self, peer: PeerKey, session: SessionId, origin: Origin, life: Origin) {
        let channel = Channel {
            session,
            origin,
            life,
            newer: false,
        };
        self.channels.insert(peer, channel);
        self.drive(SyncInput::Connected(origin, super::random()));
        self.meet_life(life, peer);
    }

    fn group_event(&mut self, now: u64, event: Event) {
        match event {
            Event::Connected(party) => {
                tracing::info!("connected to {} at {}", party.name, party.remote);
            }
            Event::Disconnected(party, reason) => {
                tracing::info!("disconnected from {}", told(&party, &reason));
            }
            Event::Malformed(party, reason) => self.complaints.warn(now, &told(&party, &reason)),
            Event::Refused(party, reason) => {
                Counts::add(&self.board.counts.refused);
                let line = told(&party, &reason);
                self.complaints
                    .warn(now, &format!("not taken into the group: {line}"));
            }
            Event::RefusedBy(party, reason) => {
                let line = told(&party, &reason);
                self.complaints
                    .warn(now, &format!("not taken into the group: {line}"));
            }
            Event::Reached(addresses) => {
                tracing::info!("members call this node at {} now", addresses.join(", "));
            }
            Event::Joining(id) => {
                tracing::info!("becoming part of the group {}", Origin::new(id));
            }
            Event::Inside => tracing::info!("back in a group"),
            Event::Outside => tracing::info!("left the group"),
            Event::Rejected(what, rejected) => {
                self.complaints.warn(now, &format!("{what}: {rejected}"));
            }
        }
    }

    pub(super) fn admitted(&mut self, admitted: grapevine_net::Admitted) {
        let (peer, session) = (admitted.peer, admitted.session);
        match Greeting::decode(&admitted.greeting) {
            Ok(greeting) => self.drive_group(Input::Admitted(Admitted {
                peer: peer.into(),
                session,
                greeting,
                remote: admitted.remote,
                dialed: admitted.dialed,
            })),
            Err(error) => {
                let goodbye = Goodbye::new(Reason::Malformed, &error.to_string());
                self.errands.run(Errand::Disconnect(peer, session, goodbye));
                let now = self.now();
                self.complaints
                    .warn(now, &format!("{peer} at {}: {error}", admitted.remote));
            }
        }
    }

    pub(super) fn closed(&mut self, peer: PeerKey, session: SessionId, reason: &CloseReason) {
        let end = match reason {
            CloseReason::Remote(goodbye) => End::Goodbye(goodbye.clone()),
            CloseReason::Malformed(_) => End::Malformed(reason.to_string()),
            _ => End::Lost(reason.to_string()),
        };
        let peer = peer.into();
        self.drive_group(Input::Closed { peer, session, end });
    }

    pub(super) fn frame(&mut self, peer: PeerKey, session: SessionId, bytes: &Bytes) {
        let decoded = Frame::decode(bytes);
        let node = NodeId::from(peer);
        match decoded {
            Ok(Frame::Standing(standing)) => self.drive_group(Input::Standing {
                peer: node,
                session,
                standing,
            }),
            Ok(frame) => self.data(&peer, session, frame),
            Err(error) => self.drive_group(Input::Malformed {
                peer: node,
                session,
                error: error.to_string(),
            }),
        }
    }

    /// A frame other than a standing. What comes before a session is established is repaired.
    fn data(&mut self, peer: &PeerKey, session: SessionId, frame: Frame) {
        let channel = self.channels.get_mut(peer);
        let Some(channel) = channel.filter(|channel| channel.session == session) else {
            return;
        };
        let (origin, life) = (channel.origin, channel.life);
        match frame {
            Frame::Sync(message) => self.drive(SyncInput::Received(origin, message)),
            Frame::Memory(message) => self.drive_memory(SyncInput::Received(life, message)),
            Frame::Liveness(packet) => {
                let now = self.now();
                self.detector.receive(now, &packet);
            }
            Frame::Newer(what) => {
                Counts::add(&self.board.counts.passed_over);
                if !std::mem::replace(&mut channel.newer, true) {
                    let name = self.name_of(origin);
                    tracing::info!("{name} runs a newer version: {what} of it are passed over");
                }
            }
            Frame::Standing(_) => {}
        }
    }

    pub(super) fn send(&self, to: &PeerKey, frame: Bytes) {
        if let Some(channel) = self.channels.get(to) {
            self.send_in(to, channel.session, frame);
        }
    }

    fn send_in(&self, to: &PeerKey, session: SessionId, frame: Bytes) {
        match self.handle.send(to, session, frame) {
            Ok(()) => Counts::add(&self.board.counts.frames_sent),
            Err(error) => {
                tracing::debug!("a message to {to} is dropped: {error}");
                Counts::add(&self.board.counts.dropped);
            }
        }
    }

    pub(super) fn dial_failed(&mut self, address: &grapevine_net::Address, failure: &DialFailure) {
        let line = format!("calling {address}: {failure}");
        let now = self.now();
        match failure {
            DialFailure::NoAnswer | DialFailure::WrongPeer | DialFailure::TooMany => {
                tracing::debug!("{line}");
            }
            DialFailure::Myself => tracing::info!("{line}"),
            _ => self.complaints.warn(now, &line),
        }
        self.drive_group(Input::CallFailed {
            address: address.to_string(),
            reason: failure.to_string(),
        });
    }

    pub(super) fn turned_away(&mut self, remote: Option<SocketAddr>, reason: &Refusal, more: u64) {
        let now = self.now();
        let from = remote.map_or_else(|| "somewhere".to_owned(), |remote| remote.ip().to_string());
        let advice = match reason {
            Refusal::Myself => {
                ": if it is another node, its data directory is a copy; make copies with \
                 `grapevine backup` and `grapevine restore`"
            }
            _ => "",
        };
        if more > 0 {
            tracing::debug!("{more} more connections were refused");
        }
        let line = format!("refused a connection from {from}: {reason}{advice}");
        self.complaints.warn(now, &line);
    }

    /// Why another node did not take this one in, until one does.
    pub(super) fn not_taken_in(&self) -> Option<String> {
        let (party, reason) = self.protocol.refused()?;
        Some(told(party, reason))
    }
}

fn told(party: &Party, reason: &str) -> String {
    let key = PeerKey::from(party.peer);
    format!("{} ({key}) at {}: {reason}", party.name, party.remote)
}
