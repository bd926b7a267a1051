//! Pages about the node itself: what it is, whether it is well, what it counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::error::ApiError;
use super::{Api, accept, answer};
use crate::client::NODE_HEADER;
use crate::engine::REMEDY;
use crate::metrics::Format;

/// The description of the API, held to the table of routes by a test.
pub(super) const OPENAPI: &str = include_str!("openapi.json");
const OPEN_METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN_METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

const FRONT: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>Grapevine</title>
<h1>Grapevine</h1>
<p>This is a node of Grapevine: state that a group of machines shares without a central server.</p>
<ul>
<li><a href=\"/api/v1/openapi.json\">The API</a>, under <code>/api/v1/</code></li>
<li><a href=\"/api/v1/filters\">Its filters</a></li>
<li><a href=\"/api/v1/tables\">Its tables</a></li>
<li><a href=\"/metrics\">Its metrics</a></li>
<li><a href=\"/readyz\">Whether it takes writes</a></li>
<li><a href=\"/api/v1/status\">How it is</a></li>
</ul>
</html>
";

/// Damaged filters that are named where a node says whether it takes writes.
const DAMAGED_SHOWN_MAX: usize = 10;

/// `GET /`.
pub(super) async fn front() -> Response {
    answer::with_type(StatusCode::OK, "text/html; charset=utf-8", FRONT.into())
}

/// `GET /livez`. It names the data directory: a command that found the address in one makes sure
/// that it is its node that answers.
pub(super) async fn alive(State(api): State<Arc<Api>>) -> Response {
    let mut response = answer::with_type(StatusCode::OK, TEXT_TYPE, "alive\n".into());
    let origin = api.engine.journal().origin().to_string();
    if let Ok(origin) = HeaderValue::try_from(origin) {
        response.headers_mut().insert(NODE_HEADER, origin);
    }
    response
}

/// `GET /readyz`.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    match why_not_ready(&api) {
        None => answer::with_type(StatusCode::OK, TEXT_TYPE, ready_text(&api).into()),
        Some(message) => {
            let said = json!({"error": {"code": "read_only", "message": message}});
            answer::json(StatusCode::SERVICE_UNAVAILABLE, &said)
        }
    }
}

/// Why the node takes no writes, if it takes none.
pub(super) fn why_not_ready(api: &Api) -> Option<String> {
    if api.stopping.load(Ordering::Relaxed) {
        return Some("the node is stopping".to_owned());
    }
    let reason = api.engine.filters().journal().read_only()?;
    Some(format!("the node is read-only: {reason}. {REMEDY}"))
}

/// That the node takes writes, and a line for each thing that people should know. One whose damaged
/// filters or rows refuse to answer still serves all others, so it stays in use and says which they are.
fn ready_text(api: &Api) -> String {
    let notes = notes(api).into_iter();
    let lines = notes.map(|note| format!("note: {note}\n"));
    std::iter::once("ready\n".to_owned()).chain(lines).collect()
}

/// What people should know although the node works.
pub(super) fn notes(api: &Api) -> Vec<String> {
    let status = api.group.as_deref().map(crate::group::Group::status);
    let of_group = status.iter().flat_map(|status| status.notes());
    let snapshot = api.engine.collections().unreadable_snapshot();
    let notes = snapshot.iter().map(ToString::to_string).chain(of_group);
    let notes = notes.chain(damage_notes(&api.engine.filters().damaged()));
    let rows = api.engine.collections().damaged_rows();
    let notes = notes.chain(rows.map(|reason| format!("the rows of tables are damaged: {reason}")));
    let notes = notes.chain(crate::large_filters::notes(api.engine.filters()));
    notes.collect()
}

/// How many filters are damaged, and why the first of them are.
fn damage_notes(damaged: &[(Vec<u8>, Arc<str>)]) -> Vec<String> {
    let mut notes = Vec::new();
    if !damaged.is_empty() {
        notes.push(format!("{} filters are damaged", damaged.len()));
    }
    for (name, reason) in damaged.iter().take(DAMAGED_SHOWN_MAX) {
        notes.push(format!(
            "filter {} is damaged: {reason}",
            name.escape_ascii()
        ));
    }
    notes
}

/// `GET /metrics`.
pub(super) async fn metrics(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = accept::format(&headers);
    let media_type = match format {
        Format::Plain => PLAIN_METRICS_TYPE,
        Format::OpenMetrics => OPEN_METRICS_TYPE,
    };
    // Apart from the answers of all: who wants to see what fills those gets to see it.
    let room = api.scrapes.wait(1).await.ok_or(ApiError::NoRoom)?;
    let metrics = Arc::clone(&api.metrics);
    // It reads a few files of the system's.
    let text = api.engine.run_blocking(move |_| metrics.text(format)).await;
    let mut response = answer::long(media_type, text, room);
    let varies = HeaderValue::from_static("accept");
    response.headers_mut().insert(header::VARY, varies);
    Ok(response)
}

/// `GET /api/v1/openapi.json`.
pub(super) async fn description() -> Response {
    answer::with_type(StatusCode::OK, "application/json", OPENAPI.into())
}
