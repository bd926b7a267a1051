//! Rows to links.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grapevine_core::table::Row;
use grapevine_core::wire::hbbp::{DATAGRAM_BYTES_MAX, SEAL_BYTES};
use grapevine_core::wire::p2ptbl::{self, HBBP_KEY_PREFIX, pack};
use grapevine_store::log::Position;
use grapevine_store::tables::{Changes, KeyedRow, TableError};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;

use super::pending::{Link, PATIENCE_MS};
use super::rounds::{DRAWN_FROM_MAX, Round, Rounds};
use super::{Settings, Talk, line};
use crate::clock::unix_ms;
use crate::engine::Engine;
use crate::gateway::hbbp::Voice;
use crate::gzip;
use crate::metrics::P2ptblMetrics;

/// Least time that a row of somebody else's waits, in milliseconds.
pub(super) const PATIENCE_MIN_MS: u64 = 50;
/// Changes read at once, and how often in a turn.
const CHANGES_PER_READ: usize = 1024;
const READS_PER_TURN: usize = 16;
/// Rows told in a turn, and the pause between two turns while there are more.
const ROWS_PER_TURN: usize = 1024;
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes of rows that one packet is drawn from; more could not be packed into one anyway.
const DRAWN_FROM_BYTES: usize = 1 << 20;
/// The longest that the teller sleeps.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Tells links about tables.
pub struct Teller {
    pub(super) talk: Talk,
    engine: Arc<Engine>,
    metrics: P2ptblMetrics,
    rounds: Rounds,
    /// Up to where the changes of each table were seen.
    seen: Vec<Option<Position>>,
    random: SmallRng,
}

/// Rows that are to be told, as they were read.
#[derive(Default)]
pub(super) struct Gathered {
    /// Those that changed, by table and link.
    due: BTreeMap<(usize, Link), Vec<KeyedRow>>,
    /// A part of each table whose time has come, and the size of a packet of it.
    drawn: Vec<(Vec<u8>, usize, Vec<KeyedRow>)>,
    /// Once everything before it is settled they may be heard elsewhere.
    position: Position,
}

impl Teller {
    pub(super) fn new(
        settings: &Settings,
        talk: Talk,
        engine: Arc<Engine>,
        metrics: P2ptblMetrics,
    ) -> Self {
        // Numbers that need not be secret, only different from node to node.
        let mut random = SmallRng::seed_from_u64(getrandom::u64().unwrap_or_default());
        Teller {
            seen: vec![None; talk.tables.len()],
            rounds: Rounds::new(&settings.gossip, |below| random.random_range(0..below)),
            talk,
            engine,
            metrics,
            random,
        }
    }

    /// Tells what there is to tell until `stop` turns true.
    pub async fn serve(mut self, voice: Arc<dyn Voice>, mut stop: watch::Receiver<bool>) {
        let mut changed = self.engine.table_changes();
        loop {
            changed.mark_unchanged();
            let turn = tokio::task::spawn_blocking(move || {
                let gathered = self.gather();
                (self, gathered)
            });
            let gathered;
            (self, gathered) = match turn.await {
                Ok(gathered) => gathered,
                Err(error) => return tracing::error!("p2ptbl: {error}"),
            };
            if let Err(error) = self.engine.settle(gathered.position).await {
                // What may not be kept here must not be heard elsewhere.
                self.engine.complain("telling rows to links", &error);
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = tokio::time::sleep(LOOK_EVERY) => continue,
                }
            }
            let voice = Arc::clone(&voice);
            let turn = tokio::task::spawn_blocking(move || {
                self.say(&*voice, gathered);
                self
            });
            self = match turn.await {
                Ok(teller) => teller,
                Err(error) => return tracing::error!("p2ptbl: {error}"),
            };
            if self.has_more() {
                // However much changes, a link is not flooded.
                tokio::time::sleep(PAUSE).await;
            }
            let sleep = self.sleep();
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(sleep) => {}
                told = changed.changed() => if told.is_err() { return },
            }
        }
    }

    /// Whether rows are due that the last turn left.
    fn has_more(&self) -> bool {
        let next = self.talk.pending().next();
        next.is_some_and(|due| due <= self.talk.now())
    }

    fn sleep(&self) -> Duration {
        let now = self.talk.now();
        let due = [self.talk.pending().next(), self.rounds.next()];
        let due = due.into_iter().flatten().min();
        let sleep = due.map_or(LOOK_EVERY, |due| {
            Duration::from_millis(due.saturating_sub(now))
        });
        sleep.clamp(PAUSE, LOOK_EVERY)
    }

    /// Reads what is to be told in this turn.
    pub(super) fn gather(&mut self) -> Gathered {
        self.follow();
        let mut gathered = self.due();
        gathered.drawn = self.drawn();
        gathered.position = self.engine.journal().appended();
        gathered
    }

    /// Notes what changed.
    pub(super) fn follow(&mut self) {
        for table in 0..self.talk.tables.len() {
            if let Err(error) = self.follow_table(table) {
                self.engine.complain("following tables for links", &error);
            }
        }
    }

    fn follow_table(&mut self, table: usize) -> Result<(), TableError> {
        let tables = self.engine.collections().tables();
        let name = &self.talk.tables[table];
        let Some(mut since) = self.seen[table] else {
            // What was there before is told bit by bit.
            let page = tables.page_of_all(name, b"", 1, 0)?;
            self.seen[table] = page.map(|page| page.position);
            return Ok(());
        };
        let me = self.engine.filters().identity().origin;
        for _ in 0..READS_PER_TURN {
            match tables.changes(name, since, CHANGES_PER_READ)? {
                Changes::Rows { rows, next, more } => {
                    let now = self.talk.now();
                    let mut pending = self.talk.pending();
                    for row in rows {
                        let delay = if row.made_by == me {
                            0
                        } else {
                            self.random.random_range(PATIENCE_MIN_MS..=PATIENCE_MS)
                        };
                        let links = 0..self.talk.interfaces.len();
                        pending.changed(now, Talk::row(table, &row.key), links, delay);
                    }
                    since = next;
                    self.seen[table] = Some(next);
                    if !more {
                        break;
                    }
                }
                // It goes on from the next change.
                Changes::Reset | Changes::NotFound => {
                    self.seen[table] = None;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The rows that are due.
    pub(super) fn due(&self) -> Gathered {
        let due = self.talk.pending().take_due(self.talk.now(), ROWS_PER_TURN);
        let tables = self.engine.collections().tables();
        let mut gathered = Gathered::default();
        for (name, links) in due {
            let row = match tables.find(&self.talk.tables[name.table], &name.key) {
                Ok(Some(row)) => row,
                // Removed since: nobody needs to hear of it any more.
                Ok(None) => continue,
                Err(error) => {
                    self.engine.complain("reading rows for links", &error);
                    break;
                }
            };
            let pending = self.talk.pending();
            for link in links {
                if pending.wanted(&name, row.version, link) {
                    let rows = gathered.due.entry((name.table, link)).or_default();
                    rows.push((name.key.clone(), row.clone()));
                }
            }
        }
        gathered
    }

    /// A random part of each table whose time has come.
    fn drawn(&mut self) -> Vec<(Vec<u8>, usize, Vec<KeyedRow>)> {
        let now = self.talk.now();
        let random = &mut self.random;
        let due = self.rounds.due(now, |below| random.random_range(0..below));
        let mut drawn = Vec::new();
        for round in due {
            match draw(&self.engine, round) {
                Ok(rows) => drawn.push((round.table.clone(), round.size, rows)),
                Err(error) => self.engine.complain("reading rows for links", &error),
            }
        }
        drawn
    }

    /// Tells what was gathered.
    pub(super) fn say(&mut self, voice: &dyn Voice, gathered: Gathered) {
        for ((table, link), rows) in gathered.due {
            let name = &self.talk.tables[table];
            self.send_all(voice, name, link, &rows);
        }
        for (table, size, mut rows) in gathered.drawn {
            for link in 0..self.talk.interfaces.len() {
                rows.shuffle(&mut self.random);
                self.send_some(voice, &table, link, &rows, size);
            }
        }
    }

    /// Sends rows, in as many packets as they need.
    fn send_all(&self, voice: &dyn Voice, table: &[u8], link: Link, rows: &[KeyedRow]) {
        let lines = self.lines(rows);
        let lines: Vec<p2ptbl::Row<'_>> = lines.iter().map(Line::row).collect();
        let mut rest = &lines[..];
        while !rest.is_empty() {
            let count = self.send_packet(voice, table, link, rest, DATAGRAM_BYTES_MAX);
            // One that fits no packet is not told.
            self.metrics.rows_unfit.inc_by(u64::from(count == 0));
            rest = &rest[count.max(1)..];
        }
    }

    /// Sends as many of the first rows as fit one packet of that size.
    fn send_some(
        &self,
        voice: &dyn Voice,
        table: &[u8],
        link: Link,
        rows: &[KeyedRow],
        size: usize,
    ) {
        let lines = self.lines(rows);
        let lines: Vec<p2ptbl::Row<'_>> = lines.iter().map(Line::row).collect();
        if !lines.is_empty() && self.send_packet(voice, table, link, &lines, size) == 0 {
            self.metrics.rows_unfit.inc();
            let name = table.escape_ascii();
            let what = format!("{name} has rows that do not fit {size} bytes (hbbp.gossip)");
            self.engine.complain("gossiping a table", &what);
        }
    }

    /// Sends the first of these rows in a packet of at most `size` bytes, packed; how many.
    fn send_packet(
        &self,
        voice: &dyn Voice,
        table: &[u8],
        link: Link,
        rows: &[p2ptbl::Row<'_>],
        size: usize,
    ) -> usize {
        let key = [HBBP_KEY_PREFIX.as_bytes(), table].concat();
        let room = DATAGRAM_BYTES_MAX.saturating_sub(key.len() + 1 + SEAL_BYTES);
        let packed = match pack(rows, size.min(room), gzip::pack) {
            Ok(Some(packed)) => packed,
            Ok(None) => return 0,
            Err(error) => {
                self.engine.complain("packing rows for links", &error);
                return rows.len();
            }
        };
        match voice.say(&self.talk.interfaces[link], &key, &packed.payload) {
            Ok(()) => {
                self.metrics.packets_told.inc();
                self.metrics.rows_told.inc_by(packed.rows as u64);
            }
            Err(error) => {
                let what = format!("on {}: {error}", self.talk.interfaces[link]);
                self.engine.complain("telling rows", &what);
            }
        }
        packed.rows
    }

    /// The lines for rows, but for those that the originals would change on their way.
    fn lines<'a>(&self, rows: &'a [KeyedRow]) -> Vec<Line<'a>> {
        let now = unix_ms();
        let mut lines = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let Some((version, value)) = line::columns(row, now) else {
                continue;
            };
            let line = Line {
                key,
                version,
                value,
            };
            if line.row().is_handed_on_whole() {
                lines.push(line);
            } else {
                self.metrics.rows_unfit.inc();
            }
        }
        lines
    }
}

/// Rows to tell some of, and room for the text of their versions.
struct Line<'a> {
    key: &'a [u8],
    version: String,
    value: &'a [u8],
}

impl Line<'_> {
    fn row(&self) -> p2ptbl::Row<'_> {
        p2ptbl::Row {
            key: self.key,
            version: self.version.as_bytes(),
            value: self.value,
        }
    }
}

/// The rows that a round draws from. Those that have expired and are due at all members become
/// deletions: a link cannot be told otherwise that they are gone.
fn draw(engine: &Engine, round: &mut Round) -> Result<Vec<KeyedRow>, TableError> {
    let tables = engine.collections().tables();
    let page =
        |after: &[u8]| tables.page_of_all(&round.table, after, DRAWN_FROM_MAX, DRAWN_FROM_BYTES);
    let mut page = match page(&round.after)? {
        // The end of the table: the next rows are the first.
        Some(end) if end.rows.is_empty() && !round.after.is_empty() => page(b"")?,
        page => page,
    }
    .unwrap_or_default();
    round.after = page.next.take().unwrap_or_default();
    let horizon = tables.agreed_horizon();
    for (key, row) in &mut page.rows {
        let is_due = |row: &Row| row.expires.is_some_and(|at| at < horizon);
        if is_due(row)
            && tables.retire(&round.table, key)?
            && let Some(retired) = tables.find(&round.table, key)?
        {
            *row = retired;
        }
    }
    Ok(page.rows)
}
