//! What the swarm reports: connections that are established, fail and go.

use std::net::SocketAddr;
use std::sync::Arc;

use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, ListenError, SwarmEvent};
use libp2p::{PeerId, mdns};
use tokio::time::Instant;

use super::{Connection, Switch};
use crate::PeerKey;
use crate::address::socket_address;
use crate::counters::Counters;
use crate::door::{Denied, Opened};
use crate::event::{DialFailure, Event, Refusal};
use crate::limits::{ADMISSION_TIME, STRANGERS_MAX};
use crate::link::Link;
use crate::network::BehaviourEvent;

impl Switch {
    pub(super) fn network(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Door(opened)) => self.opened(opened),
            SwarmEvent::Behaviour(BehaviourEvent::Discovery(mdns::Event::Discovered(found))) => {
                self.discovered(found, |peer, address| Event::Discovered { peer, address });
            }
            SwarmEvent::Behaviour(BehaviourEvent::Discovery(mdns::Event::Expired(gone))) => {
                self.discovered(gone, |peer, address| Event::Vanished { peer, address });
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => self.established(peer_id, connection_id, &endpoint),
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.closed(connection_id),
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                ..
            } => self.refuse(socket_address(&send_back_addr), listen_refusal(error)),
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => self.way_failed(connection_id, &error),
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "the group's listener failed to accept");
            }
            SwarmEvent::NewListenAddr { address, .. } => self.listening.add(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.listening.remove([&address]),
            SwarmEvent::ListenerClosed { addresses, .. } => {
                self.listening.remove(&addresses);
                tracing::error!(?addresses, "a listener of the group has stopped");
            }
            _ => {}
        }
    }

    fn established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let dialed = endpoint.is_dialer();
        let remote = socket_address(endpoint.get_remote_address());
        let (Some(peer), Some(remote)) = (PeerKey::of(&peer), remote) else {
            self.swarm.close_connection(id);
            if !dialed {
                self.refuse(remote, Refusal::NotANode);
            }
            return;
        };
        let call = if dialed {
            let call = self.way_found(id, peer);
            if call.is_none() {
                self.swarm.close_connection(id);
                return;
            }
            call
        } else {
            None
        };
        let connection = Connection {
            peer,
            remote,
            dialed,
            call,
            deadline: Instant::now() + ADMISSION_TIME,
            linked: false,
            admitted: false,
        };
        self.state.connections.insert(id, connection);
        if !dialed {
            self.make_room(id);
        }
    }

    /// The oldest stranger goes when there are too many: a member is one for an instant only.
    fn make_room(&mut self, newest: ConnectionId) {
        let connections = self.state.connections.iter();
        let strangers = connections.filter(|(_, c)| !c.dialed && !c.admitted);
        let strangers: Vec<_> = strangers.map(|(id, c)| (c.deadline, *id)).collect();
        if strangers.len() <= STRANGERS_MAX {
            return;
        }
        let others = strangers.into_iter().filter(|(_, id)| *id != newest);
        if let Some((_, oldest)) = others.min_by_key(|(deadline, _)| *deadline) {
            self.cast_out(oldest, Refusal::Crowded);
        }
    }

    /// Ends connections that have not been admitted in time, and tells of refusals.
    pub(super) fn sweep(&mut self, now: Instant) {
        let late = self.state.connections.iter();
        let late = late.filter(|(_, c)| !c.admitted && c.deadline <= now);
        let late: Vec<ConnectionId> = late.map(|(id, _)| *id).collect();
        for id in late {
            self.cast_out(id, Refusal::Late);
        }
        if let Some(event) = self.state.refusals.report(now) {
            self.offer(event);
        }
    }

    fn cast_out(&mut self, id: ConnectionId, reason: Refusal) {
        self.swarm.close_connection(id);
        let Some(facts) = self.state.connections.remove(&id) else {
            return;
        };
        self.release_claim(facts.peer, id);
        if facts.dialed {
            self.call_answered_by(facts.call, Some(DialFailure::NoAnswer));
        } else {
            self.refuse(Some(facts.remote), reason);
        }
    }

    pub(super) fn closed(&mut self, id: ConnectionId) {
        // A link tells of its end itself, when it has read what there was.
        let waiting = self.state.connections.get(&id);
        let Some(facts) = waiting.filter(|facts| !facts.linked) else {
            return;
        };
        let (peer, remote, dialed, call) = (facts.peer, facts.remote, facts.dialed, facts.call);
        self.state.connections.remove(&id);
        self.release_claim(peer, id);
        if dialed {
            self.call_answered_by(call, Some(DialFailure::NotAdmitted));
        } else {
            self.hung_up(peer, remote);
        }
    }

    /// The caller hung up before it was admitted. That is no refusal while another connection with
    /// the same peer exists: two that call each other at once keep one and hang up the other, and
    /// a caller that tries QUIC and TCP hangs up the later one. The last one that fails counts.
    pub(super) fn hung_up(&mut self, peer: PeerKey, remote: SocketAddr) {
        let mut connections = self.state.connections.values();
        // A session has its connection among them, and so has a claim.
        if !connections.any(|connection| connection.peer == peer) {
            self.refuse(Some(remote), Refusal::HungUp);
        }
    }

    fn opened(&mut self, opened: Opened) {
        let Some(facts) = self.state.connections.get_mut(&opened.connection) else {
            // It was given up meanwhile; dropping the stream resets it.
            return;
        };
        facts.linked = true;
        let link = Link {
            connection: opened.connection,
            peer: facts.peer,
            remote: facts.remote,
            dialed: facts.dialed,
            context: Arc::clone(&self.context),
            reports: self.state.reporter.clone(),
        };
        self.state.links.spawn(link.run(opened.stream));
    }

    pub(super) fn refuse(&mut self, remote: Option<SocketAddr>, reason: Refusal) {
        Counters::count(&self.context.counters.refused);
        self.state.refusals.add(remote, reason, Instant::now());
    }

    fn discovered(
        &self,
        found: Vec<(PeerId, libp2p::Multiaddr)>,
        event: impl Fn(PeerKey, SocketAddr) -> Event,
    ) {
        let mut told = std::collections::BTreeSet::new();
        for (peer, address) in found {
            let peer = PeerKey::of(&peer).filter(|peer| *peer != self.context.local);
            let address = socket_address(&address);
            if let (Some(peer), Some(address)) = (peer, address)
                && told.insert((peer, address))
            {
                self.offer(event(peer, address));
            }
        }
    }
}

fn listen_refusal(error: ListenError) -> Refusal {
    match error {
        ListenError::LocalPeerId { .. } => Refusal::Myself,
        ListenError::Denied { cause } => match cause.downcast::<Denied>() {
            Ok(Denied::NotLoopback) => Refusal::NotLoopback,
            // The other limits are of libp2p's own making, and all of one meaning.
            Ok(Denied::TooMany) | Err(_) => Refusal::TooMany,
        },
        _ => Refusal::NotEncrypted,
    }
}
