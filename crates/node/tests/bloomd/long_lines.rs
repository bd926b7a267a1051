//! Lines of megabytes, and more than there may be.

use super::harness::{Client, Node, wait_for};
use super::node;

#[test]
fn a_line_over_the_limit_is_refused_and_the_connection_goes_on() {
    const TOO_LONG: &str = "Client Error: Line too long\n";
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &["limits.line=200KiB"]);
    let mut client = node.bloomd();
    assert_eq!(client.ask("create foo"), "Done\n");
    let key = "k".repeat(201 << 10);
    let keys = "k ".repeat(101 << 10);
    for line in [
        format!("s foo {key}"),
        format!("b foo {keys}"),
        format!("m nope {keys}"),
        format!("b foo a {key}"),
        key,
        keys,
    ] {
        let request = format!("c foo {line:.1}\n{line}\nc foo {line:.1}\n");
        client.send(request.as_bytes());
        let answers = [client.line(), client.line(), client.line()];
        assert_eq!(answers[1], TOO_LONG, "{line:.10}");
        assert!(answers[0].len() < 5 && answers[2].len() < 5, "{answers:?}");
        // The error comes before the end of the line, of which there may be none.
        client.send(line.as_bytes());
        client.send(b"more");
        assert_eq!(client.line(), TOO_LONG, "{line:.10}");
        client.send(b"\n");
    }
    assert_eq!(client.ask("s foo short"), "Yes\n");
}

/// What the public npm client's own tests send as one line, and what no other client should be
/// refused.
#[test]
fn a_request_of_megabytes_is_answered_as_its_keys_are() {
    let (_directory, node) = node();
    let mut client = node.bloomd();
    assert_eq!(client.ask("create foo capacity=1000000"), "Done\n");
    assert_eq!(client.ask("b foo key-7 key-300000"), "Yes Yes\n");
    let keys: Vec<String> = (0..300_000).map(|key| format!("key-{key}")).collect();
    let keys = keys.join(" ");
    let long = "l".repeat(3 << 20);
    assert!(keys.len() > 2 << 20);
    let request = format!(
        "c foo key-7\nb foo {keys}\nm foo {keys}  absent \nb nope {keys}\ns foo {long}\n\
         c foo {long}\nc foo {long}x\nc foo key-8\n"
    );
    client.send(request.as_bytes());
    assert_eq!(client.line(), "Yes\n");
    let set = client.line();
    let answers: Vec<&str> = set.trim_end().split(' ').collect();
    let new = answers.iter().filter(|answer| **answer == "Yes").count();
    assert_eq!((answers.len(), answers[7]), (300_000, "No"));
    assert!(new > 299_800, "{new} were new");
    let seen = client.line();
    assert_eq!(seen, "Yes ".repeat(300_000) + "No No\n");
    assert_eq!(client.line(), "Filter does not exist\n");
    let rest = [(); 4].map(|()| client.line());
    assert_eq!(rest, ["Yes\n", "Yes\n", "No\n", "Yes\n"]);
}

#[test]
fn a_long_request_is_against_the_filter_that_it_began_with() {
    let (_directory, node) = node();
    let (mut client, mut other) = (node.bloomd(), node.bloomd());
    assert_eq!(client.ask("create foo capacity=1000000"), "Done\n");
    let keys = |from: u32| {
        let keys: Vec<String> = (from..from + 20_000)
            .map(|key| format!("key-{key}"))
            .collect();
        keys.join(" ")
    };
    client.send(format!("b foo {}", keys(0)).as_bytes());
    // Its keys are set before its line ends, but for the last, which may not have.
    wait_for("the keys to be set", || {
        (other.ask("m foo key-0 key-10000") == "Yes Yes\n").then_some(())
    });
    assert_eq!(other.ask("close foo"), "Done\n");
    client.send(format!("0 {}\n", keys(20_000)).as_bytes());
    let answers = client.line();
    assert_eq!(answers.split(' ').count(), 40_000);
    assert_eq!(other.ask("m foo key-19999 key-199990"), "No Yes\n");
    client.send(format!("m foo {} ", keys(0)).as_bytes());
    assert_eq!(other.ask("drop foo"), "Done\n");
    client.send(format!("{}\nlist\n", keys(0)).as_bytes());
    assert_eq!(client.line(), "Filter does not exist\n");
    assert_eq!(
        (client.line(), client.line()),
        ("START\n".into(), "END\n".into())
    );
}

/// A key has to be in memory as a whole. Where its share of that is used up, the node answers with
/// an error instead of taking more.
#[test]
fn lines_that_fill_their_share_of_memory_are_refused_and_short_ones_are_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &["limits.memory=16MiB"]);
    let (mut client, mut other) = (node.bloomd(), node.bloomd());
    assert_eq!(client.ask("create foo capacity=20000"), "Done\n");
    let key = "k".repeat(4 << 20);
    client.send(format!("s foo {key}").as_bytes());
    assert_eq!(other.ask("s foo short"), "Yes\n");
    client.send(b"\nc foo short\n");
    assert_eq!(client.line(), "Internal Error\n");
    assert_eq!(client.line(), "Yes\n");
    // It gave back what it held.
    let key = "k".repeat(400 << 10);
    assert_eq!(client.ask(&format!("s foo {key}")), "Yes\n");
}

#[test]
fn unfinished_requests_for_many_keys_take_no_memory() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &["limits.memory=64MiB"]);
    assert_eq!(node.bloomd().ask("create foo"), "Done\n");
    let status = format!("/proc/{}/status", node.id());
    let resident_kib = || -> u64 {
        let status = std::fs::read_to_string(&status).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let digits = line.and_then(|line| line.split_whitespace().nth(1));
        digits
            .and_then(|digits| digits.parse().ok())
            .expect("a number")
    };
    let before = resident_kib();
    let keys = "some-key-of-24-bytes-now ".repeat(200_000);
    let clients: Vec<Client> = (0..30)
        .map(|_| {
            let mut client = node.bloomd();
            client.send(b"m foo ");
            client.send(keys.as_bytes());
            client
        })
        .collect();
    // 150 MB have come; the kernel's buffers are not the node's.
    let grown = resident_kib().saturating_sub(before) >> 10;
    assert!(grown < 60, "it grew by {grown} MiB");
    for mut client in clients {
        client.send(b"end\n");
        let answer = client.line();
        assert_eq!(answer.split(' ').count(), 200_001);
    }
}
