//! The connection of a client command. It waits for a node as long as that lives, however long the
//! work takes, and no longer: once nothing moved for a while, it asks `/livez` over another
//! connection.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Error, Timeout};

/// How long a command waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For each address of the node to accept a connection.
    pub(super) connect: Duration,
    /// For something to move before the node is asked whether it lives. More than the 15 s between
    /// two comments of a stream of events.
    pub(super) silence: Duration,
    /// For an answer to that.
    pub(super) life: Duration,
    /// For the answer to begin, whether the node lives or not.
    pub(super) answer: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(20),
            life: Duration::from_secs(10),
            answer: None,
        }
    }
}

/// Why nobody waits any longer.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Silence {
    /// It does not say that it lives.
    #[error(
        "it has sent nothing for {} s, and nothing when asked for /livez for {} s: it hangs, or is no \
         grapevine node",
        .silence.as_secs(), .life.as_secs()
    )]
    Hangs {
        /// How long nothing moved.
        silence: Duration,
        /// How long it was then asked.
        life: Duration,
    },
    /// The time that the user gives it is over.
    #[error("it has not begun to answer within {0:?} (--answer-within)")]
    Late(Duration),
}

/// Makes connections.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Patience);

impl Connector for Caller {
    type Out = Line;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Line>, Error> {
        let mut trouble = Error::HostNotFound;
        for address in &details.addrs {
            match connect(*address, self.0.connect) {
                Ok(stream) => {
                    let (input, output) = (
                        details.config.input_buffer_size(),
                        details.config.output_buffer_size(),
                    );
                    return Ok(Some(Line {
                        stream,
                        address: *address,
                        patience: self.0,
                        buffers: LazyBuffers::new(input, output),
                        asked: None,
                    }));
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    trouble = Error::Timeout(Timeout::Connect);
                }
                Err(error) => trouble = Error::Io(error),
            }
        }
        Err(trouble)
    }
}

fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// An open connection.
pub(super) struct Line {
    stream: TcpStream,
    address: SocketAddr,
    patience: Patience,
    buffers: LazyBuffers,
    /// Since when an answer is waited for that has not begun.
    asked: Option<Instant>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Line {
    /// Waits until the socket takes or has something.
    fn wait(&self, what: PollFlags) -> Result<(), Error> {
        loop {
            let left = self.asked.zip(self.patience.answer);
            let left = left.map(|(asked, limit)| limit.saturating_sub(asked.elapsed()));
            let wait = left.map_or(self.patience.silence, |left| {
                left.min(self.patience.silence)
            });
            if is_ready(&self.stream, what, wait)? {
                return Ok(());
            }
            if let (true, Some(limit)) = (left == Some(wait), self.patience.answer) {
                return Err(given_up(Silence::Late(limit)));
            }
            if !lives(self.address, self.patience.life) {
                let Patience { silence, life, .. } = self.patience;
                return Err(given_up(Silence::Hangs { silence, life }));
            }
        }
    }
}

fn given_up(silence: Silence) -> Error {
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, silence))
}

/// What such an error says, if it is one.
pub(super) fn silence(error: &Error) -> Option<Silence> {
    let Error::Io(error) = error else { return None };
    error.get_ref()?.downcast_ref().copied()
}

fn is_ready(stream: &TcpStream, what: PollFlags, wait: Duration) -> io::Result<bool> {
    let end = Instant::now() + wait;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // More than the system can count is never asked for.
        let left = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(stream, what)], left.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether anything comes of asking the node whether it lives. One that refuses or ends a connection
/// is not hanging.
fn lives(address: SocketAddr, limit: Duration) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_read_timeout(Some(limit))?;
        let request =
            format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        stream.read(&mut [0]).map(drop)
    };
    let waited_in_vain = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
        )
    };
    !ask().is_err_and(|error| waited_in_vain(&error))
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let mut done = 0;
        while done < amount {
            match self.stream.write(&self.buffers.output()[done..amount]) {
                Ok(0) => return Err(Error::Io(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    done += count;
                    self.asked = Some(Instant::now());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        loop {
            match self.stream.read(self.buffers.input_append_buf()) {
                Ok(count) => {
                    self.asked = None;
                    self.buffers.input_appended(count);
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
    }

    /// Nothing may wait there between two requests.
    fn is_open(&mut self) -> bool {
        let looked = self.stream.peek(&mut [0]);
        looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}
