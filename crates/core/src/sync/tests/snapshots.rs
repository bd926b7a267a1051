//! One rule, one test: snapshots, and bits that operations wait for.

use super::bench::{Bench, page};
use super::network::Network;
use super::toy::{layer, origin};
use crate::sync::limits::*;
use crate::sync::*;

/// Two nodes that are equal but for what the second missed, and whose logs were cut.
fn far_apart(lines: u64) -> Network {
    let mut network = Network::new(1, 2, 1 << 20);
    for line in 0..3000 {
        network.toys[0].set_bit(1, line, 3);
    }
    network.connect_all();
    network.settle(10_000).expect("two nodes meet");
    network.close(0, 1);
    network.run_until(network.now + 100);
    for line in 0..lines {
        network.toys[0].set_bit(1, line as u16, 77);
    }
    network.toys[0].import(30, &[(5, 5), (2000, 1)]);
    network.toys[0].add_file(3, (0..250).collect());
    let all = network.toys[0].live.applied.clone();
    network.toys[0].truncate(&all);
    assert_eq!(network.toys[0].log_length(), 0);
    network.toys[1].set_bit(1, 2900, 5);
    network.tally.events.clear();
    network
}

#[test]
fn a_snapshot_is_taken_where_no_log_reaches_back() {
    let mut network = far_apart(20);
    network.open(0, 1);
    let took = network.settle(20_000).expect("a snapshot mends it");
    assert!(took < 10_000, "{took} ms");
    assert_eq!(network.toys[1].adopted, 1);
    assert_eq!(network.tally.events["SnapshotFinished"], 1);
    assert_eq!(network.toys[1].live.files[&super::toy::file(3)].len(), 250);
}

#[test]
fn only_the_lines_that_differ_travel() {
    let mut network = far_apart(20);
    network.toys[0].sync();
    let before = network.tally.bytes;
    network.open(0, 1);
    network.settle(20_000).expect("a snapshot mends it");
    // 22 lines of 66 bytes, and the hashes of 1024 lines for each of the blocks that differ.
    let bytes = network.tally.bytes - before;
    assert!(bytes < 60_000, "{bytes} bytes for 22 lines");
}

#[test]
fn a_snapshot_goes_on_with_another_peer() {
    let mut network = Network::new(5, 3, 1 << 20);
    for number in 0..40 {
        network.toys[0].import(20 + number, &[(usize::from(number) * 50, 1)]);
    }
    network.open(0, 1);
    network.settle_some(&[0, 1], 60_000);
    for node in 0..2 {
        let all = network.toys[node].live.applied.clone();
        network.toys[node].truncate(&all);
    }
    network.open(0, 2);
    network.open(1, 2);
    while !network.tally.events.contains_key("SnapshotBegun") {
        network.run_until(network.now + 10);
    }
    network.run_until(network.now + 200);
    let from = (0..2).find(|node| {
        let status = network.machines[2].status(&network.toys[2]);
        let peer = |status: &&PeerStatus| status.peer == origin(*node);
        status
            .iter()
            .find(peer)
            .is_some_and(|s| s.snapshot.is_some())
    });
    network.close(from.expect("a snapshot runs"), 2);
    network.settle(30_000).expect("the other has it too");
    assert!(network.tally.events.contains_key("SnapshotMoved"));
    assert_eq!(network.toys[2].adopted, 1);
}

#[test]
fn bits_that_were_dropped_meanwhile_are_given_up() {
    let mut network = Network::new(5, 2, 1 << 20);
    network.toys[0].import(30, &[(1, 1)]);
    network.toys[0].put(1);
    network.toys[0].sync();
    network.toys[0].forget_layer(30);
    network.connect_all();
    while network.toys[1].given_up == 0 && network.now < 10_000 {
        network.run_until(network.now + 100);
    }
    assert_eq!(network.toys[1].given_up, 1);
    assert!(network.toys[1].live.values.contains(&1));
    assert_eq!(network.toys[1].live.layers[&layer(30)][1], [0; 8]);
}

#[test]
fn a_page_that_lies_ends_the_snapshot() {
    let mut bench = Bench::new();
    bench.join(1, &[(1, 5)]);
    bench.receive(1, Message::Behind);
    bench.after(PATIENCE_MS + 2 * REPAIR_MS);
    assert!(bench.events.contains(&Event::SnapshotBegun(origin(1))));
    bench.receive(
        1,
        Message::Page(Page {
            section: 1,
            after: vec![],
            next: None,
            bytes: vec![1; 9],
        }),
    );
    let refused = PageError::Rows { section: 1, at: 0 };
    assert!(
        bench
            .events
            .contains(&Event::PageRefused(origin(1), refused))
    );
    assert_eq!(bench.toy.adopted, 0);
}

#[test]
fn a_layer_that_goes_on_for_ever_ends_the_snapshot() {
    let mut bench = Bench::new();
    bench.toy.set_bit(1, 5, 5);
    bench.toy.sync();
    bench.join(1, &[(1, 5)]);
    bench.receive(1, Message::Behind);
    bench.after(PATIENCE_MS + 2 * REPAIR_MS);
    for (section, bytes) in [(1, vec![]), (2, vec![0, 1])] {
        bench.receive(
            1,
            Message::Page(Page {
                section,
                after: vec![],
                next: None,
                bytes,
            }),
        );
    }
    bench.receive(
        1,
        Message::Blocks {
            layer: layer(1),
            first: 0,
            blocks: BlockHashes {
                total: u32::MAX,
                hashes: vec![0; BLOCK_HASHES_MAX],
            },
        },
    );
    assert!(bench.events.contains(&Event::AnswerRefused(origin(1))));
    assert_eq!(bench.toy.adopted, 0);
}

/// A line that differs may have the hash of the one here, once.
#[test]
fn a_block_that_stays_different_is_asked_about_twice() {
    let mut bench = Bench::new();
    bench.toy.set_bit(1, 5, 5);
    bench.toy.sync();
    bench.join(1, &[(1, 5)]);
    bench.receive(1, Message::Behind);
    bench.after(PATIENCE_MS + 2 * REPAIR_MS);
    bench.receive(1, page(1, vec![]));
    bench.receive(1, page(2, vec![0, 1]));
    let blocks = |first, hashes| Message::Blocks {
        layer: layer(1),
        first,
        blocks: BlockHashes { total: 3, hashes },
    };
    let (layer, equal) = (layer(1), bench.toy.block_hashes(layer(1), 1, 2));
    let mut sent = bench.receive(1, blocks(0, vec![7]));
    let mut salts = Vec::new();
    for _ in 0..2 {
        let (_, Message::LinesRequest { block, salt, .. }) = sent[0].clone() else {
            panic!("{sent:?}");
        };
        salts.push(salt);
        let lines = BlockLines {
            hash: 7,
            lines: vec![],
        };
        sent = bench.receive(
            1,
            Message::Lines {
                layer,
                block,
                salt,
                lines,
            },
        );
    }
    assert_ne!(salts[0], salts[1]);
    let next = Message::BlocksRequest { layer, first: 1 };
    assert_eq!(sent, [(origin(1), next)]);
    bench.receive(
        1,
        blocks(1, equal.expect("it is there").expect("a layer").hashes),
    );
    assert_eq!(bench.toy.adopted, 1);
}

#[test]
fn a_snapshot_of_what_the_peer_lost_meanwhile_is_not_adopted() {
    let mut bench = Bench::new();
    bench.join(1, &[(1, 5)]);
    bench.receive(1, Message::Behind);
    bench.after(PATIENCE_MS + 2 * REPAIR_MS);
    bench.toy.forgotten = 0;
    bench.receive(1, page(1, vec![]));
    bench.tell(1, &[(1, 4)]);
    bench.receive(1, page(2, vec![]));
    assert!(bench.events.contains(&Event::SnapshotAbandoned(origin(1))));
    assert_eq!(bench.toy.adopted, 0);
    // Other operations may come under the numbers of those that it lost.
    assert_eq!(bench.toy.forgotten, 1);
    // The next one is for what it has now.
    bench.after(PATIENCE_MS + 2 * REPAIR_MS);
    bench.receive(1, page(1, vec![]));
    bench.receive(1, page(2, vec![]));
    assert_eq!(bench.toy.live.applied.get(origin(1)), 4);
}

#[test]
fn serving_a_snapshot_is_bounded() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    let after = vec![];
    let request = Message::PageRequest { section: 1, after };
    let mut answers = 0;
    for _ in 0..SERVED_BYTES_MAX / 100 {
        answers += bench.receive(1, request.clone()).len();
    }
    assert!(answers < SERVED_BYTES_MAX / 200, "{answers} answers");
    assert!(bench.events.contains(&Event::ServingLimited(origin(1))));
    bench.now += SERVE_PERIOD_MS;
    assert_eq!(bench.receive(1, request).len(), 1);
}

#[test]
fn a_comparison_is_over_once_all_is_in_that_the_peer_had_when_it_read_its_pages() {
    let mut bench = Bench::new();
    bench.machine.set_scrub(1000);
    bench.join(1, &[(1, 1)]);
    bench.receive(1, super::bench::run(1, 1, vec![super::bench::put(1)]));
    bench.after(1200);
    assert!(bench.events.contains(&Event::ScrubBegun(origin(1))));
    bench.machine.set_scrub(1 << 40);
    for section in [1, 2] {
        bench.receive(1, page(section, vec![]));
    }
    assert_eq!(bench.toy.adopted, 1);
    bench.tell(1, &[(1, 2)]);
    let confirm = |bench: &mut Bench| {
        let hash = fingerprint::versions_hash([(origin(1), 2, 2)]);
        let report = bench.report(1001, 2, 1 << 20, Content::Summary(hash));
        bench.receive(1, report);
    };
    confirm(&mut bench);
    bench.after(RETIRED_MS + 200);
    assert!(bench.toy.compared.is_empty(), "that may have been before");
    confirm(&mut bench);
    bench.after(1000);
    assert!(bench.toy.compared.is_empty(), "an operation is on its way");
    bench.receive(1, super::bench::run(1, 2, vec![super::bench::put(2)]));
    bench.after(200);
    assert_eq!(bench.toy.compared, [origin(1)]);
    bench.after(RETIRED_MS);
    assert_eq!(bench.toy.compared.len(), 1, "once");
}

#[test]
fn a_comparison_while_operations_are_lacking_is_not_taken_for_having_them() {
    let mut bench = Bench::new();
    bench.machine.set_scrub(300);
    bench.join(1, &[(1, 1)]);
    bench.after(500);
    assert!(bench.events.contains(&Event::ScrubBegun(origin(1))));
    for section in [1, 2] {
        bench.receive(1, page(section, vec![]));
    }
    assert_eq!(bench.toy.adopted, 0);
    assert_eq!(bench.toy.live.applied.get(origin(1)), 0);
}
