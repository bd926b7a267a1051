//! The owner's end of a transport.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use grapevine_core::wire::group::GREETING_BYTES_MAX;
use tokio::sync::{mpsc, oneshot, watch};

use super::link::Context;
use super::listening::Addresses;
use super::seeds::Seeds;
use super::start::refuse_reachable;
use super::switch::{Command, Registry};
use super::{
    Address, Counters, Goodbye, Keyring, PeerKey, SendError, SessionId, StartError, TargetError,
};

/// A running transport. Clones are the same one.
#[derive(Clone)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) registry: Arc<Registry>,
    pub(super) context: Arc<Context>,
    pub(super) addresses: watch::Receiver<Addresses>,
    pub(super) seeds: Seeds,
    pub(super) listen: Arc<[SocketAddr]>,
}

/// A peer with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub key: PeerKey,
    /// Its session.
    pub session: SessionId,
    /// Where it is.
    pub remote: SocketAddr,
    /// Whether this side called.
    pub dialed: bool,
    /// Bytes that wait to be sent to it.
    pub waiting: usize,
}

/// Why the transport did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// It has stopped.
    #[error("the transport has stopped")]
    Stopped,
    /// There are too many already.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// What was given would not have let it start.
    #[error(transparent)]
    Setting(#[from] StartError),
}

impl Handle {
    /// Who this node is.
    #[must_use]
    pub fn local(&self) -> PeerKey {
        self.context.local
    }

    /// Where it listens now; each port is TCP's and QUIC's. One for each interface when it listens
    /// on all. None when it does not listen.
    #[must_use]
    pub fn addresses(&self) -> Arc<[SocketAddr]> {
        Arc::clone(&self.addresses.borrow())
    }

    /// The same, for whoever waits for interfaces to come and go. It ends with the transport.
    #[must_use]
    pub fn watch_addresses(&self) -> watch::Receiver<Arc<[SocketAddr]>> {
        self.addresses.clone()
    }

    /// Gives a frame of at most 512 KiB to a session, never waiting.
    ///
    /// # Errors
    /// The queue is full, the session is over, or the frame is too large. Nothing was sent then.
    pub fn send(&self, peer: &PeerKey, session: SessionId, frame: Bytes) -> Result<(), SendError> {
        let sessions = self.registry.read();
        let sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        match sessions.get(peer) {
            Some(entry) if entry.session == session => entry.outbox.push(frame),
            _ => Err(SendError::Gone),
        }
    }

    /// The peers with a session, by key.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let sessions = self.registry.read();
        let sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        let mut peers: Vec<Peer> = sessions
            .iter()
            .map(|(key, entry)| Peer {
                key: *key,
                session: entry.session,
                remote: entry.remote,
                dialed: entry.dialed,
                waiting: entry.outbox.bytes(),
            })
            .collect();
        peers.sort_by_key(|peer| peer.key);
        peers
    }

    /// What it has done since it started.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.context.counters
    }

    /// Calls an address once. What comes of it is an event; nothing, if the peer that answers is
    /// connected already.
    ///
    /// # Errors
    /// The transport has stopped.
    pub async fn dial(&self, address: Address) -> Result<(), HandleError> {
        let addresses = vec![address];
        let peer = None;
        self.command(Command::Call { peer, addresses }).await
    }

    /// Calls a peer once, at any of some addresses.
    ///
    /// # Errors
    /// The transport has stopped.
    pub async fn dial_known(
        &self,
        peer: PeerKey,
        addresses: Vec<Address>,
    ) -> Result<(), HandleError> {
        let peer = Some(peer);
        self.command(Command::Call { peer, addresses }).await
    }

    /// Replaces the addresses that are called for ever, whoever answers, while nobody who
    /// answered there is connected.
    ///
    /// # Errors
    /// There are too many, or the transport has stopped.
    pub async fn set_seeds(&self, seeds: BTreeSet<Address>) -> Result<(), HandleError> {
        let (done, answer) = oneshot::channel();
        self.command(Command::Seeds { seeds, done }).await?;
        Ok(answer.await.map_err(|_| HandleError::Stopped)??)
    }

    /// Calls one of these addresses at once, whatever came of it before.
    ///
    /// # Errors
    /// The transport has stopped.
    pub async fn call_seed(&self, address: Address) -> Result<(), HandleError> {
        self.command(Command::CallSeed(address)).await
    }

    /// How calling these addresses goes.
    #[must_use]
    pub fn seeds(&self) -> &Seeds {
        &self.seeds
    }

    /// Calls a peer for ever while it is not connected, at these addresses in turn, which replace
    /// those that were known.
    ///
    /// # Errors
    /// There are too many, or the transport has stopped.
    pub async fn want(&self, peer: PeerKey, addresses: Vec<Address>) -> Result<(), HandleError> {
        let (done, answer) = oneshot::channel();
        let command = Command::Want {
            peer,
            addresses,
            done,
        };
        self.command(command).await?;
        Ok(answer.await.map_err(|_| HandleError::Stopped)??)
    }

    /// No longer calls a peer. A session that is there stays.
    ///
    /// # Errors
    /// The transport has stopped.
    pub async fn unwant(&self, peer: PeerKey) -> Result<(), HandleError> {
        self.command(Command::Unwant(peer)).await
    }

    /// Ends a session: what waits is sent, then the goodbye, within a second. A reason that
    /// [lasts](super::Reason::lasts) also makes the next call to that peer a late one.
    ///
    /// # Errors
    /// The transport has stopped.
    pub async fn disconnect(
        &self,
        peer: PeerKey,
        session: SessionId,
        goodbye: Goodbye,
    ) -> Result<(), HandleError> {
        let command = Command::Disconnect(peer, session, goodbye);
        self.command(command).await
    }

    /// Takes other secrets, for whoever comes from now on. Sessions that were admitted by a
    /// secret that is gone are ended; whoever still has a common one comes back by it.
    ///
    /// # Errors
    /// There is none, and others could reach this node; or the transport has stopped.
    pub async fn set_keyring(&self, ring: Keyring) -> Result<(), HandleError> {
        if ring.is_empty() {
            refuse_reachable(&self.listen)?;
        }
        self.command(Command::Keyring(Arc::new(ring))).await
    }

    /// Replaces what members are told first, for whoever comes from now on.
    ///
    /// # Errors
    /// It is over 16 KiB.
    pub fn set_greeting(&self, greeting: Bytes) -> Result<(), HandleError> {
        if greeting.len() > GREETING_BYTES_MAX {
            return Err(StartError::GreetingTooLong(greeting.len()).into());
        }
        self.context.words().greeting = greeting;
        Ok(())
    }

    /// Lets nobody in any more, sends what waits, says goodbye, and stops within two seconds.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.command(Command::Stop(done)).await.is_ok() {
            // It answers or is gone: stopped either way.
            let _ = stopped.await;
        }
    }

    async fn command(&self, command: Command) -> Result<(), HandleError> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| HandleError::Stopped)
    }
}
