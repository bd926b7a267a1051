//! Who was not let in, told at most once per interval.

use std::net::SocketAddr;

use tokio::time::Instant;

use crate::event::{Event, Refusal};
use crate::limits::REFUSALS_EVERY;

/// The last refusal that was not told, and how many came before it.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    waiting: Option<(Option<SocketAddr>, Refusal)>,
    more: u64,
    /// Not before.
    next: Option<Instant>,
}

impl Refusals {
    pub(super) fn add(&mut self, remote: Option<SocketAddr>, reason: Refusal, now: Instant) {
        self.next.get_or_insert(now);
        if self.waiting.is_some() {
            self.more += 1;
        }
        self.waiting = Some((remote, reason));
    }

    /// When there is something to tell.
    pub(super) fn next_report(&self) -> Option<Instant> {
        self.waiting.as_ref().and(self.next)
    }

    pub(super) fn report(&mut self, now: Instant) -> Option<Event> {
        if self.next_report()? > now {
            return None;
        }
        let (remote, reason) = self.waiting.take()?;
        self.next = Some(now + REFUSALS_EVERY);
        Some(Event::Refused {
            remote,
            reason,
            more: std::mem::take(&mut self.more),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_is_counted() {
        let mut refusals = Refusals::default();
        let start = Instant::now() + Duration::from_secs(1);
        assert!(refusals.report(start).is_none());
        refusals.add(None, Refusal::NoProof, start);
        assert!(matches!(
            refusals.report(start),
            Some(Event::Refused { more: 0, .. })
        ));
        for _ in 0..1000 {
            refusals.add(None, Refusal::Late, start);
        }
        let early = start + REFUSALS_EVERY / 2;
        assert!(refusals.report(early).is_none());
        let late = start + REFUSALS_EVERY;
        assert_eq!(refusals.next_report(), Some(late));
        assert!(matches!(
            refusals.report(late),
            Some(Event::Refused {
                reason: Refusal::Late,
                more: 999,
                ..
            })
        ));
        assert_eq!(refusals.next_report(), None);
    }
}
