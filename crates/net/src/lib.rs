//! Connections between the members of a group: encrypted, admitted by a shared secret, and
//! carrying frames of bytes. The rest of the node sees the plain types of this page; libp2p stays
//! behind it. `docs/protocols/group.md` has what is on the wire.
//!
//! Each connection has one stream, in which both sides send. A frame goes from [`Handle::send`]
//! into the peer's bounded queue, from there in batches to the stream, and arrives as an
//! [`Event::Frame`]; a receiver that is slow is not read from, and in the end the sender's queue
//! is full. The swarm's own task sees connections come and go, never a frame.

mod address;
mod admission;
mod counters;
mod door;
mod duplicate;
mod event;
mod handle;
mod intake;
mod key;
mod keyring;
pub mod limits;
mod link;
mod listening;
mod muxer;
mod network;
mod outbox;
mod reconnect;
pub mod secret;
mod seeds;
mod session;
pub mod sockets;
mod start;
mod switch;
#[cfg(test)]
mod tests;

pub use address::{Address, AddressError};
pub use counters::Counters;
pub use event::{Admitted, CloseReason, DialFailure, Event, Events, Malformed, Refusal, SessionId};
pub use grapevine_core::wire::group::{Goodbye, Reason};
pub use handle::{Handle, HandleError, Peer};
pub use key::{NodeKey, NotAPeerKey, PeerKey};
pub use keyring::{
    KEY_BYTES, KEY_ID_BYTES_MAX, KEYS_MAX, Key, Keyring, KeyringError, KeyringFileError,
    read_keyring, write_keyring,
};
pub use outbox::SendError;
pub use reconnect::{TargetError, Trouble};
pub use seeds::{Seed, Seeds};
pub use start::{Carriers, Settings, StartError, start};
