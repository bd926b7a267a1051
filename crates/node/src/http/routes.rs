//! Everything that is served: one table, from which come the router and the test that holds
//! `openapi.json` to it.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use grapevine_core::catalogue::NameError;
use grapevine_core::table::RowError;

use super::error::ApiError;
use super::{Api, Peer, collection, group, guard, keys, pages, status, table as tables, transfer};
use crate::audit;

/// The path of the list of filters; a filter's is behind it.
pub(super) const FILTERS: &str = "/api/v1/filters";
/// The path of the list of tables; a table's is behind it.
pub(super) const TABLES: &str = "/api/v1/tables";

/// A method of a path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    handler: MethodRouter<Arc<Api>>,
}

fn route<H, T>(method: Method, path: &'static str, handler: H) -> Route
where
    H: Handler<T, Arc<Api>>,
    T: 'static,
{
    let filter = MethodFilter::try_from(method.clone()).expect("only standard methods are listed");
    Route {
        method,
        path,
        handler: on(filter, handler),
    }
}

impl Route {
    /// What it does is noted in the log, with who asked for it.
    fn noted(mut self, act: &'static str) -> Self {
        let creates = act.starts_with("created");
        let is_named = self.path.contains("{name}");
        let note = move |request: Request, next: Next| async move {
            let from = request.extensions().get::<Peer>().map(|peer| peer.0);
            let name = request.uri().path().split('/').nth(4);
            let name = name.filter(|_| is_named).unwrap_or_default().to_owned();
            let goes_on = goes_on(&request);
            let response = next.run(request).await;
            let status = response.status();
            let was_there = creates && status != StatusCode::CREATED;
            if status.is_success() && !was_there && !goes_on {
                audit::note(act, &name, "HTTP", from);
            }
            response
        };
        self.handler = self.handler.layer(from_fn(note));
        self
    }
}

/// Whether it is one of the parts in which a file of rows is sent and not the first that has any: a
/// file is one act.
fn goes_on(request: &Request) -> bool {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    let line = pairs
        .filter_map(|pair| pair.strip_prefix("line="))
        .next_back();
    let length = request.headers().get(header::CONTENT_LENGTH);
    line.is_some_and(|line| line != "1" || length.is_some_and(|length| length == "0"))
}

/// The table.
pub(super) fn table() -> Vec<Route> {
    use Method as M;
    vec![
        route(M::GET, "/", pages::front),
        route(M::GET, "/livez", pages::alive),
        route(M::GET, "/readyz", pages::ready),
        route(M::GET, "/metrics", pages::metrics),
        route(M::GET, "/api/v1/openapi.json", pages::description),
        route(M::GET, "/api/v1/status", status::status),
        route(M::POST, "/api/v1/flush", collection::flush_all),
        route(M::GET, "/api/v1/group", group::status),
        route(M::GET, "/api/v1/group/members", group::members),
        route(M::POST, "/api/v1/group/join", group::join).noted("joined a group"),
        route(M::POST, "/api/v1/group/leave", group::leave).noted("entered that a member left"),
        route(M::GET, "/api/v1/filters", collection::list),
        route(M::PUT, "/api/v1/filters/{name}", collection::create).noted("created filter"),
        route(M::GET, "/api/v1/filters/{name}", collection::info),
        route(M::DELETE, "/api/v1/filters/{name}", collection::remove).noted("dropped filter"),
        route(M::POST, "/api/v1/filters/{name}/set", keys::set),
        route(M::POST, "/api/v1/filters/{name}/check", keys::check),
        route(M::POST, "/api/v1/filters/{name}/flush", collection::flush),
        route(M::POST, "/api/v1/filters/{name}/close", collection::close),
        route(M::POST, "/api/v1/filters/{name}/clear", collection::clear).noted("cleared filter"),
        route(M::POST, "/api/v1/filters/{name}/hide", collection::hide).noted("hid filter"),
        route(M::POST, "/api/v1/filters/{name}/forget", collection::forget)
            .noted("forgot the bits of filter"),
        route(M::GET, "/api/v1/filters/{name}/export", transfer::export),
        route(M::PUT, "/api/v1/filters/{name}/import", transfer::import).noted("imported filter"),
        route(M::POST, "/api/v1/filters/{name}/merge", transfer::merge).noted("merged into filter"),
    ]
    .into_iter()
    .chain(table_routes())
    .collect()
}

fn table_routes() -> Vec<Route> {
    use Method as M;
    use tables::{rows, transfer, watch};
    vec![
        route(M::GET, "/api/v1/tables", tables::list),
        route(M::PUT, "/api/v1/tables/{name}", tables::create).noted("created table"),
        route(M::GET, "/api/v1/tables/{name}", tables::info),
        route(M::DELETE, "/api/v1/tables/{name}", tables::remove).noted("dropped table"),
        route(M::GET, "/api/v1/tables/{name}/rows", rows::page),
        route(M::GET, "/api/v1/tables/{name}/rows/{key}", rows::get),
        route(M::PUT, "/api/v1/tables/{name}/rows/{key}", rows::set),
        route(M::DELETE, "/api/v1/tables/{name}/rows/{key}", rows::delete),
        route(
            M::POST,
            "/api/v1/tables/{name}/rows/{key}/touch",
            rows::touch,
        ),
        route(M::POST, "/api/v1/tables/{name}/import", transfer::import)
            .noted("imported rows into table"),
        route(M::GET, "/api/v1/tables/{name}/export", transfer::export),
        route(M::GET, "/api/v1/tables/{name}/watch", watch::watch),
        route(M::POST, "/api/v1/rows/forget", tables::forget_lost),
    ]
}

/// Why there is nothing at a path: mostly, because the name in it is empty.
fn nowhere(path: &str) -> ApiError {
    let behind = |list| path.strip_prefix(list)?.strip_prefix('/');
    let empty = |rest: &str, place| rest.split('/').nth(place) == Some("");
    let mut nameless = [FILTERS, TABLES].into_iter().filter_map(behind);
    if nameless.any(|rest| empty(rest, 0)) {
        return ApiError::Filter(NameError::Length(0).into());
    }
    match behind(TABLES) {
        Some(rest) if rest.split('/').nth(1) == Some("rows") && empty(rest, 2) => {
            ApiError::Table(RowError::KeyLength(0).into())
        }
        _ => ApiError::NoPath,
    }
}

pub(super) fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for route in table() {
        router = router.route(route.path, route.handler);
    }
    router
        .fallback(async |uri: Uri| nowhere(uri.path()))
        .method_not_allowed_fallback(async || ApiError::Method)
        .layer(from_fn_with_state(Arc::clone(&api), guard::admit))
        .with_state(api)
}
