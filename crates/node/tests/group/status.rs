//! What `/metrics` and `grapevine status` say of the members, and the token for metrics.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use super::harness::http;
use super::*;

const LAG: &str = "grapevine_group_lag_operations{";

/// The lines of `/metrics` that begin so.
pub(super) fn metrics(node: &Node, beginning: &str) -> Vec<String> {
    let (_, text) = http(node.address("http.listen"), "GET /metrics", "");
    let lines = text.lines().filter(|line| line.starts_with(beginning));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_members_figures_have_its_name_and_one_series_when_that_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b_dir = dir.path().join("b");
    let b = start(&b_dir, &[&a]);
    wait_for_peers(&a, 1);
    let key = status(&b)["me"]["key"].as_str().expect("a key").to_owned();
    let of_b = format!("{LAG}member=\"{key}\",name=\"b\"}} ");
    let lag = metrics(&a, LAG);
    assert!(lag.len() == 1 && lag[0].starts_with(&of_b), "{lag:?}");
    assert!(b.stop().success());
    let name = "node.name=b \\\"two\"";
    let _b = start_with(&b_dir, &[&a], &[name]);
    let of_b = format!("{LAG}member=\"{key}\",name=\"b \\\\\\\"two\\\"\"}} ");
    let lag = wait_for("the new name", || {
        let lag = metrics(&a, LAG);
        lag.iter()
            .any(|line| line.starts_with(&of_b))
            .then_some(lag)
    });
    assert_eq!(lag.len(), 1, "{lag:?}");
}

#[test]
fn the_status_counts_who_is_up_and_names_who_is_down() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    let said = || -> Value {
        let output = grapevine(&a, &["status", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    wait_for("both to be in step", || {
        (said()["group"]["in_step"] == 2).then_some(())
    });
    let both = said();
    let group = &both["group"];
    assert_eq!(
        (&group["members"], &group["up"], &group["down"]),
        (&2.into(), &2.into(), &0.into())
    );
    assert_eq!(group["others"][0]["name"], "b");
    assert_eq!(both["node"]["name"], "a");
    assert_eq!(both["node"]["data_dir"], a.data_dir().display().to_string());
    assert_eq!(both["warnings"], serde_json::json!([]));
    let listeners = both["listeners"].as_array().expect("a list");
    for key in ["bloomd.tcp", "group.listen", "http.listen"] {
        let address = a.address(key).to_string();
        let there = serde_json::json!({"key": key, "address": address});
        assert!(listeners.contains(&there), "{there}: {listeners:?}");
    }
    b.kill();
    let alone = wait_for("b to be down", || {
        let said = said();
        (said["group"]["down"] == 1).then_some(said)
    });
    assert_eq!(alone["group"]["up"], 1);
    assert_eq!(alone["group"]["others"][0]["to_send"], Value::Null);
    assert_eq!(
        alone["warnings"],
        serde_json::json!(["member b does not answer"])
    );
    assert_eq!(alone["ready"], true);
    let plain = text(&grapevine(&a, &["status"]).stdout);
    assert!(plain.contains("group.down\t1\n"), "{plain}");
    assert!(
        plain.contains("warning\tmember b does not answer\n"),
        "{plain}"
    );
}

#[test]
fn the_metrics_token_is_of_the_configuration_and_read_again_by_sighup() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, token: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, token).expect("written");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("kept from others");
        path
    };
    let (all, scrape) = (write("all", "main"), write("scrape", "first"));
    let all = format!("http.token_file={}", all.display());
    let scrape = format!("http.metrics_token_file={}", scrape.display());
    let node = start_with(&dir.path().join("a"), &[], &[&all, &scrape]);
    let ask = |path: &str, token: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nX:");
        http(node.address("http.listen"), &request, "").0
    };
    assert_eq!(ask("/metrics", "first"), 200);
    assert_eq!(ask("/metrics", "main"), 200);
    assert_eq!(ask("/api/v1/status", "main"), 200);
    assert_eq!(ask("/api/v1/status", "first"), 403);
    write("scrape", "second");
    signal(&node, Signal::HUP);
    wait_for("the new token", || {
        (ask("/metrics", "second") == 200).then_some(())
    });
    assert_eq!(ask("/metrics", "first"), 401);
}
