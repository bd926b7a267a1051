//! One connection, from its stream to its end: admission, openings, session. Each has a task of
//! its own; what concerns several connections is asked of the switch.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use grapevine_core::wire::group::{Opening, PROTOCOL_NEWEST, PROTOCOL_OLDEST, Reason};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::admission::{self, Ends, Failure};
use super::counters::Counters;
use super::event::{Admitted, CloseReason, Event, EventSink, SessionId};
use super::intake::Intake;
use super::limits::ADMISSION_TIME;
use super::outbox::Outbox;
use super::session::{self, Session};
use super::{Goodbye, Key, Keyring, PeerKey};

/// What all connections of a node share.
pub(super) struct Context {
    pub(super) local: PeerKey,
    pub(super) incarnation: u64,
    pub(super) words: Mutex<Words>,
    pub(super) sink: EventSink,
    pub(super) counters: Arc<Counters>,
}

/// What a node proves its membership with, and what it says of itself.
#[derive(Clone)]
pub(super) struct Words {
    pub(super) ring: Arc<Keyring>,
    pub(super) greeting: Bytes,
}

impl Context {
    pub(super) fn words(&self) -> MutexGuard<'_, Words> {
        // Both fields are replaced whole.
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection tells the switch, or asks of it.
pub(super) enum Report {
    /// This side called and both have proved their membership: may it go on?
    Claim {
        connection: ConnectionId,
        granted: oneshot::Sender<bool>,
    },
    /// The openings are exchanged, or only this side's is left: is there to be a session?
    Admit {
        connection: ConnectionId,
        key: Key,
        incarnation: u64,
        verdict: oneshot::Sender<Result<Start, Goodbye>>,
    },
    /// It came to nothing.
    Failed {
        connection: ConnectionId,
        failure: Failure,
    },
    /// The session is over.
    Ended {
        connection: ConnectionId,
        /// Why.
        reason: CloseReason,
    },
}

/// A session may begin.
pub(super) struct Start {
    pub(super) session: SessionId,
    pub(super) outbox: Arc<Outbox>,
    /// Ends when the owner knows that the peer's session before this one is over.
    pub(super) before: Option<oneshot::Receiver<()>>,
    /// Dropped when the owner knows that this one is over.
    pub(super) over: oneshot::Sender<()>,
}

/// A connection with its stream open.
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    pub(super) peer: PeerKey,
    pub(super) remote: SocketAddr,
    pub(super) dialed: bool,
    pub(super) context: Arc<Context>,
    pub(super) reports: mpsc::Sender<Report>,
}

impl Link {
    pub(super) async fn run(self, mut stream: Stream) {
        let mut intake = Intake::default();
        let admitted = timeout(ADMISSION_TIME, self.admit(&mut stream, &mut intake)).await;
        let connection = self.connection;
        match admitted.unwrap_or(Err(Failure::Late)) {
            Ok((start, opened, key)) => {
                self.carry(stream, intake, start, &opened, &key).await;
            }
            Err(failure) => {
                if let Failure::Tell(goodbye) = &failure {
                    session::part(&mut stream, goodbye).await;
                }
                let report = Report::Failed {
                    connection,
                    failure,
                };
                let _ = self.reports.send(report).await;
            }
        }
    }

    async fn admit(
        &self,
        stream: &mut Stream,
        intake: &mut Intake,
    ) -> Result<(Start, Opening, Key), Failure> {
        let words = self.context.words().clone();
        let ends = Ends {
            local: self.context.local,
            remote: self.peer,
        };
        let own = Opening {
            newest: PROTOCOL_NEWEST,
            oldest: PROTOCOL_OLDEST,
            incarnation: self.context.incarnation,
            greeting: words.greeting.to_vec(),
        };
        if self.dialed {
            let key = admission::as_dialer(stream, ends, &words.ring).await?;
            self.claim().await?;
            admission::send_opening(stream, &own).await?;
            let other = admission::receive_opening(stream, intake).await?;
            agree(&own, &other)?;
            let start = self.ask(&key, &other).await?;
            return Ok((start, other, key));
        }
        let key = admission::as_listener(stream, ends, &words.ring).await?;
        let other = admission::receive_opening(stream, intake).await?;
        agree(&own, &other)?;
        let start = self.ask(&key, &other).await?;
        // From here on there is a session, which a failed write ends like any other.
        let _ = admission::send_opening(stream, &own).await;
        Ok((start, other, key))
    }

    /// The side that calls decides first, so that the other may take an opening for its word.
    async fn claim(&self) -> Result<(), Failure> {
        let (granted, answer) = oneshot::channel();
        let connection = self.connection;
        let report = Report::Claim {
            connection,
            granted,
        };
        self.reports.send(report).await.map_err(|_| stopping())?;
        match answer.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Tell(Reason::Duplicate.into())),
            Err(_) => Err(stopping()),
        }
    }

    async fn ask(&self, key: &Key, other: &Opening) -> Result<Start, Failure> {
        let (verdict, answer) = oneshot::channel();
        let report = Report::Admit {
            connection: self.connection,
            key: key.clone(),
            incarnation: other.incarnation,
            verdict,
        };
        self.reports.send(report).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?.map_err(Failure::Tell)
    }

    async fn carry(
        self,
        stream: Stream,
        intake: Intake,
        start: Start,
        opened: &Opening,
        key: &Key,
    ) {
        let (peer, session) = (self.peer, start.session);
        if let Some(before) = start.before {
            // Its sender is dropped, which is the news.
            let _ = before.await;
        }
        Counters::count(&self.context.counters.admitted);
        let admitted = Event::Admitted(Admitted {
            peer,
            session,
            greeting: opened.greeting.clone().into(),
            remote: self.remote,
            dialed: self.dialed,
            version: PROTOCOL_NEWEST.min(opened.newest),
            key_id: key.id().to_owned(),
        });
        self.context.sink.send(admitted, None).await;
        let live = Session {
            peer,
            session,
            outbox: start.outbox,
            sink: self.context.sink.clone(),
            counters: Arc::clone(&self.context.counters),
        };
        let reason = live.run(stream, intake).await;
        let report = Report::Ended {
            connection: self.connection,
            reason: reason.clone(),
        };
        let _ = self.reports.send(report).await;
        let closed = Event::Closed {
            peer,
            session,
            reason,
        };
        self.context.sink.send(closed, None).await;
        drop(start.over);
    }
}

fn stopping() -> Failure {
    Failure::Tell(Reason::Stopping.into())
}

/// Both sides come to the same end from the two openings.
fn agree(own: &Opening, other: &Opening) -> Result<(), Failure> {
    if own.version_with(other).is_some() {
        return Ok(());
    }
    let text = format!(
        "one speaks versions {} to {}, the other {} to {}",
        own.oldest, own.newest, other.oldest, other.newest
    );
    Err(Failure::Tell(Goodbye::new(Reason::Version, &text)))
}

/// A number for each run of the program.
pub(super) fn incarnation() -> Result<u64, getrandom::Error> {
    static STARTS: AtomicU64 = AtomicU64::new(0);
    // Two transports of one program are two runs as well.
    Ok(getrandom::u64()?.wrapping_add(STARTS.fetch_add(1, Ordering::Relaxed)))
}
