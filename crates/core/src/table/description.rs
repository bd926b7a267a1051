//! What is known of a table beside its rows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most fields of a table that this version does not know.
pub const OTHER_FIELDS_MAX: usize = 64;
/// Longest such field, name and value, in bytes.
pub const OTHER_FIELD_BYTES_MAX: usize = 1024;

/// A table. It is its name: made on two sides of a cut it is one table afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// 1 to 200 bytes, any but white space.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Some member exchanges it with strangers over a link. They may bring a row back at any
    /// time, so its tombstones stay.
    pub linked: bool,
    /// What a newer version says of it.
    #[serde(flatten)]
    pub other: BTreeMap<String, rmpv::Value>,
}

impl TableRow {
    /// A table that no link has.
    pub fn new(name: &[u8]) -> Self {
        TableRow {
            name: name.to_vec(),
            ..TableRow::default()
        }
    }

    /// Takes in what another description of the table says; true if that was news. Of two values
    /// of a field that this version does not know, the one whose bytes are larger stays; of more
    /// than [`OTHER_FIELDS_MAX`] such fields those that come first, and none that is larger than
    /// [`OTHER_FIELD_BYTES_MAX`].
    pub fn merge(&mut self, other: &TableRow) -> bool {
        debug_assert_eq!(self.name, other.name);
        let before = self.clone();
        self.linked |= other.linked;
        for (field, theirs) in &other.other {
            let new = bytes(theirs);
            let large = field.len() + new.len() > OTHER_FIELD_BYTES_MAX;
            let known = self.other.get(field);
            if large || known.is_some_and(|ours| bytes(ours) >= new) {
                continue;
            }
            self.other.insert(field.clone(), theirs.clone());
            if self.other.len() > OTHER_FIELDS_MAX {
                self.other.pop_last();
            }
        }
        *self != before
    }
}

fn bytes(value: &rmpv::Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).expect("memory does not refuse a write");
    bytes
}
