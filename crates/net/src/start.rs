//! How a transport begins.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use grapevine_core::wire::group::GREETING_BYTES_MAX;
use libp2p::core::transport::ListenerId;
use libp2p::futures::StreamExt as _;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::address::is_loopback;
use super::counters::Counters;
use super::handle::Handle;
use super::limits::COMMANDS_MAX;
use super::link::{Context, Words, incarnation};
use super::listening::Listening;
use super::network::{self, Behaviour, BehaviourEvent};
use super::seeds::Seeds;
use super::switch::{State, Switch};
use super::{Events, Keyring, NodeKey, event};

/// Time for the listeners to say where they listen.
const LISTEN_TIME: Duration = Duration::from_secs(5);
/// The same for those that listen on all interfaces: there may be none of their family.
const INTERFACES_TIME: Duration = Duration::from_secs(1);
/// When no interface was named for so long, all were.
const INTERFACES_PAUSE: Duration = Duration::from_millis(50);

/// How bytes travel. Both are on unless one is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carriers {
    /// QUIC over UDP.
    pub quic: bool,
    /// TCP, with Noise and yamux.
    pub tcp: bool,
}

impl Carriers {
    /// QUIC first; TCP joins in when that takes long.
    pub const BOTH: Self = Carriers {
        quic: true,
        tcp: true,
    };
    /// Only QUIC.
    pub const QUIC: Self = Carriers {
        quic: true,
        tcp: false,
    };
    /// Only TCP.
    pub const TCP: Self = Carriers {
        quic: false,
        tcp: true,
    };
}

/// What a transport is told when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to be called, by TCP and QUIC at the same port; port 0 takes one that is free for
    /// both at each address. An empty list calls others and is called by nobody.
    pub listen: Vec<SocketAddr>,
    /// Whether to look for others on the local network, and to be seen there, by mDNS.
    pub discover: bool,
    /// The secrets of the group. An empty one keeps to this machine's loopback.
    pub keyring: Keyring,
    /// What members are told first, at most 16 KiB.
    pub greeting: Bytes,
    /// How to call and be called.
    pub carriers: Carriers,
}

/// Why a transport does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Others could reach it, and nothing would keep them out.
    #[error(
        "group.listen {listen} can be reached from other machines and there is no secret: set \
         group.secret_file, or listen on 127.0.0.1"
    )]
    NoSecret {
        /// Where it should have listened.
        listen: SocketAddr,
    },
    /// The address or its port cannot be had.
    #[error("group.listen {listen}: {source}")]
    Listen {
        /// Where it should have listened.
        listen: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// There is no way to carry anything.
    #[error("neither QUIC nor TCP may be used")]
    NoCarrier,
    /// The greeting is too long.
    #[error("a greeting of {0} bytes, the limit is {GREETING_BYTES_MAX}")]
    GreetingTooLong(usize),
    /// mDNS cannot be used.
    #[error("group.discover: {0}")]
    Discovery(io::Error),
    /// The encryption cannot be set up.
    #[error("the encryption of the group's connections cannot be set up")]
    Encryption,
    /// This machine has no random numbers to give.
    #[error("no random numbers: {0}")]
    NoRandomness(getrandom::Error),
}

/// Starts a transport within the current tokio runtime, and returns once it listens. It runs
/// until [`Handle::stop`], or until every handle is dropped.
///
/// # Errors
/// It cannot listen, or must not.
pub async fn start(settings: Settings, key: &NodeKey) -> Result<(Handle, Events), StartError> {
    let carriers = settings.carriers;
    if carriers.each().is_empty() {
        return Err(StartError::NoCarrier);
    }
    if settings.greeting.len() > GREETING_BYTES_MAX {
        return Err(StartError::GreetingTooLong(settings.greeting.len()));
    }
    if settings.keyring.is_empty() {
        refuse_reachable(&settings.listen)?;
    }
    let loopback_only = Arc::new(AtomicBool::new(settings.keyring.is_empty()));
    let mut swarm = network::build(&settings, key, Arc::clone(&loopback_only))?;
    let mut early = Vec::new();
    let listeners = network::listen(&mut swarm, &settings.listen, carriers)?;
    let addresses = listening(&mut swarm, listeners, &mut early).await?;
    let (addresses, current) = Listening::new(addresses);
    let (sink, events) = event::queue();
    let counters = Arc::new(Counters::default());
    let context = Arc::new(Context {
        local: key.public(),
        incarnation: incarnation().map_err(StartError::NoRandomness)?,
        words: Mutex::new(Words {
            ring: Arc::new(settings.keyring),
            greeting: settings.greeting,
        }),
        sink,
        counters,
    });
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    let registry = Arc::default();
    let started = Instant::now();
    let (seeds, called) = watch::channel(Vec::new());
    let switch = Switch {
        listening: addresses,
        seeds,
        swarm,
        context: Arc::clone(&context),
        registry: Arc::clone(&registry),
        commands,
        carriers,
        loopback_only,
        state: State::new(started),
    };
    tokio::spawn(switch.run(early));
    let seeds = Seeds::new(called, started);
    let listen = settings.listen.into();
    let handle = Handle {
        commands: sender,
        registry,
        context,
        addresses: current,
        seeds,
        listen,
    };
    Ok((handle, events))
}

/// Refuses addresses that other machines can reach.
///
/// # Errors
/// The first of them.
pub(super) fn refuse_reachable(listen: &[SocketAddr]) -> Result<(), StartError> {
    match listen.iter().find(|address| !is_loopback(address)) {
        Some(listen) => Err(StartError::NoSecret { listen: *listen }),
        None => Ok(()),
    }
}

/// Waits for the listeners; gives their addresses, those of all interfaces of one that listens
/// everywhere. Other events go into `early`, because the swarm does not repeat them.
async fn listening(
    swarm: &mut Swarm<Behaviour>,
    listeners: HashMap<ListenerId, SocketAddr>,
    early: &mut Vec<SwarmEvent<BehaviourEvent>>,
) -> Result<BTreeSet<Multiaddr>, StartError> {
    let started = Instant::now();
    let everywhere = |address: &SocketAddr| address.ip().is_unspecified();
    let any_everywhere = listeners.values().any(everywhere);
    let mut silent = listeners.clone();
    let mut addresses = BTreeSet::new();
    loop {
        // A machine may have no address of a family: its listener never names one.
        let end = match silent.values().find(|address| !everywhere(address)) {
            Some(_) => started + LISTEN_TIME,
            None if !silent.is_empty() => started + INTERFACES_TIME,
            None if any_everywhere => Instant::now() + INTERFACES_PAUSE,
            None => break,
        };
        match timeout_at(end, swarm.select_next_some()).await {
            Ok(SwarmEvent::NewListenAddr {
                listener_id,
                address,
            }) => {
                silent.remove(&listener_id);
                addresses.insert(address);
            }
            Ok(SwarmEvent::ListenerClosed {
                listener_id,
                reason: Err(source),
                ..
            }) => {
                let listen = listeners.get(&listener_id).copied();
                let listen = listen.unwrap_or((Ipv4Addr::UNSPECIFIED, 0).into());
                return Err(StartError::Listen { listen, source });
            }
            Ok(event) => early.push(event),
            Err(_) => match silent.values().find(|address| !everywhere(address)) {
                Some(listen) => {
                    return Err(StartError::Listen {
                        listen: *listen,
                        source: io::ErrorKind::TimedOut.into(),
                    });
                }
                None => break,
            },
        }
    }
    Ok(addresses)
}
