//! A damaged filter of one node gets its bits from another, and nothing else does it harm.

mod fixture;

use std::collections::BTreeSet;
use std::sync::Arc;

use fixture::{Opened, create, entropy, foreign, found, keys, open, options, paths, set};
use grapevine_core::membership::{GroupIdentity, Member, MemberRow, MemberState, NodeId};
use grapevine_core::sync::{Input, Machine, Output};
use grapevine_store::collections::{Collections, Exchange};
use grapevine_store::disk::{Disk, OpenMode, SimulatedDisk};
use grapevine_store::filters::FilterError;
use grapevine_store::verify::verify;

/// Milliseconds between two ticks.
const TICK_MS: u64 = 100;
/// Ticks within which everything must have come.
const TICKS_MAX: u64 = 1000;

/// A node whose machine runs.
struct Node {
    collections: Arc<Collections>,
    machine: Machine,
    exchange: Exchange,
    inbox: Vec<Input>,
}

impl Node {
    fn new(disk: &SimulatedDisk, group: Option<GroupIdentity>) -> Self {
        let opened = Collections::open(Arc::new(disk.clone()), options(), entropy());
        let collections = Arc::new(opened.expect("the directory opens").0);
        let group = group.unwrap_or_else(|| collections.group());
        let met = GroupIdentity { met: true, ..group };
        collections.join(met).expect("joined");
        let identity = *collections.filters().identity();
        let member = Member {
            name: "node".to_owned(),
            origin: identity.origin,
            addresses: Vec::new(),
            software: String::new(),
            weight: 1,
            state: MemberState::Joined,
        };
        let row = MemberRow::new(NodeId::new(identity.key.bytes()), 1, &member);
        collections.enter_member(row).expect("entered");
        Node {
            machine: Machine::new(identity.origin, 7),
            exchange: Exchange::new(Arc::clone(&collections)),
            collections,
            inbox: Vec::new(),
        }
    }

    fn origin(&self) -> grapevine_core::origin::Origin {
        self.collections.filters().identity().origin
    }
}

/// Lets both run until the condition holds.
fn run_until(nodes: &mut [Node; 2], done: impl Fn(&[Node; 2]) -> bool) {
    let names = [nodes[0].origin(), nodes[1].origin()];
    for (at, node) in nodes.iter_mut().enumerate() {
        node.machine.set_members(BTreeSet::from(names));
        node.inbox.push(Input::Connected(names[1 - at], 1));
    }
    for tick in 0..TICKS_MAX {
        if done(nodes) {
            return;
        }
        for at in 0..2 {
            drop(nodes[at].collections.journal().sync());
            let mut out = Vec::new();
            let node = &mut nodes[at];
            node.exchange.refresh();
            node.inbox.push(Input::Tick);
            for input in std::mem::take(&mut node.inbox) {
                let now = tick * TICK_MS;
                node.machine
                    .handle(now, input, &mut node.exchange, &mut out);
            }
            let sent = out.into_iter().filter_map(|output| match output {
                Output::Send(_, message) => Some(Input::Received(names[at], message)),
                Output::Event(_) => None,
            });
            nodes[1 - at].inbox.extend(sent);
        }
    }
    panic!("not within {TICKS_MAX} ticks");
}

fn same(nodes: &[Node; 2]) -> bool {
    let [a, b] = nodes
        .each_ref()
        .map(|node| node.collections.journal().durable());
    a == b
}

/// Two disks with the same filters on them, all in files, and what was put in.
fn two() -> [SimulatedDisk; 2] {
    let disks = [SimulatedDisk::new(), SimulatedDisk::new()];
    let first = Node::new(&disks[0], None);
    let group = first.collections.group();
    let mut nodes = [first, Node::new(&disks[1], Some(group))];
    let filters = nodes[0].collections.filters();
    let a = create(filters, "a", 500);
    set(filters, &a, &keys(0..2000));
    filters.import_bloomd(foreign("small")).expect("imported");
    let all_there =
        |nodes: &[Node; 2]| same(nodes) && nodes[1].collections.filters().get(b"small").is_some();
    run_until(&mut nodes, all_there);
    for node in &nodes {
        node.collections.checkpoint().expect("a snapshot");
        node.collections.journal().mark_synced().expect("a mark");
    }
    drop(nodes);
    disks.iter().for_each(SimulatedDisk::kill);
    disks
}

fn damaged(node: &Node) -> usize {
    let filters = node.collections.filters();
    for handle in filters.list(b"") {
        // What cannot be loaded is damaged, and that is counted.
        drop(filters.load(&handle));
    }
    filters.damaged().len()
}

fn restart(disk: &SimulatedDisk) -> Node {
    Node::new(disk, None)
}

#[test]
fn a_damaged_file_heals_from_a_peer_and_stays_healed() {
    let whole = two();
    let files = |disk: &SimulatedDisk| -> Vec<String> {
        let paths = paths(disk).into_iter();
        paths.filter(|path| path.starts_with("filters/")).collect()
    };
    for path in files(&whole[1]) {
        for cut in [None, Some(0), Some(100)] {
            let disks = [whole[0].fork(), whole[1].fork()];
            match cut {
                None => disks[1].remove(&path).expect("removed"),
                Some(length) => {
                    let file = disks[1].open(&path, OpenMode::ReadWrite).expect("opened");
                    file.set_len(length).expect("cut");
                }
            }
            let mut nodes = [restart(&disks[0]), restart(&disks[1])];
            assert_eq!(damaged(&nodes[1]), 1, "{path} {cut:?}");
            // What comes meanwhile is not lost either.
            let filters = nodes[0].collections.filters();
            let a = filters.get(b"a").expect("the filter");
            set(filters, &a, &keys(2000..2100));
            run_until(&mut nodes, |nodes| same(nodes) && damaged(&nodes[1]) == 0);
            drop(nodes);
            disks.iter().for_each(SimulatedDisk::kill);
            let report = verify(&disks[1]).expect("the directories can be listed");
            assert!(report.is_clean(), "{path} {cut:?}: {:?}", report.findings);
            let [one, other] = disks.map(|disk| open(Arc::new(disk)));
            let [ours, theirs] = [&one, &other].map(|opened: &Opened| {
                let a = opened.get(b"a").expect("the filter");
                let small = opened.get(b"small").expect("the filter");
                assert_eq!(found(opened, &a, &keys(0..2100)), 2100, "{path} {cut:?}");
                let probes = keys(0..5000);
                (found(opened, &a, &probes), found(opened, &small, &probes))
            });
            assert_eq!(ours, theirs, "{path} {cut:?}");
        }
    }
}

#[test]
fn a_copy_that_was_forgotten_comes_back_and_the_only_one_is_not_forgotten() {
    let disks = two();
    let mut nodes = [restart(&disks[0]), restart(&disks[1])];
    let filters = nodes[1].collections.filters();
    let a = filters.get(b"a").expect("the filter");
    filters.forget_copy(&a).expect("forgotten");
    let refused = filters.load(&a).expect_err("it has no bits");
    assert!(matches!(refused, FilterError::Damaged(_)), "{refused}");
    assert_eq!(damaged(&nodes[0]), 0, "the others have theirs");
    run_until(&mut nodes, |nodes| same(nodes) && damaged(&nodes[1]) == 0);
    let filters = nodes[1].collections.filters();
    assert_eq!(found(filters, &a, &keys(0..2000)), 2000);

    let alone = open(Arc::new(SimulatedDisk::new()));
    let a = create(&alone, "a", 100);
    set(&alone, &a, &keys(0..10));
    let refused = alone.forget_copy(&a).expect_err("nobody else has it");
    assert!(matches!(refused, FilterError::OnlyCopy), "{refused}");
    assert_eq!(found(&alone, &a, &keys(0..10)), 10);
}
