//! The one stream of each connection: the side that called opens it, the other accepts it, and a
//! connection offers nothing else. Sources of new connections are counted here as well.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, StreamProtocol, SubstreamProtocol, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::address::{is_loopback, socket_address};
use super::limits::{ADMISSION_TIME, PENDING_PER_SOURCE_MAX};

/// Strangers can ask for it, so it says nothing of the program; versions are told to members.
const STREAM: StreamProtocol = StreamProtocol::new("/stream/1");

/// Why a connection is refused before anything was read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("only loopback is let in without a secret")]
    NotLoopback,
    #[error("too many new connections from there")]
    TooMany,
}

/// The stream of a connection is open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: ConnectionId,
    pub(super) stream: Stream,
}

/// The behaviour that hands out the streams.
pub(super) struct Door {
    opened: VecDeque<Opened>,
    pending: HashMap<ConnectionId, IpAddr>,
    sources: HashMap<IpAddr, u32>,
    /// There is no secret.
    loopback_only: Arc<AtomicBool>,
}

impl Door {
    pub(super) fn new(loopback_only: Arc<AtomicBool>) -> Self {
        Door {
            opened: VecDeque::new(),
            pending: HashMap::new(),
            sources: HashMap::new(),
            loopback_only,
        }
    }

    fn settle(&mut self, connection: ConnectionId) {
        let Some(source) = self.pending.remove(&connection) else {
            return;
        };
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// One IPv4 address, or the first half of an IPv6 address: what one person can have many of.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((six.to_bits() >> 64 << 64).into()),
        four => four,
    }
}

impl NetworkBehaviour for Door {
    type ConnectionHandler = Doorkeeper;
    type ToSwarm = Opened;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let remote = socket_address(remote);
        let from_here = remote.as_ref().is_some_and(is_loopback);
        if !from_here && self.loopback_only.load(Ordering::Relaxed) {
            return Err(ConnectionDenied::new(Denied::NotLoopback));
        }
        let Some(remote) = remote else {
            return Ok(());
        };
        let source = source(remote.ip());
        let count = self.sources.entry(source).or_insert(0);
        if *count >= PENDING_PER_SOURCE_MAX {
            return Err(ConnectionDenied::new(Denied::TooMany));
        }
        *count += 1;
        self.pending.insert(connection, source);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Doorkeeper, ConnectionDenied> {
        self.settle(connection);
        Ok(Doorkeeper::Accepting)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Doorkeeper, ConnectionDenied> {
        Ok(Doorkeeper::Opening)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ListenFailure(failure) = event {
            self.settle(failure.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, connection: ConnectionId, stream: Stream) {
        self.opened.push_back(Opened { connection, stream });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Opened, Infallible>> {
        match self.opened.pop_front() {
            Some(opened) => Poll::Ready(ToSwarm::GenerateEvent(opened)),
            None => Poll::Pending,
        }
    }
}

/// What a connection still has to do about its stream.
pub(super) enum Doorkeeper {
    /// Accept it.
    Accepting,
    /// Open it.
    Opening,
    /// Hand it over.
    Has(Stream),
    /// Nothing.
    Done,
}

impl ConnectionHandler for Doorkeeper {
    type FromBehaviour = Infallible;
    type ToBehaviour = Stream;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        let accepting = matches!(self, Doorkeeper::Accepting);
        SubstreamProtocol::new(Offer(accepting.then_some(STREAM)), ()).with_timeout(ADMISSION_TIME)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Offer, (), Stream>> {
        match std::mem::replace(self, Doorkeeper::Done) {
            Doorkeeper::Opening => {
                let offer = SubstreamProtocol::new(Offer(Some(STREAM)), ());
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: offer.with_timeout(ADMISSION_TIME),
                })
            }
            Doorkeeper::Has(stream) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(stream)),
            other => {
                *self = other;
                Poll::Pending
            }
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer>) {
        // A second stream is dropped, which resets it.
        match (event, &self) {
            (
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                    protocol, ..
                }),
                Doorkeeper::Accepting,
            )
            | (
                ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                    protocol, ..
                }),
                Doorkeeper::Done,
            ) => *self = Doorkeeper::Has(protocol),
            _ => {}
        }
    }
}

/// The stream's protocol, while it may be opened.
pub(super) struct Offer(Option<StreamProtocol>);

impl UpgradeInfo for Offer {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(door: &mut Door, number: usize, from: &str) -> Result<(), Denied> {
        let local: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let remote: Multiaddr = from.parse().unwrap();
        let id = ConnectionId::new_unchecked(number);
        door.handle_pending_inbound_connection(id, &local, &remote)
            .map_err(|denied| denied.downcast().unwrap())
    }

    #[test]
    fn without_a_secret_only_loopback_comes_in() {
        let loopback_only = Arc::new(AtomicBool::new(true));
        let mut door = Door::new(Arc::clone(&loopback_only));
        let far = "/ip4/192.0.2.1/tcp/1";
        assert_eq!(arrive(&mut door, 1, "/ip4/127.0.0.9/tcp/1"), Ok(()));
        assert_eq!(arrive(&mut door, 2, "/ip6/::1/udp/1/quic-v1"), Ok(()));
        assert_eq!(arrive(&mut door, 3, far), Err(Denied::NotLoopback));
        assert_eq!(
            arrive(&mut door, 4, "/dns/x/tcp/1"),
            Err(Denied::NotLoopback)
        );
        loopback_only.store(false, Ordering::Relaxed);
        assert_eq!(arrive(&mut door, 5, far), Ok(()));
    }

    #[test]
    fn one_source_cannot_take_every_place() {
        let mut door = Door::new(Arc::default());
        let limit = usize::try_from(PENDING_PER_SOURCE_MAX).unwrap();
        let from = |number: usize| format!("/ip6/2001:db8::{number:x}/tcp/1");
        for number in 0..limit {
            assert_eq!(arrive(&mut door, number, &from(number)), Ok(()));
        }
        assert_eq!(arrive(&mut door, limit, &from(limit)), Err(Denied::TooMany));
        assert_eq!(arrive(&mut door, limit, "/ip6/2001:db9::1/tcp/1"), Ok(()));
        door.settle(ConnectionId::new_unchecked(0));
        door.settle(ConnectionId::new_unchecked(0));
        assert_eq!(arrive(&mut door, limit + 1, &from(0)), Ok(()));
        assert_eq!(arrive(&mut door, limit + 2, &from(0)), Err(Denied::TooMany));
        for number in 0..=limit + 1 {
            door.settle(ConnectionId::new_unchecked(number));
        }
        assert!(door.sources.is_empty() && door.pending.is_empty());
    }
}
