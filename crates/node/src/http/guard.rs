//! Who is served: requests with the token, or, where none is set, requests that were meant for
//! this machine.
//!
//! A node without a token listens on loopback only, but a browser on the same machine carries
//! the requests of any page it shows. A page that has its own name resolve to 127.0.0.1 is
//! refused by its `Host` header, one that sends a form or a script's request by `Origin` and
//! `Sec-Fetch-Site`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::token::Grant;
use super::{Api, body};

/// Paths that anyone may ask: they tell only whether the node is up.
const OPEN_PATHS: [&str; 2] = ["/livez", "/readyz"];

/// The path that a token of its own may read.
const METRICS_PATH: &str = "/metrics";

/// Whether anyone may ask for this path.
pub(super) fn is_open(path: &str) -> bool {
    OPEN_PATHS.contains(&path)
}

/// Serves a request or refuses it.
pub(super) async fn admit(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let (began, place) = (Instant::now(), api.places.of(&request));
    let response = match refusal(&api, &request) {
        None => next.run(request).await,
        Some(refusal) => {
            let response = refusal.into_response();
            body::drain(request.into_body()).await;
            response
        }
    };
    let http = &api.metrics.http;
    http.requests.inc();
    http.duration.at(place).record(began.elapsed(), 1);
    if response.status().is_client_error() {
        http.client_errors.inc();
    } else if response.status().is_server_error() {
        http.failures.inc();
    }
    response
}

fn refusal(api: &Api, request: &Request) -> Option<ApiError> {
    if is_open(request.uri().path()) {
        return None;
    }
    let headers = request.headers();
    if headers.get_all(header::HOST).iter().count() > 1 {
        // Who passes it on may have judged it by another one than would be judged here.
        return Some(ApiError::Hosts);
    }
    let of_metrics = request.uri().path() == METRICS_PATH;
    let wants_token = if of_metrics {
        api.token.is_set_for_metrics()
    } else {
        api.token.is_set()
    };
    match bearer(headers).and_then(|token| api.token.grant(token)) {
        Some(Grant::All) => {}
        Some(Grant::Metrics) if of_metrics => {}
        Some(Grant::Metrics) => return Some(ApiError::MetricsToken),
        None if wants_token => return Some(ApiError::Token),
        None if !names_this_machine(host(request), &api.bound) => return Some(ApiError::Host),
        None => {}
    }
    let reads = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    );
    if !reads && is_cross_site(headers, host(request)) {
        return Some(ApiError::CrossSite);
    }
    content_encoding(headers).map(ApiError::ContentEncoding)
}

/// How the body is packed, if it is.
fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut packed = codings
        .map(|coding| String::from_utf8_lossy(coding.as_bytes()).trim().to_owned())
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
    packed.next()
}

/// The token of `Authorization: Bearer TOKEN`. The scheme's case does not matter (RFC 9110,
/// section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
}

/// Host and port as the client sees them: from the request's target if it is a whole URL, else
/// from `Host`.
fn host(request: &Request) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(header::HOST)?.to_str().ok(),
    }
}

fn names_this_machine(host: Option<&str>, bound: &[IpAddr]) -> bool {
    let Some(host) = host else { return false };
    let name = without_port(host);
    let address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match address.unwrap_or(name).parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback() || bound.contains(&ip),
        Err(_) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a page of another origin sent the request. Programs send neither header.
fn is_cross_site(headers: &HeaderMap, host: Option<&str>) -> bool {
    let site = headers.get("sec-fetch-site");
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    match (authority, host) {
        (Some(authority), Some(host)) => !authority.eq_ignore_ascii_case(host),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn hosts_of_this_machine_are_known() {
        let bound = ["10.1.2.2", "10.1.2.3"].map(|ip| ip.parse().expect("an address"));
        for host in [
            "127.0.0.1:8675",
            "127.8.8.8",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "LocalHost:99",
            "localhost.",
            "10.1.2.3:8675",
        ] {
            assert!(names_this_machine(Some(host), &bound), "{host}");
        }
        for host in [
            "",
            "evil.example:8675",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.1.2.4:8675",
            "::1",
            "[::1",
            "127.0.0.1:80:80",
            "a@127.0.0.1",
        ] {
            let allowed = names_this_machine(Some(host), &bound);
            // An IPv6 address without brackets is ambiguous, and no client writes one.
            assert!(!allowed || host == "::1", "{host}");
        }
        assert!(!names_this_machine(None, &bound));
    }

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        let crosses = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            is_cross_site(&headers, Some("localhost:8675"))
        };
        assert!(!is_cross_site(&HeaderMap::new(), None));
        assert!(!crosses("origin", "http://localhost:8675"));
        assert!(!crosses("sec-fetch-site", "same-origin"));
        assert!(!crosses("sec-fetch-site", "none"));
        for origin in ["null", "http://localhost:80", "https://evil.example", ""] {
            assert!(crosses("origin", origin), "{origin}");
        }
        for site in ["cross-site", "same-site", "anything"] {
            assert!(crosses("sec-fetch-site", site), "{site}");
        }
    }

    #[test]
    fn the_token_is_behind_its_scheme() {
        let token = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            bearer(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(token("Bearer a b"), Some(b"a b".to_vec()));
        assert_eq!(token("bearer x"), Some(b"x".to_vec()));
        for other in ["Basic x", "Bearer", "x", ""] {
            assert_eq!(token(other), None, "{other}");
        }
    }
}
