//! Filters that are kept in memory: everywhere, in no log, and back after a restart as long as
//! somebody ran meanwhile.

use super::*;

fn keys(prefix: &str) -> Vec<String> {
    (0..200).map(|number| format!("{prefix}{number}")).collect()
}

fn set(node: &Node, filter: &str, keys: &[String]) {
    let answer = node.bloomd().ask(&format!("b {filter} {}", keys.join(" ")));
    assert!(!answer.contains("No"), "{answer}");
}

fn layers(node: &Node, filter: &str) -> u64 {
    let output = grapevine(node, &["filter", "info", filter, "--json"]);
    let info: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    info["layers"].as_u64().expect("a number of layers")
}

/// Bytes of a node's log.
fn log_bytes(node: &Node) -> u64 {
    let segments = std::fs::read_dir(node.data_dir().join("log")).expect("a log");
    let bytes = |segment: std::io::Result<std::fs::DirEntry>| segment?.metadata().map(|m| m.len());
    let sizes: std::io::Result<Vec<u64>> = segments.map(bytes).collect();
    sizes.expect("files").iter().sum()
}

#[test]
fn keys_are_everywhere_and_come_back_from_others_but_not_from_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    let created = grapevine(
        &a,
        &[
            "filter",
            "create",
            "m",
            "--in-memory",
            "--capacity",
            "100000",
        ],
    );
    assert!(created.status.success(), "{}", text(&created.stderr));
    let (from_a, from_b) = (keys("a"), keys("b"));
    set(&a, "m", &from_a);
    wait_for_keys(&b, "m", &from_a);
    set(&b, "m", &from_b);
    wait_for_keys(&a, "m", &from_b);
    // The hashes of 400 keys alone would be 6,400 bytes.
    for node in [&a, &b] {
        let bytes = log_bytes(node);
        assert!(bytes < 6400, "{bytes}");
    }
    assert_eq!((layers(&a, "m"), layers(&b, "m")), (1, 1));

    a.kill();
    set(&b, "m", &keys("c"));
    let a = start(&dir.path().join("a"), &[&b]);
    for prefix in ["a", "b", "c"] {
        wait_for_keys(&a, "m", &keys(prefix));
    }
    set(&a, "m", &keys("d"));
    wait_for_keys(&b, "m", &keys("d"));
    // Rights that its former life drew were not spent again, and there are more.
    assert_eq!((layers(&a, "m"), layers(&b, "m")), (1, 1));
}

#[test]
fn a_node_that_never_met_another_begins_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let alone = start(&dir.path().join("a"), &[]);
    assert_eq!(alone.bloomd().ask("create m in_memory=1"), "Done\n");
    assert_eq!(alone.bloomd().ask("s m x"), "Yes\n");
    assert!(alone.stop().success());
    let alone = start(&dir.path().join("a"), &[]);
    assert_eq!(alone.bloomd().ask("c m x"), "No\n");
    assert_eq!(alone.bloomd().ask("s m x"), "Yes\n");
    let b = start(&dir.path().join("b"), &[&alone]);
    wait_for_key(&b, "m", "x");
}
