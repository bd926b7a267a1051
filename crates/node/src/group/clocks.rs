//! Clocks that differ: told in the log when that begins and when it ends. While this node's own is off
//! from those of most members, its tables make no rows with a time to live.

use std::collections::BTreeSet;

use grapevine_core::origin::Origin;

use super::owner::Owner;
use super::status::Clock;

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// That this node's clock is off.
    off: bool,
    /// Whose clocks differ from it.
    members: BTreeSet<Origin>,
}

impl Owner {
    /// Looks how this node's clock stands to the others, and reports what of that is new.
    pub(super) fn watch_clocks(&mut self) -> Clock {
        let clock = Clock {
            bound: self.limits.clock_drift,
            off: self.machine.off(),
        };
        self.collections.tables().set_off(clock.off);
        let was_off = std::mem::replace(&mut self.clocks.off, clock.off.is_some());
        match clock.off {
            Some(off) if !was_off => tracing::warn!("{off}"),
            None if was_off => {
                tracing::info!(
                    "this node's clock is no longer off from those of most members it hears; rows \
                     with a time to live are made again"
                );
            }
            _ => {}
        }
        // Of one that is off most others differ: that is one line.
        if clock.off.is_none() {
            self.watch_clocks_of_others(clock);
        }
        clock
    }

    fn watch_clocks_of_others(&mut self, clock: Clock) {
        let mut differing = BTreeSet::new();
        for (origin, offset) in self.machine.clocks() {
            let told = self.clocks.members.contains(&origin);
            let name = || self.name_of(origin);
            if offset.exceeds(clock.bound) {
                differing.insert(origin);
                if let Some(note) = clock.note(&name(), offset).filter(|_| !told) {
                    tracing::warn!("{note}");
                }
            } else if told {
                tracing::info!("the clock of {} agrees with this node's again", name());
            }
        }
        self.clocks.members = differing;
    }
}
