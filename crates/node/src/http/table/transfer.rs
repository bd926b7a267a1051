//! Whole tables in and out, as files of lines.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use grapevine_store::tables::{KeyedRow, Page};
use serde_json::json;

use super::super::error::ApiError;
use super::super::query::Query;
use super::super::{Api, answer, body};
use super::lines::{Format, LineError, RowLines};
use super::outflow::{Gone, Outflow, outflow};
use super::{Answer, TableName};
use crate::clock::unix_ms;

/// Rows read at once for an export, at most.
const PAGE_ROWS: usize = 4096;
/// Bytes of rows read or merged at once, about.
const BATCH_BYTES: usize = 256 << 10;
/// Rows merged at once, about.
const BATCH_ROWS: usize = 4096;

/// `POST /api/v1/tables/{name}/import`.
pub(in super::super) async fn import(
    State(api): State<Arc<Api>>,
    TableName(table): TableName,
    request: Request,
) -> Response {
    let (head, mut body) = request.into_parts();
    let imported = async {
        let query = Query::read(head.uri.query(), ["line", "format"])?;
        let format = query.get(1).map_or(Ok(Format::P2ptbl), format_named)?;
        let first = query.get(0).map_or(Ok(1), first_line)?;
        let mut import = Import {
            api: &api,
            table: table.into(),
            batch: Vec::new(),
            bytes: 0,
            rows: 0,
            changed: 0,
            refused: 0,
        };
        import.run(&mut body, RowLines::new(format, first)).await?;
        let said = json!({
            "rows": import.rows,
            "changed": import.changed,
            "refused": import.refused,
        });
        Ok::<_, ApiError>(answer::json(StatusCode::OK, &said))
    };
    match imported.await {
        Ok(response) => response,
        Err(error) => {
            body::drain(body).await;
            error.into_response()
        }
    }
}

fn format_named(text: &[u8]) -> Result<Format, ApiError> {
    Format::named(text).ok_or_else(|| ApiError::ParameterValue {
        name: "format",
        value: String::from_utf8_lossy(text).into_owned(),
        expected: "p2ptbl or jsonl",
    })
}

fn first_line(text: &[u8]) -> Result<u64, ApiError> {
    let number = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    number.ok_or_else(|| ApiError::ParameterValue {
        name: "line",
        value: String::from_utf8_lossy(text).into_owned(),
        expected: "the number of the first line",
    })
}

/// One request: what it has merged so far.
struct Import<'a> {
    api: &'a Api,
    table: Arc<[u8]>,
    /// Rows not merged yet, and about how many bytes of the file they are.
    batch: Vec<KeyedRow>,
    bytes: usize,
    rows: u64,
    changed: u64,
    /// Rows whose versions are too near the end of versions.
    refused: u64,
}

impl Import<'_> {
    async fn run(&mut self, body: &mut Body, mut lines: RowLines) -> Result<(), ApiError> {
        if self.api.engine.tables().summary(&self.table)?.is_none() {
            return Err(ApiError::NoTable);
        }
        while let Some(piece) = body::piece(body).await? {
            let fed = lines.feed(&piece, &mut self.batch);
            self.bytes += piece.len();
            if let Err(error) = fed {
                return Err(self.refused(error).await?);
            }
            if self.bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ROWS {
                self.merge().await?;
            }
        }
        let finished = lines.finish(&mut self.batch);
        match finished {
            Ok(()) => self.merge().await,
            Err(error) => Err(self.refused(error).await?),
        }
    }

    /// Merges what came before a line that is no row, and says both.
    async fn refused(&mut self, error: LineError) -> Result<ApiError, ApiError> {
        self.merge().await?;
        Ok(ApiError::Line {
            error,
            rows: self.rows,
            changed: self.changed,
        })
    }

    async fn merge(&mut self) -> Result<(), ApiError> {
        self.bytes = 0;
        let (batch, table) = (std::mem::take(&mut self.batch), Arc::clone(&self.table));
        let count = batch.len() as u64;
        let merge = move |engine: &crate::engine::Engine| engine.tables().merge(&table, batch);
        let merged = self.api.engine.run_blocking(merge).await?;
        let merged = merged.ok_or(ApiError::NoTable)?;
        self.api.engine.settle(merged.position).await?;
        self.rows += count;
        self.changed += merged.changed;
        self.refused += merged.refused;
        let metrics = &self.api.metrics.tables;
        metrics.imported_rows.inc_by(count);
        metrics.import_changes.inc_by(merged.changed);
        Ok(())
    }
}

/// `GET /api/v1/tables/{name}/export`.
pub(in super::super) async fn export(
    State(api): State<Arc<Api>>,
    TableName(table): TableName,
    uri: Uri,
) -> Answer {
    let query = Query::read(uri.query(), ["format"])?;
    let format = query.get(0).map_or(Ok(Format::P2ptbl), format_named)?;
    let export = Export {
        api,
        format,
        table: table.into(),
        now: unix_ms(),
    };
    // What cannot be read says so before the first byte.
    let first = export.page(Vec::new()).await?;
    let (out, body) = outflow();
    tokio::spawn(async move {
        // Whoever is gone needs not be told.
        drop(export.run(first, &out).await);
    });
    Ok(answer::with_type(StatusCode::OK, format.media_type(), body))
}

struct Export {
    api: Arc<Api>,
    format: Format,
    table: Arc<[u8]>,
    /// Rows that are gone at this time are left out.
    now: u64,
}

impl Export {
    async fn page(&self, after: Vec<u8>) -> Result<Page, ApiError> {
        let (table, now) = (Arc::clone(&self.table), self.now);
        let read = move |engine: &crate::engine::Engine| {
            let tables = engine.tables();
            tables.page(&table, &after, PAGE_ROWS, BATCH_BYTES, now)
        };
        let page = self.api.engine.run_blocking(read).await?;
        let page = page.ok_or(ApiError::NoTable)?;
        self.api.engine.settle(page.position).await?;
        Ok(page)
    }

    async fn run(&self, mut page: Page, out: &Outflow) -> Result<(), Gone> {
        loop {
            let mut text = Vec::with_capacity(BATCH_BYTES);
            for (key, row) in &page.rows {
                self.format.write_line(&mut text, key, row);
            }
            if !text.is_empty() {
                out.give(text).await?;
            }
            let Some(next) = page.next else {
                return Ok(());
            };
            page = match self.page(next).await {
                Ok(page) => page,
                Err(error) => {
                    out.fail(error).await;
                    return Ok(());
                }
            };
        }
    }
}
