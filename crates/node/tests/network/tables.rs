//! Tables on a link: nodes that are no group, and a plain file kept by the applets, exchange rows
//! over link-local IPv6 alone.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use super::hbbp::LINK;
use super::process::Process;
use super::switch::Passing;
use super::*;

const TABLE: &str = "services";
/// Rows of a table that takes many packets.
const MANY: usize = 200;
/// The node's own loopback is enough: these nodes are no group.
const ALONE: &str = "127.0.0.1:8676";

/// Keeps an IPv6 address of the link's and no other, once it can be sent from: the kernel looks
/// first whether somebody else has it.
fn only_link_local(machine: &Machine) {
    machine
        .namespace
        .ip(&[format!("addr flush dev {LINK} scope global")]);
    within(DEADLINE, "an address of the link", || {
        let shown = machine.namespace.run(|| {
            let show = ["-6", "-o", "addr", "show", "dev", LINK, "scope", "link"];
            Command::new("ip").args(show).output().expect("ip is there")
        });
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        shown.contains("fe80") && !shown.contains("tentative")
    });
}

/// Starts a node that exchanges the table on the link.
fn start(machine: &Machine, keys: &Path) {
    machine.start(
        ALONE,
        &[],
        &[
            &format!("hbbp.interfaces={LINK}"),
            &format!("hbbp.tables={TABLE}"),
            &format!("hbbp.gossip={TABLE} 200ms 500"),
            &format!("hbbp.key_dir={}", keys.display()),
        ],
    );
}

fn row_path(key: &str) -> String {
    format!("/api/v1/tables/{TABLE}/rows/{key}")
}

fn set(machine: &Machine, key: &str, value: &str) {
    let body = json!({"values": [value]}).to_string();
    let answer = machine.http("PUT", &row_path(key), &body);
    let (status, said) = answer.expect("an answer");
    assert_eq!(status, 200, "{said}");
}

fn get(machine: &Machine, key: &str) -> Option<String> {
    let (status, said) = machine.http("GET", &row_path(key), "").expect("an answer");
    match status {
        200 => {
            let row: serde_json::Value = serde_json::from_str(&said).expect("JSON");
            Some(row["values"][0].as_str().expect("text").to_owned())
        }
        404 => None,
        other => panic!("{other}: {said}"),
    }
}

/// How many keys begin so, of rows that are not gone.
fn rows(machine: &Machine, prefix: &str) -> usize {
    let page = machine.json(&format!("/api/v1/tables/{TABLE}/rows?prefix={prefix}"));
    page["rows"].as_array().expect("a list").len()
}

/// A machine without a node: the applets keep a table in a file, and an hbbpd takes what comes.
struct PlainTable<'m> {
    machine: &'m Machine,
    directory: PathBuf,
    programs: PathBuf,
    keys: PathBuf,
    _daemon: Process,
}

impl<'m> PlainTable<'m> {
    fn new(machine: &'m Machine, directory: &Path, keys: &Path) -> Self {
        let directory = directory.join(format!("{}-plain", machine.name));
        let (handlers, programs) = (directory.join("p2ptbl"), directory.join("programs"));
        for made in [&handlers, &programs] {
            fs::create_dir_all(made).expect("made");
        }
        for name in ["hbbpc", "hbbpd", "p2ptbl", "p2ptbl-recv"] {
            symlink(env!("CARGO_BIN_EXE_grapevine"), programs.join(name)).expect("a link");
        }
        symlink(programs.join("p2ptbl-recv"), handlers.join(TABLE)).expect("a link");
        let log = directory.join("log");
        let line = format!(
            "{}/hbbpd {LINK} && echo listening >&2 && exec sleep 1000",
            programs.display()
        );
        let mut command = Process::command("unshare");
        command
            .args(["--pid", "--fork", "--kill-child=KILL", "sh", "-c", &line])
            .current_dir(&directory)
            .env("HBBP_KEYDIR", keys)
            .env("P2PTBL_DIR", directory.join("tables"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a log"));
        let daemon = Process::of(&machine.namespace, command);
        within(DEADLINE, "hbbpd to listen", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("listening"))
        });
        let plain = PlainTable {
            machine,
            directory,
            programs,
            keys: keys.to_owned(),
            _daemon: daemon,
        };
        assert!(plain.p2ptbl(&["init"], &[]).status.success());
        plain
    }

    fn file(&self) -> PathBuf {
        self.directory.join("tables").join(TABLE)
    }

    /// `p2ptbl COMMAND FILE ARGUMENTS…` as on a router, `hbbpc` being on its path.
    fn p2ptbl(&self, command: &[&str], arguments: &[&str]) -> Output {
        let mut process = Command::new(self.programs.join("p2ptbl"));
        process
            .args(command)
            .arg(self.file())
            .args(arguments)
            .env("PATH", &self.programs)
            .env("HBBP_KEYDIR", &self.keys)
            .stdin(Stdio::null());
        let run = move || process.output().expect("it runs");
        self.machine.namespace.run(run)
    }

    fn get(&self, key: &str) -> String {
        let got = self.p2ptbl(&["get"], &[key]);
        String::from_utf8_lossy(&got.stdout).trim_end().to_owned()
    }

    fn update(&self, key: &str, value: &str) {
        let said = self.p2ptbl(&["update"], &[key, value, LINK]);
        assert!(said.status.success(), "{said:?}");
    }

    /// What cron does on a router.
    fn gossip(&self) {
        let said = self.p2ptbl(&["gossip"], &["500", LINK]);
        assert!(said.status.success(), "{said:?}");
    }

    fn rows(&self, prefix: &str) -> usize {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().filter(|line| line.starts_with(prefix)).count()
    }
}

/// Everybody hears everybody, on good lines.
fn exchange(nodes: [&Machine; 3], plain: &PlainTable<'_>, round: &str) {
    let [a, b, c] = nodes;
    let (of_node, of_file) = (format!("node-{round}"), format!("file-{round}"));
    set(a, &of_node, "set on a");
    for node in [b, c] {
        within(DEADLINE, "a row of a node on the others", || {
            get(node, &of_node).as_deref() == Some("set on a")
        });
    }
    within(DEADLINE, "a row of a node in the file", || {
        plain.get(&of_node) == "set on a"
    });
    plain.update(&of_file, "from a file");
    for node in nodes {
        within(DEADLINE, "a row of the file on the nodes", || {
            plain.gossip();
            get(node, &of_file).as_deref() == Some("from a file")
        });
    }
    // Changed where it was not made, deleted where it was changed.
    set(c, &of_file, "changed on c");
    within(DEADLINE, "the change in the file", || {
        plain.get(&of_file) == "changed on c"
    });
    let (status, said) = c
        .http("DELETE", &row_path(&of_file), "")
        .expect("an answer");
    assert_eq!(status, 204, "{said}");
    within(DEADLINE, "the row to be empty in the file", || {
        plain.get(&of_file).is_empty()
    });
    assert_eq!(get(c, &of_file), None);
}

#[test]
fn nodes_and_a_plain_file_exchange_a_table_over_link_local_addresses() {
    let lab = Lab::new(["a", "b", "c", "d"]);
    let [a, b, c, d] = &lab.machines;
    let keys = lab.dir.path().join("keys");
    lab.machines.iter().for_each(only_link_local);
    for node in [a, b, c] {
        start(node, &keys);
    }
    let plain = PlainTable::new(d, lab.dir.path(), &keys);
    exchange([a, b, c], &plain, "plain");

    // Keys are read again for every packet: from now on all is sealed, and a stranger's is not taken.
    let default = keys.join("default");
    fs::create_dir_all(&default).expect("made");
    let made = Command::new(env!("CARGO_BIN_EXE_grapevine"))
        .args(["hbbp", "keygen"])
        .arg(&default)
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{made:?}");
    exchange([a, b, c], &plain, "sealed");
    let stranger = PathBuf::from(env!("CARGO_BIN_EXE_grapevine"));
    let before = b.metric("grapevine_hbbp_unopened_total");
    d.namespace.run(|| {
        let sent = Command::new(&stranger)
            .args(["hbbp", "send", LINK, "p2ptbl/services", "rows"])
            .env("HBBP_KEYDIR", lab.dir.path().join("no-keys"))
            .output()
            .expect("it runs");
        assert!(sent.status.success(), "{sent:?}");
    });
    within(DEADLINE, "it to be refused", || {
        b.metric("grapevine_hbbp_unopened_total") > before
    });

    // A table of many packets, a third of which are lost.
    lab.everywhere(|line| line.loss = 0.3);
    for number in 0..MANY {
        set(
            a,
            &format!("many-{number}"),
            &format!("value {number} of a"),
        );
    }
    for node in [b, c] {
        let took = within(LONG_DEADLINE, "all rows on the others", || {
            rows(node, "many-") == MANY
        });
        println!("{MANY} rows on {} after {took:?} of 30 % loss", node.name);
    }
    within(LONG_DEADLINE, "all rows in the file", || {
        plain.rows("many-") == MANY
    });
    lab.heal();

    // Who cannot be heard hears all the same.
    for other in [a, b, d] {
        lab.pass(c, other, Passing::Nothing);
    }
    set(c, "muffled", "said by c");
    set(a, "heard", "said by a");
    within(DEADLINE, "c to hear", || get(c, "heard").is_some());
    assert_eq!(get(a, "muffled"), None);
    lab.heal();
    within(DEADLINE, "c to be heard", || get(a, "muffled").is_some());
}

#[test]
fn a_group_bridges_links_and_tells_soon() {
    let lab = Lab::new(["near", "a", "b", "far"]);
    let [near, a, b, far] = &lab.machines;
    let keys = lab.dir.path().join("keys");
    // Two links: near and a, far and b. The group's members reach each other.
    for (one, other) in [(near, b), (near, far), (a, far)] {
        lab.pass(one, other, Passing::Nothing);
        lab.pass(other, one, Passing::Nothing);
    }
    let settings = [
        format!("hbbp.interfaces={LINK}"),
        format!("hbbp.tables={TABLE}"),
        format!("hbbp.gossip={TABLE} 60s 500"),
        format!("hbbp.key_dir={}", keys.display()),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    a.start(&a.over_v4(), &[], &settings);
    b.start(&b.over_v4(), &[&a.over_v4()], &settings);
    wait_for_group(&[a, b]);
    near.start(ALONE, &[], &settings);
    far.start(ALONE, &[], &settings);

    set(near, "bridged", "0");
    within(DEADLINE, "it to cross the group", || {
        get(far, "bridged").as_deref() == Some("0")
    });
    let mut times = Vec::new();
    for number in 1..=200 {
        let value = number.to_string();
        set(near, "bridged", &value);
        let started = Instant::now();
        while get(a, "bridged").as_ref() != Some(&value) {
            assert!(started.elapsed() < DEADLINE, "waited in vain for {value}");
        }
        times.push(started.elapsed());
    }
    times.sort_unstable();
    println!(
        "from an update to where it can be read on the same link: p50 {:?}, p99 {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    within(DEADLINE, "the last to cross the group", || {
        get(far, "bridged").as_deref() == Some("200")
    });
}
