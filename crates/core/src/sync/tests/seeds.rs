//! Seeds: each draws nodes, faults and work; once the network is whole all nodes must be equal.

use std::collections::BTreeMap;

use super::network::{Faults, Network, PADDING_MAX, Random, Tally};
use super::toy::origin;
use crate::version::Dot;

/// Seeds of an ordinary test run; built with `GRAPEVINE_SYNC_SEEDS`, that many.
const SEEDS: u64 = 150;
/// Simulated time after the network is whole in which all must be equal.
const SETTLE_MS: u64 = 60_000;

/// One seed's world.
#[derive(Debug)]
struct Mix {
    nodes: usize,
    window: u32,
    faults: Faults,
    partitions: bool,
    crashes: bool,
    truncation: bool,
    sparse: bool,
    padding: usize,
}

impl Mix {
    fn draw(random: &mut Random) -> Mix {
        let calm = random.chance(15);
        let faults = Faults {
            loss_percent: if random.chance(50) {
                0
            } else {
                random.below(31)
            },
            duplicate_percent: if random.chance(50) {
                0
            } else {
                random.below(21)
            },
            reorder: random.chance(50),
        };
        let faults = if calm { Faults::default() } else { faults };
        Mix {
            nodes: 2 + random.below(5) as usize,
            window: [2000, 20_000, 4 << 20][random.below(3) as usize],
            faults,
            partitions: !calm && random.chance(50),
            crashes: !calm && random.chance(50),
            truncation: !calm && random.chance(50),
            sparse: random.chance(30),
            padding: if random.chance(50) { 0 } else { PADDING_MAX },
        }
    }

    fn is_kind(&self) -> bool {
        let faults = self.faults.loss_percent + self.faults.duplicate_percent;
        faults == 0 && !self.faults.reorder && !self.partitions && !self.crashes
    }
}

fn work(network: &mut Network, random: &mut Random, mix: &Mix) {
    let node = random.below(mix.nodes as u64) as usize;
    let value = random.below(1 << 30);
    match random.below(20) {
        0 => {
            let peer = random.below(mix.nodes as u64) as usize;
            let sequence = network.toys[node].live.applied.get(origin(peer));
            let origin = origin(peer);
            if sequence > 0 {
                network.toys[node].put_after(value, Dot { origin, sequence });
            }
        }
        1 => {
            let number = random.below(200) as u8;
            let lines: Vec<(usize, u64)> = (0..random.below(50))
                .map(|_| (random.draw() as usize, random.draw()))
                .collect();
            // A layer has one importer, as an id drawn at random has.
            let number = number / 10 * 10 + 20 + node as u8;
            if !network.toys[node]
                .live
                .layers
                .contains_key(&super::toy::layer(number))
            {
                network.toys[node].import(number, &lines);
            }
        }
        2 => {
            let number = random.below(20) as u8 * 10 + node as u8;
            let bytes = (0..random.below(500)).map(|byte| byte as u8).collect();
            if !network.toys[node]
                .live
                .files
                .contains_key(&super::toy::file(number))
            {
                network.toys[node].add_file(number, bytes);
            }
        }
        3..=9 => {
            let (line, bit) = (random.draw() as u16, random.draw() as u16);
            network.toys[node].set_bit(random.below(3) as u8, line, bit);
        }
        _ => {
            let padding = random.below(mix.padding as u64 + 1) as usize;
            network.toys[node].put_padded(value, padding);
        }
    }
    if random.chance(40) {
        network.sync(node);
    }
}

fn trouble(network: &mut Network, random: &mut Random, mix: &Mix) {
    let a = random.below(mix.nodes as u64) as usize;
    let b = random.below(mix.nodes as u64) as usize;
    if mix.partitions && random.chance(20) && a != b {
        if network.open.contains(&(a, b)) {
            network.close(a, b);
        } else {
            network.open(a, b);
        }
    }
    if mix.crashes && random.chance(5) {
        network.crash(a);
    }
    if mix.truncation && random.chance(10) {
        let held = network.machines[a].held_by_all(&network.toys[a]);
        // At times more than all have: the log has a bound of its own.
        let all = network.toys[a].disk.applied.clone();
        let version = if random.chance(30) { all } else { held };
        network.toys[a].truncate(&version);
    }
}

/// A line of nodes, or everybody with everybody.
fn connect(network: &mut Network, mix: &Mix) {
    if mix.sparse {
        for node in 1..mix.nodes {
            network.open(node, node - 1);
        }
    } else {
        network.connect_all();
    }
}

/// Runs a seed; the time until all were equal, and what was counted.
fn run(seed: u64) -> Result<(u64, Tally, bool), String> {
    let mut random = Random(seed);
    let mix = Mix::draw(&mut random);
    let mut network = Network::new(random.draw(), mix.nodes, mix.window);
    network.faults = mix.faults;
    connect(&mut network, &mix);
    let steps = 50 + random.below(300);
    for _ in 0..steps {
        for _ in 0..random.below(6) {
            work(&mut network, &mut random, &mix);
        }
        trouble(&mut network, &mut random, &mix);
        let next = network.now + random.below(200);
        network.run_until(next);
    }
    network.faults = Faults::default();
    connect(&mut network, &mix);
    let took = network.settle(SETTLE_MS).map_err(|difference| {
        format!(
            "seed {seed} {mix:?}: {difference}; {:?}",
            network.tally.events
        )
    })?;
    let kind = mix.is_kind() && !mix.truncation;
    if kind && network.tally.repeated > 0 {
        let (repeated, all) = (network.tally.repeated, network.tally.operations);
        let events = &network.tally.events;
        return Err(format!(
            "seed {seed} {mix:?}: {repeated} of {all} sent again; {events:?}"
        ));
    }
    Ok((took, network.tally, kind))
}

#[test]
fn all_nodes_are_equal_once_the_network_is_whole() {
    let seeds = option_env!("GRAPEVINE_SYNC_SEEDS").map_or(SEEDS, |seeds| {
        seeds.parse().expect("GRAPEVINE_SYNC_SEEDS is a number")
    });
    let (mut longest, mut sum, mut kind) = (0, 0, 0);
    let (mut messages, mut bytes) = (0, 0);
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in 0..seeds {
        match run(seed) {
            Ok((took, tally, is_kind)) => {
                longest = longest.max(took);
                sum += took;
                kind += u64::from(is_kind);
                messages += tally.messages;
                bytes += tally.bytes;
                for (event, count) in tally.events {
                    *events.entry(event).or_default() += count;
                }
            }
            Err(failure) => failed.push(failure),
        }
    }
    println!(
        "{seeds} seeds, {kind} of them without faults; equal after {} ms on average, {longest} ms \
         at most; {messages} messages, {bytes} bytes; {events:#?}",
        sum / seeds.max(1)
    );
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    for branch in [
        "PeerRestarted",
        "PeerLowered",
        "Rewound",
        "Asked",
        "NotDelivered",
        "ToldBehind",
        "Gap",
        "Parked",
        "ParkedForParts",
        "SnapshotBegun",
        "SnapshotMoved",
        "SnapshotFinished",
        "PartsFinished",
        "RequestRepeated",
    ] {
        assert!(events.contains_key(branch), "{branch} never happened");
    }
}

/// A snapshot that went on with another peer took bits for dropped that this peer did not have
/// yet: the page that named them was of the first one and newer than what both had.
#[test]
fn bits_that_the_next_peer_does_not_have_yet_are_not_taken_for_dropped() {
    for seed in [271, 679, 850, 992, 2715, 3144] {
        run(seed).expect("all nodes are equal");
    }
}
