//! The one task that owns the swarm: connections as they come and go, calls, and which session is
//! the one with a peer. No frame passes through it.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use grapevine_core::wire::group::Reason;
use libp2p::Swarm;
use libp2p::futures::StreamExt as _;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::link::{Context, Report};
use super::listening::Listening;
use super::network::{Behaviour, BehaviourEvent};
use super::outbox::Outbox;
use super::reconnect::{Reconnect, SeedState, TargetError};
use super::{Address, Carriers, Event, Goodbye, Key, Keyring, PeerKey, SessionId};
use call::{Calls, Resolved};
use refusals::Refusals;

mod admit;
mod call;
mod network;
mod refusals;
#[cfg(test)]
mod tests;

/// Time that a stop gives the peers to take what waits for them, and the goodbye.
const STOP_TIME: Duration = Duration::from_secs(2);

/// What the owner wants.
pub(super) enum Command {
    Call {
        peer: Option<PeerKey>,
        addresses: Vec<Address>,
    },
    Seeds {
        seeds: BTreeSet<Address>,
        done: oneshot::Sender<Result<(), TargetError>>,
    },
    CallSeed(Address),
    Want {
        peer: PeerKey,
        addresses: Vec<Address>,
        done: oneshot::Sender<Result<(), TargetError>>,
    },
    Unwant(PeerKey),
    Disconnect(PeerKey, SessionId, Goodbye),
    Keyring(Arc<Keyring>),
    Stop(oneshot::Sender<()>),
}

/// The sessions, for whoever sends.
pub(super) type Registry = RwLock<HashMap<PeerKey, Entry>>;

/// One session.
pub(super) struct Entry {
    pub(super) session: SessionId,
    pub(super) outbox: Arc<Outbox>,
    pub(super) remote: SocketAddr,
    pub(super) dialed: bool,
    key: Key,
    incarnation: u64,
    connection: ConnectionId,
    /// Dropped by its link when the owner knows that the session is over.
    over: Option<oneshot::Receiver<()>>,
}

/// An established connection.
struct Connection {
    peer: PeerKey,
    remote: SocketAddr,
    dialed: bool,
    /// The call that made it.
    call: Option<u64>,
    /// When it has to be admitted.
    deadline: Instant,
    /// A link has its stream, and will tell how it ends.
    linked: bool,
    admitted: bool,
}

pub(super) struct Switch {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) context: Arc<Context>,
    pub(super) registry: Arc<Registry>,
    pub(super) listening: Listening,
    /// How calling the seeds goes, for whoever watches.
    pub(super) seeds: watch::Sender<Vec<SeedState>>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) carriers: Carriers,
    /// There is no secret.
    pub(super) loopback_only: Arc<AtomicBool>,
    pub(super) state: State,
}

/// What only the switch's task knows.
pub(super) struct State {
    connections: HashMap<ConnectionId, Connection>,
    /// Peers that a connection of this side's is about to be a session with.
    claims: HashMap<PeerKey, ConnectionId>,
    sessions: SessionId,
    reconnect: Reconnect,
    calls: Calls,
    refusals: Refusals,
    /// A task for each connection with a stream; they end with this one.
    links: JoinSet<()>,
    reporter: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    resolver: mpsc::Sender<Resolved>,
    resolved: mpsc::Receiver<Resolved>,
    started: Instant,
    stop: Option<(Instant, oneshot::Sender<()>)>,
}

impl State {
    pub(super) fn new(started: Instant) -> Self {
        let (reporter, reports) = mpsc::channel(super::limits::COMMANDS_MAX);
        let (resolver, resolved) = mpsc::channel(super::limits::CALLS_MAX);
        State {
            connections: HashMap::new(),
            claims: HashMap::new(),
            sessions: 0,
            reconnect: Reconnect::default(),
            calls: Calls::default(),
            refusals: Refusals::default(),
            links: JoinSet::new(),
            reporter,
            reports,
            resolver,
            resolved,
            started,
            stop: None,
        }
    }
}

/// Numbers that need not be secret, only different from node to node.
fn dice() -> u64 {
    getrandom::u64().unwrap_or_default()
}

impl Switch {
    /// Until the owner stops it or is gone. `early` is what happened while the listeners were
    /// being opened.
    pub(super) async fn run(mut self, early: Vec<SwarmEvent<BehaviourEvent>>) {
        for event in early {
            self.network(event);
        }
        loop {
            let now = Instant::now();
            self.make_calls(now);
            self.sweep(now);
            if let Some(seeds) = self.state.reconnect.take_news() {
                self.seeds.send_replace(seeds);
            }
            if self.stopped(now) {
                break;
            }
            let wake = self.wake(now);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(report) = self.state.reports.recv() => self.report(report),
                Some(resolved) = self.state.resolved.recv() => self.resolved(resolved),
                event = self.swarm.select_next_some() => self.network(event),
                Some(_) = self.state.links.join_next() => {}
                () = sleep_until(wake) => {}
            }
        }
        let sessions = self.registry.write();
        sessions.unwrap_or_else(PoisonError::into_inner).clear();
        if let Some((_, done)) = self.state.stop.take() {
            // The owner may have gone meanwhile.
            let _ = done.send(());
        }
    }

    /// When something is to be done although nothing happens.
    fn wake(&self, now: Instant) -> Instant {
        let state = &self.state;
        let strangers = state.connections.values().filter(|c| !c.admitted);
        let calls = state.reconnect.next_due().map(|due| state.started + due);
        let candidates = [
            strangers.map(|c| c.deadline).min(),
            calls.filter(|_| state.calls.has_room() && state.stop.is_none()),
            state.calls.next_step(),
            state.refusals.next_report(),
            state.stop.as_ref().map(|(end, _)| *end),
        ];
        let soonest = candidates.into_iter().flatten().min();
        soonest.unwrap_or(now + Duration::from_hours(1))
    }

    /// Time as the policy of calls counts it.
    fn elapsed(&self) -> Duration {
        self.state.started.elapsed()
    }

    fn command(&mut self, command: Command) {
        let now = self.elapsed();
        // Whoever asked may have gone meanwhile.
        match command {
            Command::Call { peer, addresses } => self.begin_call(None, peer, addresses),
            Command::Seeds { seeds, done } => {
                let _ = done.send(self.state.reconnect.set_seeds(&seeds, now));
            }
            Command::CallSeed(address) => self.state.reconnect.hurry(&address, now),
            Command::Want {
                peer,
                addresses,
                done,
            } => {
                let _ = done.send(self.state.reconnect.want(peer, addresses, now));
            }
            Command::Unwant(peer) => self.state.reconnect.unwant(peer),
            Command::Disconnect(peer, session, goodbye) => {
                self.end_sessions(&goodbye, |key, entry| {
                    *key == peer && entry.session == session
                });
            }
            Command::Keyring(ring) => self.accept_keyring(ring),
            Command::Stop(done) => self.begin_stop(done),
        }
    }

    /// Says goodbye in every session that is meant.
    fn end_sessions(&self, goodbye: &Goodbye, meant: impl Fn(&PeerKey, &Entry) -> bool) {
        let sessions = self.registry.read();
        let sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        for (_, entry) in sessions.iter().filter(|(key, entry)| meant(key, entry)) {
            entry.outbox.end(goodbye.clone());
        }
    }

    /// New secrets count at once, for those who were let in by one that is gone, too.
    fn accept_keyring(&mut self, ring: Arc<Keyring>) {
        use std::sync::atomic::Ordering;
        self.loopback_only.store(ring.is_empty(), Ordering::Relaxed);
        self.context.words().ring = Arc::clone(&ring);
        let goodbye = Reason::SecretRemoved.into();
        self.end_sessions(&goodbye, |_, entry| !ring.accepts(&entry.key));
        // Whoever is being admitted began with the old secrets.
        let waiting = self.state.connections.iter().filter(|(_, c)| !c.admitted);
        let waiting: Vec<ConnectionId> = waiting.map(|(id, _)| *id).collect();
        for connection in waiting {
            self.swarm.close_connection(connection);
        }
    }

    fn begin_stop(&mut self, done: oneshot::Sender<()>) {
        self.end_sessions(&Reason::Stopping.into(), |_, _| true);
        self.state.stop = Some((Instant::now() + STOP_TIME, done));
    }

    fn stopped(&self, now: Instant) -> bool {
        let Some((end, _)) = &self.state.stop else {
            return false;
        };
        self.state.links.is_empty() || *end <= now
    }

    fn offer(&self, event: Event) {
        self.context.sink.offer(event);
    }
}
