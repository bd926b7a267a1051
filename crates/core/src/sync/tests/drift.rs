//! Clocks that are compared: what an answer says, who counts, and who is off.

use proptest::prelude::*;

use super::bench::Bench;
use super::toy::origin;
use crate::sync::limits::{
    CLOCK_GRAIN_MS, CLOCK_INTERVALS, CLOCK_MS, CLOCK_OFFSET_MAX_MS, CLOCK_OFTEN, DRIFT_MS, RETRY_MS,
};
use crate::sync::*;

const NOON: u64 = 1_800_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// A machine with clocks, whose peers' clocks are wrong by so much.
struct Clocks {
    bench: Bench,
    own: i64,
    /// What is not answered yet.
    asked: Vec<(usize, u64)>,
}

impl Clocks {
    fn new(peers: usize) -> Self {
        let mut clocks = Clocks {
            bench: Bench::new(),
            own: 0,
            asked: Vec::new(),
        };
        let members = (0..=peers).map(origin).collect();
        clocks.bench.machine.set_members(members);
        for peer in 1..=peers {
            clocks.input(Input::Connected(origin(peer), 7 + peer as u64));
        }
        clocks
    }

    fn right(&self) -> u64 {
        NOON + self.bench.now
    }

    fn input(&mut self, input: Input) -> Vec<(Origin, Message)> {
        let wall = self.right().saturating_add_signed(self.own);
        self.bench.machine.set_clocks(wall, self.bench.now);
        let sent = self.bench.input(input);
        for (to, message) in &sent {
            if let Message::TimeQuestion { number } = message {
                let peer = (1..9).find(|peer| origin(*peer) == *to).expect("a peer");
                self.asked.push((peer, *number));
            }
        }
        sent
    }

    fn pass(&mut self, time: u64) {
        let end = self.bench.now + time;
        while self.bench.now < end {
            self.bench.now = (self.bench.now + 100).min(end);
            self.input(Input::Tick);
        }
    }

    fn say(&mut self, peer: usize, number: u64, wall: u64) {
        let answer = Message::Time { number, wall };
        self.input(Input::Received(origin(peer), answer));
    }

    /// All who were asked answer, `back` after they read their clocks.
    fn answer(&mut self, wrong_by: &[i64], back: u64) {
        let walls: Vec<u64> = wrong_by
            .iter()
            .map(|by| self.right().saturating_add_signed(*by))
            .collect();
        self.bench.now += back;
        for (peer, number) in std::mem::take(&mut self.asked) {
            if let Some(wall) = walls.get(peer - 1) {
                self.say(peer, number, *wall);
            }
        }
    }

    fn of(&self, peer: usize) -> Option<Offset> {
        self.bench.machine.clock_of(origin(peer))
    }

    fn off(&self) -> Option<Off> {
        self.bench.machine.off()
    }
}

fn offset(ahead: i64, uncertainty: u64) -> Offset {
    Offset { ahead, uncertainty }
}

#[test]
fn an_answer_is_taken_from_the_middle_of_its_round_trip() {
    let mut clocks = Clocks::new(1);
    assert_eq!((clocks.asked.len(), clocks.of(1)), (1, None));
    clocks.bench.now += 40;
    clocks.answer(&[-HOUR_MS], 40);
    assert_eq!(clocks.of(1), Some(offset(-HOUR_MS, 40 + CLOCK_GRAIN_MS)));
    // All of it on the way back: as far off as the uncertainty says.
    let mut clocks = Clocks::new(1);
    clocks.answer(&[0], 200);
    assert_eq!(clocks.of(1), Some(offset(-100, 100 + CLOCK_GRAIN_MS)));
}

#[test]
fn a_clock_of_ones_own_that_is_set_shows_at_once() {
    let mut clocks = Clocks::new(2);
    clocks.answer(&[0, 0], 10);
    assert_eq!(clocks.off(), None);
    clocks.pass(5000);
    clocks.own = 2 * HOUR_MS;
    clocks.input(Input::Tick);
    let off = clocks.off().expect("it is off");
    assert_eq!((off.from, off.heard), (2, 2));
    assert!(off.by.abs_diff(2 * HOUR_MS) <= 10, "{off:?}");
    let asked = clocks.asked.len();
    assert_eq!(asked, 2, "all are asked again at once");
    clocks.own = 0;
    clocks.input(Input::Tick);
    assert_eq!(clocks.off(), None);
}

#[test]
fn a_machine_that_slept_believes_new_answers() {
    let mut clocks = Clocks::new(1);
    clocks.answer(&[0], 0);
    clocks.pass(5000);
    // The wall clock went on while the monotonic one stood.
    clocks.own = HOUR_MS;
    clocks.input(Input::Tick);
    assert!(clocks.off().is_some(), "nobody knows better yet");
    clocks.answer(&[HOUR_MS], 300);
    assert_eq!(clocks.off(), None);
    assert_eq!(clocks.of(1), Some(offset(-150, 150 + CLOCK_GRAIN_MS)));
}

#[test]
fn the_surest_answer_counts_until_it_is_old_or_cannot_be_true() {
    let mut clocks = Clocks::new(1);
    clocks.answer(&[0], 20);
    let sure = Some(offset(-10, 10 + CLOCK_GRAIN_MS));
    clocks.pass(CLOCK_MS);
    clocks.answer(&[0], 900);
    assert_eq!(clocks.of(1), sure);
    for _ in 0..CLOCK_INTERVALS {
        clocks.pass(CLOCK_MS);
        clocks.answer(&[0], 900);
    }
    let unsure = Some(offset(-450, 450 + CLOCK_GRAIN_MS));
    assert_eq!(clocks.of(1), unsure, "the sure one is old");
    clocks.pass(CLOCK_MS);
    clocks.answer(&[0], 20);
    assert_eq!(clocks.of(1), sure);
    clocks.pass(CLOCK_MS);
    clocks.answer(&[2 * HOUR_MS], 900);
    let set = Some(offset(2 * HOUR_MS - 450, 450 + CLOCK_GRAIN_MS));
    assert_eq!(clocks.of(1), set, "its clock was set since");
}

#[test]
fn who_is_gone_or_silent_does_not_count() {
    let mut clocks = Clocks::new(3);
    clocks.answer(&[HOUR_MS, HOUR_MS, HOUR_MS], 2);
    assert_eq!(clocks.off().map(|off| off.heard), Some(3));
    clocks.input(Input::Disconnected(origin(3)));
    assert_eq!(clocks.off().map(|off| off.heard), Some(2));
    let members = [origin(0), origin(1), origin(3)].into_iter().collect();
    clocks.bench.machine.set_members(members);
    assert_eq!(clocks.off().map(|off| off.heard), Some(1));
    clocks.asked.clear();
    clocks.pass(CLOCK_INTERVALS * CLOCK_MS + 100);
    assert_eq!((clocks.off(), clocks.of(1)), (None, None));
    // Each unanswered question is followed by the next one later, up to once a minute.
    let of_one = clocks.asked.iter().filter(|(peer, _)| *peer == 1).count();
    assert!((4..12).contains(&of_one), "{of_one}");
}

#[test]
fn a_peer_is_asked_once_a_minute() {
    let mut clocks = Clocks::new(3);
    for minute in 0..10 {
        let asked = clocks.asked.len();
        assert_eq!(asked, 3, "minute {minute}");
        clocks.answer(&[0, 0, 0], 0);
        clocks.pass(CLOCK_MS);
    }
}

#[test]
fn a_peer_whose_clock_differs_is_asked_more_often_and_seen_to_be_right_soon() {
    let mut clocks = Clocks::new(1);
    clocks.answer(&[HOUR_MS], 0);
    assert!(clocks.off().is_some());
    clocks.pass(CLOCK_MS / CLOCK_OFTEN);
    assert_eq!(clocks.asked.len(), 1);
    clocks.answer(&[0], 0);
    assert_eq!(clocks.off(), None);
    clocks.pass(CLOCK_MS - 100);
    assert_eq!(clocks.asked.len(), 0);
}

#[test]
fn an_answer_that_nobody_asked_for_says_nothing() {
    let mut clocks = Clocks::new(1);
    let (_, number) = clocks.asked[0];
    clocks.say(1, number + 1, 0);
    assert_eq!(clocks.of(1), None);
    clocks.pass(RETRY_MS);
    let (_, again) = clocks.asked[1];
    clocks.say(1, number, 0);
    assert_eq!(clocks.of(1), None, "the first was given up");
    let right = clocks.right();
    clocks.say(1, again, right);
    assert_eq!(clocks.of(1), Some(offset(0, CLOCK_GRAIN_MS)));
    clocks.say(1, again, 0);
    assert_eq!(
        clocks.of(1),
        Some(offset(0, CLOCK_GRAIN_MS)),
        "it came twice"
    );
}

#[test]
fn a_machine_without_clocks_asks_and_answers_nothing() {
    let mut bench = Bench::new();
    let sent = bench.input(Input::Connected(origin(1), 8));
    let asked = sent
        .iter()
        .filter(|(_, message)| matches!(message, Message::TimeQuestion { .. }));
    assert_eq!(asked.count(), 0);
    assert_eq!(bench.receive(1, Message::TimeQuestion { number: 1 }), []);
    bench.machine.set_clocks(NOON, 5);
    let answer = Message::Time {
        number: 1,
        wall: NOON,
    };
    let sent = bench.receive(1, Message::TimeQuestion { number: 1 });
    assert_eq!(sent.first(), Some(&(origin(1), answer)));
}

#[test]
fn most_decide_and_what_is_within_the_uncertainty_is_no_difference() {
    let near = offset(DRIFT_MS as i64 + 50, 50);
    let (ahead, behind) = (offset(HOUR_MS, 50), offset(-HOUR_MS, 50));
    for (heard, expected) in [
        (vec![], None),
        (vec![near], None),
        (vec![ahead], Some((-HOUR_MS, 1, 1))),
        (vec![ahead, near], None),
        (vec![ahead, ahead, near], Some((-HOUR_MS, 2, 3))),
        (vec![behind, near, near], None),
        (vec![behind, behind, near, near], None),
        (vec![behind, behind, behind, near], Some((HOUR_MS, 3, 4))),
    ] {
        let off = judge(heard.clone(), DRIFT_MS).map(|off| (off.by, off.from, off.heard));
        assert_eq!(off, expected, "{heard:?}");
    }
    assert!(!offset(-5050, 50).exceeds(5000) && offset(-5051, 50).exceeds(5000));
}

#[test]
fn the_reason_names_how_far_and_whom() {
    let off = |by, heard| Off {
        by,
        from: heard,
        heard,
    };
    assert_eq!(
        off(-3_599_800, 3).to_string(),
        "this node's clock is 3600 s behind most of the members it hears; rows with a time to live \
         are refused until it is right"
    );
    assert_eq!(
        off(6_250, 1).to_string(),
        "this node's clock is 6.3 s ahead of the only member it hears; rows with a time to live are \
         refused until the two agree"
    );
}

proptest! {
    #[test]
    fn no_time_that_a_peer_or_a_clock_shows_overflows(
        walls in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 1..8),
        own in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
        running in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
    ) {
        let mut bench = Bench::new();
        bench.machine.set_members([origin(0), origin(1)].into_iter().collect());
        bench.machine.set_clocks(own, running);
        bench.input(Input::Connected(origin(1), 8));
        for (number, wall) in (1..).zip(walls) {
            bench.machine.set_clocks(own.rotate_left(number as u32), running.rotate_left(7));
            bench.receive(1, Message::Time { number, wall });
            if let Some(offset) = bench.machine.clock_of(origin(1)) {
                prop_assert!(offset.ahead.abs() <= CLOCK_OFFSET_MAX_MS);
            }
            let text = bench.machine.off().map(|off| off.to_string());
            prop_assert!(text.is_none_or(|text| text.len() < 200));
            bench.now += CLOCK_MS;
            bench.input(Input::Tick);
        }
    }

    #[test]
    fn a_measured_offset_is_within_its_uncertainty(
        there in 0..5000_u64,
        back in 0..5000_u64,
        by in -HOUR_MS..HOUR_MS,
    ) {
        let mut clocks = Clocks::new(1);
        clocks.bench.now += there;
        clocks.asked.truncate(1);
        clocks.answer(&[by], back);
        let found = clocks.of(1).expect("an answer");
        prop_assert!(found.ahead.abs_diff(by) <= found.uncertainty, "{:?}", found);
    }
}
