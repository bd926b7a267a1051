//! Data directories that are set back to an earlier copy, run twice, or swapped between machines,
//! behind the back of their nodes, and what an operator does about it: the directory is made anew.
//!
//! Numbers of operations are ambiguous from then on, so the ledger no longer concludes from them
//! what a node must have; what a node acknowledged itself it must have at any time, and in the end
//! all must have what was safe. A directory made anew carries keys into other filters of their
//! names, so that is where they are looked for. A filter that was dropped may be there again.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use grapevine_core::group::Input as GroupInput;
use grapevine_core::origin::Origin;
use grapevine_core::sync::Event as SyncEvent;
use grapevine_store::backup::Copied;
use grapevine_store::disk::SimulatedDisk;
use grapevine_store::filters::Options;
use grapevine_store::restore::{renew, renew_apart};

use super::mutant::GroupMutation;
use super::network::{Event, Topic};
use super::node::Node;
use super::{Checked, Time, World};
use crate::branch::Branch;
use crate::node;
use crate::random::Random;

/// One seed in so many has any of this: what the ledger knows by numbers it cannot say there.
const SEEDS: u64 = 4;
/// Steps of the workload between two of these, about.
const STEPS: u64 = 12;
/// Most times in one seed that a directory gets a history beside the one that it had, and where all
/// seeds have it: each time that directories are made anew there are more filters of the same
/// names.
const FORKS_MAX: (u64, u64) = (1, 2);
/// For so long a directory that was set back meets nobody, at most.
const ALONE_MS: u64 = 20_000;
/// For so long one of several twins is connected before the next one is.
const TURN_MS: Time = 5000;
/// For so long operators leave it as it is, and see meanwhile whom it concerns: who is made anew
/// while another still has the history that is to go may only get it again.
const MENDED_AFTER_MS: Time = 25_000;
/// For so long they wait for one to be back before they look whether there is another.
const NEXT_AFTER_MS: Time = 10_000;

/// What is done to directories in a seed, and what came of it.
#[derive(Debug)]
pub(super) struct Tampering {
    random: Random,
    enabled: bool,
    /// Numbers no longer say which operation it is.
    pub(super) ambiguous: bool,
    /// Whether copies run beside their originals.
    twins: bool,
    /// When operators make anew what is to be.
    mend_at: Option<Time>,
    /// How often a directory got a history beside the one that it had, and may at most.
    pub(super) forks: u64,
    forks_max: u64,
}

/// A copy of a directory, with the time and the end of its log when it was taken.
pub(super) struct Copy {
    disk: SimulatedDisk,
    taken: Time,
    position: u64,
}

impl Tampering {
    pub(super) fn new(seed: u64, forks: Option<bool>) -> Self {
        let mut random = Random::new(seed ^ 0x6869_7374_6f72);
        let drawn = random.one_in(SEEDS);
        Tampering {
            random,
            enabled: forks.unwrap_or(drawn),
            ambiguous: false,
            twins: false,
            mend_at: None,
            forks: 0,
            forks_max: match forks {
                Some(true) => FORKS_MAX.1,
                _ => FORKS_MAX.0,
            },
        }
    }
}

impl Tampering {
    /// Whether anything is done to directories.
    pub(super) fn is_enabled(&self) -> bool {
        self.enabled
    }
}

impl World {
    /// Now and then something happens to a directory.
    pub(super) fn tamper(&mut self) -> Checked {
        if !self.tampering.enabled || !self.tampering.random.one_in(STEPS) {
            return Ok(());
        }
        let count = self.nodes.len() as u64;
        let node = self.tampering.random.below(count) as usize;
        if self.nodes[node].left || !self.nodes[node].is_up() {
            return Ok(());
        }
        match self.tampering.random.below(5) {
            0 => self.run_twice(node),
            1 => self.swap(node),
            _ if self.nodes[node].copy.is_some() => self.set_back(node),
            _ => self.copy(node),
        }
    }

    fn take_copy(&mut self, node: usize) -> Result<Copy, String> {
        self.nodes[node].sync()?;
        self.note_synced(node);
        let disk = self.nodes[node].disk.fork();
        disk.kill();
        let collections = self.collections(node);
        Ok(Copy {
            disk,
            taken: self.now,
            position: collections.journal().synced(),
        })
    }

    fn copy(&mut self, node: usize) -> Checked {
        if self.is_forked(node) {
            return Ok(());
        }
        self.note(|| format!("copy {node}"));
        let copy = self.take_copy(node)?;
        self.nodes[node].copy = Some(copy);
        Ok(())
    }

    /// A directory becomes what it was, and writes before it meets anybody, or not.
    fn set_back(&mut self, node: usize) -> Checked {
        let Some(copy) = self.nodes[node].copy.take() else {
            return Ok(());
        };
        if self.tampering.forks >= self.tampering.forks_max || self.is_forked(node) {
            return Ok(());
        }
        self.note(|| format!("set back {node} to {}", copy.taken));
        self.hit(Branch::SetBack);
        self.stop(node)?;
        let elsewhere = self.durable_elsewhere(node);
        self.tampering.ambiguous = true;
        self.tampering.forks += 1;
        self.ledger.set_back(node, copy.position, &elsewhere);
        self.nodes[node].disk = copy.disk;
        self.nodes[node].backup = None;
        self.keep_alone(node);
        self.start(node)
    }

    /// A copy of a directory runs beside it.
    fn run_twice(&mut self, node: usize) -> Checked {
        if self.tampering.forks >= self.tampering.forks_max || self.is_forked(node) {
            return Ok(());
        }
        let twin = self.nodes.len();
        self.note(|| format!("run {node} twice, also as {twin}"));
        self.hit(Branch::RunTwice);
        self.tampering.ambiguous = true;
        self.tampering.forks += 1;
        self.tampering.twins = true;
        let copy = self.take_copy(node)?;
        let join = self.nodes[node].configuration.join.clone();
        let mut twin = Node::new(&mut self.tampering.random, self.plan.mutation, join);
        twin.disk = copy.disk;
        twin.options = self.nodes[node].options;
        twin.configuration = self.nodes[node].configuration.clone();
        twin.drawn = Arc::new(AtomicU64::new(0));
        self.nodes.push(twin);
        let twin = self.nodes.len() - 1;
        self.keep_alone(twin);
        self.start(twin)?;
        // Two that write nothing are one.
        self.write_row(twin)
    }

    /// The directories of two machines are swapped: each goes on under the other's clock, with the
    /// other's memory, and what was on its way to one arrives at the other.
    fn swap(&mut self, node: usize) -> Checked {
        let other = self.tampering.random.below(self.nodes.len() as u64) as usize;
        if other == node || self.nodes[other].left || !self.nodes[other].is_up() {
            return Ok(());
        }
        self.note(|| format!("swap {node} and {other}"));
        self.hit(Branch::Swapped);
        for node in [node, other] {
            self.nodes[node].sync()?;
            self.note_synced(node);
            self.stop_now(node)?;
        }
        let [one, other_node] = self
            .nodes
            .get_disjoint_mut([node, other])
            .map_err(|e| e.to_string())?;
        one.swap_machines(other_node, self.now);
        self.start(node)?;
        self.start(other)
    }

    /// Whether none but copies of one directory would be left without a node: they are never
    /// connected to each other, and nobody could tell.
    pub(super) fn would_leave_twins(&self, node: usize) -> bool {
        let others = self.nodes.iter().enumerate();
        let staying = others.filter(|(index, other)| *index != node && !other.left);
        let origins = staying.map(|(_, other)| other.name(Topic::Group));
        self.tampering.twins && origins.collect::<BTreeSet<_>>().len() < 2
    }

    /// Nobody hears a node for a while.
    fn keep_alone(&mut self, node: usize) {
        let until = self.now + self.tampering.random.below(ALONE_MS);
        for other in 0..self.nodes.len() {
            for (from, to) in [(node, other), (other, node)] {
                self.network.block(from, to);
                self.network.at(until, Event::Heal { from, to });
            }
        }
        self.network.at(until + 1, Event::Links);
    }

    /// Whether a node makes no operations any more, since they would not be the group's.
    pub(super) fn is_forked(&self, node: usize) -> bool {
        let running = self.nodes[node].running.as_ref();
        running.is_some_and(|running| running.collections.journal().read_only().is_some())
    }

    /// A node finds that a peer has other operations than it has, as the program does.
    pub(super) fn heed_histories(&mut self, node: usize, event: &SyncEvent) -> Checked {
        let Some(running) = &self.nodes[node].running else {
            return Ok(());
        };
        let mut is_own = false;
        let journal = running.collections.journal();
        match event {
            SyncEvent::HistoriesPart {
                peer,
                origin,
                common,
            } => {
                let elsewhere = running.held_by_most();
                let noted = running.collections.note_fork(*origin, *common, &elsewhere);
                let noted = noted.map(drop).map_err(|error| error.to_string());
                self.outcome.violation = noted.err();
                is_own = *origin == running.origin;
                if is_own {
                    journal.fail(|| "histories part".to_owned());
                }
                let is_it = |other: &usize| {
                    self.nodes[*other].name(Topic::Group) == Some(*peer)
                        && self.network.connection(node, *other).is_some()
                };
                if let Some(other) = (0..self.nodes.len()).find(is_it) {
                    self.nodes[node].parted.insert((other, *peer, *origin));
                }
                self.hit(Branch::HistoriesPart);
            }
            SyncEvent::OwnOperationsUnknown { .. } => {
                journal.fail(|| "own operations unknown".to_owned());
            }
            _ => return Ok(()),
        }
        let at = self.now + MENDED_AFTER_MS;
        self.tampering.mend_at.get_or_insert(at);
        if is_own {
            // Whoever has nothing of its origin yet would take its history for the group's.
            self.drive_group(node, GroupInput::StayApart)?;
        }
        Ok(())
    }

    /// Whether a node is to be connected to others.
    pub(super) fn takes_part(&self, node: usize) -> bool {
        self.nodes[node].is_up() && !self.rests(node)
    }

    /// Once nothing fails any more, those that are one directory take turns at being connected.
    fn rests(&self, node: usize) -> bool {
        let name = |node: usize| self.nodes[node].name(Topic::Group);
        let twins_of = |node: usize| {
            let is_twin = move |other: &usize| name(*other).is_some() && name(*other) == name(node);
            (0..self.nodes.len()).filter(is_twin).collect::<Vec<_>>()
        };
        let twins = twins_of(node);
        // Each takes turns of another length: in step, the same ones would always meet.
        let slower = |other: &usize| {
            let others = twins_of(*other);
            others.len() > 1 && others.first() == Some(other)
        };
        let first = twins.first().copied().unwrap_or(node);
        let turn = TURN_MS << (0..first).filter(slower).count();
        let at = (self.now / turn) as usize % twins.len().max(1);
        self.healed && twins.len() > 1 && twins.get(at) != Some(&node)
    }

    /// Operators make directories anew that are not what the group has.
    pub(super) fn mend(&mut self) -> Checked {
        if self.healed && self.tampering.twins {
            // Whose turn it is to be connected changes.
            self.network.at(self.now + 1, Event::Links);
        }
        if self.tampering.mend_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        self.tampering.mend_at = None;
        let stays = |node: &usize| self.nodes[*node].is_up() && !self.nodes[*node].left;
        let (forked, others): (Vec<usize>, Vec<usize>) = (0..self.nodes.len())
            .filter(stays)
            .partition(|node| self.is_forked(*node));
        // First the copies themselves. Then one after the other, since each counts on what others
        // have: of two that keep apart what they have of one, the one that does so with most, and
        // of those not the same one again, as long as it gets that from another of them.
        let mended = match forked.is_empty() {
            false => forked,
            true => {
                let most = others.into_iter().max_by_key(|node| {
                    (self.conflicts(*node), Reverse(self.nodes[*node].renewals))
                });
                let most = most.filter(|node| self.conflicts(*node) > 0);
                if let Some(node) = most {
                    self.keep_like_minded_away(node)?;
                }
                most.into_iter().collect()
            }
        };
        mended
            .into_iter()
            .try_for_each(|node| self.make_anew(node))?;
        let is_left = |node: usize| !self.nodes[node].left && self.conflicts(node) > 0;
        if (0..self.nodes.len()).any(is_left) {
            self.tampering.mend_at = Some(self.now + NEXT_AFTER_MS);
        }
        Ok(())
    }

    /// Stops those who have the history that a node is to give up, until it has caught up with others:
    /// it would take that from them again.
    fn keep_like_minded_away(&mut self, node: usize) -> Checked {
        let parted = self.nodes[node].parted.iter();
        let parted: BTreeSet<usize> = parted.map(|(other, ..)| *other).collect();
        for other in 0..self.nodes.len() {
            let is_up = other != node && self.nodes[other].is_up() && !self.nodes[other].left;
            if !is_up || parted.contains(&other) || self.conflicts(other) == 0 {
                continue;
            }
            self.note(|| format!("keep {other} away"));
            self.nodes[other].sync()?;
            self.note_synced(other);
            self.stop_now(other)?;
            let back = self.now + NEXT_AFTER_MS / 2;
            self.network.at(back, Event::Start { node: other });
        }
        Ok(())
    }

    /// How many others have another history of an origin than a node has. Where the origin's own node
    /// has, that node counts for all.
    fn conflicts(&self, node: usize) -> usize {
        let parted = self.nodes[node].parted.iter();
        let there = parted.filter(|(other, peer, _)| {
            let there = &self.nodes[*other];
            !there.left && there.name(Topic::Group) == Some(*peer)
        });
        let weight = |(_, peer, origin): &(usize, Origin, Origin)| match peer == origin {
            true => self.nodes.len(),
            false => 1,
        };
        there.map(weight).sum()
    }

    fn make_anew(&mut self, node: usize) -> Checked {
        self.note(|| format!("make {node} anew"));
        self.hit(Branch::MadeAnew);
        let collections = self.collections(node);
        self.nodes[node].sync()?;
        self.note_synced(node);
        let forked = !collections.journal().forks().is_empty();
        drop(collections);
        self.stop(node)?;
        self.nodes[node].disk.kill();
        let entropy = node::entropy(self.nodes[node].seed, &self.nodes[node].drawn);
        // Whoever makes a directory anew gives it the room that its filters take.
        let options = Options {
            memory: 1 << 30,
            ..self.nodes[node].options
        };
        let copied = Copied::default();
        let old = self.nodes[node].disk.fork();
        old.kill();
        let failed = |error| format!("node {node} cannot be made anew: {error}");
        if forked && self.plan.mutation != GroupMutation::ForkKept {
            let new = SimulatedDisk::new();
            renew_apart(
                Arc::new(old),
                Arc::new(new.clone()),
                copied,
                options,
                entropy,
            )
            .map_err(failed)?;
            new.kill();
            self.nodes[node].disk = new;
        } else {
            renew(Arc::new(old.clone()), copied, options, entropy).map_err(failed)?;
            old.kill();
            self.nodes[node].disk = old;
        }
        self.nodes[node].backup = None;
        self.nodes[node].copy = None;
        self.nodes[node].parted.clear();
        self.nodes[node].renewals += 1;
        self.ledger.made_anew(node);
        self.start(node)
    }
}
