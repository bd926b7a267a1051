//! Merging against a plain model of the rule, and its laws. Data taken from the original is in
//! `tests/plain_table.rs`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::wire::p2ptbl::number;

/// One row of one key against another.
fn merged(one: &str, other: &str) -> String {
    let table = merge(&[one.as_bytes(), other.as_bytes()]).expect("small");
    assert_eq!(
        merge(&[other.as_bytes(), one.as_bytes()]),
        Ok(table.clone())
    );
    String::from_utf8(table).expect("text")
}

#[test]
fn no_version_poisons_a_key() {
    for word in [
        "!",
        "",
        "abc",
        "0x10",
        "18446744073709551616",
        "9223372036854775808",
        "5 ",
        "- 5",
    ] {
        let foreign = format!("k\t{word}\tbad");
        assert_eq!(
            merged("k\t-9223372036854775808\tgood", &foreign),
            "k\t-9223372036854775808\tgood\n"
        );
        assert_eq!(next_version(foreign.as_bytes(), b"k", 0), Ok(1));
    }
    assert_eq!(merged("k\tabd\tx", "k\tabc\ty"), "k\tabc\ty\n");
}

#[test]
fn versions_are_numbers_and_keep_their_text() {
    assert_eq!(merged("k\t7\tx", "k\t007\ty"), "k\t007\ty\n");
    assert_eq!(merged("k\t+5\tx", "k\t4\ty"), "k\t+5\tx\n");
    assert_eq!(merged("k\t10\tx", "k\t9\ty"), "k\t10\tx\n");
    assert_eq!(merged("k\t5\t", "k\t5\tx"), "k\t5\t\n");
}

#[test]
fn rows_are_kept_as_they_are_written() {
    for row in [
        "a b\t1\tv",
        " a\t1\tv",
        "k\t1\t  v  ",
        "k\t1\t\tv\t\t",
        "k\t1\ta\\\\tb\\",
        "k\t1\ta\0b",
        "k\\n\t1\tv",
    ] {
        assert_eq!(merged(row, ""), format!("{row}\n"));
    }
    assert_eq!(merged("k\t1\tv\\\n", "l\t1\tw"), "k\t1\tv\\\nl\t1\tw\n");
    assert_eq!(merged("y\n", "x\t1"), "x\t1\t\ny\t\t\n");
    assert_eq!(merged("\n\n\t5\tno key\n", ""), "");
    assert_eq!(
        merged("k\t1\tv\n", "k\x01b\t1\tv"),
        "k\x01b\t1\tv\nk\t1\tv\n"
    );
}

#[test]
fn values_are_those_of_the_key_alone() {
    let table = b"a\t5\tx\nab\t5\ty\na\nb\n\t5\tz\na\t\na\t7\tv\tw";
    let found = |key: &'static str| {
        let values = values(table, key.as_bytes());
        values
            .map(|value| String::from_utf8_lossy(value))
            .collect::<Vec<_>>()
    };
    assert_eq!(found("a"), ["x", "", "v\tw"]);
    assert_eq!(found("b"), [""; 0]);
    for no_key in ["a\t5", "a\t", "a\t7\tv"] {
        assert_eq!(found(no_key), [""; 0]);
    }
}

#[test]
fn an_update_is_greater_than_what_was_there() {
    let table =
        b"a\t5\tx\nb\t9\ty\na\t7\tz\nc\t08\t\nd\t9223372036854775806\t\ne\t9223372036854775807\t\n";
    assert_eq!(next_version(table, b"a", 0), Ok(8));
    assert_eq!(next_version(table, b"a", 32767), Ok(32775));
    assert_eq!(next_version(table, b".", 2), Ok(3));
    assert_eq!(next_version(table, b"c", 0), Ok(9));
    assert_eq!(next_version(table, b"d", 32767), Ok(i64::MAX));
    assert_eq!(next_version(table, b"e", 0), Err(LastVersion));
    assert_eq!(next_version(b"k\t-100000\tx", b"k", 0), Ok(-99999));
}

#[test]
fn a_program_drops_rows_and_changes_values() {
    let table = b"b\t5\tx\nc\t7\ty\na\t1\tw\nb\t6\tz\nd\tword\tv\n";
    let shown = without_versions(table).expect("small");
    assert_eq!(shown, b"a\tw\nb\tz\nc\ty\nd\tv\n");
    let filtered = |printed: &[u8]| {
        let table = filter(table, printed, || 10).expect("small");
        String::from_utf8(table).expect("text")
    };
    assert_eq!(filtered(&shown), "a\t11\tw\nb\t16\tz\nc\t17\ty\nd\t10\tv\n");
    assert_eq!(filtered(b"new\tx\nc\t\tY\t\nb"), "b\t16\t\nc\t17\t\tY\t\n");
    assert_eq!(filtered(b"a\tq\na\tp\na\tq\n"), "a\t11\tp\n");
    assert_eq!(filtered(b""), "");
    let last = filter(b"k\t9223372036854775800\tx\n", b"k\tx\n", || 9).expect("small");
    assert_eq!(last, b"k\t9223372036854775807\tx\n");
}

/// The rule as it is written: lines sorted as they are, a later one only if its version is greater.
fn model(lines: &[String]) -> String {
    let mut lines = lines.to_vec();
    lines.sort();
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    for line in lines {
        let columns: Vec<&str> = line.splitn(3, '\t').collect();
        // With the tab, so that the map is in the order of lines.
        let key = format!("{}\t", columns[0]);
        let version = |line: &str| number(line.split('\t').nth(1).expect("a version").as_bytes());
        if kept
            .get(&key)
            .is_none_or(|kept| version(&line) > version(kept))
        {
            kept.insert(key, line);
        }
    }
    kept.into_values().map(|line| line + "\n").collect()
}

fn well_formed() -> impl Strategy<Value = Vec<String>> {
    // Few keys of all kinds around the eight bytes that are compared first.
    let key = "[ab\x01~]{1,3}|aaaaaaa[ab]{0,3}|[a-c]{7,9}";
    let version = "[+-]?0{0,2}[0-9]|-?922337203685477580[5-7]";
    let row = (key, version, "[a\tb\x01]{0,3}").prop_map(|(k, v, w)| format!("{k}\t{v}\t{w}"));
    prop::collection::vec(row, 0..40)
}

/// Any lines, of few kinds of bytes, so that they meet.
fn lines_of_any_kind() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let byte = prop::sample::select(b"\t\t\tab1-\\\0\xff ".to_vec());
    prop::collection::vec(prop::collection::vec(byte, 0..8), 0..30)
}

fn together(texts: &[&[u8]]) -> Vec<u8> {
    merge(texts).expect("small")
}

fn text(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.join(&END)
}

proptest! {
    #[test]
    fn merging_is_the_rule_of_the_original(lines in well_formed(), cut in 0..40usize) {
        let cut = cut.min(lines.len());
        let [one, other] = [&lines[..cut], &lines[cut..]].map(|lines| lines.join("\n"));
        let merged = merge(&[one.as_bytes(), other.as_bytes()]).expect("small");
        prop_assert_eq!(String::from_utf8(merged).expect("text"), model(&lines));
    }

    #[test]
    fn any_split_and_order_merges_to_the_same(
        lines in lines_of_any_kind(),
        cut in 0..30usize,
        turned in 0..30usize,
    ) {
        let merged = together(&[&text(&lines)]);
        prop_assert_eq!(together(&[&merged]), merged.clone());
        prop_assert_eq!(together(&[&merged, &merged]), merged.clone());
        let (one, other) = lines.split_at(cut.min(lines.len()));
        let (one, other) = (text(one), text(other));
        prop_assert_eq!(together(&[&one, &other]), merged.clone());
        prop_assert_eq!(together(&[&other, &one, &other]), merged.clone());
        let first = together(&[&one]);
        prop_assert_eq!(together(&[&other, &first]), merged.clone());
        let mut rotated = lines.clone();
        rotated.rotate_left(turned % lines.len().max(1));
        prop_assert_eq!(together(&[&text(&rotated)]), merged.clone());
    }

    #[test]
    fn merged_tables_have_one_row_a_key_in_order(lines in lines_of_any_kind()) {
        let merged = together(&[&text(&lines)]);
        let found: Vec<Row<'_>> = rows(&merged).collect();
        prop_assert!(found.windows(2).all(|pair| column_order(pair[0].key, pair[1].key).is_lt()));
        let keys: std::collections::BTreeSet<Vec<u8>> =
            rows(&text(&lines)).map(|row| row.key.to_vec()).collect();
        prop_assert_eq!(found.len(), keys.len());
        for row in &found {
            let of_key: Vec<&[u8]> = values(&merged, row.key).collect();
            prop_assert_eq!(of_key, [row.value]);
        }
    }
}
