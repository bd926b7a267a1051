//! What the group's protocol wants done, and what it reports.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::{Rejected, Ticket};
use crate::membership::NodeId;
use crate::origin::Origin;
use crate::wire::group::{Goodbye, Greeting, Standing};

/// Something to do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Greet whoever comes from now on with this.
    Greet(Greeting),
    /// Send a standing to a peer.
    Send {
        /// To whom.
        peer: NodeId,
        /// In which session.
        session: u64,
        /// What.
        standing: Standing,
    },
    /// End a session.
    Disconnect {
        /// With whom.
        peer: NodeId,
        /// Which one.
        session: u64,
        /// What to say.
        goodbye: Goodbye,
    },
    /// Call these from now on, for ever, while they are not connected.
    Aim(Targets),
    /// Call a seed at once, whatever came of it before.
    CallSeed(String),
    /// Call a peer once.
    Call {
        /// Whom.
        peer: NodeId,
        /// At any of these, the likeliest first.
        addresses: Vec<String>,
    },
    /// These belong to the group from now on, with the origins of their operations, this node
    /// among them unless it is outside.
    Members(BTreeMap<NodeId, Origin>),
    /// A session is established: operations flow in it from now on.
    Established {
        /// With whom.
        peer: NodeId,
        /// Which one.
        session: u64,
        /// The origin of its operations.
        origin: Origin,
        /// The origin of what this run of it puts into filters that are kept in memory.
        life: Origin,
    },
    /// An established session is over.
    Ended {
        /// With whom.
        peer: NodeId,
        /// As when it was established.
        origin: Origin,
        /// As when it was established.
        life: Origin,
    },
    /// Make the node known to a member's failure detector.
    Announce(NodeId),
    /// Say to all failure detectors that the node leaves, and be somebody new for them from then
    /// on: else they remember it as gone where it comes back. Sessions are still open.
    Depart,
    /// The answer to [`Input::Join`](super::Input::Join).
    Joined(Ticket, Result<Joined, CommandError>),
    /// The answer to [`Input::Leave`](super::Input::Leave) and
    /// [`Input::Remove`](super::Input::Remove).
    Left(Ticket, Result<Left, CommandError>),
    /// Something to report.
    Event(Event),
}

/// Whom to call, for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// Addresses at which anybody may answer, `host:port`.
    pub seeds: BTreeSet<String>,
    /// Members with the addresses that they name.
    pub wanted: BTreeMap<NodeId, Vec<String>>,
}

/// The other side of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Its key.
    pub peer: NodeId,
    /// The name it gives.
    pub name: String,
    /// Where it is.
    pub remote: SocketAddr,
}

/// Something to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member is connected.
    Connected(Party),
    /// A session is over, as sessions are.
    Disconnected(Party, String),
    /// A peer broke the protocol of the connection.
    Malformed(Party, String),
    /// A peer does not belong here.
    Refused(Party, String),
    /// A peer says that this node does not belong there.
    RefusedBy(Party, String),
    /// Members call the node at these addresses from now on.
    Reached(Vec<String>),
    /// The node becomes part of a group.
    Joining([u8; 16]),
    /// It is no longer outside.
    Inside,
    /// It has left its group.
    Outside,
    /// The store did not take what the group needs.
    Rejected(&'static str, Rejected),
}

/// A member answered, and belongs to this node's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its key.
    pub peer: NodeId,
    /// Its name.
    pub name: String,
}

/// Who left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its key.
    pub peer: NodeId,
    /// Its name.
    pub name: String,
    /// Whether another member knows it already.
    pub known: bool,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nobody there took this node in.
    #[error("{address}: {reason}; it is not called again")]
    NotJoined {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// Nothing came of it in time.
    #[error("{address}: nobody has answered for {seconds} s; it is not called again")]
    NoAnswer {
        /// Where.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// There are as many addresses to call as there may be.
    #[error("more than {limit} addresses to join at, or joins under way")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// No other member has that key.
    #[error("no other member has the key {0}")]
    NoMember(NodeId),
    /// It is connected, so it is not gone.
    #[error("{0} is connected: run `grapevine group leave` there")]
    Connected(String),
    /// The node belongs to no group.
    #[error("this node is leaving, or has left its group")]
    Outside,
    /// The store takes no writes.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}
