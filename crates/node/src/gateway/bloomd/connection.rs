//! One TCP connection: its buffers, and when to read, execute and write.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Instant;

use grapevine_core::wire::bloomd::reply::{self, Status};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Gateway;
use super::execute::{Executed, Executor};
use super::job::Job;
use super::long::LONG_BYTES;
use crate::replies::{Patience, Room};

/// Bytes read at once. The buffer is the thread's, so a connection with nothing to say has none.
const READ_BYTES: usize = 128 << 10;
/// An unfinished line up to this long is put before what is read next; a longer one grows in a
/// buffer of its own, counted among those of all connections.
const CARRY_BYTES: usize = LONG_BYTES;
/// Reply buffers up to this size are kept for the next replies.
const KEPT_OUT_BYTES: usize = 256 << 10;
/// Replies that may wait for a connection without being counted among those of all.
pub(super) const FREE_BYTES: usize = 64 << 10;
/// Replies after which others have their turn.
const TURN_BYTES: usize = 128 << 10;

thread_local! {
    static INPUT: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; CARRY_BYTES + READ_BYTES].into_boxed_slice());
}

/// A connection and everything that waits in it.
pub(super) struct Connection<'g> {
    gateway: &'g Gateway,
    executor: Executor<'g>,
    stream: TcpStream,
    /// What was read and not executed: an unfinished line, or lines behind a pause.
    carry: Vec<u8>,
    /// Leading bytes of `carry` that hold no line end; none when it holds complete lines.
    scanned: Option<usize>,
    /// Replies, those before `written` sent.
    out: Vec<u8>,
    written: usize,
    /// Bytes sent since the beginning.
    sent: u64,
    /// What the replies that wait may take of the memory of all.
    room: Option<Room>,
    patience: Patience,
    /// When the lines under way were read, or had their turn.
    began: Instant,
    /// Bytes received since the beginning.
    received: u64,
    /// What an unfinished line may take of the memory of all.
    line_room: Option<Room>,
    line_patience: Patience,
    /// To be done once the replies before it are sent.
    job: Option<Job>,
    reading: bool,
}

/// What happened on the connection.
enum Event {
    /// Lines were read and executed.
    Executed(Executed),
    /// There is room for the replies of lines that wait.
    Backlog,
    /// What was to be done once the replies before it are sent.
    Due(Job),
    /// An unfinished line wants this much memory, which is not there now.
    Crowded(usize),
    /// The peer sends no more, or the node stops.
    EndOfInput,
    /// Nothing is left to do.
    Finished,
}

impl<'g> Connection<'g> {
    pub(super) fn new(gateway: &'g Gateway, stream: TcpStream) -> Self {
        let mut executor = Executor::new(gateway);
        let port = stream.local_addr().ok().map(|address| address.port());
        executor.set_from(stream.peer_addr().ok(), port);
        Connection {
            gateway,
            executor,
            stream,
            carry: Vec::new(),
            scanned: Some(0),
            out: Vec::new(),
            written: 0,
            sent: 0,
            room: None,
            patience: Patience::default(),
            began: Instant::now(),
            received: 0,
            line_room: None,
            line_patience: Patience::default(),
            job: None,
            reading: true,
        }
    }

    /// Serves the connection until it ends, or `stop` turns true and what was read is answered.
    pub(super) async fn serve(mut self, mut stop: watch::Receiver<bool>) -> io::Result<()> {
        let mut stop = pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        loop {
            let idle = self.gateway.limits.idle;
            let event = poll_fn(|cx| self.poll_patiently(cx, stop.as_mut()));
            let event = match idle {
                None => event.await?,
                Some(idle) => match tokio::time::timeout(idle, event).await {
                    Ok(event) => event?,
                    Err(_) => return Ok(()),
                },
            };
            match event {
                Event::Executed(executed) => self.settle(executed).await,
                Event::Due(job) => {
                    self.began = Instant::now();
                    let run = job.run(self.gateway, &mut self.executor, &mut self.out);
                    self.room = run.await;
                    let executed = self.execute_carry();
                    self.settle(executed).await;
                }
                Event::Backlog => {
                    // Much was asked at once: others have their turn.
                    tokio::task::yield_now().await;
                    self.began = Instant::now();
                    let executed = self.execute_carry();
                    self.settle(executed).await;
                }
                Event::Crowded(bytes) => {
                    let memory = &self.gateway.requests;
                    if !memory.wait_to_hold(&mut self.line_room, bytes).await {
                        self.refuse_line();
                    }
                }
                Event::EndOfInput => self.reading = false,
                Event::Finished => return Ok(()),
            }
            let duration = &self.gateway.metrics.duration;
            self.executor.kinds.done(self.began, duration);
        }
    }

    /// The same, and an error when the client takes nothing, or sends nothing of a line that
    /// holds memory of all, for too long.
    fn poll_patiently(
        &mut self,
        cx: &mut Context<'_>,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<io::Result<Event>> {
        let polled = self.poll_event(cx, stop);
        let limit = self.gateway.limits.write_timeout;
        let is_behind = polled.is_pending() && self.unsent() > 0;
        let holds_room = self.line_room.is_some() || self.executor.holds_room();
        // Who is not read from since replies wait is not to blame for the line.
        let is_inside = polled.is_pending() && holds_room && self.unsent() < FREE_BYTES;
        let worn = [
            (&mut self.patience, is_behind, self.sent),
            (&mut self.line_patience, is_inside, self.received),
        ]
        .map(|(patience, waits, progress)| {
            if !waits {
                patience.rest();
                return false;
            }
            patience.poll_worn(cx, progress, limit).is_ready()
        });
        if worn.contains(&true) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }

    fn unsent(&self) -> usize {
        self.out.len() - self.written
    }

    /// Whether more replies may be made: a few always, more while the replies of all connections
    /// leave room.
    fn has_room(&mut self) -> bool {
        let unsent = self.unsent();
        unsent < FREE_BYTES
            || (unsent < self.gateway.limits.output
                && (self.gateway.replies).hold(&mut self.room, unsent + TURN_BYTES))
    }

    /// Answers the line that has begun with an error, and passes over the rest of it.
    fn refuse_line(&mut self) {
        self.executor.refuse_unfinished(&mut self.out);
        self.set_carry(Vec::new());
        self.scanned = Some(0);
    }

    /// Keeps what was read and not executed, and of the memory of all only what that takes.
    fn set_carry(&mut self, carry: Vec<u8>) {
        self.carry = carry;
        if self.carry.len() <= CARRY_BYTES {
            self.line_room = None;
        }
    }

    /// Writes what can be written, then reads and executes what can be read.
    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<io::Result<Event>> {
        while self.written < self.out.len() {
            let rest = &self.out[self.written..];
            match Pin::new(&mut self.stream).poll_write(cx, rest)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    self.written += count;
                    self.sent += count as u64;
                }
                Poll::Pending => break,
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.out.shrink_to(KEPT_OUT_BYTES);
            self.written = 0;
            self.room = None;
        } else if self.written >= TURN_BYTES.max(self.unsent()) {
            // A client that is always a little behind must not keep all that it was ever sent.
            self.out.drain(..self.written);
            self.written = 0;
        }
        if self.job.is_some() {
            return match self.job.take_if(|_| self.out.is_empty()) {
                Some(job) => Poll::Ready(Ok(Event::Due(job))),
                None => Poll::Pending,
            };
        }
        let room = self.has_room();
        if self.scanned.is_none() {
            return if room {
                Poll::Ready(Ok(Event::Backlog))
            } else {
                Poll::Pending
            };
        }
        if !self.reading {
            return if self.out.is_empty() {
                Poll::Ready(Ok(Event::Finished))
            } else {
                Poll::Pending
            };
        }
        let capacity = self.line_capacity();
        if capacity > 0 && !(self.gateway.requests).hold(&mut self.line_room, capacity) {
            return Poll::Ready(Ok(Event::Crowded(capacity)));
        }
        if room && let Poll::Ready(executed) = self.poll_read(cx)? {
            return Poll::Ready(Ok(executed.map_or(Event::EndOfInput, Event::Executed)));
        }
        stop.poll(cx).map(|()| Ok(Event::EndOfInput))
    }

    /// Reads and executes; nothing at the end of the input.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Executed>>> {
        if self.carry.len() > CARRY_BYTES {
            return self.poll_read_long(cx);
        }
        INPUT.with_borrow_mut(|input| {
            let mut read = ReadBuf::new(&mut input[CARRY_BYTES..]);
            std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            let count = read.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(None));
            }
            self.began = Instant::now();
            self.received += count as u64;
            let start = CARRY_BYTES - self.carry.len();
            input[start..CARRY_BYTES].copy_from_slice(&self.carry);
            let buffer = &input[start..CARRY_BYTES + count];
            let scanned = self.scanned.unwrap_or(0);
            let out_max = self.out_max();
            let executed = self.executor.run(buffer, scanned, &mut self.out, out_max);
            self.carry.clear();
            self.carry.extend_from_slice(&buffer[executed.consumed..]);
            self.scanned = executed.scanned;
            Poll::Ready(Ok(Some(executed)))
        })
    }

    /// Bytes that an unfinished line needs to go on; none while it is within what every
    /// connection has.
    fn line_capacity(&self) -> usize {
        let length = self.carry.len();
        let least = length + READ_BYTES;
        match length {
            0..=CARRY_BYTES => 0,
            _ if self.carry.capacity() >= least => self.carry.capacity(),
            // What is there is moved when a line outgrows it, so it grows by more than it must.
            _ => least.max((2 * length).min(self.gateway.limits.line + READ_BYTES)),
        }
    }

    /// The same for a line that has outgrown the thread's buffer.
    fn poll_read_long(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Executed>>> {
        let length = self.carry.len();
        self.carry.reserve_exact(self.line_capacity() - length);
        self.carry.resize(length + READ_BYTES, 0);
        let mut read = ReadBuf::new(&mut self.carry[length..]);
        let outcome = Pin::new(&mut self.stream).poll_read(cx, &mut read);
        let count = read.filled().len();
        self.carry.truncate(length + count);
        std::task::ready!(outcome)?;
        if count == 0 {
            return Poll::Ready(Ok(None));
        }
        self.began = Instant::now();
        self.received += count as u64;
        Poll::Ready(Ok(Some(self.execute_carry())))
    }

    /// Executes what is in `carry`.
    fn execute_carry(&mut self) -> Executed {
        let buffer = std::mem::take(&mut self.carry);
        let scanned = self.scanned.unwrap_or(0);
        let out_max = self.out_max();
        let executed = self.executor.run(&buffer, scanned, &mut self.out, out_max);
        // What is left of a long line stays where it is.
        let carry = match executed.consumed {
            0 => buffer,
            consumed => buffer[consumed..].to_vec(),
        };
        self.set_carry(carry);
        self.scanned = executed.scanned;
        executed
    }

    /// Length of `out` at which no further line is executed.
    fn out_max(&self) -> usize {
        let most = self.written + self.gateway.limits.output;
        most.min(self.out.len() + TURN_BYTES)
    }

    /// Waits until the replies may be given, doing the jobs among them.
    async fn settle(&mut self, mut executed: Executed) {
        let engine = &self.gateway.engine;
        loop {
            if let Err(error) = engine.settle(executed.position).await {
                engine.complain("bloomd", &error);
                self.gateway.metrics.failures.inc();
                self.executor.fail_long();
                self.out.truncate(executed.replies);
                for _ in 0..executed.answered {
                    reply::status(&mut self.out, Status::InternalError);
                }
            }
            if executed.closing {
                self.reading = false;
                self.carry.clear();
                self.scanned = Some(0);
                return;
            }
            let Some(job) = executed.job.take() else {
                return;
            };
            if job.wants_room() && !self.out.is_empty() {
                self.job = Some(job);
                return;
            }
            let run = job.run(self.gateway, &mut self.executor, &mut self.out);
            if let Some(room) = run.await {
                self.room = Some(room);
            }
            executed = self.execute_carry();
        }
    }
}
