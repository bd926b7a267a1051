use super::*;
use crate::catalogue::{LegacyShape, Scope, Storage};
use crate::filter::parameters::{Growth, LayerShape, Parameters};
use crate::hash::Seed;
use crate::membership::NodeId;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ME: Origin = Origin::new([1; 16]);

fn dot(sequence: u64) -> Dot {
    Dot {
        origin: ME,
        sequence,
    }
}

fn shape(parameters: Parameters) -> LayerShape {
    parameters.layer(0, ME, 1).unwrap()
}

fn row(name: Vec<u8>, capacity: u64) -> FilterRow {
    let parameters = Parameters {
        capacity,
        error: 1e-4,
        growth: Growth::By(4),
    };
    FilterRow {
        id: FilterId::new([3; 16]),
        created: dot(5),
        scope: Scope::Group,
        name,
        parameters,
        seed: Seed::new([9; 16]),
        storage: Storage::Durable,
        layers: vec![LayerRow {
            shape: shape(parameters),
            opened: dot(5),
        }],
        legacy: vec![LegacyShape {
            index: 0,
            bytes: 600,
            checksum: 7,
            capacity: 9,
            inserted: 5,
            error: 1e-5,
        }],
        other: BTreeMap::from([("colour".to_owned(), rmpv::Value::from("red"))]),
    }
}

fn run(layer: LayerId, count: usize, inserted: u64) -> Run {
    Run {
        layer,
        opened: 4,
        count,
        inserted,
    }
}

/// Of a name that a filter can have.
fn name_byte() -> impl Strategy<Value = u8> {
    any::<u8>().prop_filter("white space", |byte| !b" \t\r\n".contains(byte))
}

proptest! {
    #[test]
    fn operations_survive_their_bytes(
        name in prop::collection::vec(name_byte(), 1..200),
        capacity in 1..1_000_000u64,
        total in any::<u64>(),
    ) {
        let row = row(name.clone(), capacity);
        let (epoch, layer) = (row.epoch(), row.layers[0]);
        let mut rights = Rights::new(capacity, ME);
        rights.observe_spent(ME, 1);
        let changes = [
            CatalogueChange::Create(row.clone()),
            CatalogueChange::Import(row, vec![rights.clone()]),
            CatalogueChange::Drop(epoch),
            CatalogueChange::Hide(Name { name: name.clone() }),
            CatalogueChange::Show(Name { name }),
            CatalogueChange::OpenLayer(epoch, layer),
            CatalogueChange::AdoptLayer(epoch, layer, rights),
        ];
        for change in changes {
            let mut bytes = Vec::new();
            encode_change(&mut bytes, &change);
            prop_assert_eq!(decode(&bytes).unwrap(), Operation::Catalogue(change));
        }
        let grant = Grant {
            filter: epoch.filter,
            layer: layer.shape.id,
            opened: layer.opened,
            shares: vec![Share { taker: Origin::new([8; 16]), total }],
        };
        let member = MemberRow { node: NodeId::new([4; 32]), version: total, body: vec![1, 2] };
        let group = GroupIdentity { id: [6; 16], seed: Seed::new([2; 16]), met: total % 2 == 0 };
        let version: VersionVector = [(ME, total)].into_iter().collect();
        let mut bytes: [Vec<u8>; 4] = Default::default();
        encode_grant(&mut bytes[0], &grant);
        encode_member(&mut bytes[1], &member);
        encode_group(&mut bytes[2], &group);
        encode_adopted_version(&mut bytes[3], &version);
        prop_assert_eq!(decode(&bytes[0]).unwrap(), Operation::Grant(grant));
        prop_assert_eq!(decode(&bytes[1]).unwrap(), Operation::Member(member));
        prop_assert_eq!(decode(&bytes[2]).unwrap(), Operation::Group(group));
        prop_assert_eq!(decode(&bytes[3]).unwrap(), Operation::AdoptVersion(version));
    }

    #[test]
    fn inserts_draws_and_bits_survive_their_bytes(
        hashes in prop::collection::vec(any::<(u64, u64)>(), 1..100),
        indexes in prop::collection::vec(0..BITMAP_BITS_MAX, 1..100),
        index in any::<u32>(), inserted in any::<u64>(),
    ) {
        let hashes: Vec<_> =
            hashes.into_iter().map(|(low, high)| KeyHash { low, high }).collect();
        let layer = LayerId { index, creator: Origin::new([7; 16]) };
        let mut bytes = Vec::new();
        encode_insert(&mut bytes, FilterId::new([2; 16]), run(layer, hashes.len(), inserted), &hashes);
        let Operation::Insert(insert) = decode(&bytes).unwrap() else {
            panic!("an insert decodes as an insert");
        };
        let spent = Spent { filter: FilterId::new([2; 16]), layer, opened: 4, total: inserted };
        prop_assert_eq!(insert.spent, spent);
        prop_assert_eq!(insert.hashes().collect::<Vec<_>>(), hashes);
        bytes.clear();
        encode_draw(&mut bytes, &spent);
        prop_assert_eq!(decode(&bytes).unwrap(), Operation::Draw(spent));
        bytes.clear();
        encode_bits(&mut bytes, &indexes);
        let Operation::Bits(bits) = decode(&bytes).unwrap() else {
            panic!("bits decode as bits");
        };
        prop_assert_eq!(bits.indexes().collect::<Vec<_>>(), indexes);
    }

    #[test]
    fn headers_survive_their_bytes(origin in any::<[u8; 16]>(), sequence in any::<u64>(), local in any::<bool>()) {
        let stream = if local { Stream::Local } else { Stream::Group };
        let header = EntryHeader { stream, dot: Dot { origin: Origin::new(origin), sequence } };
        let mut entry = header.encode().to_vec();
        entry.extend_from_slice(b"operation");
        prop_assert_eq!(EntryHeader::decode(&entry).unwrap(), (header, &b"operation"[..]));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok((_, operation)) = EntryHeader::decode(&bytes) {
            let _ = decode(operation);
        }
    }
}

#[test]
fn what_is_cut_short_or_from_the_future_is_named() {
    let short = EntryHeader::decode(&[0; 24]);
    assert!(matches!(short, Err(OperationError::Short { length: 24 })));
    let unknown = EntryHeader::decode(&[9; 25]);
    assert!(matches!(unknown, Err(OperationError::Stream(9))));
    assert!(matches!(decode(&[99]), Err(OperationError::Kind(99))));
    assert!(matches!(
        decode(&[]),
        Err(OperationError::Short { length: 0 })
    ));
    let layer = LayerId {
        index: 0,
        creator: Origin::new([7; 16]),
    };
    let mut bytes = Vec::new();
    let hashes = [KeyHash::default()];
    encode_insert(
        &mut bytes,
        FilterId::new([2; 16]),
        run(layer, 1, 1),
        &hashes,
    );
    bytes.pop();
    let cut = decode(&bytes);
    assert!(matches!(cut, Err(OperationError::Hashes { bytes: 15 })));
    let short = decode(&[KIND_DRAW, 1, 2]);
    assert!(matches!(short, Err(OperationError::Draw { bytes: 2 })));
    let odd = decode(&[KIND_BITS, 1, 2, 3]);
    assert!(matches!(odd, Err(OperationError::Bits { bytes: 3 })));
    let mut bits = Vec::new();
    encode_bits(&mut bits, &[BITMAP_BITS_MAX - 1]);
    assert!(decode(&bits).is_ok());
    bits.clear();
    encode_bits(&mut bits, &[0, BITMAP_BITS_MAX]);
    assert!(matches!(decode(&bits), Err(OperationError::NoBit(65_200))));
}

fn encoded_rows(name: &[u8], rows: &[(Vec<u8>, crate::table::Row, Option<Dot>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_rows_of(&mut bytes, name, None);
    for (key, row, made_by) in rows {
        encode_row(&mut bytes, key, row, *made_by);
    }
    bytes
}

fn table_row() -> impl Strategy<Value = (Vec<u8>, crate::table::Row, Option<Dot>)> {
    use crate::table::{Content, Row};
    let letters = |least: usize| prop::collection::vec(b'a'..=b'z', least..20);
    let content = prop::option::of((letters(0), prop::option::of(any::<u64>())));
    let made_by = prop::option::of((1..9u64).prop_map(dot));
    (letters(1), any::<i64>(), content, made_by).prop_map(|(key, version, content, made_by)| {
        let row = match content {
            Some((values, expires)) => Row {
                version,
                content: Content::Values(values),
                expires,
            },
            None => Row::tombstone(version),
        };
        (key, row, made_by)
    })
}

proptest! {
    #[test]
    fn rows_survive_their_bytes_and_a_cut_is_noticed(
        rows in prop::collection::vec(table_row(), 1..9),
    ) {
        let bytes = encoded_rows(b"leases", &rows);
        let Operation::Rows(decoded) = decode(&bytes).unwrap() else {
            panic!("these are rows");
        };
        prop_assert_eq!(decoded.name, b"leases");
        prop_assert_eq!(decoded.count(), rows.len());
        let read: Vec<_> = decoded
            .iter()
            .map(|row| (row.key.to_vec(), row.row, row.made_by))
            .collect();
        prop_assert_eq!(&read, &rows);
        let for_all = rows.iter().all(|(_, _, made_by)| made_by.is_none());
        prop_assert_eq!(Operation::Rows(decoded).is_for_all(), for_all);
        for cut in 0..bytes.len() {
            // Where a row ends there are rows, fewer of them.
            if let Ok(Operation::Rows(fewer)) = decode(&bytes[..cut]) {
                prop_assert!(fewer.count() < rows.len());
                prop_assert!(fewer.iter().count() == fewer.count());
            }
        }
        let alone = &bytes[1 + 1 + 6..];
        prop_assert_eq!(decode_rows(alone).unwrap().count(), rows.len());
    }
}

#[test]
fn the_bytes_of_rows_are_pinned() {
    use crate::table::{Content, Row};
    let lease = Row {
        version: -2,
        content: Content::Values(b"x\ty".to_vec()),
        expires: Some(7),
    };
    let rows = [
        (b"k".to_vec(), lease, None),
        (b"gone".to_vec(), Row::tombstone(3), Some(dot(5))),
    ];
    let mut expected = b"\x10\x01t".to_vec();
    expected.extend_from_slice(b"\x02\x01\0k\xfe\xff\xff\xff\xff\xff\xff\xff\x07\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x03\0\0\0x\ty\x05\x04\0gone\x03\0\0\0\0\0\0\0");
    expected.extend_from_slice(&[1; 16]);
    expected.extend_from_slice(b"\x05\0\0\0\0\0\0\0");
    assert_eq!(encoded_rows(b"t", &rows), expected);
}

#[test]
fn bytes_that_are_no_rows_are_refused_with_the_reason() {
    use crate::limits::ROWS_PER_OPERATION_MAX;
    use crate::table::{Row, RowError};
    let refused = |bytes: &[u8]| match decode(bytes) {
        Err(OperationError::Rows(error)) => error,
        other => panic!("{other:?}"),
    };
    let head = |name: &[u8]| [&[16, name.len() as u8][..], name].concat();
    let row = |rest: &[u8]| [head(b"t"), rest.to_vec()].concat();
    assert_eq!(refused(&[16]), RowsError::Short(0));
    assert_eq!(refused(&head(b"t")), RowsError::Count);
    assert!(matches!(refused(&head(b"a b")), RowsError::Name(_)));
    assert!(matches!(refused(&head(b"")), RowsError::Name(_)));
    assert_eq!(refused(&row(&[16])), RowsError::Flags(16));
    assert_eq!(
        refused(&row(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        RowError::KeyLength(0).into()
    );
    let mut tab = row(&[1, 1, 0, b'\t']);
    tab.extend_from_slice(&[0; 8]);
    assert_eq!(
        refused(&tab),
        RowError::KeyByte { byte: b'\t', at: 0 }.into()
    );
    let mut expiring = row(&[3, 1, 0, b'k']);
    expiring.extend_from_slice(&[0; 16]);
    assert_eq!(refused(&expiring), RowError::TombstoneExpires.into());
    // A length that is not there takes no memory.
    let mut long = row(&[0, 1, 0, b'k']);
    long.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert_eq!(refused(&long), RowsError::Short(0));
    let one = (b"k".to_vec(), Row::tombstone(1), None);
    let many = encoded_rows(b"t", &vec![one; ROWS_PER_OPERATION_MAX + 1]);
    assert_eq!(refused(&many), RowsError::Count);
    let table = crate::table::TableRow::new(b"a b");
    let mut bytes = Vec::new();
    encode_table(&mut bytes, &table);
    assert!(matches!(decode(&bytes), Err(OperationError::TableName(_))));
}

#[test]
fn a_table_carries_what_it_does_not_know() {
    let table = crate::table::TableRow {
        linked: true,
        other: BTreeMap::from([("colour".to_owned(), rmpv::Value::from("red"))]),
        ..crate::table::TableRow::new(b"leases")
    };
    let mut bytes = Vec::new();
    encode_table(&mut bytes, &table);
    assert_eq!(decode(&bytes).unwrap(), Operation::Table(table));
}
