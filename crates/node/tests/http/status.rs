//! `GET /api/v1/status` and `grapevine status`, on a node without a group.

use std::process::{Command, Output};
use std::sync::Arc;

use grapevine::http::TokenSource;
use grapevine_store::disk::{Operation, SimulatedDisk};
use serde_json::Value;

use super::server::{MEMORY, Served};
use super::tables::create_table;

fn status(served: &Served, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .arg("status")
        .args(arguments)
        .env_remove("GRAPEVINE_TOKEN_FILE")
        .env("GRAPEVINE_NODE", served.address.to_string())
        .output()
        .expect("it runs")
}

fn lines(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_status_says_what_the_node_holds() {
    let served = Served::start();
    served.create("a");
    served.create("b");
    served.set("a", &["one", "two", "one"]);
    create_table(&served, "t");
    let set = served.request("PUT /api/v1/tables/t/rows/k", "", b"{\"values\": [\"v\"]}");
    assert_eq!(set.status, 200);
    let said = served.get("/api/v1/status").json();
    assert_eq!(said["node"]["version"], env!("CARGO_PKG_VERSION"));
    let origin = served.engine.filters().identity().origin.to_string();
    assert_eq!(said["node"]["id"], origin);
    assert!(
        said["node"]["uptime_ms"]
            .as_u64()
            .is_some_and(|up| up < 600_000)
    );
    assert_eq!(
        (&said["ready"], &said["reason"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(said["group"], Value::Null);
    assert_eq!(said["filters"]["count"], 2);
    assert_eq!(said["filters"]["loaded"], 2);
    assert_eq!(said["filters"]["keys"], 2);
    assert_eq!(said["tables"]["count"], 1);
    assert_eq!(said["tables"]["rows"], 1);
    let memory = &said["memory"];
    assert_eq!(memory["filters_limit_bytes"], MEMORY);
    assert!(
        memory["filters_bytes"]
            .as_u64()
            .is_some_and(|used| used > 0)
    );
    assert!(
        memory["resident_bytes"]
            .as_u64()
            .is_some_and(|used| used > 0)
    );
    let durability = &said["durability"];
    assert_eq!(
        (&durability["sync"], &durability["interval_ms"]),
        (&"interval".into(), &1000.into())
    );
    assert!(
        durability["log_tail_bytes"]
            .as_u64()
            .is_some_and(|tail| tail > 0)
    );
    assert_eq!(said["log"]["lines_dropped"], 0);
    assert_eq!(said["warnings"], serde_json::json!([]));

    let plain = status(&served, &[]);
    assert_eq!(plain.status.code(), Some(0), "{plain:?}");
    let plain = lines(&plain);
    for line in [
        format!("node.id\t{origin}"),
        "ready\ttrue".into(),
        "filters.keys\t2".into(),
    ] {
        assert!(plain.contains(&line), "{line}: {plain:?}");
    }
    let shown = status(&served, &["--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown["filters"], said["filters"]);
}

#[test]
fn a_node_that_takes_no_writes_says_why() {
    let disk = SimulatedDisk::new();
    let served = Served::on(Arc::new(disk.clone()), TokenSource::none());
    served.create("f");
    disk.fail_next(Operation::Write, 0, std::io::ErrorKind::StorageFull);
    let refused = served.post("/api/v1/filters/f/set", "text/plain", b"b\n");
    assert_eq!(refused.status, 503);
    let answer = served.get("/api/v1/status");
    assert_eq!(answer.status, 200);
    let said = answer.json();
    assert_eq!(said["ready"], false);
    let reason = said["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("the node is read-only: "), "{reason}");
    let plain = status(&served, &[]);
    assert_eq!(plain.status.code(), Some(0), "{plain:?}");
    let plain = lines(&plain);
    assert!(plain.contains(&"ready\tfalse".to_owned()), "{plain:?}");
    assert!(plain.contains(&format!("reason\t{reason}")), "{plain:?}");
}
