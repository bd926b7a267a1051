//! What nodes say of themselves in the table of members: it changes while everything fails, nodes
//! leave and come back, and in the end each node's row says on all of them what its owner says.

use std::collections::BTreeSet;

use grapevine_core::group::{Input, Settings};
use grapevine_core::membership::{Member, MemberRow, MemberState, NodeId};
use grapevine_store::collections::Collections;

use super::node::Node;
use super::{Checked, World};
use crate::branch::Branch;
use crate::random::Random;

/// Most addresses in a row at which nobody is.
const ADDRESSES_MAX: u64 = 4;
/// Weight of a node in a store.
const WEIGHT: u32 = 1;

/// Where a node can be reached.
pub(super) fn address(node: usize) -> String {
    format!("10.0.0.{node}:1")
}

/// How a node is configured. It takes effect at its next start, but for its addresses.
#[derive(Clone, Debug)]
pub(super) struct Configuration {
    name: String,
    /// It tells where it can be reached.
    reachable: bool,
    addresses: Vec<String>,
    /// Nodes that it calls to find a group.
    pub(super) join: BTreeSet<usize>,
}

impl Configuration {
    pub(super) fn new(seed: u64, join: BTreeSet<usize>) -> Self {
        Configuration {
            name: format!("n{seed:04x}"),
            reachable: true,
            addresses: Vec::new(),
            join,
        }
    }

    fn change(&mut self, random: &mut Random) {
        match random.below(3) {
            0 => {
                self.name = format!(
                    "n{:0width$x}",
                    random.below(16),
                    width = 1 + random.below(60) as usize
                )
            }
            1 => {
                let count = random.below(ADDRESSES_MAX + 1);
                let address = |_| format!("10.1.0.{}:{}", random.below(256), random.below(65_536));
                self.addresses = (0..count).map(address).collect();
            }
            _ => self.reachable = !self.reachable,
        }
    }

    fn reached_at(&self, node: usize) -> Vec<String> {
        let mut addresses = self.addresses.clone();
        if self.reachable {
            addresses.push(address(node));
        }
        addresses
    }

    /// Of a node that starts.
    pub(super) fn settings(&self, node: usize, collections: &Collections) -> Settings {
        let identity = collections.filters().identity();
        Settings {
            group_name: String::new(),
            node: NodeId::new(identity.key.bytes()),
            node_name: self.name.clone(),
            origin: identity.origin,
            life: collections.filters().memory_stream().life(),
            software: String::new(),
            addresses: self.reached_at(node),
            seeds: self.join.iter().map(|node| address(*node)).collect(),
        }
    }
}

impl Node {
    /// What its row should say on every member.
    fn row_of_itself(&self) -> Option<(NodeId, Member)> {
        let running = self.running.as_ref()?;
        let settings = &running.settings;
        let member = Member {
            name: settings.node_name.clone(),
            origin: settings.origin,
            addresses: settings.addresses.clone(),
            software: settings.software.clone(),
            weight: WEIGHT,
            state: MemberState::Joined,
            group: running.collections.group().id,
        };
        Some((settings.node, member))
    }
}

impl World {
    /// A node is configured otherwise, and finds itself at other addresses.
    pub(super) fn change_member(&mut self, node: usize) -> Checked {
        self.nodes[node].configuration.change(&mut self.random);
        self.hit(Branch::MemberChanged);
        let configuration = &self.nodes[node].configuration;
        let (line, addresses) = (format!("{configuration:?}"), configuration.reached_at(node));
        self.note(|| format!("{node} is to be {line}"));
        if let Some(running) = &mut self.nodes[node].running {
            running.settings.addresses.clone_from(&addresses);
        }
        self.drive_group(node, Input::Addresses(addresses))
    }

    /// On `at` the row of every node that stays says what its owner says.
    pub(super) fn member_that_differs(&self, at: usize) -> Option<String> {
        let members = self.collections(at).members();
        let staying = self.nodes.iter().enumerate().filter(|(_, node)| !node.left);
        let mut rows = staying.filter_map(|(index, node)| Some((index, node.row_of_itself()?)));
        rows.find_map(|(index, (id, own))| {
            let row = members.get(id).map(MemberRow::member);
            match row {
                Some(Ok(row)) if row == own => None,
                row => Some(format!(
                    "{at} has {row:?} for {index}, which says of itself {own:?}"
                )),
            }
        })
    }

    /// Whether a node takes all that run for members.
    pub(super) fn knows_all_others(&self, at: usize) -> bool {
        let members = self.collections(at).members();
        let known: BTreeSet<NodeId> = members.joined().map(|(id, _)| id).collect();
        let mut others = self.nodes.iter().filter(|node| !node.left);
        others.all(|node| node.id().is_some_and(|id| known.contains(&id)))
    }

    /// Nobody has entered that a node left of which neither it nor an operator said so.
    pub(super) fn member_spoken_for(&self, at: usize) -> Option<String> {
        let members = self.collections(at).members();
        let running = self.nodes.iter().enumerate();
        let running = running.filter_map(|(index, node)| Some((index, node.running.as_ref()?)));
        let mut silent =
            running.filter(|(_, one)| !self.operator.gone.contains(&one.settings.node));
        silent.find_map(|(index, one)| {
            let row = members.get(one.settings.node)?.member().ok()?;
            let left = row.state == MemberState::Left;
            left.then(|| format!("node {at} says that {index} left, and nobody said so: {row:?}"))
        })
    }
}
