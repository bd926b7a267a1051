//! What users ask of the group, and what they are answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use grapevine_core::group;
use grapevine_core::hash::Seed;
use grapevine_core::membership::{GroupIdentity, NodeId};
use tokio::sync::oneshot;

use super::owner::Owner;
use grapevine_net::{Address, PeerKey};

/// Something a user asks for.
pub(super) enum Command {
    /// Call an address from now on.
    Join {
        address: Address,
        /// What it stands for.
        resolved: Vec<SocketAddr>,
        answer: Answer<Joined>,
    },
    /// Leave the group, or declare that a member has.
    Leave {
        member: Option<String>,
        answer: Answer<Left>,
    },
}

/// Where an answer goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, CommandError>>;

/// Those who wait for an answer of the group's protocol.
#[derive(Default)]
pub(super) struct Waiting {
    last: group::Ticket,
    joins: BTreeMap<group::Ticket, Answer<Joined>>,
    leaves: BTreeMap<group::Ticket, Answer<Left>>,
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
    /// No member has that name or key.
    #[error("no other member has the name, or a key that begins with, {0:?}")]
    NoMember(String),
    /// Several have it.
    #[error("several members have the name, or a key that begins with, {0:?}: give the whole key")]
    Ambiguous(String),
    /// The group's protocol does not do it.
    #[error(transparent)]
    Group(#[from] group::CommandError),
    /// The system gave no random numbers.
    #[error("no random numbers for a group of its own: {0}")]
    NoRandomness(String),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

impl Waiting {
    fn next(&mut self) -> group::Ticket {
        self.last += 1;
        self.last
    }

    pub(super) fn joined(
        &mut self,
        ticket: group::Ticket,
        outcome: Result<group::Joined, group::CommandError>,
    ) {
        let outcome = outcome.map(|joined| Joined {
            peer: joined.peer.into(),
            name: joined.name,
        });
        if let Some(answer) = self.joins.remove(&ticket) {
            // Who asked may have gone.
            let _ = answer.send(outcome.map_err(CommandError::from));
        }
    }

    pub(super) fn left(
        &mut self,
        ticket: group::Ticket,
        outcome: Result<group::Left, group::CommandError>,
    ) {
        let outcome = outcome.map(|left| Left {
            peer: left.peer.into(),
            name: left.name,
            known: left.known,
        });
        if let Some(answer) = self.leaves.remove(&ticket) {
            let _ = answer.send(outcome.map_err(CommandError::from));
        }
    }
}

impl Owner {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Join {
                address,
                resolved,
                answer,
            } => {
                let ticket = self.waiting.next();
                self.waiting.joins.insert(ticket, answer);
                self.drive_group(group::Input::Join {
                    ticket,
                    address: address.to_string(),
                    resolved,
                });
            }
            Command::Leave { member, answer } => {
                let ticket = self.waiting.next();
                let input = match member {
                    None => group_of_one().map(|next| group::Input::Leave { ticket, next }),
                    Some(given) => self
                        .find(&given)
                        .map(|member| group::Input::Remove { ticket, member }),
                };
                match input {
                    Ok(input) => {
                        self.waiting.leaves.insert(ticket, answer);
                        self.drive_group(input);
                    }
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
        }
    }

    /// The one other member that has a name, or a key that begins so.
    fn find(&self, given: &str) -> Result<NodeId, CommandError> {
        let members = self.collections.members();
        let mut found = members.joined().filter(|(node, member)| {
            let key = PeerKey::from(*node);
            key != self.handle.local()
                && !given.is_empty()
                && (member.name == given || key.to_string().starts_with(given))
        });
        match (found.next(), found.next()) {
            (None, _) => Err(CommandError::NoMember(given.to_owned())),
            (Some((node, _)), None) => Ok(node),
            (Some(_), Some(_)) => Err(CommandError::Ambiguous(given.to_owned())),
        }
    }
}

/// A new group, which nobody has met.
fn group_of_one() -> Result<GroupIdentity, CommandError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| CommandError::NoRandomness(error.to_string()))?;
    let (mut id, mut seed) = ([0; 16], [0; 16]);
    id.copy_from_slice(&random[..16]);
    seed.copy_from_slice(&random[16..]);
    Ok(GroupIdentity {
        id,
        seed: Seed::new(seed),
        met: false,
    })
}
