//! Rows that are set anywhere are everywhere.

use super::harness::{Follower, Node, wait_for};
use super::*;

fn done(node: &Node, arguments: &[&str]) -> String {
    let output = grapevine(node, &[&["table"], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    text(&output.stdout)
}

fn wait_to_show(node: &Node, table: &str, rows: &str) {
    wait_for(&format!("{table} to have {rows:?}"), || {
        let output = grapevine(node, &["table", "show", table]);
        (text(&output.stdout) == rows && output.status.success()).then_some(())
    });
}

#[test]
fn a_row_set_on_one_node_is_watched_on_the_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    done(&a, &["create", "t"]);
    wait_to_show(&b, "t", "");
    let watch = ["table", "watch", "t", "--after", "0"];
    let watch = Follower::start(b.data_dir(), &watch);
    assert_eq!((&*watch.line(), &*watch.line()), ("reset", "complete"));
    done(&a, &["set", "t", "k", "x", "y"]);
    assert_eq!(watch.line(), "row\tk\tx\ty");
    done(&b, &["set", "t", "own", "z"]);
    assert_eq!(watch.line(), "row\town\tz");
    wait_to_show(&a, "t", "k\tx\ty\nown\tz\n");
    done(&a, &["delete", "t", "own"]);
    assert_eq!(watch.line(), "gone\town");
    // The expiry is part of the row.
    done(&a, &["set", "t", "short", "v", "--ttl", "2s"]);
    assert_eq!(watch.line(), "row\tshort\tv");
    assert_eq!(watch.line(), "gone\tshort");
    wait_to_show(&b, "t", "k\tx\ty\n");
    assert_eq!(done(&b, &["get", "t", "k"]), "x\ty\n");
}

#[test]
fn of_rows_set_apart_one_stays_on_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[]);
    for (node, value) in [(&a, "alpha"), (&b, "beta")] {
        done(node, &["create", "leases"]);
        done(node, &["set", "leases", "192.0.2.7", value, "--ttl", "1h"]);
        done(node, &["set", "leases", value, "own"]);
    }
    let address = a.address("group.listen").to_string();
    let joined = grapevine(&b, &["group", "join", &address]);
    assert!(joined.status.success(), "{joined:?}");
    let rows = wait_for("both to have the same rows", || {
        let shown = [&a, &b].map(|node| done(node, &["show", "leases"]));
        (shown[0] == shown[1] && shown[0].lines().count() == 3).then(|| shown[0].clone())
    });
    assert!(
        rows.contains("alpha\town\n") && rows.contains("beta\town\n"),
        "{rows}"
    );
}
