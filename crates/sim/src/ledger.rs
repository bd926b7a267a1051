//! The oracle: what was acknowledged, and so must be there after any crash.

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::catalogue::{FilterId, Storage};
use grapevine_store::log::Position;

/// Names to what bears them, and whether it is hidden.
pub type Names = BTreeMap<Vec<u8>, (FilterId, bool)>;

/// One key that is in a filter.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Once the log is safe up to here, so is the key. 0: it is safe.
    pub position: Position,
    /// Whether an insert of this filter counted it.
    pub counted: bool,
}

/// What is known of one epoch of a filter.
#[derive(Clone, Debug)]
pub struct Epoch {
    /// Whether its keys outlive the process.
    pub storage: Storage,
    /// Whether it may refuse new keys.
    pub fixed: bool,
    /// Keys that are in.
    pub members: BTreeMap<u64, Member>,
    /// Keys that may be in or not: whoever looks settles it.
    pub doubt: BTreeSet<u64>,
    /// Keys that somebody ever tried to put in. No other may be found.
    pub attempted: BTreeSet<u64>,
    /// The counter of inserts may not be above this.
    pub inserted_max: u64,
}

impl Epoch {
    /// An empty one.
    #[must_use]
    pub fn new(storage: Storage, fixed: bool) -> Self {
        Self {
            storage,
            fixed,
            members: BTreeMap::new(),
            doubt: BTreeSet::new(),
            attempted: BTreeSet::new(),
            inserted_max: 0,
        }
    }

    /// Keys that a counter must know.
    #[must_use]
    pub fn inserted_min(&self) -> u64 {
        self.members
            .values()
            .filter(|member| member.counted)
            .count() as u64
    }

    /// Notes keys whose request failed: any of them may be in.
    pub fn attempt(&mut self, keys: &[u64]) {
        self.attempted.extend(keys);
        let unknown = keys.iter().filter(|key| !self.members.contains_key(key));
        self.doubt.extend(unknown);
        self.inserted_max = self.inserted_max.saturating_add(keys.len() as u64);
    }

    /// Checks answers, one per key of `0..`, against what must and may be in. Doubts are settled
    /// as of `position`.
    pub fn check(&mut self, found: &[bool], position: Position) -> Result<(), String> {
        for (key, found) in (0..).zip(found) {
            if self.members.contains_key(&key) && !found {
                return Err(format!("key {key} was acknowledged and is answered absent"));
            }
            if *found && !self.attempted.contains(&key) {
                return Err(format!("key {key} was never set and is answered present"));
            }
            if self.doubt.remove(&key) && *found {
                let counted = false;
                self.members.insert(key, Member { position, counted });
            } else if *found && !self.members.contains_key(&key) {
                return Err(format!("key {key} was gone and is back"));
            }
        }
        Ok(())
    }

    /// After a crash: what was safe stays, the rest is in doubt.
    fn crash(&mut self, floor: Position) {
        if self.storage == Storage::Memory {
            *self = Epoch::new(self.storage, self.fixed);
            // Where there was no room to begin again, what was drawn counts as spent.
            self.inserted_max = u64::MAX;
            return;
        }
        let (members, doubt) = (&mut self.members, &mut self.doubt);
        members.retain(|key, member| {
            let safe = member.position <= floor;
            if !safe {
                doubt.insert(*key);
            }
            member.position = 0;
            safe
        });
    }
}

/// Everything acknowledged to the users of one node.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// All epochs ever made.
    pub epochs: BTreeMap<FilterId, Epoch>,
    /// The catalogue after each of its changes, with the position that covers the change. After
    /// a crash several pasts may look the same from outside, as they differ in hidden filters
    /// alone: all of them are kept, the likeliest first.
    history: Vec<(Position, Vec<Names>)>,
    /// The node said that everything before this survives the process.
    pub committed: Position,
    /// The node said that everything before this survives a power cut.
    pub synced: Position,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            epochs: BTreeMap::new(),
            history: vec![(0, vec![Names::new()])],
            committed: 0,
            synced: 0,
        }
    }
}

impl Ledger {
    fn worlds(&self) -> &[Names] {
        let (_, worlds) = self.history.last().expect("the history is never empty");
        worlds
    }

    /// The catalogue now; what is hidden may be in doubt.
    #[must_use]
    pub fn names(&self) -> &Names {
        self.worlds().first().expect("there is at least one past")
    }

    /// Names that are hidden in one past or another.
    #[must_use]
    pub fn hidden(&self) -> BTreeSet<Vec<u8>> {
        let entries = self.worlds().iter().flatten();
        entries
            .filter(|(_, (_, hidden))| *hidden)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether an answer may be the right one, given by who finds `before` under `name`.
    #[must_use]
    pub fn may_be(&self, name: &[u8], before: Option<(FilterId, bool)>) -> bool {
        self.worlds()
            .iter()
            .any(|names| names.get(name) == before.as_ref())
    }

    /// Whether a hidden filter may have that name.
    #[must_use]
    pub fn may_be_hidden(&self, name: &[u8]) -> bool {
        let hidden = |names: &Names| names.get(name).is_some_and(|(_, hidden)| *hidden);
        self.worlds().iter().any(hidden)
    }

    /// Notes a change of the catalogue.
    pub fn change(&mut self, position: Position, change: impl Fn(&mut Names)) {
        let mut worlds = self.worlds().to_vec();
        worlds.iter_mut().for_each(change);
        self.history.push((position, worlds));
    }

    /// A filter that was kept in memory has begun again under its name, as another one.
    pub fn begin_again(&mut self, name: &[u8], id: FilterId) {
        let epochs = &self.epochs;
        let worlds = self.history.iter_mut().flat_map(|(_, worlds)| worlds);
        let mut before = None;
        for (old, _) in worlds.filter_map(|names| names.get_mut(name)) {
            if let Some(epoch) = epochs
                .get(old)
                .filter(|epoch| epoch.storage == Storage::Memory)
            {
                before = Some((epoch.storage, epoch.fixed));
                *old = id;
            }
        }
        if let Some((storage, fixed)) = before {
            self.epochs.insert(id, Epoch::new(storage, fixed));
        }
    }

    /// The process ended with everything before `floor` safe, and `visible` answers now: which
    /// past is that? Gives whether anything was taken back.
    pub fn recover(
        &mut self,
        floor: Position,
        visible: &BTreeMap<Vec<u8>, FilterId>,
    ) -> Result<bool, String> {
        let safe = self
            .history
            .iter()
            .rposition(|(position, _)| *position <= floor);
        let candidates = &self.history[safe.unwrap_or(0)..];
        let shown = |names: &Names| -> BTreeMap<Vec<u8>, FilterId> {
            let shown = names.iter().filter(|(_, (_, hidden))| !hidden);
            shown.map(|(name, (id, _))| (name.clone(), *id)).collect()
        };
        let mut alike: Vec<Names> = Vec::new();
        for names in candidates.iter().rev().flat_map(|(_, worlds)| worlds) {
            if shown(names) == *visible && !alike.contains(names) {
                alike.push(names.clone());
            }
        }
        if alike.is_empty() {
            return Err(format!(
                "the catalogue is of no possible past: {visible:?} of {candidates:?}"
            ));
        }
        let rolled_back = !self.worlds().iter().any(|names| shown(names) == *visible);
        let known: BTreeSet<FilterId> = alike
            .iter()
            .flat_map(|names| names.values().map(|(id, _)| *id))
            .collect();
        // One that a lost change dropped is back; its drop was never acknowledged as safe.
        self.epochs.retain(|id, _| known.contains(id));
        self.epochs
            .values_mut()
            .for_each(|epoch| epoch.crash(floor));
        self.history = vec![(0, alike)];
        (self.committed, self.synced) = (0, 0);
        Ok(rolled_back)
    }
}
