//! Rows from links.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use grapevine_core::wire::p2ptbl::{HBBP_KEY_PREFIX, UNPACKED_BYTES_MAX, rows};
use grapevine_store::tables::{KeyedRow, TableError};

use super::{Settings, Talk, line};
use crate::engine::Engine;
use crate::gateway::hbbp::{Consumer, Opened};
use crate::gzip;
use crate::metrics::P2ptblMetrics;

/// Rows, tombstones among them, that a table may have for a key from a link to be taken that is
/// new in it. Anybody on a link may say anything, and the disk is not theirs.
const ROWS_MAX: u64 = 1 << 20;

/// Takes the packets of the tables that are to be received.
pub struct Receiver {
    tables: BTreeSet<Vec<u8>>,
    talk: Talk,
    engine: Arc<Engine>,
    metrics: P2ptblMetrics,
}

/// Why a packet's rows, or some of them, were not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Packed(#[from] gzip::UnpackError),
    #[error("{count} rows were not taken, one of them because {why}")]
    Rows { count: u64, why: line::LineError },
    #[error("{0} rows have versions so large that nobody could change them any more")]
    Versions(u64),
    #[error("the table has {ROWS_MAX} rows: {0} new ones were not taken")]
    Full(u64),
    #[error("the table does not exist: it was dropped")]
    NoTable,
    #[error(transparent)]
    Table(#[from] TableError),
}

impl Receiver {
    pub(super) fn new(
        settings: &Settings,
        talk: Talk,
        engine: Arc<Engine>,
        metrics: P2ptblMetrics,
    ) -> Self {
        Receiver {
            tables: settings.receive.clone(),
            talk,
            engine,
            metrics,
        }
    }

    fn merge(&self, name: &[u8], packet: &Opened) -> Result<(), Refusal> {
        let text = gzip::unpack(&packet.payload, UNPACKED_BYTES_MAX)?;
        let mut taken = Vec::new();
        let mut refused = None;
        for line in rows(&text) {
            match line::read(&line) {
                Ok(row) => taken.push(row),
                Err(why) => refused.get_or_insert((0, why)).0 += 1,
            }
        }
        self.metrics.rows_received.inc_by(taken.len() as u64);
        let new = self.refuse_new_in_full_table(name, &mut taken)?;
        self.note(name, &taken, packet);
        let tables = self.engine.collections().tables();
        let count = taken.len() as u64;
        let Some(merged) = tables.merge(name, taken)? else {
            self.metrics.rows_refused.inc_by(count);
            return Err(Refusal::NoTable);
        };
        self.metrics.rows_changed.inc_by(merged.changed);
        let count = refused.map_or(0, |(count, _)| count) + merged.refused + new;
        self.metrics.rows_refused.inc_by(count);
        if let Some((count, why)) = refused {
            return Err(Refusal::Rows { count, why });
        }
        if merged.refused > 0 {
            return Err(Refusal::Versions(merged.refused));
        }
        if new > 0 {
            Err(Refusal::Full(new))
        } else {
            Ok(())
        }
    }

    /// Leaves out rows of keys that are not in a table which has as many rows as it may; how many.
    fn refuse_new_in_full_table(
        &self,
        name: &[u8],
        rows: &mut Vec<KeyedRow>,
    ) -> Result<u64, TableError> {
        let tables = self.engine.collections().tables();
        let summary = tables.summary(name)?;
        let count = summary.map_or(0, |summary| summary.rows + summary.tombstones);
        if count < ROWS_MAX {
            return Ok(0);
        }
        let before = rows.len();
        let mut known = Vec::with_capacity(before);
        for (key, row) in rows.drain(..) {
            if tables.find(name, &key)?.is_some() {
                known.push((key, row));
            }
        }
        *rows = known;
        Ok((before - rows.len()) as u64)
    }

    /// Whoever is about to tell these rows on this link need not.
    fn note(&self, name: &[u8], rows: &[KeyedRow], packet: &Opened) {
        let (Some(link), Some(table)) = (self.talk.link(&packet.interface), self.talk.table(name))
        else {
            return;
        };
        let now = self.talk.now();
        let mut pending = self.talk.pending();
        for (key, row) in rows {
            pending.heard(now, &Talk::row(table, key), row.version, link);
        }
    }
}

impl Consumer for Receiver {
    fn wants(&self, _: &str, key: &[u8]) -> bool {
        let name = key.strip_prefix(HBBP_KEY_PREFIX.as_bytes());
        name.is_some_and(|name| self.tables.contains(name))
    }

    fn take(&self, packet: Opened) {
        self.metrics.packets_received.inc();
        let name = packet.key.strip_prefix(HBBP_KEY_PREFIX.as_bytes());
        let name = name.unwrap_or_default();
        let began = Instant::now();
        let merged = self.merge(name, &packet);
        let duration = self.metrics.merge_duration.at(0);
        duration.record(began.elapsed(), 1);
        if let Err(refusal) = merged {
            self.metrics.packets_refused.inc();
            let (from, interface) = (packet.from.ip(), &packet.interface);
            let what = format!(
                "of table {} from {from} on {interface}: {refusal}",
                name.escape_ascii()
            );
            self.engine.complain("refused rows", &what);
        }
    }
}
