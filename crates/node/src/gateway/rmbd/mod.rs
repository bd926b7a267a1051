//! rmbd's protocol over UDP: `docs/protocols/rmbd.md`.
//!
//! The socket of an address does everything: clients are answered from it, rows leave from it and
//! their acknowledgements come back to it. `station` is the task that owns the `sockets`; it reads
//! what has arrived into a `batch`, and sends the rounds that `peers` decides on. Reading order:
//! `peers` (who is sent rows, and when), `admission` (which peers strangers may name), `batch`,
//! `station`.

mod admission;
mod batch;
mod durable;
mod host;
mod memory;
mod peers;
mod resolver;
mod sockets;
mod station;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use grapevine_core::bitmap::FirstRows;
use grapevine_store::filters::FilterError;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::complaints::Complaints;
use crate::config::{Address, Rmbd};
use crate::metrics::RmbdMetrics;

pub use durable::DurableBitmap;
pub use memory::MemoryBitmap;

/// A future of [`SharedBitmap::settle`].
pub type Settled<'a> = Pin<Box<dyn Future<Output = Result<(), FilterError>> + Send + 'a>>;

/// The bitmap that the gateway serves.
pub trait SharedBitmap: Send + Sync {
    /// The rows that clients and peers see, for reading. Keys hash over their bits.
    fn bitmap(&self) -> FirstRows<'_>;

    /// Sets bits, logs those that were new and hands them to the other nodes of the group. Gives
    /// the position of the log that covers these bits and all that could be read before; with no
    /// bits it is only asked for that position, which a node that takes no writes still gives.
    ///
    /// # Errors
    /// When the bits cannot be logged. Those that were not are not set.
    fn set(&self, bits: &[u16]) -> Result<u64, FilterError>;

    /// Waits until what is before `position` may be acknowledged.
    ///
    /// # Errors
    /// When it will never be as durable as promised.
    fn settle(&self, position: u64) -> Settled<'_>;
}

/// How the gateway behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The pause between two rounds.
    pub sync_delay: Duration,
    /// Peers that are never dropped.
    pub peers: Vec<Address>,
    /// Whether they are asked to send their rows as well.
    pub announce: bool,
}

impl From<&Rmbd> for Settings {
    fn from(config: &Rmbd) -> Self {
        Settings {
            sync_delay: config.sync_delay,
            peers: config.peers.clone(),
            announce: config.announce,
        }
    }
}

/// The gateway's state.
pub struct Gateway {
    collection: Arc<dyn SharedBitmap>,
    settings: Settings,
    metrics: RmbdMetrics,
    complaints: Complaints,
}

impl Gateway {
    /// A gateway to `collection`.
    #[must_use]
    pub fn new(
        collection: Arc<dyn SharedBitmap>,
        settings: Settings,
        metrics: RmbdMetrics,
    ) -> Arc<Self> {
        Arc::new(Gateway {
            collection,
            settings,
            metrics,
            complaints: Complaints::default(),
        })
    }

    /// Serves clients and peers of all sockets until `stop` turns true and what had arrived is
    /// answered. A socket of IPv6 is to take no IPv4: that has sockets of its own.
    pub async fn serve(self: Arc<Self>, sockets: Vec<UdpSocket>, stop: watch::Receiver<bool>) {
        match station::Station::new(&self, sockets) {
            Ok(mut station) => station.serve(stop).await,
            Err(error) => tracing::error!("rmbd.udp: {error}"),
        }
    }
}
