//! What is refused, and that the table is then as it was.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use crate::workbench::{Workbench, errors};

const TABLE: &str = "a\t5\tx\nb\t7\ty\n";

/// Runs it on a table, which then is as before.
fn refused(arguments: &[&str]) -> String {
    let bench = Workbench::new();
    bench.write("t", TABLE);
    let ended = bench.run(arguments);
    assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
    assert!(ended.stdout.is_empty(), "{arguments:?}");
    assert_eq!(
        bench.files(),
        [("t".to_owned(), TABLE.into())].into(),
        "{arguments:?}"
    );
    errors(&ended)
}

#[test]
fn the_usage_has_eight_lines_and_the_name_it_was_called_by() {
    let usage = refused(&[]);
    assert_eq!(usage.lines().count(), 8, "{usage}");
    assert!(usage.starts_with("Usage:\n"));
    assert!(
        usage.contains("/bin/p2ptbl update table key value [interface]\n"),
        "{usage}"
    );
    let applet = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(["applet", "p2ptbl"])
        .output()
        .expect("it runs");
    assert_eq!(applet.status.code(), Some(1));
    assert!(errors(&applet).contains("  grapevine applet p2ptbl init   table\n"));
    for wrong in [
        &["get", "t", ""][..],
        &["merge", "t"],
        &["init", ""],
        &["gossip", "t", "0", "eth0"],
        &["gossip", "t", "9223372036854775808", "eth0"],
        &["update", "t", "k"],
        &[""],
    ] {
        assert!(refused(wrong).starts_with("Usage:\n"), "{wrong:?}");
    }
}

#[test]
fn a_key_or_value_that_is_more_than_one_row_is_refused() {
    assert!(refused(&["update", "t", "k\ney", "v"]).contains("key contains a line end"));
    assert!(refused(&["update", "t", "k\tey", "v"]).contains("key contains a tab"));
    assert!(refused(&["update", "t", "k", "v\nb\t99\tw"]).contains("value contains a line end"));
}

#[test]
fn a_filter_that_does_not_answer_keeps_the_table() {
    let usage = refused(&["filter", "t"]);
    assert!(
        usage.starts_with("filter needs a program; the table is as it was\nUsage:"),
        "{usage}"
    );
    assert!(refused(&["filter", "t", "no-such-program"]).contains("cannot run no-such-program"));
    assert!(refused(&["filter", "t", ""]).contains("cannot run"));
    assert!(refused(&["filter", "t", "sh", "-c", "cat; exit 3"]).contains("exit status: 3"));
    assert!(refused(&["filter", "t", "sh", "-c", "cat; kill -9 $$"]).contains("signal: 9"));
}

#[test]
fn a_filter_that_reads_and_writes_at_once_is_no_deadlock() {
    let bench = Workbench::new();
    let table: String = (0..50_000)
        .map(|row| format!("{row:05}\t1\t{row}\n"))
        .collect();
    bench.write("t", &table);
    assert!(bench.run(&["filter", "t", "cat"]).status.success());
    let shown = bench.run(&["show", "t"]).stdout;
    assert_eq!(shown, table.replace("\t1\t", "\t").as_bytes());
    // One that answers without having read.
    assert!(
        bench
            .run(&["filter", "t", "printf", "00007\\tseven\\n"])
            .status
            .success()
    );
    assert_eq!(bench.run(&["show", "t"]).stdout, b"00007\tseven\n");
}

#[test]
fn what_is_no_regular_file_is_no_table() {
    let bench = Workbench::new();
    bench.write("t", TABLE);
    let tables = bench.tables();
    let made = Command::new("mkfifo").arg(tables.join("fifo")).status();
    assert!(made.expect("it runs").success());
    let _listener = UnixListener::bind(tables.join("socket")).expect("a socket");
    symlink("nowhere", tables.join("dangling")).expect("a link");
    symlink("loop", tables.join("loop")).expect("a link");
    for name in [
        "fifo",
        "socket",
        "dangling",
        ".",
        "absent",
        "t/below",
        "/dev/null",
    ] {
        for arguments in [
            &["show", name][..],
            &["get", name, "k"],
            &["update", name, "k", "v"],
            &["merge", name, "t"],
            &["merge", "t", name],
            &["filter", name, "cat"],
            &["gossip", name, "500", "eth0"],
        ] {
            let ended = bench.run(arguments);
            assert_eq!(ended.status.code(), Some(1), "{arguments:?}");
            let said = errors(&ended);
            let wanted = format!("{name} is no P2P table\nUsage:\n");
            assert!(said.starts_with(&wanted), "{arguments:?}: {said}");
        }
    }
    assert_eq!(bench.run(&["show", "loop"]).status.code(), Some(1));
    for name in ["fifo", "socket", ".", "t/below", "loop"] {
        let ended = bench.run(&["init", name]);
        assert_eq!(ended.status.code(), Some(1), "{name}");
        assert!(!ended.stderr.is_empty(), "{name}");
    }
    assert_eq!(bench.read("t"), TABLE.as_bytes());
}

#[test]
fn a_path_may_have_blanks_and_any_bytes() {
    let bench = Workbench::new();
    for path in ["a b/c  d", "-n", "$(x)", "a\nb"] {
        assert!(bench.run(&["init", path]).status.success(), "{path}");
        assert!(
            bench
                .run(&["update", path, "-k", "$HOME `x` \"q\" *"])
                .status
                .success()
        );
        let found = bench.run(&["get", path, "-k"]);
        assert_eq!(found.stdout, b"$HOME `x` \"q\" *\n", "{path}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let bench = Workbench::new();
    let table: String = (0..50_000)
        .map(|row| format!("{row}\t1\tvalue\n"))
        .collect();
    bench.write("t", table);
    let mut command = bench.command();
    command
        .args(["show", "t"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert_eq!(line, "0\tvalue\n");
    drop(reader);
    let ended = child.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", errors(&ended));
    assert!(ended.stderr.is_empty(), "{}", errors(&ended));
}
