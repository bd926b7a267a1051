//! What users ask of the group, and what they are answered.

use std::net::SocketAddr;

use tokio::sync::oneshot;

use grapevine_net::{Address, PeerKey};

/// Something a user asks for.
pub(super) enum Command {
    /// Call an address from now on.
    Join {
        address: Address,
        /// What it stands for.
        resolved: Vec<SocketAddr>,
        answer: oneshot::Sender<Result<Joined, CommandError>>,
    },
    /// Leave the group, or say that a member has.
    Leave {
        member: Option<String>,
        answer: oneshot::Sender<Result<Left, CommandError>>,
    },
}

/// A member answered, and belongs to this node's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its key.
    pub peer: PeerKey,
    /// Its name.
    pub name: String,
}

/// Who left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The key of who left.
    pub peer: PeerKey,
    /// Its name.
    pub name: String,
    /// Whether another member knows it already.
    pub known: bool,
}

/// Why the group did not do what a user asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It is not an address.
    #[error("{0}")]
    Address(String),
    /// Nobody let us in.
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
    /// No member has that name or key.
    #[error("no other member has the name, or a key that begins with, {0:?}")]
    NoMember(String),
    /// Several have it.
    #[error("several members have the name, or a key that begins with, {0:?}: give the whole key")]
    Ambiguous(String),
    /// It is here.
    #[error("{0} is connected: run `grapevine group leave` there")]
    Connected(String),
    /// This node belongs to no group.
    #[error("this node is leaving, or has left its group")]
    Outside,
    /// The node takes no writes.
    #[error("{0}")]
    ReadOnly(String),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}
