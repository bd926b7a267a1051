//! From when on rows that have expired may be removed here.
//!
//! A clock says when a row is no longer shown. It must not say when a row is removed: a clock that
//! is two days ahead for eight seconds would remove for good what is still to be shown. So
//! removal waits for *running time*, that a monotonic clock counts while the node runs. What
//! expired before the smallest reading of the wall clock in the last 24 hours of running time is
//! due: a clock that is ahead for less than that makes nothing due, and one that is right makes
//! a row due a day after it expired.
//!
//! Readings are kept as the smallest of each half hour of running time, across restarts. What a
//! crash takes of them makes rows due later and never earlier. `docs/decisions/0008-time.md` has
//! the argument, and how members agree on what is due for all.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Running time of which the smallest reading is kept, in milliseconds. A look at the clocks counts
/// no more than this: of a longer pause nobody knows what the wall clock said.
pub const SLOT_MS: u64 = 30 * 60 * 1000;
/// Slots that are kept: 24 hours.
pub const SLOTS: usize = 48;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Horizon {
    /// The smallest reading of each slot that is over, the oldest first.
    slots: VecDeque<u64>,
    /// Running time of the present slot, in milliseconds.
    ran: u64,
    /// The smallest reading in the present slot.
    least: Option<u64>,
    /// The monotonic clock at the last reading of this run of the node.
    #[serde(skip)]
    last: Option<u64>,
}

impl Horizon {
    /// Both clocks are read: `wall` in milliseconds since 1970, `running` in milliseconds from any
    /// point that is the same for one run of the node. True if a slot is over.
    pub fn read(&mut self, wall: u64, running: u64) -> bool {
        let before = self.last.replace(running);
        let passed = running.saturating_sub(before.unwrap_or(running));
        self.ran += passed.min(SLOT_MS);
        let least = self.least.map_or(wall, |least| least.min(wall));
        self.least = Some(least);
        if self.ran < SLOT_MS {
            return false;
        }
        self.ran -= SLOT_MS;
        self.slots.push_back(least);
        while self.slots.len() > SLOTS {
            self.slots.pop_front();
        }
        // The reading between two slots belongs to both.
        self.least = Some(wall);
        true
    }

    /// Rows that expired before this time are due here, in milliseconds since 1970; 0 (none are)
    /// before the node has run for 24 hours.
    pub fn due_before(&self) -> u64 {
        if self.slots.len() < SLOTS {
            return 0;
        }
        let readings = self.slots.iter().copied().chain(self.least);
        readings.min().unwrap_or(0)
    }

    /// Whether this can be what an earlier run of the node kept.
    pub fn is_sound(&self) -> bool {
        self.slots.len() <= SLOTS && self.ran < SLOT_MS
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const DAY_MS: u64 = 24 * HOUR_MS;
    const NOON: u64 = 1_800_000_000_000;

    /// Runs with a clock that is wrong by `off` for `time`, looking every minute.
    fn run(horizon: &mut Horizon, now: &mut u64, time: u64, off: i64) {
        let end = *now + time;
        while *now < end {
            *now += 60_000;
            horizon.read((NOON + *now).saturating_add_signed(off), *now);
        }
    }

    #[test]
    fn nothing_is_due_in_the_first_day_and_then_what_expired_a_day_ago() {
        let (mut horizon, mut now) = (Horizon::default(), 0);
        run(&mut horizon, &mut now, DAY_MS - HOUR_MS, 0);
        assert_eq!(horizon.due_before(), 0);
        run(&mut horizon, &mut now, 2 * DAY_MS, 0);
        let behind = NOON + now - horizon.due_before();
        assert!((DAY_MS..=DAY_MS + SLOT_MS).contains(&behind), "{behind}");
    }

    #[test]
    fn a_clock_that_is_ahead_for_less_than_a_day_makes_nothing_due() {
        for wrong_for in [8000, HOUR_MS, DAY_MS - HOUR_MS] {
            let (mut horizon, mut now) = (Horizon::default(), 0);
            run(&mut horizon, &mut now, 2 * DAY_MS, 0);
            run(&mut horizon, &mut now, wrong_for, 365 * DAY_MS as i64);
            assert!(horizon.due_before() <= NOON + now, "{wrong_for}");
            run(&mut horizon, &mut now, 2 * DAY_MS, 0);
            assert!(horizon.due_before() <= NOON + now - DAY_MS);
        }
    }

    #[test]
    fn one_that_starts_ahead_makes_nothing_due_and_one_set_back_less() {
        let (mut horizon, mut now) = (Horizon::default(), 0);
        run(&mut horizon, &mut now, HOUR_MS, 2 * DAY_MS as i64);
        assert_eq!(horizon.due_before(), 0);
        run(&mut horizon, &mut now, 2 * DAY_MS, 0);
        let before = horizon.due_before();
        run(&mut horizon, &mut now, 60_000, -365 * (DAY_MS as i64));
        assert!(horizon.due_before() < before - 300 * DAY_MS);
    }

    #[test]
    fn running_time_adds_up_over_restarts_and_pauses_count_little() {
        let (mut horizon, mut wall) = (Horizon::default(), 0);
        for _ in 0..100 {
            let mut running = 0;
            let bytes = rmp_serde::to_vec_named(&horizon).expect("plain data");
            horizon = rmp_serde::from_slice(&bytes).expect("its own bytes");
            assert!(horizon.is_sound());
            for _ in 0..20 {
                (running, wall) = (running + 60_000, wall + 60_000);
                horizon.read(NOON + wall, running);
            }
            wall += 7 * HOUR_MS;
        }
        assert_ne!(horizon.due_before(), 0, "33 hours in pieces");
        let mut paused = Horizon::default();
        paused.read(NOON, 0);
        paused.read(NOON + 90 * DAY_MS, 90 * DAY_MS);
        assert_eq!(paused.due_before(), 0, "nobody looked meanwhile");
    }

    proptest! {
        #[test]
        fn it_is_never_above_any_reading_of_the_last_day(
            steps in prop::collection::vec((1..SLOT_MS, 0..400 * DAY_MS), 1..400),
        ) {
            let (mut horizon, mut now) = (Horizon::default(), 0);
            let mut readings: Vec<(u64, u64)> = Vec::new();
            for (passed, wall) in steps {
                now += passed;
                horizon.read(wall, now);
                readings.push((now, wall));
                let recent = readings.iter().filter(|(at, _)| now - at < DAY_MS);
                let least = recent.map(|(_, wall)| *wall).min().unwrap_or(0);
                prop_assert!(horizon.due_before() <= least);
                prop_assert!(horizon.slots.len() <= SLOTS);
            }
        }
    }
}
