//! What is counted of tables.

use std::fmt;
use std::sync::Arc;

use grapevine_store::tables::TableSummary;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::figures::Figures;
use super::state::label;
use crate::engine::Engine;

/// Tables that get figures of their own; of a node with more, the first by name.
const TABLES_MAX: usize = 1000;

/// What is counted as it happens.
#[derive(Clone, Debug, Default)]
pub struct TableMetrics {
    /// Rows set.
    pub sets: Counter,
    /// Rows deleted.
    pub deletes: Counter,
    /// Rows of files that were merged.
    pub imported_rows: Counter,
    /// Rows of files that changed something.
    pub import_changes: Counter,
    /// Streams of changes that are open.
    pub watchers: Gauge,
    /// Streams refused because too many were open.
    pub watchers_refused: Counter,
    /// Events sent.
    pub events: Counter,
    /// Times a stream told all rows.
    pub resets: Counter,
}

impl TableMetrics {
    /// Registers all of them as `grapevine_table_…`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("table");
        registry.register(
            "watchers",
            "Streams of changes that are open",
            self.watchers.clone(),
        );
        let counters = [
            ("sets", "Rows set", &self.sets),
            ("deletes", "Rows deleted", &self.deletes),
            (
                "imported_rows",
                "Rows of files that were merged",
                &self.imported_rows,
            ),
            (
                "import_changes",
                "Rows of files that changed something",
                &self.import_changes,
            ),
            (
                "watchers_refused",
                "Streams of changes refused because too many were open",
                &self.watchers_refused,
            ),
            ("events", "Events sent to watchers", &self.events),
            (
                "resets",
                "Times a watcher was sent all rows of a table",
                &self.resets,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}

/// Reads the figures of the tables there are.
pub(super) struct TableState(Arc<Engine>);

impl TableState {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        TableState(engine)
    }
}

impl fmt::Debug for TableState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableState").finish_non_exhaustive()
    }
}

type TableFigure = (&'static str, &'static str, fn(&TableSummary) -> u64);

const TABLE_GAUGES: [TableFigure; 2] = [
    (
        "grapevine_table_rows",
        "Rows, with those that expired less than a day ago",
        |table| table.rows,
    ),
    (
        "grapevine_table_gone_rows",
        "Deleted rows that some member may still have to hear of",
        |table| table.tombstones,
    ),
];

impl Collector for TableState {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut figures = Figures::new(encoder);
        let listed = self.0.tables().list();
        let damaged = u64::from(listed.is_err());
        figures.gauge(
            "grapevine_rows_damaged",
            "1 while rows of tables are missing on this node, and none is served",
            damaged,
        )?;
        let scrubbed = self.0.tables().scrubbed();
        figures.counter(
            "grapevine_rows_scrubbed_bytes",
            "Bytes of rows that were read from the disk to find damaged pages",
            scrubbed.bytes,
        )?;
        figures.counter(
            "grapevine_rows_scrubs",
            "Times the file of rows was read to its end to find damaged pages",
            scrubbed.passes,
        )?;
        let Ok(mut tables) = listed else {
            return Ok(());
        };
        figures.gauge("grapevine_tables", "Tables", tables.len() as u64)?;
        figures.gauge(
            "grapevine_tables_unlisted",
            "Tables without figures of their own, because there are more than 1000",
            tables.len().saturating_sub(TABLES_MAX) as u64,
        )?;
        tables.truncate(TABLES_MAX);
        let labels: Vec<String> = tables.iter().map(|t| label(&t.table.name)).collect();
        for (name, help, figure) in TABLE_GAUGES {
            let values = labels.iter().zip(tables.iter().map(figure));
            figures.gauges(name, help, "table", values)?;
        }
        Ok(())
    }
}
