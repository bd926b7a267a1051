//! HBBP over IPv6 link-local multicast: `docs/protocols/hbbp.md`.
//!
//! A `station` for each interface takes datagrams from its socket. What is in them is found out by
//! an `opener`: the rules for keys, the key files (`keys`), the box (`seal`), and whether it was
//! opened before (`replay`). Who gets it is decided by a list of [`Consumer`]s in their order;
//! the last are the `handlers`, programs that are run one at a time by `program`. Sending is
//! `sender`'s. Reading order: `socket`, `interfaces`, `keys`, `seal`, `opener`, `station`.

mod handlers;
mod interfaces;
mod keys;
mod opener;
pub(crate) mod program;
mod replay;
mod seal;
mod sender;
mod socket;
mod station;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddrV6, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use grapevine_core::wire::hbbp::{Packet, check_key};
use tokio::sync::watch;

use crate::complaints::Complaints;
use crate::config::Hbbp;
use crate::metrics::HbbpMetrics;

pub use handlers::HandlersError;
pub use interfaces::{Change, Ear, LOOK_EVERY, Place, number};
pub use keys::{
    AbsentKey, KEY_DIRECTORY, KEY_DIRECTORY_VARIABLE, KeyDirectory, KeyFileError, KeygenError,
    Side, Unusable, generate,
};
pub use opener::{Content, Opener, Refusal};
pub use seal::{KEY_BYTES, KeyPair, public_key};
pub use sender::{SendError, Sender, seal};
pub use socket::everybody;

/// What was said, opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The interface on whose link it was said.
    pub interface: String,
    /// Who said it, as far as the network can tell.
    pub from: SocketAddrV6,
    /// What it is for; it has passed the rules for keys.
    pub key: Vec<u8>,
    /// What was said, in the clear.
    pub payload: Vec<u8>,
    /// Whether it came sealed.
    pub sealed: bool,
}

/// Somebody for whom packets are meant. Called on a thread that may wait for files, but while it
/// works no further packet of that interface is taken.
pub trait Consumer: Send + Sync {
    /// Whether packets with that key are for it. It is asked before a packet is opened, so that
    /// those for nobody cost little.
    fn wants(&self, interface: &str, key: &[u8]) -> bool;

    /// Takes a packet that it wanted. Nobody else is given it.
    fn take(&self, packet: Opened);
}

/// A way to say something.
pub trait Voice: Send + Sync {
    /// Says something to everybody on the link of an interface, sealed when there are keys for
    /// it. May wait for files.
    ///
    /// # Errors
    /// When nothing was sent.
    fn say(&self, interface: &str, key: &[u8], payload: &[u8]) -> Result<(), SendError>;
}

/// A datagram as it came.
struct Heard {
    interface: String,
    from: SocketAddrV6,
    datagram: Vec<u8>,
}

/// How the gateway behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where listeners listen.
    pub port: u16,
    /// Where key files are.
    pub keys: PathBuf,
    /// The directory of the programs that packets run; none are run without one.
    pub handlers: Option<PathBuf>,
}

impl From<&Hbbp> for Settings {
    fn from(config: &Hbbp) -> Self {
        Settings {
            port: config.port,
            keys: config.key_dir.clone(),
            handlers: config.handlers.clone(),
        }
    }
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The directory of handlers is not fit.
    #[error("hbbp.handlers: {0}")]
    Handlers(#[from] HandlersError),
    /// There is no socket to send from.
    #[error("hbbp: {0}")]
    Socket(#[from] io::Error),
}

/// The gateway's state.
pub struct Gateway {
    opener: Opener,
    sender: Sender,
    consumers: Vec<Arc<dyn Consumer>>,
    metrics: HbbpMetrics,
    complaints: Complaints,
}

impl Gateway {
    /// A gateway that hands packets to the first of `consumers` that wants them, and those that
    /// nobody wants to the handlers.
    ///
    /// # Errors
    /// When the directory of handlers is not fit, or there is no socket to send from.
    pub fn new(
        settings: &Settings,
        mut consumers: Vec<Arc<dyn Consumer>>,
        metrics: HbbpMetrics,
    ) -> Result<Arc<Self>, GatewayError> {
        if let Some(directory) = &settings.handlers {
            let handlers = handlers::Handlers::open(directory, metrics.clone())?;
            consumers.push(Arc::new(handlers));
        }
        let keys = KeyDirectory::new(settings.keys.clone());
        Ok(Arc::new(Gateway {
            opener: Opener::new(keys.clone()),
            sender: Sender::new(keys, settings.port)?,
            consumers,
            metrics,
            complaints: Complaints::default(),
        }))
    }

    /// Listens at the ear's place until `stop` turns true. `bound` is the socket of an ear that
    /// has looked already.
    pub async fn serve(
        self: Arc<Self>,
        ear: Ear,
        bound: Option<UdpSocket>,
        stop: watch::Receiver<bool>,
    ) {
        match station::Station::new(self, ear, bound) {
            Ok(mut station) => station.serve(stop).await,
            Err(error) => tracing::error!("hbbp: {error}"),
        }
    }

    /// Opens a datagram and hands it on.
    fn take(&self, heard: &Heard) {
        self.metrics.datagrams.inc();
        if let Err(refusal) = self.hand_on(heard) {
            self.metrics.refused(&refusal);
            let (from, interface) = (heard.from.ip(), &heard.interface);
            let what = format!("from {from} on {interface}: {refusal}");
            self.complaints.say("hbbp: refused a packet", &what);
        }
    }

    fn hand_on(&self, heard: &Heard) -> Result<(), Refusal> {
        let packet = Packet::parse(&heard.datagram)?;
        check_key(packet.key)?;
        let mut consumers = self.consumers.iter();
        let Some(consumer) = consumers.find(|one| one.wants(&heard.interface, packet.key)) else {
            self.metrics.unwanted.inc();
            return Ok(());
        };
        let began = Instant::now();
        let content = self.opener.open(&packet, began)?;
        self.metrics.taken.inc();
        consumer.take(Opened {
            interface: heard.interface.clone(),
            from: heard.from,
            key: packet.key.to_vec(),
            payload: content.payload,
            sealed: content.sealed,
        });
        let duration = self.metrics.packet_duration.at(0);
        duration.record(began.elapsed(), 1);
        Ok(())
    }
}

impl Voice for Gateway {
    fn say(&self, interface: &str, key: &[u8], payload: &[u8]) -> Result<(), SendError> {
        let sent = self.sender.send(interface, key, payload);
        match &sent {
            Ok(()) => self.metrics.sent.inc(),
            Err(_) => self.metrics.send_failures.inc(),
        };
        sent
    }
}
