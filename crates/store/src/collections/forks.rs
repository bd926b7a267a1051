//! What is done where another node has other operations under the same numbers.

use grapevine_core::origin::Origin;
use grapevine_core::version::{Dot, VersionVector};

use super::Collections;
use crate::journal::ReadOnly;

impl Collections {
    /// A peer has the first `common` operations of `origin` as they are here, and others after
    /// them; `elsewhere` is what is known to be kept by others whose histories are the ones here.
    /// Keeps in mind, durably, what is here and not known to be anywhere else, for the directory to
    /// be made anew from ([`renew`](crate::restore::renew)). True if it was not known that `origin`
    /// has two.
    ///
    /// # Errors
    /// When the log has failed.
    pub fn note_fork(
        &self,
        origin: Origin,
        common: u64,
        elsewhere: &VersionVector,
    ) -> Result<bool, ReadOnly> {
        let me = self.journal.origin();
        let known = self.journal.forks();
        let is_new = known.get(&origin).is_none_or(|first| *first > common + 1);
        let mut firsts = vec![Dot {
            origin,
            sequence: common + 1,
        }];
        let ahead = self.journal.applied();
        let ahead = ahead
            .iter()
            .filter(|(other, count)| *other == me || *count > elsewhere.get(*other));
        firsts.extend(ahead.map(|(origin, _)| Dot {
            origin,
            sequence: elsewhere.get(origin) + 1,
        }));
        let mut noted = None;
        for first in firsts {
            noted = self.journal.append_fork(first)?.or(noted);
        }
        if noted.is_some() {
            self.journal.sync()?;
        }
        Ok(is_new)
    }
}
