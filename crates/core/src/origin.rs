//! Who made a change.

use serde::{Deserialize, Serialize};

/// The random 128-bit name of a data directory. A directory restored from a backup gets a new
/// one, so that a sequence number is never used for two operations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin(#[serde(with = "serde_bytes")] [u8; 16]);

impl Origin {
    /// Length of the serialised form.
    pub const BYTES: usize = 16;

    /// An origin from 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Origin(bytes)
    }

    /// The 16 bytes.
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Origin({self})")
    }
}
