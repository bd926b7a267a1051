//! HTTP: the API under `/api/v1/`, the metrics and the health checks. `docs/http.md` is the page
//! for users, `routes` the table of everything that is served.
//!
//! A connection is a task of its own. Bodies are read and written in pieces of at most
//! `BUFFER_BYTES`, so a request of any length takes a bounded amount of memory. Work that
//! touches files runs on the blocking pool, and what acknowledges a change is answered once the
//! change is as durable as promised.

mod accept;
mod answer;
mod body;
mod collection;
mod error;
mod framing;
mod group;
mod guard;
mod keys;
pub mod name;
mod pages;
mod query;
mod request;
mod routes;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod timing;
mod token;
mod transfer;

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::IntoResponse;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use crate::descriptors::{HEALTH_CONNECTIONS, Spare, are_used_up};
use crate::engine::Engine;
use crate::group::Group;
use crate::metrics::Metrics;
use crate::replies::{ClientMemory, Patient, Replies, Room};
use error::ApiError;
use grapevine_net::sockets::TcpListeners;
pub use status::About;
pub(crate) use status::{GroupStatus, Member, NodeStatus};
pub(crate) use timing::route_labels;
pub use token::{TokenError, TokenSource};

/// Most bytes read from a connection at once, and of a request's head.
const BUFFER_BYTES: usize = 64 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// How long a client may take for the head of a request; also how long a connection may be kept
/// open between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Exports, imports and merges at one time: each keeps a thread and may read a whole filter.
const TRANSFERS_MAX: usize = 4;
/// Streams of changes at one time: each may keep a few megabytes.
const WATCHERS_MAX: usize = 128;
/// Texts of metrics at one time, those that wait for their clients included.
const SCRAPES_MAX: u32 = 4;
/// Memory that long answers, and unfinished requests, may take each where nothing else is said, in
/// bytes.
const MEMORY_BYTES: u64 = 64 << 20;
/// How long a client may take nothing of an answer where nothing else is said.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Why a connection was ended.
const STALLED: &str = "its client takes no answers (limits.write_timeout)";
/// How long a connection beyond the bound may take for its one request.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long accepting pauses when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds that the configuration moves.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections (`limits.connections`).
    pub connections: usize,
    /// Longest key, in bytes (`limits.line`).
    pub line: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 4096,
            line: 16 << 20,
        }
    }
}

/// The HTTP server of a node.
#[derive(Clone)]
pub struct Server {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    token: TokenSource,
    limits: Limits,
    memory: ClientMemory,
    write_timeout: Duration,
    group: Option<Arc<Group>>,
    about: About,
    links: table::Links,
}

/// What every request is given.
struct Api {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    token: TokenSource,
    limits: Limits,
    /// What long answers and unfinished requests may take, those of other gateways included.
    memory: ClientMemory,
    /// Texts of metrics at one time.
    scrapes: Arc<Replies>,
    /// How long a client may take nothing of an answer.
    write_timeout: Duration,
    group: Option<Arc<Group>>,
    /// The addresses of the listeners.
    bound: Vec<IpAddr>,
    about: About,
    /// Where the time of requests is counted.
    places: timing::Places,
    links: table::Links,
    transfers: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    stopping: AtomicBool,
    /// Turns true when the node stops: answers without an end of their own end then.
    stop: watch::Receiver<bool>,
}

impl Server {
    /// A server for `engine`, with the default bounds.
    #[must_use]
    pub fn new(engine: Arc<Engine>, metrics: Arc<Metrics>, token: TokenSource) -> Self {
        Server {
            engine,
            metrics,
            token,
            limits: Limits::default(),
            memory: ClientMemory {
                replies: Replies::new(MEMORY_BYTES),
                requests: Replies::new(MEMORY_BYTES),
            },
            write_timeout: WRITE_TIMEOUT,
            group: None,
            about: About::default(),
            links: table::Links::default(),
        }
    }

    /// The same for a node that is in a group.
    #[must_use]
    pub fn with_group(mut self, group: Option<Arc<Group>>) -> Self {
        self.group = group;
        self
    }

    /// The same for a node of which more is known.
    #[must_use]
    pub fn with_about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    /// The same for a node that exchanges tables with links.
    #[must_use]
    pub fn with_links(mut self, links: crate::gateway::p2ptbl::Settings) -> Self {
        self.links = table::Links(Some(links));
        self
    }

    /// The same with the configured bounds.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same with what answers and requests may take together, and how long a client may take
    /// nothing.
    #[must_use]
    pub(crate) fn with_memory(mut self, memory: ClientMemory, write_timeout: Duration) -> Self {
        (self.memory, self.write_timeout) = (memory, write_timeout);
        self
    }

    /// What its requests are given.
    fn api(self, bound: Vec<IpAddr>, stop: watch::Receiver<bool>) -> Arc<Api> {
        Arc::new(Api {
            engine: self.engine,
            metrics: self.metrics,
            token: self.token,
            limits: self.limits,
            memory: self.memory,
            scrapes: Replies::of_count(SCRAPES_MAX),
            write_timeout: self.write_timeout,
            group: self.group,
            about: self.about,
            places: timing::Places::new(),
            bound,
            links: self.links,
            transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            stopping: AtomicBool::new(false),
            stop,
        })
    }

    /// Serves a listener, or several, until `stop` turns true and the requests that were begun are
    /// answered.
    pub async fn serve(self, listeners: impl Into<TcpListeners>, mut stop: watch::Receiver<bool>) {
        let mut listeners = listeners.into();
        let open = Arc::new(Semaphore::new(self.limits.connections));
        let api = self.api(listeners.addresses(), stop.clone());
        let router = routes::router(Arc::clone(&api));
        let health = Arc::new(Semaphore::new(HEALTH_CONNECTIONS));
        let mut spare = Spare::new();
        let stopped = stop.clone();
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listeners.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    api.engine.complain("accepting an HTTP connection", &error);
                    // The next one is asked how the node is, with the descriptor in reserve.
                    if !(are_used_up(&error) && spare.give_up()) {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        spare.take_back();
                    }
                    continue;
                }
            };
            spare.take_back();
            let permit = Arc::clone(&open)
                .try_acquire_owned()
                .ok()
                .filter(|_| spare.is_there());
            let (permit, served) = match (permit, Arc::clone(&health).try_acquire_owned()) {
                (Some(permit), _) => (permit, Served::All),
                (None, Ok(permit)) => (permit, Served::Health),
                (None, Err(_)) => {
                    api.metrics.http.connections_refused.inc();
                    let limit = format!("{} are open (limits.connections)", api.limits.connections);
                    api.engine.complain("refused an HTTP connection", &limit);
                    continue;
                }
            };
            let (api, router, stop) = (Arc::clone(&api), router.clone(), stopped.clone());
            tokio::spawn(async move {
                api.metrics.http.connections.inc();
                api.metrics.http.connections_total.inc();
                match served {
                    Served::All => serve_connection(stream, &api, router, stop).await,
                    Served::Health => serve_health(stream, &api, router).await,
                }
                api.metrics.http.connections.dec();
                drop(permit);
            });
        }
        api.stopping.store(true, Ordering::Relaxed);
        drop(listeners);
        // All permits are back when the last connection has ended.
        let all = u32::try_from(api.limits.connections).unwrap_or(u32::MAX);
        drop(open.acquire_many(all).await);
    }
}

/// Who sent a request.
#[derive(Clone, Copy)]
struct Peer(SocketAddr);

/// What a connection may ask.
#[derive(Clone, Copy)]
enum Served {
    All,
    /// How the node is: it was accepted beyond the bound.
    Health,
}

/// Answers one request about how the node is, without delay; any other one is refused.
async fn serve_health(stream: TcpStream, api: &Arc<Api>, router: axum::Router) {
    let limit = api.limits.connections;
    let refused = Arc::clone(api);
    let all = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (all, api) = (all.clone(), Arc::clone(&refused));
        async move {
            if guard::is_open(request.uri().path()) {
                return all.call(request).await;
            }
            api.metrics.http.connections_refused.inc();
            Ok(ApiError::Connections { limit }.into_response())
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_headers(HEADERS_MAX)
        .max_header_size(BUFFER_BYTES)
        .max_buf_size(BUFFER_BYTES);
    let io = TokioIo::new(stream);
    let connection = builder.serve_connection(io, service);
    match tokio::time::timeout(HEALTH_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("HTTP connection: {error}"),
        Err(_) => tracing::debug!("HTTP connection: nothing was asked in time"),
    }
}

async fn serve_connection(
    stream: TcpStream,
    api: &Api,
    router: axum::Router,
    mut stop: watch::Receiver<bool>,
) {
    // Replies are whole when they are written: waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("setting TCP_NODELAY: {error}");
    }
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_header_size(BUFFER_BYTES)
        .max_buf_size(BUFFER_BYTES);
    let peer = stream.peer_addr().ok().map(Peer);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.call(request)
    });
    let patient = Patient::new(stream, api.write_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(patient), service));
    // The guard that it gives may not be kept over what is waited for next.
    let stopped = async { drop(stop.wait_for(|stop| *stop).await) };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        if took_nothing(&error) {
            api.metrics.http.connections_stalled.inc();
            api.engine.complain("ended an HTTP connection", &STALLED);
        }
        tracing::debug!("HTTP connection: {error}");
    }
}

/// Whether a connection ended since its client took nothing of an answer.
fn took_nothing(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref());
    source.is_some_and(|source: &io::Error| source.kind() == io::ErrorKind::TimedOut)
}

impl Api {
    /// Room for an answer of at most about this many bytes.
    async fn room(&self, bytes: usize) -> Result<Room, ApiError> {
        let replies = &self.memory.replies;
        replies.wait(bytes).await.ok_or(ApiError::NoRoom)
    }

    /// Makes `room` one for this many bytes of a request that has not ended.
    async fn hold(&self, room: &mut Option<Room>, bytes: usize) -> Result<(), ApiError> {
        let is_there = self.memory.requests.wait_to_hold(room, bytes).await;
        is_there.then_some(()).ok_or(ApiError::LongRequests)
    }
}
