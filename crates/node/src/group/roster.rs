//! What is kept and removed for the members' sake, and what is shown of them.

use std::collections::BTreeMap;

use grapevine_core::membership::NodeId;
use grapevine_core::origin::Origin;
use grapevine_core::sync::{PeerStatus, Replica};
use grapevine_core::version::VersionVector;

use super::owner::Owner;
use super::status::{Link, MemberStatus, Status};
use crate::clock::unix_ms;
use grapevine_net::PeerKey;

/// Between two looks for rows of tables that can be removed, in milliseconds.
const COLLECT_MS: u64 = 2000;
impl Owner {
    /// Keeps the log for members that lack it.
    pub(super) fn keep_log(&self) {
        let held = self.machine.held_by_all(&self.exchange);
        self.collections.keep_for(&held, self.limits.log_keep);
    }

    /// Removes rows of tables that are gone and that no member needs any more.
    pub(super) fn collect_rows(&mut self, now: u64) {
        if now < self.collected + COLLECT_MS {
            return;
        }
        self.collected = now;
        let tables = self.collections.tables();
        if tables.read_clocks(unix_ms(), now)
            && let Err(error) = tables.flush()
        {
            self.complaints
                .warn(now, &format!("keeping what clocks said: {error}"));
        }
        self.machine.set_horizon(tables.horizon());
        if let Some(stable) = self.machine.stable(now, &self.exchange)
            && let Err(error) = tables.collect(&stable)
        {
            self.complaints
                .warn(now, &format!("removing rows that are gone: {error}"));
        }
    }

    /// What people call the node whose operations have this origin.
    pub(super) fn name_of(&self, origin: Origin) -> String {
        let name = self.protocol.name_of(origin);
        name.map_or_else(|| origin.to_string(), str::to_owned)
    }

    /// Shows how things are.
    pub(super) fn show(&mut self, now: u64) {
        self.detector.look(now);
        let divergences = self.divergences(now);
        // What is shown is what is refused.
        let clock = self.watch_clocks();
        let group = self.collections.group();
        let members = self.collections.members();
        let peers = self.machine.status(&self.exchange);
        let peers: BTreeMap<Origin, PeerStatus> =
            peers.into_iter().map(|peer| (peer.peer, peer)).collect();
        let lives = self.memory.status();
        let queues = self.handle.peers();
        let queues: BTreeMap<PeerKey, usize> =
            queues.iter().map(|peer| (peer.key, peer.waiting)).collect();
        let shown = members.rows().filter_map(|row| {
            let member = row.member().ok()?;
            let key = PeerKey::from(row.node);
            let me = key == self.handle.local();
            if member.group != group.id && !me {
                return None;
            }
            let (liveness, since) = self.detector.of(&row.node);
            let liveness = if me { super::Liveness::Alive } else { liveness };
            Some(MemberStatus {
                link: self.link(&key, peers.get(&member.origin), &lives, queues.get(&key)),
                key,
                name: member.name,
                origin: member.origin,
                addresses: member.addresses,
                software: member.software,
                state: member.state,
                liveness,
                since_ms: if me {
                    Some(now)
                } else {
                    since.map(|at| now - at)
                },
            })
        });
        let status = Status {
            id: Origin::new(group.id).to_string(),
            name: self.group_name.clone(),
            met: group.met,
            left: self.protocol.is_outside(),
            refused: self.not_taken_in(),
            me: self.handle.local(),
            members: shown.collect(),
            divergences,
            clock,
        };
        self.board.show(status);
    }

    fn link(
        &self,
        key: &PeerKey,
        peer: Option<&PeerStatus>,
        lives: &BTreeMap<Origin, PeerStatus>,
        waiting: Option<&usize>,
    ) -> Option<Link> {
        let session = self.protocol.session(&NodeId::from(*key));
        let session = session.filter(|session| session.established)?;
        let peer = peer.filter(|peer| peer.connected)?;
        let life = lives.get(&self.channels.get(key)?.life)?;
        let (ours, kept) = (self.exchange.durable(), self.memory.durable());
        let to_receive = missing(&peer.version, self.exchange.applied())
            + missing(&life.version, self.memory.applied());
        Some(Link {
            remote: session.remote.to_string(),
            dialed: session.dialed,
            known: peer.known && life.known,
            to_send: missing(ours, &peer.version) + missing(kept, &life.version),
            to_receive,
            in_flight: (peer.in_flight + life.in_flight) as u64,
            waiting: waiting.map_or(0, |bytes| *bytes as u64),
            forks: self
                .machine
                .forks()
                .filter(|(name, ..)| *name == peer.peer)
                .count() as u64,
            clock: peer.clock,
            snapshot_lines: peer.snapshot.map(|count| count.lines),
        })
    }
}

/// Operations in one version that are not in the other.
fn missing(of: &VersionVector, from: &VersionVector) -> u64 {
    of.iter()
        .map(|(origin, count)| count.saturating_sub(from.get(origin)))
        .sum()
}
