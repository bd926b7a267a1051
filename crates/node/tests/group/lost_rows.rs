//! A node whose file of rows is damaged starts, says so, and gets its rows from the others.

use super::harness::{Node, http, wait_for};
use super::*;

/// Rows of a kibibyte each: more than a log keeps that all members have.
const ROWS: usize = 700;

fn line_of(number: usize) -> String {
    format!("key-{number:04}\t{}\t{}\n", number + 1, "v".repeat(1000))
}

fn export(node: &Node, file: &Path) -> Option<String> {
    let file = file.to_str().expect("a path");
    let output = grapevine(node, &["table", "export", "t", file]);
    let written = output.status.success();
    let text = written.then(|| std::fs::read_to_string(file).expect("the rows"));
    drop(std::fs::remove_file(file));
    text
}

/// Snapshots are taken until the log does not begin at the beginning any more.
fn cut_log(node: &Node) {
    let first = node.data_dir().join(format!("log/{:020}.log", 0));
    assert!(first.exists(), "{}", first.display());
    wait_for("the log to be cut", || {
        let output = grapevine(node, &["filter", "flush"]);
        assert!(output.status.success(), "{output:?}");
        (!first.exists()).then_some(())
    });
}

fn ready(node: &Node) -> (u16, String) {
    http(node.address("http.listen"), "GET /readyz", "")
}

#[test]
fn a_node_with_a_damaged_file_of_rows_gets_them_from_the_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let exported = dir.path().join("exported");
    let a = start(&dir.path().join("a"), &[]);
    let b = start(&dir.path().join("b"), &[&a]);
    let c_dir = dir.path().join("c");
    let c = start(&c_dir, &[&a, &b]);
    let made = grapevine(&a, &["table", "create", "t"]);
    assert!(made.status.success(), "{made:?}");
    let file = dir.path().join("rows");
    let lines: String = (0..ROWS).map(line_of).collect();
    std::fs::write(&file, &lines).expect("written");
    let import = ["table", "import", "t", file.to_str().expect("a path")];
    let imported = grapevine(&a, &import);
    assert!(imported.status.success(), "{imported:?}");
    let all = |node: &Node| (export(node, &exported)? == lines).then_some(());
    for node in [&a, &b, &c] {
        wait_for("the rows", || all(node));
    }
    cut_log(&c);
    c.stop();
    let rows = c_dir.join("tables/rows.redb");
    let bytes = std::fs::read(&rows).expect("the file");
    std::fs::write(&rows, &bytes[..bytes.len() / 2]).expect("cut short");

    // Alone it starts, serves everything else, and says that rows are missing.
    let (a_dir, b_dir) = (dir.path().join("a"), dir.path().join("b"));
    a.stop();
    b.stop();
    let c = start(&c_dir, &[]);
    let (status, said) = ready(&c);
    assert_eq!(status, 200);
    assert!(
        said.contains("note: the rows of tables are damaged"),
        "{said}"
    );
    for verb in [
        &["table", "get", "t", "key-0001"][..],
        &["table", "show", "t"],
        &["table", "list"],
        &["table", "set", "t", "key-0001", "x"],
        &["table", "delete", "t", "key-0001"],
    ] {
        let refused = grapevine(&c, verb);
        let why = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{verb:?}: {why}");
        assert!(why.contains("the rows of this node are damaged"), "{why}");
    }
    let refused = grapevine(&c, &["table", "forget", "--damaged"]);
    let why = text(&refused.stderr);
    assert!(why.contains("come from the other members"), "{why}");
    assert_eq!(c.bloomd().ask("create f"), "Done\n");
    let kept = c_dir.join("tables/rows.redb.damaged-1");
    assert!(kept.exists(), "{}", kept.display());
    let log = log_of(c);
    assert!(log.contains("rows.redb.damaged-1"), "{log}");

    // A restart goes on waiting, and the others have them.
    let a = start(&a_dir, &[]);
    let b = start(&b_dir, &[&a]);
    let c = start(&c_dir, &[&a, &b]);
    wait_for("the rows to come back", || all(&c));
    assert_eq!(ready(&c).1, "ready\n");
    for node in [&a, &b] {
        wait_for("the rows to stay", || all(node));
    }
    c.stop();
    let c = start(&c_dir, &[&a, &b]);
    assert_eq!(all(&c), Some(()), "they are whole after a restart");
    let set = grapevine(&c, &["table", "set", "t", "key-0001", "x"]);
    assert!(set.status.success(), "{set:?}");
}
