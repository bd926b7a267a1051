//! What is sent, and how: with a client that records it in the place of `hbbpc`.

use std::io::Read;

use grapevine::gzip::{pack, unpack};
use grapevine_core::plain_table::merge;
use serde_json::Value;

use crate::reader::{bytes, vectors};
use crate::workbench::{Workbench, errors};

const VECTORS: &str = include_str!("../../../core/tests/vectors/p2ptbl_gossip.json");

/// The rows of a packet, unpacked by nothing of ours.
fn rows_of(payload: &[u8]) -> Vec<u8> {
    let mut rows = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(payload);
    decoder.read_to_end(&mut rows).expect("one whole member");
    rows
}

fn sorted(rows: &[u8]) -> Vec<&[u8]> {
    let mut rows: Vec<&[u8]> = rows.split_inclusive(|byte| *byte == b'\n').collect();
    rows.sort_unstable();
    rows
}

#[test]
fn packets_of_the_original_are_understood() {
    let payloads = vectors(VECTORS, "payloads");
    for vector in &payloads {
        let (payload, rows) = (bytes(&vector["gzip"]), bytes(&vector["rows"]));
        assert_eq!(unpack(&payload, rows.len()).expect("whole"), rows);
        assert_eq!(merge(&[&rows]), Ok(bytes(&vector["table"])));
        assert_eq!(rows_of(&pack(&rows).expect("in memory")), rows);
    }
    assert_eq!(payloads.len(), 40);
}

/// Which rows are drawn decides how many fit: where that is close, another draw comes to what the
/// original's came to.
const DRAWS_MAX: usize = 100;

#[test]
fn as_many_rows_are_sent_as_the_original_sends() {
    let mut compared = 0;
    for vector in vectors(VECTORS, "gossip") {
        let Some(lines) = vector["lines_seen"].as_array() else {
            continue;
        };
        let seen = (0..DRAWS_MAX).any(|_| lines.contains(&Value::from(sent_lines(&vector))));
        assert!(seen, "{}: never {lines:?}", vector["name"]);
        compared += 1;
    }
    assert_eq!(compared, 13);
}

/// Lets the table be sent once; how many rows there were in the packet, or none.
fn sent_lines(vector: &Value) -> usize {
    let name = vector["name"].as_str().expect("a name");
    let interface = vector["iface"].as_str().expect("an interface");
    let (table, size) = (bytes(&vector["table"]), vector["size"].as_u64());
    let size = size.expect("a size");
    let bench = Workbench::new();
    bench.install_client(0);
    bench.write(name, &table);
    let ended = bench.run(&["gossip", name, &size.to_string(), interface]);
    assert_eq!(bench.read(name), table);
    let Some((arguments, payload)) = bench.sent() else {
        assert_eq!(ended.status.code(), Some(1), "{name}");
        return 0;
    };
    assert_eq!(ended.status.code(), Some(0), "{name}");
    assert_eq!(arguments, format!("{interface}\np2ptbl/{name}\n-\n"));
    assert!(payload.len() as u64 <= size, "{name}");
    let rows = rows_of(&payload);
    let (rows, all) = (sorted(&rows), sorted(&table));
    assert!(
        rows.iter().all(|row| all.binary_search(row).is_ok()),
        "{name}"
    );
    // All of them, half, a quarter…
    assert!(
        (0..64).any(|halved| all.len() >> halved == rows.len()),
        "{name}"
    );
    rows.len()
}

#[test]
fn what_cannot_be_sent_is_told_as_by_the_original() {
    let mut compared = 0;
    for vector in vectors(VECTORS, "gossip")
        .iter()
        .filter(|vector| vector["args"].is_array())
    {
        let name = &vector["name"];
        let file = vector["file"].as_str().expect("a file");
        let bench = Workbench::new();
        bench.install_client(0);
        bench.write(file, bytes(&vector["table"]));
        let arguments = vector["args"].as_array().expect("arguments");
        let arguments = arguments.iter().filter_map(Value::as_str);
        let arguments: Vec<&str> = ["gossip", file].into_iter().chain(arguments).collect();
        let ended = bench.run(&arguments);
        assert_eq!(
            ended.status.code().map(Value::from),
            Some(vector["rc"].clone()),
            "{name}"
        );
        assert_eq!(ended.stdout, bytes(&vector["stdout"]), "{name}");
        let usage = errors(&ended).starts_with("Usage:");
        assert_eq!(Value::from(usage), vector["stderr_usage"], "{name}");
        assert_eq!(
            Value::from(bench.sent().is_some()),
            vector["sent"],
            "{name}"
        );
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn an_update_with_an_interface_sends_its_row() {
    let bench = Workbench::new();
    bench.install_client(0);
    bench.write("deep/hosts", "a\t5\tx\nb\t7\ty\n");
    let ended = bench.run(&["update", "deep/hosts", "b", "new\tcolumn", "eth0"]);
    assert!(ended.status.success(), "{}", errors(&ended));
    assert!(ended.stdout.is_empty() && ended.stderr.is_empty());
    let (arguments, payload) = bench.sent().expect("it was sent");
    assert_eq!(arguments, "eth0\np2ptbl/hosts\n-\n");
    let row = rows_of(&payload);
    let table = bench.read("deep/hosts");
    assert_eq!(table, [&b"a\t5\tx\n"[..], &row].concat());
    assert!(row.starts_with(b"b\t") && row.ends_with(b"\tnew\tcolumn\n"));
}

#[test]
fn rows_that_would_poison_others_stay_here() {
    let bench = Workbench::new();
    bench.install_client(0);
    let table = "\n\t5\tno key\na\t!\tx\nb\t9223372036854775808\ty\nc\t7\tz\nd\nshort\t3\n";
    bench.write("t", table);
    assert!(bench.run(&["gossip", "t", "500", "eth0"]).status.success());
    let (_, payload) = bench.sent().expect("it was sent");
    assert_eq!(
        sorted(&rows_of(&payload)),
        [&b"c\t7\tz\n"[..], b"short\t3\t\n"]
    );
    bench.write("t", "a\t!\tx\n");
    assert!(bench.run(&["gossip", "t", "500", "eth0"]).status.success());
    assert_eq!(bench.sent(), None);
}

#[test]
fn a_client_that_fails_is_told_and_where_there_is_none_the_program_sends_itself() {
    let bench = Workbench::new();
    bench.write("t", "a\t5\tx\n");
    let mut command = bench.command();
    command.env("PATH", bench.tables());
    let ended = command
        .args(["gossip", "t", "500", "no-such-link"])
        .output()
        .expect("it runs");
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        errors(&ended).contains("interface not found"),
        "{}",
        errors(&ended)
    );
    bench.install_client(7);
    for arguments in [
        ["gossip", "t", "500", "eth0", ""],
        ["update", "t", "a", "y", "eth0"],
    ] {
        let ended = bench.run(&arguments);
        assert_eq!(ended.status.code(), Some(7));
        assert!(
            errors(&ended).contains("hbbpc failed"),
            "{}",
            errors(&ended)
        );
    }
    let table = String::from_utf8(bench.read("t")).expect("text");
    assert!(
        table.starts_with("a\t") && table.ends_with("\ty\n"),
        "{table}"
    );
    assert_eq!(bench.files().len(), 1);
}
