//! What a node reports of itself in its log: when it starts, when it serves nobody, and when its
//! configuration is read again.

mod harness;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use harness::{Client, Node, wait_for};
use rustix::process::{Pid, Signal, kill_process};

fn signal(node: &Node, signal: Signal) {
    let pid = i32::try_from(node.id()).expect("a process id");
    let pid = Pid::from_raw(pid).expect("a process id");
    kill_process(pid, signal).expect("it takes signals");
}

fn log_of(mut node: Node) -> String {
    signal(&node, Signal::TERM);
    assert!(node.wait().success());
    node.errors()
}

#[test]
fn the_log_says_what_a_banner_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &["node.name=vine"]);
    let bloomd = node.address("bloomd.tcp");
    let http = node.address("http.listen");
    let log = log_of(node);
    for part in [
        format!(
            "grapevine {} starts, with the data directory {}",
            env!("CARGO_PKG_VERSION"),
            directory.path().display()
        ),
        format!("bloomd.tcp listens on {bloomd}"),
        format!("http.listen listens on {http}"),
        "node vine (".to_owned(),
        " is ready\n".to_owned(),
    ] {
        assert!(log.contains(&part), "{part:?} is not in:\n{log}");
    }
}

/// Takes a default address, unless another program has it anyway.
fn take(port: u16) -> (Option<TcpListener>, Option<UdpSocket>) {
    let place = ("127.0.0.1", port);
    (TcpListener::bind(place).ok(), UdpSocket::bind(place).ok())
}

#[test]
fn a_node_that_would_serve_nobody_does_not_start() {
    let taken = [8673, 8674, 8675, 8676, 8000].map(take);
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .env_clear()
        .args(["serve", "--data-dir"])
        .arg(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    // As it was it would serve nobody for ever.
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("the node to end", || {
            child.try_wait().expect("it can be waited for")
        })
    }));
    drop(child.kill());
    let output = child.wait_with_output().expect("it ends");
    drop(taken);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(ended.expect("in time").code(), Some(1), "{said}");
    for key in [
        "group.listen",
        "bloomd.tcp",
        "bloomd.udp",
        "rmbd.udp",
        "http.listen",
    ] {
        let line = format!("grapevine: {key}: 127.0.0.1:");
        assert!(said.contains(&line), "{line} is not in:\n{said}");
    }
    assert!(
        said.contains("nobody would be served") && !said.contains("is ready"),
        "{said}"
    );
    assert!(!directory.path().join("listeners.json").exists());
}

#[test]
fn a_reload_names_what_waits_for_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
    };
    write("token", "hunter1\n");
    let head = "[http]\ntoken_file = \"token\"\n";
    write(
        "grapevine.toml",
        &format!("{head}[limits]\nline = \"1MiB\"\n"),
    );
    let node = Node::start(directory.path(), &[]);
    write("token", "hunter2\n");
    let now = "[node]\nlog = \"debug\"\n[limits]\nline = \"2MiB\"\n[filters]\ncapacity = \"20k\"\n";
    write("grapevine.toml", &format!("{head}{now}"));
    signal(&node, Signal::HUP);
    // The next signal is heeded when this one's work is done.
    wait_for("the new token to be taken up", || {
        let request = b"GET /api/v1/filters HTTP/1.1\r\nHost: localhost\r\n\
                        Authorization: Bearer hunter2\r\nConnection: close\r\n\r\n";
        let answer = Client::connect(node.address("http.listen")).exchange(request);
        answer.starts_with(b"HTTP/1.1 200").then_some(())
    });
    let log = log_of(node);
    for part in [
        "reloaded log level and secrets",
        "limits.line was \"1MiB\" and is \"2MiB\" now; the change takes effect when the node is \
         started again",
        "filters.capacity was 100000 and is 20000 now",
    ] {
        assert!(log.contains(part), "{part:?} is not in:\n{log}");
    }
    assert!(!log.contains("node.log was"), "it was taken up: {log}");
    assert_eq!(log.matches(" started again").count(), 2, "{log}");
    assert!(!log.contains("hunter"), "no secret is shown: {log}");
}
