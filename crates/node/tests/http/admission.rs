//! Who is served: token, host, origin, sizes.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use grapevine::http::TokenSource;

use super::server::{Answer, Served};

fn token_file(directory: &tempfile::TempDir, token: &str) -> PathBuf {
    let path = directory.path().join("token");
    std::fs::write(&path, token).expect("written");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&path, mode).expect("kept from others");
    path
}

#[test]
fn with_a_token_all_but_the_health_checks_want_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = token_file(&directory, "hunter2\n");
    let token = TokenSource::open(Some(&path)).expect("a token");
    let served = Served::with_token(token.clone());
    let status = |line: &str, headers: &str| served.request(line, headers, b"").status;
    for line in [
        "GET /",
        "GET /metrics",
        "GET /api/v1/status",
        "GET /api/v1/openapi.json",
        "GET /api/v1/filters",
        "PUT /api/v1/filters/x",
        "GET /nowhere",
    ] {
        let refused = served.request(line, "", b"");
        assert_eq!(refused.refusal(), (401, "token".to_owned()), "{line}");
        assert!(refused.head.contains("www-authenticate: bearer"));
    }
    for wrong in [
        "Bearer hunter3",
        "Bearer hunter",
        "Basic hunter2",
        "hunter2",
        "Bearer ",
    ] {
        let header = format!("Authorization: {wrong}\r\n");
        assert_eq!(status("GET /api/v1/filters", &header), 401, "{wrong}");
    }
    let right = "Authorization: Bearer hunter2\r\n";
    assert_eq!(status("GET /api/v1/filters", right), 200);
    // Who has the token may come by any name.
    let elsewhere = format!("{right}Host: grapevine.example\r\n");
    assert_eq!(status("GET /api/v1/filters", &elsewhere), 200);
    assert_eq!(status("GET /livez", ""), 200);
    assert_eq!(status("GET /readyz", ""), 200);

    token_file(&directory, "correct horse");
    assert_eq!(status("GET /api/v1/filters", right), 200);
    token.reload().expect("still a token");
    assert_eq!(status("GET /api/v1/filters", right), 401);
    let new = "Authorization: Bearer correct horse\r\n";
    assert_eq!(status("GET /api/v1/filters", new), 200);
    std::fs::remove_file(&path).expect("removed");
    assert!(token.reload().is_err());
    assert_eq!(status("GET /api/v1/filters", new), 200);
}

#[test]
fn the_metrics_token_reads_metrics_and_nothing_else() {
    let (all, metrics) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let all_file = token_file(&all, "hunter2");
    let metrics_file = token_file(&metrics, "scrape\n");
    let token = TokenSource::open(Some(&all_file)).expect("a token");
    let token = token.and_metrics(Some(&metrics_file)).expect("a token");
    let served = Served::with_token(token.clone());
    let status = |line: &str, headers: &str| served.request(line, headers, b"").status;
    let (main, scrape) = (
        "Authorization: Bearer hunter2\r\n",
        "Authorization: Bearer scrape\r\n",
    );
    assert_eq!(status("GET /metrics", ""), 401);
    assert_eq!(status("GET /metrics", scrape), 200);
    assert_eq!(status("GET /metrics", main), 200);
    for line in [
        "GET /",
        "GET /api/v1/status",
        "GET /api/v1/filters",
        "PUT /api/v1/filters/x",
        "GET /metrics/x",
        "GET //metrics",
    ] {
        let refused = served.request(line, scrape, b"").refusal();
        assert_eq!(refused, (403, "metrics_token".to_owned()), "{line}");
    }
    assert_eq!(status("PUT /api/v1/filters/x", main), 201);
    // A reload takes up the one although the other is gone.
    token_file(&metrics, "other");
    std::fs::remove_file(&all_file).expect("removed");
    let error = token.reload().expect_err("a file is missing");
    assert!(
        error.to_string().starts_with("http.token_file: "),
        "{error}"
    );
    assert_eq!(status("GET /metrics", scrape), 401);
    let other = "Authorization: Bearer other\r\n";
    assert_eq!(status("GET /metrics", other), 200);
    assert_eq!(status("GET /metrics", main), 200);
    let open = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(&metrics_file, open).expect("opened");
    let error = TokenSource::none().and_metrics(Some(&metrics_file));
    let error = error.expect_err("others can read it").to_string();
    assert!(error.starts_with("http.metrics_token_file: "), "{error}");
}

#[test]
fn a_metrics_token_alone_is_wanted_for_metrics_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = token_file(&directory, "scrape");
    let token = TokenSource::none().and_metrics(Some(&path));
    let served = Served::with_token(token.expect("a token"));
    let status = |line: &str, headers: &str| served.request(line, headers, b"").status;
    let scrape = "Authorization: Bearer scrape\r\n";
    assert_eq!(status("GET /metrics", ""), 401);
    assert_eq!(status("GET /metrics", scrape), 200);
    assert_eq!(status("GET /api/v1/filters", ""), 200);
    assert_eq!(status("GET /api/v1/filters", scrape), 403);
}

/// What is judged by one and passed on by the other could be another site's.
#[test]
fn a_request_with_two_hosts_is_refused() {
    let served = Served::start();
    let two = "Host: evil.example\r\nHost: localhost\r\n";
    let refused = served.request("GET /api/v1/filters", two, b"");
    assert_eq!(refused.refusal(), (400, "hosts".to_owned()));
}

#[test]
fn a_packed_body_is_refused() {
    let served = Served::start();
    assert_eq!(served.request("PUT /api/v1/filters/f", "", b"").status, 201);
    for (coding, wanted) in [("gzip", 415), ("br, gzip", 415), ("identity", 200)] {
        let headers = format!("Content-Type: text/plain\r\nContent-Encoding: {coding}\r\n");
        let answer = served.request("POST /api/v1/filters/f/set", &headers, b"a\n");
        assert_eq!(answer.status, wanted, "{coding}");
        if wanted == 415 {
            assert_eq!(answer.refusal(), (415, "content_encoding".to_owned()));
        }
    }
}

#[test]
fn without_a_token_only_this_machine_s_names_are_served() {
    let served = Served::start();
    for host in [
        "evil.example",
        "localhost.evil.example:8675",
        "192.0.2.1",
        "",
    ] {
        let header = format!("Host: {host}\r\n");
        let refused = served
            .request("GET /api/v1/filters", &header, b"")
            .refusal();
        assert_eq!(refused, (403, "host".to_owned()), "{host}");
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]:8675"] {
        let header = format!("Host: {host}\r\n");
        assert_eq!(served.request("GET /", &header, b"").status, 200, "{host}");
    }
    let health = served.request("GET /livez", "Host: 10.0.0.7\r\n", b"");
    assert_eq!(health.status, 200);
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let served = Served::start();
    let own = format!("Origin: http://{}\r\n", served.address);
    for header in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        let refused = served
            .request("PUT /api/v1/filters/x", header, b"")
            .refusal();
        assert_eq!(refused, (403, "cross_site".to_owned()), "{header}");
        let read = served.request("GET /api/v1/filters", header, b"");
        assert_eq!(read.status, 200);
        assert!(!read.head.contains("access-control"), "{}", read.head);
    }
    assert_eq!(served.get("/api/v1/filters/x").status, 404);
    assert_eq!(
        served.request("PUT /api/v1/filters/x", &own, b"").status,
        201
    );
}

#[test]
fn heads_are_bounded() {
    let served = Served::start();
    let mut stream = served.connect();
    let long = "x".repeat(100_000);
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n");
    // What was not read of it may reset the connection before the refusal is read.
    drop(stream.write_all(head.as_bytes()));
    let mut refusal = Vec::new();
    drop(stream.read_to_end(&mut refusal));
    let refused = refusal.is_empty() || refusal.starts_with(b"HTTP/1.1 431 ");
    assert!(refused, "{}", refusal.escape_ascii());
    let many = "X-Many: 1\r\n".repeat(100);
    assert_eq!(served.request("GET /", &many, b"").status, 431);
    let mut stream = served.connect();
    stream.write_all(b"this is not HTTP\r\n\r\n").expect("sent");
    assert_eq!(Answer::read(&mut stream).status, 400);
}

#[test]
fn unknown_paths_and_methods_are_told_apart() {
    let served = Served::start();
    let refusal = |line: &str| served.request(line, "", b"").refusal();
    assert_eq!(refusal("GET /api/v2/filters"), (404, "no_path".to_owned()));
    assert_eq!(
        refusal("DELETE /api/v1/filters"),
        (405, "method".to_owned())
    );
    assert_eq!(
        refusal("GET /api/v1/filters/x/set"),
        (405, "method".to_owned())
    );
}

#[test]
fn a_connection_serves_many_requests() {
    let served = Served::start();
    let mut stream = served.connect();
    let head = "GET /livez HTTP/1.1\r\nHost: localhost\r\n";
    let request = format!("{head}\r\n{head}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("in time");
    assert_eq!(answers.matches("alive\n").count(), 2, "{answers}");
}
