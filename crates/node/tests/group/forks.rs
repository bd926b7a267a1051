//! Data directories that are set back or run twice: it is noticed at the first meeting whatever
//! was written since, nothing is lost, and the directory is mended.

use std::path::PathBuf;

use super::harness::{Client, Node, wait_for};
use super::*;

/// What one stretch of writing makes: keys and rows whose names begin with `name`.
fn write(node: &Node, name: &str, count: usize) {
    let mut client: Client = node.bloomd();
    for number in 0..count {
        let said = client.ask(&format!("s f {name}-{number}"));
        assert_eq!(said, "Yes\n", "{name}-{number}");
        let row = [
            "table",
            "set",
            "t",
            &format!("{name}-{}", number % 3),
            "value",
        ];
        if number < 3 {
            let set = grapevine(node, &row);
            assert!(set.status.success(), "{set:?}");
        }
    }
}

/// Starts a node that meets nobody.
fn start_alone(dir: &Path) -> Node {
    start_with(dir, &[], &["group.listen=off"])
}

/// Waits until a node has what [`write`] made.
fn wait_to_have(node: &Node, name: &str, count: usize) {
    let keys: Vec<String> = (0..count)
        .map(|number| format!("{name}-{number}"))
        .collect();
    wait_for_keys(node, "f", &keys);
    for number in 0..count.min(3) {
        wait_for(&format!("row {name}-{number}"), || {
            let row = ["table", "get", "t", &format!("{name}-{number}")];
            grapevine(node, &row).status.success().then_some(())
        });
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.expect("it runs").success());
}

fn wait_to_be_read_only(node: &Node) {
    wait_for("the node to be read-only", || {
        let said = node.bloomd().ask("s f of-no-use");
        (said != "Yes\n" && said != "No\n").then_some(())
    });
}

fn mend(dir: &Path) {
    let mended = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .arg("--data-dir")
        .arg(dir)
        .args(["restore", "--in-place"])
        .output()
        .expect("it runs");
    assert!(mended.status.success(), "{}", text(&mended.stderr));
}

/// A group of two, `a` and `b`, with a filter and a table, and a copy of the directory of `b`.
fn group(dir: &Path) -> (Node, Node, PathBuf) {
    let (b_dir, earlier) = (dir.join("b"), dir.join("earlier"));
    let a = start(&dir.join("a"), &[]);
    let b = start(&b_dir, &[&a]);
    wait_for_peers(&a, 1);
    assert_eq!(b.bloomd().ask("create f"), "Done\n");
    let created = grapevine(&b, &["table", "create", "t"]);
    assert!(created.status.success(), "{created:?}");
    write(&b, "first", 10);
    wait_to_have(&a, "first", 10);
    assert!(b.stop().success());
    copy(&b_dir, &earlier);
    let b = start(&b_dir, &[&a]);
    wait_for_peers(&a, 1);
    (a, b, earlier)
}

/// A directory loses `lost` keys that the group has, and makes `made` before it meets it again.
fn set_back(lost: usize, made: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b, earlier) = group(dir.path());
    let b_dir = b.data_dir().to_owned();
    write(&b, "lost", lost);
    wait_to_have(&a, "lost", lost);
    assert!(b.stop().success());
    std::fs::remove_dir_all(&b_dir).expect("removed");
    std::fs::rename(&earlier, &b_dir).expect("moved");
    let b = start_alone(&b_dir);
    write(&b, "made", made);
    let b = {
        assert!(b.stop().success());
        start(&b_dir, &[&a])
    };
    wait_to_be_read_only(&b);
    let log = log_of(b);
    assert!(log.contains("grapevine restore --in-place"), "{log}");
    assert!(log.contains("ERROR"), "{log}");
    mend(&b_dir);
    let b = start(&b_dir, &[&a]);
    for node in [&a, &b] {
        wait_to_have(node, "first", 10);
        wait_to_have(node, "lost", lost);
        wait_to_have(node, "made", made);
    }
    assert_eq!(b.bloomd().ask("s f on"), "Yes\n", "it goes on");
    wait_for_key(&a, "f", "on");
}

#[test]
fn a_directory_set_back_that_wrote_more_than_it_lost_is_noticed_and_mended() {
    set_back(10, 40);
}

#[test]
fn a_directory_set_back_that_wrote_less_than_it_lost_is_noticed_and_mended() {
    set_back(40, 10);
}

#[test]
fn a_directory_that_runs_twice_costs_nobody_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b, twin_dir) = group(dir.path());
    let c = start(&dir.path().join("c"), &[&a]);
    wait_for_peers(&c, 2);
    write(&b, "one", 30);
    write(&c, "third", 5);
    wait_to_have(&c, "one", 30);
    wait_to_have(&a, "third", 5);
    let twin = start_alone(&twin_dir);
    write(&twin, "two", 60);
    assert!(twin.stop().success());
    // The original is away, so that its twin is let in.
    let b_dir = b.data_dir().to_owned();
    assert!(b.stop().success());
    let twin = start(&twin_dir, &[&c]);
    wait_to_be_read_only(&twin);
    // It ends with a failure, as every node does that cannot write.
    twin.stop();
    mend(&twin_dir);
    let (b, twin) = (start(&b_dir, &[&a]), start(&twin_dir, &[&a, &c]));
    for node in [&a, &b, &c, &twin] {
        for (name, count) in [("first", 10), ("one", 30), ("two", 60), ("third", 5)] {
            wait_to_have(node, name, count);
        }
        assert_eq!(node.bloomd().ask("c f absent"), "No\n");
    }
    assert_eq!(b.bloomd().ask("s f on"), "Yes\n", "the original goes on");
}
