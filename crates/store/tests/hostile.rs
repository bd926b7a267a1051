//! What a member may send, whatever it is: every node that takes it in can write it down, read it
//! back, and hand it on.

use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::hash::Seed;
use grapevine_core::operation::{CatalogueChange, encode_change, encode_table};
use grapevine_core::origin::Origin;
use grapevine_core::sync::{Page, Replica, Source};
use grapevine_core::table::TableRow;
use grapevine_core::version::{Dot, VersionVector};
use grapevine_store::collections::{Collections, Exchange};
use grapevine_store::disk::SimulatedDisk;

mod fixture;

const LIAR: Origin = Origin::new([0xBB; 16]);
/// Nested as deep as the reader of an operation follows.
const DEPTH: usize = 1022;
const SECTION_FILTERS: u8 = 1;

fn dot(sequence: u64) -> Dot {
    Dot {
        origin: LIAR,
        sequence,
    }
}

fn row(number: u64, layers: usize) -> FilterRow {
    let parameters = Parameters {
        capacity: 10,
        error: 1e-4,
        growth: Growth::By(4),
    };
    let layer = |at: usize| {
        let creator = Origin::new((1 + at as u128).to_be_bytes());
        LayerRow {
            shape: parameters.layer(0, creator, 1).expect("a small layer"),
            opened: dot(number),
        }
    };
    let mut id = [7; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    FilterRow {
        id: FilterId::new(id),
        created: dot(number),
        scope: Scope::Group,
        name: format!("f{number}").into_bytes(),
        parameters,
        seed: Seed::new([9; 16]),
        storage: Storage::Durable,
        layers: (0..layers).map(layer).collect(),
        legacy: vec![],
        other: Default::default(),
    }
}

/// Adds a field to a MessagePack map that has fewer than 15, as a newer version would.
fn with_field(map: &mut Vec<u8>, at: usize, name: &str, value: &[u8]) {
    assert!((0x80..0x8E).contains(&map[at]), "a small map");
    map[at] += 1;
    map.push(0xA0 | u8::try_from(name.len()).expect("a short name"));
    map.extend_from_slice(name.as_bytes());
    map.extend_from_slice(value);
}

fn deep(depth: usize) -> Vec<u8> {
    let mut value = vec![0x91; depth];
    value.push(0xC0);
    value
}

fn large(bytes: u32) -> Vec<u8> {
    let mut value = vec![0xC6];
    value.extend_from_slice(&bytes.to_be_bytes());
    value.resize(5 + bytes as usize, 1);
    value
}

/// The operation that makes a filter, with one more field.
fn creation(number: u64, field: &[u8]) -> Vec<u8> {
    let mut operation = Vec::new();
    encode_change(&mut operation, &CatalogueChange::Create(row(number, 1)));
    with_field(&mut operation, 1, "newer", field);
    operation
}

fn opened(disk: &SimulatedDisk) -> Arc<Collections> {
    Arc::new(fixture::open(Arc::new(disk.clone())).0)
}

/// What is found after a snapshot and a start.
fn after_a_start(disk: &SimulatedDisk, node: Arc<Collections>) -> Arc<Collections> {
    node.checkpoint().expect("a snapshot");
    drop(node);
    disk.kill();
    opened(disk)
}

#[test]
fn a_field_that_is_nested_deep_stops_no_start() {
    let disk = SimulatedDisk::new();
    let node = opened(&disk);
    node.apply(dot(1), &creation(1, &deep(DEPTH)))
        .expect("it is taken in");
    let mut table = Vec::new();
    encode_table(&mut table, &TableRow::new(b"leases"));
    with_field(&mut table, 1, "newer", &deep(DEPTH));
    node.apply(dot(2), &table).expect("it is taken in");
    let node = after_a_start(&disk, node);
    assert!(node.filters().get(b"f1").is_some());
    assert!(
        node.tables()
            .list()
            .expect("whole rows")
            .iter()
            .any(|table| table.table.name == b"leases")
    );
    assert_eq!(node.journal().applied().get(LIAR), 2, "its origin goes on");
}

#[test]
fn fields_without_end_are_not_kept_but_their_rows_are() {
    const ROWS: u64 = 40;
    let disk = SimulatedDisk::new();
    let node = opened(&disk);
    for number in 1..=ROWS {
        let operation = creation(number, &large(250 << 10));
        node.apply(dot(number), &operation).expect("it is taken in");
    }
    let node = after_a_start(&disk, node);
    let manifest = disk.bytes("manifest").expect("a manifest").len();
    assert!(manifest < 100 << 10, "{manifest} bytes of {ROWS} filters");
    for number in 1..=ROWS {
        let name = format!("f{number}");
        assert!(node.filters().get(name.as_bytes()).is_some(), "{name}");
    }
}

#[test]
fn a_small_field_of_a_newer_version_is_still_carried_along() {
    let disk = SimulatedDisk::new();
    let node = opened(&disk);
    node.apply(dot(1), &creation(1, &deep(3)))
        .expect("it is taken in");
    let node = after_a_start(&disk, node);
    let mut exchange = Exchange::new(Arc::clone(&node));
    let page = exchange
        .page(SECTION_FILTERS, &[], 1 << 20)
        .expect("a page");
    let field = [&b"\xA5newer"[..], &deep(3)].concat();
    let carried = page.bytes.windows(field.len()).any(|bytes| bytes == field);
    assert!(carried, "it is handed on with the state");
}

/// A page of filters as a peer sends it: each with one more field.
fn page(rows: &[FilterRow], field: &[u8]) -> Page {
    let mut bytes = vec![0xDC];
    bytes.extend_from_slice(&u16::try_from(rows.len()).expect("few").to_be_bytes());
    for row in rows {
        bytes.extend_from_slice(b"\x82\xA3row");
        let mut map = rmp_serde::to_vec_named(row).expect("plain data");
        with_field(&mut map, 0, "newer", field);
        bytes.extend_from_slice(&map);
        bytes.extend_from_slice(b"\xA6rights\x90");
    }
    Page {
        section: SECTION_FILTERS,
        after: vec![],
        next: None,
        bytes,
    }
}

/// The state of a peer that has more than this node.
fn taken_over(version: &VersionVector) -> Source<'_> {
    Source {
        version,
        comparing: false,
    }
}

#[test]
fn a_page_is_bounded_as_operations_are() {
    let disk = SimulatedDisk::new();
    let node = opened(&disk);
    let mut exchange = Exchange::new(Arc::clone(&node));
    let version = VersionVector::from_iter([(LIAR, 2)]);
    let rows = [row(1, 1), row(2, 1)];
    // Within a page a field lies deeper than within an operation.
    let merged = exchange.merge_page(&page(&rows, &deep(DEPTH - 3)), taken_over(&version));
    merged.expect("it merges");
    exchange.adopt(&version);
    assert_eq!(exchange.applied().get(LIAR), 2, "it is taken over");
    drop(exchange);
    let node = after_a_start(&disk, node);
    assert!(node.filters().get(b"f1").is_some() && node.filters().get(b"f2").is_some());
}

#[test]
fn a_name_that_no_filter_can_have_is_refused_in_operations_and_on_pages() {
    let node = opened(&SimulatedDisk::new());
    for name in [vec![b'x'; 100_000], b"a b".to_vec(), vec![]] {
        let mut long = row(1, 1);
        long.name = name;
        let mut operation = Vec::new();
        encode_change(&mut operation, &CatalogueChange::Create(long.clone()));
        assert!(node.apply(dot(1), &operation).is_err());
        let mut exchange = Exchange::new(Arc::clone(&node));
        let page = page(&[long], &[0xC0]);
        let version = VersionVector::default();
        let merged = exchange.merge_page(&page, taken_over(&version));
        assert!(merged.is_err());
    }
}

#[test]
fn a_version_of_very_many_origins_is_read_at_the_next_start() {
    const ORIGINS: u128 = 60_000;
    let disk = SimulatedDisk::new();
    let node = opened(&disk);
    let origins = (1..=ORIGINS).map(|n| (Origin::new(n.to_be_bytes()), u64::MAX >> 2));
    let version: VersionVector = origins.collect();
    let mut exchange = Exchange::new(Arc::clone(&node));
    exchange.adopt(&version);
    assert_eq!(exchange.applied(), &version);
    drop((exchange, node));
    disk.kill();
    assert_eq!(opened(&disk).journal().applied(), version);
}

#[test]
fn a_row_that_has_grown_beyond_one_operation_is_taken_over() {
    const LAYERS: usize = 3000;
    let disk = SimulatedDisk::new();
    let node = opened(&disk);
    let grown = row(1, LAYERS);
    let version = VersionVector::from_iter([(LIAR, 1)]);
    let mut exchange = Exchange::new(Arc::clone(&node));
    let merged = exchange.merge_page(&page(&[grown], &[0xC0]), taken_over(&version));
    merged.expect("it merges");
    node.journal().sync().expect("synced");
    drop((exchange, node));
    // Before any snapshot of it: the log alone has it.
    disk.kill();
    let node = opened(&disk);
    // It answers to nobody until the snapshot is whole, and is there.
    let rows = node.filters().rows();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].layers.len(), LAYERS);
}
