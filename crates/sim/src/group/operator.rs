//! What operators do to the group: nodes leave and come back, dead ones are removed, and in the end
//! all that stay are brought into one group.

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::group::Input;
use grapevine_core::hash::Seed;
use grapevine_core::membership::{GroupIdentity, NodeId};

use super::members::address;
use super::network::Event;
use super::{Checked, Time, World};
use crate::branch::Branch;
use crate::random::Random;

/// Between two things that an operator does to one node in the end.
const PATIENCE_MS: Time = 12_000;
/// After a join that failed, until the next.
const REJOIN_MS: Time = 5000;

/// The operators, and what is drawn for the group's protocol.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) random: Random,
    /// Whether nodes find each other on the local network, instead of by a configured address.
    pub(super) discovery: bool,
    /// Those of which it was said that they leave, by themselves or by an operator.
    pub(super) gone: BTreeSet<NodeId>,
    tickets: u64,
    /// When an operator did something to a node last.
    touched: BTreeMap<usize, Time>,
    /// The group in which all are to be in the end.
    main: Option<[u8; 16]>,
}

impl Operator {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x6f70_6572_6174);
        Operator {
            discovery: random.one_in(4),
            random,
            gone: BTreeSet::new(),
            tickets: 0,
            touched: BTreeMap::new(),
            main: None,
        }
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn group_of_one(&mut self) -> GroupIdentity {
        let mut bytes = || {
            let (a, b) = (self.random.bits(), self.random.bits());
            (u128::from(a) << 64 | u128::from(b)).to_le_bytes()
        };
        GroupIdentity {
            id: bytes(),
            seed: Seed::new(bytes()),
            met: false,
        }
    }
}

impl World {
    /// A node leaves its group.
    pub(super) fn order_leave(&mut self, node: usize) -> Checked {
        let Some(id) = self.nodes[node].id() else {
            return Ok(());
        };
        self.note(|| format!("{node} is to leave the group"));
        self.operator.gone.insert(id);
        let (ticket, next) = (self.operator.ticket(), self.operator.group_of_one());
        self.drive_group(node, Input::Leave { ticket, next })
    }

    /// A node is to join the group of another.
    fn order_join(&mut self, node: usize, other: usize) -> Checked {
        self.note(|| format!("{node} is to join at {other}"));
        let resolved = address(other).parse().map_err(|error| format!("{error}"))?;
        let input = Input::Join {
            ticket: self.operator.ticket(),
            address: address(other),
            resolved: vec![resolved],
        };
        self.drive_group(node, input)
    }

    /// Somebody declares that a node is gone for good.
    pub(super) fn order_removal(&mut self, gone: NodeId) -> Checked {
        let able = |node: &usize| {
            self.nodes[*node].is_up() && !self.nodes[*node].left && !self.is_forked(*node)
        };
        let able: Vec<usize> = (0..self.nodes.len()).filter(able).collect();
        let Some(node) = self.operator.random.pick(&able).copied() else {
            return Ok(());
        };
        self.note(|| format!("{node} is to remove {gone}"));
        self.hit(Branch::MemberRemoved);
        self.operator.gone.insert(gone);
        let ticket = self.operator.ticket();
        let member = gone;
        self.drive_group(node, Input::Remove { ticket, member })
    }

    /// A node that left waits a while, then it is to come back; its configuration names nobody any
    /// more, or still does.
    pub(super) fn left(&mut self, node: usize, done: bool) {
        if done && self.is_outside(node) {
            if self.operator.random.one_in(2) {
                self.nodes[node].configuration.join.clear();
            }
            self.come_back_later(node);
        }
    }

    pub(super) fn come_back_later(&mut self, node: usize) {
        let most = [50, 5000, 30_000][self.operator.random.below(3) as usize];
        let pause = 1 + self.operator.random.below(most);
        self.network.at(self.now + pause, Event::Rejoin { node });
    }

    pub(super) fn joined(&mut self, node: usize, done: bool) {
        if done {
            self.hit(Branch::MemberBack);
        } else if self.is_outside(node) {
            self.network
                .at(self.now + REJOIN_MS, Event::Rejoin { node });
        }
    }

    /// A node that is outside is to join at some other.
    pub(super) fn rejoin(&mut self, node: usize) -> Checked {
        if !self.is_outside(node) || self.nodes[node].left {
            return Ok(());
        }
        let stays = |other: &usize| *other != node && !self.nodes[*other].left;
        let others: Vec<usize> = (0..self.nodes.len()).filter(stays).collect();
        match self.operator.random.pick(&others).copied() {
            Some(other) => self.order_join(node, other),
            None => Ok(()),
        }
    }

    pub(super) fn is_outside(&self, node: usize) -> bool {
        let running = self.nodes[node].running.as_ref();
        running.is_some_and(|running| running.protocol.is_outside())
    }

    /// The nodes of a group that hear each other, by way of others as well, as of the first of them
    /// that there is. Who knows only members that are gone is not among them.
    fn connected_in(&self, group: [u8; 16], able: &[usize]) -> BTreeSet<usize> {
        let is_in = |node: &usize| self.collections(*node).group().id == group;
        let mut reached = BTreeSet::new();
        let mut next: Vec<usize> = able.iter().copied().find(is_in).into_iter().collect();
        while let Some(node) = next.pop() {
            if reached.insert(node)
                && let Some(running) = &self.nodes[node].running
            {
                next.extend(running.sessions.keys());
            }
        }
        reached
    }

    /// Operators bring all that stay into one group.
    pub(super) fn gather(&mut self) -> Checked {
        let able = |node: &usize| self.takes_part(*node) && !self.nodes[*node].left;
        let able: Vec<usize> = (0..self.nodes.len()).filter(able).collect();
        let group = |world: &World, node: usize| world.collections(node).group();
        let main = self.operator.main.unwrap_or_else(|| {
            let mut sizes: BTreeMap<[u8; 16], usize> = BTreeMap::new();
            for node in &able {
                let group = group(self, *node);
                if group.met {
                    *sizes.entry(group.id).or_default() += 1;
                }
            }
            let largest = sizes.into_iter().max_by_key(|(id, size)| (*size, *id));
            let first = able.first().map(|node| group(self, *node).id);
            largest.map(|(id, _)| id).or(first).unwrap_or_default()
        });
        self.operator.main = Some(main);
        let inside = self.connected_in(main, &able);
        for node in able {
            let identity = group(self, node);
            let touched = self.operator.touched.entry(node).or_insert(self.now);
            let patient = self.now < *touched + PATIENCE_MS;
            let is_in = identity.id == main && inside.contains(&node);
            if is_in || patient || self.is_forked(node) {
                continue;
            }
            let others = inside.iter().copied().filter(|other| *other != node);
            let others: Vec<usize> = others.collect();
            let Some(other) = self.operator.random.pick(&others).copied() else {
                continue;
            };
            self.operator.touched.insert(node, self.now);
            if identity.met && identity.id != main && !self.is_outside(node) {
                self.order_leave(node)?;
            } else {
                self.order_join(node, other)?;
            }
        }
        Ok(())
    }

    /// Nodes on one local network find each other.
    pub(super) fn discover(&mut self, node: usize) -> Checked {
        if !self.operator.discovery {
            return Ok(());
        }
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            for (here, there) in [(node, other), (other, node)] {
                if let (true, Some(peer)) = (self.nodes[here].is_up(), self.nodes[there].id()) {
                    let address = address(there);
                    self.drive_group(here, Input::Discovered { peer, address })?;
                }
            }
        }
        Ok(())
    }
}
