//! One connection under load: requests encoded ahead, sent as the window or the schedule admits
//! them, replies matched to them by order alone.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use thiserror::Error;

use super::protocol::{Protocol, ReplyError};
use super::tally::Tally;

/// Why a connection is of no more use.
#[derive(Debug, Error)]
pub(super) enum Loss {
    /// The server closed it.
    #[error("closed by the server")]
    Closed,
    /// The system reports an error.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// Bytes that cannot be a reply.
    #[error("{0}")]
    Reply(#[from] ReplyError),
    /// More replies than requests.
    #[error("more replies than requests")]
    Unasked,
    /// Nothing came for too long.
    #[error("no reply within the timeout")]
    Timeout,
}

/// What one read brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    /// Complete replies.
    pub(super) replies: u64,
    /// Whether the socket may hold more that was not read.
    pub(super) more: bool,
}

/// Requests that were admitted at the same moment.
struct Batch {
    count: u64,
    at_ns: u64,
}

/// A connection and its place in the stream of requests and replies.
///
/// `encoded ≥ admitted ≥ answered`, all in requests of the current phase; those between `admitted`
/// and `answered` are in flight (or still being written).
pub(super) struct Connection {
    stream: TcpStream,
    lost: bool,
    /// Encoded requests, where each ends, how many were admitted, and the bytes written.
    chunk: Vec<u8>,
    ends: Vec<usize>,
    admitted_in_chunk: usize,
    written: usize,
    /// The start of a reply whose end has not come.
    carry: Vec<u8>,
    /// Oldest first; at most one per request in flight.
    batches: VecDeque<Batch>,
    encoded: u64,
    admitted: u64,
    answered: u64,
}

impl Connection {
    /// Takes over a connected, nonblocking stream.
    pub(super) fn new(
        mut stream: TcpStream,
        registry: &Registry,
        index: usize,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(index), interest)?;
        Ok(Self {
            stream,
            lost: false,
            chunk: Vec::new(),
            ends: Vec::new(),
            admitted_in_chunk: 0,
            written: 0,
            carry: Vec::new(),
            batches: VecDeque::new(),
            encoded: 0,
            admitted: 0,
            answered: 0,
        })
    }

    /// Starts a phase: forgets what was encoded ahead and counts from zero.
    pub(super) fn begin(&mut self) {
        self.chunk.clear();
        self.ends.clear();
        self.admitted_in_chunk = 0;
        self.written = 0;
        self.batches.clear();
        (self.encoded, self.admitted, self.answered) = (0, 0, 0);
    }

    /// Whether it was given up.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Gives it up.
    pub(super) fn lose(&mut self, registry: &Registry) {
        self.lost = true;
        // Both fail only where the socket is already dead, which is what they are to bring about.
        let _ = registry.deregister(&mut self.stream);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Requests admitted and not answered.
    pub(super) fn in_flight(&self) -> u64 {
        self.admitted - self.answered
    }

    /// Requests encoded in this phase.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// Requests admitted in this phase.
    pub(super) fn admitted(&self) -> u64 {
        self.admitted
    }

    /// Requests answered in this phase.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// Requests encoded and not admitted.
    pub(super) fn ahead(&self) -> u64 {
        (self.ends.len() - self.admitted_in_chunk) as u64
    }

    /// Replaces the chunk, which must be spent and written, by `requests` new requests.
    pub(super) fn encode(&mut self, requests: u64, mut append: impl FnMut(&mut Vec<u8>)) {
        assert!(self.ahead() == 0 && self.written == self.chunk.len());
        self.chunk.clear();
        self.ends.clear();
        self.admitted_in_chunk = 0;
        self.written = 0;
        for _ in 0..requests {
            append(&mut self.chunk);
            self.ends.push(self.chunk.len());
        }
        self.encoded += requests;
    }

    /// Lets up to `limit` encoded requests go and returns how many.
    pub(super) fn admit(&mut self, limit: u64, at_ns: u64) -> u64 {
        let count = limit.min(self.ahead());
        self.admitted_in_chunk += count as usize;
        self.admitted += count;
        self.batches.push_back(Batch { count, at_ns });
        count
    }

    /// Writes what was admitted; false where the system takes no more for now.
    pub(super) fn flush(&mut self) -> Result<bool, Loss> {
        let end = self
            .admitted_in_chunk
            .checked_sub(1)
            .map_or(0, |last| self.ends[last]);
        while self.written < end {
            match self.stream.write(&self.chunk[self.written..end]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Reads once and counts the replies. `scratch` holds more than the longest reply.
    pub(super) fn receive(
        &mut self,
        protocol: &dyn Protocol,
        scratch: &mut [u8],
        tally: &mut Tally,
    ) -> Result<Received, Loss> {
        let start = self.carry.len();
        let count = loop {
            match self.stream.read(&mut scratch[start..]) {
                Ok(0) => return Err(Loss::Closed),
                Ok(count) => break count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received {
                        replies: 0,
                        more: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        };
        scratch[..start].copy_from_slice(&self.carry);
        let end = start + count;
        let scan = protocol.scan(&scratch[..end], tally)?;
        self.carry.clear();
        self.carry.extend_from_slice(&scratch[scan.bytes..end]);
        if scan.replies > self.in_flight() {
            return Err(Loss::Unasked);
        }
        // A read that did not fill the buffer emptied the socket.
        Ok(Received {
            replies: scan.replies,
            more: end == scratch.len(),
        })
    }

    /// Matches `replies` to the oldest requests in flight: calls `each` with the time at which
    /// some of them were admitted and how many.
    pub(super) fn settle(&mut self, replies: u64, mut each: impl FnMut(u64, u64)) {
        self.answered += replies;
        let mut left = replies;
        while left > 0 {
            let Some(batch) = self.batches.front_mut() else {
                return;
            };
            let count = left.min(batch.count);
            each(batch.at_ns, count);
            batch.count -= count;
            left -= count;
            if batch.count == 0 {
                self.batches.pop_front();
            }
        }
    }
}
