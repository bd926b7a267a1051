//! p2ptbl over HBBP: rows of tables are taken from links and told to them.
//! `docs/protocols/p2ptbl.md` is the page for users.
//!
//! A [`Receiver`] merges the rows of packets into the tables that are to be received, and no others.
//! A [`Teller`] follows the tables that are to be told: what changed goes out a moment later, and
//! a random part of each table again and again, so that a lost packet costs time and nothing
//! else. Rows that came over one link enter the group like any others, and so go out on the links
//! of all members. Reading order: `line`, `pending`, `receiver`, `rounds`, `teller`.

pub(crate) mod line;
mod pending;
mod receiver;
mod rounds;
mod teller;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::config::{GossipRound, Hbbp};
use pending::{Link, Pending, RowName};

pub use receiver::Receiver;
pub use teller::Teller;

/// What is received and told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The links, by their interfaces.
    pub interfaces: Vec<String>,
    /// The tables that are received.
    pub receive: BTreeSet<Vec<u8>>,
    /// The tables that are told, and how.
    pub gossip: Vec<GossipRound>,
}

impl From<&Hbbp> for Settings {
    fn from(config: &Hbbp) -> Self {
        Settings {
            interfaces: config.interfaces.clone(),
            receive: config
                .tables
                .iter()
                .map(|name| name.clone().into_bytes())
                .collect(),
            gossip: config.gossip.clone(),
        }
    }
}

impl Settings {
    /// Whether any table is exchanged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receive.is_empty() && self.gossip.is_empty()
    }

    /// The names of the tables that are exchanged.
    pub fn tables(&self) -> impl Iterator<Item = &[u8]> {
        let told = self.gossip.iter().map(|round| round.table.as_bytes());
        self.receive.iter().map(Vec::as_slice).chain(told)
    }
}

/// What receiver and teller know together: who has told what.
#[derive(Clone, Debug)]
struct Talk {
    interfaces: Arc<[String]>,
    /// The tables that are told, each once.
    tables: Arc<[Vec<u8>]>,
    pending: Arc<Mutex<Pending>>,
    started: Instant,
}

impl Talk {
    fn new(settings: &Settings) -> Self {
        let told: BTreeSet<&[u8]> = settings
            .gossip
            .iter()
            .map(|one| one.table.as_bytes())
            .collect();
        Talk {
            interfaces: settings.interfaces.clone().into(),
            tables: told.into_iter().map(<[u8]>::to_vec).collect(),
            pending: Arc::default(),
            started: Instant::now(),
        }
    }

    fn link(&self, interface: &str) -> Option<Link> {
        self.interfaces.iter().position(|known| known == interface)
    }

    /// The place of a table among those that are told.
    fn table(&self, name: &[u8]) -> Option<usize> {
        self.tables.iter().position(|known| known == name)
    }

    fn row(table: usize, key: &[u8]) -> RowName {
        RowName {
            table,
            key: key.to_vec(),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the start.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A receiver and a teller for the same links.
#[must_use]
pub fn exchange(
    settings: &Settings,
    engine: &Arc<crate::engine::Engine>,
    metrics: &crate::metrics::P2ptblMetrics,
) -> (Receiver, Teller) {
    let talk = Talk::new(settings);
    let receiver = Receiver::new(settings, talk.clone(), Arc::clone(engine), metrics.clone());
    let teller = Teller::new(settings, talk, Arc::clone(engine), metrics.clone());
    (receiver, teller)
}
