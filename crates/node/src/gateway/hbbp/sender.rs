//! Sending: sealed when there are keys for it, to everybody on the link of an interface.

use std::io;
use std::net::UdpSocket;

use grapevine_core::wire::hbbp::{DATAGRAM_BYTES_MAX, EncodeError, Packet, SEAL_BYTES};

use super::interfaces;
use super::keys::{KeyDirectory, Side, Unusable};
use super::seal::{NONCE_RANDOM_BYTES, own_nonce};
use super::socket;

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no such datagram.
    #[error(transparent)]
    Message(#[from] EncodeError),
    /// There are keys, but none that can be used, and nothing goes in the clear then.
    #[error(transparent)]
    Keys(#[from] Unusable),
    /// The message has no room for what seals it.
    #[error("a message of {bytes} bytes, sealed, key and all; at most {DATAGRAM_BYTES_MAX} go")]
    NoRoomForSeal {
        /// How long it would be.
        bytes: usize,
    },
    /// There are no random bytes for a nonce.
    #[error("random bytes: {0}")]
    Random(io::Error),
    /// There is no such interface.
    #[error("interface not found")]
    NoInterface,
    /// The system refused.
    #[error("sending: {0}")]
    System(#[from] io::Error),
}

/// Sends messages. One socket serves for all interfaces.
#[derive(Debug)]
pub struct Sender {
    socket: UdpSocket,
    keys: KeyDirectory,
    port: u16,
}

impl Sender {
    /// A sender to listeners at `port`.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn new(keys: KeyDirectory, port: u16) -> io::Result<Self> {
        Ok(Sender {
            socket: socket::sending()?,
            keys,
            port,
        })
    }

    /// Sends a message to everybody on the link of `interface`, sealed when there are keys for
    /// it. Whether somebody hears it nobody knows.
    ///
    /// # Errors
    /// When nothing was sent, in this order: too long, keys, too long once sealed, interface.
    pub fn send(&self, interface: &str, key: &[u8], payload: &[u8]) -> Result<(), SendError> {
        self.send_datagram(interface, &seal(&self.keys, key, payload)?)
    }

    /// The same in the clear, whatever keys there are.
    ///
    /// # Errors
    /// When nothing was sent, in this order: too long, interface.
    pub fn send_plain(&self, interface: &str, key: &[u8], payload: &[u8]) -> Result<(), SendError> {
        self.send_datagram(interface, &Packet { key, payload }.encode()?)
    }

    fn send_datagram(&self, interface: &str, datagram: &[u8]) -> Result<(), SendError> {
        let number = interfaces::number(interface)?.ok_or(SendError::NoInterface)?;
        self.socket
            .send_to(datagram, socket::everybody(number, self.port))?;
        Ok(())
    }
}

/// The datagram of a message, sealed when there are keys for it.
///
/// # Errors
/// When it is too long, or keys cannot be used.
pub fn seal(keys: &KeyDirectory, key: &[u8], payload: &[u8]) -> Result<Vec<u8>, SendError> {
    let plain = Packet { key, payload }.encode()?;
    let Some(keys) = keys.find(key, Side::Sender)? else {
        return Ok(plain);
    };
    let bytes = plain.len() + SEAL_BYTES;
    if bytes > DATAGRAM_BYTES_MAX {
        return Err(SendError::NoRoomForSeal { bytes });
    }
    let mut random = [0; NONCE_RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| SendError::Random(error.into()))?;
    let payload = keys.seal(&own_nonce(random), payload);
    let sealed = Packet {
        key,
        payload: &payload,
    };
    Ok(sealed.encode()?)
}
