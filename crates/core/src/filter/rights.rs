//! The right to insert, divided among the members: a bounded counter (Balegas et al. 2015).
//!
//! A layer of capacity `c` starts with `c` rights in the hands of its creator. A member may hand
//! rights on; inserting a new key spends one. Nobody can spend or hand on what it does not hold,
//! so the inserts into a layer never exceed its capacity, however the members are cut apart.
//! Every number only grows and is written by one member alone (its own spending, its own
//! grants), so two states merge by taking the larger of each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::origin::Origin;

/// The rights of one layer as known to one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    capacity: u64,
    creator: Origin,
    /// Giver to taker to the total ever given.
    granted: BTreeMap<Origin, BTreeMap<Origin, u64>>,
    spent: BTreeMap<Origin, u64>,
}

/// Rights as a list, to compare copies by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Who inserted how many keys.
    pub spent: Vec<(Origin, u64)>,
    /// Who gave how many rights to whom.
    pub granted: Vec<(Origin, Origin, u64)>,
}

/// Why rights did not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// The member does not hold that many.
    #[error("{wanted} rights wanted, {held} held")]
    Short {
        /// Rights asked for.
        wanted: u64,
        /// Rights that the member holds.
        held: u64,
    },
    /// The two states are of different layers.
    #[error(
        "rights of a layer of {ours} keys do not merge with those of one of {theirs} keys, or their creators differ"
    )]
    Unrelated {
        /// Capacity on this side.
        ours: u64,
        /// Capacity on the other side.
        theirs: u64,
    },
}

impl Rights {
    /// All rights of a new layer, held by its creator.
    pub fn new(capacity: u64, creator: Origin) -> Self {
        Rights {
            capacity,
            creator,
            granted: BTreeMap::new(),
            spent: BTreeMap::new(),
        }
    }

    /// Keys the layer may take in all.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Keys inserted by all members, as far as known here.
    pub fn spent(&self) -> u64 {
        self.spent
            .values()
            .fold(0, |sum, spent| sum.saturating_add(*spent))
    }

    /// Keys inserted by one member.
    pub fn spent_by(&self, member: Origin) -> u64 {
        self.spent.get(&member).copied().unwrap_or(0)
    }

    /// Rights that `member` may still spend or hand on, as far as known here. Exact for the
    /// member itself, never too high for another once its own grants are known.
    pub fn held_by(&self, member: Origin) -> u64 {
        self.received_by(member)
            .saturating_sub(self.given_by(member))
            .saturating_sub(self.spent_by(member))
    }

    /// Rights that `member` ever had: as the creator, and from others.
    pub fn received_by(&self, member: Origin) -> u64 {
        let own = if member == self.creator {
            self.capacity
        } else {
            0
        };
        self.granted
            .values()
            .filter_map(|takers| takers.get(&member))
            .fold(own, |sum, given| sum.saturating_add(*given))
    }

    /// Rights that `member` ever handed on.
    pub fn given_by(&self, member: Origin) -> u64 {
        self.granted.get(&member).map_or(0, |takers| {
            takers
                .values()
                .fold(0, |sum, given| sum.saturating_add(*given))
        })
    }

    /// Rights that `giver` ever handed to `taker`.
    pub fn granted(&self, giver: Origin, taker: Origin) -> u64 {
        self.granted
            .get(&giver)
            .and_then(|takers| takers.get(&taker))
            .copied()
            .unwrap_or(0)
    }

    /// `member` inserts `count` keys.
    pub fn spend(&mut self, member: Origin, count: u64) -> Result<(), RightsError> {
        self.ensure(member, count)?;
        *self.spent.entry(member).or_default() += count;
        Ok(())
    }

    /// `giver` hands `count` rights to `taker`.
    pub fn grant(&mut self, giver: Origin, taker: Origin, count: u64) -> Result<(), RightsError> {
        self.ensure(giver, count)?;
        if giver != taker {
            *self
                .granted
                .entry(giver)
                .or_default()
                .entry(taker)
                .or_default() += count;
        }
        Ok(())
    }

    /// Notes that `member` has spent `total` in all, as its own operations say.
    pub fn observe_spent(&mut self, member: Origin, total: u64) {
        let spent = self.spent.entry(member).or_default();
        *spent = (*spent).max(total);
    }

    /// Notes that `giver` has handed `total` rights in all to `taker`, as its own operations say.
    pub fn observe_granted(&mut self, giver: Origin, taker: Origin, total: u64) {
        let given = self
            .granted
            .entry(giver)
            .or_default()
            .entry(taker)
            .or_default();
        *given = (*given).max(total);
    }

    /// Takes in what another copy knows.
    pub fn merge(&mut self, other: &Rights) -> Result<(), RightsError> {
        if (self.capacity, self.creator) != (other.capacity, other.creator) {
            return Err(RightsError::Unrelated {
                ours: self.capacity,
                theirs: other.capacity,
            });
        }
        for (member, total) in &other.spent {
            self.observe_spent(*member, *total);
        }
        for (giver, takers) in &other.granted {
            for (taker, total) in takers {
                self.observe_granted(*giver, *taker, *total);
            }
        }
        Ok(())
    }

    /// What is known, without what says nothing.
    pub fn known(&self) -> Known {
        let spent = self.spent.iter().map(|(member, total)| (*member, *total));
        let granted = self.granted.iter().flat_map(|(giver, takers)| {
            let takers = takers.iter();
            takers.map(|(taker, total)| (*giver, *taker, *total))
        });
        Known {
            spent: spent.filter(|(_, total)| *total > 0).collect(),
            granted: granted.filter(|(_, _, total)| *total > 0).collect(),
        }
    }

    fn ensure(&self, member: Origin, wanted: u64) -> Result<(), RightsError> {
        let held = self.held_by(member);
        if held < wanted {
            Err(RightsError::Short { wanted, held })
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEMBERS: usize = 4;

    fn member(index: usize) -> Origin {
        Origin::new([index as u8; 16])
    }

    #[derive(Clone, Debug)]
    enum Step {
        Spend(usize, u64),
        Grant(usize, usize, u64),
        Sync(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..MEMBERS, 0..60u64).prop_map(|(m, n)| Step::Spend(m, n)),
            (0..MEMBERS, 0..MEMBERS, 0..60u64).prop_map(|(a, b, n)| Step::Grant(a, b, n)),
            (0..MEMBERS, 0..MEMBERS).prop_map(|(a, b)| Step::Sync(a, b)),
        ]
    }

    fn run(steps: &[Step]) -> Vec<Rights> {
        let mut copies = vec![Rights::new(100, member(0)); MEMBERS];
        for step in steps {
            match *step {
                Step::Spend(m, n) => drop(copies[m].spend(member(m), n)),
                Step::Grant(a, b, n) => drop(copies[a].grant(member(a), member(b), n)),
                Step::Sync(a, b) => {
                    let from = copies[a].clone();
                    copies[b].merge(&from).unwrap();
                }
            }
        }
        copies
    }

    proptest! {
        #[test]
        fn inserts_never_exceed_the_capacity(steps in prop::collection::vec(step(), 0..60)) {
            let copies = run(&steps);
            let mut all = copies[0].clone();
            for copy in &copies {
                all.merge(copy).unwrap();
            }
            prop_assert!(all.spent() <= 100, "{all:?}");
            let held: u64 = (0..MEMBERS).map(|m| all.held_by(member(m))).sum();
            prop_assert_eq!(held + all.spent(), 100);
        }

        #[test]
        fn merge_is_a_join(steps in prop::collection::vec(step(), 0..60)) {
            let copies = run(&steps);
            let join = |a: &Rights, b: &Rights| { let mut a = a.clone(); a.merge(b).unwrap(); a };
            let (a, b, c) = (&copies[0], &copies[1], &copies[2]);
            prop_assert_eq!(join(a, a), a.clone());
            prop_assert_eq!(join(a, b).known(), join(b, a).known());
            prop_assert_eq!(join(&join(a, b), c).known(), join(a, &join(b, c)).known());
        }
    }

    #[test]
    fn nobody_spends_what_it_does_not_hold() {
        let mut rights = Rights::new(10, member(0));
        assert_eq!(
            rights.spend(member(1), 1),
            Err(RightsError::Short { wanted: 1, held: 0 })
        );
        rights.grant(member(0), member(1), 4).unwrap();
        rights.spend(member(1), 4).unwrap();
        assert_eq!(
            rights.spend(member(0), 7),
            Err(RightsError::Short { wanted: 7, held: 6 })
        );
        assert_eq!(rights.spent(), 4);
        assert!(rights.merge(&Rights::new(11, member(0))).is_err());
    }
}
