//! What removed tombstones leave behind.
//!
//! A tombstone can be removed once no older row of its key can come any more, but then nothing
//! would say how large the version of a new row has to be for those who still have the tombstone.
//! So the largest version of what was removed is kept, not for each key but for each of 4096
//! buckets of keys: a floor. Two copies' floors are merged by taking the larger.
//!
//! A floor above [`FLOOR_MAX`] could lock all keys of its bucket. Rows with such versions are not
//! removed; where one was, before that rule, its floor is [`OUTSIDE_VERSION_MAX`]. A copy that
//! still has what was removed then keeps that key locked for itself, and no other.

use std::collections::BTreeMap;

use super::version::{FLOOR_MAX, OUTSIDE_VERSION_MAX};
use crate::hash::Seed;

/// Number of buckets of a table.
pub const BUCKETS: u16 = 4096;
/// Bytes of one floor.
const FLOOR_BYTES: usize = 2 + 8;
/// The same on all nodes and for ever: floors are exchanged.
const SEED: Seed = Seed::new(*b"floors of tables");

/// The bucket of a key, below [`BUCKETS`].
pub fn bucket(key: &[u8]) -> u16 {
    (SEED.hash(key).low % u64::from(BUCKETS)) as u16
}

/// See the module.
fn bounded(floor: i64) -> i64 {
    if floor > FLOOR_MAX {
        OUTSIDE_VERSION_MAX
    } else {
        floor
    }
}

/// Per bucket, the largest version of a row that was removed from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floors(BTreeMap<u16, i64>);

/// Why bytes are no floors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FloorsError {
    /// Not a whole number of floors.
    #[error("{0} bytes of floors, not a multiple of {FLOOR_BYTES}")]
    Length(usize),
    /// A bucket that no table has, or one out of order.
    #[error("bucket {0} in floors is out of order, or not below {BUCKETS}")]
    Bucket(u16),
}

impl Floors {
    /// The floor of a key, if anything was removed from its bucket.
    pub fn of(&self, key: &[u8]) -> Option<i64> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&bucket(key)).copied()
    }

    /// Notes that a row of this key and version was removed; true if that raised a floor.
    pub fn raise(&mut self, key: &[u8], version: i64) -> bool {
        self.raise_bucket(bucket(key), version)
    }

    fn raise_bucket(&mut self, bucket: u16, version: i64) -> bool {
        let version = bounded(version);
        let floor = self.0.entry(bucket).or_insert(i64::MIN);
        let raised = *floor < version;
        *floor = version.max(*floor);
        raised
    }

    /// Takes the larger floor for each bucket; true if that raised one.
    pub fn merge(&mut self, other: &Floors) -> bool {
        let mut raised = false;
        for (bucket, version) in &other.0 {
            raised |= self.raise_bucket(*bucket, *version);
        }
        raised
    }

    /// Whether nothing was ever removed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ascending by bucket: bucket (u16) and version (i64), both little endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * FLOOR_BYTES);
        for (bucket, version) in &self.0 {
            bytes.extend_from_slice(&bucket.to_le_bytes());
            bytes.extend_from_slice(&version.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gives; at most 40 KiB can be in order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FloorsError> {
        let (floors, rest) = bytes.as_chunks::<FLOOR_BYTES>();
        if !rest.is_empty() {
            return Err(FloorsError::Length(bytes.len()));
        }
        let mut read = Floors::default();
        for floor in floors {
            let [low, high, version @ ..] = *floor;
            let bucket = u16::from_le_bytes([low, high]);
            let ascends = read
                .0
                .last_key_value()
                .is_none_or(|(last, _)| *last < bucket);
            if bucket >= BUCKETS || !ascends {
                return Err(FloorsError::Bucket(bucket));
            }
            read.0.insert(bucket, bounded(i64::from_le_bytes(version)));
        }
        Ok(read)
    }
}
