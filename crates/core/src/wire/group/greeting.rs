//! What a node says of itself once it is admitted, and how it stands to the other: MessagePack
//! maps, in which a reader passes over what it does not know.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hash::Seed;
use crate::membership::GroupIdentity;

/// Longest text in a greeting, in bytes.
pub const GREETING_TEXT_BYTES_MAX: usize = 255;

/// Longest address in a greeting, in bytes.
pub const GREETING_ADDRESS_BYTES_MAX: usize = 512;

/// Most addresses in a greeting.
pub const GREETING_ADDRESSES_MAX: usize = 256;

/// Which group a node belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// The seed of its filters. Secret: only for a peer that has proved its membership.
    #[serde(with = "serde_bytes")]
    pub seed: [u8; 16],
    /// Whether the node ever was in a group with another.
    pub met: bool,
}

impl From<GroupIdentity> for Group {
    fn from(identity: GroupIdentity) -> Self {
        Group {
            id: identity.id,
            seed: identity.seed.bytes(),
            met: identity.met,
        }
    }
}

impl From<Group> for GroupIdentity {
    fn from(group: Group) -> Self {
        GroupIdentity {
            id: group.id,
            seed: Seed::new(group.seed),
            met: group.met,
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("id", &self.id)
            .field("met", &self.met)
            .finish_non_exhaustive()
    }
}

/// The greeting, carried in an [`Opening`](super::Opening).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// The configured name of the group.
    pub group_name: String,
    /// The group.
    pub group: Group,
    /// The origin of the node's operations.
    #[serde(with = "serde_bytes")]
    pub origin: [u8; 16],
    /// The origin of what this run of the node puts into filters that are kept in memory.
    #[serde(with = "serde_bytes")]
    pub life: [u8; 16],
    /// What people call the node.
    pub node: String,
    /// The version of its program.
    pub software: String,
    /// Where it can be reached.
    pub addresses: Vec<String>,
}

/// Why a greeting cannot be used.
#[derive(Debug, Error)]
pub enum GreetingError {
    /// It is no such map.
    #[error("a greeting that does not decode: {0}")]
    Map(#[from] rmp_serde::decode::Error),
    /// A text is too long.
    #[error("a greeting with a text of {length} bytes, the limit is {limit}")]
    TooLong {
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// It names too many addresses.
    #[error("a greeting with {0} addresses, the limit is {GREETING_ADDRESSES_MAX}")]
    Addresses(usize),
}

impl Greeting {
    /// The bytes of an opening's greeting.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("a greeting is plain data")
    }

    /// Reads one, which has at most [`GREETING_BYTES_MAX`](super::GREETING_BYTES_MAX) bytes: the
    /// opening around it was refused otherwise.
    ///
    /// # Errors
    /// It is no map with these keys, or something in it is beyond its bound.
    pub fn decode(bytes: &[u8]) -> Result<Self, GreetingError> {
        let greeting: Greeting = rmp_serde::from_slice(bytes)?;
        if greeting.addresses.len() > GREETING_ADDRESSES_MAX {
            return Err(GreetingError::Addresses(greeting.addresses.len()));
        }
        let texts = [&greeting.group_name, &greeting.node, &greeting.software];
        bounded(texts.into_iter(), GREETING_TEXT_BYTES_MAX)?;
        bounded(greeting.addresses.iter(), GREETING_ADDRESS_BYTES_MAX)?;
        Ok(greeting)
    }
}

fn bounded<'a>(
    mut texts: impl Iterator<Item = &'a String>,
    limit: usize,
) -> Result<(), GreetingError> {
    match texts.find(|text| text.len() > limit) {
        Some(text) => Err(GreetingError::TooLong {
            length: text.len(),
            limit,
        }),
        None => Ok(()),
    }
}

/// How a node stands to another while the two get to know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its group now.
    pub group: Group,
    /// It has found that the other belongs to the same one, and takes no other group while this
    /// session lasts.
    pub same: bool,
}
