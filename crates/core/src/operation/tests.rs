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

proptest! {
    #[test]
    fn operations_survive_their_bytes(
        name in prop::collection::vec(any::<u8>(), 1..200),
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
