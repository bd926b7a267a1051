//! A row as this node keeps it.
//!
//! ```text
//! record = flags u8 | version i64 | origin 16 | sequence u64 | changed u64
//!          | expires u64 (with flag 2) | values (to the end; none with flag 1)
//! ```
//! Integers are little endian. Flag 1: a tombstone. Flag 2: it expires. Flag 4: it is doubtful.
//! A record's key is the
//! table's name, a tab and the row's key: no name has a tab, so the rows of a table lie together,
//! in the order of their keys.

use grapevine_core::origin::Origin;
use grapevine_core::table::{Content, Row};
use grapevine_core::version::Dot;

use crate::log::Position;

const TOMBSTONE: u8 = 1;
const EXPIRES: u8 = 2;
const DOUBTFUL: u8 = 4;

/// A row, who made it, and since when it is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) row: Row,
    /// The operation that made it; of several that made the same row, the smallest.
    pub(super) dot: Dot,
    /// The position of the journal at which it came here, another one for each row.
    pub(super) changed: Position,
    /// It came with an operation that a copy whose floors were taken over already had: it may have
    /// been removed there. A copy that has the operation and not the row says so.
    pub(super) doubtful: bool,
}

impl Record {
    /// From which horizon on it may be removed, in milliseconds since 1970: a tombstone at any, a
    /// row when it expired before the horizon; none: never.
    pub(super) fn due(&self) -> Option<u64> {
        if self.row.is_tombstone() {
            return Some(0);
        }
        Some(self.row.expires?.saturating_add(1))
    }

    /// Whether it may be removed at this horizon.
    pub(super) fn is_due(&self, horizon: u64) -> bool {
        self.due().is_some_and(|at| at <= horizon)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let values = self.row.values();
        let length = 1 + 8 + 16 + 8 + 8 + 8 + values.map_or(0, <[u8]>::len);
        let mut bytes = Vec::with_capacity(length);
        let tombstone = if values.is_none() { TOMBSTONE } else { 0 };
        let expires = if self.row.expires.is_some() {
            EXPIRES
        } else {
            0
        };
        let doubtful = if self.doubtful { DOUBTFUL } else { 0 };
        bytes.push(tombstone | expires | doubtful);
        bytes.extend_from_slice(&self.row.version.to_le_bytes());
        bytes.extend_from_slice(&self.dot.origin.bytes());
        bytes.extend_from_slice(&self.dot.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.changed.to_le_bytes());
        if let Some(expires) = self.row.expires {
            bytes.extend_from_slice(&expires.to_le_bytes());
        }
        bytes.extend_from_slice(values.unwrap_or_default());
        bytes
    }

    /// None: these are no bytes of a record.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (flags, rest) = bytes.split_first()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (origin, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (changed, rest) = rest.split_first_chunk()?;
        let (expires, values) = if flags & EXPIRES != 0 {
            let (expires, rest) = rest.split_first_chunk()?;
            (Some(u64::from_le_bytes(*expires)), rest)
        } else {
            (None, rest)
        };
        let content = match flags & !(EXPIRES | DOUBTFUL) {
            0 => Content::Values(values.to_vec()),
            TOMBSTONE if values.is_empty() => Content::Tombstone,
            _ => return None,
        };
        Some(Record {
            row: Row {
                version: i64::from_le_bytes(*version),
                content,
                expires,
            },
            dot: Dot {
                origin: Origin::new(*origin),
                sequence: u64::from_le_bytes(*sequence),
            },
            changed: Position::from_le_bytes(*changed),
            doubtful: flags & DOUBTFUL != 0,
        })
    }
}

/// The key of a record.
pub(super) fn record_key(name: &[u8], key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 1 + key.len());
    bytes.extend_from_slice(name);
    bytes.push(b'\t');
    bytes.extend_from_slice(key);
    bytes
}

/// The first key after all records of a table.
pub(super) fn after_table(name: &[u8]) -> Vec<u8> {
    after_prefix(&record_key(name, b""))
}

/// The first key after all records of a table whose keys begin as this one does.
pub(super) fn after_prefix(record_key: &[u8]) -> Vec<u8> {
    let mut bytes = record_key.to_vec();
    // It has a tab, so there is one that is not the last of all bytes.
    while let Some(last) = bytes.pop() {
        if last < u8::MAX {
            bytes.push(last + 1);
            break;
        }
    }
    bytes
}

/// The table and the key of a record's key; none if it is no such key.
pub(super) fn split_key(record_key: &[u8]) -> Option<(&[u8], &[u8])> {
    let tab = record_key.iter().position(|byte| *byte == b'\t')?;
    Some((&record_key[..tab], &record_key[tab + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: Content, expires: Option<u64>) -> Record {
        Record {
            row: Row {
                version: -7,
                content,
                expires,
            },
            dot: Dot {
                origin: Origin::new([3; 16]),
                sequence: 9,
            },
            changed: 77,
            doubtful: false,
        }
    }

    #[test]
    fn records_survive_their_bytes_and_cuts_are_noticed() {
        let records = [
            record(Content::Values(b"a\tb".to_vec()), None),
            record(Content::Values(Vec::new()), Some(5)),
            record(Content::Tombstone, None),
            Record {
                doubtful: true,
                ..record(Content::Values(b"b".to_vec()), Some(9))
            },
        ];
        for record in records {
            let bytes = record.encode();
            assert_eq!(Record::decode(&bytes), Some(record.clone()));
            let fixed = bytes.len() - record.row.values().map_or(0, <[u8]>::len);
            for length in 0..fixed {
                assert_eq!(Record::decode(&bytes[..length]), None);
            }
        }
        assert_eq!(Record::decode(&[8; 60]), None, "unknown flags");
    }

    #[test]
    fn gone_rows_are_due_and_others_never() {
        let due = |content, expires| record(content, expires).due();
        assert_eq!(due(Content::Tombstone, None), Some(0));
        assert_eq!(due(Content::Values(Vec::new()), None), None);
        assert_eq!(due(Content::Values(Vec::new()), Some(10)), Some(11));
        let lease = record(Content::Values(Vec::new()), Some(10));
        assert!(!lease.is_due(10) && lease.is_due(11));
    }

    #[test]
    fn the_keys_of_a_table_lie_together() {
        let keys = [
            record_key(b"a", b"\xff"),
            after_table(b"a"),
            record_key(b"a!", b"a"),
            record_key(b"aa", b"a"),
        ];
        assert!(keys.is_sorted());
        assert_eq!(split_key(&keys[2]), Some((&b"a!"[..], &b"a"[..])));
        assert_eq!(after_prefix(&record_key(b"a", b"k\xff\xff")), b"a\tl");
        assert_eq!(after_prefix(&record_key(b"a", b"\xff")), after_table(b"a"));
        assert_eq!(split_key(b"none"), None);
    }
}
