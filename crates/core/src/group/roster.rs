//! The members: this node's own row, who belongs to the group, whom to call.

use std::collections::{BTreeMap, BTreeSet};

use super::{ADDRESSES_MAX, Context, Event, Output, Protocol, Rejected, Targets, WANTED_MAX};
use crate::membership::{Member, MemberRow, MemberState, NodeId};
use crate::origin::Origin;

/// Between two announcements to members' failure detectors, in milliseconds.
const ANNOUNCE_MS: u64 = 5000;
/// Weight of a node in a store.
const WEIGHT: u32 = 1;

impl Protocol {
    /// Enters this node's row, if it does not say so already. Returns the number of the node's
    /// operation, if there was one.
    pub(super) fn enter_self(
        &self,
        state: MemberState,
        context: &mut Context<'_>,
    ) -> Result<Option<u64>, Rejected> {
        let member = Member {
            name: self.settings.node_name.clone(),
            origin: self.settings.origin,
            addresses: self.settings.addresses.clone(),
            software: self.settings.software.clone(),
            weight: WEIGHT,
            state,
            group: context.store.group().id,
        };
        let (node, members) = (self.settings.node, context.store.members());
        let known = members.get(node).and_then(|row| row.member().ok());
        if known.is_some_and(|known| known == member) {
            return Ok(None);
        }
        // Where a version is at its end one that says "joined" still wins.
        let version = members.version(node).saturating_add(1);
        let row = MemberRow::new(node, version, &member);
        context.store.enter(row).map(Some)
    }

    /// Brings everything in line with the table of members.
    pub(super) fn follow_members(&mut self, context: &mut Context<'_>) {
        if !self.outside && self.leaving.is_none() {
            // Also when somebody took it for dead: it is not.
            if let Err(rejected) = self.enter_self(MemberState::Joined, context) {
                context.tell(Event::Rejected("this node's row of the group", rejected));
            }
        }
        let mut members = BTreeMap::new();
        let mut targets = Targets::default();
        if !self.outside {
            let known = context.store.members();
            for (node, member) in known.joined() {
                members.insert(node, member.origin);
                let mut addresses = member.addresses;
                addresses.truncate(ADDRESSES_MAX);
                let called = node != self.settings.node && !addresses.is_empty();
                if called && targets.wanted.len() < WANTED_MAX {
                    targets.wanted.insert(node, addresses);
                }
            }
            targets.seeds = self.seeds.clone();
        }
        if self.members != members {
            self.members = members.clone();
            context.out.push(Output::Members(members));
        }
        if self.targets != targets {
            self.targets = targets.clone();
            context.out.push(Output::Aim(targets));
        }
    }

    /// Members, those that are met later included, call this node at other addresses from now on.
    pub(super) fn reached_at(&mut self, addresses: Vec<String>, context: &mut Context<'_>) {
        if addresses == self.settings.addresses {
            return;
        }
        context.tell(Event::Reached(addresses.clone()));
        self.settings.addresses = addresses;
        let greeting = self.settings.greeting(context.store.group());
        context.out.push(Output::Greet(greeting));
        self.follow_members(context);
    }

    /// Makes the node known to one member after the other: a failure detector never does so again
    /// to one that it has lost.
    pub(super) fn announce(&mut self, context: &mut Context<'_>) {
        if context.now < self.next_announcement || self.connected.is_empty() {
            return;
        }
        self.next_announcement = context.now + ANNOUNCE_MS;
        let turn = usize::try_from(context.now / ANNOUNCE_MS).unwrap_or(0) % self.connected.len();
        if let Some(peer) = self.connected.values().nth(turn) {
            context.out.push(Output::Announce(*peer));
        }
    }

    /// Who belongs to the group, as it was output last.
    pub fn members(&self) -> BTreeSet<Origin> {
        self.members.values().copied().collect()
    }

    /// The key of a member that is connected, by its origin.
    pub fn peer_of(&self, origin: Origin) -> Option<NodeId> {
        self.connected.get(&origin).copied()
    }
}
