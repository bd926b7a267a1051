//! Whole nodes: what `grapevine serve` keeps, and what the members of a group have in common.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use grapevine_core::bitmap::ROW_BITS;
use grapevine_core::wire::rmbd::{Message, parse, positions};
use rustix::process::Signal;

use crate::gateway::Client;
use crate::harness::{Client as Connection, Node, wait_for};
use crate::program;

/// Bits of a filter of five rows.
const FIVE_ROWS: u16 = 2000;
/// Bits of a filter of twenty rows.
const TWENTY_ROWS: u16 = 8000;

fn rmbd(node: &Node) -> Client {
    Client::of(node.address("rmbd.udp"))
}

/// A node that joins another.
fn join(directory: &Path, other: &Node, settings: &[&str]) -> Node {
    let join = format!("group.join={}", other.address("group.listen"));
    let mut all = vec![join.as_str()];
    all.extend_from_slice(settings);
    Node::start(directory, &all)
}

/// Adds a key and waits until the node vouches for it.
fn add(client: &Client, key: &[u8]) {
    client.add(key);
    assert!(client.has(key), "what was added before is in the answer");
}

/// The bits that a node sends to a peer that names itself.
fn shown(node: &Node, rows: usize) -> BTreeSet<u16> {
    let peer = rmbd(node);
    peer.peer(peer.address());
    let mut bits = BTreeSet::new();
    for _ in 0..rows {
        let datagram = peer.receive();
        let Some(Message::Sync { row, bits: columns }) = parse(&datagram) else {
            panic!("a row was expected");
        };
        let set = (0..).zip(columns).filter(|(_, byte)| **byte != 0);
        bits.extend(set.map(|(column, _)| row * ROW_BITS as u16 + column));
    }
    bits
}

/// The bits of keys in a filter of so many bits.
fn bits_of(keys: &[&[u8]], bits: u16) -> BTreeSet<u16> {
    keys.iter().flat_map(|key| positions(key, bits)).collect()
}

#[test]
fn keys_outlive_a_kill_at_every_durability() {
    for sync in ["os", "interval", "always"] {
        let directory = tempfile::tempdir().expect("a directory");
        let setting = format!("durability.sync={sync}");
        let node = Node::start(directory.path(), &[&setting]);
        let client = rmbd(&node);
        let keys: Vec<String> = (0..20).map(|number| format!("{number}/key")).collect();
        keys.iter().for_each(|key| add(&client, key.as_bytes()));
        let before = shown(&node, 5);
        node.kill();
        let node = Node::start(directory.path(), &[&setting]);
        let client = rmbd(&node);
        for key in &keys {
            assert!(client.has(key.as_bytes()), "{key} with {sync}");
        }
        assert_eq!(shown(&node, 5), before, "{sync}");
        assert!(node.stop().success());
        let node = Node::start(directory.path(), &["rmbd.udp=off"]);
        let listeners = directory.path().join("listeners.json");
        let listeners = std::fs::read_to_string(listeners).expect("the file");
        assert!(!listeners.contains("rmbd"), "{listeners}");
        assert!(node.stop().success());
        let node = Node::start(directory.path(), &[]);
        assert_eq!(
            shown(&node, 5),
            before,
            "after a snapshot, without a gateway"
        );
    }
}

#[test]
fn nodes_of_a_group_have_each_others_keys_without_peering() {
    let directory = tempfile::tempdir().expect("a directory");
    let a = Node::start(&directory.path().join("a"), &[]);
    add(&rmbd(&a), b"from a, alone");
    let b = join(&directory.path().join("b"), &a, &[]);
    rmbd(&b).wait_for_key(b"from a, alone");
    add(&rmbd(&b), b"from b");
    rmbd(&a).wait_for_key(b"from b");
    add(&rmbd(&a), b"a later one");
    rmbd(&b).wait_for_key(b"a later one");
    assert_eq!(shown(&a, 5), shown(&b, 5));
    let mut http = Connection::connect(a.address("http.listen"));
    http.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let lines = std::iter::from_fn(|| Some(http.line()).filter(|line| !line.is_empty()));
    let lines: BTreeSet<String> = lines.collect();
    assert!(lines.contains("grapevine_rmbd_adds_total 2\n"));
    let timed = "grapevine_rmbd_command_duration_seconds_count{command=\"add\"} 2\n";
    assert!(lines.contains(timed), "{lines:?}");
    // What one was told while the other was away reaches it.
    let b_dir = b.data_dir().to_owned();
    b.kill();
    add(&rmbd(&a), b"while b was away");
    let b = join(&b_dir, &a, &[]);
    rmbd(&b).wait_for_key(b"while b was away");
    assert!(rmbd(&b).has(b"from b"));
}

#[test]
fn an_rmbd_that_peers_with_one_member_is_filled_by_all_and_fills_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let a = Node::start(&directory.path().join("a"), &[]);
    let b = join(&directory.path().join("b"), &a, &[]);
    let address = SocketAddr::from(([127, 0, 0, 1], program::free_port()));
    let (child, original) = program::start(directory.path(), &address.to_string(), address);
    add(&rmbd(&b), b"from b");
    add(&original, b"from the original");
    // Each is told to send to the other; nobody tells b.
    rmbd(&a).peer(address);
    original.peer(a.address("rmbd.udp"));
    original.wait_for_key(b"from b");
    rmbd(&a).wait_for_key(b"from the original");
    rmbd(&b).wait_for_key(b"from the original");
    add(&rmbd(&b), b"from b, later");
    original.wait_for_key(b"from b, later");
    let output = program::stop(child, Signal::TERM);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn members_with_different_rows_lose_nothing_and_mix_nothing_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let a_dir = directory.path().join("a");
    let a = Node::start(&a_dir, &[]);
    let b = join(&directory.path().join("b"), &a, &["rmbd.rows=20"]);
    let (at_a, at_b): ([&[u8]; 2], [&[u8]; 2]) =
        ([b"of a", b"and this"], [b"of b", b"something else"]);
    at_a.iter().for_each(|key| add(&rmbd(&a), key));
    at_b.iter().for_each(|key| add(&rmbd(&b), key));
    let mut all = bits_of(&at_a, FIVE_ROWS);
    all.extend(bits_of(&at_b, TWENTY_ROWS));
    let of_five: BTreeSet<u16> = all.range(..FIVE_ROWS).copied().collect();
    assert!(of_five.len() < all.len(), "b has bits that a does not show");
    wait_for("the bits at a", || (shown(&a, 5) == of_five).then_some(()));
    wait_for("the bits at b", || (shown(&b, 20) == all).then_some(()));
    for key in at_b {
        assert!(rmbd(&b).has(key));
        let by_chance = positions(key, FIVE_ROWS)
            .iter()
            .all(|bit| of_five.contains(bit));
        assert_eq!(rmbd(&a).has(key), by_chance);
    }
    for key in at_a {
        assert!(rmbd(&a).has(key));
    }
    // A row that a does not show is not taken from an rmbd either.
    let client = rmbd(&a);
    let row = grapevine_core::wire::rmbd::encode_sync(7, &[true; ROW_BITS]);
    client.send(&row);
    assert!(!client.has(b"nobody's"), "the row is not acknowledged");

    assert!(a.stop().success());
    drop(b);
    let a = Node::start(&a_dir, &["rmbd.rows=20"]);
    assert_eq!(shown(&a, 20), all, "a has carried all of them along");
    for key in at_b {
        assert!(rmbd(&a).has(key));
    }
    a.kill();
    let a = Node::start(&a_dir, &[]);
    assert_eq!(shown(&a, 5), of_five);
}
