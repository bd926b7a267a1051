//! One rule, one test: what is told, sent, asked for and put aside.

use std::collections::BTreeSet;

use super::bench::{Bench, entry, operations, put, run, wants};
use super::toy::{Toy, origin};
use crate::catalogue::FilterId;
use crate::origin::Origin;
use crate::sync::limits::*;
use crate::sync::*;
use crate::version::Dot;

#[test]
fn own_operations_go_as_soon_as_they_are_durable_and_not_before() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    bench.toy.put(1);
    assert_eq!(operations(&bench.input(Input::Advanced)), []);
    bench.toy.sync();
    let sent = bench.input(Input::Advanced);
    assert_eq!(operations(&sent), [(origin(1), origin(0), 1, 1)]);
    assert_eq!(operations(&bench.input(Input::Advanced)), []);
}

#[test]
fn nothing_is_sent_to_a_peer_of_which_nothing_is_known() {
    let mut bench = Bench::new();
    bench.toy.put(1);
    bench.toy.sync();
    bench.input(Input::Connected(origin(1), 2));
    assert_eq!(operations(&bench.input(Input::Advanced)), []);
    assert_eq!(operations(&bench.tell(1, &[])).len(), 1);
}

#[test]
fn no_more_is_in_flight_than_the_window_and_more_follows_what_arrives() {
    let mut bench = Bench::new();
    bench.input(Input::Connected(origin(1), 2));
    for value in 0..100 {
        bench.toy.put(value);
    }
    bench.toy.sync();
    let whole = |entries| Content::Range {
        after: None,
        through: None,
        entries,
    };
    // An operation takes ten bytes in a message.
    let report = bench.report(1001, 2, 55, whole(vec![]));
    let sent = bench.receive(1, report);
    assert_eq!(operations(&sent), [(origin(1), origin(0), 1, 5)]);
    assert_eq!(bench.machine.status(&bench.toy)[0].in_flight, 50);
    assert_eq!(bench.machine.status(&bench.toy)[0].lag, 100);
    let report = bench.report(1001, 2, 55, Content::Moved(vec![entry(0, 5)]));
    let sent = bench.receive(1, report);
    assert_eq!(operations(&sent), [(origin(1), origin(0), 6, 5)]);
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    bench.toy.put(1);
    bench.toy.sync();
    bench.input(Input::Advanced);
    assert_eq!(operations(&bench.after(RETRY_MS - 100)), []);
    let sent = bench.after(100);
    assert_eq!(operations(&sent), [(origin(1), origin(0), 1, 1)]);
    let rewound = Event::Rewound {
        peer: origin(1),
        from: 2,
        to: 1,
    };
    assert!(bench.events.contains(&rewound));
    bench.tell(1, &[(0, 1)]);
    assert_eq!(operations(&bench.after(2 * RETRY_MS)), []);
}

#[test]
fn a_clock_that_is_set_back_delays_nothing() {
    let mut bench = Bench::new();
    bench.now = 10_000_000;
    bench.join(1, &[]);
    bench.toy.put(1);
    bench.toy.sync();
    bench.input(Input::Advanced);
    bench.now -= 3_600_000;
    assert_eq!(operations(&bench.input(Input::Tick)), []);
    assert_eq!(
        operations(&bench.after(RETRY_MS)),
        [(origin(1), origin(0), 1, 1)]
    );
}

#[test]
fn a_peer_that_lost_what_it_had_gets_it_again() {
    let mut bench = Bench::new();
    for value in 0..9 {
        bench.toy.put(value);
    }
    bench.toy.sync();
    bench.join(1, &[(0, 9)]);
    assert_eq!(operations(&bench.input(Input::Advanced)), []);
    // In the same session by a newer report.
    assert_eq!(
        operations(&bench.tell(1, &[(0, 4)])),
        [(origin(1), origin(0), 5, 5)]
    );
    // The same while those are in flight.
    assert_eq!(
        operations(&bench.tell(1, &[(0, 3)])),
        [(origin(1), origin(0), 4, 6)]
    );
    // In a new session of the peer, although the other one still speaks.
    let old = bench.report(1001, 2, 1 << 20, Content::Moved(vec![entry(0, 9)]));
    let content = Content::Range {
        after: None,
        through: None,
        entries: vec![entry(0, 2)],
    };
    let new = bench.report(5555, 2, 1 << 20, content);
    assert_eq!(
        operations(&bench.receive(1, new)),
        [(origin(1), origin(0), 3, 7)]
    );
    assert!(bench.events.contains(&Event::PeerRestarted(origin(1))));
    bench.receive(1, old);
    let version = &bench.machine.status(&bench.toy)[0].version;
    assert_eq!(version.get(origin(0)), 2);
}

#[test]
fn a_report_from_before_the_connection_is_not_believed() {
    let mut bench = Bench::new();
    bench.input(Input::Connected(origin(1), 2));
    let content = Content::Range {
        after: None,
        through: None,
        entries: vec![entry(3, 7)],
    };
    let stale = bench.report(1001, 77, 1 << 20, content);
    let sent = bench.receive(1, stale);
    assert!(!bench.machine.status(&bench.toy)[0].known);
    // But it is answered, with the number it was sent under.
    let heard = sent.iter().find_map(|(_, message)| match message {
        Message::Report(report) => Some((report.session, report.heard, report.ask)),
        _ => None,
    });
    assert_eq!(heard, Some((2, 1001, true)));
    assert_eq!(wants(&bench.after(5000)), []);
}

#[test]
fn a_connection_made_anew_at_one_end_only_goes_on() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    bench.join(1, &[(0, 0)]);
    bench.toy.put(1);
    bench.toy.sync();
    assert_eq!(operations(&bench.input(Input::Advanced)).len(), 1);
}

#[test]
fn a_report_from_an_old_session_that_comes_last_does_not_count_for_ever() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    let late = bench.report(4444, 2, 1 << 20, Content::Moved(vec![]));
    bench.receive(1, late);
    bench.tell(1, &[]);
    assert!(!bench.machine.status(&bench.toy)[0].known);
    bench.after(RETIRED_MS);
    bench.tell(1, &[]);
    assert!(bench.machine.status(&bench.toy)[0].known);
}

#[test]
fn what_is_on_its_way_is_not_sent_again_because_it_is_asked_for() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    bench.receive(1, run(5, 1, vec![put(1), put(2), put(3)]));
    bench.toy.sync();
    bench.join(2, &[]);
    let want = |first| Message::Want(vec![(origin(5), first)]);
    let sent = bench.receive(2, want(1));
    assert_eq!(operations(&sent), [(origin(2), origin(5), 1, 3)]);
    assert_eq!(operations(&bench.receive(2, want(2))), []);
    bench.now += ON_THE_WAY_MS;
    let sent = bench.receive(2, want(2));
    assert_eq!(operations(&sent), [(origin(2), origin(5), 2, 2)]);
}

#[test]
fn an_idle_second_costs_a_hash() {
    let mut bench = Bench::new();
    bench.toy.put(1);
    bench.toy.sync();
    bench.join(1, &[(0, 1)]);
    bench.after(1000);
    let sent = bench.after(3000);
    let summaries = sent.iter().filter(|(_, message)| {
        matches!(message, Message::Report(report) if matches!(report.content, Content::Summary(_)))
    });
    assert_eq!((summaries.count(), sent.len()), (3, 3));
    bench.receive(1, run(5, 1, vec![put(1)]));
    let news = |sent: &[(Origin, Message)]| {
        let news = sent.iter().filter_map(|(_, message)| match message {
            Message::Report(report) => match &report.content {
                Content::News(_, entries) => Some(entries.clone()),
                Content::Range { .. } => panic!("everything was told again"),
                _ => None,
            },
            _ => None,
        });
        news.collect::<Vec<_>>()
    };
    let received = Entry {
        origin: origin(5),
        durable: 0,
        received: 1,
        mark: 0,
    };
    assert_eq!(news(&bench.after(1000)), [[received]]);
    bench.toy.sync();
    assert_eq!(news(&bench.after(1000)), [[entry(5, 1)]]);
    assert!(news(&bench.after(1000)).is_empty());
}

#[test]
fn who_missed_news_asks_for_everything_and_gets_it() {
    let mut bench = Bench::new();
    bench.join(1, &[(3, 1)]);
    bench.after(1000);
    let entries = |count| [(origin(3), 1, 1), (origin(4), count, count)];
    let hash = |count| fingerprint::versions_hash(entries(count));
    let asks =
        |(_, message): &(Origin, Message)| matches!(message, Message::Report(report) if report.ask);
    // What came before it was heard of.
    let heard = bench.report(1001, 2, 1 << 20, Content::News(hash(2), vec![entry(4, 2)]));
    assert!(!bench.receive(1, heard).iter().any(asks));
    // The news that the third origin has an operation more were lost.
    let told = fingerprint::versions_hash([(origin(3), 2, 2), (origin(4), 5, 5)]);
    let late = bench.report(1001, 2, 1 << 20, Content::News(told, vec![entry(4, 5)]));
    assert!(bench.receive(1, late).iter().any(asks));
    assert_eq!(
        bench.machine.status(&bench.toy)[0].version.get(origin(4)),
        5
    );
    // The other side: whoever asks is told everything.
    bench.now += REPORT_SPACING_MS;
    let question = Message::Report(Report {
        session: 1001,
        heard: 2,
        stamp: 1 << 20,
        horizon: 0,
        window: 1 << 20,
        ask: true,
        content: Content::Moved(vec![]),
    });
    let sent = bench.receive(1, question);
    assert!(sent.iter().any(|(_, message)| {
        matches!(message, Message::Report(report) if matches!(report.content, Content::Range { .. }))
    }));
}

#[test]
fn many_peers_are_told_less_often_once_they_are_known() {
    let peers = 2 * REPORTS_PER_PERIOD_MAX + 1;
    let mut bench = Bench::new();
    for peer in 1..=peers {
        bench.join(peer, &[]);
    }
    bench.after(3000);
    let sent = bench.after(9000);
    assert_eq!(sent.len(), 3 * peers, "each once in three seconds");
    // One that has not answered is told each second.
    bench.input(Input::Connected(origin(peers + 1), 77));
    bench.after(3000);
    let sent = bench.after(9000);
    let to_it = sent.iter().filter(|(to, _)| *to == origin(peers + 1));
    assert_eq!(to_it.count(), 9);
}

#[test]
fn a_summary_that_does_not_match_is_asked_about() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    bench.after(1000);
    let summary = bench.report(1001, 2, 1 << 20, Content::Summary(99));
    let sent = bench.receive(1, summary);
    let asks =
        |(_, message): &(Origin, Message)| matches!(message, Message::Report(report) if report.ask);
    assert!(sent.iter().any(asks));
    bench.tell(1, &[]);
    let summary = fingerprint::versions_hash([]);
    let summary = bench.report(1001, 2, 1 << 20, Content::Summary(summary));
    assert!(!bench.receive(1, summary).iter().any(asks));
}

#[test]
fn what_does_not_come_is_asked_of_one_peer_and_then_of_another() {
    let mut bench = Bench::new();
    // The author is not connected: at once.
    let first = wants(&bench.join(1, &[(5, 3)]));
    assert_eq!(wants(&bench.join(2, &[(5, 3)])), []);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].1, [(origin(5), 1)]);
    assert_eq!(wants(&bench.after(RETRY_MS - 200)), []);
    let second = wants(&bench.after(2 * REPAIR_MS));
    assert_eq!(second.len(), 1);
    assert_ne!(first[0].0, second[0].0);
    assert!(bench.events.contains(&Event::NotDelivered {
        peer: first[0].0,
        origin: origin(5)
    }));
    bench.receive(1, run(5, 1, vec![put(1), put(2), put(3)]));
    assert_eq!(wants(&bench.after(3 * RETRY_MS)), []);
}

#[test]
fn a_connected_author_gets_time_to_send_by_itself() {
    let mut bench = Bench::new();
    bench.join(5, &[(5, 3)]);
    bench.join(1, &[(5, 3)]);
    assert_eq!(wants(&bench.after(PATIENCE_MS - 100)), []);
    assert_eq!(wants(&bench.after(2 * REPAIR_MS)).len(), 1);
}

#[test]
fn who_is_asked_sends_what_the_window_allows_to_the_end_of_the_log() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    let values = (0..10).map(put).collect();
    bench.receive(1, run(5, 1, values));
    bench.toy.sync();
    bench.join(2, &[(5, 4)]);
    let sent = bench.receive(2, Message::Want(vec![(origin(5), 5)]));
    assert_eq!(operations(&sent), [(origin(2), origin(5), 5, 6)]);
    assert_eq!(bench.machine.status(&bench.toy)[1].serving, 0);
}

#[test]
fn operations_are_applied_in_order_and_acknowledged() {
    let mut bench = Bench::new();
    bench.join(1, &[(1, 4)]);
    bench.receive(1, run(1, 3, vec![put(3)]));
    assert!(bench.events.contains(&Event::Gap {
        peer: origin(1),
        origin: origin(1)
    }));
    bench.receive(1, run(1, 1, vec![put(1), put(2)]));
    bench.now += ACKNOWLEDGE_MS;
    let sent = bench.receive(1, run(1, 2, vec![put(2), put(3), put(4)]));
    assert_eq!(bench.toy.live.values, BTreeSet::from([1, 2, 3, 4]));
    let acknowledged = |sent: &[(Origin, Message)], durable| {
        let entries = vec![Entry {
            origin: origin(1),
            durable,
            received: 4,
            mark: 0,
        }];
        sent.iter().any(|(_, message)| {
            matches!(message, Message::Report(report)
                if report.content == Content::Moved(entries.clone()))
        })
    };
    assert!(acknowledged(&sent, 0));
    bench.toy.sync();
    bench.now += ACKNOWLEDGE_MS;
    assert!(acknowledged(&bench.input(Input::Advanced), 4));
}

#[test]
fn an_operation_waits_for_the_one_it_needs() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    let mut author = Toy::new(origin(1));
    let dot = Dot {
        origin: origin(2),
        sequence: 1,
    };
    author.put_after(8, dot);
    author.put(9);
    author.sync();
    let wanted = [(origin(1), 1)].into();
    let Read::Runs { runs, .. } = author.read(&wanted, None, 1000) else {
        panic!("a read");
    };
    let operations = runs[0].operations.clone();
    bench.receive(1, run(1, 1, vec![operations[0].clone()]));
    bench.receive(1, run(1, 2, vec![operations[1].clone()]));
    assert_eq!(bench.toy.live.values.len(), 0);
    bench.receive(1, run(2, 1, vec![put(7)]));
    assert_eq!(bench.toy.live.values, BTreeSet::from([7, 8, 9]));
}

#[test]
fn what_waits_is_bounded() {
    let mut bench = Bench::new();
    bench.join(1, &[]);
    let mut after = vec![3];
    after.extend(8_u64.to_le_bytes());
    after.extend([9; 16]);
    after.extend(1_u64.to_le_bytes());
    bench.receive(1, run(1, 1, vec![after]));
    let mut big = put(1);
    big.resize(OPERATION_BYTES_MAX, 0);
    for sequence in 2..100 {
        bench.receive(1, run(1, sequence, vec![big.clone()]));
    }
    assert!(bench.events.contains(&Event::ParkedFull(origin(1))));
    let kept = bench.machine.intake.aside(origin(1)) as usize;
    assert!((kept - 1) * OPERATION_BYTES_MAX <= PARKED_BYTES_PER_PEER);
    assert!(kept > 10);
}

#[test]
fn an_origin_that_cannot_be_understood_is_followed_no_further() {
    let mut bench = Bench::new();
    bench.join(1, &[(5, 3)]);
    bench.receive(1, run(5, 1, vec![put(1), vec![99], put(3)]));
    let dot = Dot {
        origin: origin(5),
        sequence: 2,
    };
    assert!(bench.events.contains(&Event::Refused(dot)));
    bench.receive(1, run(5, 2, vec![put(2)]));
    assert_eq!(bench.toy.live.values, BTreeSet::from([1]));
    assert_eq!(wants(&bench.after(5000)), []);
}

#[test]
fn own_operations_that_are_unknown_here_are_reported_and_never_applied() {
    let mut bench = Bench::new();
    bench.join(1, &[(0, 3)]);
    let event = Event::OwnOperationsUnknown {
        peer: origin(1),
        theirs: 3,
        ours: 0,
    };
    assert_eq!(bench.events.iter().filter(|e| **e == event).count(), 1);
    bench.receive(1, run(0, 1, vec![put(1)]));
    assert_eq!(bench.toy.live.values.len(), 0);
    assert_eq!(wants(&bench.after(5000)), []);
    bench.tell(1, &[(0, 3)]);
    assert_eq!(bench.events.iter().filter(|e| **e == event).count(), 1);
}

#[test]
fn rights_are_asked_of_one_peer_after_the_other() {
    let mut bench = Bench::new();
    bench.toy.short = true;
    bench.join(1, &[]);
    bench.join(2, &[]);
    let asked: Vec<Origin> = bench
        .after(4 * ASK_MS)
        .into_iter()
        .filter(|(_, message)| matches!(message, Message::Ask { wanted: 10, .. }))
        .map(|(to, _)| to)
        .collect();
    assert_eq!(asked, [origin(1), origin(2), origin(1), origin(2)]);
    bench.toy.rights = 7;
    let filter = FilterId::new([1; 16]);
    bench.receive(1, Message::Ask { filter, wanted: 5 });
    assert_eq!((bench.toy.rights, bench.toy.granted), (2, 5));
}

#[test]
fn what_all_have_is_what_every_member_said() {
    let mut bench = Bench::new();
    for value in 0..9 {
        bench.toy.put(value);
    }
    bench.toy.sync();
    let held = |bench: &Bench| bench.machine.held_by_all(&bench.toy).get(origin(0));
    bench.machine.set_members((0..3).map(origin).collect());
    bench.join(1, &[(0, 7)]);
    assert_eq!(held(&bench), 0);
    bench.join(2, &[(0, 5)]);
    assert_eq!(held(&bench), 5);
    bench.input(Input::Disconnected(origin(2)));
    assert_eq!(held(&bench), 5);
    bench
        .machine
        .set_members([origin(0), origin(1)].into_iter().collect());
    assert_eq!(held(&bench), 7);
    bench.machine.set_members(BTreeSet::new());
    assert_eq!(held(&bench), 9);
}

#[test]
fn there_are_no_more_peers_than_the_bound() {
    let mut bench = Bench::new();
    for number in 0..=PEERS_MAX as u128 {
        let peer = Origin::new((number + (1 << 100)).to_be_bytes());
        bench.input(Input::Connected(peer, 1));
    }
    assert_eq!(bench.machine.status(&bench.toy).len(), PEERS_MAX);
    assert!(matches!(bench.events[..], [Event::PeersFull(_)]));
    assert_eq!(bench.receive(1, Message::Behind), []);
}
