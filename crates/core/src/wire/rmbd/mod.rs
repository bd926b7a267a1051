//! rmbd's datagrams: bytes to values and back, nothing else.
//!
//! One datagram is one message. Its first byte is the type and its length must be exact; whatever
//! else arrives is dropped, since the protocol has no error reply. Only the reply to `has` has no
//! type byte: [`HasReply`] reads it where one is awaited. Keys and hosts are raw bytes of at most
//! [`FIELD_BYTES_MAX`]. What servers do with the messages is in `docs/protocols/rmbd.md`.

mod field;
mod hash;
#[cfg(test)]
mod tests;

pub use hash::{HASHES, positions};

use field::FIELD_BYTES;
pub use field::FIELD_BYTES_MAX;

/// Bits in the row of a `sync`, one byte each.
pub const ROW_BITS: usize = 400;
/// Rows of the original's filter.
pub const ROWS_ORIGINAL: u16 = 5;
/// Bytes of `add`, `has` and the reply to `has`.
pub const KEY_DATAGRAM_BYTES: usize = 1 + FIELD_BYTES;
/// Bytes of `sync`.
pub const SYNC_DATAGRAM_BYTES: usize = 3 + ROW_BITS;
/// Bytes of `peer`.
pub const PEER_DATAGRAM_BYTES: usize = 5 + FIELD_BYTES;
/// The acknowledgement of a `sync`; it says neither which row nor which round.
pub const ACK: [u8; 1] = [Type::Ack as u8];

#[derive(Clone, Copy)]
enum Type {
    Add = 0,
    Has = 1,
    Sync = 2,
    Peer = 3,
    Ack = 4,
}

/// What a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Add the key. Not answered.
    Add {
        /// At most [`FIELD_BYTES_MAX`] bytes.
        key: &'a [u8],
    },
    /// Is the key there? Answered by [`encode_has_reply`].
    Has {
        /// At most [`FIELD_BYTES_MAX`] bytes.
        key: &'a [u8],
    },
    /// Merge this row. Answered by [`ACK`] when there is such a row.
    Sync {
        /// The row, counted from 0.
        row: u16,
        /// One byte for each bit; any byte but 0 is a set bit.
        bits: &'a [u8; ROW_BITS],
    },
    /// Send your rows to that address from now on. Not answered.
    Peer {
        /// A name or an IPv4 address in any form; at most [`FIELD_BYTES_MAX`] bytes.
        host: &'a [u8],
        /// Wider than a port is: not every value is one.
        port: u32,
    },
    /// A row has arrived.
    Ack,
}

/// Reads a datagram that a server received; nothing when it is none of the five messages.
#[must_use]
pub fn parse(datagram: &[u8]) -> Option<Message<'_>> {
    let (kind, rest) = datagram.split_first()?;
    match *kind {
        0 => Some(Message::Add {
            key: field::read(rest.try_into().ok()?),
        }),
        1 => Some(Message::Has {
            key: field::read(rest.try_into().ok()?),
        }),
        2 => {
            let (row, bits) = rest.split_first_chunk()?;
            Some(Message::Sync {
                row: u16::from_be_bytes(*row),
                bits: bits.try_into().ok()?,
            })
        }
        3 => {
            let (host, port) = rest.split_first_chunk()?;
            Some(Message::Peer {
                host: field::read(host),
                port: u32::from_be_bytes(port.try_into().ok()?),
            })
        }
        // The one message of any length.
        4 => Some(Message::Ack),
        _ => None,
    }
}

/// `add`; a key over [`FIELD_BYTES_MAX`] bytes is cut, as the original client does.
#[must_use]
pub fn encode_add(key: &[u8]) -> [u8; KEY_DATAGRAM_BYTES] {
    typed(Type::Add, key)
}

/// `has`; a key over [`FIELD_BYTES_MAX`] bytes is cut, and its reply never echoes it whole.
#[must_use]
pub fn encode_has(key: &[u8]) -> [u8; KEY_DATAGRAM_BYTES] {
    typed(Type::Has, key)
}

/// The reply to `has`: the key as it was understood, and whether it is there.
#[must_use]
pub fn encode_has_reply(key: &[u8], present: bool) -> [u8; KEY_DATAGRAM_BYTES] {
    let mut datagram = [0; KEY_DATAGRAM_BYTES];
    let (field, verdict) = datagram.split_at_mut(FIELD_BYTES);
    field::write(key, field);
    verdict[0] = u8::from(present);
    datagram
}

/// `sync` with the bits of row `row`.
#[must_use]
pub fn encode_sync(row: u16, bits: &[bool; ROW_BITS]) -> [u8; SYNC_DATAGRAM_BYTES] {
    let mut datagram = [0; SYNC_DATAGRAM_BYTES];
    datagram[0] = Type::Sync as u8;
    datagram[1..3].copy_from_slice(&row.to_be_bytes());
    for (byte, bit) in datagram[3..].iter_mut().zip(bits) {
        *byte = u8::from(*bit);
    }
    datagram
}

/// `peer`. An original stops replicating for good when it is given port 0, one above 65535, or
/// an address it has no route to: whoever sends this must not name those.
#[must_use]
pub fn encode_peer(host: &[u8], port: u32) -> [u8; PEER_DATAGRAM_BYTES] {
    let mut datagram = [0; PEER_DATAGRAM_BYTES];
    datagram[0] = Type::Peer as u8;
    field::write(host, &mut datagram[1..=FIELD_BYTES]);
    datagram[1 + FIELD_BYTES..].copy_from_slice(&port.to_be_bytes());
    datagram
}

fn typed(kind: Type, key: &[u8]) -> [u8; KEY_DATAGRAM_BYTES] {
    let mut datagram = [0; KEY_DATAGRAM_BYTES];
    datagram[0] = kind as u8;
    field::write(key, &mut datagram[1..]);
    datagram
}

/// The reply to a `has`, as a client reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HasReply<'a> {
    /// The key that was asked for, as the server understood it.
    pub key: &'a [u8],
    /// Whether it is there. Any byte but 0 says so.
    pub present: bool,
}

impl<'a> HasReply<'a> {
    /// Reads a reply; nothing when it is too short, such as an acknowledgement that came first.
    /// What follows the reply's 141 bytes does not count.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (field, rest) = datagram.split_first_chunk()?;
        Some(HasReply {
            key: field::read(field),
            present: *rest.first()? != 0,
        })
    }

    /// The answer to a question for `key`: nothing when the reply is about another one.
    #[must_use]
    pub fn answer(&self, key: &[u8]) -> Option<bool> {
        (self.key == key).then_some(self.present)
    }
}
