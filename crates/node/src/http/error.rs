//! Why a request is refused, and how that is said.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use grapevine_core::filter::parameters::ParametersError;
use grapevine_core::table::RowError;
use grapevine_store::filters::FilterError;
use grapevine_store::tables::{RowStoreError, TableError};

use super::framing::FramingError;
use super::table::LineError;
use crate::group::CommandError;
use grapevine_core::group::CommandError as Group;

/// Why a request is not answered with what it asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error(transparent)]
    Filter(#[from] FilterError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("filter {} does not exist", .0.escape_ascii())]
    NoFilter(Vec<u8>),
    #[error("table does not exist")]
    NoTable,
    #[error("row does not exist")]
    NoRow,
    #[error("give either values or values_encoded, a list of at least one")]
    Values,
    #[error("value {number} holds a tab, which separates values")]
    ValueTab { number: usize },
    #[error("value {number} is not percent-encoded: a % needs two hexadecimal digits")]
    ValueEncoding { number: usize },
    #[error("ttl_ms is {given}; a row lives from 1 to {limit} ms, or for ever without it")]
    Ttl { given: u64, limit: u64 },
    #[error("{error}; the {rows} rows before it are in, {changed} of them changed something")]
    Line {
        error: LineError,
        rows: u64,
        changed: u64,
    },
    #[error("{limit} connections are open (limits.connections); try again later")]
    Connections { limit: usize },
    #[error("answers that clients do not take fill the memory for them; try again later")]
    NoRoom,
    #[error("long requests fill the memory for them (limits.memory); try again later")]
    LongRequests,
    #[error("{limit} clients watch tables; try again later")]
    Watchers { limit: usize },
    #[error(transparent)]
    Group(#[from] CommandError),
    #[error("this node is in no group: group.listen is off, or its port was taken")]
    NoGroup,
    #[error("no such path; /api/v1/openapi.json lists those there are")]
    NoPath,
    #[error("this path does not take that method; /api/v1/openapi.json lists what it takes")]
    Method,
    #[error("the name in the path is not percent-encoded: a % needs two hexadecimal digits")]
    NameEncoding,
    #[error("unknown query parameter {0:?}")]
    Parameter(String),
    #[error("query parameter {name}: {value:?} is not {expected}")]
    ParameterValue {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("keys come as application/json, text/plain or application/octet-stream, not as {0:?}")]
    MediaType(String),
    #[error("the body is not what is expected here: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the body is longer than {limit} bytes")]
    BodyTooLong { limit: usize },
    #[error(transparent)]
    Framing(#[from] FramingError),
    #[error(
        "more than {limit} keys in one request that asks for results; send fewer, or \
         ?results=none; the first {limit} have been dealt with"
    )]
    TooManyKeys { limit: u64 },
    #[error("nothing came of the body for {0} s")]
    SlowBody(u64),
    #[error("the body ended early")]
    Interrupted,
    #[error("there is a filter of that name")]
    Exists,
    #[error("the files of a dropped filter of that name are still being removed; try again")]
    Reclaiming,
    #[error("the filter is in memory; close it first")]
    Loaded,
    #[error("{limit} exports, imports and merges are under way; try again")]
    Busy { limit: usize },
    #[error("this node wants a token: Authorization: Bearer TOKEN (http.token_file)")]
    Token,
    #[error(
        "this token reads /metrics and nothing else (http.metrics_token_file); everything else \
         wants the one of http.token_file"
    )]
    MetricsToken,
    #[error(
        "the Host header names neither this machine nor the address it listens on; without \
         http.token_file only those are served"
    )]
    Host,
    #[error("a request has one Host header; this one has several")]
    Hosts,
    #[error("a page of another site may not change anything here")]
    CrossSite,
    #[error("bodies are taken as they are, not packed: Content-Encoding may not be {0:?}")]
    ContentEncoding(String),
}

impl ApiError {
    /// The status and the word that programs go by.
    pub(super) fn status(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            ApiError::Filter(error) => filter_status(error),
            ApiError::Table(error) => table_status(error),
            ApiError::NoFilter(_) => (S::NOT_FOUND, "not_found"),
            ApiError::NoTable => (S::NOT_FOUND, "no_table"),
            ApiError::NoRow => (S::NOT_FOUND, "not_found"),
            ApiError::Values | ApiError::ValueTab { .. } | ApiError::ValueEncoding { .. } => {
                (S::BAD_REQUEST, "value")
            }
            ApiError::Ttl { .. } => (S::BAD_REQUEST, "ttl"),
            ApiError::Line { .. } => (S::BAD_REQUEST, "line"),
            ApiError::Connections { .. }
            | ApiError::NoRoom
            | ApiError::LongRequests
            | ApiError::Watchers { .. } => (S::SERVICE_UNAVAILABLE, "busy"),
            ApiError::Group(error) => group_status(error),
            ApiError::NoGroup => (S::CONFLICT, "no_group"),
            ApiError::NoPath => (S::NOT_FOUND, "no_path"),
            ApiError::Method => (S::METHOD_NOT_ALLOWED, "method"),
            ApiError::NameEncoding => (S::BAD_REQUEST, "name"),
            ApiError::Parameter(_) | ApiError::ParameterValue { .. } => {
                (S::BAD_REQUEST, "parameter")
            }
            ApiError::MediaType(_) => (S::UNSUPPORTED_MEDIA_TYPE, "media_type"),
            ApiError::Json(_) => (S::BAD_REQUEST, "body"),
            ApiError::BodyTooLong { .. } => (S::PAYLOAD_TOO_LARGE, "body_too_long"),
            ApiError::Framing(FramingError::KeyTooLong { .. }) => {
                (S::PAYLOAD_TOO_LARGE, "key_too_long")
            }
            ApiError::Framing(_) => (S::BAD_REQUEST, "body"),
            ApiError::TooManyKeys { .. } => (S::PAYLOAD_TOO_LARGE, "too_many_keys"),
            ApiError::SlowBody(_) => (S::REQUEST_TIMEOUT, "slow_body"),
            ApiError::Interrupted => (S::BAD_REQUEST, "interrupted"),
            ApiError::Exists => (S::CONFLICT, "exists"),
            ApiError::Reclaiming => (S::CONFLICT, "reclaiming"),
            ApiError::Loaded => (S::CONFLICT, "loaded"),
            ApiError::Busy { .. } => (S::SERVICE_UNAVAILABLE, "busy"),
            ApiError::Token => (S::UNAUTHORIZED, "token"),
            ApiError::MetricsToken => (S::FORBIDDEN, "metrics_token"),
            ApiError::Host => (S::FORBIDDEN, "host"),
            ApiError::Hosts => (S::BAD_REQUEST, "hosts"),
            ApiError::ContentEncoding(_) => (S::UNSUPPORTED_MEDIA_TYPE, "content_encoding"),
            ApiError::CrossSite => (S::FORBIDDEN, "cross_site"),
        }
    }
}

fn group_status(error: &CommandError) -> (StatusCode, &'static str) {
    match error {
        CommandError::Address(_) => (StatusCode::BAD_REQUEST, "address"),
        CommandError::NoMember(_) | CommandError::Group(Group::NoMember(_)) => {
            (StatusCode::NOT_FOUND, "not_found")
        }
        CommandError::Ambiguous(_) => (StatusCode::CONFLICT, "ambiguous"),
        CommandError::Group(Group::NotJoined { .. }) => (StatusCode::BAD_GATEWAY, "not_joined"),
        CommandError::Group(Group::NoAnswer { .. }) => (StatusCode::GATEWAY_TIMEOUT, "no_answer"),
        CommandError::Group(Group::TooMany { .. }) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        CommandError::Group(Group::Connected(_)) => (StatusCode::CONFLICT, "connected"),
        CommandError::Group(Group::Outside) => (StatusCode::CONFLICT, "outside"),
        CommandError::Group(Group::Rejected(_)) | CommandError::NoRandomness(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "read_only")
        }
        CommandError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    }
}

fn table_status(error: &TableError) -> (StatusCode, &'static str) {
    use StatusCode as S;
    match error {
        TableError::Name(_) => (S::BAD_REQUEST, "name"),
        TableError::TooMany(_) | TableError::TooManyDropped(_) => {
            (S::INSUFFICIENT_STORAGE, "too_many_tables")
        }
        TableError::Epochs => (S::CONFLICT, "epochs"),
        TableError::Row(RowError::KeyLength(1..)) => (S::PAYLOAD_TOO_LARGE, "key_too_long"),
        TableError::Row(RowError::KeyLength(0) | RowError::KeyByte { .. }) => {
            (S::BAD_REQUEST, "key")
        }
        TableError::Row(RowError::ValuesLength(_)) => (S::PAYLOAD_TOO_LARGE, "value_too_long"),
        TableError::Row(RowError::ValuesByte { .. } | RowError::TombstoneExpires) => {
            (S::BAD_REQUEST, "value")
        }
        TableError::Versions(_) => (S::CONFLICT, "versions"),
        TableError::Clock(_) => (S::SERVICE_UNAVAILABLE, "clock"),
        TableError::ReadOnly(_) => (S::SERVICE_UNAVAILABLE, "read_only"),
        TableError::Store(RowStoreError::Corrupt { .. }) | TableError::Damaged(_) => {
            (S::SERVICE_UNAVAILABLE, "damaged")
        }
        TableError::OthersHaveRows => (S::CONFLICT, "others_have_rows"),
        TableError::RestartFirst => (S::CONFLICT, "restart_first"),
        TableError::Store(RowStoreError::Refused { .. } | RowStoreError::Full { .. }) => {
            (S::SERVICE_UNAVAILABLE, "disk")
        }
    }
}

fn filter_status(error: &FilterError) -> (StatusCode, &'static str) {
    match error {
        FilterError::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        FilterError::Name(_) => (StatusCode::BAD_REQUEST, "name"),
        FilterError::Parameters(ParametersError::TooManyLayers(_)) => {
            (StatusCode::CONFLICT, "full")
        }
        FilterError::Parameters(_) => (StatusCode::BAD_REQUEST, "parameters"),
        FilterError::Layer(_) => (StatusCode::CONFLICT, "layers"),
        FilterError::Memory(_) => (StatusCode::INSUFFICIENT_STORAGE, "memory"),
        FilterError::ReadOnly(_) => (StatusCode::SERVICE_UNAVAILABLE, "read_only"),
        FilterError::NoFile(_) => (StatusCode::SERVICE_UNAVAILABLE, "no_file"),
        FilterError::Unreadable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unreadable"),
        FilterError::Damaged(_) => (StatusCode::SERVICE_UNAVAILABLE, "damaged"),
        FilterError::Unlike { .. } => (StatusCode::CONFLICT, "unlike"),
        FilterError::Import(_) => (StatusCode::BAD_REQUEST, "file"),
        FilterError::OnlyCopy => (StatusCode::CONFLICT, "only_copy"),
        FilterError::InMemory => (StatusCode::CONFLICT, "in_memory"),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.status();
        let said = serde_json::json!({"error": {"code": code, "message": self.to_string()}});
        let mut response = super::answer::json(status, &said);
        let headers = response.headers_mut();
        if matches!(self, ApiError::Token) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.map(Body::new)
    }
}
