//! Operations that rest on others which never come, and what is kept in mind where histories part.

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::filter::{Key, Run};
use grapevine_core::hash::KeyHash;
use grapevine_core::membership::{Member, MemberRow, MemberState, NodeId};
use grapevine_core::operation::{CatalogueChange, decode, encode_insert, encode_mark};
use grapevine_core::sync::Source;
use grapevine_core::version::VersionVector;

use super::*;
use crate::backup::Copied;
use crate::filters::{NewFilter, Recreation, Scratch};
use crate::restore::renew_apart;

/// A node whose filter `f` has grown by a layer.
fn grown() -> Arc<Collections> {
    let node = open(&SimulatedDisk::new());
    create(&node, Growth::By(2));
    set(&node, 0..40);
    node
}

fn create(node: &Collections, growth: Growth) {
    let new = NewFilter {
        parameters: Parameters {
            capacity: 16,
            error: 1e-6,
            growth,
        },
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    };
    let made = node.filters().create(b"f", new, Recreation::AtOnce);
    made.expect("it is made");
}

fn set(node: &Collections, keys: std::ops::Range<u32>) {
    let handle = node.filters().get(b"f").expect("it is there");
    for number in keys {
        let key = number.to_le_bytes();
        let mut scratch = Scratch::default();
        let put = node.filters().set(&handle, &[&key], &mut scratch);
        put.expect("there is room");
    }
}

/// Takes in the operations of an origin, from the first on.
fn apply_all(node: &Collections, origin: Origin, operations: &[Vec<u8>]) {
    for (sequence, bytes) in (1..).zip(operations) {
        let dot = Dot { origin, sequence };
        node.apply(dot, bytes).expect("it needs no other");
    }
}

/// How many operations come before the one that opened the second layer.
fn opening(operations: &[Vec<u8>]) -> usize {
    let opens = |bytes: &Vec<u8>| {
        let operation = decode(bytes);
        matches!(
            operation,
            Ok(Change::Catalogue(CatalogueChange::OpenLayer(..)))
        )
    };
    operations.iter().position(opens).expect("it has grown")
}

/// The origin that made an opening may have got another history since: it comes to nobody.
#[test]
fn an_operation_on_a_layer_that_came_with_a_state_needs_no_opening() {
    let (maker, node) = (grown(), open(&SimulatedDisk::new()));
    let of_maker = operations(&maker);
    let opening = opening(&of_maker);
    let origin = maker.journal().origin();
    apply_all(&node, origin, &of_maker[..opening]);
    let into_the_layer = of_maker.last().expect("it has keys");
    let dot = Dot {
        origin: STRANGER,
        sequence: 1,
    };
    let waits = node.apply(dot, into_the_layer);
    assert!(matches!(waits, Err(Hindrance::Needs(_))), "{waits:?}");

    let filters = Exchange::new(Arc::clone(&maker)).page(1, &[], 1 << 20);
    let page = filters.expect("its filters");
    let source = Source {
        version: &VersionVector::default(),
        comparing: true,
    };
    let merged = Exchange::new(Arc::clone(&node)).merge_page(&page, source);
    merged.expect("it is a page");
    node.apply(dot, into_the_layer).expect("the layer is here");
    assert!(!node.journal().covers(Dot {
        origin,
        sequence: opening as u64 + 1
    }));
}

/// It was refused, and its origin followed no further: who opened the layer has another history here.
#[test]
fn an_operation_on_a_layer_that_another_history_opened_waits_for_it() {
    let (maker, node) = (grown(), open(&SimulatedDisk::new()));
    let of_maker = operations(&maker);
    let opening = opening(&of_maker);
    let origin = maker.journal().origin();
    let other = [&of_maker[..opening], &[operation(&[7])]].concat();
    apply_all(&node, origin, &other);
    let dot = Dot {
        origin: STRANGER,
        sequence: 1,
    };
    let waits = node.apply(dot, of_maker.last().expect("it has keys"));
    assert!(matches!(waits, Err(Hindrance::Needs(_))), "{waits:?}");
}

/// Where a second peer is found to have another history too, it no longer counts as one that has the rest.
#[test]
fn each_peer_that_parts_may_have_to_give_up_what_it_has() {
    let node = open(&SimulatedDisk::new());
    node.bitmap().set(&[1]).expect("set");
    let me = node.journal().origin();
    let other = Origin::new([8; 16]);
    for sequence in 1..=9 {
        let dot = Dot {
            origin: other,
            sequence,
        };
        node.apply(dot, &operation(&[10 + sequence as u16]))
            .expect("taken in");
        let dot = Dot {
            origin: STRANGER,
            sequence,
        };
        node.apply(dot, &operation(&[20 + sequence as u16]))
            .expect("taken in");
    }
    let held = |count| VersionVector::from_iter([(other, count), (me, 2), (STRANGER, 9)]);
    let noted = node.note_fork(STRANGER, 4, &held(9));
    assert!(noted.expect("noted"), "it was not known");
    assert_eq!(node.journal().forks().get(&STRANGER), Some(&5));
    assert_eq!(node.journal().forks().get(&other), None);
    let noted = node.note_fork(STRANGER, 4, &held(6));
    assert!(!noted.expect("noted"), "it was known");
    assert_eq!(node.journal().forks().get(&other), Some(&7));
}

/// Filters on a page are those of operations that are in or that the state stands for, and go again
/// when it never becomes whole.
#[test]
fn of_a_state_that_never_becomes_whole_nothing_stays() {
    let (maker, node) = (grown(), open(&SimulatedDisk::new()));
    let page = Exchange::new(Arc::clone(&maker)).page(1, &[], 1 << 20);
    let page = page.expect("its filters");
    let mut exchange = Exchange::new(Arc::clone(&node));
    let all = maker.journal().applied();
    let nothing = VersionVector::default();
    for (version, taken) in [(&nothing, 0), (&all, 1)] {
        let source = Source {
            version,
            comparing: false,
        };
        exchange.merge_page(&page, source).expect("it is a page");
        assert_eq!(node.filters().rows().len(), taken);
        exchange.forget_partial();
        assert_eq!(node.filters().rows().len(), 0);
    }
}

/// What was told under the number of the operation that made a filter there may be of another history.
#[test]
fn a_filter_of_a_partial_state_goes_whatever_came_under_its_number() {
    let maker = grown();
    let page = Exchange::new(Arc::clone(&maker)).page(1, &[], 1 << 20);
    let page = page.expect("its filters");
    let all = maker.journal().applied();
    let source = Source {
        version: &all,
        comparing: false,
    };
    let origin = maker.journal().origin();
    let created = maker.filters().rows()[0].created.sequence as usize;
    let theirs = operations(&maker)[..created].to_vec();
    let others = vec![operation(&[3]); created];
    for (made, left) in [(others, 0), (theirs, 1)] {
        let node = open(&SimulatedDisk::new());
        let mut exchange = Exchange::new(Arc::clone(&node));
        exchange.merge_page(&page, source).expect("it is a page");
        assert_eq!(node.filters().rows().len(), 1);
        apply_all(&node, origin, &made);
        exchange.forget_partial();
        assert_eq!(node.filters().rows().len(), left);
    }
}

/// How much of an origin was in when the last page was read, whatever the state stands for.
#[test]
fn the_last_page_says_what_was_in_when_it_was_read() {
    const HISTORIES: u8 = 7;
    let (maker, node) = (open(&SimulatedDisk::new()), open(&SimulatedDisk::new()));
    let mut marked = Vec::new();
    encode_mark(&mut marked, 77);
    apply_all(&maker, STRANGER, &[marked, operation(&[3])]);
    let page = Exchange::new(maker).page(HISTORIES, &[], 1 << 20);
    let page = page.expect("its histories");
    let mut exchange = Exchange::new(node);
    let nothing = VersionVector::default();
    let source = Source {
        version: &nothing,
        comparing: false,
    };
    exchange.merge_page(&page, source).expect("it is a page");
    let (count, history) = exchange.shown().get(&STRANGER).expect("it is shown");
    assert_eq!((*count, history.marks()), (2, &[(1, 77)][..]));
    exchange.forget_partial();
    assert!(exchange.shown().is_empty());
}

/// Enters members beside the node itself.
fn enter_others(node: &Collections, count: u8) {
    for number in 1..=count {
        let member = Member {
            name: format!("m{number}"),
            origin: Origin::new([number; 16]),
            addresses: vec![],
            software: String::new(),
            weight: 1,
            state: MemberState::Joined,
            group: node.group().id,
        };
        let row = MemberRow::new(NodeId::new([number; 32]), 1, &member);
        node.enter_member(row).expect("there is room");
    }
}

/// What a filter may hold is shared out when it is made; a directory that is made anew needs all of
/// it for what it carries, and more filters where several histories filled one.
#[test]
fn all_keys_are_carried_into_a_directory_made_anew_beside_other_members() {
    for (of_others, filters) in [(0, 1), (24, 3)] {
        let disk = SimulatedDisk::new();
        let node = open(&disk);
        create(&node, Growth::Fixed);
        let elsewhere = node.journal().applied();
        set(&node, 0..16);
        let row = node.filters().rows().remove(0);
        let handle = node.filters().epoch(row.id).expect("it is there");
        let filter = node.filters().bits(&handle).expect("it is whole");
        let key = |number: u32| filter.key(&number.to_le_bytes()).hash;
        for sequence in 1..=of_others {
            let run = Run {
                layer: row.layers[0].shape.id,
                opened: row.layers[0].opened.sequence,
                count: 1,
                inserted: u64::from(sequence),
            };
            let mut insert = Vec::new();
            encode_insert(&mut insert, row.id, run, &[key(99 + sequence)]);
            let dot = Dot {
                origin: STRANGER,
                sequence: sequence.into(),
            };
            node.apply(dot, &insert).expect("it needs no other");
        }
        enter_others(&node, 4);
        let me = node.journal().origin();
        let noted = node.note_fork(me, elsewhere.get(me), &elsewhere);
        assert!(noted.expect("noted"));
        let keys: Vec<KeyHash> = (0..16).chain(100..100 + of_others).map(key).collect();
        drop((handle, filter, node));

        let anew = SimulatedDisk::new();
        let (old, new) = (Arc::new(disk), Arc::new(anew.clone()));
        renew_apart(old, new, Copied::default(), options(), entropy()).expect("made anew");
        let node = open(&anew);
        let rows = node.filters().rows();
        assert_eq!(rows.len(), filters);
        let bits = rows.iter().map(|row| {
            let handle = node.filters().epoch(row.id).expect("it is there");
            node.filters().bits(&handle).expect("it is whole")
        });
        let bits: Vec<_> = bits.collect();
        for hash in keys {
            let key = Key { bytes: b"", hash };
            assert!(bits.iter().any(|filter| filter.contains(key)), "{hash:?}");
        }
    }
}
