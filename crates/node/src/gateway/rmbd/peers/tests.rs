//! The rules of the gossip, one by one, as they were observed on the original; then what differs.

use super::*;

const DELAY: Duration = Duration::from_millis(500);
const MS: Duration = Duration::from_millis(1);

/// Peers of a node on loopback with a clock of its own.
struct World {
    peers: Peers,
    now: Instant,
    nonces: u8,
}

impl World {
    fn new() -> World {
        let now = Instant::now();
        World {
            peers: Peers::new(vec![local(8000)], 5, &settings(), now),
            now,
            nonces: 0,
        }
    }

    fn nonce(&mut self) -> Nonce {
        self.nonces = self.nonces.wrapping_add(1);
        [self.nonces; NONCE_BYTES]
    }

    fn request(&mut self, from: SocketAddr, target: SocketAddr) -> Requested {
        let nonce = self.nonce();
        self.peers.request(from, target, nonce, self.now)
    }

    fn add(&mut self, target: SocketAddr) {
        assert_eq!(self.request(local(1), target), Requested::Added);
    }

    /// Goes to the next round and gives what it sends.
    fn round(&mut self) -> Vec<(u16, SocketAddr)> {
        self.begin();
        self.rows()
    }

    fn begin(&mut self) -> Begun {
        self.now = self.now.max(self.peers.next_round);
        assert!(self.peers.is_due(self.now));
        let (peers, nonces) = (&mut self.peers, &mut self.nonces);
        peers.begin(self.now, || {
            *nonces = nonces.wrapping_add(1);
            [*nonces; NONCE_BYTES]
        })
    }

    fn rows(&mut self) -> Vec<(u16, SocketAddr)> {
        std::iter::from_fn(|| self.peers.next_row(self.now)).collect()
    }
}

fn settings() -> Settings {
    Settings {
        sync_delay: DELAY,
        peers: Vec::new(),
        announce: true,
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn public(last: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, last], 8000))
}

fn all_rows(peer: SocketAddr) -> Vec<(u16, SocketAddr)> {
    (0..5).map(|row| (row, peer)).collect()
}

#[test]
fn the_first_round_is_due_at_the_start_and_the_next_after_the_pause() {
    let mut world = World::new();
    let start = world.now;
    assert!(world.peers.is_due(start));
    world.add(local(1));
    world.begin();
    assert_eq!(world.peers.deadline(start), start, "there are rows to send");
    // The work itself takes time, and the pause begins after it.
    world.now += 20 * MS;
    assert_eq!(world.rows().len(), 5);
    assert!(!world.peers.is_due(start + 519 * MS));
    assert!(world.peers.is_due(start + 520 * MS));
    assert_eq!(world.peers.deadline(start), start + 520 * MS);
}

#[test]
fn rows_go_in_order_with_the_peers_interleaved() {
    let mut world = World::new();
    world.add(local(2));
    world.add(local(1));
    let expected: Vec<_> = (0..5)
        .flat_map(|row| [(row, local(1)), (row, local(2))])
        .collect();
    assert_eq!(world.round(), expected);
}

#[test]
fn without_peers_nothing_is_sent_but_time_goes_on() {
    let mut world = World::new();
    assert!(world.round().is_empty());
    assert_eq!(world.peers.deadline(world.now), world.now + DELAY);
    world.add(local(1));
    assert!(
        !world.peers.is_due(world.now + 499 * MS),
        "it waits for the round"
    );
    assert_eq!(world.round(), all_rows(local(1)));
}

#[test]
fn a_peer_that_never_acknowledges_gets_five_rows_and_is_gone() {
    let mut world = World::new();
    world.add(local(1));
    assert_eq!(world.round(), all_rows(local(1)));
    assert_eq!(world.begin().dropped, 1);
    assert!(world.rows().is_empty());
    assert_eq!(world.peers.count(), 0);
    // A late acknowledgement does not bring it back, a request does.
    assert!(!world.peers.ack(local(1), None));
    assert!(world.round().is_empty());
    world.add(local(1));
    assert_eq!(world.round(), all_rows(local(1)));
}

#[test]
fn one_acknowledgement_keeps_a_peer_for_one_round() {
    let mut world = World::new();
    world.add(local(1));
    for _ in 0..3 {
        assert_eq!(world.round(), all_rows(local(1)));
        assert!(world.peers.ack(local(1), None));
    }
    assert_eq!(world.round(), all_rows(local(1)));
    assert!(
        world.round().is_empty(),
        "the last round was not acknowledged"
    );
}

#[test]
fn acknowledgements_count_from_the_registered_address_alone() {
    let mut world = World::new();
    world.add(local(1));
    world.round();
    assert!(!world.peers.ack(local(2), None), "another port");
    let other = SocketAddr::from(([127, 0, 0, 2], 1));
    assert!(!world.peers.ack(other, None), "another address");
    assert!(world.round().is_empty());
    assert_eq!(world.peers.count(), 0, "strangers are not remembered");
}

#[test]
fn acknowledgements_before_the_rows_do_not_count() {
    let mut world = World::new();
    world.add(local(1));
    assert!(!world.peers.ack(local(1), None));
    world.round();
    assert!(world.peers.ack(local(1), None));
    world.begin();
    assert!(
        !world.peers.ack(local(1), None),
        "the new round has sent nothing yet"
    );
    world.rows();
    assert!(world.round().is_empty());
}

#[test]
fn a_peer_asked_for_twice_is_one_peer() {
    let mut world = World::new();
    world.add(local(1));
    assert_eq!(world.request(local(9), local(1)), Requested::Known);
    assert_eq!(world.round().len(), 5);
}

#[test]
fn the_own_address_is_no_peer() {
    let mut world = World::new();
    assert_eq!(world.request(local(1), local(8000)), Requested::Own);
    world.peers.configure([local(8000)].into());
    assert!(world.round().is_empty());
    let any = SocketAddr::from(([0, 0, 0, 0], 8000));
    world.peers = Peers::new(vec![any, public(1)], 5, &settings(), world.now);
    assert_eq!(world.request(local(1), any), Requested::Own);
    assert_eq!(world.request(local(1), local(8000)), Requested::Own);
    assert_eq!(world.request(local(1), public(1)), Requested::Own);
    assert_eq!(world.request(local(1), local(8001)), Requested::Added);
}

#[test]
fn configured_peers_stay_whatever_they_do() {
    let mut world = World::new();
    world.peers.configure([local(1)].into());
    for _ in 0..3 {
        assert_eq!(world.round(), all_rows(local(1)), "never acknowledged");
    }
    world.begin();
    assert!(!world.peers.fail(local(1)), "it is not dropped");
    assert!(
        world.rows().is_empty(),
        "but spared for the rest of the round"
    );
    assert_eq!(world.round(), all_rows(local(1)));
    assert_eq!(world.request(local(9), local(1)), Requested::Known);
    world.peers.configure(BTreeSet::new());
    assert!(world.round().is_empty(), "no longer configured, and silent");
}

#[test]
fn a_peer_that_cannot_be_sent_to_does_not_end_the_rounds() {
    let mut world = World::new();
    world.add(local(1));
    world.add(local(2));
    world.begin();
    assert_eq!(world.peers.next_row(world.now), Some((0, local(1))));
    assert!(world.peers.fail(local(1)));
    assert_eq!(world.rows(), all_rows(local(2)));
    assert!(world.peers.ack(local(2), None));
    assert_eq!(world.round(), all_rows(local(2)));
}

#[test]
fn invented_peers_leave_room_for_those_that_answer() {
    let mut world = World::new();
    let full = Requested::Refused(Refusal::Full);
    let mut port = 10_000;
    let mut fill = |world: &mut World| {
        let mut added = 0;
        loop {
            port += 1;
            match world.request(local(1), local(port)) {
                Requested::Added => added += 1,
                refused => {
                    assert_eq!(refused, full);
                    return added;
                }
            }
        }
    };
    assert_eq!(fill(&mut world), NEWCOMERS_MAX);
    for (_, peer) in world.round() {
        world.peers.ack(peer, None);
    }
    assert_eq!(fill(&mut world), PEERS_MAX - NEWCOMERS_MAX);
    // Those that answered stay, and silent ones make room.
    assert_eq!(world.round().len(), 5 * PEERS_MAX);
    for port in 10_001..10_001 + NEWCOMERS_MAX as u16 {
        assert!(world.peers.ack(local(port), None));
    }
    assert_eq!(world.begin().dropped, PEERS_MAX - NEWCOMERS_MAX);
    assert_eq!(fill(&mut world), PEERS_MAX - NEWCOMERS_MAX);
}

#[test]
fn the_configuration_takes_no_room_from_others() {
    let mut world = World::new();
    world
        .peers
        .configure((1..=200).map(|port| local(20_000 + port)).collect());
    assert_eq!(world.round().len(), 5 * 200);
    world.add(local(1));
    assert_eq!(world.round().len(), 5 * 201);
}

#[test]
fn on_the_open_network_only_who_answers_is_sent_rows() {
    let mut world = World::new();
    let Requested::Probe(nonce) = world.request(public(9), public(1)) else {
        panic!("it is to be asked");
    };
    assert!(world.round().is_empty(), "no row before it answers");
    assert_eq!(
        world.request(public(9), public(1)),
        Requested::Known,
        "asked once"
    );
    assert!(
        !world.peers.answer(public(2), &nonce, world.now),
        "from elsewhere"
    );
    assert!(
        !world.peers.answer(public(1), &[0; 32], world.now),
        "a guess"
    );
    assert!(!world.peers.answer(public(1), b"", world.now));
    assert!(world.peers.answer(public(1), &nonce, world.now));
    assert_eq!(world.round(), all_rows(public(1)));
    assert!(!world.peers.answer(public(2), &nonce, world.now));
}

#[test]
fn a_neighbour_is_sent_at_most_three_times_the_request_before_it_answers() {
    use grapevine_core::wire::rmbd::{encode_has, encode_peer};
    let neighbour = |last| SocketAddr::from(([10, 0, 0, last], 8000));
    let mut world = World::new();
    let asked = encode_peer(b"10.0.0.1", 8000).len();
    let Requested::Probe(nonce) = world.request(neighbour(9), neighbour(1)) else {
        panic!("it is to be asked");
    };
    let question = encode_has(&nonce).len();
    let mut sent = question;
    let end = world.now + PROBE_TIME;
    loop {
        let begun = world.begin();
        assert!(world.rows().is_empty(), "no row before it answers");
        if world.now >= end {
            break;
        }
        sent += question * begun.probes.len();
        let same = |probe: &(SocketAddr, Nonce)| *probe == (neighbour(1), nonce);
        assert!(begun.probes.iter().all(same));
        let again = world.request(neighbour(9), neighbour(1));
        assert_eq!(again, Requested::Known, "no other request begins one");
    }
    assert!(sent > question, "a question that was lost is sent again");
    assert!(sent <= 3 * asked, "{sent} bytes for {asked}");
    // One that answers, the original too, is sent all rows.
    let Requested::Probe(nonce) = world.request(neighbour(9), neighbour(1)) else {
        panic!("it is to be asked");
    };
    assert!(world.peers.answer(neighbour(1), &nonce, world.now));
    assert_eq!(world.round(), all_rows(neighbour(1)));
}

#[test]
fn configured_peers_that_send_no_rows_are_asked_to() {
    let (peer, own) = (local(1), local(8000));
    let mut world = World::new();
    world.peers.configure([peer].into());
    let round = |world: &mut World, acknowledged: bool, fills: bool| {
        let begun = world.begin();
        assert_eq!(world.rows(), all_rows(peer));
        if acknowledged {
            assert!(world.peers.ack(peer, Some(own)));
        }
        if fills {
            world.peers.filled(peer, world.now);
        }
        begun.introductions
    };
    let asked = [(peer, own)];
    assert!(round(&mut world, false, false).is_empty(), "not seen yet");
    assert!(round(&mut world, true, false).is_empty(), "it is not there");
    assert_eq!(round(&mut world, true, true), asked, "it has come");
    for _ in 0..100 {
        assert!(round(&mut world, true, true).is_empty(), "it sends rows");
    }
    // It has restarted between two rounds, and has forgotten this node.
    let start = world.now;
    let again = std::iter::repeat_with(|| round(&mut world, true, false));
    let rounds = again.take_while(Vec::is_empty).take(100).count();
    assert!(rounds < 10, "{rounds} rounds");
    assert!(world.now - start > ROWS_WITHIN);
    // It does not listen to that: it is not asked in every round.
    let more = (0..100).filter(|_| !round(&mut world, true, false).is_empty());
    let more = more.count();
    assert!((5..=10).contains(&more), "{more} times in 50 s");
    // It was away over a round: it is asked as soon as it is back.
    assert!(round(&mut world, false, false).is_empty());
    assert!(round(&mut world, true, false).is_empty());
    assert_eq!(round(&mut world, true, false), asked);
}

#[test]
fn only_configured_peers_are_asked_for_rows_and_only_as_configured() {
    let own = Some(local(8000));
    let mut world = World::new();
    world.add(local(1));
    for _ in 0..3 {
        world.round();
        assert!(world.peers.ack(local(1), own));
    }
    assert!(world.begin().introductions.is_empty());
    for (announce, reached) in [(false, own), (true, None), (true, Some(local(0)))] {
        let settings = Settings {
            announce,
            ..settings()
        };
        world.peers = Peers::new(vec![local(8000)], 5, &settings, world.now);
        world.peers.configure([local(1)].into());
        world.round();
        assert!(world.peers.ack(local(1), reached));
        assert!(
            world.begin().introductions.is_empty(),
            "{announce} {reached:?}"
        );
    }
}

#[test]
fn a_question_without_answer_is_asked_again_later() {
    let mut world = World::new();
    let asked = world.request(public(9), public(1));
    assert!(matches!(asked, Requested::Probe(_)));
    world.now += PROBE_TIME;
    let again = world.request(public(9), public(1));
    assert!(matches!(again, Requested::Probe(_)) && again != asked);
}

#[test]
fn questions_are_bounded() {
    let mut world = World::new();
    for port in 1..=PROBES_MAX as u16 {
        let target = SocketAddr::from(([203, 0, 113, 1], port));
        assert!(matches!(
            world.request(public(9), target),
            Requested::Probe(_)
        ));
    }
    let full = Requested::Refused(Refusal::Full);
    assert_eq!(world.request(public(9), public(1)), full);
    world.now += PROBE_TIME;
    let asked = world.request(public(9), public(1));
    assert!(matches!(asked, Requested::Probe(_)), "old ones make room");
}

#[test]
fn forged_acknowledgements_do_not_outlive_the_proof() {
    let mut world = World::new();
    let Requested::Probe(nonce) = world.request(public(9), public(1)) else {
        panic!("it is to be asked");
    };
    assert!(world.peers.answer(public(1), &nonce, world.now));
    let start = world.now;
    let mut asked = Vec::new();
    loop {
        let begun = world.begin();
        asked.extend(begun.probes);
        if begun.dropped == 1 {
            break;
        }
        assert_eq!(world.rows(), all_rows(public(1)));
        assert!(world.peers.ack(public(1), None), "forged");
    }
    assert!(world.rows().is_empty());
    let after = world.now - start;
    assert!(after > PROOF_TIME + PROBE_TIME && after <= PROOF_TIME + PROBE_TIME + DELAY);
    // It was asked in each of the last rounds, for one and the same key, which is a new one.
    let (_, last) = *asked.last().expect("it was asked for another proof");
    assert!(asked.len() > 5 && asked.iter().all(|asked| *asked == (public(1), last)));
    assert_ne!(last, nonce);

    // Who is there gives the proof and stays.
    let Requested::Probe(nonce) = world.request(public(9), public(1)) else {
        panic!("it is to be asked");
    };
    assert!(world.peers.answer(public(1), &nonce, world.now));
    let start = world.now;
    while world.now <= start + 3 * PROOF_TIME {
        for (address, nonce) in world.begin().probes {
            assert!(world.peers.answer(address, &nonce, world.now));
        }
        assert_eq!(world.rows(), all_rows(public(1)));
        assert!(world.peers.ack(public(1), None));
    }
}

#[test]
fn what_ends_an_original_is_refused() {
    let mut world = World::new();
    let broadcast = SocketAddr::from(([255, 255, 255, 255], 1));
    for (target, refusal) in [(local(0), Refusal::Port), (broadcast, Refusal::NotOne)] {
        assert_eq!(world.request(local(1), target), Requested::Refused(refusal));
    }
    assert!(world.round().is_empty());
}
