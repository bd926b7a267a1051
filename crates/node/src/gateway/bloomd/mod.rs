//! bloomd's protocol over TCP and UDP: `docs/protocols/bloomd.md`.
//!
//! A connection's task reads a buffer, `execute` answers every complete line in it, and the
//! replies are written once everything they acknowledge is as durable as promised. Work that
//! touches files is handed to the blocking pool and the lines behind it wait.

mod conf;
mod connection;
mod datagram;
mod execute;
mod job;
mod kinds;
mod long;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use crate::engine::Engine;
use crate::metrics::BloomdMetrics;
use crate::replies::{ClientMemory, Replies};
pub use conf::Settings;
use connection::Connection;
use grapevine_net::sockets::TcpListeners;

/// Why a connection was ended.
const STALLED: &str =
    "its client takes no replies, or sends no more of a long line (limits.write_timeout)";

/// Bounds of the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Longest line, in bytes.
    pub line: usize,
    /// Replies that may wait for one connection, in bytes.
    pub output: usize,
    /// A client that takes nothing for this long while replies wait, or sends nothing while a long
    /// line of it holds memory, is disconnected.
    pub write_timeout: Duration,
    /// A connection that is silent for this long is closed.
    pub idle: Option<Duration>,
}

/// The gateway's state.
pub struct Gateway {
    engine: Arc<Engine>,
    limits: Limits,
    /// What the replies of all connections may take, those of other gateways included.
    replies: Arc<Replies>,
    /// What unfinished lines may take, those of other gateways included.
    requests: Arc<Replies>,
    metrics: BloomdMetrics,
    settings: Settings,
}

impl Gateway {
    /// A gateway to `engine` that shows `settings`.
    #[must_use]
    pub(crate) fn new(
        engine: Arc<Engine>,
        limits: Limits,
        ClientMemory { replies, requests }: ClientMemory,
        metrics: BloomdMetrics,
        settings: Settings,
    ) -> Arc<Self> {
        Arc::new(Gateway {
            engine,
            limits,
            replies,
            requests,
            metrics,
            settings,
        })
    }

    /// Serves connections until `stop` turns true and those that were accepted have been
    /// answered.
    pub async fn serve_tcp(
        self: Arc<Self>,
        mut listeners: TcpListeners,
        mut stop: watch::Receiver<bool>,
    ) {
        let open = Arc::new(Semaphore::new(self.limits.connections));
        let stopped = stop.clone();
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listeners.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: others have to close first.
                    self.engine
                        .complain("accepting a bloomd connection", &error);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            match Arc::clone(&open).try_acquire_owned() {
                Ok(permit) => {
                    let (gateway, stop) = (Arc::clone(&self), stopped.clone());
                    tokio::spawn(async move {
                        gateway.serve_connection(stream, stop).await;
                        drop(permit);
                    });
                }
                Err(_) => {
                    self.metrics.connections_refused.inc();
                    let limit =
                        format!("{} are open (limits.connections)", self.limits.connections);
                    self.engine.complain("refused a bloomd connection", &limit);
                }
            }
        }
        drop(listeners);
        // All permits are back when the last connection has ended.
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        drop(open.acquire_many(all).await);
    }

    async fn serve_connection(&self, stream: TcpStream, stop: watch::Receiver<bool>) {
        self.metrics.connections.inc();
        self.metrics.connections_total.inc();
        // Replies are whole when they are written: waiting for more would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("setting TCP_NODELAY: {error}");
        }
        if let Err(error) = Connection::new(self, stream).serve(stop).await {
            if error.kind() == io::ErrorKind::TimedOut {
                self.metrics.connections_stalled.inc();
                self.engine.complain("ended a bloomd connection", &STALLED);
            }
            tracing::debug!("bloomd connection: {error}");
        }
        self.metrics.connections.dec();
    }

    /// Executes datagrams until `stop` turns true and those that had arrived are executed. Nothing
    /// in a datagram is ever answered.
    pub async fn serve_udp(self: Arc<Self>, socket: UdpSocket, stop: watch::Receiver<bool>) {
        datagram::Datagrams::new(&self, socket).serve(stop).await;
    }
}
