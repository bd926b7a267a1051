//! How this node's wall clock stands to those of the members that it hears.
//!
//! A node asks each peer for the time when a connection is new and then once a minute, more often
//! while the two differ. The answer
//! was made between question and answer, so it gives the peer's time with an uncertainty of half
//! the round trip, as in NTP. Round trips are measured by the monotonic clock, and what is kept of
//! an answer is the peer's time against that clock. So a wall clock of this node that is set wrong,
//! or right, shows at once and not only with the next answer.
//!
//! A node is *off* if more than half of the members that it hears have another time, by more than a
//! bound. It cannot know who is wrong; most are more likely right than one. `docs/decisions/0008-time.md`
//! has what follows from it.

use std::collections::VecDeque;
use std::fmt;

use super::limits::{
    CLOCK_ANSWERS_MAX, CLOCK_GRAIN_MS, CLOCK_INTERVALS, CLOCK_MS, CLOCK_OFFSET_MAX_MS, CLOCK_OFTEN,
    CLOCK_SKEW_MS, CLOCK_STEP_MS, DRIFT_MS, RETRY_MS,
};
use super::machine::{Machine, Turn};
use super::message::Message;
use crate::origin::Origin;

/// How a peer's wall clock stands to this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Milliseconds by which the peer's clock is ahead; negative: behind. At most
    /// [`CLOCK_OFFSET_MAX_MS`] either way.
    pub ahead: i64,
    /// Milliseconds by which that may be wrong.
    pub uncertainty: u64,
}

impl Offset {
    /// Whether the two differ by more than `bound`, whatever the uncertainty hides.
    #[must_use]
    pub fn exceeds(self, bound: u64) -> bool {
        self.ahead.unsigned_abs() > bound.saturating_add(self.uncertainty)
    }
}

/// This node's clock is not that of most members that it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Off {
    /// Milliseconds by which this node is ahead; negative: behind. The median of those from which it
    /// is off.
    pub by: i64,
    /// Members from which it is off.
    pub from: usize,
    /// Members that it hears.
    pub heard: usize,
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = Seconds(self.by);
        let (whom, until) = match self.heard {
            1 => ("the only member it hears", "the two agree"),
            _ => ("most of the members it hears", "it is right"),
        };
        write!(
            f,
            "this node's clock is {by} {whom}; rows with a time to live are refused until {until}"
        )
    }
}

impl std::error::Error for Off {}

/// Milliseconds by which one clock is ahead of another, for people: `7200 s behind`.
#[derive(Clone, Copy, Debug)]
pub struct Seconds(pub i64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.0.unsigned_abs();
        if by < 9950 {
            let tenths = (by + 50) / 100;
            write!(f, "{}.{}", tenths / 10, tenths % 10)?;
        } else {
            write!(f, "{}", by.saturating_add(500) / 1000)?;
        }
        let side = if self.0 < 0 { "behind" } else { "ahead of" };
        write!(f, " s {side}")
    }
}

/// The rule: off from more than half of those that are heard.
pub fn judge(offsets: impl IntoIterator<Item = Offset>, bound: u64) -> Option<Off> {
    let (mut heard, mut beyond) = (0, Vec::new());
    for offset in offsets {
        heard += 1;
        if offset.exceeds(bound) {
            beyond.push(offset.ahead);
        }
    }
    beyond.sort_unstable();
    let median = beyond.get(beyond.len() / 2)?;
    (beyond.len() * 2 > heard).then_some(Off {
        by: median.saturating_neg(),
        from: beyond.len(),
        heard,
    })
}

/// Both clocks of this node at one moment, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Reading {
    wall: u64,
    running: u64,
}

impl Reading {
    /// How far the wall clock is ahead of the other.
    fn ahead(self) -> i128 {
        i128::from(self.wall) - i128::from(self.running)
    }
}

/// What the machine knows of this node's own clocks.
#[derive(Debug)]
pub(super) struct Drift {
    /// What they said last; without it nobody is asked and nobody answered.
    reading: Option<Reading>,
    /// Time between two questions to one peer.
    every: u64,
    bound: u64,
    /// Number of the last question.
    asked: u64,
}

impl Default for Drift {
    fn default() -> Self {
        Drift {
            reading: None,
            every: CLOCK_MS,
            bound: DRIFT_MS,
            asked: 0,
        }
    }
}

#[derive(Debug)]
struct Question {
    number: u64,
    /// This node's monotonic clock when it was asked.
    running: u64,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// How far the peer's wall clock is ahead of this node's monotonic one.
    ahead: i128,
    uncertainty: u64,
    /// When it came, in the machine's time.
    at: u64,
}

/// What is known of a peer's clock, in one session.
#[derive(Debug, Default)]
pub(super) struct PeerClock {
    question: Option<Question>,
    /// Questions without an answer.
    tries: u32,
    asked_at: Option<u64>,
    due_at: u64,
    /// The last answers, the newest last.
    samples: VecDeque<Sample>,
}

impl PeerClock {
    fn take(&mut self, sample: Sample) {
        // What an older answer cannot be true with: the peer's clock was set since.
        self.samples.retain(|old| {
            let may = old.uncertainty.saturating_add(sample.uncertainty);
            let may = may.saturating_add(CLOCK_SKEW_MS);
            (old.ahead - sample.ahead).unsigned_abs() <= u128::from(may)
        });
        self.samples.push_back(sample);
        while self.samples.len() > CLOCK_ANSWERS_MAX {
            self.samples.pop_front();
        }
    }

    /// The surest of the answers that came since `from`.
    fn offset(&self, from: u64, reading: Reading) -> Option<Offset> {
        let recent = self.samples.iter().rev().filter(|sample| sample.at >= from);
        let best = recent.min_by_key(|sample| sample.uncertainty)?;
        let most = i128::from(CLOCK_OFFSET_MAX_MS);
        let ahead = (best.ahead - reading.ahead()).clamp(-most, most);
        Some(Offset {
            ahead: i64::try_from(ahead).unwrap_or(CLOCK_OFFSET_MAX_MS),
            uncertainty: best.uncertainty,
        })
    }
}

impl Machine {
    /// Sets the bound beyond which clocks differ, in milliseconds; [`DRIFT_MS`] unless set.
    pub fn set_drift(&mut self, bound: u64) {
        self.drift.bound = bound;
    }

    /// Sets the time between two questions to one peer, in milliseconds; [`CLOCK_MS`] unless set.
    pub fn set_clock_interval(&mut self, every: u64) {
        self.drift.every = every.max(1);
    }

    /// Says what this node's clocks show: `wall` in milliseconds since 1970, `running` in
    /// milliseconds of a monotonic clock. To be called before each [`handle`](Self::handle); of a
    /// machine that is never told, clocks are not compared.
    pub fn set_clocks(&mut self, wall: u64, running: u64) {
        let reading = Reading { wall, running };
        let Some(before) = self.drift.reading.replace(reading) else {
            return;
        };
        // It was set, or the machine slept: then only new answers tell.
        if (reading.ahead() - before.ahead()).unsigned_abs() > u128::from(CLOCK_STEP_MS) {
            for peer in self.peers.values_mut() {
                let clock = &mut peer.clock;
                let earliest = clock.asked_at.map_or(0, |at| at.saturating_add(RETRY_MS));
                (clock.tries, clock.due_at) = (0, clock.due_at.min(earliest));
            }
        }
    }

    /// How a peer's clock stands to this node's; none while it is not connected or gave no answer
    /// lately.
    pub fn clock_of(&self, peer: Origin) -> Option<Offset> {
        let reading = self.drift.reading?;
        let kept = self.drift.every.saturating_mul(CLOCK_INTERVALS);
        let from = self.clock.time().saturating_sub(kept);
        let peer = self.peers.get(&peer).filter(|peer| peer.connected)?;
        peer.clock.offset(from, reading)
    }

    /// The clocks of the members that are heard.
    pub fn clocks(&self) -> impl Iterator<Item = (Origin, Offset)> + '_ {
        let others = self.others();
        others.filter_map(|member| Some((member, self.clock_of(member)?)))
    }

    /// Whether this node's clock is off from those of most members that it hears, and how far.
    pub fn off(&self) -> Option<Off> {
        judge(self.clocks().map(|(_, offset)| offset), self.drift.bound)
    }

    /// Asks those for the time whose turn it is.
    pub(super) fn ask_clocks<R>(&mut self, turn: &mut Turn<'_, R>) {
        let Some(reading) = self.drift.reading else {
            return;
        };
        for (name, peer) in &mut self.peers {
            let clock = &mut peer.clock;
            if !peer.connected || turn.now < clock.due_at {
                continue;
            }
            self.drift.asked += 1;
            let number = self.drift.asked;
            let wait = RETRY_MS << clock.tries.min(16);
            clock.tries += 1;
            clock.asked_at = Some(turn.now);
            clock.due_at = turn.now.saturating_add(wait.min(self.drift.every));
            clock.question = Some(Question {
                number,
                running: reading.running,
            });
            turn.send(*name, Message::TimeQuestion { number });
        }
    }

    /// A peer asks for the time.
    pub(super) fn receive_time_question<R>(
        &self,
        turn: &mut Turn<'_, R>,
        from: Origin,
        number: u64,
    ) {
        if let Some(Reading { wall, .. }) = self.drift.reading {
            turn.send(from, Message::Time { number, wall });
        }
    }

    /// A peer's answer.
    pub(super) fn receive_time(&mut self, now: u64, from: Origin, number: u64, wall: u64) {
        let (Some(reading), Some(peer)) = (self.drift.reading, self.peers.get_mut(&from)) else {
            return;
        };
        let clock = &mut peer.clock;
        let question = clock.question.take_if(|asked| asked.number == number);
        // Another one is of an earlier question: its round trip is not known any more.
        let Some(question) = question else {
            return;
        };
        let round_trip = reading.running.saturating_sub(question.running);
        let middle = i128::from(question.running) + i128::from(round_trip / 2);
        clock.take(Sample {
            ahead: i128::from(wall) - middle,
            uncertainty: round_trip.div_ceil(2).saturating_add(CLOCK_GRAIN_MS),
            at: now,
        });
        let differs = clock
            .offset(now, reading)
            .is_some_and(|offset| offset.exceeds(self.drift.bound));
        let wait = if differs {
            self.drift.every / CLOCK_OFTEN
        } else {
            self.drift.every
        };
        (clock.tries, clock.due_at) = (0, now.saturating_add(wait));
    }
}
