//! From a datagram to what was said: key, keys, box, replay.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use grapevine_core::wire::hbbp::{KeyRefusal, Packet, Sealed, TooLong};

use super::keys::{KeyDirectory, Side, Unusable};
use super::replay::ReplayWindow;
use super::seal::is_own_nonce;

/// Why a packet is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is too long.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Its key breaks a rule.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// There are keys for it, but none that can be used.
    #[error(transparent)]
    Keys(#[from] Unusable),
    /// There are keys for it, and it was not sealed with them.
    #[error("unable to decrypt payload")]
    Seal,
    /// It was sealed by one of ours and has been opened before.
    #[error("a packet that was opened before")]
    Replayed,
}

/// Opens packets with the keys of a directory, whose files are read for each one. What it knows
/// of the past is which boxes it has opened.
#[derive(Debug)]
pub struct Opener {
    keys: KeyDirectory,
    opened: Mutex<ReplayWindow>,
}

/// What was in a packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Content {
    /// The payload in the clear.
    pub payload: Vec<u8>,
    /// Whether it came sealed.
    pub sealed: bool,
}

impl Opener {
    /// With those keys.
    #[must_use]
    pub fn new(keys: KeyDirectory) -> Self {
        Opener {
            keys,
            opened: Mutex::default(),
        }
    }

    /// Opens a packet that came at `now`. With keys only a sealed one is taken, without them
    /// everything is plain.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn open(&self, packet: &Packet<'_>, now: Instant) -> Result<Content, Refusal> {
        let Some(keys) = self.keys.find(packet.key, Side::Listener)? else {
            return Ok(Content {
                payload: packet.payload.to_vec(),
                sealed: false,
            });
        };
        let sealed = Sealed::parse(packet.payload).ok_or(Refusal::Seal)?;
        let payload = keys.open(&sealed).ok_or(Refusal::Seal)?;
        // The original seals equal payloads alike, and others may count or begin anew.
        if is_own_nonce(sealed.nonce) {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            if !opened.is_new(&sealed, now) {
                return Err(Refusal::Replayed);
            }
        }
        Ok(Content {
            payload,
            sealed: true,
        })
    }
}
