//! Operations of one origin whose histories part, from several peers.

use super::bench::{Bench, entry};
use super::toy::{AFTER, IMPORT, PUT, layer, origin};
use crate::history::History;
use crate::operation::encode_mark;
use crate::origin::Origin;
use crate::sync::replica::{Replica as _, Run};
use crate::sync::*;
use crate::version::Dot;

/// Whose operations they are.
const OF: usize = 3;

fn put(value: u64) -> Vec<u8> {
    [&[PUT][..], &value.to_le_bytes()].concat()
}

fn put_after(value: u64, dot: Dot) -> Vec<u8> {
    let [value, sequence] = [value, dot.sequence].map(u64::to_le_bytes);
    [&[AFTER][..], &value, &dot.origin.bytes(), &sequence].concat()
}

fn told(before: u64, first: u64, operations: Vec<Vec<u8>>) -> Message {
    let run = Run {
        origin: origin(OF),
        first,
        operations,
    };
    Message::Operations { before, run }
}

/// A machine with three peers, and two operations of the third, the first of which was marked.
fn bench(mark: u64) -> Bench {
    let mut bench = Bench::new();
    for peer in 1..=3 {
        bench.join(peer, &[]);
    }
    bench.receive(1, told(0, 1, vec![put(1), put(2)]));
    let history = History::from_marks(vec![(1, mark)], false).unwrap();
    bench.toy.histories.insert(origin(OF), history);
    assert_eq!(bench.toy.applied().get(origin(OF)), 2);
    bench
}

fn tells_history(sent: &[(Origin, Message)]) -> bool {
    let is_it = |(to, message): &(Origin, Message)| {
        *to == origin(2) && matches!(message, Message::History { .. })
    };
    sent.iter().any(is_it)
}

#[test]
fn operations_are_taken_only_behind_the_mark_that_is_here() {
    let mut bench = bench(77);
    let sent = bench.receive(2, told(88, 3, vec![put(3)]));
    assert!(tells_history(&sent), "{sent:?}");
    assert_eq!(bench.toy.applied().get(origin(OF)), 2);
    // The other peer's go on.
    bench.receive(1, told(77, 3, vec![put(4)]));
    assert_eq!(bench.toy.applied().get(origin(OF)), 3);
    // Where no mark is known nothing can be compared.
    bench.receive(3, told(0, 4, vec![put(5)]));
    assert_eq!(bench.toy.applied().get(origin(OF)), 4);
}

/// They begin before the mark that is here, and have another one among those that are known.
#[test]
fn a_mark_among_operations_that_are_known_counts() {
    for (mark, taken) in [(77, true), (88, false)] {
        let mut bench = bench(77);
        let mut marked = Vec::new();
        encode_mark(&mut marked, mark);
        bench.receive(2, told(0, 1, vec![marked, put(2), put(3)]));
        let there = bench.toy.applied().get(origin(OF));
        assert_eq!(there, if taken { 3 } else { 2 }, "{mark}");
    }
}

#[test]
fn operations_put_aside_are_continued_only_by_their_own_history() {
    let mut bench = bench(77);
    let awaited = Dot {
        origin: origin(1),
        sequence: 1,
    };
    bench.receive(1, told(77, 3, vec![put_after(3, awaited)]));
    bench.receive(2, told(88, 4, vec![put(4)]));
    let run = Run {
        origin: awaited.origin,
        first: 1,
        operations: vec![put(9)],
    };
    bench.receive(1, Message::Operations { before: 0, run });
    bench.after(1000);
    assert_eq!(bench.toy.applied().get(origin(OF)), 3);
    bench.receive(1, told(77, 4, vec![put(5)]));
    assert_eq!(bench.toy.applied().get(origin(OF)), 4);
}

/// An import came from a peer, and then its twin is connected, which never had it.
#[test]
fn only_a_peer_of_the_same_history_says_that_bits_are_gone() {
    for (mark, given_up) in [(77, 1), (88, 0)] {
        let mut bench = bench(77);
        bench.receive(1, told(77, 3, vec![vec![IMPORT, 20]]));
        let content = Content::Range {
            after: None,
            through: None,
            entries: vec![Entry {
                mark,
                ..entry(OF, 3)
            }],
        };
        let report = bench.report(1001, 2, 1 << 20, content);
        let mut asked = bench.receive(1, report);
        asked.extend(bench.after(1000));
        let is_it = |(to, message): &(Origin, Message)| {
            *to == origin(1) && matches!(message, Message::BlocksRequest { .. })
        };
        assert!(asked.iter().any(is_it), "{asked:?}");
        bench.receive(1, Message::Gone(Part::Layer(layer(20))));
        assert_eq!(bench.toy.given_up, given_up, "{mark}");
    }
}
