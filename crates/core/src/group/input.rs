//! What happens to a node, as far as the group's protocol cares.

use core::net::SocketAddr;

use crate::membership::{GroupIdentity, NodeId};
use crate::wire::group::{Goodbye, Greeting, Standing};

/// Names a command, to which an answer is owed.
pub type Ticket = u64;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed. Wanted about ten times a second.
    Tick,
    /// A peer has proved that it knows the secret, and said who it is. It has no other session.
    Admitted(Admitted),
    /// A peer says how it stands to this node.
    Standing {
        /// Who.
        peer: NodeId,
        /// In which session.
        session: u64,
        /// What it says.
        standing: Standing,
    },
    /// A peer sent a frame that no version allows.
    Malformed {
        /// Who.
        peer: NodeId,
        /// In which session.
        session: u64,
        /// What is wrong with it.
        error: String,
    },
    /// A session is over.
    Closed {
        /// With whom.
        peer: NodeId,
        /// Which one.
        session: u64,
        /// How it ended.
        end: End,
    },
    /// Somebody on the local network claims to be this peer at this address.
    Discovered {
        /// Who it claims to be.
        peer: NodeId,
        /// Where, `host:port`.
        address: String,
    },
    /// Nobody on the local network claims so any more.
    Vanished {
        /// Who was claimed to be there.
        peer: NodeId,
        /// Where, `host:port`.
        address: String,
    },
    /// A call of a seed came to nothing.
    CallFailed {
        /// The seed.
        address: String,
        /// Why.
        reason: String,
    },
    /// An operator wants the node to join the group of whoever answers at an address.
    Join {
        /// To be answered by [`Output::Joined`](super::Output::Joined).
        ticket: Ticket,
        /// The address, `host:port`.
        address: String,
        /// What it stands for.
        resolved: Vec<SocketAddr>,
    },
    /// An operator wants the node to leave its group.
    Leave {
        /// To be answered by [`Output::Left`](super::Output::Left).
        ticket: Ticket,
        /// The group of one that it forms then: drawn at random, `met` by nobody.
        next: GroupIdentity,
    },
    /// An operator declares that another member is gone for good.
    Remove {
        /// To be answered by [`Output::Left`](super::Output::Left).
        ticket: Ticket,
        /// Which one.
        member: NodeId,
    },
    /// Others reach the node at these addresses from now on, `host:port`.
    Addresses(Vec<String>),
    /// The node's own history differs from that which others have of it.
    StayApart,
}

/// A peer that was let in.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Who.
    pub peer: NodeId,
    /// Tells its sessions apart; never used twice in one run.
    pub session: u64,
    /// What it says of itself.
    pub greeting: Greeting,
    /// Where it is.
    pub remote: SocketAddr,
    /// Whether this node called.
    pub dialed: bool,
}

/// How a session ended.
#[derive(Clone, Debug)]
pub enum End {
    /// The peer ended it, and said why.
    Goodbye(Goodbye),
    /// The peer broke the protocol of the connection.
    Malformed(String),
    /// Anything else.
    Lost(String),
}
