//! Synchronisation: one state machine that brings every operation to every node.
//!
//! It has no clock, socket or disk. [`Input`]s come in with the time and the node's
//! [`Replica`]; [`Output`]s are for the caller to carry out. Any message may be lost, come twice,
//! late or in another order; a peer may restart with less than it had, or lie.

mod clock;
mod drift;
pub mod fingerprint;
mod histories;
mod intake;
pub mod limits;
mod machine;
mod message;
mod parts;
mod peer;
mod push;
mod repair;
mod replica;
mod reports;
mod rights;
mod scrub;
mod serving;
mod stable;
#[cfg(test)]
mod tests;
mod transfer;
mod versions;
mod waiting;

use crate::origin::Origin;
use crate::version::{Dot, VersionVector};

pub use drift::{Off, Offset, Seconds, judge};
pub use limits::{BLOCK_LINES, OPERATION_BYTES_MAX, PARTS_MAX};
pub use machine::Machine;
pub use message::{Content, Entry, Message, MessageError, Report};
pub use replica::{
    Applied, Blob, BlockHashes, BlockLines, Cursor, LayerName, LegacyName, Line, Page, PageError,
    Part, Read, Replica, Run, Shown, Source, Unavailable, Wait,
};
pub use stable::Stable;

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A way to this peer is open. The number must not have been used by this node for this peer
    /// before, in another life neither (draw it at random), and is not 0.
    Connected(Origin, u64),
    /// The way to this peer is closed.
    Disconnected(Origin),
    /// A peer says this. Who it is was authenticated.
    Received(Origin, Message),
    /// Time has passed. To be given at least every 100 ms.
    Tick,
    /// The replica's applied or durable version has grown.
    Advanced,
}

/// Something that a node is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a connected peer; it may get lost.
    Send(Origin, Message),
    /// For the log, the metrics, or a simulator that counts rare branches.
    Event(Event),
}

/// Something worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer's side of the connection is another one than before: it was restarted, or the
    /// connection was made anew.
    PeerRestarted(Origin),
    /// The peer has less than it said before.
    PeerLowered(Origin),
    /// The peer stopped acknowledging: operations from `to` on are sent to it again.
    Rewound {
        /// The peer.
        peer: Origin,
        /// Number of the next own operation that would have been sent.
        from: u64,
        /// Number of the next one now.
        to: u64,
    },
    /// The peer was asked for operations of this many origins.
    Asked {
        /// The peer.
        peer: Origin,
        /// How many origins.
        origins: usize,
    },
    /// The peer did not deliver what it was asked for.
    NotDelivered {
        /// The peer.
        peer: Origin,
        /// Of whose operations.
        origin: Origin,
    },
    /// The peer was told that the log does not reach back to what it lacks.
    ToldBehind(Origin),
    /// The peer says that its log does not reach back to what is lacking here.
    Behind(Origin),
    /// Operations that did not continue what is here were dropped.
    Gap {
        /// Who sent them.
        peer: Origin,
        /// Whose they are.
        origin: Origin,
    },
    /// Operations were put aside until another one is in.
    Parked(Dot),
    /// Operations were put aside until bits of layers are in.
    ParkedForParts(Dot),
    /// Operations that would have had to wait were dropped: too many do already.
    ParkedFull(Origin),
    /// This operation cannot be understood; its origin is followed no further until the next
    /// start.
    Refused(Dot),
    /// The peer has more of this node's own operations than there are: this node's data was
    /// taken back to an earlier state behind its back. It must not write any more.
    OwnOperationsUnknown {
        /// The peer.
        peer: Origin,
        /// How many it has.
        theirs: u64,
        /// How many there are here.
        ours: u64,
    },
    /// The peer has other operations under the same numbers: the data of the origin's node was set
    /// back or copied behind its back.
    HistoriesPart {
        /// The peer.
        peer: Origin,
        /// Whose operations; this node's own, or another's.
        origin: Origin,
        /// How many of them are the same.
        common: u64,
    },
    /// A snapshot is being taken from the peer.
    SnapshotBegun(Origin),
    /// It goes on with this peer.
    SnapshotMoved(Origin),
    /// The whole state is being compared with the peer's.
    ScrubBegun(Origin),
    /// It is complete.
    SnapshotFinished(SnapshotCount),
    /// It was given up, and is begun again if it is still needed.
    SnapshotAbandoned(Origin),
    /// The peer sent a page that could not be merged.
    PageRefused(Origin, PageError),
    /// The peer's answer about bits cannot be right; it is asked only if nobody else can be.
    AnswerRefused(Origin),
    /// Bits that an operation waits for are fetched from the peer.
    PartsBegun(Origin),
    /// They are in.
    PartsFinished(SnapshotCount),
    /// A request of a snapshot had no answer and was sent again.
    RequestRepeated(Origin),
    /// More snapshot was asked for at once than is served.
    ServingLimited(Origin),
    /// The peer was asked for rights.
    RightsAsked(Origin),
    /// There are too many peers for this one.
    PeersFull(Origin),
    /// More origins than can be followed.
    OriginsFull(Origin),
}

/// What a snapshot came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotCount {
    /// Pages merged.
    pub pages: u64,
    /// Layers compared.
    pub layers: u64,
    /// Blocks that differed.
    pub blocks: u64,
    /// Lines received.
    pub lines: u64,
    /// Pieces of foreign layers' files received.
    pub blobs: u64,
}

/// How things stand with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who it is.
    pub peer: Origin,
    /// Whether there is a way to it.
    pub connected: bool,
    /// Whether all of what it has is known: the version below is whole.
    pub known: bool,
    /// What it has, for good.
    pub version: VersionVector,
    /// This node's durable operations that it has not got yet.
    pub lag: u64,
    /// Bytes of operations on their way to it.
    pub in_flight: usize,
    /// Origins that it is asked for.
    pub asked: usize,
    /// Origins that are read for it.
    pub serving: usize,
    /// How its clock stands to this node's, if that is known.
    pub clock: Option<Offset>,
    /// What was fetched so far, if a snapshot is being taken from it.
    pub snapshot: Option<SnapshotCount>,
}
