use super::*;
use crate::carried::CARRIED_FIELDS_MAX;
use crate::limits::{TABLE_KEY_BYTES_MAX, TABLE_VALUES_BYTES_MAX};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn row() -> impl Strategy<Value = Row> {
    let version = prop_oneof![-2..3i64, Just(i64::MAX), Just(i64::MIN)];
    let expires = prop_oneof![Just(None), (0..3u64).prop_map(Some), Just(Some(u64::MAX))];
    let values = prop::collection::vec(b'a'..b'd', 0..3);
    (version, prop::option::of(values), expires).prop_map(|(version, values, expires)| match values
    {
        Some(values) => Row {
            version,
            content: Content::Values(values),
            expires,
        },
        None => Row::tombstone(version),
    })
}

fn merge(table: &mut BTreeMap<u8, Row>, key: u8, row: &Row) {
    if table.get(&key).is_none_or(|known| row.supersedes(known)) {
        table.insert(key, row.clone());
    }
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_give_the_same_table(
        rows in prop::collection::vec((0..3u8, row()), 1..12),
        again in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
    ) {
        let (mut in_order, mut shuffled) = (BTreeMap::new(), BTreeMap::new());
        for (key, row) in &rows {
            merge(&mut in_order, *key, row);
        }
        let mut other: Vec<&(u8, Row)> = rows.iter().rev().collect();
        for (from, to) in again {
            let extra = other[from.index(other.len())];
            let place = to.index(other.len() + 1);
            other.insert(place, extra);
        }
        for (key, row) in other {
            merge(&mut shuffled, *key, row);
        }
        prop_assert_eq!(in_order, shuffled);
    }

    #[test]
    fn of_two_rows_exactly_one_stays_unless_they_are_equal(a in row(), b in row(), c in row()) {
        prop_assert_eq!(a.supersedes(&b) || b.supersedes(&a), a != b);
        prop_assert!(!(a.supersedes(&b) && b.supersedes(&a)));
        if a.supersedes(&b) && b.supersedes(&c) {
            prop_assert!(a.supersedes(&c));
        }
    }

    #[test]
    fn a_new_version_is_above_both_and_leaves_room(
        old in prop::option::of(any::<i64>()),
        floor in prop::option::of(any::<i64>()),
        step: u32,
    ) {
        let base = i128::from(old.max(floor).unwrap_or(0));
        match next_version(old, floor, step) {
            Err(error) => prop_assert_eq!(i128::from(error.version), i128::from(i64::MAX)),
            Ok(version) => {
                let (new, left) = (i128::from(version), i128::from(i64::MAX) - base);
                prop_assert!(new > base && new - base <= 1 << 32);
                prop_assert!(new - base - 1 <= left >> STEP_SHIFT);
            }
        }
    }

    #[test]
    fn floors_survive_their_bytes_and_merge_to_the_larger(
        a in prop::collection::vec(("[a-z]{1,3}", ..=FLOOR_MAX), 0..30),
        b in prop::collection::vec(("[a-z]{1,3}", ..=FLOOR_MAX), 0..30),
    ) {
        let floors = |raised: &[(String, i64)]| {
            let mut floors = Floors::default();
            for (key, version) in raised {
                floors.raise(key.as_bytes(), *version);
            }
            floors
        };
        let (one, other) = (floors(&a), floors(&b));
        prop_assert_eq!(Floors::from_bytes(&one.to_bytes()).unwrap(), one.clone());
        let mut merged = one.clone();
        merged.merge(&other);
        let mut reversed = other;
        reversed.merge(&one);
        prop_assert_eq!(&merged, &reversed);
        prop_assert!(!merged.merge(&reversed));
        for (key, version) in a.iter().chain(&b) {
            prop_assert!(merged.of(key.as_bytes()).unwrap() >= *version);
        }
    }
}

#[test]
fn the_rule_of_ties() {
    let values = |values: &[u8], expires| Row {
        version: 7,
        content: Content::Values(values.to_vec()),
        expires,
    };
    let ascending = [
        values(b"b", None),
        values(b"ab", None),
        values(b"a", None),
        values(b"a", Some(u64::MAX)),
        values(b"a", Some(5)),
        values(b"", None),
        Row::tombstone(7),
        Row {
            version: 8,
            ..values(b"z", None)
        },
    ];
    for (at, row) in ascending.iter().enumerate() {
        for (before, other) in ascending.iter().enumerate() {
            assert_eq!(row.supersedes(other), at > before, "{row:?} and {other:?}");
        }
    }
}

#[test]
fn versions_grow_by_a_step_and_end_with_a_clear_error() {
    assert_eq!(next_version(None, None, 0), Ok(1));
    assert_eq!(next_version(None, None, u32::MAX), Ok(1 << 32));
    assert_eq!(next_version(Some(-5), None, 2), Ok(-2));
    assert_eq!(next_version(Some(5), Some(9), 0), Ok(10));
    assert_eq!(next_version(None, Some(-9), 0), Ok(-8));
    assert_eq!(next_version(Some(i64::MIN), None, 0), Ok(i64::MIN + 1));
    assert_eq!(
        next_version(Some(i64::MAX - 1), None, u32::MAX),
        Ok(i64::MAX)
    );
    let exhausted = next_version(Some(i64::MAX), None, 1).unwrap_err();
    assert!(exhausted.to_string().contains("9223372036854775807"));
    // From where a stranger can bring a row, it can be changed for a lifetime.
    let mut version = OUTSIDE_VERSION_MAX;
    for _ in 0..1_000_000 {
        version = next_version(Some(version), None, u32::MAX).unwrap();
    }
    assert!(version < i64::MAX - (1 << 61));
}

#[test]
fn a_row_from_outside_does_not_freeze() {
    assert!(accepts_from_outside(None, OUTSIDE_VERSION_MAX));
    assert!(accepts_from_outside(None, i64::MIN));
    assert!(!accepts_from_outside(None, OUTSIDE_VERSION_MAX + 1));
    assert!(!accepts_from_outside(Some(i64::MIN), i64::MAX));
    assert!(!accepts_from_outside(Some(OUTSIDE_VERSION_MAX), i64::MAX));
    let ours = OUTSIDE_VERSION_MAX + 10;
    assert!(accepts_from_outside(Some(ours), ours + OUTSIDE_ADVANCE_MAX));
    assert!(!accepts_from_outside(
        Some(ours),
        ours + OUTSIDE_ADVANCE_MAX + 1
    ));
    assert!(accepts_from_outside(
        Some(i64::MAX),
        OUTSIDE_VERSION_MAX + 1
    ));
}

#[test]
fn keys_and_values_are_checked() {
    assert_eq!(validate_key(b"k"), Ok(()));
    assert_eq!(validate_key(b"a key\xff"), Ok(()));
    assert_eq!(validate_key(b""), Err(RowError::KeyLength(0)));
    let long = vec![b'k'; TABLE_KEY_BYTES_MAX + 1];
    assert_eq!(validate_key(&long[1..]), Ok(()));
    assert_eq!(validate_key(&long), Err(RowError::KeyLength(long.len())));
    for byte in *b"\t\n\r\0" {
        let refused = validate_key(&[b'a', byte]);
        assert_eq!(refused, Err(RowError::KeyByte { byte, at: 1 }));
    }
    assert_eq!(validate_values(b""), Ok(()));
    assert_eq!(validate_values(b"a\tb\t"), Ok(()));
    let long = vec![b'v'; TABLE_VALUES_BYTES_MAX + 1];
    assert_eq!(validate_values(&long[1..]), Ok(()));
    let refused = validate_values(&long);
    assert_eq!(refused, Err(RowError::ValuesLength(long.len())));
    for byte in *b"\n\r\0" {
        let refused = validate_values(&[byte]);
        assert_eq!(refused, Err(RowError::ValuesByte { byte, at: 0 }));
    }
    let eternal = Row {
        expires: Some(1),
        ..Row::tombstone(1)
    };
    assert_eq!(eternal.validate(), Err(RowError::TombstoneExpires));
}

#[test]
fn a_row_is_gone_from_its_time_on() {
    let row = Row {
        version: 1,
        content: Content::Values(Vec::new()),
        expires: Some(100),
    };
    assert!(!row.is_gone(99) && row.is_gone(100));
    assert!(Row::tombstone(1).is_gone(0));
    let stays = Row {
        expires: None,
        ..row
    };
    assert!(!stays.is_gone(u64::MAX));
}

/// Buckets are exchanged between nodes: another value would take the floors from their keys.
#[test]
fn buckets_are_pinned() {
    let keys: [&[u8]; 3] = [b"a", b"key", b"grapevine"];
    assert_eq!(keys.map(bucket), PINNED);
}

const PINNED: [u16; 3] = [593, 3691, 3488];

#[test]
fn floors_that_are_none_are_refused() {
    assert_eq!(Floors::from_bytes(&[0; 9]), Err(FloorsError::Length(9)));
    let floor = |bucket: u16| [&bucket.to_le_bytes()[..], &[0; 8]].concat();
    assert_eq!(
        Floors::from_bytes(&floor(BUCKETS)),
        Err(FloorsError::Bucket(BUCKETS))
    );
    let twice = [floor(3), floor(3)].concat();
    assert_eq!(Floors::from_bytes(&twice), Err(FloorsError::Bucket(3)));
}

#[test]
fn descriptions_merge_in_any_order() {
    let other = |value: &str| TableRow {
        other: [("colour".to_owned(), rmpv::Value::from(value))].into(),
        ..TableRow::new(b"t")
    };
    let linked = TableRow {
        linked: true,
        ..TableRow::new(b"t")
    };
    let all = [other("red"), linked, other("blue"), TableRow::new(b"t")];
    let (mut one, mut two) = (TableRow::new(b"t"), TableRow::new(b"t"));
    for row in &all {
        one.merge(row);
    }
    for row in all.iter().rev() {
        two.merge(row);
    }
    assert_eq!(one, two);
    assert!(one.linked && one.other.len() == 1);
    assert!(!one.merge(&two), "nothing is new");
}

#[test]
fn a_description_does_not_grow_without_end() {
    let field = |number: usize| TableRow {
        other: [(format!("{number:03}"), rmpv::Value::from(number))].into(),
        ..TableRow::new(b"t")
    };
    let (mut one, mut two) = (TableRow::new(b"t"), TableRow::new(b"t"));
    for number in 0..2 * CARRIED_FIELDS_MAX {
        one.merge(&field(number));
        two.merge(&field(2 * CARRIED_FIELDS_MAX - 1 - number));
    }
    assert_eq!(one, two);
    assert_eq!(one.other.len(), CARRIED_FIELDS_MAX);
    let long = TableRow {
        other: [("0".to_owned(), rmpv::Value::from("x".repeat(2000)))].into(),
        ..TableRow::new(b"t")
    };
    assert!(!one.merge(&long));
}

#[test]
fn a_floor_always_leaves_room() {
    let mut floors = Floors::default();
    for version in [i64::MAX, FLOOR_MAX + 1, i64::MAX - 1] {
        floors.raise(b"k", version);
        let floor = floors.of(b"k").expect("raised");
        assert_eq!(floor, OUTSIDE_VERSION_MAX, "of {version}");
    }
    floors.raise(b"k", FLOOR_MAX);
    assert_eq!(floors.of(b"k"), Some(FLOOR_MAX));
    let mut bytes = floors.to_bytes();
    bytes[2..].copy_from_slice(&i64::MAX.to_le_bytes());
    let read = Floors::from_bytes(&bytes).expect("floors of before");
    assert_eq!(read.of(b"k"), Some(OUTSIDE_VERSION_MAX));
    let mut version = None;
    for _ in 0..100_000 {
        version = Some(next_version(version, Some(FLOOR_MAX), u32::MAX).expect("room"));
    }
}
