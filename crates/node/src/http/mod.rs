//! HTTP: the API under `/api/v1/`, the metrics and the health checks. `docs/http.md` is the page
//! for users, `routes` the table of everything that is served.
//!
//! A connection is a task of its own. Bodies are read and written in pieces of at most
//! `BUFFER_BYTES`, so a request of any length takes a bounded amount of memory. Work that
//! touches files runs on the blocking pool, and what acknowledges a change is answered once the
//! change is as durable as promised.

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
mod table;
#[cfg(test)]
mod tests;
mod token;
mod transfer;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::engine::Engine;
use crate::group::Group;
use crate::metrics::Metrics;
pub use token::TokenSource;

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
            line: 1 << 20,
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
    group: Option<Arc<Group>>,
}

/// What every request is given.
struct Api {
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    token: TokenSource,
    limits: Limits,
    group: Option<Arc<Group>>,
    /// The address of the listener, when it is known.
    bound: Option<IpAddr>,
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
            group: None,
        }
    }

    /// The same for a node that is in a group.
    #[must_use]
    pub fn with_group(mut self, group: Option<Arc<Group>>) -> Self {
        self.group = group;
        self
    }

    /// The same with the configured bounds.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves `listener` until `stop` turns true and the requests that were begun are answered.
    pub async fn serve(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let open = Arc::new(Semaphore::new(self.limits.connections));
        let api = Arc::new(Api {
            engine: self.engine,
            metrics: self.metrics,
            token: self.token,
            limits: self.limits,
            group: self.group,
            bound: listener.local_addr().ok().map(|address| address.ip()),
            transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
            stopping: AtomicBool::new(false),
            stop: stop.clone(),
        });
        let router = routes::router(Arc::clone(&api));
        let stopped = stop.clone();
        loop {
            let accepted = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    api.engine.complain("accepting an HTTP connection", &error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&open).try_acquire_owned() else {
                api.metrics.http.connections_refused.inc();
                let limit = format!("{} are open (limits.connections)", api.limits.connections);
                api.engine.complain("refused an HTTP connection", &limit);
                continue;
            };
            let (api, router, stop) = (Arc::clone(&api), router.clone(), stopped.clone());
            tokio::spawn(async move {
                api.metrics.http.connections.inc();
                api.metrics.http.connections_total.inc();
                serve_connection(stream, router, stop).await;
                api.metrics.http.connections.dec();
                drop(permit);
            });
        }
        api.stopping.store(true, Ordering::Relaxed);
        drop(listener);
        // All permits are back when the last connection has ended.
        let all = u32::try_from(api.limits.connections).unwrap_or(u32::MAX);
        drop(open.acquire_many(all).await);
    }
}

async fn serve_connection(
    stream: TcpStream,
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
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
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
        tracing::debug!("HTTP connection: {error}");
    }
}
