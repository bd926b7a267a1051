//! The task that listens at one place.

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use grapevine_core::wire::hbbp::DATAGRAM_BYTES_MAX;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::interfaces::{self, Change, Ear, LOOK_EVERY, Place};
use super::{Gateway, Heard};

/// Datagrams taken from the socket before they are opened. What comes meanwhile waits in the
/// socket, and the kernel drops what does not fit there.
const BATCH_DATAGRAMS: usize = 64;
/// One byte more than the longest: what fills it was too long.
const BUFFER_BYTES: usize = DATAGRAM_BYTES_MAX + 1;
/// The pause after the socket could not be read.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Station {
    gateway: Arc<Gateway>,
    ear: Ear,
    socket: Option<UdpSocket>,
}

impl Station {
    /// A listener at the ear's place. A socket that was bound already is gone on with.
    pub(super) fn new(
        gateway: Arc<Gateway>,
        ear: Ear,
        bound: Option<std::net::UdpSocket>,
    ) -> std::io::Result<Self> {
        let socket = bound.map(UdpSocket::from_std).transpose()?;
        Ok(Station {
            gateway,
            ear,
            socket,
        })
    }

    /// Listens until `stop` turns true.
    pub(super) async fn serve(&mut self, mut stop: watch::Receiver<bool>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = async { drop(stop.wait_for(|stop| *stop).await) } => return,
                _ = look.tick() => self.look(),
                ready = readable(self.socket.as_ref()) => match ready {
                    Ok(()) => self.take_waiting().await,
                    Err(error) => self.failed("receiving", &error).await,
                },
            }
        }
    }

    fn look(&mut self) {
        let place = match self.ear.place() {
            Place::Interface(name) => name.clone(),
            Place::Everywhere => "every interface".to_owned(),
        };
        let socket = match self.ear.look() {
            Ok(Change::None) => return,
            Ok(Change::Gone) => {
                tracing::info!("hbbp: {place} has gone");
                self.socket = None;
                return;
            }
            Ok(Change::Bound(socket)) => UdpSocket::from_std(socket),
            Err(error) => Err(error),
        };
        match socket {
            Ok(socket) => {
                tracing::info!("hbbp: listening on {place}");
                self.socket = Some(socket);
            }
            Err(error) => {
                self.socket = None;
                let complaints = &self.gateway.complaints;
                let what = format!("on {place}: {error}");
                complaints.say("hbbp: listening", &what);
            }
        }
    }

    async fn failed(&self, what: &str, error: &std::io::Error) {
        let what = format!("{what}: {error}");
        self.gateway.complaints.say("hbbp: the socket", &what);
        tokio::time::sleep(PAUSE).await;
    }

    /// Takes in what waits in the socket, and has it opened and handed on. That reads key files
    /// and computes, so it has a thread of its own.
    async fn take_waiting(&mut self) {
        let Some(socket) = &self.socket else { return };
        let mut batch = Vec::new();
        let mut buffer = [0; BUFFER_BYTES];
        let mut failure = None;
        while batch.len() < BATCH_DATAGRAMS {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, SocketAddr::V6(from))) => {
                    batch.push(self.heard(&buffer[..length], from));
                }
                Ok((_, SocketAddr::V4(_))) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let gateway = Arc::clone(&self.gateway);
        let taken = tokio::task::spawn_blocking(move || {
            for heard in &batch {
                gateway.take(heard);
            }
        });
        if let Err(error) = taken.await {
            tracing::error!("hbbp: {error}");
        }
        if let Some(error) = failure {
            self.failed("receiving", &error).await;
        }
    }

    fn heard(&self, datagram: &[u8], from: SocketAddrV6) -> Heard {
        let interface = match self.ear.place() {
            Place::Interface(name) => name.clone(),
            Place::Everywhere => interfaces::name(from.scope_id()),
        };
        Heard {
            interface,
            from,
            datagram: datagram.to_vec(),
        }
    }
}

/// Waits until the socket can be read; without one for ever.
async fn readable(socket: Option<&UdpSocket>) -> std::io::Result<()> {
    match socket {
        Some(socket) => socket.readable().await,
        None => std::future::pending().await,
    }
}
