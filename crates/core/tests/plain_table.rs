//! Plain tables against data taken from the original.

#[path = "vectors/reader.rs"]
mod reader;

use grapevine_core::plain_table::{merge, show, values};
use reader::{bytes, vectors};
use serde_json::Value;

const VECTORS: &str = include_str!("vectors/p2ptbl.json");

/// The cases of one command that are about well-formed tables and succeed.
fn cases(command: &str) -> Vec<Value> {
    let mut cases = vectors(VECTORS, "cases");
    cases.retain(|case| {
        case["op"] == command && case["quirk"].is_null() && case["expect"]["rc"] == 0
    });
    assert!(cases.len() >= 8, "{command}");
    cases
}

fn file(case: &Value, argument: usize) -> Vec<u8> {
    bytes(&case["files"][case["argv"][argument].as_str().expect("a name")])
}

#[test]
fn tables_merge_as_in_the_original() {
    for case in cases("merge") {
        let (table, foreign) = (file(&case, 1), file(&case, 2));
        let merged = merge(&[&table, &foreign]).expect("small tables");
        let name = case["argv"][1].as_str().expect("a name");
        assert_eq!(
            merged,
            bytes(&case["expect"]["files"][name]),
            "{}",
            case["name"]
        );
        assert_eq!(
            merge(&[&foreign, &table]).as_ref(),
            Ok(&merged),
            "{}",
            case["name"]
        );
    }
}

#[test]
fn values_are_found_as_in_the_original() {
    for case in cases("get") {
        let table = file(&case, 1);
        let key = case["argv"][2].as_str().expect("a key").as_bytes();
        let found: Vec<u8> = values(&table, key)
            .flat_map(|value| [value, b"\n"].concat())
            .collect();
        assert_eq!(found, bytes(&case["expect"]["stdout"]), "{}", case["name"]);
    }
}

#[test]
fn tables_are_shown_as_in_the_original() {
    for case in cases("show") {
        assert_eq!(
            show(&file(&case, 1)),
            bytes(&case["expect"]["stdout"]),
            "{}",
            case["name"]
        );
    }
}
