//! The group's protocol: how nodes that know one secret become members of one group, stay so and
//! leave it.
//!
//! [`Protocol::handle`] takes one input with the time and says what is to be done. Whatever
//! carries it out, the node's thread or the simulator, makes the connections, encrypts them and
//! proves the secret; a peer comes in here only after that, as [`Input::Admitted`].
//!
//! Reading order: this file, `session` (two nodes find out whether they belong together),
//! `roster` (the members, and whom to call), `joining`, `leaving`, `neighbours`; beside them `liveness`, which
//! tells who answers and decides nothing.

mod input;
mod joining;
mod leaving;
mod liveness;
mod neighbours;
mod output;
mod roster;
mod session;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::membership::{GroupIdentity, MemberState, NodeId};
use crate::origin::Origin;
use crate::wire::group::{Greeting, Group, Reason};
pub use input::{Admitted, End, Input, Ticket};
use joining::Joining;
use leaving::Leaving;
pub use liveness::{Detector, Liveness};
use neighbours::Neighbours;
pub use output::{CommandError, Event, Joined, Left, Output, Party, Targets};
pub use session::Session;
pub use store::{Rejected, Store};

/// Addresses to join at, at a time.
pub const SEEDS_MAX: usize = 64;
/// Members that are called, at a time.
pub const WANTED_MAX: usize = 1024;
/// Addresses of a member; further ones are not called.
pub const ADDRESSES_MAX: usize = 8;

/// Members are looked at this often, in milliseconds.
const LOOK_MS: u64 = 500;

/// What does not change while a node runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The configured name of the group.
    pub group_name: String,
    /// The node's key.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// The origin of its operations.
    pub origin: Origin,
    /// The origin of what this run of it puts into filters that are kept in memory.
    pub life: Origin,
    /// The version of its program.
    pub software: String,
    /// Where other members reach it, `host:port`.
    pub addresses: Vec<String>,
    /// Where it looks for a group, `host:port`.
    pub seeds: BTreeSet<String>,
}

impl Settings {
    /// What the node says to whoever comes, while it belongs to a group.
    pub fn greeting(&self, group: GroupIdentity) -> Greeting {
        Greeting {
            group_name: self.group_name.clone(),
            group: Group::from(group),
            origin: self.origin.bytes(),
            life: self.life.bytes(),
            node: self.node_name.clone(),
            software: self.software.clone(),
            addresses: self.addresses.clone(),
        }
    }
}

/// One node's side of the protocol.
#[derive(Debug)]
pub struct Protocol {
    settings: Settings,
    sessions: BTreeMap<NodeId, Session>,
    /// Members with an established session, by the origin of their operations.
    connected: BTreeMap<Origin, NodeId>,
    seeds: BTreeSet<String>,
    joining: Joining,
    leaving: Option<Leaving>,
    /// The node has left, and belongs to no group until it joins one.
    outside: bool,
    /// The node's own history differs from that which others have: it stays alone, so that nobody
    /// takes it over.
    apart: bool,
    /// Who refused this node last, and why, until somebody takes it in.
    refused: Option<(Party, String)>,
    neighbours: Neighbours,
    next_look: u64,
    next_announcement: u64,
    /// As they were output last.
    targets: Targets,
    /// As it was output last.
    members: BTreeMap<NodeId, Origin>,
}

/// What a step works with.
struct Context<'a> {
    now: u64,
    store: &'a mut dyn Store,
    out: &'a mut Vec<Output>,
}

impl Context<'_> {
    fn tell(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }
}

impl Protocol {
    /// A node that starts. Who has left and names no seeds stays outside of any group.
    pub fn new(settings: Settings, store: &dyn Store) -> Self {
        let row = store.members().get(settings.node).cloned();
        let member = row.and_then(|row| row.member().ok());
        let has_left = member.is_some_and(|member| member.state == MemberState::Left);
        Protocol {
            outside: has_left && settings.seeds.is_empty(),
            seeds: settings.seeds.clone(),
            settings,
            sessions: BTreeMap::new(),
            connected: BTreeMap::new(),
            joining: Joining::default(),
            leaving: None,
            apart: false,
            refused: None,
            neighbours: Neighbours::default(),
            next_look: 0,
            next_announcement: 0,
            targets: Targets::default(),
            members: BTreeMap::new(),
        }
    }

    /// Takes one input. `now` counts milliseconds from any fixed moment.
    pub fn handle(&mut self, now: u64, input: Input, store: &mut dyn Store, out: &mut Vec<Output>) {
        let context = &mut Context { now, store, out };
        match input {
            Input::Tick => self.tick(context),
            Input::Admitted(admitted) => self.admitted(admitted, context),
            Input::Standing {
                peer,
                session,
                standing,
            } => self.standing(peer, session, standing, context),
            Input::Malformed {
                peer,
                session,
                error,
            } => {
                if self
                    .sessions
                    .get(&peer)
                    .is_some_and(|one| one.id == session)
                {
                    self.refuse(&peer, Reason::Malformed, &error, context);
                }
            }
            Input::Closed { peer, session, end } => self.closed(peer, session, end, context),
            Input::Discovered { peer, address } => self.neighbours.found(now, peer, address),
            Input::Vanished { peer, address } => self.neighbours.gone(peer, &address),
            Input::CallFailed { address, reason } => self.call_failed(&address, &reason, context),
            Input::Join {
                ticket,
                address,
                resolved,
            } => self.join(ticket, address, resolved, context),
            Input::Leave { ticket, next } => self.leave(ticket, next, context),
            Input::Remove { ticket, member } => self.remove(ticket, member, context),
            Input::Addresses(addresses) => self.reached_at(addresses, context),
            Input::StayApart => self.stay_apart(context),
        }
    }

    fn tick(&mut self, context: &mut Context<'_>) {
        self.end_joins(context);
        self.drive_leaving(context);
        self.call_neighbours(context);
        if context.now >= self.next_look {
            self.next_look = context.now + LOOK_MS;
            self.follow_members(context);
            // Some may have waited.
            self.judge_all(context);
            self.end_idle_meetings(context);
            self.announce(context);
        }
    }

    /// A node whose own history is not the others' ends its sessions, and takes up no others.
    fn stay_apart(&mut self, context: &mut Context<'_>) {
        self.apart = true;
        for peer in self.peers() {
            self.end(&peer, session::apart(), context);
        }
    }

    /// Whether the node has left, and waits to join a group.
    pub fn is_outside(&self) -> bool {
        self.outside
    }

    /// Who refused this node last, and why, while nobody has taken it in.
    pub fn refused(&self) -> Option<&(Party, String)> {
        self.refused.as_ref()
    }

    /// The session with a peer.
    pub fn session(&self, peer: &NodeId) -> Option<&Session> {
        self.sessions.get(peer)
    }

    /// The name of the connected member whose operations have this origin.
    pub fn name_of(&self, origin: Origin) -> Option<&str> {
        let session = self.sessions.get(self.connected.get(&origin)?)?;
        Some(&session.name)
    }

    fn peers(&self) -> Vec<NodeId> {
        self.sessions.keys().copied().collect()
    }

    /// The group this node belongs to, to be compared with a peer's: who has promised another one
    /// to stay takes no other.
    fn group(&self, store: &dyn Store) -> GroupIdentity {
        let group = store.group();
        let bound = self.sessions.values().any(Session::has_promised);
        GroupIdentity {
            met: group.met || bound,
            ..group
        }
    }
}
