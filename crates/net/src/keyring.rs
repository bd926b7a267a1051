//! The secrets of a group: what a node proves its membership with.
//!
//! As text a keyring has one key a line, `ID HEX`; the first line is the key in use, which is
//! preferred wherever two nodes have several in common. Every line is accepted. Lines that begin
//! with `#` and blank lines are skipped. So a secret is replaced without cutting anybody off: add
//! the new one everywhere, use it everywhere, remove the old one everywhere.

use std::fmt;
use std::fmt::Write as _;

use grapevine_core::wire::group::{PROOF_BYTES, PROOF_INPUT_BYTES, PROOFS_MAX, Proof};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

mod file;

pub use file::{KeyringFileError, read_keyring, write_keyring};

/// Keys in one keyring. Each has its place in the message that proves membership.
pub const KEYS_MAX: usize = PROOFS_MAX;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// The longest id of a key, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 32;

/// What everybody who has no secret proves with. It keeps out nobody; connections without a
/// secret are made on loopback only.
const NO_SECRET: [u8; KEY_BYTES] = *b"grapevine group without a secret";

/// One secret and what people call it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    id: String,
    secret: [u8; KEY_BYTES],
}

/// The secrets that a node accepts, the one in use first. An empty one is a group without a
/// secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

/// Why a keyring is refused, or stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// A line is not `ID HEX`.
    #[error("line {line} is not a key: ID and {} hexadecimal digits", 2 * KEY_BYTES)]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// An id is empty, too long, or has other characters than letters, digits, `-`, `_`, `.`.
    #[error(
        "{id:?} is not the id of a key: 1 to {KEY_ID_BYTES_MAX} letters, digits, '-', '_', '.'"
    )]
    Id {
        /// As it was given, its first bytes.
        id: String,
    },
    /// The id is there already.
    #[error("there is a key {id:?} already")]
    Exists {
        /// The id.
        id: String,
    },
    /// The secret is there already under another id.
    #[error("the key {id:?} has this secret already")]
    SameSecret {
        /// The id of the one that is there.
        id: String,
    },
    /// No key has this id.
    #[error("there is no key {id:?}")]
    NotFound {
        /// The id.
        id: String,
    },
    /// The key is the one in use.
    #[error("{id:?} is in use: use another key first")]
    InUse {
        /// The id.
        id: String,
    },
    /// There are as many as there may be.
    #[error("a keyring has at most {KEYS_MAX} keys: remove one first")]
    Full,
}

impl Key {
    /// A key with its id.
    ///
    /// # Errors
    /// The id is not one.
    pub fn new(id: &str, secret: [u8; KEY_BYTES]) -> Result<Self, KeyringError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if id.is_empty() || id.len() > KEY_ID_BYTES_MAX || !id.chars().all(allowed) {
            let end = id.floor_char_boundary(KEY_ID_BYTES_MAX);
            let id = id[..end].to_owned();
            return Err(KeyringError::Id { id });
        }
        Ok(Key {
            id: id.to_owned(),
            secret,
        })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What tells it from others without saying what it is: the first 64 bits of a SHA-256 over it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        use sha2::Digest as _;
        let digest = Sha256::new()
            .chain_update(b"grapevine secret's fingerprint")
            .chain_update(self.secret)
            .finalize();
        let mut text = String::new();
        for byte in &digest[..8] {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// The line of a keyring file that holds it, to be carried to other nodes. It has the secret.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{} ", self.id);
        for byte in self.secret {
            // Writing to a string cannot fail.
            let _ = write!(line, "{byte:02x}");
        }
        line
    }

    /// Reads [`Key::line`].
    ///
    /// # Errors
    /// It is not an id, a space and the digits of a secret.
    pub fn from_line(text: &str, line: usize) -> Result<Self, KeyringError> {
        let wrong = KeyringError::Line { line };
        let mut words = text.split_ascii_whitespace();
        let (Some(id), Some(digits), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong);
        };
        if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|d| d.is_ascii_hexdigit()) {
            return Err(wrong);
        }
        let mut secret = [0; KEY_BYTES];
        for (byte, at) in secret.iter_mut().zip((0..).step_by(2)) {
            let pair = digits.get(at..at + 2).ok_or_else(|| wrong.clone())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong.clone())?;
        }
        Key::new(id, secret)
    }

    /// The proof that this key gives for an input.
    fn prove(&self, input: &[u8; PROOF_INPUT_BYTES]) -> Hmac<Sha256> {
        // A key of 32 bytes is shorter than a block, so it is used as it is.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block[..KEY_BYTES].copy_from_slice(&self.secret);
        let mut mac = Hmac::<Sha256>::new(&block);
        mac.update(input);
        mac
    }

    /// The proof itself.
    pub(super) fn proof(&self, input: &[u8; PROOF_INPUT_BYTES]) -> Proof {
        let mut proof = [0; PROOF_BYTES];
        proof.copy_from_slice(&self.prove(input).finalize().into_bytes());
        proof
    }

    /// Whether `proof` is this key's, in a time that does not depend on either.
    pub(super) fn verifies(&self, input: &[u8; PROOF_INPUT_BYTES], proof: &Proof) -> bool {
        self.prove(input).verify_slice(proof).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, …)", self.id)
    }
}

impl Keyring {
    /// A keyring of one key.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Keyring { keys: vec![key] }
    }

    /// Whether the group has no secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, the one in use first.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Accepts another key; the one in use stays.
    ///
    /// # Errors
    /// The id or the secret is there already, or there are [`KEYS_MAX`].
    pub fn add(&self, key: Key) -> Result<Self, KeyringError> {
        if let Some(same) = self.keys.iter().find(|known| known.id == key.id) {
            let id = same.id.clone();
            return Err(KeyringError::Exists { id });
        }
        if let Some(same) = self.keys.iter().find(|known| known.secret == key.secret) {
            let id = same.id.clone();
            return Err(KeyringError::SameSecret { id });
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(KeyringError::Full);
        }
        let mut keys = self.keys.clone();
        keys.push(key);
        Ok(Keyring { keys })
    }

    /// Puts a key that is there first.
    ///
    /// # Errors
    /// It is not there.
    pub fn using(&self, id: &str) -> Result<Self, KeyringError> {
        let mut keys = self.keys.clone();
        let at = self.position(id)?;
        keys[..=at].rotate_right(1);
        Ok(Keyring { keys })
    }

    /// No longer accepts a key. The last one can be removed: what is left is a group without a
    /// secret, on loopback only.
    ///
    /// # Errors
    /// It is not there, or it is in use and not the last one.
    pub fn without(&self, id: &str) -> Result<Self, KeyringError> {
        let at = self.position(id)?;
        if at == 0 && self.keys.len() > 1 {
            let id = id.to_owned();
            return Err(KeyringError::InUse { id });
        }
        let mut keys = self.keys.clone();
        keys.remove(at);
        Ok(Keyring { keys })
    }

    fn position(&self, id: &str) -> Result<usize, KeyringError> {
        let at = self.keys.iter().position(|key| key.id == id);
        at.ok_or_else(|| KeyringError::NotFound { id: id.to_owned() })
    }

    /// Reads the text of a keyring.
    ///
    /// # Errors
    /// The first line that is no key or says one again.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut ring = Keyring::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                ring = ring.add(Key::from_line(line, number)?)?;
            }
        }
        Ok(ring)
    }

    /// The text of a keyring. It has the secrets.
    #[must_use]
    pub fn text(&self) -> String {
        self.keys.iter().map(|key| key.line() + "\n").collect()
    }

    /// What is proved with: the keys, or the one that stands for no secret.
    pub(super) fn provers(&self) -> Vec<Key> {
        if !self.keys.is_empty() {
            return self.keys.clone();
        }
        vec![Key {
            id: String::new(),
            secret: NO_SECRET,
        }]
    }

    /// Whether a connection that was admitted by `key` still would be.
    pub(super) fn accepts(&self, key: &Key) -> bool {
        self.provers().iter().any(|own| own.secret == key.secret)
    }
}

#[cfg(test)]
mod tests;
