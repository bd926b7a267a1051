//! Groups of whole nodes on loopback: real processes, real connections, real kills.

#[path = "../harness/mod.rs"]
mod harness;

#[cfg(target_os = "linux")]
mod clocks;
mod forks;
mod hostile;
mod import;
mod joining;
mod kept_in_memory;
mod liar;
mod lost_rows;
mod members;
mod refusal;
mod replacing;
mod replication;
mod secrets;
mod status;
mod tables;

use std::path::Path;
use std::process::{Command, Output};

use harness::{Node, wait_for};
use serde_json::Value;

/// A node named after its directory that joins others.
fn start(dir: &Path, join: &[&Node]) -> Node {
    start_with(dir, join, &[])
}

/// The same with more settings.
fn start_with(dir: &Path, join: &[&Node], settings: &[&str]) -> Node {
    start_as(dir, join, settings, &[])
}

/// The same with variables of the environment.
fn start_as(dir: &Path, join: &[&Node], settings: &[&str], variables: &[(&str, &Path)]) -> Node {
    let seeds: Vec<String> = join
        .iter()
        .map(|node| node.address("group.listen").to_string())
        .collect();
    let seeds = format!("group.join={}", seeds.join(","));
    let name = dir.file_name().expect("a name").to_string_lossy();
    let name = format!("node.name={name}");
    let mut all = vec![seeds.as_str(), name.as_str()];
    all.extend_from_slice(settings);
    Node::start_with_variables(dir, &all, variables)
}

/// Runs `grapevine` for a node.
fn grapevine(node: &Node, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(arguments)
        .arg("--data-dir")
        .arg(node.data_dir())
        .env_remove("GRAPEVINE_NODE")
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn status(node: &Node) -> Value {
    let output = grapevine(node, &["group", "status", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A member as a node sees it.
fn member(node: &Node, name: &str) -> Option<Value> {
    let status = status(node);
    let members = status["members"].as_array().expect("members");
    members.iter().find(|one| one["name"] == name).cloned()
}

/// Waits until a node is connected to so many others.
fn wait_for_peers(node: &Node, count: u64) {
    wait_for(&format!("{count} peers"), || {
        (status(node)["connected"] == count).then_some(())
    });
}

/// Waits until a node says that keys are in a filter.
fn wait_for_keys(node: &Node, filter: &str, keys: &[String]) {
    let mut client = node.bloomd();
    for key in keys {
        wait_for(&format!("{key} in {filter}"), || {
            (client.ask(&format!("c {filter} {key}")) == "Yes\n").then_some(())
        });
    }
}

fn wait_for_key(node: &Node, filter: &str, key: &str) {
    wait_for_keys(node, filter, &[key.to_owned()]);
}

/// Stops a node and gives what it logged.
fn log_of(mut node: Node) -> String {
    signal(&node, rustix::process::Signal::TERM);
    node.wait();
    node.errors()
}

fn signal(node: &Node, signal: rustix::process::Signal) {
    let pid = i32::try_from(node.id()).expect("a process id");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, signal).expect("it takes signals");
}
