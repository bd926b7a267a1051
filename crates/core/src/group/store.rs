//! What the group's protocol reads and writes.

use crate::membership::{GroupIdentity, MemberRow, Members, NodeId};

/// Why the store does not take something, for people to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(pub String);

/// The node's durable state, as far as the group's protocol needs it.
pub trait Store {
    /// The group that the node belongs to.
    fn group(&self) -> GroupIdentity;

    /// All nodes that belong to the group, or did.
    fn members(&self) -> Members;

    /// Whether a node is a member, or could become one.
    fn has_room_for(&self, node: NodeId) -> bool;

    /// The node belongs to this group from now on.
    fn join(&mut self, group: GroupIdentity) -> Result<(), Rejected>;

    /// Enters a row for all members. Returns the number of the node's last operation.
    fn enter(&mut self, row: MemberRow) -> Result<u64, Rejected>;

    /// How many of the node's own operations some connected member has.
    fn delivered(&self) -> u64;
}
