//! What the node counts, for `/metrics`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The bloomd gateway's.
#[derive(Clone, Debug, Default)]
pub struct BloomdMetrics {
    /// Open connections.
    pub connections: Gauge,
    /// Connections since the start.
    pub connections_total: Counter,
    /// Connections refused because too many were open.
    pub connections_refused: Counter,
    /// Commands that were answered.
    pub commands: Counter,
    /// Commands that were refused as not understood.
    pub client_errors: Counter,
    /// Commands that failed on the node's side.
    pub failures: Counter,
    /// Datagrams received.
    pub datagrams: Counter,
}

impl BloomdMetrics {
    /// Registers all of them as `grapevine_bloomd_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("bloomd");
        registry.register("connections", "Open connections", self.connections.clone());
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
