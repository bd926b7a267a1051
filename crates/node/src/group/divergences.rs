//! Copies that should be the same and are not: told in the log once for each time that it is seen,
//! and shown.

use std::collections::BTreeMap;

use grapevine_core::origin::Origin;
use grapevine_store::collections::Diverged;

use super::owner::Owner;
use super::status::Divergence;

/// What was told, by member and collection: the count, and when it last grew.
pub(super) type Told = BTreeMap<(Origin, Diverged), (u64, u64)>;

impl Owner {
    /// Tells what is new, and gives all.
    pub(super) fn divergences(&mut self, now: u64) -> Vec<Divergence> {
        let mut shown = Vec::new();
        for found in self.collections.divergences() {
            let member = self.name_of(found.peer);
            let (kind, name) = match &found.what {
                Diverged::Table(name) => ("table", name),
                Diverged::Filter(name) => ("filter", name),
            };
            let name = name.escape_ascii().to_string();
            let told = self.diverged.entry((found.peer, found.what));
            let (count, at) = told.or_insert((0, now));
            let grew = found.count > *count;
            if grew {
                (*count, *at) = (found.count, now);
            }
            let divergence = Divergence {
                member,
                kind,
                name,
                count: found.count,
                since_ms: now.saturating_sub(*at),
            };
            if let Some(note) = divergence.note().filter(|_| grew) {
                self.complaints.warn(now, &note);
            }
            shown.push(divergence);
        }
        shown
    }
}
