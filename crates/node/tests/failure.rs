//! What ends a process, its writes or its connections, and what does not: a panic, a full disk, no file
//! descriptor, clients that do not read, a log that nobody reads, signals before it is ready.

mod harness;

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use harness::{Node, http, wait_for};

/// Set in the child only: this test runs its own executable again to watch it end.
const CHILD: &str = "GRAPEVINE_FAILURE_TEST_CHILD";

/// The number of the signal that `abort` raises.
const SIGABRT: i32 = 6;
/// Those of signals that a node heeds.
const SIGHUP: u64 = 1;
const SIGINT: u64 = 2;
const SIGTERM: u64 = 15;

#[test]
fn a_panic_in_any_thread_is_reported_and_aborts() -> Result<(), Box<dyn std::error::Error>> {
    if env::var_os(CHILD).is_some() {
        grapevine::failure::abort_on_panic();
        let worker = thread::Builder::new().name("wheelwright".to_owned());
        let ended = worker
            .spawn(|| panic!("the {} wheel came off", "third"))?
            .join();
        return Err(format!("the process went on after {ended:?}").into());
    }
    let child = Command::new(env::current_exe()?)
        .args([
            "--exact",
            "a_panic_in_any_thread_is_reported_and_aborts",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()?;
    let report = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.signal(), Some(SIGABRT), "{report}");
    for part in [
        concat!("grapevine ", env!("CARGO_PKG_VERSION"), " stopped"),
        "thread: wheelwright",
        "tests/failure.rs:",
        "message: the third wheel came off",
        "backtrace:",
        "Please send this text",
    ] {
        assert!(report.contains(part), "{part:?} is not in:\n{report}");
    }
    Ok(())
}

/// A terminal that was stopped, or a pipe: the harness reads none of it.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &[]);
    let mut client = node.bloomd();
    assert_eq!(client.ask("create f"), "Done\n");
    let dropped = "grapevine_log_lines_dropped_total ";
    let mut made = 0..;
    wait_for("lines to be dropped", || {
        // Each is a line of the log.
        for name in made.by_ref().take(1000) {
            client.send(format!("create f{name} in_memory=1\n").as_bytes());
        }
        for _ in 0..1000 {
            assert_eq!(client.line(), "Done\n");
        }
        let (status, metrics) = http(node.address("http.listen"), "GET /metrics", "");
        assert_eq!(status, 200);
        let line = metrics.lines().find_map(|line| line.strip_prefix(dropped));
        (line.expect("it is counted") != "0").then_some(())
    });
    assert_eq!(client.ask("s f key"), "Yes\n");
    let begun = Instant::now();
    assert!(node.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// It waits for a file that does not open, as in a long replay.
#[test]
fn signals_before_it_is_ready_are_heeded() {
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("identity");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.expect("it runs").success());
    let mut node = Node::spawn(directory.path(), &[]);
    let pid = rustix::process::Pid::from_raw(node.id().try_into().expect("an id"));
    let pid = pid.expect("an id");
    wait_for("signals to be caught", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).ok()?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
        let is_caught = |signal: u64| caught >> (signal - 1) & 1 == 1;
        [SIGHUP, SIGINT, SIGTERM]
            .into_iter()
            .all(is_caught)
            .then_some(())
    });
    let tell = |signal| rustix::process::kill_process(pid, signal).expect("it takes signals");
    tell(rustix::process::Signal::HUP);
    tell(rustix::process::Signal::TERM);
    assert!(node.wait().success());
    let log = node.errors();
    assert!(log.contains("stopped before it was ready"), "{log}");
}

/// Runs a command on a data directory; what it said on standard error, with its exit code.
fn command(directory: &Path, words: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(words)
        .arg("--data-dir")
        .arg(directory)
        .env_remove("GRAPEVINE_NODE")
        .output()
        .expect("it runs");
    let errors = String::from_utf8(output.stderr).expect("text");
    (output.status.code(), errors)
}

#[test]
fn a_command_gives_up_on_a_node_that_hangs() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &[]);
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.id()).expect("an id"));
    let tell = |signal| {
        rustix::process::kill_process(pid.expect("an id"), signal).expect("it takes signals");
    };
    tell(rustix::process::Signal::STOP);
    let (code, said) = command(
        directory.path(),
        &["filter", "list", "--answer-within", "1s"],
    );
    assert_eq!(code, Some(1), "{said}");
    let address = node.address("http.listen").to_string();
    assert!(
        said.contains(&address) && said.contains("within 1s (--answer-within)"),
        "{said}"
    );
    tell(rustix::process::Signal::CONT);
    assert_eq!(command(directory.path(), &["filter", "list"]).0, Some(0));
    let (code, said) = command(
        directory.path(),
        &["filter", "list", "--answer-within", "0s"],
    );
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn addresses_that_a_killed_node_left_lead_to_no_other() {
    let parent = tempfile::tempdir().expect("a directory");
    let [killed, other] = ["killed", "other"].map(|name| parent.path().join(name));
    let node = Node::start(&killed, &[]);
    assert_eq!(command(&killed, &["filter", "create", "mine"]).0, Some(0));
    let file = killed.join("listeners.json");
    node.kill();
    let words = ["filter", "create", "f"];
    let (code, said) = command(&killed, &words);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("no node runs on") && said.contains("lock"),
        "{said}"
    );
    // Another node has the port meanwhile.
    let node = Node::start(&other, &[]);
    std::fs::copy(other.join("listeners.json"), &file).expect("copied");
    let (code, said) = command(&killed, &words);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("is not the node of") && said.contains("killed"),
        "{said}"
    );
    assert_eq!(node.bloomd().exchange(b"list\n"), b"START\nEND\n");
    drop(node);
    let _again = Node::start(&killed, &[]);
    assert_eq!(command(&killed, &["filter", "info", "mine"]).0, Some(0));
}

#[test]
fn connections_take_no_descriptor_that_files_need() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = ["durability.sync=os", "filters.checkpoint_log=1MiB"];
    let mut node = Node::start_under("-n 128", directory.path(), &settings);
    let mut client = node.bloomd();
    assert_eq!(client.ask("create f"), "Done\n");
    assert_eq!(client.ask("s f key"), "Yes\n");
    assert_eq!(client.ask("flush"), "Done\n");
    assert_eq!(client.ask("close f"), "Done\n");
    let address = node.address("http.listen");
    // More than the process may have, of both kinds, that ask nothing and stay.
    let crowd: Vec<TcpStream> = ["http.listen", "bloomd.tcp"]
        .iter()
        .flat_map(|key| (0..150).map(|_| node.address(key)))
        .map(|address| TcpStream::connect(address).expect("the system queues it"))
        .collect();
    wait_for("a health check", || {
        (http(address, "GET /livez", "") == (200, "alive\n".to_owned())).then_some(())
    });
    let busy = wait_for("a refusal", || {
        let (status, said) = http(address, "GET /api/v1/filters", "");
        (status != 0).then_some((status, said))
    });
    assert_eq!(busy.0, 503, "{}", busy.1);
    assert_eq!(client.ask("c f key"), "Yes\n", "its file is read");
    for round in 0..40 {
        let keys: String = (0..2000).map(|key| format!(" {round}-{key}")).collect();
        let answer = client.ask(&format!("b f{keys}"));
        assert!(answer.starts_with("Yes"), "{answer}");
    }
    assert_eq!(client.ask("flush"), "Done\n", "a snapshot is taken");
    wait_for("a health check", || {
        (http(address, "GET /readyz", "").0 == 200).then_some(())
    });
    drop(crowd);
    wait_for("room again", || {
        (http(address, "GET /api/v1/filters", "").0 == 200).then_some(())
    });
    terminate(&mut node);
    let log = node.errors();
    assert!(log.contains("limits.connections is 4096"), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
}

/// SIGTERM, and waits for the end.
fn terminate(node: &mut Node) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(node.id()).expect("an id"));
    let pid = pid.expect("an id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it takes signals");
    node.wait();
}

/// Bytes of a row's values: a few dozen of them fill the log's segment up to the limit.
const VALUE_BYTES: usize = 30_000;

fn set_row(node: &Node, key: usize) -> u16 {
    let body = format!("{{\"values\":[\"{}\"]}}", "v".repeat(VALUE_BYTES));
    let request = format!("PUT /api/v1/tables/t/rows/k{key}");
    http(node.address("http.listen"), &request, &body).0
}

/// Everything that was acknowledged is told, and no change is taken.
fn serves_read_only(node: &Node, acknowledged: usize) {
    let address = node.address("http.listen");
    for key in 0..acknowledged {
        let (status, _) = http(address, &format!("GET /api/v1/tables/t/rows/k{key}"), "");
        assert_eq!(status, 200, "row k{key} of {acknowledged}");
    }
    let (status, _) = http(
        address,
        &format!("GET /api/v1/tables/t/rows/k{acknowledged}"),
        "",
    );
    assert_eq!(status, 404, "a row that was refused");
    let (status, page) = http(address, "GET /api/v1/tables/t/rows?limit=3", "");
    assert_eq!(status, 200, "{page}");
    let (status, exported) = http(address, "GET /api/v1/tables/t/export", "");
    assert_eq!(
        (status, exported.matches("\tv").count()),
        (200, acknowledged)
    );
    let mut client = node.bloomd();
    assert_eq!(client.ask("c f key"), "Yes\n");
    assert_eq!(client.ask("create g"), "Internal Error\n");
    assert_eq!(set_row(node, 0), 503);
    let (status, said) = http(address, "GET /readyz", "");
    assert_eq!(status, 503);
    assert!(said.contains("restart the node"), "{said}");
    assert_eq!(http(address, "GET /livez", "").0, 200);
}

/// The one line that says that the node takes no more writes.
fn told_once(mut node: Node) {
    terminate(&mut node);
    let log = node.errors();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    let of_this = told
        .iter()
        .filter(|line| line.contains("read-only from now on"));
    assert_eq!(of_this.count(), 1, "{log}");
    let line = told[0];
    assert!(
        line.contains("log segment") && line.contains("restart the node"),
        "{line}"
    );
}

#[test]
fn a_full_disk_ends_writes_alone_and_a_node_starts_on_one() {
    for sync in ["os", "interval", "always"] {
        let directory = tempfile::tempdir().expect("a directory");
        let setting = format!("durability.sync={sync}");
        let settings = [setting.as_str()];
        // Blocks of 512 bytes.
        let full = "-f 2048";
        let node = Node::start_under(full, directory.path(), &settings);
        let address = node.address("http.listen");
        assert_eq!(http(address, "PUT /api/v1/tables/t", "").0, 201);
        let mut client = node.bloomd();
        assert_eq!(client.ask("create f"), "Done\n");
        assert_eq!(client.ask("s f key"), "Yes\n");
        let acknowledged = (0..)
            .find(|key| set_row(&node, *key) != 200)
            .expect("an end");
        assert!(acknowledged > 10, "{acknowledged}");
        serves_read_only(&node, acknowledged);
        told_once(node);
        // Nothing of what a start writes to the log has room.
        let node = Node::start_under("-f 8", directory.path(), &settings);
        serves_read_only(&node, acknowledged);
        told_once(node);
        let node = Node::start(directory.path(), &settings);
        assert_eq!(set_row(&node, acknowledged), 200, "there is room again");
        assert!(node.stop().success());
    }
}

/// The most memory that a process had at a time, in bytes.
fn peak(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes << 10)
}

/// Clients that send requests and take no answer.
fn crowd(address: std::net::SocketAddr, count: usize, requests: &str) -> Vec<TcpStream> {
    let connect = || {
        let mut stream = TcpStream::connect(address).expect("it accepts connections");
        stream.set_nonblocking(true).expect("it can be set");
        // What the system takes of them now is enough.
        drop(stream.write_all(requests.as_bytes()));
        stream
    };
    (0..count).map(|_| connect()).collect()
}

#[test]
fn clients_that_do_not_read_hold_a_bounded_amount_and_nobody_up() {
    const LIMIT: u64 = 64 << 20;
    let directory = tempfile::tempdir().expect("a directory");
    let settings = [
        "limits.memory=64MiB",
        "limits.write_timeout=4s",
        "durability.sync=os",
    ];
    let node = Node::start(directory.path(), &settings);
    let (bloomd, address) = (node.address("bloomd.tcp"), node.address("http.listen"));
    let mut client = node.bloomd();
    for number in 0..600 {
        let name = format!("{number:0>150}");
        client.send(format!("create {name} capacity=20000 prob=0.09\n").as_bytes());
    }
    for _ in 0..600 {
        assert_eq!(client.line(), "Done\n");
    }
    assert_eq!(http(address, "PUT /api/v1/tables/t", "").0, 201);
    let rows: String = (0..1000)
        .map(|key| format!("k{key:04}\t1\t{}\n", "v".repeat(240)))
        .collect();
    assert_eq!(http(address, "POST /api/v1/tables/t/import", &rows).0, 200);
    let before = peak(&node);
    // Each could be sent hundreds of megabytes.
    let lists = crowd(bloomd, 40, &"list\n".repeat(500));
    let request = "GET /api/v1/tables/t/rows HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let pages = crowd(address, 60, &request.repeat(60));
    let stalled = || {
        let (_, text) = http(address, "GET /metrics", "");
        ["bloomd", "http"].iter().all(|gateway| {
            let name = format!("grapevine_{gateway}_connections_stalled_total ");
            let count = text.lines().find_map(|line| line.strip_prefix(&name));
            count.is_some_and(|count| count != "0")
        })
    };
    let mut slowest = Duration::ZERO;
    wait_for("clients to be given up", || {
        let asked = Instant::now();
        assert_eq!(client.ask("c 0 key"), "Filter does not exist\n");
        slowest = slowest.max(asked.elapsed());
        assert_eq!(http(address, "GET /livez", "").0, 200);
        stalled().then_some(())
    });
    let taken = peak(&node) - before;
    assert!(taken < LIMIT, "{} MiB more than before", taken >> 20);
    assert!(
        slowest < Duration::from_secs(5),
        "another waited for {slowest:?}"
    );
    drop((lists, pages));
    // Who reads gets all of it.
    client.send(b"list\n");
    let listed = std::iter::from_fn(|| Some(client.line())).take_while(|line| line != "END\n");
    assert_eq!(listed.count(), 601);
    let (status, page) = http(address, "GET /api/v1/tables/t/rows", "");
    assert_eq!((status, page.matches("\"key\"").count()), (200, 1000));
    assert!(node.stop().success());
}
