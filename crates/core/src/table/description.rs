//! What is known of a table beside its rows.

use serde::{Deserialize, Serialize};

use crate::carried::{self, CARRIED_FIELDS_MAX, Carried};

/// A table. It is its name: made on two sides of a cut it is one table afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// 1 to 200 bytes, any but white space.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Some member exchanges it with strangers over a link. They may bring a row back at any
    /// time, so its tombstones stay.
    pub linked: bool,
    /// What a newer version says of it, within the bounds of [`carried`].
    #[serde(flatten, deserialize_with = "carried::read")]
    pub other: Carried,
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
    /// than [`CARRIED_FIELDS_MAX`] such fields those that come first, and none that
    /// [`carried::fits`] not.
    pub fn merge(&mut self, other: &TableRow) -> bool {
        debug_assert_eq!(self.name, other.name);
        let before = self.clone();
        self.linked |= other.linked;
        for (field, theirs) in &other.other {
            let known = self.other.get(field).map(carried::encoded);
            if !carried::fits(field, theirs)
                || known.is_some_and(|ours| ours >= carried::encoded(theirs))
            {
                continue;
            }
            self.other.insert(field.clone(), theirs.clone());
            if self.other.len() > CARRIED_FIELDS_MAX {
                self.other.pop_last();
            }
        }
        *self != before
    }
}
