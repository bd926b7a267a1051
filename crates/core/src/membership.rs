//! The group and its members: rows of a replicated system table.
//!
//! A row is carried as the bytes its owner wrote, so that what a newer version says in it is not
//! lost on the way through an older one. Of two rows of one node the one with the larger version
//! wins; of one version one that says "joined" before one that says "left", then the larger bytes.

use serde::{Deserialize, Serialize};

use crate::hash::Seed;
use crate::origin::Origin;
pub use members::Members;

mod members;

/// Largest body of a row, in bytes.
pub const MEMBER_BYTES_MAX: usize = 16 << 10;
/// Most rows of members. Those of members that left make room for others.
pub const MEMBERS_MAX: usize = 4096;
/// Most members of which nothing is kept but that they left, and with which version.
pub const GONE_MAX: usize = 65_536;

/// The public key of a node: its name in the group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(#[serde(with = "serde_bytes")] [u8; 32]);

impl NodeId {
    /// From the bytes of an Ed25519 public key.
    pub const fn new(bytes: [u8; 32]) -> Self {
        NodeId(bytes)
    }

    /// The bytes of the key.
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// Which group a node belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupIdentity {
    /// Random name of the group.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// Seed of filters that are not given one of their own. Secret.
    pub seed: Seed,
    /// Whether the group ever had another member. A node that was always alone may become part
    /// of another group.
    pub met: bool,
}

/// What decides whether two nodes belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The name of the group, as configured.
    pub name: String,
    /// The group that the node belongs to.
    pub identity: GroupIdentity,
    /// The origin of its operations.
    pub origin: Origin,
}

/// What comes of two nodes meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// They belong to one group.
    Same,
    /// This node becomes part of the other's group.
    Take(GroupIdentity),
    /// The other becomes part of this node's group.
    Give,
    /// They do not belong together.
    Refused(Mismatch),
}

/// Why two nodes do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Their groups have different names.
    #[error("belongs to a group named {theirs:?}, this node to {ours:?} (group.name)")]
    Name {
        /// This node's.
        ours: String,
        /// The other's.
        theirs: String,
    },
    /// Both belong to groups that have had other members.
    #[error(
        "belongs to another group: {}, this node to {}; one of them has to leave its group first",
        Origin::new(*theirs),
        Origin::new(*ours)
    )]
    Group {
        /// This node's.
        ours: [u8; 16],
        /// The other's.
        theirs: [u8; 16],
    },
    /// They are copies of one data directory, which must not both make operations.
    #[error(
        "has the same origin {0}: its data directory is a copy; make a copy with `grapevine \
         backup` and `grapevine restore` instead"
    )]
    Origin(Origin),
}

/// What comes of two nodes meeting, by what they say of themselves. Each comes to the answer that
/// fits the other's.
pub fn meet(ours: &Introduction, theirs: &Introduction) -> Meeting {
    if ours.name != theirs.name {
        return Meeting::Refused(Mismatch::Name {
            ours: ours.name.clone(),
            theirs: theirs.name.clone(),
        });
    }
    if ours.origin == theirs.origin {
        return Meeting::Refused(Mismatch::Origin(ours.origin));
    }
    let (own, other) = (&ours.identity, &theirs.identity);
    let take = match (own.met, other.met) {
        _ if own.id == other.id => return Meeting::Same,
        (true, true) => {
            return Meeting::Refused(Mismatch::Group {
                ours: own.id,
                theirs: other.id,
            });
        }
        (own_met, other_met) if own_met != other_met => other_met,
        _ => other.id < own.id,
    };
    if take {
        Meeting::Take(*other)
    } else {
        Meeting::Give
    }
}

/// A node as its row says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The name people use.
    pub name: String,
    /// The origin of its operations.
    pub origin: Origin,
    /// Where it can be reached, `host:port`.
    pub addresses: Vec<String>,
    /// The version of its program.
    pub software: String,
    /// Its share of a store, relative to others.
    pub weight: u32,
    /// Whether it belongs to the group.
    pub state: MemberState,
    /// The group that it speaks of. Rows go wherever operations go, to another group as well.
    #[serde(default, with = "serde_bytes")]
    pub group: [u8; 16],
}

/// Whether a node belongs to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// It does.
    Joined,
    /// It did.
    Left,
}

/// A row: whose, its version, and what it says as MessagePack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// The node.
    pub node: NodeId,
    /// Grows with each change.
    pub version: u64,
    /// A MessagePack map, a [`Member`] and what later versions add.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// Why a row cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Its body is too long.
    #[error("a member's row of {0} bytes, the limit is {MEMBER_BYTES_MAX}")]
    TooLong(usize),
    /// Its body does not decode.
    #[error("a member's row does not decode: {0}")]
    Body(#[from] rmp_serde::decode::Error),
    /// There are too many members.
    #[error("a group has at most {MEMBERS_MAX} members, and has as many; one has to leave first")]
    TooMany,
}

impl MemberRow {
    /// A row that says `member`.
    pub fn new(node: NodeId, version: u64, member: &Member) -> Self {
        MemberRow {
            node,
            version,
            body: rmp_serde::to_vec_named(member).expect("a member is plain data"),
        }
    }

    /// What it says, as far as this version knows.
    pub fn member(&self) -> Result<Member, MemberError> {
        if self.body.len() > MEMBER_BYTES_MAX {
            return Err(MemberError::TooLong(self.body.len()));
        }
        Ok(rmp_serde::from_slice(&self.body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Member {
        Member {
            name: name.to_owned(),
            origin: Origin::new([1; 16]),
            addresses: vec!["[::1]:8676".to_owned()],
            software: "0.1.0".to_owned(),
            weight: 1,
            state: MemberState::Joined,
            group: [0; 16],
        }
    }

    fn introduction(id: u8, met: bool) -> Introduction {
        Introduction {
            name: "lab".to_owned(),
            identity: GroupIdentity {
                id: [id; 16],
                seed: Seed::new([id; 16]),
                met,
            },
            origin: Origin::new([id.wrapping_mul(3); 16]),
        }
    }

    #[test]
    fn who_meets_comes_to_answers_that_fit() {
        for (a_met, b_met) in [(false, false), (false, true), (true, false), (true, true)] {
            for (a, b) in [(1, 2), (2, 1)] {
                let (a, b) = (introduction(a, a_met), introduction(b, b_met));
                match (meet(&a, &b), meet(&b, &a)) {
                    (Meeting::Take(taken), Meeting::Give) => {
                        assert_eq!(taken, b.identity);
                        assert!(!a_met && (b_met || b.identity.id < a.identity.id));
                    }
                    (Meeting::Give, Meeting::Take(taken)) => {
                        assert_eq!(taken, a.identity);
                        assert!(!b_met && (a_met || a.identity.id < b.identity.id));
                    }
                    (
                        Meeting::Refused(Mismatch::Group { ours, theirs }),
                        Meeting::Refused(Mismatch::Group { .. }),
                    ) => {
                        assert!(a_met && b_met && ours == a.identity.id && theirs == b.identity.id)
                    }
                    unfit => panic!("{unfit:?}"),
                }
            }
        }
    }

    #[test]
    fn one_group_is_one_whatever_its_members_have_met() {
        for (ours, theirs) in [(false, false), (false, true), (true, true)] {
            let mut other = introduction(1, theirs);
            other.origin = Origin::new([9; 16]);
            assert_eq!(meet(&introduction(1, ours), &other), Meeting::Same);
        }
    }

    #[test]
    fn other_names_and_copies_are_refused() {
        let ours = introduction(1, false);
        let named = Introduction {
            name: "office".to_owned(),
            ..introduction(2, false)
        };
        let Meeting::Refused(reason) = meet(&ours, &named) else {
            panic!("another name");
        };
        assert!(reason.to_string().contains("\"office\""), "{reason}");
        let copy = Introduction {
            origin: ours.origin,
            ..introduction(2, false)
        };
        let copied = Meeting::Refused(Mismatch::Origin(ours.origin));
        assert_eq!(meet(&ours, &copy), copied);
    }

    #[test]
    fn the_newer_row_wins_and_ties_go_to_the_larger_bytes_in_any_order() {
        let node = NodeId::new([7; 32]);
        let rows = [
            MemberRow::new(node, 1, &member("z")),
            MemberRow::new(node, 2, &member("a")),
            MemberRow::new(node, 2, &member("b")),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut members = Members::default();
            for index in order {
                members.merge(rows[index].clone()).expect("it decodes");
            }
            let (_, winner) = members.joined().next().expect("one member");
            assert_eq!(winner.name, "b", "{order:?}");
        }
    }

    #[test]
    fn what_a_newer_version_adds_to_a_row_is_carried_along() {
        #[derive(Serialize)]
        struct Newer {
            name: &'static str,
            origin: Origin,
            addresses: Vec<String>,
            software: &'static str,
            weight: u32,
            state: MemberState,
            zone: &'static str,
        }
        let newer = Newer {
            name: "a",
            origin: Origin::new([1; 16]),
            addresses: vec![],
            software: "9.0.0",
            weight: 1,
            state: MemberState::Joined,
            zone: "north",
        };
        let row = MemberRow {
            node: NodeId::new([1; 32]),
            version: 1,
            body: rmp_serde::to_vec_named(&newer).expect("plain data"),
        };
        let mut members = Members::default();
        members.merge(row.clone()).expect("it decodes");
        assert_eq!(members.rows().next(), Some(&row));
        assert!(
            members
                .merge(MemberRow {
                    version: 2,
                    body: vec![1],
                    ..row
                })
                .is_err()
        );
    }
}
