//! Tables on a whole node: real processes, real kills.

#[path = "../harness/mod.rs"]
mod harness;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{DEADLINE, Follower, Node, wait_for};
use serde_json::Value;

fn table(data_dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .arg("table")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .env_remove("GRAPEVINE_NODE")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Sends lines to be imported; whether the node, which may be gone, has acknowledged them.
fn import(address: SocketAddr, lines: &str) -> bool {
    let sent = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let length = lines.len();
        let head = format!(
            "POST /api/v1/tables/t/import HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(lines.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    sent().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"changed\""))
}

#[test]
fn a_node_killed_in_the_middle_of_an_import_has_what_it_acknowledged() {
    const ROWS: usize = 500;
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(dir.path(), &[]);
    table(dir.path(), &["create", "t"]);
    let mut acknowledged = 0;
    for _ in 0..3 {
        let address = node.address("http.listen");
        let begin = acknowledged;
        let count = AtomicUsize::new(begin);
        acknowledged = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                for block in begin.. {
                    let rows = (0..ROWS).map(|row| format!("{block:06}-{row:03}\t1\tvalue\n"));
                    if !import(address, &rows.collect::<String>()) {
                        return block;
                    }
                    count.store(block + 1, Ordering::Relaxed);
                }
                begin
            });
            wait_for("some blocks", || {
                (count.load(Ordering::Relaxed) >= begin + 20).then_some(())
            });
            node.kill();
            load.join().expect("without a panic")
        });
        node = Node::start(dir.path(), &[]);
        let shown = table(dir.path(), &["show", "t"]);
        let mut keys = shown.lines().filter_map(|line| line.split('\t').next());
        for block in 0..acknowledged {
            for row in 0..ROWS {
                let key = format!("{block:06}-{row:03}");
                assert_eq!(
                    keys.next(),
                    Some(&*key),
                    "{acknowledged} blocks were acknowledged"
                );
            }
        }
        // The block on its way may be in whole or in part; its rows are those that were sent.
        assert!(keys.all(|key| key.starts_with(&format!("{acknowledged:06}-"))));
    }
    assert!(acknowledged >= 60);
}

fn event(follower: &Follower) -> (String, String, String) {
    let line = follower.line();
    let said: Value = serde_json::from_str(&line).expect("JSON");
    let word = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    (word("event"), word("key"), word("id"))
}

#[test]
fn a_watch_goes_on_after_the_node_was_killed_and_started_elsewhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    table(dir.path(), &["create", "t"]);
    table(dir.path(), &["set", "t", "before", "v"]);
    let watch = ["table", "watch", "t", "--json", "--after", "0"];
    let watch = Follower::start(dir.path(), &watch);
    let begun: Vec<String> = (0..3).map(|_| event(&watch).0).collect();
    assert_eq!(begun, ["reset", "row", "complete"]);
    table(dir.path(), &["set", "t", "short", "v", "--ttl", "2s"]);
    let (name, key, id) = event(&watch);
    assert_eq!((&*name, &*key), ("row", "short"));
    node.kill();
    let node = Node::start(dir.path(), &[]);
    table(dir.path(), &["set", "t", "after", "v"]);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let (name, key, _) = event(&watch);
        // What was seen may be told again.
        let again = name == "row" && (key == "short" || key == "before");
        if !again {
            seen.push(format!("{name} {key}"));
        }
    }
    seen.sort();
    assert_eq!(seen, ["gone short", "row after"]);
    // The id of an event is where another one goes on.
    let watch = Follower::start(dir.path(), &["table", "watch", "t", "--after", &id]);
    let mut lines = vec![watch.line()];
    while lines.len() < 2 || !lines.contains(&"row\tafter\tv".to_owned()) {
        lines.push(watch.line());
    }
    assert!(!lines.contains(&"reset".to_owned()), "{lines:?}");
    assert!(node.stop().success());
}

#[test]
fn a_node_that_stops_ends_its_streams_and_the_watch_waits_for_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    table(dir.path(), &["create", "t"]);
    let watch = Follower::start(dir.path(), &["table", "watch", "t", "--after", "0"]);
    assert_eq!((&*watch.line(), &*watch.line()), ("reset", "complete"));
    let stopping = std::time::Instant::now();
    assert!(node.stop().success());
    assert!(
        stopping.elapsed().as_secs() < 5,
        "a stream held the node up"
    );
    let _node = Node::start(dir.path(), &[]);
    table(dir.path(), &["set", "t", "k", "v"]);
    assert_eq!(watch.line(), "row\tk\tv");
}

#[test]
fn a_watch_ends_when_nobody_reads_it_and_prints_what_has_the_prefix() {
    let dir = tempfile::tempdir().expect("a directory");
    let _node = Node::start(dir.path(), &[]);
    table(dir.path(), &["create", "t"]);
    for key in ["a/1", "b/1", "b/2"] {
        table(dir.path(), &["set", "t", key, "v"]);
    }
    let start = |output: Stdio| {
        Command::new(env!("CARGO_BIN_EXE_grapevine"))
            .args([
                "table",
                "watch",
                "t",
                "--after",
                "0",
                "--prefix",
                "b/",
                "--data-dir",
            ])
            .arg(dir.path())
            .env_remove("GRAPEVINE_NODE")
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .expect("it runs")
    };
    let path = dir.path().join("changes");
    let mut to_file = start(File::create(&path).expect("a file").into());
    let mut watch = start(Stdio::piped());
    let mut output = BufReader::new(watch.stdout.take().expect("a pipe"));
    let mut read = String::new();
    while read.matches('\n').count() < 4 {
        output.read_line(&mut read).expect("text");
    }
    assert_eq!(read, "reset\nrow\tb/1\tv\nrow\tb/2\tv\ncomplete\n");
    // Nothing changes meanwhile.
    drop(output);
    let ended = wait_for("the watch to end", || watch.try_wait().expect("waited for"));
    assert!(ended.success(), "{ended}");
    // A file takes whatever comes.
    table(dir.path(), &["set", "t", "a/2", "v"]);
    table(dir.path(), &["set", "t", "b/3", "v"]);
    wait_for("the change to be in the file", || {
        let text = std::fs::read_to_string(&path).expect("text");
        (text == format!("{read}row\tb/3\tv\n")).then_some(())
    });
    assert!(to_file.try_wait().expect("waited for").is_none());
    to_file.kill().expect("killed");
    to_file.wait().expect("ended");
}
