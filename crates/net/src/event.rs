//! What the transport tells its owner, through a queue that is bounded in number and in bytes.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use grapevine_core::wire::group::{FrameError, Goodbye, OpeningError, Reason};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use super::limits::EVENTS_MAX;
use super::{Address, PeerKey};

/// Counts the connections to all peers since the transport was started; never used twice, and a
/// later one has a higher number.
pub type SessionId = u64;

/// What happened. Those of one peer come in order: `Admitted`, its `Frame`s, `Closed`, and a later
/// session only after that.
#[derive(Debug)]
pub enum Event {
    /// A peer has proved its membership and said who it is.
    Admitted(Admitted),
    /// A frame of a peer.
    Frame {
        /// Who sent it.
        peer: PeerKey,
        /// In which session.
        session: SessionId,
        /// Its content.
        bytes: Bytes,
    },
    /// A queue that refused a frame is half empty again. May come after the session's `Closed`.
    Writable {
        /// Whose queue.
        peer: PeerKey,
        /// Of which session.
        session: SessionId,
    },
    /// A session is over.
    Closed {
        /// With whom.
        peer: PeerKey,
        /// Which one.
        session: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// Somebody on the local network says to be this peer at this address. Anybody can say so. It
    /// comes once, as long as it is said.
    Discovered {
        /// Who it says to be.
        peer: PeerKey,
        /// Where.
        address: SocketAddr,
    },
    /// Nobody on the local network says so any more.
    Vanished {
        /// Who was said to be there.
        peer: PeerKey,
        /// Where.
        address: SocketAddr,
    },
    /// Somebody was not let in. At most one a second is told.
    Refused {
        /// From where, if that is known.
        remote: Option<SocketAddr>,
        /// Why.
        reason: Refusal,
        /// How many others were refused since the last one that was told.
        more: u64,
    },
    /// A call came to nothing.
    DialFailed {
        /// As it was given; the first, if there were several.
        address: Address,
        /// Why.
        reason: DialFailure,
    },
}

/// A peer that was let in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Who.
    pub peer: PeerKey,
    /// The session that begins.
    pub session: SessionId,
    /// What the peer says of itself.
    pub greeting: Bytes,
    /// Where it is.
    pub remote: SocketAddr,
    /// Whether this side called.
    pub dialed: bool,
    /// The version of the protocol that both use.
    pub version: u16,
    /// The id, in this node's keyring, of the secret that both proved to know. Empty in a group
    /// without one.
    pub key_id: String,
}

/// Why a session is over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CloseReason {
    /// This side ended it.
    #[error("ended here: {0}")]
    Local(Goodbye),
    /// The other side ended it and said why.
    #[error("ended by the peer: {0}")]
    Remote(Goodbye),
    /// The connection ended without a word.
    #[error("the connection was lost: {0}")]
    Lost(io::ErrorKind),
    /// Nothing was heard for too long, not even a heartbeat.
    #[error("nothing was heard for too long")]
    Silent,
    /// The peer sent what is no frame.
    #[error("the peer broke the protocol: {0}")]
    Malformed(Malformed),
}

impl CloseReason {
    /// Whether to come back soon is of no use.
    pub(super) fn lasts(&self) -> bool {
        match self {
            // Who leaves may be told a moment later to join the same peer.
            CloseReason::Local(goodbye) => goodbye.reason.lasts() && goodbye.reason != Reason::Left,
            CloseReason::Remote(goodbye) => goodbye.reason.lasts(),
            _ => false,
        }
    }
}

/// What a peer sent that the protocol does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// An opening that cannot be read.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// A goodbye without a reason.
    #[error("a goodbye has no reason")]
    Goodbye,
    /// A frame at the wrong time.
    #[error("a frame comes at the wrong time")]
    Order,
}

/// Why somebody was not let in.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no secret, and it comes from another machine.
    #[error("there is no secret (group.secret_file), so only loopback is let in")]
    NotLoopback,
    /// Too many connections from there are being encrypted.
    #[error("too many new connections from there")]
    TooMany,
    /// It was the oldest stranger when there were too many.
    #[error("too many connections that have not proved their membership")]
    Crowded,
    /// The connection could not be encrypted.
    #[error("the connection could not be encrypted")]
    NotEncrypted,
    /// It has a key of another kind than every node.
    #[error("it has no Ed25519 key")]
    NotANode,
    /// It is this node, or has a copy of its key.
    #[error("it has this node's own key")]
    Myself,
    /// It did not prove that it knows a secret of this node.
    #[error("it knows no secret that is accepted here")]
    NoProof,
    /// It took too long to prove it.
    #[error("it did not prove its membership in time")]
    Late,
    /// It hung up before it had proved it.
    #[error("it hung up before it had proved its membership")]
    HungUp,
    /// It proved it and then broke the protocol.
    #[error("it broke the protocol: {0}")]
    Malformed(Malformed),
    /// It proved it and was told why it cannot stay.
    #[error("{0}")]
    Told(Goodbye),
    /// This machine has no random numbers to give.
    #[error("no random numbers")]
    NoRandomness,
}

/// Why a call came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialFailure {
    /// The name stands for no address.
    #[error("the name cannot be resolved: {0}")]
    Name(Arc<str>),
    /// There is no secret, and the address is on another machine.
    #[error("there is no secret (group.secret_file), so only loopback is called")]
    NotLoopback,
    /// It is this node itself, or one with a copy of its key.
    #[error("it is this node, or has a copy of its key")]
    Myself,
    /// Somebody else answers there.
    #[error("another peer answers there")]
    WrongPeer,
    /// Nobody answers.
    #[error("nobody answers")]
    NoAnswer,
    /// Somebody answered and hung up: mostly, because no secret is accepted by both.
    #[error("it let us not in: probably another secret")]
    NotAdmitted,
    /// It did not prove that it knows a secret of this node.
    #[error("it knows no secret that is accepted here")]
    NoProof,
    /// It has proved its membership, and said why it does not take us or we do not take it.
    #[error("{0}")]
    Told(Goodbye),
    /// It broke the protocol.
    #[error("it broke the protocol: {0}")]
    Malformed(Malformed),
    /// As many calls are made as may be.
    #[error("too many calls at a time")]
    TooMany,
    /// This machine has no random numbers to give.
    #[error("no random numbers")]
    NoRandomness,
}

/// The peers whose queues have room again: one place for each, so nobody has to wait to say so.
#[derive(Debug, Default)]
struct Writable {
    sessions: Mutex<BTreeSet<(PeerKey, SessionId)>>,
    some: Notify,
}

/// An event and the room it takes until it is received.
type Queued = (Event, Option<OwnedSemaphorePermit>);

/// Where events go in.
#[derive(Clone, Debug)]
pub(super) struct EventSink {
    queue: mpsc::Sender<Queued>,
    writable: Arc<Writable>,
}

/// Where the owner receives them.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Queued>,
    writable: Arc<Writable>,
}

pub(super) fn queue() -> (EventSink, Events) {
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let writable = Arc::new(Writable::default());
    let sink = EventSink {
        queue: sender,
        writable: Arc::clone(&writable),
    };
    let events = Events {
        queue: receiver,
        writable,
    };
    (sink, events)
}

impl EventSink {
    /// Waits for room. Nothing happens when the owner listens no more.
    pub(super) async fn send(&self, event: Event, room: Option<OwnedSemaphorePermit>) {
        let _ = self.queue.send((event, room)).await;
    }

    /// For what may be lost when the owner is slow.
    pub(super) fn offer(&self, event: Event) {
        let _ = self.queue.try_send((event, None));
    }

    pub(super) fn writable(&self, peer: PeerKey, session: SessionId) {
        let sessions = self.writable.sessions.lock();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        sessions.insert((peer, session));
        drop(sessions);
        self.writable.some.notify_one();
    }
}

impl Writable {
    fn take(&self) -> Option<(PeerKey, SessionId)> {
        let sessions = self.sessions.lock();
        sessions.unwrap_or_else(PoisonError::into_inner).pop_first()
    }
}

impl Events {
    /// The next event; none once the transport has stopped. What a frame took of its peer's room
    /// is free again when it is returned.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((peer, session)) = self.writable.take() {
                return Some(Event::Writable { peer, session });
            }
            tokio::select! {
                queued = self.queue.recv() => return queued.map(|(event, _room)| event),
                () = self.writable.some.notified() => {}
            }
        }
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<Event> {
        if let Some((peer, session)) = self.writable.take() {
            return Some(Event::Writable { peer, session });
        }
        self.queue.try_recv().ok().map(|(event, _room)| event)
    }
}
