//! A real node killed and restarted: nothing acknowledged is lost, at any durability.

mod harness;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::{Client, Node, wait_for};

/// Kills, with `kill -9`, in all: a few in the ordinary run, hundreds in `checks/kill`.
fn rounds() -> usize {
    std::env::var("KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(9)
}

const FILTERS: usize = 3;
const KEYS_PER_LINE: usize = 20;

/// Sets keys until the node is killed; gives the numbers of those that were acknowledged.
fn set_until_killed(mut client: Client, writer: usize, from: u64, killed: &AtomicBool) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    let mut next = from;
    while !killed.load(Ordering::Relaxed) {
        let keys: Vec<u64> = (next..next + KEYS_PER_LINE as u64).collect();
        next += KEYS_PER_LINE as u64;
        let line: String = keys.iter().map(|key| format!(" {writer}-{key}")).collect();
        let request = format!("b f{}{line}\n", writer % FILTERS);
        if client.try_send(request.as_bytes()).is_err() {
            break;
        }
        match client.try_line() {
            Some(answer) if answer.ends_with('\n') => {
                assert!(
                    answer.starts_with("Yes") || answer.starts_with("No"),
                    "{answer:?}"
                );
                acknowledged.extend(keys);
            }
            _ => break,
        }
    }
    acknowledged
}

fn all_there(node: &Node, ledger: &[Vec<u64>]) {
    let mut client = node.bloomd();
    for (writer, keys) in ledger.iter().enumerate() {
        for chunk in keys.chunks(500) {
            let line: String = chunk.iter().map(|key| format!(" {writer}-{key}")).collect();
            let answer = client.ask(&format!("m f{}{line}", writer % FILTERS));
            let lost = answer
                .split_whitespace()
                .filter(|token| *token != "Yes")
                .count();
            assert_eq!(lost, 0, "acknowledged keys of writer {writer} were lost");
            assert_eq!(answer.split_whitespace().count(), chunk.len());
        }
    }
}

fn killed_under_load(sync: &str, rounds: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let setting = format!("durability.sync={sync}");
    // Small snapshots and layers, so that kills fall into those too.
    let settings = [
        setting.as_str(),
        "filters.checkpoint_log=1MiB",
        "durability.interval=20ms",
    ];
    let writers = 4;
    let mut ledger: Vec<Vec<u64>> = vec![Vec::new(); writers];
    let mut moment = 7u64;
    for round in 0..rounds {
        let node = Node::start(directory.path(), &settings);
        let mut client = node.bloomd();
        for filter in 0..FILTERS {
            let created = client.ask(&format!("create f{filter} capacity=20000 prob=0.000001"));
            assert!(
                matches!(created.as_str(), "Done\n" | "Exists\n"),
                "{created:?}"
            );
        }
        all_there(&node, &ledger);
        let killed = AtomicBool::new(false);
        let clients: Vec<Client> = (0..writers).map(|_| node.bloomd()).collect();
        moment = moment
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let load = Duration::from_millis(20 + (moment >> 33) % 180);
        std::thread::scope(|scope| {
            let killed = &killed;
            let threads: Vec<_> = clients
                .into_iter()
                .enumerate()
                .map(|(writer, client)| {
                    let from = (round * 1_000_000) as u64;
                    scope.spawn(move || set_until_killed(client, writer, from, killed))
                })
                .collect();
            let start = Instant::now();
            wait_for("the moment to kill", || {
                (start.elapsed() >= load).then_some(())
            });
            node.kill();
            killed.store(true, Ordering::Relaxed);
            for (writer, thread) in threads.into_iter().enumerate() {
                ledger[writer].extend(thread.join().expect("a writer ends"));
            }
        });
    }
    let node = Node::start(directory.path(), &settings);
    all_there(&node, &ledger);
    let acknowledged: usize = ledger.iter().map(Vec::len).sum();
    println!("{sync}: {rounds} kills, {acknowledged} acknowledged keys, none lost");
    assert!(
        acknowledged > rounds * 100,
        "the load was no load: {acknowledged} keys"
    );
    assert!(node.stop().success());
    let node = Node::start(directory.path(), &settings);
    all_there(&node, &ledger);
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_at_os() {
    killed_under_load("os", rounds().div_ceil(3));
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_at_interval() {
    killed_under_load("interval", rounds().div_ceil(3));
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_at_always() {
    killed_under_load("always", rounds().div_ceil(3));
}

#[test]
fn probability_and_memory_kind_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &[]);
    let mut client = node.bloomd();
    assert_eq!(client.ask("create strict prob=0.0000001"), "Done\n");
    assert_eq!(client.ask("create volatile in_memory=1"), "Done\n");
    assert_eq!(client.ask("s volatile a"), "Yes\n");
    // The ports are others after a restart.
    let conf = |node: &Node| -> Vec<String> {
        let conf = String::from_utf8(node.bloomd().exchange(b"conf strict\n")).expect("text");
        let lines = conf.lines().filter(|line| !line.contains("port "));
        lines.map(str::to_owned).collect()
    };
    let before = conf(&node);
    let probability = "default_probability 1e-07".to_owned();
    assert!(before.contains(&probability), "{before:?}");
    assert!(node.stop().success());
    let node = Node::start(directory.path(), &[]);
    assert_eq!(before, conf(&node));
    assert_eq!(node.bloomd().ask("c volatile a"), "No\n");
}

#[test]
fn a_second_process_on_one_directory_is_told_who_has_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &[]);
    let listeners = std::fs::read(directory.path().join("listeners.json")).expect("a file");
    let mut second = Node::spawn(directory.path(), &[]);
    assert_eq!(second.wait().code(), Some(1));
    let errors = second.errors();
    assert!(
        errors.contains(&format!("another process (pid {})", node.id())),
        "{errors}"
    );
    std::fs::write(directory.path().join("listeners.json"), listeners).expect("written");
}

#[test]
fn a_configured_port_that_is_taken_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let mut node = Node::spawn(directory.path(), &[&format!("bloomd.tcp={address}")]);
    assert_eq!(node.wait().code(), Some(1));
    let errors = node.errors();
    assert!(errors.contains("bloomd.tcp: cannot listen on"), "{errors}");
}

#[test]
fn corrupt_files_are_named_and_the_node_does_not_start_on_them() {
    for file in ["identity", "manifest"] {
        let directory = tempfile::tempdir().expect("a directory");
        assert!(Node::start(directory.path(), &[]).stop().success());
        drop(std::fs::remove_file(
            directory.path().join("manifest.before"),
        ));
        let path = directory.path().join(file);
        let mut bytes = std::fs::read(&path).expect("the file");
        bytes[20] ^= 4;
        std::fs::write(&path, bytes).expect("written");
        let mut node = Node::spawn(directory.path(), &[]);
        assert_eq!(node.wait().code(), Some(1), "{file}");
        let errors = node.errors();
        assert!(errors.contains(&format!("{file} is corrupt")), "{errors}");
    }
}

#[test]
fn a_node_starts_on_the_manifest_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let node = Node::start(directory.path(), &[]);
    assert_eq!(node.bloomd().ask("create f"), "Done\n");
    assert_eq!(node.bloomd().ask("s f key"), "Yes\n");
    assert!(node.stop().success());
    std::fs::write(directory.path().join("manifest"), b"rubbish").expect("written");
    let node = Node::start(directory.path(), &[]);
    assert_eq!(node.bloomd().ask("c f key"), "Yes\n");
    assert!(node.stop().success());
}
