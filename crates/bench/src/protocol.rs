//! The boundary between the load loop and what a server speaks.

use std::net::SocketAddr;

use thiserror::Error;

use super::error::BenchError;
use super::keys::KeySource;
use super::tally::Tally;

/// What one request does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operation {
    /// Insert the keys.
    Set,
    /// Ask for the keys.
    Check,
}

/// A protocol of requests and replies over one byte stream, where replies come in the order of
/// the requests. The load loop never looks into the bytes.
pub(super) trait Protocol: Send + Sync {
    /// Name for messages and reports.
    fn name(&self) -> &'static str;

    /// Finds out on a connection of its own whether the server speaks this protocol.
    fn probe(&self, address: SocketAddr) -> Result<(), BenchError>;

    /// Makes the collection to work on; an existing one is left as it is.
    fn create(&self, address: SocketAddr) -> Result<(), BenchError>;

    /// Appends one request to `out`.
    fn encode(&self, operation: Operation, keys: &mut KeySource, out: &mut Vec<u8>);

    /// Bytes of the longest request with keys of `key_length` bytes.
    fn request_bytes(&self, key_length: usize) -> usize;

    /// Bytes of the longest reply, including its end.
    fn reply_bytes_max(&self) -> usize;

    /// Counts the complete replies at the start of `bytes`. The caller brings the rest again with
    /// what arrived since.
    fn scan(&self, bytes: &[u8], tally: &mut Tally) -> Result<Scan, ReplyError>;
}

/// How far a scan went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Scan {
    /// Complete replies.
    pub(super) replies: u64,
    /// Their bytes.
    pub(super) bytes: usize,
}

/// Bytes that cannot be a reply; the connection is of no more use.
#[derive(Debug, Error, Eq, PartialEq)]
pub(super) enum ReplyError {
    /// No end within the longest reply.
    #[error("reply longer than {limit} bytes")]
    TooLong {
        /// The longest reply in bytes.
        limit: usize,
    },
}
