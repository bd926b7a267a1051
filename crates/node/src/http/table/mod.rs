//! Tables as resources: listed, made, described; `rows` has single rows and pages of them,
//! `transfer` whole tables as files of lines (`lines`, `json_lines`), `watch` their changes as they come, with
//! the help of `token` (where a stream goes on) and `expiries` (what goes by itself).

mod expiries;
mod json_lines;
mod lines;
mod outflow;
pub(super) mod rows;
mod token;
pub(super) mod transfer;
pub(super) mod watch;

use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use grapevine_core::catalogue::validate_name;
use grapevine_core::table::validate_key;
use grapevine_store::tables::{Creation, Dropping, TableError, TableSummary};
use serde_json::{Value, json};

pub(super) use lines::LineError;

use super::collection::{LIST_ANSWER_BYTES, LIST_MAX, limit};
use super::error::ApiError;
use super::query::Query;
use super::routes::TABLES;
use super::{Api, Peer, answer, name};
use crate::audit;
use crate::clock::unix_ms;
use crate::gateway::p2ptbl::Settings;

type Answer = Result<Response, ApiError>;

/// The table's name in the path: `/api/v1/tables/NAME…`.
pub(super) struct TableName(Vec<u8>);

/// A row in the path: `/api/v1/tables/NAME/rows/KEY`.
pub(super) struct RowName {
    table: Vec<u8>,
    key: Vec<u8>,
}

impl<S: Sync> FromRequestParts<S> for TableName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let name = segment(parts, 0)?;
        validate_name(&name).map_err(TableError::from)?;
        Ok(TableName(name))
    }
}

impl<S: Sync> FromRequestParts<S> for RowName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let TableName(table) = TableName::from_request_parts(parts, state).await?;
        let key = segment(parts, 2)?;
        validate_key(&key).map_err(TableError::from)?;
        Ok(RowName { table, key })
    }
}

/// A segment of the path behind that of the list, decoded.
fn segment(parts: &Parts, place: usize) -> Result<Vec<u8>, ApiError> {
    let behind = parts.uri.path().strip_prefix(TABLES);
    let behind = behind.and_then(|rest| rest.strip_prefix('/'));
    let segment = behind.and_then(|rest| rest.split('/').nth(place));
    name::decode(segment.unwrap_or_default()).ok_or(ApiError::NameEncoding)
}

/// `GET /api/v1/tables`.
pub(super) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    let query = Query::read(uri.query(), ["prefix", "after", "limit"])?;
    let limit = query.get(2).map_or(Ok(LIST_MAX), limit)?;
    let (prefix, after) = (query.get(0).unwrap_or_default(), query.get(1));
    let room = api.room(LIST_ANSWER_BYTES).await?;
    let tables = api.engine.tables().list()?;
    let mut tables = tables.iter().filter(|summary| {
        let name = &summary.table.name[..];
        name.starts_with(prefix) && after.is_none_or(|after| name > after)
    });
    let page: Vec<&TableSummary> = tables.by_ref().take(limit).collect();
    let next = page.last().filter(|_| tables.next().is_some());
    let listed = json!({
        "tables": page.iter().map(|summary| outline(summary)).collect::<Vec<_>>(),
        "next": next.map(|summary| name::encode(&summary.table.name)),
    });
    Ok(answer::long_json(&listed, room))
}

fn outline(summary: &TableSummary) -> Value {
    json!({
        "name": name::display(&summary.table.name),
        "encoded": name::encode(&summary.table.name),
        "rows": summary.rows,
        "gone_rows": summary.tombstones,
        "linked": summary.table.linked,
    })
}

/// `PUT /api/v1/tables/{name}`.
pub(super) async fn create(State(api): State<Arc<Api>>, name: TableName) -> Answer {
    let given = name.0.clone();
    let created = api
        .engine
        .run_blocking(move |engine| engine.tables().create(&given))
        .await?;
    let (status, outcome, position) = match created {
        Creation::Created(position) => (StatusCode::CREATED, "created", position),
        Creation::Existed(position) => (StatusCode::OK, "exists", position),
    };
    api.engine.settle(position).await?;
    let summary = api.engine.tables().summary(&name.0)?;
    let summary = summary.ok_or(ApiError::NoTable)?;
    let said = json!({"outcome": outcome, "table": outline(&summary)});
    Ok(answer::json(status, &said))
}

/// `GET /api/v1/tables/{name}`.
pub(super) async fn info(State(api): State<Arc<Api>>, name: TableName) -> Answer {
    let summary = api.engine.tables().summary(&name.0)?;
    let summary = summary.ok_or(ApiError::NoTable)?;
    let mut described = outline(&summary);
    // All rows are looked at.
    let asked = name.0.clone();
    let measured = api
        .engine
        .run_blocking(move |engine| engine.tables().measure(&asked, unix_ms()))
        .await?;
    let measured = measured.ok_or(ApiError::NoTable)?;
    api.engine.settle(measured.position).await?;
    described["measured"] = json!({
        "rows": measured.rows,
        "expiring": measured.expiring,
        "bytes": measured.bytes,
        "position": measured.position,
    });
    described["epoch"] = json!(summary.table.epoch.map_or(0, |epoch| epoch.number));
    described["links"] = api.links.describe(&name.0);
    let group = api.group.as_ref();
    described["copies"] = json!(group.map(|group| super::group::copies(&group.status())));
    Ok(answer::json(StatusCode::OK, &described))
}

/// `DELETE /api/v1/tables/{name}`.
pub(super) async fn remove(State(api): State<Arc<Api>>, name: TableName) -> Answer {
    let dropped = api
        .engine
        .run_blocking(move |engine| engine.tables().drop_table(&name.0))
        .await?;
    let Dropping::Dropped(position) = dropped else {
        return Err(ApiError::NoTable);
    };
    api.engine.settle(position).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The links that tables of this node are exchanged on.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(pub(super) Option<Settings>);

impl Links {
    /// Those of a table: the interfaces, and whether it is received and told there.
    fn describe(&self, table: &[u8]) -> Value {
        let received = |links: &Settings| links.receive.contains(table);
        let told = |links: &Settings| {
            let mut rounds = links.gossip.iter();
            rounds.any(|round| round.table.as_bytes() == table)
        };
        let links = self.0.as_ref();
        let (received, told) = (links.is_some_and(received), links.is_some_and(told));
        let interfaces = links.filter(|_| received || told);
        let interfaces = interfaces.map_or(&[][..], |links| &links.interfaces);
        json!({"interfaces": interfaces, "received": received, "told": told})
    }
}

/// `POST /api/v1/rows/forget`.
pub(super) async fn forget_lost(
    State(api): State<Arc<Api>>,
    peer: Option<Extension<Peer>>,
) -> Answer {
    let forgotten = api
        .engine
        .run_blocking(|engine| engine.collections().forget_lost_rows())
        .await?;
    if forgotten {
        let from = peer.map(|Extension(Peer(from))| from);
        audit::note("gave up the rows that are missing", "", "HTTP", from);
    }
    Ok(answer::json(
        StatusCode::OK,
        &json!({"forgotten": forgotten}),
    ))
}
