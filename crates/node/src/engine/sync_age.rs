//! How old what is not synced may be: from positions of the log that were looked at now and then.

use std::time::{Duration, Instant};

use grapevine_store::log::Position;

/// What is known of the age of writes.
#[derive(Debug)]
pub(super) struct SyncAge {
    /// Everything written before this moment is synced.
    synced_until: Instant,
    /// The end of the log at a later moment.
    mark: (Instant, Position),
}

impl SyncAge {
    /// Of a log whose end is at that position. What recovery found counts as written now.
    pub(super) fn new(now: Instant, appended: Position) -> Self {
        SyncAge {
            synced_until: now,
            mark: (now, appended),
        }
    }

    /// To be called now and then, best before a sync: the ends of what is written and synced.
    pub(super) fn look(&mut self, now: Instant, appended: Position, synced: Position) {
        let (at, position) = self.mark;
        if position <= synced {
            self.synced_until = at;
            self.mark = (now, appended);
        }
        if appended <= synced {
            self.synced_until = now;
        }
    }

    /// How old the oldest write that is not synced is at most; none when all are synced.
    pub(super) fn oldest(
        &mut self,
        now: Instant,
        appended: Position,
        synced: Position,
    ) -> Option<Duration> {
        self.look(now, appended, synced);
        (appended > synced).then(|| now.saturating_duration_since(self.synced_until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_an_upper_bound_that_a_sync_brings_down() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let ms = |milliseconds| Some(Duration::from_millis(milliseconds));
        let mut age = SyncAge::new(start, 100);
        assert_eq!(age.oldest(at(500), 100, 100), None);
        // Written at some time after 500, looked at at 1000, then synced up to there.
        age.look(at(1000), 200, 100);
        assert_eq!(age.oldest(at(1100), 200, 100), ms(600));
        assert_eq!(age.oldest(at(1200), 300, 200), ms(200));
        // Nothing is synced any more: it grows.
        age.look(at(2000), 400, 200);
        age.look(at(3000), 500, 200);
        assert_eq!(age.oldest(at(4000), 500, 200), ms(3000));
        assert_eq!(age.oldest(at(5000), 500, 500), None);
        assert_eq!(age.oldest(at(5500), 600, 500), ms(500));
    }
}
