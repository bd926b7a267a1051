//! What handlers take out of a request.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use grapevine_core::catalogue::validate_name;
use grapevine_store::filters::{FilterError, Handle};

use super::Api;
use super::error::ApiError;
use super::routes::FILTERS;

/// The filter's name in the path: `/api/v1/filters/NAME…`. Not axum's own extractor, because that
/// takes nothing but UTF-8.
pub(super) struct FilterName(pub(super) Vec<u8>);

impl<S: Sync> FromRequestParts<S> for FilterName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let behind = parts.uri.path().strip_prefix(FILTERS);
        let behind = behind.and_then(|rest| rest.strip_prefix('/'));
        let segment = behind.and_then(|rest| rest.split('/').next());
        let name = super::name::decode(segment.unwrap_or_default());
        let name = name.ok_or(ApiError::NameEncoding)?;
        validate_name(&name).map_err(FilterError::from)?;
        Ok(FilterName(name))
    }
}

impl Api {
    /// The filter of that name.
    pub(super) fn filter(&self, name: &FilterName) -> Result<Arc<Handle>, ApiError> {
        let found = self.engine.filters().get(&name.0);
        found.ok_or_else(|| ApiError::NoFilter(name.0.clone()))
    }

    /// The same with its bits in memory.
    pub(super) async fn loaded_filter(&self, name: &FilterName) -> Result<Arc<Handle>, ApiError> {
        let handle = self.filter(name)?;
        if handle.needs_load() {
            let loading = Arc::clone(&handle);
            let load = move |engine: &crate::engine::Engine| engine.filters().load(&loading);
            self.engine.run_blocking(load).await?;
        }
        Ok(handle)
    }
}
