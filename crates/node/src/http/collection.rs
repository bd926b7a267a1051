//! Filters as resources: listed, made, described, dropped, and their files.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::Filter;
use grapevine_core::filter::parameters::Growth;
use grapevine_store::filters::{Creation, FilterError, Filters, Handle, Recreation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::ApiError;
use super::query::Query;
use super::request::FilterName;
use super::{Api, answer, body, name};
use crate::engine::FilterWish;

/// Longest body that describes a filter, in bytes.
const WISH_BYTES_MAX: usize = 4096;
/// Filters, tables or rows in one answer; a list goes on with `after`.
pub(super) const LIST_MAX: usize = 1000;
/// Bytes of an answer of filters or tables, about.
pub(super) const LIST_ANSWER_BYTES: usize = 1 << 20;

type Answer = Result<Response, ApiError>;

/// `GET /api/v1/filters`.
pub(super) async fn list(State(api): State<Arc<Api>>, uri: Uri) -> Answer {
    let query = Query::read(uri.query(), ["prefix", "after", "limit"])?;
    let limit = match query.get(2) {
        None => LIST_MAX,
        Some(text) => limit(text)?,
    };
    let room = api.room(LIST_ANSWER_BYTES).await?;
    let handles = api.engine.filters().list(query.get(0).unwrap_or_default());
    let from = query.get(1).map_or(0, |after| {
        handles.partition_point(|handle| handle.name() <= after)
    });
    let page = &handles[from..handles.len().min(from + limit)];
    let more = from + page.len() < handles.len();
    let next = page.last().filter(|_| more);
    let listed = json!({
        "filters": page.iter().map(|handle| outline(api.engine.filters(), handle)).collect::<Vec<_>>(),
        "next": next.map(|handle| name::encode(handle.name())),
    });
    Ok(answer::long_json(&listed, room))
}

/// The `limit` of a list.
pub(super) fn limit(text: &[u8]) -> Result<usize, ApiError> {
    let number = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
    let number = number.filter(|number| (1..=LIST_MAX).contains(number));
    number.ok_or_else(|| ApiError::ParameterValue {
        name: "limit",
        value: String::from_utf8_lossy(text).into_owned(),
        expected: "a number from 1 to 1000",
    })
}

/// What is known of a filter without its bits.
fn outline(filters: &Filters, handle: &Handle) -> Value {
    let summary = handle.summary();
    let parameters = handle.parameters();
    json!({
        "name": name::display(handle.name()),
        "encoded": name::encode(handle.name()),
        "error": handle.error(),
        "parameters": {
            "capacity": parameters.capacity,
            "error": parameters.error,
            "growth": match parameters.growth {
                Growth::Fixed => None,
                Growth::By(factor) => Some(factor),
            },
        },
        "storage": match handle.storage() {
            Storage::Durable => "durable",
            Storage::Memory => "memory",
        },
        "scope": match handle.scope() {
            Scope::Group => "group",
            Scope::Local => "local",
        },
        "loaded": handle.is_loaded(),
        "inserted": summary.inserted,
        "capacity": summary.capacity,
        "bytes": summary.bytes,
        "layers": summary.layers,
        "damaged": handle.damage().as_deref(),
        "too_large": filters.excess(handle),
    })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wish {
    capacity: Option<u64>,
    error: Option<f64>,
    in_memory: Option<bool>,
    growth: Option<u32>,
    fixed: bool,
    local: bool,
}

/// `PUT /api/v1/filters/{name}`.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    name: FilterName,
    request: Request,
) -> Answer {
    let text = body::whole(&mut request.into_body(), WISH_BYTES_MAX).await?;
    let wish = if text.is_empty() {
        Wish::default()
    } else {
        serde_json::from_slice(&text)?
    };
    let new = api.engine.defaults().filter(FilterWish {
        capacity: wish.capacity,
        error: wish.error,
        in_memory: wish.in_memory,
        growth: wish.growth,
        fixed: wish.fixed,
        local: wish.local,
    });
    let given = name.0.clone();
    // A large filter's memory is cleared before it answers.
    let created = api
        .engine
        .run_blocking(move |engine| engine.filters().create(&given, new, Recreation::AtOnce))
        .await?;
    let (status, outcome, position) = match created {
        Creation::Created(position) => (StatusCode::CREATED, "created", position),
        Creation::Shown(position) => (StatusCode::OK, "shown", position),
        Creation::Exists(position) => (StatusCode::OK, "exists", position),
        Creation::Reclaiming => return Err(ApiError::Reclaiming),
    };
    api.engine.settle(position).await?;
    let handle = api.filter(&name)?;
    let said = json!({"outcome": outcome, "filter": outline(api.engine.filters(), &handle)});
    Ok(answer::json(status, &said))
}

/// `GET /api/v1/filters/{name}`.
pub(super) async fn info(State(api): State<Arc<Api>>, name: FilterName) -> Answer {
    let handle = api.filter(&name)?;
    // The fill of foreign layers is counted over all their bits.
    let shared = handle.scope() == Scope::Group;
    let mut described = api
        .engine
        .run_blocking(move |engine| describe(engine.filters(), &handle))
        .await;
    let group = api.group.as_ref().filter(|_| shared);
    described["copies"] = json!(group.map(|group| super::group::copies(&group.status())));
    Ok(answer::json(StatusCode::OK, &described))
}

/// Everything known of a filter; layers and measures only of one in memory.
fn describe(filters: &Filters, handle: &Handle) -> Value {
    let mut described = outline(filters, handle);
    let usage = handle.usage();
    described["id"] = json!(handle.id().to_string());
    described["usage"] = json!({
        "check_hits": usage.check_hits,
        "check_misses": usage.check_misses,
        "set_hits": usage.set_hits,
        "set_misses": usage.set_misses,
        "page_ins": usage.page_ins,
        "page_outs": usage.page_outs,
    });
    let filter = handle.in_memory();
    described["layer_list"] = json!(filter.as_deref().map(layers));
    described["measured"] = json!(filter.map(|filter| {
        let measure = filter.measure();
        json!({
            "fill": measure.fill,
            "cardinality": measure.cardinality,
            "error": measure.error,
        })
    }));
    described
}

fn layers(filter: &Filter) -> Vec<Value> {
    let foreign = filter.legacy_layers().map(|layer| {
        json!({
            "kind": "bloomd",
            "capacity": layer.capacity(),
            "inserted": layer.count(),
            "bytes": layer.bytes(),
        })
    });
    let own = filter.layers().map(|layer| {
        let shape = layer.shape();
        json!({
            "kind": "lines",
            "index": shape.id.index,
            "creator": shape.id.creator.to_string(),
            "capacity": shape.capacity,
            "inserted": layer.inserted(),
            "bytes": shape.geometry.bytes(),
            "error": shape.error,
        })
    });
    foreign.chain(own).collect()
}

/// `DELETE /api/v1/filters/{name}`.
pub(super) async fn remove(State(api): State<Arc<Api>>, name: FilterName) -> Answer {
    let handle = api.filter(&name)?;
    // Inserts into it are waited for.
    let dropped = move |engine: &crate::engine::Engine| engine.filters().drop_filter(&handle);
    let position = api.engine.run_blocking(dropped).await?;
    api.engine.settle(position).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v1/flush`.
pub(super) async fn flush_all(State(api): State<Arc<Api>>) -> Answer {
    api.engine
        .run_blocking(|engine| engine.collections().checkpoint())
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v1/filters/{name}/flush`.
pub(super) async fn flush(State(api): State<Arc<Api>>, name: FilterName) -> Answer {
    on_files(&api, &name, Filters::flush).await
}

/// `POST /api/v1/filters/{name}/close`.
pub(super) async fn close(State(api): State<Arc<Api>>, name: FilterName) -> Answer {
    if api.filter(&name)?.storage() == Storage::Memory {
        return Err(FilterError::InMemory.into());
    }
    on_files(&api, &name, Filters::unload).await
}

/// `POST /api/v1/filters/{name}/forget`.
pub(super) async fn forget(State(api): State<Arc<Api>>, name: FilterName) -> Answer {
    on_files(&api, &name, Filters::forget_copy).await
}

async fn on_files(
    api: &Api,
    name: &FilterName,
    work: fn(&Filters, &Handle) -> Result<(), FilterError>,
) -> Answer {
    let handle = api.filter(name)?;
    api.engine
        .run_blocking(move |engine| work(engine.filters(), &handle))
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v1/filters/{name}/clear`.
pub(super) async fn clear(State(api): State<Arc<Api>>, name: FilterName) -> Answer {
    let handle = api.filter(&name)?;
    // Memory of an empty one is cleared, and inserts are waited for.
    let clear = move |engine: &crate::engine::Engine| engine.filters().clear(&handle);
    let position = api.engine.run_blocking(clear).await?;
    api.engine.settle(position).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/v1/filters/{name}/hide`.
pub(super) async fn hide(State(api): State<Arc<Api>>, name: FilterName) -> Answer {
    let handle = api.filter(&name)?;
    if handle.storage() == Storage::Memory {
        return Err(FilterError::InMemory.into());
    }
    match api.engine.filters().hide(&handle)? {
        Some(position) => {
            api.engine.settle(position).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        None => Err(ApiError::Loaded),
    }
}
