//! What can stop or spoil a benchmark.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

/// Why a benchmark could not be run, or why its result should not be used.
#[derive(Debug, Error)]
pub enum BenchError {
    /// Key numbers do not fit behind the prefix.
    #[error("--key-length {length} is too short: the prefix and the number take {needed} bytes")]
    KeyLength {
        /// Bytes asked for.
        length: usize,
        /// Bytes that the prefix and the largest number take.
        needed: usize,
    },
    /// The buffers of all connections together would take too much memory.
    #[error(
        "buffers would take {needed} bytes, the limit is {limit}: fewer connections or a smaller bulk"
    )]
    Buffers {
        /// Bytes for all connections.
        needed: u64,
        /// Most bytes allowed.
        limit: u64,
    },
    /// More threads than connections.
    #[error("--threads {threads} is more than --connections {connections}")]
    Threads {
        /// Threads asked for.
        threads: usize,
        /// Connections asked for.
        connections: usize,
    },
    /// More than the datagrams of a protocol hold.
    #[error("{option} {value} is more than {protocol} can do, the limit is {limit}")]
    Datagrams {
        /// The option.
        option: &'static str,
        /// What was asked for.
        value: usize,
        /// The protocol.
        protocol: &'static str,
        /// The most it can do.
        limit: usize,
    },
    /// The address has no meaning.
    #[error("cannot resolve {address}: {source}")]
    Resolve {
        /// As given.
        address: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// A connection could not be opened. Nothing was measured.
    #[error("cannot connect to {address} (connection {ordinal}): {source}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// Which connection, counted from 1.
        ordinal: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// The server said nothing, or stopped, while it was being prepared.
    #[error("{address} did not answer `{request}` within {within:?}: {source}")]
    Silent {
        /// The server.
        address: SocketAddr,
        /// The command that was sent.
        request: String,
        /// How long it was given.
        within: Duration,
        /// The system's reason.
        source: io::Error,
    },
    /// The server answered, but not in the protocol asked for.
    #[error("{address} does not speak {protocol}: it answered `{request}` with \"{answer}\"")]
    WrongProtocol {
        /// The server.
        address: SocketAddr,
        /// Name of the protocol expected.
        protocol: &'static str,
        /// The command that was sent.
        request: String,
        /// The start of the answer, escaped.
        answer: String,
    },
    /// The server would not create what the benchmark needs.
    #[error("{address} refused `{request}`: \"{answer}\"")]
    Refused {
        /// The server.
        address: SocketAddr,
        /// The command that was sent.
        request: String,
        /// The answer, escaped.
        answer: String,
    },
    /// The poll loop of the client or of the constant server failed.
    #[error("poll loop: {0}")]
    Poll(#[source] io::Error),
    /// The constant server could not listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A process could not be observed.
    #[error("cannot read {path}: {source}")]
    Process {
        /// The file under `/proc`.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Measured and reported, but some replies were errors.
    #[error("{count} replies were errors, the first: \"{first}\"")]
    ErrorReplies {
        /// How many.
        count: u64,
        /// Text of one of them, escaped.
        first: String,
    },
    /// Not every request was answered: after a report, or during the warm-up and without one.
    #[error("{lost} connections were lost and {unanswered} requests not answered")]
    Incomplete {
        /// Connections that ended before the run did.
        lost: u64,
        /// Requests sent without an answer.
        unanswered: u64,
    },
}

impl BenchError {
    /// Whether the arguments contradict each other.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::KeyLength { .. }
                | Self::Buffers { .. }
                | Self::Threads { .. }
                | Self::Datagrams { .. }
        )
    }
}
