//! What is known of a table beside its rows.

use serde::{Deserialize, Serialize};

use crate::carried::{self, CARRIED_FIELDS_MAX, Carried};

/// Which of the tables that had a name one after the other. The first one has none.
///
/// The number grows by one with each drop and with each creation after one: an even number names a
/// table that exists, an odd one says that the table before it was dropped. The larger number wins,
/// so a table made anew on two sides of a cut is one table, and rows of a smaller number are of a
/// table that is gone. Numbers are compared within one *lineage* only: a group of nodes that have
/// met, or a node that was always alone. What a newcomer dropped while it was alone does not drop
/// the table that its group has under that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEpoch {
    /// The group's id, or the origin of a node that was always alone.
    #[serde(with = "serde_bytes")]
    pub lineage: [u8; 16],
    /// How many drops and creations after drops there were.
    pub number: u64,
}

impl TableEpoch {
    /// Whether it says that the table was dropped.
    pub fn is_dropped(self) -> bool {
        self.number % 2 == 1
    }
}

/// The number of an epoch as `lineage` counts it: 0 of the first one, and of another lineage's.
pub fn epoch_number(epoch: Option<TableEpoch>, lineage: [u8; 16]) -> u64 {
    let counts = epoch.filter(|epoch| epoch.lineage == lineage);
    counts.map_or(0, |epoch| epoch.number)
}

/// A table. It is its name: made on two sides of a cut it is one table afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// 1 to 200 bytes, any but white space.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Some member exchanges it with strangers over a link. They may bring a row back at any
    /// time, so its tombstones stay.
    pub linked: bool,
    /// Which of the tables that had this name; none: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<TableEpoch>,
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

    /// Whether the table was dropped and this is all that is left of it.
    pub fn is_dropped(&self) -> bool {
        self.epoch.is_some_and(TableEpoch::is_dropped)
    }

    /// Takes in what another description of the table says, but for its epoch; true if that was
    /// news. Of two values
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
