//! Whether those who want something written are joined by others when they wait a moment.

use std::sync::atomic::{AtomicU32, Ordering};

/// Waits in vain after which nobody is expected.
const TRIES: u32 = 16;
/// Of this many writes after that, one waits nevertheless, to see whether others have come.
const LOOK_EVERY: u32 = 32;

/// What recent waits brought. Races only cost, or save, a wait.
#[derive(Debug, Default)]
pub(crate) struct Company {
    /// Waits that brought nobody since one that did; beyond [`TRIES`], writes.
    alone: AtomicU32,
}

impl Company {
    /// Whether a wait is likely to bring others. To be asked before each write.
    pub(crate) fn is_expected(&self) -> bool {
        let alone = self.alone.load(Ordering::Relaxed);
        if alone < TRIES {
            return true;
        }
        let next = (alone + 1 - TRIES) % LOOK_EVERY;
        self.alone.store(TRIES + next, Ordering::Relaxed);
        next == 0
    }

    /// A wait is over, and others came or not.
    pub(crate) fn came(&self, others: bool) {
        let alone = self.alone.load(Ordering::Relaxed);
        if others && alone > 0 {
            self.alone.store(0, Ordering::Relaxed);
        } else if !others && alone < TRIES {
            self.alone.store(alone + 1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits among so many writes, each of which finds others or not.
    fn waits(company: &Company, writes: u32, others: bool) -> u32 {
        (0..writes)
            .filter(|_| {
                let waits = company.is_expected();
                if waits {
                    company.came(others);
                }
                waits
            })
            .count() as u32
    }

    #[test]
    fn who_is_alone_hardly_waits_and_who_is_not_always_does() {
        let company = Company::default();
        assert_eq!(waits(&company, 1000, true), 1000);
        assert_eq!(waits(&company, TRIES, false), TRIES);
        assert_eq!(waits(&company, 100 * LOOK_EVERY, false), 100);
        // Others are noticed within a few writes, and from then on waited for.
        let until = (0..).find(|_| company.is_expected()).unwrap_or(u32::MAX);
        assert!(until < LOOK_EVERY, "{until}");
        company.came(true);
        assert_eq!(waits(&company, 1000, true), 1000);
    }
}
