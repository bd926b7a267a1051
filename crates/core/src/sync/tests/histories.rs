//! Operations of one origin whose histories part, from several peers.

use super::bench::{Bench, entry, page};
use super::toy::{AFTER, IMPORT, PUT, layer, origin};
use crate::history::History;
use crate::operation::encode_mark;
use crate::origin::Origin;
use crate::sync::limits::{AWAITED_MS, PATIENCE_MS, REPAIR_MS, RETRY_MS};
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
    // What was put aside is gone: who sent it may have the other history by now. It comes again.
    assert_eq!(bench.toy.applied().get(origin(OF)), 2);
    bench.receive(1, told(77, 3, vec![put(3), put(5)]));
    assert_eq!(bench.toy.applied().get(origin(OF)), 4);
}

/// What a peer that tells the mark of its operations has: those of [`OF`].
fn tell_marked(bench: &mut Bench, peer: usize, count: u64, mark: u64) -> Vec<(Origin, Message)> {
    let content = Content::Range {
        after: None,
        through: None,
        entries: vec![Entry {
            mark,
            ..entry(OF, count)
        }],
    };
    let (theirs, ours) = (1000 + peer as u64, 1 + peer as u64);
    let report = bench.report(theirs, ours, 1 << 20, content);
    bench.receive(peer, report)
}

fn put_aside(bench: &Bench) -> u64 {
    bench.machine.intake.aside(origin(OF))
}

/// Who sent them was set back since, and others have other operations under their numbers.
#[test]
fn operations_that_nobody_has_any_more_do_not_wait_for_ever() {
    let nowhere = Dot {
        origin: origin(9),
        sequence: 1,
    };
    // As many of another history, or as many of the same one.
    for (mark, kept) in [(88, 0), (77, 2)] {
        let mut bench = bench(77);
        bench.receive(1, told(77, 3, vec![put_after(3, nowhere), put(4)]));
        assert_eq!(put_aside(&bench), 2);
        tell_marked(&mut bench, 2, 4, mark);
        bench.after(AWAITED_MS / 2);
        assert_eq!(put_aside(&bench), 2);
        bench.after(AWAITED_MS);
        assert_eq!(put_aside(&bench), kept, "{mark}");
    }
}

/// The operation that it waits for was a twin's, and is nowhere any more.
#[test]
fn what_waits_for_an_operation_that_nobody_has_comes_with_the_state_of_a_peer() {
    let nowhere = Dot {
        origin: origin(9),
        sequence: 1,
    };
    let is_page = |sent: &[(Origin, Message)]| {
        let mut sent = sent.iter();
        sent.any(|(to, message)| *to == origin(2) && matches!(message, Message::PageRequest { .. }))
    };
    for has_it in [true, false] {
        let mut bench = bench(77);
        bench.receive(1, told(77, 3, vec![put_after(3, nowhere)]));
        tell_marked(&mut bench, 2, 3, 77);
        if has_it {
            bench.tell(3, &[(9, 1)]);
        }
        assert!(!is_page(&bench.after(AWAITED_MS / 2)));
        assert_eq!(is_page(&bench.after(AWAITED_MS)), !has_it);
    }
}

/// What its operations that are not taken removed would be taken for removed here.
#[test]
fn the_state_of_a_peer_with_another_history_is_not_taken() {
    for (mark, taken) in [(77, true), (88, false)] {
        let mut bench = bench(77);
        bench.toy.sync();
        bench.after(1000);
        tell_marked(&mut bench, 2, 2, mark);
        let more = bench.report(1002, 3, 1 << 20, Content::Moved(vec![entry(9, 4)]));
        bench.receive(2, more);
        bench.receive(2, Message::Behind);
        let sent = bench.after(5000);
        let asked = |(to, message): &(Origin, Message)| {
            *to == origin(2) && matches!(message, Message::PageRequest { .. })
        };
        assert_eq!(sent.iter().any(asked), taken, "{mark}: {sent:?}");
    }
}

/// What the one that is asked took in while its pages were read is in its state, and may remove what
/// is here.
#[test]
fn a_state_read_while_another_history_came_in_is_not_taken_over() {
    for (count, marks, adopted) in [
        (2, &[(1, 77)][..], 1),
        // What is here is another history.
        (2, &[(1, 66)], 0),
        // What another peer has is another one, and may come here.
        (4, &[(1, 77), (3, 99)], 0),
        (4, &[(1, 77), (3, 88)], 1),
    ] {
        let mut bench = bench(77);
        bench.toy.sync();
        tell_marked(&mut bench, 2, 4, 88);
        let more = bench.report(1001, 2, 1 << 20, Content::Moved(vec![entry(9, 4)]));
        bench.receive(1, more);
        bench.receive(1, Message::Behind);
        bench.after(PATIENCE_MS + 2 * REPAIR_MS);
        let theirs = History::from_marks(marks.to_vec(), false).expect("they ascend");
        bench.toy.shown.insert(origin(OF), (count, theirs));
        for section in [1, 2] {
            bench.receive(1, page(section, vec![]));
        }
        assert_eq!(bench.toy.adopted, adopted, "{count} {marks:?}");
        let has = bench.toy.applied().get(origin(9));
        assert_eq!(has, 4 * adopted, "{count} {marks:?}");
    }
}

/// What the peer's operations made that are not these is not there, and seems to be removed.
#[test]
fn pages_of_a_peer_that_shows_another_history_are_not_merged() {
    for (mark, merged) in [(77, true), (66, false)] {
        let mut bench = bench(77);
        bench.toy.sync();
        let more = bench.report(1001, 2, 1 << 20, Content::Moved(vec![entry(9, 4)]));
        bench.receive(1, more);
        bench.receive(1, Message::Behind);
        bench.after(PATIENCE_MS + 2 * REPAIR_MS);
        bench.toy.forgotten = 0;
        bench.receive(1, page(1, vec![]));
        let theirs = History::from_marks(vec![(1, mark)], false).expect("one ascends");
        bench.toy.shown.insert(origin(OF), (4, theirs));
        bench.receive(1, page(2, vec![0, 20]));
        let named = bench.toy.block_count(layer(20)).is_some();
        assert_eq!(named, merged, "{mark}");
        let abandoned = bench.events.contains(&Event::SnapshotAbandoned(origin(1)));
        assert_eq!(
            (abandoned, bench.toy.forgotten),
            (!merged, u64::from(!merged)),
            "{mark}"
        );
    }
}

/// An import came from a peer, and then its twin is connected, which never had it.
#[test]
fn only_a_peer_of_the_same_history_says_that_bits_are_gone() {
    for (mark, given_up) in [(77, 1), (88, 0)] {
        let mut bench = bench(77);
        bench.receive(1, told(77, 3, vec![vec![IMPORT, 20]]));
        let mut asked = tell_marked(&mut bench, 1, 3, mark);
        asked.extend(bench.after(1000));
        let is_it = |(to, message): &(Origin, Message)| {
            *to == origin(1) && matches!(message, Message::BlocksRequest { .. })
        };
        assert!(asked.iter().any(is_it), "{asked:?}");
        bench.receive(1, Message::Gone(Part::Layer(layer(20))));
        assert_eq!(bench.toy.given_up, given_up, "{mark}");
    }
}

/// The peer has the operation, and another history of the origin that made the filter it is on:
/// it never had the filter.
#[test]
fn only_a_peer_that_had_the_filter_says_that_bits_are_gone() {
    let made = Dot {
        origin: origin(OF),
        sequence: 1,
    };
    for (mark, count, asked, given_up) in [
        (77, 2, true, 1),
        (88, 2, false, 0),
        // More than is here may be of any history.
        (88, 5, true, 0),
    ] {
        let mut bench = bench(77);
        bench.toy.made = Some(made);
        bench.receive(2, super::bench::run(2, 1, vec![vec![IMPORT, 20]]));
        bench.toy.sync();
        tell_marked(&mut bench, 1, count, mark);
        let more = bench.report(1001, 2, 1 << 20, Content::Moved(vec![entry(2, 1)]));
        bench.receive(1, more);
        bench.after(1000);
        let begun = bench.events.contains(&Event::PartsBegun(origin(1)));
        assert_eq!(begun, asked, "{count} up to {mark}");
        bench.receive(1, Message::Gone(Part::Layer(layer(20))));
        assert_eq!(bench.toy.given_up, given_up, "{count} up to {mark}");
    }
}

/// Later the numbers that made it may be those of the history that is here.
#[test]
fn what_came_of_the_state_of_another_history_is_forgotten_at_once() {
    for (mark, forgotten) in [(77, 0), (88, 1)] {
        let mut bench = bench(77);
        bench.toy.sync();
        let more = bench.report(1001, 2, 1 << 20, Content::Moved(vec![entry(9, 4)]));
        bench.receive(1, more);
        bench.receive(1, Message::Behind);
        bench.after(PATIENCE_MS + 2 * REPAIR_MS);
        bench.toy.forgotten = 0;
        assert!(bench.events.contains(&Event::SnapshotBegun(origin(1))));
        tell_marked(&mut bench, 1, 2, mark);
        assert_eq!(bench.toy.forgotten, forgotten, "{mark}");
    }
}

/// The page that named the bits came before the peer was set back, or restarted.
#[test]
fn a_peer_in_another_session_does_not_say_what_its_pages_named_is_gone() {
    for (again, given_up) in [(false, 1), (true, 0)] {
        let mut bench = Bench::new();
        bench.join(1, &[(1, 5)]);
        bench.receive(1, Message::Behind);
        bench.after(PATIENCE_MS + 2 * REPAIR_MS);
        for (section, bytes) in [(1, vec![]), (2, vec![0, 20])] {
            bench.receive(1, page(section, bytes));
        }
        if again {
            bench.input(Input::Disconnected(origin(1)));
            let mut sent = bench.join(1, &[(1, 5)]);
            sent.extend(bench.after(2 * RETRY_MS));
            let from_the_start = Message::PageRequest {
                section: 1,
                after: vec![],
            };
            let asked = (origin(1), from_the_start);
            assert!(sent.contains(&asked), "{sent:?}");
        }
        bench.receive(1, Message::Gone(Part::Layer(layer(20))));
        assert_eq!(bench.toy.given_up, given_up, "{again}");
    }
}

/// One alone may have to give up what it has as well.
#[test]
fn what_most_members_hold_does_not_count_on_one_alone() {
    for (members, held) in [(1, 9), (2, 7), (3, 7), (4, 7), (5, 5)] {
        let mut bench = Bench::new();
        bench
            .machine
            .set_members((0..=members).map(origin).collect());
        // A stranger counts for nothing.
        bench.join(7, &[(OF, 20)]);
        for (peer, count) in [(1, 9), (2, 7), (3, 5)].into_iter().take(members) {
            bench.join(peer, &[(OF, count)]);
        }
        assert_eq!(
            bench.machine.held_by_most().get(origin(OF)),
            held,
            "{members}"
        );
    }
}

/// Another operation of that number is in by the time that the peer answers.
#[test]
fn bits_that_no_operation_waits_for_any_more_are_not_given_up() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    bench.join(2, &[]);
    bench.receive(1, told(77, 1, vec![vec![IMPORT, 20]]));
    tell_marked(&mut bench, 1, 1, 77);
    bench.after(1000);
    assert!(bench.events.contains(&Event::PartsBegun(origin(1))));
    bench.receive(2, told(88, 1, vec![put(1), put(2)]));
    assert_eq!(bench.toy.applied().get(origin(OF)), 2);
    bench.receive(1, Message::Gone(Part::Layer(layer(20))));
    assert_eq!(bench.toy.given_up, 0);
}

/// Of one origin it may report later than of another: a drop, and not yet the creation before it.
#[test]
fn a_state_stands_for_what_it_shows_itself_and_not_for_what_was_reported() {
    let mut bench = Bench::new();
    bench.join(1, &[(1, 5)]);
    bench.receive(1, Message::Behind);
    bench.after(PATIENCE_MS + 2 * REPAIR_MS);
    let shown =
        [(1, 7), (2, 3), (0, 9)].map(|(of, count)| (origin(of), (count, History::unknown())));
    bench.toy.shown = shown.into();
    for section in [1, 2] {
        bench.receive(1, page(section, vec![]));
    }
    let applied = bench.toy.applied();
    // No more of its own than there are.
    let counts = [0, 1, 2].map(|of| applied.get(origin(of)));
    assert_eq!(counts, [0, 7, 3]);
}

/// What a comparison shows beyond what was reported may be on its way as operations.
#[test]
fn a_comparison_stands_for_no_operations_that_are_lacking() {
    let mut bench = Bench::new();
    bench.machine.set_scrub(300);
    bench.join(1, &[]);
    bench.after(500);
    assert!(bench.events.contains(&Event::ScrubBegun(origin(1))));
    bench.toy.shown = [(origin(1), (7, History::unknown()))].into();
    for section in [1, 2] {
        bench.receive(1, page(section, vec![]));
    }
    assert_eq!(
        (bench.toy.adopted, bench.toy.applied().get(origin(1))),
        (1, 0)
    );
}

/// Operations came, maybe of another history under the same numbers.
#[test]
fn what_came_of_a_state_that_is_not_needed_any_more_is_forgotten_at_once() {
    let mut bench = Bench::new();
    bench.join(1, &[(1, 5)]);
    bench.join(2, &[]);
    bench.receive(1, Message::Behind);
    bench.after(PATIENCE_MS + 2 * REPAIR_MS);
    bench.receive(1, page(1, vec![]));
    bench.toy.forgotten = 0;
    let operations = (1..=5).map(put).collect();
    bench.receive(2, super::bench::run(1, 1, operations));
    bench.after(100);
    assert!(bench.events.contains(&Event::SnapshotAbandoned(origin(1))));
    assert_eq!(bench.toy.forgotten, 1);
}
