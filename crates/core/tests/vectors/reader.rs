//! Reads the vectors beside it, for the tests of several crates.
#![allow(dead_code, reason = "each test program uses a part of it")]

use serde_json::Value;

/// The vectors of a file under the name of their list.
pub(crate) fn vectors(text: &str, list: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(text).expect("JSON");
    let found = file[list].as_array().expect("a list").clone();
    assert!(!found.is_empty());
    found
}

/// The bytes of hexadecimal text.
pub(crate) fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().expect("hexadecimal text").as_bytes();
    let digits = hex.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(pair, 16).expect("two digits")
    });
    digits.collect()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// The numbers of a list, in a type that holds each.
pub(crate) fn numbers<T: TryFrom<u64>>(value: &Value) -> Vec<T> {
    let number = |number: &Value| {
        let number = number.as_u64().expect("a number");
        T::try_from(number).ok().expect("a number of that type")
    };
    list(value).iter().map(number).collect()
}
