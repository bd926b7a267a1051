//! The bloomd gateway of a real node, byte for byte.

#[path = "../harness/mod.rs"]
mod harness;
mod long_lines;

use std::io::Write;
use std::net::UdpSocket;

use harness::{Client, Node, wait_for};

fn node() -> (tempfile::TempDir, Node) {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &[]);
    (directory, node)
}

fn exchange(node: &Node, request: &str) -> String {
    let answer = node.bloomd().exchange(request.as_bytes());
    String::from_utf8(answer).expect("text")
}

#[test]
fn every_command_answers_as_the_original_does() {
    let (_directory, node) = node();
    let transcript: &[(&str, &str)] = &[
        ("list\n", "START\nEND\n"),
        ("create foo\n", "Done\n"),
        ("create foo\n", "Exists\n"),
        ("create foo capacity=5\n", "Client Error: Bad arguments\n"),
        (
            "create b1 capacity=5 junk\n",
            "Client Error: Bad arguments\n",
        ),
        (
            "create two capacity=20000 prob=0.01 in_memory=1\n",
            "Done\n",
        ),
        ("create py 5000 0.01 on_disk\n", "Done\n"),
        ("create py2 999\n", "Client Error: Bad initial capacity!\n"),
        // No filter is made for less than 1e-15, whoever asks in whichever form.
        ("create less prob=1e-16\n", "Client Error: Bad arguments\n"),
        (
            "create less 20000 1e-16\n",
            "Client Error: Bad false positive probability!\n",
        ),
        (
            "create huge capacity=9000000000000000000\n",
            "Client Error: Bad arguments\n",
        ),
        ("s foo a\n", "Yes\n"),
        ("set foo a\n", "No\n"),
        ("s foo a\r\n", "No\n"),
        ("s foo a\r\r\n", "Yes\n"),
        ("s foo a b\n", "Yes\n"),
        ("c foo a b\n", "Yes\n"),
        ("c foo  a b\n", "No\n"),
        ("check foo a\n", "Yes\n"),
        ("b foo x y x\n", "Yes Yes No\n"),
        ("bulk foo p  q \n", "Yes Yes Yes\n"),
        ("m foo x z  y\n", "Yes No Yes Yes\n"),
        ("multi foo nope\n", "No\n"),
        ("c nope a\n", "Filter does not exist\n"),
        ("m nope a b c\n", "Filter does not exist\n"),
        (
            "s foo\n",
            "Client Error: Must provide filter name and key\n",
        ),
        ("s\n", "Client Error: Must provide filter name and key\n"),
        ("create\n", "Client Error: Must provide filter name\n"),
        ("drop foo extra\n", "Client Error: Unexpected arguments\n"),
        ("LIST\n", "Client Error: Command not supported\n"),
        (" list\n", "Client Error: Command not supported\n"),
        ("\n", "Client Error: Command not supported\n"),
        ("clear foo\n", "Filter is not proxied. Close it first.\n"),
        ("flush foo\n", "Done\n"),
        ("flush\n", "Done\n"),
        ("flush nope\n", "Filter does not exist\n"),
        ("close foo\n", "Done\n"),
        ("c foo a\nc foo b\n", "Yes\nNo\n"),
        (
            "close foo\nclear foo\nc foo a\n",
            "Done\nDone\nFilter does not exist\n",
        ),
        ("create foo\nc foo a\n", "Done\nYes\n"),
        ("drop foo\nc foo a\n", "Done\nFilter does not exist\n"),
        ("drop foo\n", "Filter does not exist\n"),
    ];
    for (request, reply) in transcript {
        assert_eq!(exchange(&node, request), *reply, "{request:?}");
    }
}

#[test]
fn info_and_list_show_what_the_original_shows() {
    let (_directory, node) = node();
    let mut client = node.bloomd();
    assert_eq!(
        client.ask("create zebra capacity=20000 prob=0.001"),
        "Done\n"
    );
    assert_eq!(client.ask("create apple"), "Done\n");
    assert_eq!(client.ask("b apple a b c"), "Yes Yes Yes\n");
    assert_eq!(client.ask("m apple a x"), "Yes No\n");
    let list = exchange(&node, "list\n");
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(
        (rows[1][0], rows[1][1], rows[1][3], rows[1][4]),
        ("apple", "0.000100", "100000", "3")
    );
    assert_eq!(
        (rows[2][0], rows[2][1], rows[2][3], rows[2][4]),
        ("zebra", "0.001000", "20000", "0")
    );
    assert_eq!(exchange(&node, "list z\n").lines().count(), 3);
    let info = exchange(&node, "info apple\n");
    let (names, values): (Vec<&str>, Vec<&str>) =
        info.lines().filter_map(|line| line.split_once(' ')).unzip();
    assert_eq!(
        names,
        [
            "capacity",
            "checks",
            "check_hits",
            "check_misses",
            "in_memory",
            "page_ins",
            "page_outs",
            "probability",
            "sets",
            "set_hits",
            "set_misses",
            "size",
            "storage"
        ]
    );
    assert_eq!(
        values[..12],
        [
            "100000", "2", "1", "1", "1", "0", "0", "0.000100", "3", "3", "0", "3"
        ]
    );
}

/// The C project's own test for this waits for the answer to come up within ten rounds.
#[test]
fn a_name_whose_files_are_being_removed_is_told_apart_and_comes_free() {
    let (_directory, node) = node();
    let mut client = node.bloomd();
    assert_eq!(client.ask("create foo"), "Done\n");
    assert_eq!(client.ask("drop foo"), "Done\n");
    assert_eq!(client.ask("create foo"), "Delete in progress\n");
    wait_for("the name to come free", || {
        (client.ask("create foo") == "Done\n").then_some(())
    });
    assert_eq!(client.ask("c foo a"), "No\n");
}

#[test]
fn names_are_never_paths() {
    let (directory, node) = node();
    let mut client = node.bloomd();
    for name in [
        "../../x",
        "a/b",
        "..",
        ".",
        "/etc/passwd",
        "caf\u{e9}",
        "a\u{0}b",
    ] {
        assert_eq!(client.ask(&format!("create {name}")), "Done\n", "{name:?}");
        assert_eq!(client.ask(&format!("s {name} key")), "Yes\n", "{name:?}");
    }
    assert_eq!(client.ask("flush"), "Done\n");
    assert!(!directory.path().join("../../x").exists());
    let long = "n".repeat(201);
    assert_eq!(
        client.ask(&format!("create {long}")),
        "Client Error: Bad filter name\n"
    );
}

#[test]
fn a_client_that_sends_everything_before_it_reads_is_served() {
    let (_directory, node) = node();
    let mut client = node.bloomd();
    assert_eq!(client.ask("create foo capacity=2000000"), "Done\n");
    let mut requests = Vec::new();
    for key in 0..1_000_000 {
        writeln!(requests, "s foo test{key}").expect("memory takes it");
    }
    let answer = node.bloomd().exchange(&requests);
    assert_eq!(
        answer.iter().filter(|byte| **byte == b'\n').count(),
        1_000_000
    );
    let new = answer
        .split(|byte| *byte == b'\n')
        .filter(|line| line == b"Yes")
        .count();
    assert!(new > 999_700, "{new} of a million were new");
}

#[test]
fn a_reader_that_does_not_read_is_held_back_and_its_lines_are_not_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &["limits.output=64KiB"]);
    let mut client = node.bloomd();
    assert_eq!(client.ask("create foo"), "Done\n");
    let lines = 400_000;
    let requests = "c foo some-key\n".repeat(lines);
    let address = node.address("bloomd.tcp");
    let answer = std::thread::spawn(move || Client::connect(address).exchange(requests.as_bytes()));
    let answer = answer.join().expect("all is answered");
    assert_eq!(answer, "No\n".repeat(lines).into_bytes());
}

#[test]
fn conf_shows_the_settings_of_the_python_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [
        "filters.error=0.00001",
        "filters.idle_unload=off",
        "durability.interval=250ms",
    ];
    let node = Node::start(directory.path(), &settings);
    let (tcp, udp) = (node.address("bloomd.tcp"), node.address("bloomd.udp"));
    let data_dir = directory.path().display();
    let (tcp, udp) = (tcp.port(), udp.port());
    let conf = |capacity: u32, error: &str, in_memory: u8, name: &str| {
        format!(
            "START\ncold_interval 0\ndata_dir {data_dir}\ndefault_probability {error}\n\
             flush_interval 0.25\nin_memory {in_memory}\ninitial_capacity {capacity}\n\
             log_level INFO\n{name}port {tcp}\nprobability_reduction 0.6\nscale_size 4\n\
             udp_port {udp}\nEND\n"
        )
    };
    assert_eq!(exchange(&node, "conf\n"), conf(100_000, "1e-05", 0, ""));
    assert_eq!(
        exchange(&node, "create foo 20000 0.001 in_memory\n"),
        "Done\n"
    );
    let shown = exchange(&node, "conf foo\n");
    assert_eq!(shown, conf(20_000, "0.001", 1, "name foo\n"));
    assert_eq!(exchange(&node, "conf nope\n"), "Filter does not exist\n");
}

/// Only the command line makes such filters; bloomd's clients must not take a full one for one
/// that knows their keys.
#[test]
fn a_full_filter_of_fixed_size_does_not_answer_no() {
    let (_directory, node) = node();
    let created = std::process::Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args([
            "filter",
            "create",
            "small",
            "--capacity",
            "3",
            "--error",
            "0.000001",
            "--fixed",
        ])
        .args(["--node", &format!("http://{}", node.address("http.listen"))])
        .output()
        .expect("the command runs");
    assert!(
        created.status.success(),
        "{}",
        String::from_utf8_lossy(&created.stderr)
    );
    let mut client = node.bloomd();
    assert_eq!(client.ask("b small a b c a"), "Yes Yes Yes No\n");
    assert_eq!(client.ask("s small d"), "Internal Error\n");
    assert_eq!(client.ask("b small a e b"), "Internal Error\n");
    assert_eq!(client.ask("b small a b"), "No No\n");
    assert_eq!(client.ask("m small a d"), "Yes No\n");
}

#[test]
fn datagrams_are_executed_and_not_answered() {
    let (_directory, node) = node();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let to = node.address("bloomd.udp");
    socket
        .send_to(b"create foo\n\r\n\ns foo a\nclose foo\ns foo b", to)
        .expect("sent");
    let mut client = node.bloomd();
    wait_for("the datagram to be executed", || {
        (client.ask("m foo a b c") == "Yes Yes No\n").then_some(())
    });
    socket
        .set_nonblocking(true)
        .expect("it can be made not to wait");
    let silence = socket.recv(&mut [0; 64]).expect_err("nothing is answered");
    assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn connections_over_the_limit_are_refused_and_the_others_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &["limits.connections=50"]);
    let mut first = node.bloomd();
    assert_eq!(first.ask("create foo"), "Done\n");
    let idle: Vec<Client> = (0..200).map(|_| node.bloomd()).collect();
    assert_eq!(first.ask("s foo a"), "Yes\n");
    drop(idle);
    wait_for("places to come free", || {
        let answer = node.bloomd().exchange_or_nothing(b"c foo a\n");
        (answer == b"Yes\n").then_some(())
    });
}

#[test]
fn what_is_not_understood_never_ends_the_node() {
    let (_directory, node) = node();
    let mut bytes: Vec<u8> = (0u32..200_000)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    bytes.push(b'\n');
    let answer = node.bloomd().exchange(&bytes);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(answer.iter().filter(|byte| **byte == b'\n').count(), lines);
    assert_eq!(exchange(&node, "list\n"), "START\nEND\n");
}

/// A browser posts a form of any page to any address, this machine's included.
#[test]
fn a_page_in_a_browser_runs_nothing() {
    let (_directory, node) = node();
    assert_eq!(exchange(&node, "create kept\n"), "Done\n");
    let form = "drop kept\r\n";
    let post = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1:8673\r\nContent-Type: text/plain\r\nContent-Length: \
         {}\r\n\r\n{form}",
        form.len()
    );
    let said = node.bloomd().exchange_or_nothing(post.as_bytes());
    assert_eq!(String::from_utf8_lossy(&said), "");
    // Whatever goes before the header is run, and nothing behind it.
    assert_eq!(
        exchange(&node, "close kept\n"),
        "Done\n",
        "to be loaded first"
    );
    let late = "c kept a\nHost: localhost\ndrop kept\n";
    let said = node.bloomd().exchange_or_nothing(late.as_bytes());
    assert_eq!(String::from_utf8_lossy(&said), "No\n");
    assert_eq!(exchange(&node, "c kept a\n"), "No\n", "it is there");
    let (_, metrics) = harness::http(node.address("http.listen"), "GET /metrics", "");
    let counted = "grapevine_bloomd_connections_foreign_total 2\n";
    assert!(metrics.contains(counted), "{metrics}");
    let log = log_of(node);
    let ended = "ended a bloomd connection: it speaks HTTP";
    assert!(log.contains(ended), "{log}");
}

#[test]
fn the_time_of_commands_is_counted_by_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &[]);
    let lines = "create f\ns f a\nset f b\nb f c d\nc f a\ncheck f z\nc f b\nm f a b\nlist\n\
                 info f\nflush f\nflush\nclose f\nc f a\nclear f\nconf\nnonsense f\ndrop f\n";
    exchange(&node, lines);
    let (_, metrics) = harness::http(node.address("http.listen"), "GET /metrics", "");
    let name = "grapevine_bloomd_command_duration_seconds";
    let mut all = 0;
    for (command, count) in [
        ("check", 4),
        ("multi", 1),
        ("set", 2),
        ("bulk", 1),
        ("create", 1),
        ("list", 1),
        ("drop", 1),
        ("close", 1),
        ("clear", 1),
        ("flush", 2),
        ("info", 1),
        ("conf", 1),
        ("unknown", 1),
    ] {
        let line = format!("{name}_count{{command=\"{command}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
        let sum = format!("{name}_sum{{command=\"{command}\"}} ");
        let sum = metrics.lines().find_map(|line| line.strip_prefix(&sum));
        let sum: f64 = sum.and_then(|sum| sum.parse().ok()).expect("a sum");
        assert!(sum > 0.0 && sum < 30.0, "{command}: {sum}");
        all += count;
    }
    let answered = format!("grapevine_bloomd_commands_total {all}\n");
    assert!(metrics.contains(&answered), "{answered}{metrics}");
}

/// What a node wrote until it was told to end.
fn log_of(mut node: Node) -> String {
    let pid = rustix::process::Pid::from_raw(node.id().try_into().expect("an id"));
    let term = rustix::process::Signal::TERM;
    rustix::process::kill_process(pid.expect("an id"), term).expect("it takes signals");
    node.wait();
    node.errors()
}

#[test]
fn who_makes_and_removes_filters_is_in_the_log() {
    let (_directory, node) = node();
    let address = node.address("http.listen");
    for request in [
        "create b", "s b key", "close b", "clear b", "create b", "drop b",
    ] {
        exchange(&node, &format!("{request}\n"));
    }
    for request in [
        "PUT /api/v1/filters/h",
        "PUT /api/v1/filters/h",
        "POST /api/v1/filters/h/flush",
        "DELETE /api/v1/filters/h",
        "DELETE /api/v1/filters/h",
        "PUT /api/v1/tables/t",
        "POST /api/v1/rows/forget",
    ] {
        harness::http(address, request, "");
    }
    let log = log_of(node);
    let wanted = [
        "created filter b (bloomd",
        "cleared filter b (bloomd",
        "created filter b (bloomd",
        "dropped filter b (bloomd",
        "created filter h (HTTP",
        "dropped filter h (HTTP",
        "created table t (HTTP",
    ];
    assert_eq!(acts(&log), wanted, "{log}");
}

/// What a log says was done, and the way it came, of what came from this machine.
fn acts(log: &str) -> Vec<&str> {
    log.lines()
        .filter_map(|line| line.split_once("grapevine::audit: "))
        .filter_map(|(_, act)| act.split_once(", from 127.0.0.1:"))
        .map(|(act, _)| act)
        .collect()
}

#[test]
fn who_brings_in_whole_files_is_in_the_log() {
    let (directory, node) = node();
    let data = node.data_dir().to_owned();
    let command = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_grapevine"))
            .args(words)
            .arg("--data-dir")
            .arg(&data)
            .env_remove("GRAPEVINE_NODE")
            .output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    let file = directory.path().join("file");
    let file = file.to_str().expect("text");
    command(&["filter", "create", "f"]);
    command(&["filter", "set", "f", "key"]);
    command(&["filter", "export", "f", file]);
    command(&["filter", "load", "g", file]);
    command(&["filter", "merge", "f", file]);
    std::fs::write(file, "k\t1\tv\n").expect("written");
    command(&["table", "create", "t"]);
    command(&["table", "import", "t", file]);
    let log = log_of(node);
    let wanted = [
        "created filter f (HTTP",
        "imported filter g (HTTP",
        "merged into filter f (HTTP",
        "created table t (HTTP",
        "imported rows into table t (HTTP",
    ];
    assert_eq!(acts(&log), wanted, "{log}");
}
