//! Origins that a peer makes up.

use super::bench::{Bench, entry, operations, put, run, wants};
use super::toy::origin;
use crate::origin::Origin;
use crate::sync::limits::{REPORT_ENTRIES_MAX, RETRY_MS, STRANGERS_MAX};
use crate::sync::*;

const INVENTED: usize = 34_000;
const MINUTE: u64 = 60_000;

fn invented(number: usize) -> Origin {
    Origin::new((number as u128 + (1 << 100)).to_be_bytes())
}

/// Peer 1 says that it has an operation of each of so many origins.
fn claim(bench: &mut Bench, count: usize) {
    bench.input(Input::Connected(origin(1), 2));
    let all: Vec<Entry> = (0..count)
        .map(|number| Entry {
            origin: invented(number),
            ..entry(1, 1)
        })
        .collect();
    let parts = all.chunks(REPORT_ENTRIES_MAX);
    let last = parts.len() - 1;
    let mut after = None;
    for (at, part) in parts.enumerate() {
        let through = part.last().map(|entry| entry.origin);
        let content = Content::Range {
            after,
            through: through.filter(|_| at < last),
            entries: part.to_vec(),
        };
        after = through;
        let report = bench.report(1001, 2, 1 << 20, content);
        bench.receive(1, report);
    }
}

fn bytes(sent: &[(Origin, Message)]) -> usize {
    let length = |(_, message): &(Origin, Message)| {
        let mut encoded = Vec::new();
        message.encode(&mut encoded);
        encoded.len()
    };
    sent.iter().map(length).sum()
}

fn follow(bench: &mut Bench, of: Origin) -> bool {
    let run = Run {
        origin: of,
        first: 1,
        operations: vec![put(7)],
    };
    bench.receive(1, Message::Operations { before: 0, run });
    bench.toy.applied().get(of) == 1
}

#[test]
fn operations_that_nobody_delivers_are_asked_for_ever_less() {
    let mut bench = Bench::new();
    claim(&mut bench, INVENTED);
    let first = bench.after(MINUTE);
    let asked = wants(&first).iter().map(|(_, wanted)| wanted.len()).max();
    let later = bytes(&bench.after(MINUTE)) as u64 / (MINUTE / 1000);
    println!(
        "{} bytes in the first minute, then {later} bytes/s",
        bytes(&first)
    );
    assert!(asked.is_some(), "they are asked for at first");
    assert!(later < 4096, "{later} bytes/s for what nobody has");
    assert!(bench.events.contains(&Event::OriginsFull(origin(1))));
    // Another who says that it has some of them is asked at once.
    bench.input(Input::Connected(origin(2), 3));
    let content = Content::Range {
        after: None,
        through: None,
        entries: vec![Entry {
            origin: invented(5),
            ..entry(1, 1)
        }],
    };
    let report = bench.report(1002, 3, 1 << 20, content);
    bench.receive(2, report);
    let sent = bench.after(2 * RETRY_MS);
    let of_second = |(to, wanted): &(Origin, Vec<(Origin, u64)>)| {
        *to == origin(2) && wanted.contains(&(invented(5), 1))
    };
    assert!(wants(&sent).iter().any(of_second));
}

#[test]
fn a_peer_that_makes_origins_up_is_followed_up_to_a_bound_and_others_still_are() {
    let mut bench = Bench::new();
    bench.machine.set_members((0..4).map(origin).collect());
    bench.join(1, &[]);
    let followed = (0..2 * STRANGERS_MAX)
        .filter(|number| follow(&mut bench, invented(*number)))
        .count();
    assert_eq!(followed, STRANGERS_MAX);
    assert!(bench.events.contains(&Event::OriginsFull(origin(1))));
    // Of those that are followed everything still is.
    let more = Run {
        origin: invented(3),
        first: 2,
        operations: vec![put(8)],
    };
    let more = Message::Operations {
        before: 0,
        run: more,
    };
    bench.receive(1, more);
    assert_eq!(bench.toy.applied().get(invented(3)), 2);
    // A member's, through whom they may come, and a connected peer's own.
    assert!(follow(&mut bench, origin(3)), "a member's");
    bench.join(9, &[]);
    bench.receive(9, run(9, 1, vec![put(9)]));
    assert_eq!(bench.toy.applied().get(origin(9)), 1, "its own");
}

#[test]
fn origins_that_are_quiet_cost_nothing_however_many() {
    let mut bench = Bench::new();
    bench.machine.set_members((0..3).map(origin).collect());
    bench.join(1, &[]);
    for number in 0..STRANGERS_MAX {
        follow(&mut bench, invented(number));
    }
    bench.toy.disk = bench.toy.live.clone();
    bench.input(Input::Advanced);
    // Everything is told once.
    let has: Vec<Entry> = (0..STRANGERS_MAX)
        .map(|number| Entry {
            origin: invented(number),
            ..entry(1, 1)
        })
        .collect();
    for part in has.chunks(REPORT_ENTRIES_MAX) {
        let report = bench.report(1001, 2, 1 << 20, Content::Moved(part.to_vec()));
        bench.receive(1, report);
    }
    bench.after(MINUTE);
    let sent = bench.after(MINUTE);
    let rate = bytes(&sent) as u64 / (MINUTE / 1000);
    assert!(operations(&sent).is_empty());
    assert!(rate < 200, "{rate} bytes/s");
}
