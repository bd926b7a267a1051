//! The constant server: the least a server of lines can do, as a floor for measurements.
//!
//! It reads, counts newlines and writes that many constant lines, on one thread and one poll
//! loop. What another server costs beyond it is what that server does with the lines. Only the
//! first bytes of a connection are looked at, for the two commands a client prepares with.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::error::BenchError;

/// Most connections at a time; more are closed as they come.
const CONNECTIONS_MAX: usize = 10_000;
/// Bytes read at a time, and least bytes of the constant that are ready to be written at a time.
const BUFFER_BYTES: usize = 256 << 10;
/// Reply bytes that may be owed before a connection is read further.
const OWED_BYTES_MAX: u64 = 4 << 20;
/// Events taken from the system at a time.
const EVENTS_MAX: usize = 1024;
const LISTENER: Token = Token(usize::MAX);
const STOP: Token = Token(usize::MAX - 1);

/// A server that answers every line with the same line.
pub(super) struct ConstantServer {
    address: SocketAddr,
    listener: TcpListener,
    poll: Poll,
    connections: Vec<Option<Peer>>,
    free: Vec<usize>,
    line_bytes: u64,
    constant: Vec<u8>,
    scratch: Vec<u8>,
}

struct Peer {
    stream: TcpStream,
    /// Whether nothing was read yet.
    fresh: bool,
    /// Bytes of constant lines still to be written, and where in the line the next one is.
    owed: u64,
    position: usize,
}

impl ConstantServer {
    /// Listens on `address`; each answer is `keys` times `Yes` (at least one) in a line.
    pub(super) fn bind(address: SocketAddr, keys: usize) -> Result<Self, BenchError> {
        let fail = |source| BenchError::Listen { address, source };
        let mut listener = TcpListener::bind(address).map_err(fail)?;
        let poll = Poll::new().map_err(fail)?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(fail)?;
        let mut line = b"Yes ".repeat(keys.max(1));
        if let Some(end) = line.last_mut() {
            *end = b'\n';
        }
        Ok(Self {
            address: listener.local_addr().map_err(fail)?,
            listener,
            poll,
            connections: Vec::new(),
            free: Vec::new(),
            line_bytes: line.len() as u64,
            // One line more, so that a full write can begin anywhere in a line.
            constant: line.repeat(BUFFER_BYTES.div_ceil(line.len()) + 1),
            scratch: vec![0; BUFFER_BYTES],
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What ends [`serve`](Self::serve) when woken; asked for once.
    #[cfg(test)]
    pub(super) fn stopper(&self) -> io::Result<mio::Waker> {
        mio::Waker::new(self.poll.registry(), STOP)
    }

    /// Serves until it is stopped or the poll loop fails.
    pub(super) fn serve(&mut self) -> Result<(), BenchError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(BenchError::Poll(error));
                }
                _ => {}
            }
            for event in &events {
                match event.token() {
                    STOP => return Ok(()),
                    LISTENER => self.accept(),
                    Token(index) => self.answer(index),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            if self.free.is_empty() && self.connections.len() == CONNECTIONS_MAX {
                continue;
            }
            let index = self.free.pop().unwrap_or(self.connections.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            let ready = stream.set_nodelay(true).and_then(|()| {
                self.poll
                    .registry()
                    .register(&mut stream, Token(index), interest)
            });
            let peer = ready.ok().map(|()| Peer {
                stream,
                fresh: true,
                owed: 0,
                position: 0,
            });
            if peer.is_none() {
                self.free.push(index);
            }
            if index == self.connections.len() {
                self.connections.push(peer);
            } else {
                self.connections[index] = peer;
            }
        }
    }

    fn answer(&mut self, index: usize) {
        let Some(Some(peer)) = self.connections.get_mut(index) else {
            return;
        };
        if peer
            .answer(self.line_bytes, &self.constant, &mut self.scratch)
            .is_err()
        {
            self.connections[index] = None;
            self.free.push(index);
        }
    }
}

impl Peer {
    /// Reads and writes until the system has nothing more to read or takes nothing more.
    /// An error also says that the other side is done.
    fn answer(&mut self, line_bytes: u64, constant: &[u8], scratch: &mut [u8]) -> io::Result<()> {
        loop {
            let written = self.write_owed(line_bytes as usize, constant)?;
            if !written && self.owed > OWED_BYTES_MAX {
                return Ok(());
            }
            let count = match self.stream.read(scratch) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let read = &scratch[..count];
            let greeting = if self.fresh { greeting(read) } else { None };
            self.fresh = false;
            match greeting {
                Some(answer) => self.stream.write_all(answer)?,
                None => {
                    self.owed += memchr::memchr_iter(b'\n', read).count() as u64 * line_bytes;
                }
            }
            // A read that did not fill the buffer emptied the socket: the next bytes make a new
            // event, and asking for them now would cost a call.
            if count < scratch.len() {
                self.write_owed(line_bytes as usize, constant)?;
                return Ok(());
            }
        }
    }

    /// Whether everything owed was written.
    fn write_owed(&mut self, line_bytes: usize, constant: &[u8]) -> io::Result<bool> {
        while self.owed > 0 {
            let most = (constant.len() - self.position) as u64;
            let end = self.position + self.owed.min(most) as usize;
            match self.stream.write(&constant[self.position..end]) {
                Ok(count) => {
                    self.owed -= count as u64;
                    self.position = (self.position + count) % line_bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The answer to the commands that prepare a benchmark, where a connection begins with one.
fn greeting(first: &[u8]) -> Option<&'static [u8]> {
    if first.starts_with(b"list") {
        Some(b"START\nEND\n")
    } else if first.starts_with(b"create ") {
        Some(b"Done\n")
    } else {
        None
    }
}
