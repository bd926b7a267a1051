//! A damaged filter of one node gets its bits from another, and nothing else does it harm.

mod fixture;

use std::sync::Arc;

use fixture::pair::{Node, restart, run_until, same};
use fixture::{Opened, create, foreign, found, keys, open, paths, set};
use grapevine_store::disk::{Disk, OpenMode, SimulatedDisk};
use grapevine_store::filters::FilterError;
use grapevine_store::verify::verify;

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
