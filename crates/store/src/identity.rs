//! Who a data directory is: its origin, its secret key, and the secret seed of the filters made
//! in it.
//!
//! The file `identity` is text, one `key value` line each, the last one a checksum of the lines
//! before it. It is written once and never changed; a restored directory gets a new origin.

use std::io;

use grapevine_core::hash::Seed;
use grapevine_core::membership::NodeId;
use grapevine_core::origin::Origin;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::disk::{Disk, read_file, replace_file};

/// Name of the file in the data directory.
pub const IDENTITY_FILE: &str = "identity";
const FORMAT_VERSION: u32 = 2;
const BYTES_MAX: u64 = 4096;

/// The secret half of a node's Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NodeSecret([u8; 32]);

impl NodeSecret {
    /// From 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        NodeSecret(bytes)
    }

    /// The bytes. Secret.
    pub const fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl std::fmt::Debug for NodeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NodeSecret(…)")
    }
}

/// The lasting facts of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name in every operation it makes.
    pub origin: Origin,
    /// Seed of filters that are not given one of their own, until the node meets a group. Secret.
    pub seed: Seed,
    /// Proves to other nodes who this one is. Secret.
    pub key: NodeSecret,
}

/// Why an identity cannot be read or written.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file is not what this program wrote.
    #[error("{IDENTITY_FILE} is corrupt: {0}")]
    Corrupt(&'static str),
    /// The file was written by a later program.
    #[error(
        "{IDENTITY_FILE} has format version {found}, this program reads up to {FORMAT_VERSION}"
    )]
    FutureVersion {
        /// Its version.
        found: u32,
    },
    /// The disk refused.
    #[error("{IDENTITY_FILE}: {0}")]
    Io(#[from] io::Error),
}

impl Identity {
    /// A new one, of random bytes.
    pub fn random(entropy: &dyn Fn() -> [u8; 16]) -> Self {
        let mut key = [0; 32];
        key[..16].copy_from_slice(&entropy());
        key[16..].copy_from_slice(&entropy());
        Identity {
            origin: Origin::new(entropy()),
            seed: Seed::new(entropy()),
            key: NodeSecret::new(key),
        }
    }

    /// Reads the identity of a directory; none when it has no such file.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, IdentityError> {
        match read_file(disk, IDENTITY_FILE, BYTES_MAX) {
            Ok(bytes) => Self::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes it, atomically and durably.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), IdentityError> {
        Ok(replace_file(disk, IDENTITY_FILE, self.encode().as_bytes())?)
    }

    fn encode(&self) -> String {
        let lines = format!(
            "grapevine {FORMAT_VERSION}\norigin {}\nseed {}\nkey {}\n",
            self.origin,
            Origin::new(self.seed.bytes()),
            NodeId::new(self.key.bytes()),
        );
        format!("{lines}checksum {:016x}\n", xxh3_64(lines.as_bytes()))
    }

    fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let text = std::str::from_utf8(bytes).map_err(|_| IdentityError::Corrupt("not text"))?;
        let (lines, checksum) = text
            .rsplit_once("checksum ")
            .ok_or(IdentityError::Corrupt("no checksum line"))?;
        if checksum != format!("{:016x}\n", xxh3_64(lines.as_bytes())) {
            return Err(IdentityError::Corrupt("the checksum does not match"));
        }
        let field = |name: &str| {
            lines
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .ok_or(IdentityError::Corrupt("a line is missing"))
        };
        let version = field("grapevine")?
            .parse()
            .map_err(|_| IdentityError::Corrupt("the version is not a number"))?;
        if version != FORMAT_VERSION {
            return Err(IdentityError::FutureVersion { found: version });
        }
        let origin = Origin::new(hex(field("origin")?)?);
        Ok(Identity {
            origin,
            seed: Seed::new(hex(field("seed")?)?),
            key: NodeSecret::new(hex(field("key")?)?),
        })
    }
}

fn hex<const N: usize>(digits: &str) -> Result<[u8; N], IdentityError> {
    if digits.len() != 2 * N {
        return Err(IdentityError::Corrupt("a value has a wrong length"));
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let value = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        *byte = value.ok_or(IdentityError::Corrupt("a value is not hexadecimal"))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            origin: Origin::new([0xab; 16]),
            seed: Seed::new(*b"sixteen byte key"),
            key: NodeSecret::new([0x5c; 32]),
        }
    }

    #[test]
    fn identity_survives_its_file() {
        let decoded = Identity::decode(identity().encode().as_bytes()).unwrap();
        assert_eq!(decoded, identity());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = identity().encode().into_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
