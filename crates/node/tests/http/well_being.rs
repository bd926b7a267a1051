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
    let answer = served.get("/metrics");
    assert!(answer.head.contains("application/openmetrics-text"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"));
    assert!(
        text.contains("grapevine_filter_keys{filter=\"café%FF\"} 2\n"),
        "{text}"
    );
    assert!(text.contains("grapevine_filter_set_misses_total{filter=\"café%FF\"} 1\n"));
    assert!(text.contains("grapevine_http_requests_total 3\n"), "{text}");

    let there: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| match line.split_once(' ') {
            Some((name, "counter")) => format!("{name}_total"),
            Some((name, _)) => name.to_owned(),
            None => panic!("{line}"),
        })
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
