//! The filters that are kept in memory: their keys go from node to node beside the group's stream,
//! by a sync machine of their own, in which a node has another name each time it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use grapevine_core::origin::Origin;
use grapevine_core::sync::limits::ORIGINS_MAX;
use grapevine_core::sync::{
    Event as SyncEvent, Input as SyncInput, Machine, Output, PeerStatus, Replica,
};
use grapevine_core::version::VersionVector;
use grapevine_store::collections::{Collections, MemoryExchange};

use super::frame;
use super::owner::Owner;
use grapevine_net::PeerKey;

pub(super) struct MemoryFilters {
    machine: Machine,
    exchange: MemoryExchange,
    /// Members that run, by the names of this life of theirs.
    lives: BTreeMap<Origin, PeerKey>,
}

impl MemoryFilters {
    pub(super) fn new(collections: &Arc<Collections>, seed: u64) -> Self {
        let life = collections.filters().memory_stream().life();
        let mut machine = Machine::new(life, seed);
        // Nobody's name is known here once its life has ended.
        machine.set_strangers(ORIGINS_MAX);
        MemoryFilters {
            machine,
            exchange: MemoryExchange::new(Arc::clone(collections)),
            lives: BTreeMap::new(),
        }
    }

    /// Whether something was put in that the machine has not seen yet.
    pub(super) fn has_news(&self) -> bool {
        self.exchange.has_news()
    }

    /// Looks at what was put in; true if there is something new to be said of it.
    pub(super) fn refresh(&mut self) -> bool {
        self.exchange.refresh()
    }

    /// Whether all who run have everything.
    pub(super) fn is_everywhere(&self) -> bool {
        let status = self.machine.status(&self.exchange);
        let behind = |peer: &PeerStatus| peer.connected && (peer.lag > 0 || peer.in_flight > 0);
        !status.iter().any(behind)
    }

    /// How things stand with every member that runs, by the name of its life.
    pub(super) fn status(&self) -> BTreeMap<Origin, PeerStatus> {
        let peers = self.machine.status(&self.exchange).into_iter();
        peers.map(|peer| (peer.peer, peer)).collect()
    }

    pub(super) fn durable(&self) -> &VersionVector {
        self.exchange.durable()
    }

    pub(super) fn applied(&self) -> &VersionVector {
        self.exchange.applied()
    }
}

impl Owner {
    /// Gives the machine of the filters that are kept in memory an input, and carries out what it
    /// wants.
    pub(super) fn drive_memory(&mut self, input: SyncInput) {
        let now = self.now();
        let mut outputs = Vec::new();
        let MemoryFilters {
            machine, exchange, ..
        } = &mut self.memory;
        exchange.refresh();
        machine.handle(now, input, exchange, &mut outputs);
        let trouble = exchange.take_trouble();
        for output in outputs {
            match output {
                Output::Send(to, message) => {
                    if let Some(key) = self.memory.lives.get(&to).copied() {
                        self.send(&key, frame::of_memory(&message));
                    }
                }
                Output::Event(SyncEvent::PageRefused(_, error)) => {
                    let line = format!("keys of filters kept in memory: {error}");
                    self.complaints.warn(now, &line);
                }
                Output::Event(event) => tracing::debug!("filters kept in memory: {event:?}"),
            }
        }
        if let Some(trouble) = trouble {
            let line = format!("filters kept in memory: {trouble}");
            self.complaints.warn(now, &line);
        }
    }

    /// A session with this life of a member begins.
    pub(super) fn meet_life(&mut self, life: Origin, peer: PeerKey) {
        let number = super::random();
        self.memory.lives.insert(life, peer);
        self.drive_memory(SyncInput::Connected(life, number));
    }

    /// The session with this life of a member is over.
    pub(super) fn forget_life(&mut self, life: Origin, peer: &PeerKey) {
        if self.memory.lives.get(&life) == Some(peer) {
            self.memory.lives.remove(&life);
            self.drive_memory(SyncInput::Disconnected(life));
        }
    }
}
