//! libp2p put together: QUIC and TCP, encrypted, with one stream a connection, and nothing that
//! talks to strangers by itself. There is no identify and no ping: the first tells everybody what
//! a node is, and a heartbeat in the stream does the work of the second.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::ListenerId;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OrTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{NetworkBehaviour, Swarm};
use libp2p::{PeerId, Transport as _, mdns, noise, quic, swarm, tcp};

use super::address::{Carrier, multiaddr};
use super::door::Door;
use super::limits::{
    ADMISSION_TIME, PEERS_MAX, PENDING_MAX, SILENCE_MAX, STRANGERS_MAX, STREAMS_MAX, WINDOW_BYTES,
};
use super::muxer::Multiplex;
use super::{Carriers, NodeKey, Settings, StartError};
use crate::sockets::{self, Refused, bind_all};

/// Between two questions on the local network who is there, after the first. Whoever hears the
/// answers to another's question asks none of its own for as long, so they stay as many as there
/// are nodes.
const QUERY_INTERVAL: Duration = Duration::from_secs(30);

/// Inbound streams that are negotiated at a time on one connection.
const NEGOTIATED_STREAMS_MAX: usize = 1;

/// Of the group's swarm.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) door: Door,
    pub(super) discovery: Toggle<mdns::tokio::Behaviour>,
}

pub(super) fn build(
    settings: &Settings,
    key: &NodeKey,
    loopback_only: Arc<AtomicBool>,
) -> Result<Swarm<Behaviour>, StartError> {
    let pair = key.pair();
    let me = pair.public().to_peer_id();
    let most = u32::try_from(PEERS_MAX + STRANGERS_MAX).unwrap_or(u32::MAX);
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(PENDING_MAX))
        // A stranger has to go only after the next one has come.
        .with_max_established_incoming(Some(most + PENDING_MAX))
        .with_max_established_outgoing(Some(most + PENDING_MAX));
    let discovery = settings
        .discover
        .then(|| {
            let config = mdns::Config {
                query_interval: QUERY_INTERVAL,
                ..mdns::Config::default()
            };
            mdns::tokio::Behaviour::new(config, me)
        })
        .transpose()
        .map_err(StartError::Discovery)?;
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        door: Door::new(loopback_only),
        discovery: discovery.into(),
    };
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(ADMISSION_TIME)
        .with_max_negotiating_inbound_streams(NEGOTIATED_STREAMS_MAX)
        .with_dial_concurrency_factor(NonZeroU8::MIN);
    let transport = transport(&pair, settings.carriers)?;
    Ok(Swarm::new(transport, behaviour, me, config))
}

fn transport(
    pair: &Keypair,
    carriers: Carriers,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let noise = noise::Config::new(pair).map_err(|_| StartError::Encryption)?;
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1)
        .authenticate(noise)
        .multiplex(Multiplex)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let mut config = quic::Config::new(pair);
    config.handshake_timeout = ADMISSION_TIME;
    config.max_idle_timeout = u32::try_from(SILENCE_MAX.as_millis()).unwrap_or(u32::MAX);
    // The stream's heartbeats keep the connection alive.
    config.keep_alive_interval = SILENCE_MAX;
    config.max_concurrent_stream_limit = STREAMS_MAX;
    config.max_stream_data = WINDOW_BYTES;
    config.max_connection_data = WINDOW_BYTES;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = match carriers {
        Carriers::QUIC => quic.boxed(),
        Carriers::TCP => tcp.boxed(),
        _ => OrTransport::new(quic, tcp)
            .map(|either, _| either.into_inner())
            .boxed(),
    };
    Ok(TransportTimeout::new(both, ADMISSION_TIME).boxed())
}

/// Starts to listen at one port of all addresses for all carriers; returns the listeners, each
/// with its address.
pub(super) fn listen(
    swarm: &mut Swarm<Behaviour>,
    listen: &[SocketAddr],
    carriers: Carriers,
) -> Result<HashMap<ListenerId, SocketAddr>, StartError> {
    let mut listeners = HashMap::new();
    for address in free_addresses(listen, carriers)? {
        for carrier in carriers.each() {
            let listener = swarm.listen_on(multiaddr(address, carrier));
            let listener = listener.map_err(|error| StartError::Listen {
                listen: address,
                source: io::Error::other(error),
            })?;
            listeners.insert(listener, address);
        }
    }
    Ok(listeners)
}

/// The addresses once they are known to be free, with one port for all if they had none. libp2p
/// listens so that several programs may share a port, which is never meant here.
fn free_addresses(
    listen: &[SocketAddr],
    carriers: Carriers,
) -> Result<Vec<SocketAddr>, StartError> {
    let free = bind_all(listen, |mut address| {
        let mut tcp = None;
        if carriers.tcp {
            let (held, bound) = sockets::tcp(address)?;
            (tcp, address) = (Some(held), bound);
        }
        let mut udp = None;
        if carriers.quic {
            let (held, bound) = sockets::udp(address)?;
            (udp, address) = (Some(held), bound);
        }
        Ok(((tcp, udp), address))
    });
    let free = free.map_err(|Refused { address, source }| StartError::Listen {
        listen: address,
        source,
    })?;
    for missing in free.missing {
        tracing::warn!("group.listen: {missing}; the listener's other addresses are served");
    }
    let addresses = free.sockets.iter().map(|(_, address)| *address);
    Ok(addresses.collect())
}

impl Carriers {
    /// Those that are used, the preferred one first.
    pub(super) fn each(self) -> Vec<Carrier> {
        let quic = self.quic.then_some(Carrier::Quic);
        let tcp = self.tcp.then_some(Carrier::Tcp);
        quic.into_iter().chain(tcp).collect()
    }
}
