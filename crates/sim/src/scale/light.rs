//! Data that weighs nothing: which operations are in, and bytes made up when they are read.

use std::collections::BTreeMap;

use grapevine_core::catalogue::FilterId;
use grapevine_core::filter::Run as Inserted;
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::hash::{KeyHash, Seed};
use grapevine_core::operation::{INSERT_HEADER_BYTES, encode_insert};
use grapevine_core::origin::Origin;
use grapevine_core::sync::{
    Applied, Blob, BlockHashes, BlockLines, Cursor, LayerName, LegacyName, Line, Page, PageError,
    Part, Read, Replica, Run, Source, Unavailable,
};
use grapevine_core::version::{Dot, VersionVector};

use super::Data;

/// Bytes of an operation: as many as the insert of one key has.
const OPERATION_BYTES: usize = 1 + INSERT_HEADER_BYTES + KeyHash::BYTES;

/// See the module.
pub struct Light {
    me: Origin,
    applied: VersionVector,
    durable: VersionVector,
    is_synced: bool,
}

impl Data for Light {
    type Replica = Light;

    fn new(number: usize, _: usize) -> Result<Self, String> {
        let mut bytes = [0x11; 16];
        bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        let mut light = Light {
            me: Origin::new(bytes),
            applied: VersionVector::default(),
            durable: VersionVector::default(),
            is_synced: true,
        };
        // As a store has operations from the start: it entered itself as a member.
        light.set(0)?;
        light.sync()?;
        Ok(light)
    }

    fn replica(&mut self) -> &mut Light {
        self
    }

    fn prepare(&mut self) -> Result<(), String> {
        self.set(0).map(drop)
    }

    fn set(&mut self, _: u64) -> Result<bool, String> {
        let next = self.applied.get(self.me) + 1;
        self.applied.advance(self.me, next);
        self.is_synced = false;
        Ok(true)
    }

    fn needs_sync(&self) -> bool {
        !self.is_synced
    }

    fn sync(&mut self) -> Result<(), String> {
        self.durable.clone_from(&self.applied);
        self.is_synced = true;
        Ok(())
    }
}

/// The operation of that number: as the insert of one key, which has in common with the one before
/// it what two inserts into one layer have.
fn operation(sequence: u64) -> Vec<u8> {
    let creator = Origin::new([0x11; 16]);
    let run = Inserted {
        layer: LayerId { index: 0, creator },
        opened: 1,
        count: 1,
        inserted: sequence,
    };
    let hash = Seed::new([0x11; 16]).hash(&sequence.to_le_bytes());
    let mut bytes = Vec::new();
    encode_insert(&mut bytes, FilterId::new([0x11; 16]), run, &[hash]);
    bytes
}

impl Replica for Light {
    fn applied(&self) -> &VersionVector {
        &self.applied
    }

    fn durable(&self) -> &VersionVector {
        &self.durable
    }

    fn read(&mut self, wanted: &BTreeMap<Origin, u64>, _: Option<Cursor>, bytes: usize) -> Read {
        let (mut runs, mut left, mut end) = (Vec::new(), bytes.max(1), true);
        for (origin, first) in wanted {
            let last = self.durable.get(*origin);
            if *first > last {
                continue;
            }
            let there = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
            let count = there.min(left.div_ceil(OPERATION_BYTES));
            end &= count == there;
            left = left.saturating_sub(count * OPERATION_BYTES);
            if count > 0 {
                runs.push(Run {
                    origin: *origin,
                    first: *first,
                    operations: (*first..).take(count).map(operation).collect(),
                });
            }
        }
        Read::Runs {
            runs,
            next: Cursor(0, 0),
            end,
        }
    }

    fn apply(&mut self, origin: Origin, first: u64, operations: &[Vec<u8>]) -> Applied {
        self.applied
            .advance(origin, first - 1 + operations.len() as u64);
        self.is_synced = false;
        Applied {
            count: operations.len(),
            waits: None,
        }
    }

    fn fetched(&mut self, _: Part, _: Option<Dot>) {}

    fn give_up(&mut self, _: Part, _: Option<Dot>) {}

    fn sections(&self) -> &[u8] {
        &[]
    }

    fn page(&mut self, _: u8, _: &[u8], _: usize) -> Option<Page> {
        None
    }

    fn merge_page(&mut self, page: &Page, _: Source<'_>) -> Result<Vec<Part>, PageError> {
        Err(PageError::Section(page.section))
    }

    fn block_hashes(
        &mut self,
        _: LayerName,
        _: u32,
        _: usize,
    ) -> Result<Option<BlockHashes>, Unavailable> {
        Ok(None)
    }

    fn block_count(&mut self, _: LayerName) -> Option<u32> {
        None
    }

    fn differing(&mut self, _: LayerName, _: u32, _: &[u64]) -> Vec<u32> {
        Vec::new()
    }

    fn line_hashes(&mut self, _: LayerName, _: u32, _: u64) -> Vec<u32> {
        Vec::new()
    }

    fn lines(
        &mut self,
        _: LayerName,
        _: u32,
        _: u64,
        _: &[u32],
    ) -> Result<Option<BlockLines>, Unavailable> {
        Ok(None)
    }

    fn merge_lines(&mut self, _: LayerName, _: u32, _: &[Line]) -> bool {
        false
    }

    fn blob(&mut self, _: LegacyName, _: u64, _: usize) -> Option<Blob> {
        None
    }

    fn merge_blob(&mut self, _: LegacyName, _: u64, _: &Blob) -> Option<u64> {
        None
    }

    fn adopt(&mut self, version: &VersionVector) {
        self.applied.merge(version);
        self.durable.merge(version);
    }

    fn compared(&mut self, _: Origin) {}

    fn forget_partial(&mut self) {}

    fn shortages(&mut self, _: u64) -> Vec<(FilterId, u64)> {
        Vec::new()
    }

    fn grant(&mut self, _: FilterId, _: Origin, _: u64) {}
}
