//! A C bloomd's filters through a running node: its group has them, too.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::{start, text, wait_for_keys, wait_for_peers};
use crate::harness::Node;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/vectors")
}

fn import(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(["import", "bloomd"])
        .arg(vectors().join("bloomd-data"))
        .args(arguments)
        .env_remove("GRAPEVINE_NODE")
        .output()
        .expect("it runs")
}

/// Every filter of the vectors, with some of the keys that it has.
fn filters() -> Vec<(String, Vec<String>)> {
    let read = std::fs::read(vectors().join("bloomd-data.json")).expect("a file");
    let rows: Value = serde_json::from_slice(&read).expect("JSON");
    let rows = rows["filters"].as_array().expect("filters").clone();
    let one = |row: &Value| {
        let template = row["key_template"].as_str().expect("a template");
        let count = row["keys"].as_u64().expect("a count");
        let keys = (0..count).step_by(97);
        let keys = keys.map(|number| template.replace("%d", &number.to_string()));
        let name = row["name"].as_str().expect("a name");
        (name.to_owned(), keys.collect())
    };
    rows.iter().map(one).collect()
}

/// Whether the node's filter has those keys, and takes new ones.
fn is_whole(node: &Node) {
    for (name, keys) in filters() {
        wait_for_keys(node, &name, &keys);
        let mut client = node.bloomd();
        let fresh = (0..10).map(|number| format!(" fresh-{}-{number}", node.id()));
        let line = format!("b {name}{}", fresh.collect::<String>());
        // One of them may be taken for present.
        assert!(client.ask(&line).matches("Yes").count() >= 8, "{name}");
        assert_eq!(client.ask(&line).matches("No").count(), 10, "{name}");
    }
}

#[test]
fn filters_of_bloomd_go_through_a_running_node_to_its_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    wait_for_peers(&b, 1);
    let through = a.data_dir().to_string_lossy().into_owned();
    let imported = import(&["--data-dir", &through]);
    let said = text(&imported.stdout);
    assert_eq!(
        imported.status.code(),
        Some(0),
        "{said}{}",
        text(&imported.stderr)
    );
    assert!(
        said.contains("grown: 3 layers, 69915 keys, 388856 bytes\n"),
        "{said}"
    );
    let url = format!("http://{}", a.address("http.listen"));
    assert!(
        said.contains(&format!("3 filters imported, 0 refused, into {url}")),
        "{said}"
    );
    is_whole(&a);
    is_whole(&b);
    let again = import(&["--node", &url]);
    assert_eq!(again.status.code(), Some(1));
    let said = text(&again.stderr);
    assert!(
        said.contains("strict: there is a filter of that name already"),
        "{said}"
    );
    assert!(text(&again.stdout).contains("0 filters imported, 3 refused"));
    let nobody = import(&["--node", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        text(&nobody.stderr).contains("no node answers"),
        "{}",
        text(&nobody.stderr)
    );
    // What came keeps over a restart.
    let a_dir = a.data_dir().to_owned();
    a.kill();
    let a = start(&a_dir, &[&b]);
    is_whole(&a);
}
