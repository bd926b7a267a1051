//! When a part of which table is told again, and which part: a policy without a clock.

use std::time::Duration;

use crate::config::GossipRound;

/// Rows out of which those of one packet are drawn. A smaller table is drawn from as a whole, as
/// the original does; of a larger one each time the next rows.
pub(super) const DRAWN_FROM_MAX: usize = 4096;

/// A table that is told again and again.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) table: Vec<u8>,
    /// Bytes that the packed rows may have.
    pub(super) size: usize,
    /// The key behind which the next rows are drawn from.
    pub(super) after: Vec<u8>,
    every_ms: u64,
    due: u64,
}

/// All of them. Times are milliseconds from any fixed point.
#[derive(Debug)]
pub(super) struct Rounds(Vec<Round>);

impl Rounds {
    /// The first time of each is at a random moment of its first period, so that nodes started
    /// together do not all speak at once. `random` gives a number below its argument.
    pub(super) fn new(rounds: &[GossipRound], mut random: impl FnMut(u64) -> u64) -> Self {
        let round = |one: &GossipRound| {
            let every_ms = milliseconds(one.every);
            Round {
                table: one.table.clone().into_bytes(),
                size: usize::from(one.size),
                after: Vec::new(),
                every_ms,
                due: random(every_ms),
            }
        };
        Rounds(rounds.iter().map(round).collect())
    }

    /// Those that are due now; their next time is a period later, give or take a tenth.
    pub(super) fn due(&mut self, now: u64, mut random: impl FnMut(u64) -> u64) -> Vec<&mut Round> {
        let mut due = Vec::new();
        for round in self.0.iter_mut().filter(|round| round.due <= now) {
            let tenth = round.every_ms / 10;
            round.due = now + round.every_ms - tenth + random(2 * tenth + 1);
            due.push(round);
        }
        due
    }

    /// When the next one is.
    pub(super) fn next(&self) -> Option<u64> {
        self.0.iter().map(|round| round.due).min()
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_period_and_they_do_not_keep_in_step() {
        let round = |table: &str, seconds| GossipRound {
            table: table.to_owned(),
            every: Duration::from_secs(seconds),
            size: 500,
        };
        let mut rounds = Rounds::new(&[round("a", 10), round("b", 60)], |below| below / 2);
        assert_eq!(rounds.next(), Some(5000));
        let mut told = Vec::new();
        for now in (0..100_000).step_by(100) {
            for round in rounds.due(now, |below| below - 1) {
                told.push((round.table.clone(), now));
            }
        }
        let times = |name: &[u8]| -> Vec<u64> {
            let of = told.iter().filter(|(table, _)| table == name);
            of.map(|(_, now)| *now).collect()
        };
        assert_eq!(
            times(b"a"),
            (0..9)
                .map(|count| 5000 + count * 11_000)
                .collect::<Vec<_>>()
        );
        assert_eq!(times(b"b"), [30_000, 96_000]);
    }
}
