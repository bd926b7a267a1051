//! Replies that clients do not take, and requests that they do not end: how much of them may be
//! held, and for how long.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::config::MemoryDivision;

/// Memory is counted in pieces of this many bytes.
const UNIT_BYTES: usize = 1024;
/// How long a reply waits for others to be taken before it is refused.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The memory that clients of all gateways may take, beyond what every connection has.
#[derive(Clone, Debug)]
pub(crate) struct ClientMemory {
    /// For replies that wait for their clients.
    pub(crate) replies: Arc<Replies>,
    /// For requests that have not ended.
    pub(crate) requests: Arc<Replies>,
}

impl ClientMemory {
    /// As `limits.memory` is divided.
    pub(crate) fn of(division: MemoryDivision) -> Self {
        ClientMemory {
            replies: Replies::new(division.replies),
            requests: Replies::new(division.requests),
        }
    }
}

/// The memory that the replies, or the requests, of all gateways may take while they wait for their
/// clients.
#[derive(Debug)]
pub(crate) struct Replies {
    room: Arc<Semaphore>,
    units: u32,
}

/// Some of it, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room(OwnedSemaphorePermit);

impl Replies {
    /// Room for this many bytes.
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        let units =
            (bytes / UNIT_BYTES as u64).clamp(1, (Semaphore::MAX_PERMITS as u64).min(1 << 31));
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Arc::new(Replies {
            room: Arc::new(Semaphore::new(units as usize)),
            units,
        })
    }

    /// Room for so many replies, each of which is counted as one byte.
    pub(crate) fn of_count(count: u32) -> Arc<Self> {
        Replies::new(u64::from(count) * UNIT_BYTES as u64)
    }

    /// What so many bytes are counted as. What is longer than all of it takes all of it.
    fn units(&self, bytes: usize) -> u32 {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        units.clamp(1, self.units)
    }

    /// Room for this many bytes, if it is there now.
    pub(crate) fn take(&self, bytes: usize) -> Option<Room> {
        let taken = Arc::clone(&self.room).try_acquire_many_owned(self.units(bytes));
        taken.ok().map(Room)
    }

    /// Makes `room` one for this many bytes at least, if they are there now.
    pub(crate) fn hold(&self, room: &mut Option<Room>, bytes: usize) -> bool {
        let held = room.as_ref().map_or(0, Room::bytes);
        if held >= bytes {
            return true;
        }
        let more = self.take(bytes - held);
        let is_there = more.is_some();
        Room::join(room, more);
        is_there
    }

    /// The same, and whether they came in time.
    pub(crate) async fn wait_to_hold(&self, room: &mut Option<Room>, bytes: usize) -> bool {
        let held = room.as_ref().map_or(0, Room::bytes);
        if held >= bytes {
            return true;
        }
        let more = self.wait(bytes - held).await;
        let is_there = more.is_some();
        Room::join(room, more);
        is_there
    }

    /// Room for this many bytes; none when it did not come in time.
    pub(crate) async fn wait(&self, bytes: usize) -> Option<Room> {
        let taken = Arc::clone(&self.room).acquire_many_owned(self.units(bytes));
        let taken = tokio::time::timeout(WAIT_MAX, taken).await;
        taken.ok()?.ok().map(Room)
    }
}

impl Room {
    /// Bytes that may be held.
    pub(crate) fn bytes(&self) -> usize {
        self.0.num_permits() * UNIT_BYTES
    }

    fn join(room: &mut Option<Room>, more: Option<Room>) {
        match (room.as_mut(), more) {
            (Some(room), Some(more)) => room.add(more),
            (None, more) => *room = more,
            (Some(_), None) => {}
        }
    }

    /// Adds what was taken from the same memory.
    pub(crate) fn add(&mut self, other: Room) {
        self.0.merge(other.0);
    }

    /// Gives back what is more than these bytes need.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let unneeded = self
            .0
            .num_permits()
            .saturating_sub(bytes.div_ceil(UNIT_BYTES));
        drop(self.0.split(unneeded));
    }
}

/// Whether a client takes what waits for it. It costs nothing while nothing waits.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// Since when so many bytes had been sent, and no more since.
    since: Option<(Instant, u64)>,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// Nothing waits.
    pub(crate) fn rest(&mut self) {
        if self.since.is_some() {
            *self = Patience::default();
        }
    }

    /// Something waits, and `sent` bytes were sent in all so far: ready when none were for
    /// `limit`.
    pub(crate) fn poll_worn(
        &mut self,
        cx: &mut Context<'_>,
        sent: u64,
        limit: Duration,
    ) -> Poll<()> {
        loop {
            let since = match self.since {
                Some((since, before)) if before == sent => since,
                _ => {
                    let now = Instant::now();
                    self.since = Some((now, sent));
                    self.alarm = None;
                    now
                }
            };
            let end = since + limit;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            let alarm = self
                .alarm
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end.into())));
            std::task::ready!(alarm.as_mut().poll(cx));
            self.alarm = None;
        }
    }
}

/// A connection that ends when its client takes nothing for too long while something waits.
pub(crate) struct Patient {
    stream: TcpStream,
    limit: Duration,
    sent: u64,
    patience: Patience,
}

impl Patient {
    pub(crate) fn new(stream: TcpStream, limit: Duration) -> Self {
        Patient {
            stream,
            limit,
            sent: 0,
            patience: Patience::default(),
        }
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(written) => {
                self.patience.rest();
                self.sent += written.as_ref().map_or(0, |count| *count as u64);
                Poll::Ready(written)
            }
            Poll::Pending => {
                std::task::ready!(self.patience.poll_worn(cx, self.sent, self.limit));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let replies = Replies::new(64 << 10);
        let mut first = replies.take(48 << 10).expect("room");
        assert!(replies.take(17 << 10).is_none());
        let second = replies.take(16 << 10).expect("room");
        first.add(second);
        assert_eq!(first.bytes(), 64 << 10);
        assert!(replies.take(1).is_none());
        first.shrink(1000);
        assert_eq!(first.bytes(), 1 << 10);
        drop(replies.take(63 << 10).expect("room"));
        drop(first);
        assert!(replies.take(1 << 30).is_some(), "all of it");
    }

    #[tokio::test(start_paused = true)]
    async fn room_grows_while_there_is_some() {
        let memory = Replies::new(4 << 10);
        let (mut first, mut second) = (None, None);
        assert!(memory.hold(&mut first, 1 << 10) && memory.hold(&mut first, 3 << 10));
        assert_eq!(first.as_ref().map_or(0, Room::bytes), 3 << 10);
        assert!(!memory.hold(&mut second, 2 << 10) && second.is_none());
        assert!(memory.hold(&mut second, 1 << 10) && !memory.hold(&mut first, 4 << 10));
        assert!(!memory.wait_to_hold(&mut second, 2 << 10).await);
        assert_eq!(second.as_ref().map_or(0, Room::bytes), 1 << 10);
        drop(first);
        assert!(memory.wait_to_hold(&mut second, 4 << 10).await);
    }

    #[tokio::test]
    async fn who_takes_nothing_wears_out_and_who_takes_a_little_does_not() {
        let limit = Duration::from_millis(1);
        let mut patience = Patience::default();
        std::future::poll_fn(|cx| patience.poll_worn(cx, 7, limit)).await;
        patience.rest();
        let begun = Instant::now();
        let mut sent = 0;
        std::future::poll_fn(|cx| {
            sent += u64::from(begun.elapsed() < 3 * limit);
            patience.poll_worn(cx, sent, limit)
        })
        .await;
        assert!(begun.elapsed() >= 3 * limit);
    }
}
