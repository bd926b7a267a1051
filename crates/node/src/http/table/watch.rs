//! Changes of a table as they come: server-sent events.
//!
//! A stream is a task that reads on from its position of the journal, so a slow client costs a
//! short queue and a bounded backlog; what it misses meanwhile it is told as the rows are then. Rows
//! that expire do so without an operation: the task knows the next ones (`expiries.rs`) and tells
//! of each at its own time.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use grapevine_core::table::{Row, TableEpoch};
use grapevine_store::log::Position;
use grapevine_store::tables::{Backlog, Changed, Changes, Page, TableError, Tables};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::super::error::ApiError;
use super::super::query::Query;
use super::super::{Api, WATCHERS_MAX, answer};
use super::expiries::{Expiries, Scan};
use super::outflow::{Gone, Outflow, PIECE_BYTES, outflow};
use super::rows::describe;
use super::token::{FROM_THE_BEGINNING, Start, Token};
use super::{Answer, TableName};
use crate::clock::unix_ms;
use crate::engine::Engine;

/// Changes asked for at once.
const CHANGES_PER_TURN: usize = 1024;
/// Turns of that before what expired is looked at.
const TURNS_MAX: usize = 8;
/// Rows read at once for the whole table.
const PAGE_ROWS: usize = 4096;
/// Bytes of them, about.
const PAGE_BYTES: usize = 256 << 10;
/// Expired rows told at once.
const EXPIRIES_PER_TURN: usize = 512;
/// How often something is sent when nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Tells nginx to pass on what comes when it comes.
const UNBUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

/// `GET /api/v1/tables/{name}/watch`.
pub(in super::super) async fn watch(
    State(api): State<Arc<Api>>,
    TableName(table): TableName,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    let query = Query::read(uri.query(), ["after", "prefix"])?;
    let resumed = headers.get("last-event-id").map(HeaderValue::as_bytes);
    let now = unix_ms();
    let origin = api.engine.journal().origin();
    let start = Start::of(resumed.or(query.get(0)), origin, now)?;
    // From here on no change goes unheard.
    let bell = api.engine.table_changes();
    let table: Arc<[u8]> = table.into();
    let prefix: Arc<[u8]> = query.get(1).unwrap_or_default().into();
    let (here, epoch) = {
        let table = Arc::clone(&table);
        let look = move |engine: &Engine| {
            let tables = engine.tables();
            let epoch = tables.epoch(&table)?;
            Ok::<_, ApiError>((tables.page(&table, b"", 1, 0, now)?, epoch))
        };
        api.engine.run_blocking(look).await?
    };
    let (here, epoch) = here.zip(epoch).ok_or(ApiError::NoTable)?;
    let metrics = api.metrics.tables.clone();
    let Ok(permit) = Arc::clone(&api.watchers).try_acquire_owned() else {
        metrics.watchers_refused.inc();
        return Err(ApiError::Watchers {
            limit: WATCHERS_MAX,
        });
    };
    let (out, body) = outflow();
    let mut watcher = Watcher {
        api,
        table,
        prefix,
        bell,
        out: out.clone(),
        epoch,
        since: here.position,
        backlog: Backlog::default(),
        told_ms: now,
        expiries: Expiries::after(now),
        heartbeat: Instant::now() + HEARTBEAT,
    };
    let mut stop = watcher.api.stop.clone();
    // The guard that it gives may not be kept over what is waited for next.
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    metrics.watchers.inc();
    tokio::spawn(async move {
        tokio::select! {
            told = watcher.tell_all_along(start) => {
                if let Err(Ended::Failed(error)) = told {
                    out.fail(error).await;
                }
            }
            () = out.closed() => {}
            () = stopped => {}
        }
        metrics.watchers.dec();
        drop(permit);
    });
    let mut response = answer::with_type(StatusCode::OK, "text/event-stream", body);
    let fresh = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, fresh);
    response.headers_mut().extend([UNBUFFERED]);
    Ok(response)
}

/// Why a stream ends.
enum Ended {
    Gone,
    /// The table was dropped.
    Dropped,
    Failed(ApiError),
}

impl From<Gone> for Ended {
    fn from(Gone: Gone) -> Self {
        Ended::Gone
    }
}

impl<E: Into<ApiError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Ended::Failed(error.into())
    }
}

/// How far what changed was told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    All,
    /// There is more.
    Some,
    /// It is not known any more what changed.
    Nothing,
}

/// One stream.
struct Watcher {
    api: Arc<Api>,
    table: Arc<[u8]>,
    /// How the keys begin that are watched.
    prefix: Arc<[u8]>,
    bell: Receiver<()>,
    out: Outflow,
    /// Which of the tables of this name is watched.
    epoch: Option<TableEpoch>,
    /// Changes up to here were told.
    since: Position,
    /// Changes after that which were found and not told yet.
    backlog: Backlog,
    /// Of rows that expired up to here it was told.
    told_ms: u64,
    expiries: Expiries,
    /// When something has to be sent.
    heartbeat: Instant,
}

impl Watcher {
    /// Tells what changes until the client has gone, or the table was dropped: that is told last.
    async fn tell_all_along(&mut self, start: Start) -> Result<(), Ended> {
        match self.tell(start).await {
            Err(Ended::Dropped) => {
                let mut events = Events::default();
                events.add("dropped", None, &json!({}));
                Ok(self.give(&mut events, 0).await?)
            }
            told => told,
        }
    }

    /// Reads something of the table that is watched, and of no later one of its name.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Tables) -> Result<T, TableError> + Send + 'static,
    ) -> Result<T, Ended> {
        let (table, epoch) = (Arc::clone(&self.table), self.epoch);
        let look = move |engine: &Engine| {
            let tables = engine.tables();
            let found = read(tables)?;
            let is_it = tables.epoch(&table)? == Some(epoch);
            Ok::<_, ApiError>(Some(found).filter(|_| is_it))
        };
        self.api
            .engine
            .run_blocking(look)
            .await?
            .ok_or(Ended::Dropped)
    }

    /// Tells what changes until the client has gone.
    async fn tell(&mut self, start: Start) -> Result<(), Ended> {
        match start {
            Start::Now => self.remark().await?,
            Start::After { position, told_ms } => {
                (self.since, self.told_ms) = (position, told_ms);
                self.expiries = Expiries::after(told_ms);
                self.remark().await?;
            }
            Start::All => {
                // Something to pass on, before the rows are read.
                self.out.give(b": watching\n\n".to_vec()).await?;
                self.tell_all().await?;
            }
        }
        loop {
            let told = self.tell_changes().await?;
            if told == Told::Nothing {
                self.tell_all().await?;
                continue;
            }
            match self.expiries.scan(unix_ms()) {
                Some(scan) => self.look_for_expiries(scan).await?,
                None => {
                    self.tell_expired().await?;
                    if told == Told::All {
                        self.wait().await?;
                    }
                }
            }
        }
    }

    /// Tells that the client is to forget what it knows, then all rows.
    async fn tell_all(&mut self) -> Result<(), Ended> {
        self.api.metrics.tables.resets.inc();
        let now = unix_ms();
        let mut events = Events::default();
        // The id of the beginning stays until all is told: who breaks off here begins again.
        events.add("reset", Some(FROM_THE_BEGINNING), &json!({}));
        self.expiries = Expiries::of_all(now);
        let (mut after, mut begun) = (Vec::new(), None);
        loop {
            let page = self.page(after, now).await?;
            self.api.engine.settle(page.position).await?;
            begun = begun.or(Some(page.position));
            for (key, row) in &page.rows {
                events.add("row", None, &describe(key, row));
                if let Some(at) = row.expires {
                    self.expiries.offer(at, key);
                }
                self.give(&mut events, PIECE_BYTES).await?;
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        (self.since, self.told_ms) = (begun.unwrap_or(self.since), now);
        let id = self.token(self.since, now);
        events.add("complete", Some(&id), &json!({}));
        Ok(self.give(&mut events, 0).await?)
    }

    /// Some of the rows that are watched, behind a key.
    async fn page(&self, after: Vec<u8>, now: u64) -> Result<Page, Ended> {
        let (table, prefix) = (Arc::clone(&self.table), Arc::clone(&self.prefix));
        let read = move |tables: &Tables| {
            tables.page_of_prefix(&table, &prefix, &after, PAGE_ROWS, PAGE_BYTES, now)
        };
        self.read(read).await?.ok_or(Ended::Dropped)
    }

    /// Tells what changed.
    async fn tell_changes(&mut self) -> Result<Told, Ended> {
        for _ in 0..TURNS_MAX {
            let (rows, next, more) = match self.changes().await? {
                Changes::Rows { rows, next, more } => (rows, next, more),
                Changes::Reset => return Ok(Told::Nothing),
                Changes::NotFound => return Err(Ended::Dropped),
            };
            self.api.engine.settle(next).await?;
            let mut events = Events::default();
            for changed in rows {
                self.add_change(&mut events, &changed);
                self.give(&mut events, PIECE_BYTES).await?;
            }
            self.give(&mut events, 0).await?;
            self.since = next;
            if !more {
                return Ok(Told::All);
            }
        }
        Ok(Told::Some)
    }

    async fn changes(&mut self) -> Result<Changes, Ended> {
        let (table, prefix) = (Arc::clone(&self.table), Arc::clone(&self.prefix));
        let (since, mut backlog) = (self.since, std::mem::take(&mut self.backlog));
        let read = move |tables: &Tables| {
            let count = CHANGES_PER_TURN;
            let changes = tables.changes_of(&table, &prefix, since, count, &mut backlog);
            changes.map(|changes| (changes, backlog))
        };
        let (changes, backlog) = self.read(read).await?;
        self.backlog = backlog;
        Ok(changes)
    }

    fn add_change(&mut self, events: &mut Events, changed: &Changed) {
        let Changed {
            position, key, row, ..
        } = changed;
        let id = self.token(*position, self.told_ms);
        if row.is_gone(unix_ms()) {
            events.add("gone", Some(&id), &gone(key, row));
            return;
        }
        events.add("row", Some(&id), &describe(key, row));
        if let Some(at) = row.expires {
            self.expiries.offer(at, key);
        }
    }

    /// Tells of the rows whose time has come, once all of them are known.
    async fn tell_expired(&mut self) -> Result<(), Ended> {
        let now = unix_ms();
        loop {
            let due = self.expiries.take_due(now, EXPIRIES_PER_TURN);
            let Some((last, _)) = due.last() else { break };
            // More of them may have the same time.
            let told_ms = last.saturating_sub(1);
            let table = Arc::clone(&self.table);
            let look = move |engine: &Engine| {
                let tables = engine.tables();
                let mut expired: Vec<(u64, Vec<u8>, Row)> = Vec::new();
                let mut later: Vec<(u64, Vec<u8>)> = Vec::new();
                let mut reached = 0;
                for (at, key) in due {
                    // As it was just before: it may have been set anew since.
                    let lookup = tables.get(&table, &key, at.saturating_sub(1))?;
                    let Some(lookup) = lookup else { continue };
                    reached = reached.max(lookup.position);
                    match lookup.row {
                        Some(row) if row.expires == Some(at) => expired.push((at, key, row)),
                        // It was given more time, of which nobody is told.
                        Some(row) => later.extend(row.expires.map(|at| (at, key))),
                        None => {}
                    }
                }
                Ok::<_, ApiError>((expired, later, reached))
            };
            let (expired, later, reached) = self.api.engine.run_blocking(look).await?;
            for (at, key) in &later {
                self.expiries.offer(*at, key);
            }
            self.api.engine.settle(reached).await?;
            let mut events = Events::default();
            for (at, key, row) in &expired {
                let id = self.token(self.since, at.saturating_sub(1));
                events.add("gone", Some(&id), &gone(key, row));
            }
            self.give(&mut events, 0).await?;
            self.told_ms = told_ms.max(self.told_ms);
        }
        if self.expiries.next().is_none_or(|at| at > now) {
            self.told_ms = now.max(self.told_ms);
        }
        Ok(())
    }

    /// Looks at some more rows for those that expire next.
    async fn look_for_expiries(&mut self, scan: Scan) -> Result<(), Ended> {
        let Scan { behind, after } = scan;
        let page = self.page(after, behind.0.saturating_sub(1)).await?;
        for (key, row) in &page.rows {
            if let Some(at) = row.expires
                && (at, &key[..]) > (behind.0, &behind.1[..])
            {
                self.expiries.offer(at, key);
            }
        }
        self.expiries.scanned(page.next);
        Ok(())
    }

    /// Waits for a change, an expiry or the time for a sign of life.
    async fn wait(&mut self) -> Result<(), Ended> {
        let mut until = self.heartbeat;
        if let Some(at) = self.expiries.next() {
            let left = Duration::from_millis(at.saturating_sub(unix_ms()));
            until = until.min(Instant::now() + left.min(HEARTBEAT));
        }
        tokio::select! {
            // The engine keeps the other end as long as the node runs.
            _ = self.bell.changed() => {}
            () = tokio::time::sleep_until(until) => {}
        }
        if Instant::now() >= self.heartbeat {
            self.remark().await?;
        }
        Ok(())
    }

    /// Sends a comment, and where the stream is.
    async fn remark(&mut self) -> Result<(), Gone> {
        let id = self.token(self.since, self.told_ms);
        self.heartbeat = Instant::now() + HEARTBEAT;
        self.out
            .give(format!(": watching\nid: {id}\n\n").into())
            .await
    }

    /// Hands events to the connection once they take that many bytes.
    async fn give(&mut self, events: &mut Events, bytes: usize) -> Result<(), Gone> {
        if events.count == 0 || events.text.len() < bytes {
            return Ok(());
        }
        let Events { text, count } = std::mem::take(events);
        self.heartbeat = Instant::now() + HEARTBEAT;
        self.out.give(text.into()).await?;
        self.api.metrics.tables.events.inc_by(count);
        Ok(())
    }

    /// Where the stream is. After a power cut other changes could come to stand where some were
    /// lost, so no id is ahead of what lasts; what is behind it is told twice if need be.
    fn token(&self, position: Position, told_ms: u64) -> String {
        let token = Token {
            origin: self.api.engine.journal().origin(),
            position: position.min(self.api.engine.lasting()),
            told_ms,
        };
        token.to_string()
    }
}

/// What is told of a row that went.
fn gone(key: &[u8], row: &Row) -> Value {
    json!({
        "key": super::super::name::display(key),
        "encoded": super::super::name::encode(key),
        "version": row.version.to_string(),
        "why": if row.is_tombstone() { "deleted" } else { "expired" },
    })
}

/// Events on their way.
#[derive(Default)]
struct Events {
    text: String,
    count: u64,
}

impl Events {
    fn add(&mut self, event: &str, id: Option<&str>, data: &Value) {
        use std::fmt::Write;
        let text = &mut self.text;
        // Writing into a string does not fail; JSON on one line has no line end.
        let _ = writeln!(text, "event: {event}");
        if let Some(id) = id {
            let _ = writeln!(text, "id: {id}");
        }
        let _ = writeln!(text, "data: {data}\n");
        self.count += 1;
    }
}
