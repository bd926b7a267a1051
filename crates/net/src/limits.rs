//! Every bound of the transport, and how long it waits.

use std::time::Duration;

use grapevine_core::wire::group::DATA_BYTES_MAX;

/// Bytes that wait to be sent to one peer, with [`FRAME_OVERHEAD_BYTES`] for each frame.
pub const OUTBOX_BYTES_MAX: usize = 8 << 20;

/// Bytes of one peer's frames that wait for the owner; two of the largest frames.
pub const INBOX_BYTES_MAX: usize = 2 * (DATA_BYTES_MAX + FRAME_OVERHEAD_BYTES);

/// What a waiting frame costs besides its bytes, so that empty ones are bounded too.
pub const FRAME_OVERHEAD_BYTES: usize = 64;

/// Events that wait for the owner, of all peers.
pub const EVENTS_MAX: usize = 1024;

/// Commands that wait for the swarm's task.
pub(super) const COMMANDS_MAX: usize = 256;

/// Bytes that are written at once when that many wait.
pub(super) const BATCH_BYTES: usize = 256 << 10;

/// Bytes that are read at once.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Peers that are admitted at a time.
pub const PEERS_MAX: usize = 1024;

/// Connections from strangers that have not proved their membership. When another one comes, the
/// oldest has to go: a member needs a few round trips, a stranger stays as long as it may.
pub const STRANGERS_MAX: usize = 64;

/// Connections that are still being encrypted.
pub(super) const PENDING_MAX: u32 = 512;

/// Those of one IPv4 address, or one IPv6 network of 64 bits.
pub(super) const PENDING_PER_SOURCE_MAX: u32 = 256;

/// Time for the encryption of a connection, and again for the proof of membership.
pub const ADMISSION_TIME: Duration = Duration::from_secs(5);

/// An admitted peer that says nothing for so long, not even that it is there, is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(16);

/// A side that has nothing to say says so this often.
pub(super) const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);

/// From a goodbye to the end of the connection, for the other to read it.
pub(super) const GOODBYE_TIME: Duration = Duration::from_secs(1);

/// What may wait at the receiver of one connection, in bytes: the window of flow control.
pub(super) const WINDOW_BYTES: u32 = 4 << 20;

/// Streams of one connection. One is used.
pub(super) const STREAMS_MAX: u32 = 2;

/// Addresses that a name may stand for; the rest is not dialled.
pub(super) const ADDRESSES_PER_NAME_MAX: usize = 8;

/// Time that one way to an address is tried alone before the next one joins in.
pub(super) const NEXT_WAY_AFTER: Duration = Duration::from_millis(300);

/// Time that one call may take until a connection is encrypted, with all its addresses.
pub(super) const CALL_TIME: Duration = Duration::from_secs(10);

/// Calls that are made at a time.
pub(super) const CALLS_MAX: usize = 32;

/// Time between two reports of refused connections.
pub(super) const REFUSALS_EVERY: Duration = Duration::from_secs(1);
