//! Who is not let in, and what both sides are told.

use std::path::PathBuf;

use super::*;

/// Makes a group of two.
fn pair(dir: &Path, names: [&str; 2], settings: &[&str]) -> [Node; 2] {
    let first = start_with(&dir.join(names[0]), &[], settings);
    let second = start_with(&dir.join(names[1]), &[&first], settings);
    wait_for_peers(&first, 1);
    wait_for_peers(&second, 1);
    [first, second]
}

fn join(node: &Node, other: &Node) -> String {
    let address = other.address("group.listen").to_string();
    let refused = grapevine(node, &["group", "join", &address]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stdout));
    text(&refused.stderr)
}

#[test]
fn a_member_of_another_group_is_refused_with_both_ids() {
    let dir = tempfile::tempdir().expect("a directory");
    let [a, _b] = pair(dir.path(), ["a", "b"], &[]);
    let [c, _d] = pair(dir.path(), ["c", "d"], &[]);
    let ids = [&a, &c].map(|node| status(node)["id"].as_str().expect("an id").to_owned());
    let said = join(&c, &a);
    assert!(said.contains("another group"), "{said}");
    for log in [log_of(a), log_of(c)] {
        for id in &ids {
            assert!(log.contains(id), "{id} is not in:\n{log}");
        }
    }
}

#[test]
fn a_group_of_another_name_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = start_with(&dir.path().join("a"), &[], &["group.name=lab"]);
    let b = start_with(&dir.path().join("b"), &[], &["group.name=office"]);
    let said = join(&b, &a);
    assert!(said.contains("lab") && said.contains("office"), "{said}");
    assert!(log_of(a).contains("group.name"));
}

pub(super) fn secret(dir: &Path, name: &str) -> String {
    let file: PathBuf = dir.join(name);
    let made = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(["group", "secret", "new", "--file"])
        .arg(&file)
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", text(&made.stderr));
    format!("group.secret_file={}", file.display())
}

#[test]
fn a_wrong_secret_is_told_on_both_sides() {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, two) = (secret(dir.path(), "one"), secret(dir.path(), "two"));
    let a = start_with(&dir.path().join("a"), &[], &[&one]);
    let b = start_with(&dir.path().join("b"), &[], &[&two]);
    let said = join(&b, &a);
    assert!(said.contains("secret"), "{said}");
    assert_eq!(status(&a)["connected"], 0);
    for log in [log_of(a), log_of(b)] {
        assert!(log.contains("secret"), "{log}");
    }
}

#[test]
fn a_copy_of_a_data_directory_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
    assert!(start(&original, &[]).stop().success());
    let copied = Command::new("cp")
        .arg("-r")
        .args([&original, &copy])
        .status();
    assert!(copied.expect("it runs").success());
    let a = start(&original, &[]);
    let b = start(&copy, &[]);
    let said = join(&b, &a);
    assert!(said.contains("copy of its key"), "{said}");
    let log = log_of(a);
    assert!(log.contains("grapevine restore"), "{log}");
    assert_eq!(status(&b)["connected"], 0);
}

#[test]
fn a_node_that_was_set_back_behind_its_back_writes_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let (b_dir, earlier) = (dir.path().join("b"), dir.path().join("earlier"));
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&b_dir, &[&a]);
    assert_eq!(b.bloomd().ask("create f"), "Done\n");
    assert!(b.stop().success());
    let copied = Command::new("cp")
        .arg("-r")
        .args([&b_dir, &earlier])
        .status();
    assert!(copied.expect("it runs").success());
    let b = start(&b_dir, &[&a]);
    for number in 0..50 {
        assert_eq!(b.bloomd().ask(&format!("s f later-{number}")), "Yes\n");
    }
    wait_for_key(&a, "f", "later-49");
    b.kill();
    std::fs::remove_dir_all(&b_dir).expect("removed");
    std::fs::rename(&earlier, &b_dir).expect("moved");
    let b = start(&b_dir, &[&a]);
    wait_for("the node to be read-only", || {
        let said = b.bloomd().ask("s f other");
        (said != "Yes\n" && said != "No\n").then_some(())
    });
    let log = log_of(b);
    assert!(log.contains("grapevine restore"), "{log}");
}
