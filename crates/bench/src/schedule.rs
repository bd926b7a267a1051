//! When the requests of an open loop are due.
//!
//! The times are fixed before the run and do not move when the server is slow. Latency counts
//! from them, so that the requests that a stalled server kept from being sent show up in it
//! (coordinated omission, Tene 2013).

const NANOSECONDS: f64 = 1e9;

/// Evenly spaced requests of one worker, dealt to its connections in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    interval_ns: f64,
    offset_ns: f64,
    connections: u64,
}

impl Schedule {
    /// `rate` is the worker's own, in requests per second; `lead` from 0 to 1 moves all of its
    /// requests by that part of the interval, so that workers take turns.
    pub(super) fn new(rate: f64, lead: f64, connections: u64) -> Self {
        let interval_ns = NANOSECONDS / rate;
        Self {
            interval_ns,
            offset_ns: interval_ns * lead,
            connections,
        }
    }

    /// When the worker's request `index` is due, in nanoseconds after the start.
    pub(super) fn due_ns(&self, index: u64) -> u64 {
        (self.offset_ns + index as f64 * self.interval_ns) as u64
    }

    /// When the request `ordinal` of connection `connection` is due, both from 0.
    pub(super) fn due_on_ns(&self, connection: u64, ordinal: u64) -> u64 {
        self.due_ns(ordinal * self.connections + connection)
    }

    /// How many requests of the worker are due `now_ns` after the start, at most `limit`.
    pub(super) fn count_due(&self, now_ns: u64, limit: u64) -> u64 {
        let after = now_ns as f64 - self.offset_ns;
        if after < 0.0 {
            return 0;
        }
        let mut count = (after / self.interval_ns) as u64 + 1;
        // Division and multiplication round differently; the multiplication is the definition.
        if self.due_ns(count - 1) > now_ns {
            count -= 1;
        } else if self.due_ns(count) <= now_ns {
            count += 1;
        }
        count.min(limit)
    }

    /// How many of the worker's first `count` requests fall to `connection`.
    pub(super) fn count_on(&self, connection: u64, count: u64) -> u64 {
        count / self.connections + u64::from(connection < count % self.connections)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_evenly_spaced_and_dealt_in_turn() {
        let schedule = Schedule::new(1000.0, 0.5, 3);
        assert_eq!(schedule.due_ns(0), 500_000);
        assert_eq!(schedule.due_ns(10), 10_500_000);
        assert_eq!(schedule.due_on_ns(1, 2), schedule.due_ns(7));
        assert_eq!(schedule.count_due(499_999, 100), 0);
        assert_eq!(schedule.count_due(500_000, 100), 1);
        assert_eq!(schedule.count_due(10_500_000, 100), 11);
        assert_eq!(schedule.count_due(10_500_000, 4), 4);
        assert_eq!(
            [0, 1, 2].map(|connection| schedule.count_on(connection, 7)),
            [3, 2, 2]
        );
    }

    proptest! {
        #[test]
        fn counting_agrees_with_the_times(
            rate in 0.1_f64..1e8, lead in 0.0_f64..1.0, now_ns in 0_u64..3_600_000_000_000,
        ) {
            let schedule = Schedule::new(rate, lead, 1);
            let count = schedule.count_due(now_ns, u64::MAX);
            prop_assert!(count == 0 || schedule.due_ns(count - 1) <= now_ns);
            prop_assert!(schedule.due_ns(count) > now_ns);
        }

        #[test]
        fn every_request_falls_to_one_connection(connections in 1_u64..50, count in 0_u64..1000) {
            let schedule = Schedule::new(1.0, 0.0, connections);
            let sum: u64 = (0..connections).map(|index| schedule.count_on(index, count)).sum();
            prop_assert_eq!(sum, count);
        }
    }
}
