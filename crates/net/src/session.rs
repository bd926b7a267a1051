//! The two directions of an admitted peer's stream. Both are moved by one task; neither touches
//! the swarm's.

use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use grapevine_core::wire::group::{Decoded, Frame, FrameError, Kind, Reason, decode, push_frame};
use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::counters::Counters;
use super::event::{CloseReason, Event, EventSink, Malformed, SessionId};
use super::intake::Intake;
use super::limits::{
    BATCH_BYTES, FRAME_OVERHEAD_BYTES, GOODBYE_TIME, HEARTBEAT_EVERY, INBOX_BYTES_MAX, SILENCE_MAX,
};
use super::outbox::{Outbox, Work};
use super::{Goodbye, PeerKey};

/// What a session needs besides its stream.
pub(super) struct Session {
    pub(super) peer: PeerKey,
    pub(super) session: SessionId,
    pub(super) outbox: Arc<Outbox>,
    pub(super) sink: EventSink,
    pub(super) counters: Arc<Counters>,
}

impl Session {
    /// Carries frames until the session is over, and says why it is.
    pub(super) async fn run<S>(&self, stream: S, mut intake: Intake) -> CloseReason
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut receiving, sending) = stream.split();
        let reason = {
            let mut reader = pin!(self.read(&mut receiving, &mut intake));
            let mut writer = pin!(self.write(sending));
            tokio::select! {
                biased;
                reason = &mut reader => match reason {
                    CloseReason::Malformed(malformed) => {
                        // The peer is told what it did, if it listens.
                        let text = malformed.to_string();
                        self.outbox.end(Goodbye::new(Reason::Malformed, &text));
                        let _ = timeout(GOODBYE_TIME, writer).await;
                        CloseReason::Malformed(malformed)
                    }
                    reason => return reason,
                },
                written = &mut writer => match written {
                    Ok(goodbye) => CloseReason::Local(goodbye),
                    // The peer's goodbye may still be on its way in.
                    Err(error) => match timeout(GOODBYE_TIME, reader).await {
                        Ok(reason) => return reason,
                        Err(_) => return CloseReason::Lost(error.kind()),
                    },
                },
                goodbye = self.cut() => return CloseReason::Local(goodbye),
            }
        };
        // To close at once could destroy what the peer has not yet read.
        let _ = timeout(GOODBYE_TIME, discard(&mut receiving)).await;
        reason
    }

    /// The end, when the peer does not read what is to be sent before it.
    async fn cut(&self) -> Goodbye {
        self.outbox.ending().await;
        sleep(GOODBYE_TIME).await;
        match self.outbox.ended() {
            Some(goodbye) => goodbye,
            None => pending().await,
        }
    }

    async fn read<S>(&self, stream: &mut S, intake: &mut Intake) -> CloseReason
    where
        S: AsyncRead + Unpin,
    {
        // The owner's slowness stops the reading: a frame is read when there is room for it.
        let room = Arc::new(Semaphore::new(INBOX_BYTES_MAX));
        let mut heard = Instant::now();
        let mut silence = pin!(sleep_until(heard + SILENCE_MAX));
        loop {
            let needed = match decode(intake.bytes()) {
                Err(error) => return CloseReason::Malformed(error.into()),
                Ok(Decoded::Partial(needed)) => needed,
                Ok(Decoded::Whole(frame, end)) => {
                    if let Err(reason) = self.take(frame, &room).await {
                        return reason;
                    }
                    let heartbeat = frame.kind == Kind::Heartbeat;
                    intake.consume(end);
                    if heartbeat {
                        intake.rest();
                    }
                    heard = Instant::now();
                    continue;
                }
            };
            tokio::select! {
                biased;
                filled = intake.fill(stream, needed) => match filled {
                    Ok(()) => heard = Instant::now(),
                    Err(error) => return CloseReason::Lost(error.kind()),
                },
                () = &mut silence => {
                    let end = heard + SILENCE_MAX;
                    if end <= Instant::now() {
                        return CloseReason::Silent;
                    }
                    silence.as_mut().reset(end);
                }
            }
        }
    }

    async fn take(&self, frame: Frame<'_>, room: &Arc<Semaphore>) -> Result<(), CloseReason> {
        match frame.kind {
            Kind::Heartbeat => Ok(()),
            Kind::Newer(_) => {
                Counters::count(&self.counters.passed_over);
                Ok(())
            }
            Kind::Opening => Err(CloseReason::Malformed(Malformed::Order)),
            Kind::Goodbye => Err(match Goodbye::decode(frame.content) {
                Some(goodbye) => CloseReason::Remote(goodbye),
                None => CloseReason::Malformed(Malformed::Goodbye),
            }),
            Kind::Data => {
                let length = frame.content.len();
                self.counters.received(length);
                let cost = u32::try_from(length + FRAME_OVERHEAD_BYTES).unwrap_or(u32::MAX);
                let taken = Arc::clone(room).acquire_many_owned(cost).await;
                // Nobody closes this semaphore.
                let taken = taken.map_err(|_| CloseReason::Lost(io::ErrorKind::Other))?;
                let event = Event::Frame {
                    peer: self.peer,
                    session: self.session,
                    bytes: Bytes::copy_from_slice(frame.content),
                };
                self.sink.send(event, Some(taken)).await;
                Ok(())
            }
        }
    }

    /// Writes until the goodbye is written.
    async fn write<S>(&self, mut stream: S) -> io::Result<Goodbye>
    where
        S: AsyncWrite + Unpin,
    {
        let mut batch = Vec::new();
        loop {
            let mut last = None;
            match self.outbox.take(&mut batch) {
                Work::Idle => {
                    if timeout(HEARTBEAT_EVERY, self.outbox.changed())
                        .await
                        .is_ok()
                    {
                        continue;
                    }
                    // A quiet peer needs no large buffer.
                    batch = Vec::new();
                    append(&mut batch, Kind::Heartbeat, &[])?;
                }
                Work::Write { writable } => {
                    if writable {
                        self.sink.writable(self.peer, self.session);
                    }
                    self.counters
                        .sent
                        .fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
                Work::End(goodbye) => {
                    append(&mut batch, Kind::Goodbye, &goodbye.encode())?;
                    last = Some(goodbye);
                }
            }
            stream.write_all(&batch).await?;
            stream.flush().await?;
            if let Some(goodbye) = last {
                return Ok(goodbye);
            }
            batch.clear();
            batch.shrink_to(2 * BATCH_BYTES);
        }
    }
}

fn append(batch: &mut Vec<u8>, kind: Kind, content: &[u8]) -> io::Result<()> {
    push_frame(batch, kind, content)
        .map_err(|error: FrameError| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Sends one last frame outside a session and waits for the other to hang up.
pub(super) async fn part<S>(stream: &mut S, goodbye: &Goodbye)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let said = async {
        let mut frame = Vec::new();
        append(&mut frame, Kind::Goodbye, &goodbye.encode())?;
        stream.write_all(&frame).await?;
        stream.flush().await?;
        discard(stream).await
    };
    // A peer that does not read it has missed it.
    let _ = timeout(GOODBYE_TIME, said).await;
}

/// Reads to the end.
async fn discard<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut bytes = vec![0; 4 << 10];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}
