//! Leaving the group, and saying that a dead member has left.

use std::collections::BTreeSet;

use grapevine_core::hash::Seed;
use grapevine_core::membership::{GroupIdentity, Member, MemberRow, MemberState, NodeId};
use tokio::sync::oneshot;

use super::command::{CommandError, Left};
use super::owner::Owner;
use grapevine_net::{PeerKey, Reason};

/// How long a node that leaves waits for another to know it, in milliseconds.
const LEAVE_MS: u64 = 5000;

/// This node is leaving.
pub(super) struct Leaving {
    deadline: u64,
    /// Number of the operation that says so.
    sequence: u64,
    answer: oneshot::Sender<Result<Left, CommandError>>,
}

impl Owner {
    pub(super) fn leave(&mut self, answer: oneshot::Sender<Result<Left, CommandError>>) {
        if self.outside || self.leaving.is_some() {
            return drop(answer.send(Err(CommandError::Outside)));
        }
        if let Err(error) = self.enter_self(MemberState::Left) {
            return drop(answer.send(Err(error)));
        }
        self.leaving = Some(Leaving {
            deadline: self.now() + LEAVE_MS,
            sequence: self.collections.journal().applied().get(self.origin),
            answer,
        });
    }

    /// Ends a leave once another member knows it, or it has taken too long.
    pub(super) fn drive_leaving(&mut self, now: u64) {
        let Some(leaving) = &self.leaving else {
            return;
        };
        let peers = self.machine.status(&self.exchange);
        let known = peers
            .iter()
            .any(|peer| peer.connected && peer.version.get(self.origin) >= leaving.sequence);
        if !known && !self.keys.is_empty() && now < leaving.deadline {
            return;
        }
        let Some(leaving) = self.leaving.take() else {
            return;
        };
        let outcome = self.become_outside(now).map(|()| Left {
            peer: self.handle.local(),
            name: self.facts.name.clone(),
            known,
        });
        drop(leaving.answer.send(outcome));
    }

    /// Closes everything and belongs to a group of its own, with all its data.
    fn become_outside(&mut self, now: u64) -> Result<(), CommandError> {
        self.outside = true;
        self.detector.leave(now);
        // Before its sessions end.
        self.send_packets();
        self.detector.begin_again();
        for peer in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.end(&peer, Reason::Left.into());
        }
        self.seeds = BTreeSet::new();
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| CommandError::ReadOnly(error.to_string()))?;
        let (mut id, mut seed) = ([0; 16], [0; 16]);
        id.copy_from_slice(&random[..16]);
        seed.copy_from_slice(&random[16..]);
        let group = GroupIdentity {
            id,
            seed: Seed::new(seed),
            met: false,
        };
        if !self.take_group(group) {
            return Err(CommandError::ReadOnly(
                "the node takes no writes: it comes back at its next start".to_owned(),
            ));
        }
        tracing::info!("left the group");
        self.follow_members(now);
        self.show(now);
        Ok(())
    }

    /// Enters that another member has left.
    pub(super) fn mark_left(&mut self, given: &str) -> Result<Left, CommandError> {
        if self.outside || self.leaving.is_some() {
            return Err(CommandError::Outside);
        }
        let (node, member) = self.find(given)?;
        let key = PeerKey::from_bytes(node.bytes());
        if self.is_established(&key) {
            return Err(CommandError::Connected(member.name));
        }
        let name = member.name.clone();
        let members = self.collections.members();
        let version = members.get(node).map_or(0, |row| row.version);
        let left = Member {
            state: MemberState::Left,
            ..member
        };
        self.enter(MemberRow::new(node, version.saturating_add(1), &left))?;
        let now = self.now();
        self.follow_members(now);
        self.show(now);
        Ok(Left {
            peer: key,
            name,
            known: !self.keys.is_empty(),
        })
    }

    fn find(&self, given: &str) -> Result<(NodeId, Member), CommandError> {
        let members = self.collections.members();
        let mut found = members.joined().filter(|(node, member)| {
            let key = PeerKey::from_bytes(node.bytes()).to_string();
            *node != self.node()
                && !given.is_empty()
                && (member.name == given || key.starts_with(given))
        });
        match (found.next(), found.next()) {
            (None, _) => Err(CommandError::NoMember(given.to_owned())),
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(CommandError::Ambiguous(given.to_owned())),
        }
    }
}
