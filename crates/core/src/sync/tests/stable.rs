//! What is causally stable, and that whatever comes later was made knowing of it.

use std::collections::BTreeMap;

use super::bench::{Bench, page};
use super::network::{Faults, Network};
use super::toy::origin;
use crate::origin::Origin;
use crate::sync::fingerprint::versions_hash;
use crate::sync::limits::RETIRED_MS;
use crate::sync::*;
use crate::version::{Dot, VersionVector};

fn members(count: usize) -> std::collections::BTreeSet<Origin> {
    (0..count).map(origin).collect()
}

fn stable(bench: &mut Bench) -> Option<Stable> {
    bench.machine.stable(bench.now, &bench.toy)
}

/// A peer says that all of what it has is this.
fn confirm(bench: &mut Bench, peer: usize, has: &[(usize, u64)]) {
    bench.now += 10;
    let entries = has
        .iter()
        .map(|(number, count)| (origin(*number), *count, *count));
    let hash = versions_hash(entries);
    let (theirs, ours) = (1000 + peer as u64, 1 + peer as u64);
    let report = bench.report(theirs, ours, 1 << 20, Content::Summary(hash));
    bench.receive(peer, report);
}

#[test]
fn alone_everything_durable_is_stable() {
    let mut bench = Bench::new();
    bench.toy.put(1);
    bench.toy.sync();
    bench.toy.put(2);
    let alone = stable(&mut bench).expect("nobody has to be asked");
    assert_eq!(alone.members, members(1));
    assert_eq!(alone.version.get(origin(0)), 1);
}

#[test]
fn a_member_has_to_say_all_of_what_it_has_after_it_had_that() {
    let mut bench = Bench::new();
    bench.machine.set_members(members(2));
    bench.toy.put(1);
    bench.toy.sync();
    assert_eq!(stable(&mut bench), None, "it was never heard");
    bench.join(1, &[(0, 1)]);
    assert_eq!(
        stable(&mut bench),
        None,
        "the round that began before has to end"
    );
    confirm(&mut bench, 1, &[(0, 1)]);
    let nothing = stable(&mut bench).expect("it spoke");
    assert!(
        nothing.version.is_empty(),
        "it had nothing when the round began"
    );
    assert_eq!(stable(&mut bench), None, "it said so before");
    bench.tell(1, &[(0, 1)]);
    assert_eq!(stable(&mut bench), None, "it may have more in between");
    confirm(&mut bench, 1, &[(0, 1), (1, 4)]);
    assert_eq!(stable(&mut bench), None, "not all of it is known");
    confirm(&mut bench, 1, &[(0, 1)]);
    let one = stable(&mut bench).expect("it spoke");
    assert_eq!(one.version.get(origin(0)), 1);
    assert_eq!(one.members, members(2));
}

#[test]
fn what_members_have_must_be_in_here() {
    let mut bench = Bench::new();
    bench.machine.set_members(members(2));
    bench.toy.put(1);
    bench.toy.sync();
    bench.join(1, &[(0, 1), (1, 1)]);
    assert_eq!(stable(&mut bench), None);
    confirm(&mut bench, 1, &[(0, 1), (1, 1)]);
    assert_eq!(stable(&mut bench), None, "its first operation is not here");
    bench.receive(1, super::bench::run(1, 1, vec![super::bench::put(9)]));
    let both = stable(&mut bench).expect("now it is");
    assert_eq!(both.version.get(origin(0)), 1);
    assert_eq!(both.version.get(origin(1)), 0, "not when the round began");
}

/// What made a row on a page that came later may be on its way from who spoke before.
#[test]
fn what_came_with_a_state_was_here_before_the_members_spoke() {
    let mut bench = Bench::new();
    bench.machine.set_members(members(2));
    bench.machine.set_scrub(300);
    bench.join(1, &[]);
    let mut at_rest = |merges: bool| {
        stable(&mut bench);
        if merges {
            bench.after(RETIRED_MS);
            for section in [1, 2] {
                bench.receive(1, page(section, vec![]));
            }
        }
        confirm(&mut bench, 1, &[]);
        stable(&mut bench).expect("it spoke").at_rest
    };
    assert_eq!([false, true, false].map(&mut at_rest), [true, false, true]);
}

#[test]
fn other_members_are_another_round() {
    let mut bench = Bench::new();
    bench.machine.set_members(members(2));
    bench.join(1, &[]);
    assert_eq!(stable(&mut bench), None);
    bench.machine.set_members(members(3));
    confirm(&mut bench, 1, &[]);
    assert_eq!(stable(&mut bench), None, "the third has not spoken");
}

#[test]
fn what_is_due_is_what_is_due_at_all_members() {
    let mut bench = Bench::new();
    bench.machine.set_members(members(3));
    bench.machine.set_horizon(500);
    let round = |bench: &mut Bench, horizons: [u64; 2]| {
        stable(bench);
        for (peer, horizon) in (1..).zip(horizons) {
            bench.horizon = horizon;
            confirm(bench, peer, &[]);
        }
        stable(bench).expect("all spoke").horizon
    };
    for peer in [1, 2] {
        bench.join(peer, &[]);
    }
    assert_eq!(round(&mut bench, [900, 700]), 500, "here");
    assert_eq!(round(&mut bench, [900, 400]), 400, "there");
    assert_eq!(round(&mut bench, [900, 0]), 0, "unknown there");
    assert_eq!(round(&mut bench, [u64::MAX, u64::MAX]), 500);
    bench.machine.set_horizon(0);
    assert_eq!(round(&mut bench, [900, 700]), 0, "unknown here");
    // Who joins has not said anything yet.
    bench.machine.set_horizon(500);
    bench.machine.set_members(members(4));
    for peer in [1, 2] {
        confirm(&mut bench, peer, &[]);
    }
    assert_eq!(stable(&mut bench), None);
}

/// What each operation's maker had when it made it.
#[derive(Default)]
struct Causes(BTreeMap<Dot, VersionVector>);

impl Causes {
    fn put(&mut self, network: &mut Network, node: usize, value: u64) {
        let before = network.toys[node].live.applied.clone();
        let dot = Dot {
            origin: origin(node),
            sequence: before.get(origin(node)) + 1,
        };
        network.toys[node].put(value);
        self.0.insert(dot, before);
    }

    /// What a power cut took was never made.
    fn forget(&mut self, network: &Network, node: usize) {
        let kept = network.toys[node].live.applied.get(origin(node));
        let lost = |dot: &Dot| dot.origin == origin(node) && dot.sequence > kept;
        self.0.retain(|dot, _| !lost(dot));
    }

    /// Whatever is not in on `node` now was made knowing of all of `stable`.
    fn check(&self, network: &Network, node: usize, stable: &Stable) {
        let applied = &network.toys[node].live.applied;
        assert!(applied.includes(&stable.version));
        for (dot, before) in self.0.iter().filter(|(dot, _)| !applied.covers(**dot)) {
            assert!(
                before.includes(&stable.version),
                "{dot:?} was made without {:?}, stable on {node}",
                stable.version
            );
        }
    }
}

#[test]
fn whatever_comes_after_something_is_stable_was_made_knowing_of_it() {
    let mut found = 0;
    for seed in 0..40 {
        let nodes = 2 + (seed % 4) as usize;
        let mut network = Network::new(seed, nodes, 4000);
        network.faults = Faults {
            loss_percent: seed % 20,
            duplicate_percent: seed % 10,
            reorder: seed % 2 == 0,
        };
        network.connect_all();
        let mut causes = Causes::default();
        for value in 0..300 {
            let node = network.random.below(nodes as u64) as usize;
            if network.random.chance(60) {
                causes.put(&mut network, node, value);
            }
            if network.random.chance(50) {
                network.sync(node);
            }
            if network.random.chance(1) {
                network.crash(node);
                causes.forget(&network, node);
            }
            if network.random.chance(5) {
                let other = network.random.below(nodes as u64) as usize;
                if other != node && network.random.chance(50) {
                    network.close(node, other);
                } else if other != node {
                    network.open(node, other);
                }
            }
            let until = network.now + 1 + network.random.below(200);
            network.run_until(until);
            let node = network.random.below(nodes as u64) as usize;
            let now = network.now;
            let stable = network.machines[node].stable(now, &network.toys[node]);
            if let Some(stable) = stable {
                causes.check(&network, node, &stable);
                found += usize::from(!stable.version.is_empty());
            }
        }
    }
    assert!(found > 500, "only {found} times was anything stable");
}
