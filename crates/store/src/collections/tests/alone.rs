//! What a start means for filters that are kept in memory, on a node that is on its own.

use grapevine_core::catalogue::FilterId;
use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::hash::Seed;
use grapevine_core::membership::GroupIdentity;

use super::*;
use crate::filters::{NewFilter, Recreation, Scratch};

fn make(node: &Collections) -> FilterId {
    let new = NewFilter {
        parameters: Parameters {
            capacity: 1000,
            error: 1e-3,
            growth: Growth::By(2),
        },
        storage: Storage::Memory,
        seed: None,
        scope: Scope::Group,
    };
    let made = node.filters().create(b"m", new, Recreation::AtOnce);
    made.expect("it is made");
    // An empty one need not begin afresh.
    let handle = node.filters().get(b"m").expect("it is there");
    let set = node
        .filters()
        .set(&handle, &[b"k"], &mut Scratch::default());
    set.expect("there is room");
    handle.id()
}

fn id(node: &Collections) -> FilterId {
    node.filters().get(b"m").expect("it is there").id()
}

fn again(disk: &SimulatedDisk, node: Arc<Collections>) -> Arc<Collections> {
    node.journal().sync().expect("synced");
    drop(node);
    disk.kill();
    open(disk)
}

#[test]
fn who_never_met_anybody_begins_such_filters_afresh() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    let first = make(&node);
    let node = again(&disk, node);
    assert_ne!(id(&node), first);
}

/// Its leaving would else end them for the whole group once it is back.
#[test]
fn who_has_left_its_group_ends_none_of_the_groups_filters() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    let group = |id, met| GroupIdentity {
        id: [id; 16],
        seed: Seed::new([id; 16]),
        met,
    };
    node.join(group(1, true)).expect("joined");
    let filter = make(&node);
    let mut exchange = Exchange::new(Arc::clone(&node));
    let applied = exchange.apply(STRANGER, 1, &[operation(&[7])]);
    assert_eq!(applied.count, 1, "another member's");
    drop(exchange);
    node.join(group(2, false)).expect("left");
    let node = again(&disk, node);
    assert_eq!(id(&node), filter);
}
