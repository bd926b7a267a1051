//! What is set anywhere is everywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::harness::{Node, wait_for};
use super::*;

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
    let info = wait_for("both in step", || {
        let output = grapevine(&a, &["filter", "info", "f", "--json"]);
        let info: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (info["copies"]["in_step"] == 2).then_some(info)
    });
    assert_eq!(info["copies"]["members"], 2);
    assert_eq!(info["copies"]["lag"][0]["member"], "b");
    assert_eq!(info["copies"]["lag"][0]["to_send"], 0);
}

#[test]
fn nodes_that_ran_alone_bring_what_they_have_and_know_all_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut nodes: Vec<Node> = Vec::new();
    for name in ["a", "b", "c"] {
        let alone = start(&dir.path().join(name), &[]);
        assert_eq!(alone.bloomd().ask(&format!("create of-{name}")), "Done\n");
        assert_eq!(alone.bloomd().ask("create of-all"), "Done\n");
        for filter in [&format!("of-{name}"), "of-all"] {
            let set = alone.bloomd().ask(&format!("s {filter} key-{name}"));
            assert_eq!(set, "Yes\n");
        }
        assert!(alone.stop().success());
        // Each knows the first only.
        let seeds: Vec<&Node> = nodes.first().into_iter().collect();
        nodes.push(start(&dir.path().join(name), &seeds));
    }
    for node in &nodes {
        wait_for_peers(node, 2);
        for name in ["a", "b", "c"] {
            wait_for_key(node, &format!("of-{name}"), &format!("key-{name}"));
            wait_for_key(node, "of-all", &format!("key-{name}"));
        }
    }
    let ids: Vec<Value> = nodes
        .iter()
        .map(|node| status(node)["id"].clone())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn strangers_that_join_at_once_end_in_one_group() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = ["a", "b", "c", "d", "e"];
    let nodes: Vec<Node> = names
        .iter()
        .map(|name| start(&dir.path().join(name), &[]))
        .collect();
    // All at the same moment at one of them, which may itself take over another's group.
    let address = nodes[0].address("group.listen").to_string();
    std::thread::scope(|scope| {
        for node in &nodes[1..] {
            scope.spawn(|| {
                let joined = grapevine(node, &["group", "join", &address]);
                assert!(joined.status.success(), "{}", text(&joined.stderr));
            });
        }
    });
    for node in &nodes {
        wait_for_peers(node, 4);
        assert_eq!(status(node)["met"], true);
    }
}

/// Sets keys on a node one after another until it is gone; gives those acknowledged.
fn load(node: &Node, prefix: &str, count: &AtomicUsize) -> Vec<String> {
    let mut client = node.bloomd();
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let key = format!("{prefix}-{number}");
        if client.try_send(format!("s f {key}\n").as_bytes()).is_err() {
            break;
        }
        match client.try_line().as_deref() {
            Some("Yes\n") => acknowledged.push(key),
            _ => break,
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[test]
fn a_node_killed_under_load_loses_nothing_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b_dir = dir.path().join("b");
    let mut b = start(&b_dir, &[&a]);
    let c = start(&dir.path().join("c"), &[&a]);
    wait_for_peers(&b, 2);
    assert_eq!(a.bloomd().ask("create f"), "Done\n");
    let mut all: Vec<String> = Vec::new();
    for round in 0..3 {
        wait_for("the filter", || {
            (b.bloomd().ask("c f x") != "Filter does not exist\n").then_some(())
        });
        let count = Arc::new(AtomicUsize::new(0));
        let acknowledged = std::thread::scope(|scope| {
            let loaded = scope.spawn(|| load(&b, &format!("round-{round}"), &count));
            wait_for("some load", || {
                (count.load(Ordering::Relaxed) > 300).then_some(())
            });
            signal(&b, rustix::process::Signal::KILL);
            loaded.join().expect("without a panic")
        });
        all.extend(acknowledged);
        drop(b);
        b = start(&b_dir, &[&a]);
    }
    for node in [&a, &b, &c] {
        wait_for_keys(node, "f", &all);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_behind_that_only_it_has() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start_with(&dir.path().join("b"), &[&a], &["durability.interval=1h"]);
    wait_for_peers(&b, 1);
    assert_eq!(b.bloomd().ask("create f"), "Done\n");
    let keys: Vec<String> = (0..2000).map(|number| format!("key-{number}")).collect();
    b.bloomd().ask(&format!("b f {}", keys.join(" ")));
    assert!(b.stop().success());
    let mut client = a.bloomd();
    for key in &keys {
        assert_eq!(client.ask(&format!("c f {key}")), "Yes\n", "{key}");
    }
}

#[test]
fn a_node_that_nobody_can_call_comes_back_to_one_that_restarted() {
    let dir = tempfile::tempdir().expect("a directory");
    let a_dir = dir.path().join("a");
    let a = start(&a_dir, &[]);
    let listen = format!("group.listen={}", a.address("group.listen"));
    // Port 1 is where nobody listens: only b can call.
    let b = start_with(
        &dir.path().join("b"),
        &[&a],
        &["group.advertise=127.0.0.1:1"],
    );
    wait_for_peers(&a, 1);
    assert_eq!(b.bloomd().ask("create f"), "Done\n");
    wait_for("the filter", || {
        (a.bloomd().ask("c f x") == "No\n").then_some(())
    });
    a.kill();
    assert_eq!(b.bloomd().ask("s f meanwhile"), "Yes\n");
    let a = start_with(&a_dir, &[], &[&listen]);
    wait_for_key(&a, "f", "meanwhile");
    assert_eq!(a.bloomd().ask("s f again"), "Yes\n");
    wait_for_key(&b, "f", "again");
}

#[test]
fn a_node_without_a_group_runs_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = Node::start(&dir.path().join("a"), &["group.listen=off"]);
    let refused = grapevine(&a, &["group", "status"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("group.listen"),
        "{refused:?}"
    );
    assert_eq!(a.bloomd().ask("create f"), "Done\n");
    assert!(a.stop().success());
}
