//! Health, metrics, stopping.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;

use grapevine::http::TokenSource;
use grapevine_store::disk::{Operation, SimulatedDisk};

use super::server::{Answer, Served};
use super::tables::create_table;

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let served = Served::start();
    served.create("caf%C3%A9%FF");
    served.set("caf%C3%A9%FF", &["a", "b", "a"]);
    create_table(&served, "t");
    let text = served.get("/metrics").text();
    assert!(
        text.contains("grapevine_filter_keys{filter=\"café%FF\"} 2\n"),
        "{text}"
    );
    assert!(text.contains("grapevine_filter_set_misses_total{filter=\"café%FF\"} 1\n"));
    assert!(text.contains("grapevine_http_requests_total 3\n"), "{text}");

    let there: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let page = include_str!("../../../../docs/http.md");
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with("grapevine_") || name.starts_with("process_"))
        // A node of a group has these; tests/group holds the page to them.
        .filter(|name| !name.starts_with("grapevine_group_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(there, documented);
}

/// The names of metrics in lines that begin so.
fn names(text: &str, beginning: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(beginning));
    lines
        .filter_map(|line| Some(line.split([' ', '{']).next()?.to_owned()))
        .collect()
}

#[test]
fn metrics_are_plain_text_unless_open_metrics_are_asked_for() {
    let served = Served::start();
    served.create("f");
    let plain = served.get("/metrics");
    assert!(
        plain
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    assert!(plain.head.contains("vary: accept"));
    let accept = "Accept: application/openmetrics-text; version=1.0.0, text/plain;q=0.5\r\n";
    let open = served.request("GET /metrics", accept, b"");
    assert!(
        open.head
            .contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{}",
        open.head
    );
    let (plain, open) = (plain.text(), open.text());
    assert!(open.ends_with("# EOF\n") && !plain.contains("# EOF"));
    assert!(open.contains("# UNIT grapevine_http_request_duration_seconds seconds\n"));
    assert!(!plain.contains("# UNIT"));
    assert!(open.contains("# TYPE grapevine_build info\n"));
    assert!(plain.contains("# TYPE grapevine_build_info gauge\n"));
    assert!(open.contains("# TYPE process_cpu_seconds counter\n"));
    assert!(plain.contains("# TYPE process_cpu_seconds_total counter\n"));
    let built = format!(
        "grapevine_build_info{{version=\"{}\",os=\"{}\",",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS
    );
    assert!(plain.contains(&built) && open.contains(&built), "{plain}");
    // One help and one type for each name, and every sample under one of them.
    let (helps, types) = (names(&plain, "# HELP "), names(&plain, "# TYPE "));
    assert_eq!(helps, types);
    let once: BTreeSet<&String> = types.iter().collect();
    assert_eq!(once.len(), types.len());
    let mut last = 0;
    for sample in names(&plain, "")
        .iter()
        .filter(|name| !name.starts_with('#'))
    {
        let described = types.iter().position(|name| {
            let end = sample.strip_prefix(name.as_str());
            matches!(end, Some("" | "_sum" | "_count" | "_bucket"))
        });
        let described = described.unwrap_or_else(|| panic!("{sample} has no type"));
        assert!(described >= last, "{sample} stands apart from its like");
        last = described;
    }
    // The same samples: only the descriptions differ.
    let samples = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter(|line| !line.contains("http") && !line.starts_with("process"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&plain), samples(&open));
}

#[test]
fn the_time_of_requests_is_counted_by_route_and_by_nothing_that_clients_choose() {
    let served = Served::start();
    served.create("f");
    served.set("f", &["a"]);
    served.set("f", &["b"]);
    assert_eq!(served.get("/nowhere/at/all").status, 404);
    assert_eq!(served.get("/nowhere/else").status, 404);
    assert_eq!(
        served.request("PATCH /api/v1/filters/f", "", b"").status,
        405
    );
    assert_eq!(served.get("/api/v1/filters/%zz").status, 400);
    let text = served.get("/metrics").text();
    for (labels, count) in [
        ("method=\"PUT\",route=\"/api/v1/filters/{name}\"", 1),
        ("method=\"POST\",route=\"/api/v1/filters/{name}/set\"", 2),
        ("method=\"GET\",route=\"/api/v1/filters/{name}\"", 1),
        ("method=\"other\",route=\"other\"", 3),
    ] {
        let line = format!("grapevine_http_request_duration_seconds_count{{{labels}}} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
        let all = format!(
            "grapevine_http_request_duration_seconds_bucket{{le=\"+Inf\",{labels}}} {count}\n"
        );
        assert!(text.contains(&all), "{all}{text}");
    }
    let routes = text
        .matches("grapevine_http_request_duration_seconds_count{")
        .count();
    assert_eq!(routes, 4, "{text}");
}

#[test]
fn the_pages_are_there() {
    let served = Served::start();
    let front = served.get("/");
    assert!(front.head.contains("text/html"));
    assert!(front.text().contains("/api/v1/openapi.json"));
    let description = served.get("/api/v1/openapi.json").json();
    assert_eq!(description["openapi"], "3.1.0");
    for path in description["paths"].as_object().expect("paths").keys() {
        let path = path.replace("{name}", "x").replace("{key}", "y");
        // Whatever it takes, it is known: another method is refused as such.
        let refusal = served.request(&format!("PATCH {path}"), "", b"").refusal();
        assert_eq!(refusal, (405, "method".to_owned()), "{path}");
    }
}

#[test]
fn a_node_whose_disk_fails_is_alive_but_not_ready() {
    let disk = SimulatedDisk::new();
    let served = Served::on(Arc::new(disk.clone()), TokenSource::none());
    served.create("f");
    served.set("f", &["a"]);
    assert_eq!(served.get("/readyz").text(), "ready\n");
    disk.fail_next(Operation::Write, 0, std::io::ErrorKind::StorageFull);
    let refused = served
        .post("/api/v1/filters/f/set", "text/plain", b"b\n")
        .refusal();
    assert_eq!(refused, (503, "read_only".to_owned()));
    let ready = served.get("/readyz");
    assert_eq!(ready.refusal(), (503, "read_only".to_owned()));
    assert_eq!(served.get("/livez").status, 200);
    assert!(
        served
            .get("/metrics")
            .text()
            .contains("grapevine_read_only 1\n")
    );
    let check = served.post("/api/v1/filters/f/check", "text/plain", b"a\n");
    assert_eq!(check.json()["yes"], 1);
}

#[test]
fn a_node_whose_snapshots_cannot_be_read_back_goes_on_and_says_so() {
    let disk = SimulatedDisk::new();
    let served = Served::on(Arc::new(disk.clone()), TokenSource::none());
    served.create("f");
    served.set("f", &["a"]);
    disk.rot_when_synced(Some("manifest.new"));
    let refused = served.post("/api/v1/flush", "text/plain", b"").refusal();
    assert_eq!(refused, (503, "unreadable".to_owned()));
    served.set("f", &["b"]);
    let ready = served.get("/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("note: a new manifest was written"));
    let figures = served.get("/metrics").text();
    assert!(figures.contains("grapevine_snapshot_unreadable 1\n"));
    disk.rot_when_synced(None);
    assert_eq!(served.post("/api/v1/flush", "text/plain", b"").status, 204);
    assert_eq!(served.get("/readyz").text(), "ready\n");
}

#[test]
fn stopping_answers_what_was_begun() {
    let mut served = Served::start();
    served.create("f");
    // Connections that wait for nothing hold nobody up.
    let _silent = served.connect();
    let mut idle = served.connect();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    let mut some = [0; 12];
    idle.read_exact(&mut some).expect("an answer");
    let mut stream = served.connect();
    let head = "POST /api/v1/filters/f/set HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: text/plain\r\nContent-Length: 4\r\n\r\na\n";
    stream.write_all(head.as_bytes()).expect("sent");
    // The first key is in: the request has begun.
    let begun = std::time::Instant::now();
    while served.get("/api/v1/filters/f").json()["inserted"] != 1 {
        assert!(
            begun.elapsed().as_secs() < 30,
            "the first key never came in"
        );
        std::thread::yield_now();
    }
    served.begin_to_stop();
    stream.write_all(b"b\n").expect("sent");
    let answer = Answer::read(&mut stream);
    assert_eq!(
        (answer.status, answer.json()["new"].clone()),
        (200, 2.into())
    );
    let stopping = std::time::Instant::now();
    served.stop();
    assert!(stopping.elapsed().as_secs() < 5);
    assert!(std::net::TcpStream::connect(served.address).is_err());
}
