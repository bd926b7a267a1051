//! Pages about the node itself: what it is, whether it is well, what it counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::{Api, answer};

/// The description of the API, held to the table of routes by a test.
pub(super) const OPENAPI: &str = include_str!("openapi.json");
/// The text form that Prometheus reads (OpenMetrics 1.0).
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
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
</ul>
</html>
";

/// `GET /`.
pub(super) async fn front() -> Response {
    answer::with_type(StatusCode::OK, "text/html; charset=utf-8", FRONT.into())
}

/// `GET /livez`.
pub(super) async fn alive() -> Response {
    answer::with_type(StatusCode::OK, TEXT_TYPE, "alive\n".into())
}

/// `GET /readyz`.
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    let reason = if api.stopping.load(Ordering::Relaxed) {
        Some("the node is stopping".into())
    } else {
        api.engine.filters().journal().read_only()
    };
    let Some(reason) = reason else {
        let status = api.group.as_deref().map(|group| group.status());
        let forks = status.map_or(0, |status| status.forks());
        let note = match forks {
            0 => String::new(),
            _ => format!(
                "note: other members have other operations of {forks} origins than this node; \
                 see the log and `grapevine group status`\n"
            ),
        };
        let said = format!("ready\n{note}");
        return answer::with_type(StatusCode::OK, TEXT_TYPE, said.into());
    };
    let said = json!({"error": {"code": "read_only", "message": &*reason}});
    answer::json(StatusCode::SERVICE_UNAVAILABLE, &said)
}

/// `GET /metrics`.
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    let metrics = Arc::clone(&api.metrics);
    // It reads a few files of the system's.
    let text = api.engine.run_blocking(move |_| metrics.text()).await;
    answer::with_type(StatusCode::OK, METRICS_TYPE, text.into())
}

/// `GET /api/v1/openapi.json`.
pub(super) async fn description() -> Response {
    answer::with_type(StatusCode::OK, "application/json", OPENAPI.into())
}
