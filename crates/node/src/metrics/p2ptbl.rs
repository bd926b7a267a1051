//! The p2ptbl gateway's.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use super::Latencies;

/// What the p2ptbl gateway counts.
#[derive(Clone, Debug)]
pub struct P2ptblMetrics {
    /// Packets received for tables that are enabled.
    pub packets_received: Counter,
    /// Those of which something was refused.
    pub packets_refused: Counter,
    /// Rows received.
    pub rows_received: Counter,
    /// Rows that changed a table.
    pub rows_changed: Counter,
    /// Rows that were refused.
    pub rows_refused: Counter,
    /// Packets sent.
    pub packets_told: Counter,
    /// Rows in them.
    pub rows_told: Counter,
    /// Rows that were not told, because they fit no packet or the originals would change them.
    pub rows_unfit: Counter,
    /// Unpacking the rows of a packet and merging them.
    pub merge_duration: Latencies,
}

impl Default for P2ptblMetrics {
    fn default() -> Self {
        P2ptblMetrics {
            packets_received: Counter::default(),
            packets_refused: Counter::default(),
            rows_received: Counter::default(),
            rows_changed: Counter::default(),
            rows_refused: Counter::default(),
            packets_told: Counter::default(),
            rows_told: Counter::default(),
            rows_unfit: Counter::default(),
            merge_duration: Latencies::single(),
        }
    }
}

impl P2ptblMetrics {
    /// Registers all of them as `grapevine_p2ptbl_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("p2ptbl");
        registry.register_with_unit(
            "merge_duration",
            "Unpacking the rows of a packet from a link and merging them",
            Unit::Seconds,
            self.merge_duration.clone(),
        );
        let counters: [(&str, &str, &Counter); 8] = [
            (
                "packets_received",
                "Packets received for tables that are enabled",
                &self.packets_received,
            ),
            (
                "packets_refused",
                "Packets of which something was refused",
                &self.packets_refused,
            ),
            (
                "rows_received",
                "Rows received from links",
                &self.rows_received,
            ),
            (
                "rows_changed",
                "Rows from links that changed a table",
                &self.rows_changed,
            ),
            (
                "rows_refused",
                "Rows from links that were refused",
                &self.rows_refused,
            ),
            ("packets_told", "Packets with rows sent", &self.packets_told),
            ("rows_told", "Rows told to links", &self.rows_told),
            (
                "rows_unfit",
                "Rows not told: they fit no packet, or the originals would change them",
                &self.rows_unfit,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
