//! Who a node is on the network: an Ed25519 key, of which the public half is its name there.

use std::fmt;
use std::str::FromStr;

use grapevine_core::membership::NodeId;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};

/// Code of the multihash that holds the key itself.
const IDENTITY_MULTIHASH: u64 = 0;

/// How an encoded Ed25519 public key begins: key type 1, then 32 bytes of data.
const ED25519_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// The secret key of a node.
#[derive(Clone)]
pub struct NodeKey(ed25519::Keypair);

/// The public key of a node: 32 bytes. As text it is libp2p's peer id, `12D3KooW…`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey([u8; 32]);

/// A text that is not a node's public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a node's id: it looks like 12D3KooW… and has 52 characters")]
pub struct NotAPeerKey;

impl NodeKey {
    /// From the 32 secret bytes that the data directory keeps.
    ///
    /// # Panics
    /// Never: every 32 bytes are the seed of an Ed25519 key.
    #[must_use]
    pub fn from_bytes(mut secret: [u8; 32]) -> Self {
        let seed = ed25519::SecretKey::try_from_bytes(&mut secret);
        NodeKey(seed.expect("every 32 bytes are a seed").into())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PeerKey {
        PeerKey(self.0.public().to_bytes())
    }

    pub(super) fn pair(&self) -> Keypair {
        self.0.clone().into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey(of {})", self.public())
    }
}

impl From<NodeId> for PeerKey {
    fn from(node: NodeId) -> Self {
        PeerKey(node.bytes())
    }
}

impl From<PeerKey> for NodeId {
    fn from(key: PeerKey) -> Self {
        NodeId::new(key.0)
    }
}

impl PeerKey {
    /// From the 32 bytes of a public key.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        PeerKey(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// None for a key of another kind than Ed25519, which no node has.
    pub(super) fn of(peer: &PeerId) -> Option<Self> {
        let hash = peer.as_ref();
        if hash.code() != IDENTITY_MULTIHASH {
            return None;
        }
        let key = hash.digest().strip_prefix(&ED25519_PREFIX)?;
        key.try_into().ok().map(PeerKey)
    }

    /// None for bytes that are no point of the curve.
    pub(super) fn peer_id(&self) -> Option<PeerId> {
        let key = ed25519::PublicKey::try_from_bytes(&self.0).ok()?;
        Some(PublicKey::from(key).to_peer_id())
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer_id() {
            Some(id) => id.fmt(f),
            None => f.write_str("(no key)"),
        }
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({self})")
    }
}

impl FromStr for PeerKey {
    type Err = NotAPeerKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = PeerId::from_str(text).map_err(|_| NotAPeerKey)?;
        PeerKey::of(&id).ok_or(NotAPeerKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_name() {
        let key = NodeKey::from_bytes([7; 32]);
        let name = key.public().to_string();
        assert_eq!(NodeKey::from_bytes([7; 32]).public(), key.public());
        assert_ne!(NodeKey::from_bytes([8; 32]).public(), key.public());
        assert!(name.starts_with("12D3KooW"), "{name}");
        assert_eq!(name.parse(), Ok(key.public()));
        assert_eq!(
            PeerKey::of(&key.pair().public().to_peer_id()),
            Some(key.public())
        );
        assert!(
            !format!("{key:?}").contains("07"),
            "the secret is not shown"
        );
    }

    #[test]
    fn ids_of_other_kinds_are_not_keys() {
        for other in ["", "x", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"] {
            assert_eq!(other.parse::<PeerKey>(), Err(NotAPeerKey), "{other}");
        }
    }
}
