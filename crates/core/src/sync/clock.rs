//! The machine's own time, which never goes back whatever the clock that it is told does.
//!
//! Every deadline of the machine is a time kept from an earlier turn. Were the time of a clock
//! that was set back by an hour taken as it is, or its largest so far, nothing would be due for
//! an hour: no repair, no second sending, no question for rights. So only what the clock moved on
//! by counts. Set forward, it makes everything due at once, as a sleep does, and that is harmless.

/// Time since the machine was first told one, on top of that.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// What the clock said last.
    told: Option<u64>,
    time: u64,
}

impl Clock {
    /// The clock says `told`: gives the machine's time. Both are in milliseconds.
    pub(super) fn advance(&mut self, told: u64) -> u64 {
        self.time = match self.told {
            Some(before) => self.time.saturating_add(told.saturating_sub(before)),
            None => told,
        };
        self.told = Some(told);
        self.time
    }

    /// The machine's time as of the last turn.
    pub(super) fn time(&self) -> u64 {
        self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clock_set_back_goes_on_from_where_it_was() {
        let mut clock = Clock::default();
        let told = [5_000_000, 5_000_100, 1_400_100, 1_400_200, 5_000_200];
        let times = told.map(|told| clock.advance(told));
        assert_eq!(
            times,
            [5_000_000, 5_000_100, 5_000_100, 5_000_200, 8_600_200]
        );
    }

    proptest! {
        #[test]
        fn time_passes_as_on_the_clock_and_never_goes_back(told in prop::collection::vec(0..10_000u64, 1..50)) {
            let mut clock = Clock::default();
            let mut before: Option<(u64, u64)> = None;
            for told in told {
                let time = clock.advance(told);
                if let Some((told_before, time_before)) = before {
                    prop_assert_eq!(time - time_before, told.saturating_sub(told_before));
                }
                before = Some((told, time));
            }
        }
    }
}
