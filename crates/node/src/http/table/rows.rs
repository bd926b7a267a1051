//! Rows: one, or a page of them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use grapevine_core::table::{Row, validate_key};
use grapevine_store::tables::{Deletion, KeyedRow, Page, TableError, Tables, Touching, Written};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::collection::{LIST_MAX, limit};
use super::super::error::ApiError;
use super::super::query::Query;
use super::super::{Api, answer, body, name};
use super::{Answer, RowName, TableName};
use crate::clock::unix_ms;

/// Longest body that describes a row, in bytes: its values in JSON's longest writing, six bytes
/// for one.
const WISH_BYTES_MAX: usize = 512 << 10;
/// Bytes of rows in one answer, about; a page goes on with `after`.
const PAGE_BYTES: usize = 256 << 10;
/// Bytes of such an answer, about: JSON writes a byte in up to six.
const PAGE_ANSWER_BYTES: usize = 2 << 20;
/// Longest life of a row, in milliseconds: a hundred years. Who wants more wants none.
const TTL_MS_MAX: u64 = 100 * 365 * 86_400_000;

/// A row as it is told.
pub(super) fn describe(key: &[u8], row: &Row) -> Value {
    let values = row.values().unwrap_or_default();
    let columns = || values.split(|byte| *byte == b'\t');
    let encoded = || columns().map(name::encode).collect::<Vec<_>>();
    json!({
        "key": name::display(key),
        "encoded": name::encode(key),
        // Not a number: JavaScript's and many others' end at 2^53.
        "version": row.version.to_string(),
        "values": columns().map(name::display).collect::<Vec<_>>(),
        "values_encoded": std::str::from_utf8(values).is_err().then(encoded),
        "expires": row.expires,
    })
}

/// `GET /api/v1/tables/{name}/rows`.
pub(in super::super) async fn page(
    State(api): State<Arc<Api>>,
    TableName(table): TableName,
    uri: Uri,
) -> Answer {
    let query = Query::read(uri.query(), ["prefix", "after", "limit"])?;
    let limit = query.get(2).map_or(Ok(LIST_MAX), limit)?;
    let prefix = query.get(0).unwrap_or_default().to_vec();
    let after = query.get(1).unwrap_or_default().to_vec();
    let room = api.room(PAGE_ANSWER_BYTES).await?;
    let read = api
        .engine
        .run_blocking(move |engine| read_page(engine.tables(), &table, &prefix, &after, limit));
    let page = read.await?.ok_or(ApiError::NoTable)?;
    api.engine.settle(page.position).await?;
    let described = json!({
        "rows": page.rows.iter().map(|(key, row)| describe(key, row)).collect::<Vec<_>>(),
        "next": page.next.map(|next| name::encode(&next)),
    });
    Ok(answer::long_json(&described, room))
}

/// Up to `limit` rows behind `after` whose keys begin with `prefix`.
fn read_page(
    tables: &Tables,
    table: &[u8],
    prefix: &[u8],
    after: &[u8],
    limit: usize,
) -> Result<Option<Page>, TableError> {
    let now = unix_ms();
    let mut first: Option<KeyedRow> = None;
    let mut from = after;
    if after < prefix {
        // A page begins behind a key, and the prefix may be a key itself.
        if validate_key(prefix).is_ok()
            && let Some(lookup) = tables.get(table, prefix, now)?
        {
            first = lookup.row.map(|row| (prefix.to_vec(), row));
        }
        from = prefix;
    }
    let room = limit - usize::from(first.is_some());
    let Some(mut page) = tables.page(table, from, room, PAGE_BYTES, now)? else {
        return Ok(None);
    };
    if room == 0 {
        page.rows.clear();
        page.next = Some(prefix.to_vec());
    }
    let outside = |key: &[u8]| !key.starts_with(prefix);
    if let Some(end) = page.rows.iter().position(|(key, _)| outside(key)) {
        page.rows.truncate(end);
        page.next = None;
    }
    page.next = page.next.filter(|next| !outside(next));
    if let Some(first) = first {
        page.rows.insert(0, first);
    }
    Ok(Some(page))
}

/// `GET /api/v1/tables/{name}/rows/{key}`.
pub(in super::super) async fn get(State(api): State<Arc<Api>>, name: RowName) -> Answer {
    let RowName { table, key } = name;
    let asked = key.clone();
    let read = move |engine: &crate::engine::Engine| engine.tables().get(&table, &asked, unix_ms());
    let lookup = api.engine.run_blocking(read).await?;
    let lookup = lookup.ok_or(ApiError::NoTable)?;
    api.engine.settle(lookup.position).await?;
    let row = lookup.row.ok_or(ApiError::NoRow)?;
    Ok(answer::json(StatusCode::OK, &describe(&key, &row)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    values: Option<Vec<String>>,
    values_encoded: Option<Vec<String>>,
    ttl_ms: Option<u64>,
}

impl Wish {
    /// The values with tabs between them.
    fn columns(&self) -> Result<Vec<u8>, ApiError> {
        let columns: Vec<Vec<u8>> = match (&self.values, &self.values_encoded) {
            (Some(values), None) => values.iter().map(|value| value.clone().into()).collect(),
            (None, Some(values)) => {
                let decode = |(at, value): (usize, &String)| {
                    name::decode(value).ok_or(ApiError::ValueEncoding { number: at + 1 })
                };
                values
                    .iter()
                    .enumerate()
                    .map(decode)
                    .collect::<Result<_, _>>()?
            }
            _ => return Err(ApiError::Values),
        };
        if columns.is_empty() {
            return Err(ApiError::Values);
        }
        match columns.iter().position(|column| column.contains(&b'\t')) {
            Some(at) => Err(ApiError::ValueTab { number: at + 1 }),
            None => Ok(columns.join(&b'\t')),
        }
    }

    /// When the row goes, in milliseconds since 1970.
    fn expires(&self) -> Result<Option<u64>, ApiError> {
        self.ttl_ms.map(expires_in).transpose()
    }
}

/// When a row goes that lives for so many milliseconds from now on, in milliseconds since 1970.
fn expires_in(ttl_ms: u64) -> Result<u64, ApiError> {
    match ttl_ms {
        1..=TTL_MS_MAX => Ok(unix_ms().saturating_add(ttl_ms)),
        given => Err(ApiError::Ttl {
            given,
            limit: TTL_MS_MAX,
        }),
    }
}

/// `PUT /api/v1/tables/{name}/rows/{key}`.
pub(in super::super) async fn set(
    State(api): State<Arc<Api>>,
    name: RowName,
    request: Request,
) -> Answer {
    let text = body::whole(&mut request.into_body(), WISH_BYTES_MAX).await?;
    let wish: Wish = serde_json::from_slice(&text)?;
    let (values, expires) = (wish.columns()?, wish.expires()?);
    let RowName { table, key } = name;
    let set = move |engine: &crate::engine::Engine| {
        let tables = engine.tables();
        tables.set(&table, &key, &values, expires)
    };
    match api.engine.run_blocking(set).await? {
        Written::NotFound => Err(ApiError::NoTable),
        Written::Row { version, position } => {
            api.engine.settle(position).await?;
            api.metrics.tables.sets.inc();
            let said = json!({"version": version.to_string(), "expires": expires});
            Ok(answer::json(StatusCode::OK, &said))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Life {
    ttl_ms: u64,
}

/// `POST /api/v1/tables/{name}/rows/{key}/touch`.
pub(in super::super) async fn touch(
    State(api): State<Arc<Api>>,
    name: RowName,
    request: Request,
) -> Answer {
    let text = body::whole(&mut request.into_body(), WISH_BYTES_MAX).await?;
    let Life { ttl_ms } = serde_json::from_slice(&text)?;
    let expires = expires_in(ttl_ms)?;
    let RowName { table, key } = name;
    let touch = move |engine: &crate::engine::Engine| {
        let tables = engine.tables();
        tables.touch(&table, &key, expires, unix_ms())
    };
    match api.engine.run_blocking(touch).await? {
        Touching::NotFound => Err(ApiError::NoTable),
        Touching::Absent(position) => {
            api.engine.settle(position).await?;
            Err(ApiError::NoRow)
        }
        Touching::Touched { version, position } => {
            api.engine.settle(position).await?;
            api.metrics.tables.sets.inc();
            let said = json!({"version": version.to_string(), "expires": expires});
            Ok(answer::json(StatusCode::OK, &said))
        }
    }
}

/// `DELETE /api/v1/tables/{name}/rows/{key}`.
pub(in super::super) async fn delete(State(api): State<Arc<Api>>, name: RowName) -> Answer {
    let RowName { table, key } = name;
    let delete =
        move |engine: &crate::engine::Engine| engine.tables().delete(&table, &key, unix_ms());
    match api.engine.run_blocking(delete).await? {
        Deletion::NotFound => Err(ApiError::NoTable),
        Deletion::Absent(position) => {
            api.engine.settle(position).await?;
            Err(ApiError::NoRow)
        }
        Deletion::Deleted { position, .. } => {
            api.engine.settle(position).await?;
            api.metrics.tables.deletes.inc();
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    }
}
