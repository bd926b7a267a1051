//! A member that keeps to the protocol and sends what nobody should: rows that could not be written
//! down, and what only a newer version knows.

use grapevine_core::catalogue::{FilterId, FilterRow, Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::hash::Seed;
use grapevine_core::operation::{CatalogueChange, encode_change};
use grapevine_core::origin::Origin;
use grapevine_core::sync::{Message, Run};
use grapevine_core::version::Dot;
use grapevine_core::wire::group::Data;
use grapevine_net::Event;

use super::liar::{Honest, Liar, ORIGIN};
use super::*;

/// Nested as deep as the reader of an operation follows.
const DEPTH: usize = 1022;

/// The operation that makes a filter named `deep`, with a field of a newer version in it that is
/// nested deep.
fn deep_creation() -> Vec<u8> {
    let origin = Origin::new(ORIGIN);
    let parameters = Parameters {
        capacity: 1000,
        error: 0.001,
        growth: Growth::By(4),
    };
    let row = FilterRow {
        id: FilterId::new([7; 16]),
        created: Dot {
            origin,
            sequence: 1,
        },
        scope: Scope::Group,
        name: b"deep".to_vec(),
        parameters,
        seed: Seed::new([3; 16]),
        storage: Storage::Durable,
        layers: vec![],
        legacy: vec![],
        other: Default::default(),
    };
    let mut operation = Vec::new();
    encode_change(&mut operation, &CatalogueChange::Create(row));
    // Kind, then a small map: one more field.
    operation[1] += 1;
    operation.extend_from_slice(b"\xA5newer");
    operation.extend_from_slice(&[0x91; DEPTH]);
    operation.push(0xC0);
    operation
}

/// Answers the node's reports until `done`.
fn speak_until(liar: &mut Liar, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + harness::DEADLINE;
    while !done() {
        assert!(
            std::time::Instant::now() < deadline,
            "it does not come to pass"
        );
        let Event::Frame { bytes, .. } = liar.next() else {
            continue;
        };
        if let Ok(Data::Sync(bytes)) = Data::decode(&bytes)
            && let Ok(Message::Report(report)) = Message::decode(bytes)
        {
            liar.report(report.session, false);
        }
    }
}

#[test]
fn rows_that_could_not_be_written_down_keep_no_node_from_starting() {
    let honest = Honest::start(&[]);
    let mut liar = Liar::join(&honest.nodes[0], &honest.secret(), 10);
    liar.say(&Message::Operations {
        before: 0,
        run: Run {
            origin: Origin::new(ORIGIN),
            first: 1,
            operations: vec![deep_creation()],
        },
    });
    let there = |node: &Node| node.bloomd().ask("info deep").starts_with("START");
    speak_until(&mut liar, || there(&honest.nodes[0]));
    wait_for("the filter on the other", || {
        there(&honest.nodes[1]).then_some(())
    });
    drop(liar);
    honest.undisturbed("before");
    let secret = format!("group.secret_file={}", honest.secret().display());
    let Honest { dir, nodes, keys } = honest;
    for node in nodes {
        let place = node.data_dir().to_owned();
        assert_eq!(node.bloomd().ask("flush"), "Done\n");
        // With a snapshot of it, at the latest when it stops.
        assert!(node.stop().success());
        let again = Node::start(&place, &[&secret]);
        wait_for_keys(&again, "kept", &keys);
        assert!(there(&again));
    }
    drop(dir);
}

#[test]
fn what_only_a_newer_version_knows_is_passed_over() {
    let honest = Honest::start(&[]);
    let mut liar = Liar::join(&honest.nodes[0], &honest.secret(), 10);
    // A frame, and messages of both machines.
    for newer in [
        &b"\x77of a newer version"[..],
        b"\x00\xFFnews",
        b"\x03\xFEnews",
    ] {
        liar.send(newer.to_vec());
    }
    liar.say(&Message::Operations {
        before: 0,
        run: Run {
            origin: Origin::new(ORIGIN),
            first: 1,
            operations: vec![deep_creation()],
        },
    });
    let node = &honest.nodes[0];
    // What came after it on the same session is taken in: the session goes on.
    speak_until(&mut liar, || {
        node.bloomd().ask("info deep").starts_with("START")
    });
    honest.undisturbed("after");
    let [a, _b] = honest.nodes;
    let log = log_of(a);
    let said = log.matches("liar runs a newer version").count();
    assert_eq!(said, 1, "once:\n{log}");
    assert!(!log.contains("unknown kind"), "{log}");
}
