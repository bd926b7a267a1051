//! What the node counts, for `/metrics`. Every metric has its line in `docs/http.md`; a test
//! holds the page to what is served.

mod commands;
mod figures;
mod group;
mod hbbp;
mod latency;
mod p2ptbl;
mod plain;
mod state;
mod tables;

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::engine::Engine;
use crate::group::Group;

pub use commands::{BloomdCommand, RmbdCommand};
pub use hbbp::HbbpMetrics;
pub(crate) use latency::Tally;
pub use latency::{Latencies, Latency};
pub use p2ptbl::P2ptblMetrics;
pub(crate) use state::Process;
pub use tables::TableMetrics;

use plain::PlainText;

/// The texts that metrics are served as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's plain text, version 0.0.4.
    Plain,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Everything a node counts. A gateway is given its own part.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The bloomd gateway's.
    pub bloomd: BloomdMetrics,
    /// The rmbd gateway's.
    pub rmbd: RmbdMetrics,
    /// The HBBP gateway's.
    pub hbbp: HbbpMetrics,
    /// The p2ptbl gateway's.
    pub p2ptbl: P2ptblMetrics,
    /// The HTTP server's.
    pub http: HttpMetrics,
    /// Those of tables.
    pub tables: TableMetrics,
}

impl Metrics {
    /// The metrics of a node; those about its state are read from `engine` when asked for.
    #[must_use]
    pub fn new(engine: Arc<Engine>) -> Self {
        Self::with_group(engine, None)
    }

    /// The metrics of a node that may be in a group.
    #[must_use]
    pub fn with_group(engine: Arc<Engine>, group: Option<Arc<Group>>) -> Self {
        let mut registry = Registry::default();
        let (bloomd, http) = (BloomdMetrics::default(), HttpMetrics::default());
        let (rmbd, hbbp) = (RmbdMetrics::default(), HbbpMetrics::default());
        let (p2ptbl, tables) = (P2ptblMetrics::default(), TableMetrics::default());
        let own = registry.sub_registry_with_prefix("grapevine");
        let built = "The program: its version and what it was built for";
        own.register("build", built, Info::new(build()));
        bloomd.register(own);
        rmbd.register(own);
        hbbp.register(own);
        p2ptbl.register(own);
        http.register(own);
        tables.register(own);
        let of_tables = tables::TableState::new(Arc::clone(&engine));
        registry.register_collector(Box::new(of_tables));
        registry.register_collector(Box::new(state::NodeState::new(engine)));
        if let Some(group) = group {
            registry.register_collector(Box::new(group::GroupState::new(group)));
        }
        Metrics {
            registry,
            bloomd,
            rmbd,
            hbbp,
            p2ptbl,
            http,
            tables,
        }
    }

    /// All of them as text.
    #[must_use]
    pub fn text(&self, format: Format) -> String {
        let (mut open, mut plain) = (String::new(), PlainText::default());
        let written = match format {
            Format::OpenMetrics => encode(&mut open, &self.registry),
            Format::Plain => encode(&mut plain, &self.registry),
        };
        // Writing into a string fails for no reason of ours; what is there is still readable.
        if let Err(error) = written {
            tracing::error!("writing metrics: {error}");
        }
        match format {
            Format::OpenMetrics => open,
            Format::Plain => plain.finish(),
        }
    }
}

/// What is known of this program since it was built.
fn build() -> Vec<(&'static str, &'static str)> {
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("os", std::env::consts::OS),
        ("arch", std::env::consts::ARCH),
        ("profile", profile),
    ]
}

/// The HTTP server's.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// Connections since the start.
    pub connections_total: Counter,
    /// Connections refused because too many were open.
    pub connections_refused: Counter,
    /// Connections ended because nothing was taken of the replies that waited.
    pub connections_stalled: Counter,
    /// Requests that were answered.
    pub requests: Counter,
    /// Requests answered with a status of the 400s.
    pub client_errors: Counter,
    /// Requests answered with a status of the 500s.
    pub failures: Counter,
    /// From a request's head to its answer's, by the place of its route in the table of routes.
    pub duration: Latencies,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let routes = crate::http::route_labels().into_iter();
        let labels = routes.map(|(method, route)| vec![("method", method), ("route", route)]);
        HttpMetrics {
            connections: Gauge::default(),
            connections_total: Counter::default(),
            connections_refused: Counter::default(),
            connections_stalled: Counter::default(),
            requests: Counter::default(),
            client_errors: Counter::default(),
            failures: Counter::default(),
            duration: Latencies::by_many(labels),
        }
    }
}

impl HttpMetrics {
    /// Registers all of them as `grapevine_http_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("http");
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register_with_unit(
            "request_duration",
            "From the head of a request to that of its answer, by route",
            Unit::Seconds,
            self.duration.clone(),
        );
        let counters = [
            (
                "connections_opened",
                "Connections accepted",
                &self.connections_total,
            ),
            (
                "connections_refused",
                "Connections refused because limits.connections were open",
                &self.connections_refused,
            ),
            (
                "connections_stalled",
                "Connections ended because their clients took no replies",
                &self.connections_stalled,
            ),
            (
                "requests",
                "Requests answered, errors included",
                &self.requests,
            ),
            (
                "client_errors",
                "Requests answered with a status of the 400s",
                &self.client_errors,
            ),
            (
                "failures",
                "Requests answered with a status of the 500s",
                &self.failures,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}

/// The bloomd gateway's.
#[derive(Clone, Debug)]
pub struct BloomdMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// Connections since the start.
    pub connections_total: Counter,
    /// Connections refused because too many were open.
    pub connections_refused: Counter,
    /// Connections ended because nothing was taken of the replies that waited.
    pub connections_stalled: Counter,
    /// Connections ended because they speak HTTP.
    pub connections_foreign: Counter,
    /// Commands that were answered.
    pub commands: Counter,
    /// Commands that were refused as not understood.
    pub client_errors: Counter,
    /// Commands that failed on the node's side.
    pub failures: Counter,
    /// Datagrams received.
    pub datagrams: Counter,
    /// From reading a command to its reply, by [`BloomdCommand`].
    pub duration: Latencies,
}

impl Default for BloomdMetrics {
    fn default() -> Self {
        BloomdMetrics {
            connections: Gauge::default(),
            connections_total: Counter::default(),
            connections_refused: Counter::default(),
            connections_stalled: Counter::default(),
            connections_foreign: Counter::default(),
            commands: Counter::default(),
            client_errors: Counter::default(),
            failures: Counter::default(),
            datagrams: Counter::default(),
            duration: Latencies::by("command", &BloomdCommand::LABELS),
        }
    }
}

impl BloomdMetrics {
    /// Registers all of them as `grapevine_bloomd_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("bloomd");
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register_with_unit(
            "command_duration",
            "From reading a command to its reply, by command",
            Unit::Seconds,
            self.duration.clone(),
        );
        let mut count = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        count(
            "connections_opened",
            "Connections accepted",
            &self.connections_total,
        );
        count(
            "connections_refused",
            "Connections refused because limits.connections were open",
            &self.connections_refused,
        );
        count(
            "connections_stalled",
            "Connections ended because their clients took no replies",
            &self.connections_stalled,
        );
        count(
            "connections_foreign",
            "Connections ended because they speak HTTP",
            &self.connections_foreign,
        );
        count(
            "commands",
            "Commands answered, errors included",
            &self.commands,
        );
        count(
            "client_errors",
            "Commands that were not understood",
            &self.client_errors,
        );
        count(
            "failures",
            "Commands that failed in the node",
            &self.failures,
        );
        count("datagrams", "Datagrams received", &self.datagrams);
    }
}

/// The rmbd gateway's.
#[derive(Clone, Debug)]
pub struct RmbdMetrics {
    /// Peers that are sent rows.
    pub peers: Gauge,
    /// Datagrams received.
    pub datagrams: Counter,
    /// Datagrams that were no message, or a row that does not exist.
    pub ignored: Counter,
    /// Keys added.
    pub adds: Counter,
    /// Keys asked for.
    pub checks: Counter,
    /// Rows received and merged.
    pub rows_received: Counter,
    /// Rows sent to peers.
    pub rows_sent: Counter,
    /// Acknowledgements of rows sent in the same round.
    pub acks: Counter,
    /// Other acknowledgements.
    pub acks_ignored: Counter,
    /// Requests to peer.
    pub peer_requests: Counter,
    /// Requests to peer that were refused.
    pub peers_refused: Counter,
    /// Peers dropped because they did not answer or could not be sent to.
    pub peers_dropped: Counter,
    /// Datagrams that could not be sent.
    pub send_failures: Counter,
    /// Batches of datagrams that failed in the node.
    pub failures: Counter,
    /// From reading a message to its reply, by [`RmbdCommand`].
    pub duration: Latencies,
}

impl Default for RmbdMetrics {
    fn default() -> Self {
        RmbdMetrics {
            peers: Gauge::default(),
            datagrams: Counter::default(),
            ignored: Counter::default(),
            adds: Counter::default(),
            checks: Counter::default(),
            rows_received: Counter::default(),
            rows_sent: Counter::default(),
            acks: Counter::default(),
            acks_ignored: Counter::default(),
            peer_requests: Counter::default(),
            peers_refused: Counter::default(),
            peers_dropped: Counter::default(),
            send_failures: Counter::default(),
            failures: Counter::default(),
            duration: Latencies::by("command", &RmbdCommand::LABELS),
        }
    }
}

impl RmbdMetrics {
    /// Registers all of them as `grapevine_rmbd_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("rmbd");
        registry.register("peers", "Peers that are sent rows", self.peers.clone());
        registry.register_with_unit(
            "command_duration",
            "From reading a message to its reply, or to its bits being kept, by command",
            Unit::Seconds,
            self.duration.clone(),
        );
        let received: [(&str, &str, &Counter); 8] = [
            ("datagrams", "Datagrams received", &self.datagrams),
            (
                "ignored",
                "Datagrams that were no message, or a row that does not exist",
                &self.ignored,
            ),
            ("adds", "Keys added", &self.adds),
            ("checks", "Keys asked for", &self.checks),
            (
                "rows_received",
                "Rows received and merged",
                &self.rows_received,
            ),
            (
                "acks",
                "Acknowledgements of rows sent in the same round",
                &self.acks,
            ),
            ("acks_ignored", "Other acknowledgements", &self.acks_ignored),
            ("peer_requests", "Requests to peer", &self.peer_requests),
        ];
        let done: [(&str, &str, &Counter); 5] = [
            (
                "peers_refused",
                "Requests to peer that were refused",
                &self.peers_refused,
            ),
            (
                "peers_dropped",
                "Peers dropped because they did not answer or could not be sent to",
                &self.peers_dropped,
            ),
            ("rows_sent", "Rows sent to peers", &self.rows_sent),
            (
                "send_failures",
                "Datagrams that could not be sent",
                &self.send_failures,
            ),
            (
                "failures",
                "Batches of datagrams that failed in the node",
                &self.failures,
            ),
        ];
        for (name, help, counter) in received.into_iter().chain(done) {
            registry.register(name, help, counter.clone());
        }
    }
}
