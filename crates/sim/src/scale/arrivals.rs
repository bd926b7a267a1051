//! When operations have arrived on all nodes, and over how many others they came.

use std::collections::BTreeMap;

/// How fast operations reached all nodes.
#[derive(Clone, Debug, Default)]
pub struct Convergence {
    /// For each operation the simulated milliseconds from the key's being set until the last node
    /// had it; ascending.
    pub times: Vec<u64>,
    /// For each operation the largest number of transfers from node to node on its way to any
    /// node; ascending.
    pub rounds: Vec<u64>,
}

impl Convergence {
    /// Of ascending numbers the one that `share` of them do not exceed.
    #[must_use]
    pub fn quantile(numbers: &[u64], share: f64) -> u64 {
        let last = numbers.len().saturating_sub(1);
        let index = ((numbers.len() as f64 * share).ceil() as usize).saturating_sub(1);
        numbers.get(index.min(last)).copied().unwrap_or(0)
    }
}

/// An operation that has not arrived everywhere.
struct Travelling {
    set_at: u64,
    missing: usize,
    /// Per node the transfers on the way to it.
    rounds: Vec<u8>,
}

/// Operations on their way, by origin and number.
#[derive(Default)]
pub(super) struct Arrivals {
    travelling: BTreeMap<(usize, u64), Travelling>,
    pub(super) arrived: Convergence,
}

impl Arrivals {
    pub(super) fn set(&mut self, now: u64, nodes: usize, origin: usize, number: u64) {
        let travelling = Travelling {
            set_at: now,
            missing: nodes - 1,
            rounds: vec![0; nodes],
        };
        self.travelling.insert((origin, number), travelling);
    }

    /// An operation came to node `at` from node `from`.
    pub(super) fn arrive(
        &mut self,
        now: u64,
        (origin, number): (usize, u64),
        from: usize,
        at: usize,
    ) {
        let Some(travelling) = self.travelling.get_mut(&(origin, number)) else {
            return;
        };
        travelling.rounds[at] = travelling.rounds[from].saturating_add(1);
        travelling.missing -= 1;
        if travelling.missing == 0 {
            let most = travelling.rounds.iter().copied().max().unwrap_or(0);
            self.arrived.times.push(now - travelling.set_at);
            self.arrived.rounds.push(u64::from(most));
            self.travelling.remove(&(origin, number));
        }
    }

    pub(super) fn are_complete(&self) -> bool {
        self.travelling.is_empty()
    }

    pub(super) fn take(&mut self) -> Convergence {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.times.sort_unstable();
        arrived.rounds.sort_unstable();
        arrived
    }
}
