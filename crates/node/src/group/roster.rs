//! The members: this node's own row, whom to call, what is shown.

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::membership::{Member, MemberRow, MemberState};
use grapevine_core::origin::Origin;
use grapevine_core::sync::{PeerStatus, Replica};
use grapevine_core::version::VersionVector;

use super::command::CommandError;
use super::courier::Targets;
use super::owner::Owner;
use super::status::{Link, MemberStatus, Status};
use crate::clock::unix_ms;
use grapevine_net::{Address, PeerKey, WANTED_MAX};

/// Between two announcements of the failure detector to a member, in milliseconds.
const ANNOUNCE_MS: u64 = 5000;
/// Between two looks for rows of tables that can be removed, in milliseconds.
const COLLECT_MS: u64 = 2000;
/// Weight of a node in a store.
const WEIGHT: u32 = 1;

impl Owner {
    pub(super) fn own_row_says(&self, state: MemberState) -> bool {
        let members = self.collections.members();
        let row = members.get(self.node());
        row.and_then(|row| row.member().ok())
            .is_some_and(|member| member.state == state)
    }

    /// Enters this node's row, if it does not say so already.
    pub(super) fn enter_self(&self, state: MemberState) -> Result<(), CommandError> {
        let member = Member {
            name: self.facts.name.clone(),
            origin: self.origin,
            addresses: self.facts.addresses.clone(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            weight: WEIGHT,
            state,
            group: self.collections.group().id,
        };
        let members = self.collections.members();
        let version = match members.get(self.node()) {
            Some(row) if row.member().is_ok_and(|known| known == member) => return Ok(()),
            // Where a version is at its end one that says "joined" still wins.
            _ => members.version(self.node()).saturating_add(1),
        };
        self.enter(MemberRow::new(self.node(), version, &member))
    }

    pub(super) fn enter(&self, row: MemberRow) -> Result<(), CommandError> {
        let entered = self.collections.enter_member(row);
        entered
            .map(drop)
            .map_err(|error| CommandError::ReadOnly(error.to_string()))
    }

    /// Brings everything in line with the table of members.
    pub(super) fn follow_members(&mut self, now: u64) {
        if !self.outside && self.leaving.is_none() {
            // Also when somebody took it for dead: it is not.
            if let Err(error) = self.enter_self(MemberState::Joined) {
                self.complaints
                    .warn(now, &format!("this node's row of the group: {error}"));
            }
        }
        let members = self.collections.members();
        let joined: Vec<_> = if self.outside {
            Vec::new()
        } else {
            members.joined().collect()
        };
        let me = self.node();
        let origins: BTreeSet<Origin> = joined.iter().map(|(_, member)| member.origin).collect();
        self.machine.set_members(origins);
        let held = self.machine.held_by_all(&self.exchange);
        self.collections.keep_for(&held, self.facts.log_keep);
        self.collect_rows(now);
        let mut wanted = BTreeMap::new();
        for (node, member) in joined.iter().filter(|(node, _)| *node != me) {
            let parsed = member.addresses.iter().filter_map(|text| text.parse().ok());
            let addresses: Vec<Address> = parsed.collect();
            if !addresses.is_empty() && wanted.len() < WANTED_MAX {
                wanted.insert(PeerKey::from_bytes(node.bytes()), addresses);
            }
        }
        let seeds = if self.outside {
            BTreeSet::new()
        } else {
            self.seeds.clone()
        };
        self.errands.aim(Targets { seeds, wanted });
        let is_member = |key: &PeerKey| joined.iter().any(|(node, _)| node.bytes() == *key.bytes());
        self.detector.retain(is_member);
        self.announce(now);
    }

    /// Removes rows of tables that are gone and that no member needs any more.
    fn collect_rows(&mut self, now: u64) {
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

    /// Makes itself known to a member in turn: the detector itself never does again to one that
    /// it has lost.
    fn announce(&mut self, now: u64) {
        if now < self.announced + ANNOUNCE_MS || self.keys.is_empty() {
            return;
        }
        self.announced = now;
        let turn = usize::try_from(now / ANNOUNCE_MS).unwrap_or(0) % self.keys.len();
        if let Some(peer) = self.keys.values().nth(turn).copied() {
            self.detector.announce(now, peer);
        }
    }

    pub(super) fn name_of(&self, origin: Origin) -> String {
        let session = self
            .keys
            .get(&origin)
            .and_then(|key| self.sessions.get(key));
        session.map_or_else(|| origin.to_string(), |session| session.name.clone())
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
            if member.group != group.id && row.node != self.node() {
                return None;
            }
            let key = PeerKey::from_bytes(row.node.bytes());
            let (liveness, since) = self.detector.of(&key);
            let me = key == self.handle.local();
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
            name: self.facts.group_name.clone(),
            met: group.met,
            left: self.outside,
            refused: self.not_taken_in.clone(),
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
        let session = self
            .sessions
            .get(key)
            .filter(|session| session.established)?;
        let peer = peer.filter(|peer| peer.connected)?;
        let life = lives.get(&session.life)?;
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
