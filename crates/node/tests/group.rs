//! Groups of whole nodes on loopback.

mod harness;

use std::path::Path;

use harness::{Node, wait_for};

/// A node that joins others.
fn start(dir: &Path, join: &[&Node]) -> Node {
    let seeds: Vec<String> = join
        .iter()
        .map(|node| node.address("group.listen").to_string())
        .collect();
    let setting = format!("group.join={}", seeds.join(","));
    let name = dir.file_name().expect("a name").to_string_lossy();
    Node::start(dir, &[&setting, &format!("node.name={name}")])
}

/// Waits until a node says that a key is in a filter.
fn wait_for_key(node: &Node, filter: &str, key: &str) {
    let mut client = node.bloomd();
    wait_for(&format!("{key} in {filter}"), || {
        (client.ask(&format!("c {filter} {key}")) == "Yes\n").then_some(())
    });
}

#[test]
fn a_filter_made_on_one_node_is_on_the_other_and_takes_keys_on_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    assert_eq!(a.bloomd().ask("create f"), "Done\n");
    assert_eq!(a.bloomd().ask("s f from-a"), "Yes\n");
    wait_for_key(&b, "f", "from-a");
    assert_eq!(b.bloomd().ask("s f from-b"), "Yes\n");
    wait_for_key(&a, "f", "from-b");
    assert_eq!(a.bloomd().ask("s f from-b"), "No\n");
}
