//! The HBBP gateway's.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use super::Latencies;
use crate::gateway::hbbp::Refusal;

/// What the HBBP gateway counts.
#[derive(Clone, Debug)]
pub struct HbbpMetrics {
    /// Datagrams received.
    pub datagrams: Counter,
    /// Packets that were opened and handed on.
    pub taken: Counter,
    /// Packets whose key nobody wants.
    pub unwanted: Counter,
    /// Packets that are too long, or whose key breaks a rule.
    pub malformed: Counter,
    /// Packets that could not be opened.
    pub unopened: Counter,
    /// Packets that were opened before.
    pub replayed: Counter,
    /// Packets sent.
    pub sent: Counter,
    /// Packets that could not be sent.
    pub send_failures: Counter,
    /// Handlers that were run.
    pub handlers_run: Counter,
    /// Handlers that failed or were killed.
    pub handlers_failed: Counter,
    /// Packets that were dropped because too many waited for their handlers.
    pub handlers_dropped: Counter,
    /// From looking at a packet to its having been taken in, for those that were.
    pub packet_duration: Latencies,
    /// How long handlers run.
    pub handler_duration: Latencies,
}

impl Default for HbbpMetrics {
    fn default() -> Self {
        HbbpMetrics {
            datagrams: Counter::default(),
            taken: Counter::default(),
            unwanted: Counter::default(),
            malformed: Counter::default(),
            unopened: Counter::default(),
            replayed: Counter::default(),
            sent: Counter::default(),
            send_failures: Counter::default(),
            handlers_run: Counter::default(),
            handlers_failed: Counter::default(),
            handlers_dropped: Counter::default(),
            packet_duration: Latencies::single(),
            handler_duration: Latencies::single(),
        }
    }
}

impl HbbpMetrics {
    /// Counts a packet that was not taken.
    pub fn refused(&self, refusal: &Refusal) {
        match refusal {
            Refusal::TooLong(_) | Refusal::Key(_) => &self.malformed,
            Refusal::Keys(_) | Refusal::Seal => &self.unopened,
            Refusal::Replayed => &self.replayed,
        }
        .inc();
    }

    /// Registers all of them as `grapevine_hbbp_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("hbbp");
        let durations = [
            (
                "packet_duration",
                "Opening a packet and taking it in",
                &self.packet_duration,
            ),
            (
                "handler_duration",
                "How long handlers run",
                &self.handler_duration,
            ),
        ];
        for (name, help, latencies) in durations {
            registry.register_with_unit(name, help, Unit::Seconds, latencies.clone());
        }
        let counters: [(&str, &str, &Counter); 11] = [
            ("datagrams", "Datagrams received", &self.datagrams),
            (
                "taken",
                "Packets that were opened and handed on",
                &self.taken,
            ),
            ("unwanted", "Packets whose key nobody wants", &self.unwanted),
            (
                "malformed",
                "Packets that were too long, or whose key leads elsewhere",
                &self.malformed,
            ),
            (
                "unopened",
                "Packets that could not be opened",
                &self.unopened,
            ),
            (
                "replayed",
                "Packets that had been opened before",
                &self.replayed,
            ),
            ("sent", "Packets sent", &self.sent),
            (
                "send_failures",
                "Packets that could not be sent",
                &self.send_failures,
            ),
            ("handlers_run", "Handlers that were run", &self.handlers_run),
            (
                "handlers_failed",
                "Handlers that failed or were killed",
                &self.handlers_failed,
            ),
            (
                "handlers_dropped",
                "Packets dropped because too many waited for their handlers",
                &self.handlers_dropped,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
