//! Whole protocols that talk with each other at once, over connections that the test makes.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::hash::Seed;
use crate::membership::{MemberRow, Members};

/// A node's state in memory, all of it delivered where `delivers`.
struct Memory {
    group: GroupIdentity,
    members: Members,
    operations: u64,
    delivers: bool,
    broken: bool,
}

impl Store for Memory {
    fn group(&self) -> GroupIdentity {
        self.group
    }

    fn members(&self) -> Members {
        self.members.clone()
    }

    fn has_room_for(&self, node: NodeId) -> bool {
        self.members.has_room_for(node)
    }

    fn join(&mut self, group: GroupIdentity) -> Result<(), Rejected> {
        if self.broken {
            return Err(Rejected("no room on the disk".to_owned()));
        }
        self.group = group;
        self.members.set_group(group.id);
        Ok(())
    }

    fn enter(&mut self, row: MemberRow) -> Result<u64, Rejected> {
        if self.broken {
            return Err(Rejected("no room on the disk".to_owned()));
        }
        let entered = self.members.merge(row);
        entered.map_err(|error| Rejected(error.to_string()))?;
        self.operations += 1;
        Ok(self.operations)
    }

    fn delivered(&self) -> u64 {
        if self.delivers { self.operations } else { 0 }
    }
}

struct Node {
    protocol: Protocol,
    store: Memory,
    greeting: Greeting,
    sessions: BTreeMap<u64, usize>,
    /// What it put out that is not carried out here.
    out: Vec<Output>,
}

/// Nodes that hear each other at once.
struct Bench {
    now: u64,
    nodes: Vec<Node>,
    made: u64,
    /// On their way, in order.
    inputs: VecDeque<(usize, Input)>,
}

fn id(node: usize) -> NodeId {
    NodeId::new([node as u8 + 1; 32])
}

fn address(node: usize) -> String {
    format!("10.0.0.{node}:1")
}

fn remote(node: usize) -> SocketAddr {
    address(node).parse().expect("an address")
}

fn group_of_one(number: u8) -> GroupIdentity {
    GroupIdentity {
        id: [number; 16],
        seed: Seed::new([number; 16]),
        met: false,
    }
}

fn settings(node: usize) -> Settings {
    Settings {
        group_name: "lab".to_owned(),
        node: id(node),
        node_name: format!("n{node}"),
        origin: Origin::new([node as u8 + 1; 16]),
        life: Origin::new([node as u8 + 101; 16]),
        software: "0.1.0".to_owned(),
        addresses: vec![address(node)],
        seeds: BTreeSet::new(),
    }
}

impl Bench {
    fn new(count: usize) -> Self {
        let node = |index| {
            let group = group_of_one(index as u8 + 1);
            let store = Memory {
                group,
                members: Members::new(group.id),
                operations: 0,
                delivers: true,
                broken: false,
            };
            Node {
                protocol: Protocol::new(settings(index), &store),
                greeting: settings(index).greeting(group),
                store,
                sessions: BTreeMap::new(),
                out: Vec::new(),
            }
        };
        let mut bench = Bench {
            now: 0,
            nodes: (0..count).map(node).collect(),
            made: 0,
            inputs: VecDeque::new(),
        };
        bench.pass(0);
        bench
    }

    fn give(&mut self, node: usize, input: Input) {
        self.inputs.push_back((node, input));
        while let Some((node, input)) = self.inputs.pop_front() {
            self.handle(node, input);
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let mut out = Vec::new();
        let one = &mut self.nodes[node];
        one.protocol
            .handle(self.now, input, &mut one.store, &mut out);
        for output in out {
            match output {
                Output::Greet(greeting) => self.nodes[node].greeting = greeting,
                Output::Send {
                    session, standing, ..
                } => {
                    let Some(other) = self.nodes[node].sessions.get(&session).copied() else {
                        continue;
                    };
                    let standing = Input::Standing {
                        peer: id(node),
                        session,
                        standing,
                    };
                    self.inputs.push_back((other, standing));
                }
                Output::Disconnect {
                    session, goodbye, ..
                } => self.close(node, session, End::Goodbye(goodbye)),
                other => self.nodes[node].out.push(other),
            }
        }
    }

    /// One side ends a session, the other notices.
    fn close(&mut self, node: usize, session: u64, end: End) {
        let Some(other) = self.nodes[node].sessions.remove(&session) else {
            return;
        };
        self.nodes[other].sessions.remove(&session);
        let peer = id(node);
        let closed = Input::Closed { peer, session, end };
        self.inputs.push_back((other, closed));
    }

    /// One calls another and is let in.
    fn connect(&mut self, from: usize, to: usize) -> u64 {
        self.made += 1;
        let session = self.made;
        let greetings = [from, to].map(|node| self.nodes[node].greeting.clone());
        for (node, other) in [(from, to), (to, from)] {
            self.nodes[node].sessions.insert(session, other);
        }
        for ((node, other), greeting) in [(to, from), (from, to)].into_iter().zip(greetings) {
            let admitted = Admitted {
                peer: id(other),
                session,
                greeting,
                remote: remote(other),
                dialed: node == from,
            };
            self.inputs.push_back((node, Input::Admitted(admitted)));
        }
        self.give(from, Input::Tick);
        session
    }

    /// All rows are on all nodes whose groups are one, then time passes.
    fn pass(&mut self, milliseconds: u64) {
        for step in 0..=milliseconds / 100 {
            self.now += if step == 0 { milliseconds % 100 } else { 100 };
            self.spread();
            for node in 0..self.nodes.len() {
                self.give(node, Input::Tick);
            }
        }
        self.spread();
    }

    fn spread(&mut self) {
        for from in 0..self.nodes.len() {
            for to in self.nodes[from].sessions.clone().into_values() {
                for row in self.nodes[from].store.members.records() {
                    let merged = self.nodes[to].store.members.merge(row);
                    merged.expect("there is room");
                }
            }
        }
    }

    fn is_connected(&self, from: usize, to: usize) -> bool {
        let session = self.nodes[from].protocol.session(&id(to));
        session.is_some_and(|session| session.established)
    }

    fn members(&self, node: usize) -> Vec<NodeId> {
        let members = &self.nodes[node].store.members;
        members.joined().map(|(node, _)| node).collect()
    }

    /// What a node put out, once.
    fn take(&mut self, node: usize) -> Vec<Output> {
        std::mem::take(&mut self.nodes[node].out)
    }

    fn was_refused(&mut self, node: usize) -> bool {
        let is_refusal = |output: &Output| {
            let event = match output {
                Output::Event(event) => event,
                _ => return false,
            };
            matches!(event, Event::Refused(..) | Event::RefusedBy(..))
        };
        self.take(node).iter().any(is_refusal)
    }

    fn leave(&mut self, node: usize) {
        let next = group_of_one(node as u8 + 50);
        self.give(node, Input::Leave { ticket: 1, next });
    }

    fn join(&mut self, node: usize, to: usize) {
        let input = Input::Join {
            ticket: 2,
            address: address(to),
            resolved: vec![remote(to)],
        };
        self.give(node, input);
    }
}

/// Three nodes in one group.
fn group_of_three() -> Bench {
    let mut bench = Bench::new(3);
    for (from, to) in [(1, 0), (2, 0), (2, 1)] {
        bench.connect(from, to);
        bench.pass(600);
    }
    for node in 0..3 {
        assert_eq!(bench.members(node), [id(0), id(1), id(2)]);
        bench.take(node);
    }
    bench
}

#[test]
fn nodes_that_are_new_become_one_group_and_know_all_members() {
    let bench = group_of_three();
    let groups: BTreeSet<_> = bench.nodes.iter().map(|n| n.store.group.id).collect();
    assert_eq!(groups.len(), 1);
    assert!(bench.nodes.iter().all(|node| node.store.group.met));
    assert!(bench.is_connected(0, 1) && bench.is_connected(1, 0) && bench.is_connected(1, 2));
}

#[test]
fn who_leaves_says_so_for_itself_alone_and_is_not_refused() {
    let mut bench = group_of_three();
    bench.leave(2);
    bench.pass(600);
    let out = bench.take(2);
    let at = |wanted: &dyn Fn(&Output) -> bool| out.iter().position(wanted);
    let departed = at(&|output| *output == Output::Depart).expect("it departs");
    let ended = at(&|output| matches!(output, Output::Ended { .. })).expect("its sessions end");
    assert!(departed < ended, "sessions are open when it says so");
    let left = Left {
        peer: id(2),
        name: "n2".to_owned(),
        known: true,
    };
    assert!(out.contains(&Output::Left(1, Ok(left))), "{out:?}");
    assert!(bench.nodes[2].protocol.is_outside());
    for node in [0, 1] {
        assert_eq!(bench.members(node), [id(0), id(1)]);
        assert!(!bench.was_refused(node));
    }
    // Nor are those who still call it.
    bench.connect(0, 2);
    assert!(!bench.was_refused(0) && !bench.was_refused(2));
    assert!(!bench.is_connected(0, 2));
    // It comes back.
    bench.join(2, 0);
    bench.connect(2, 0);
    bench.pass(600);
    for node in 0..3 {
        assert_eq!(bench.members(node), [id(0), id(1), id(2)]);
        assert!(!bench.was_refused(node));
    }
}

#[test]
fn a_join_is_answered_by_who_is_met_or_by_time() {
    let mut bench = group_of_three();
    bench.leave(2);
    bench.pass(200);
    bench.join(2, 0);
    assert!(!bench.nodes[2].protocol.is_outside());
    bench.pass(10_100);
    let no_answer = CommandError::NoAnswer {
        address: address(0),
        seconds: 10,
    };
    assert!(bench.take(2).contains(&Output::Joined(2, Err(no_answer))));
    assert!(bench.nodes[2].protocol.is_outside(), "as before");
    bench.join(2, 0);
    let reason = "nobody answers".to_owned();
    let failed = CommandError::NotJoined {
        address: address(0),
        reason: reason.clone(),
    };
    let address = address(0);
    bench.give(2, Input::CallFailed { address, reason });
    assert!(bench.take(2).contains(&Output::Joined(2, Err(failed))));
    bench.join(2, 0);
    bench.connect(2, 0);
    let joined = Joined {
        peer: id(0),
        name: "n0".to_owned(),
    };
    assert!(bench.take(2).contains(&Output::Joined(2, Ok(joined))));
    // At one that is connected it is answered at once, and there are bounds.
    bench.join(2, 0);
    let answered = |output: &Output| matches!(output, Output::Joined(2, Ok(_)));
    assert!(bench.take(2).iter().any(answered));
    for node in 100..200 {
        bench.join(2, node);
    }
    let limits = bench.take(2);
    let limits = limits.iter().filter_map(|output| match output {
        Output::Joined(2, Err(CommandError::TooMany { limit })) => Some(*limit),
        _ => None,
    });
    assert_eq!(limits.collect::<BTreeSet<_>>(), BTreeSet::from([16]));
}

#[test]
fn members_of_two_groups_refuse_each_other_and_say_why() {
    let mut bench = Bench::new(4);
    bench.connect(0, 1);
    bench.connect(2, 3);
    bench.pass(600);
    bench.join(0, 2);
    bench.connect(0, 2);
    let out = bench.take(0);
    let refused = out.iter().find_map(|output| match output {
        Output::Joined(2, Err(CommandError::NotJoined { reason, .. })) => Some(reason),
        _ => None,
    });
    let reason = refused.expect("it is refused");
    assert!(
        reason.contains("one of them has to leave its group first"),
        "{reason}"
    );
    assert!(bench.nodes[0].protocol.refused().is_some() || bench.was_refused(2));
    assert!(!bench.is_connected(0, 2));
}

#[test]
fn only_a_member_that_is_not_connected_is_removed() {
    let mut bench = group_of_three();
    let answer = |bench: &mut Bench, member| {
        bench.give(0, Input::Remove { ticket: 3, member });
        let out = bench.take(0).into_iter();
        let mut answers = out.filter_map(|output| match output {
            Output::Left(3, outcome) => Some(outcome.map(|left| left.name)),
            _ => None,
        });
        answers.next().expect("an answer")
    };
    let connected = CommandError::Connected("n1".to_owned());
    assert_eq!(answer(&mut bench, id(1)), Err(connected));
    for nobody in [id(0), id(9)] {
        assert_eq!(
            answer(&mut bench, nobody),
            Err(CommandError::NoMember(nobody))
        );
    }
    let sessions: Vec<u64> = bench.nodes[1].sessions.keys().copied().collect();
    for session in sessions {
        bench.close(1, session, End::Lost("it is dead".to_owned()));
        bench.give(0, Input::Tick);
    }
    assert_eq!(answer(&mut bench, id(1)), Ok("n1".to_owned()));
    bench.pass(600);
    for node in [0, 2] {
        assert_eq!(bench.members(node), [id(0), id(2)]);
    }
    // It was not dead.
    bench.connect(1, 0);
    bench.pass(1200);
    assert_eq!(bench.members(0), [id(0), id(1), id(2)]);
}

#[test]
fn what_cannot_be_written_is_not_done() {
    let mut bench = group_of_three();
    bench.nodes[2].store.broken = true;
    bench.leave(2);
    let out = bench.take(2);
    let rejected = |output: &Output| matches!(output, Output::Left(1, Err(CommandError::Rejected(why))) if why.0.contains("disk"));
    assert!(out.iter().any(rejected), "{out:?}");
    assert!(!bench.nodes[2].protocol.is_outside());
    assert!(bench.is_connected(2, 0));
}

#[test]
fn two_that_do_not_come_to_a_conclusion_meet_again() {
    let mut bench = Bench::new(2);
    // The standings of one are lost.
    bench.nodes[1].sessions.clear();
    bench.made = 1;
    let greeting = bench.nodes[1].greeting.clone();
    bench.nodes[0].sessions.insert(1, 1);
    let admitted = Admitted {
        peer: id(1),
        session: 1,
        greeting,
        remote: remote(1),
        dialed: true,
    };
    bench.give(0, Input::Admitted(admitted));
    bench.pass(5000);
    assert!(bench.nodes[0].protocol.session(&id(1)).is_some());
    bench.pass(600);
    assert!(bench.nodes[0].protocol.session(&id(1)).is_none());
    bench.connect(0, 1);
    assert!(bench.is_connected(0, 1) && bench.is_connected(1, 0));
}

#[test]
fn who_is_apart_stays_alone() {
    let mut bench = group_of_three();
    bench.give(1, Input::StayApart);
    assert!(!bench.is_connected(1, 0) && !bench.is_connected(0, 1));
    bench.connect(0, 1);
    assert!(!bench.is_connected(0, 1));
    let (_, reason) = bench.nodes[0].protocol.refused().expect("it is told");
    assert!(reason.contains("restore --in-place"), "{reason}");
}
