//! What a newer version says in a row and this one does not know: it is carried along, within
//! bounds.
//!
//! Without bounds a single member could make a row that every node takes in and no node can write
//! or read back. So each reader of a row (of an operation, of an entry of the log, of a page of
//! another node's state) keeps of the unknown fields what [`bound`] leaves of them, and never
//! refuses the row for the rest: a receiver does not refuse what an origin accepted. What is left
//! follows from the row's bytes alone, so all copies of one version leave the same, and none is
//! held up. A newer version that adds a field keeps it within these bounds; beyond them, versions
//! that do not know it forget it.

use std::collections::BTreeMap;

pub use rmpv::Value;
use serde::{Deserialize, Deserializer};

/// Most unknown fields of one row; of more, those whose names come first are kept.
pub const CARRIED_FIELDS_MAX: usize = 16;
/// Longest such field, name and value, in bytes.
pub const CARRIED_FIELD_BYTES_MAX: usize = 1024;
/// Deepest nesting of its value: arrays and maps within arrays and maps.
pub const CARRIED_DEPTH_MAX: usize = 16;

/// Unknown fields by name.
pub type Carried = BTreeMap<String, Value>;

/// Whether a field may be carried along.
pub fn fits(name: &str, value: &Value) -> bool {
    // Depth first: it ends early, and what is as shallow as that is encoded without deep recursion.
    is_within(value, CARRIED_DEPTH_MAX)
        && name.len() + encoded(value).len() <= CARRIED_FIELD_BYTES_MAX
}

/// Takes away what is not carried along: fields that are too large or nested too deep, then those
/// beyond the first [`CARRIED_FIELDS_MAX`].
pub fn bound(fields: &mut Carried) {
    fields.retain(|name, value| fits(name, value));
    while fields.len() > CARRIED_FIELDS_MAX {
        fields.pop_last();
    }
}

/// Reads the unknown fields of a row, for `#[serde(flatten, deserialize_with)]`.
pub fn read<'de, D: Deserializer<'de>>(fields: D) -> Result<Carried, D::Error> {
    let mut fields = Carried::deserialize(fields)?;
    bound(&mut fields);
    Ok(fields)
}

/// The bytes of a value, by which two are compared.
pub fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("memory does not refuse a write");
    bytes
}

/// Whether arrays and maps are nested at most `depth` deep.
fn is_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Array(_) | Value::Map(_) if depth == 0 => false,
        Value::Array(values) => values.iter().all(|value| is_within(value, depth - 1)),
        Value::Map(pairs) => pairs
            .iter()
            .all(|(key, value)| is_within(key, depth - 1) && is_within(value, depth - 1)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Value {
        (0..depth).fold(Value::Nil, |value, _| Value::Array(vec![value]))
    }

    #[test]
    fn depth_size_and_number_are_bounded_each_to_the_last_one() {
        let text = |bytes: usize| Value::from("x".repeat(bytes));
        // Three bytes before a text of that length, one of the name.
        let largest = CARRIED_FIELD_BYTES_MAX - 4;
        for (value, kept) in [
            (nested(CARRIED_DEPTH_MAX), true),
            (nested(CARRIED_DEPTH_MAX + 1), false),
            (nested(1000), false),
            (Value::Map(vec![(nested(16), Value::Nil)]), false),
            (text(largest), true),
            (text(largest + 1), false),
        ] {
            let mut fields = Carried::from([("n".to_owned(), value.clone())]);
            bound(&mut fields);
            assert_eq!(fields.len(), usize::from(kept), "{value}");
        }
        let many = 0..3 * CARRIED_FIELDS_MAX;
        let mut fields: Carried = many.map(|n| (format!("{n:03}"), Value::from(n))).collect();
        // One that is too large takes no place of one that is not.
        fields.insert("000".to_owned(), text(largest));
        bound(&mut fields);
        assert_eq!(fields.len(), CARRIED_FIELDS_MAX);
        assert_eq!(fields.keys().next().map(String::as_str), Some("001"));
    }
}
