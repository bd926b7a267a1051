//! The filters that are kept in memory as replication sees them: their keys, which the group's
//! stream does not have. Rows, layers and rights are the group's stream's; until it has brought
//! those that a peer has, what a peer shows of them cannot be taken in.

use std::collections::BTreeMap;
use std::sync::Arc;

use grapevine_core::catalogue::FilterId;
use grapevine_core::operation::{Operation, decode};
use grapevine_core::origin::Origin;
use grapevine_core::sync::{
    Applied, Blob, BlockHashes, BlockLines, Cursor, LayerName, LegacyName, Line, Page, PageError,
    Part, Read, Replica, Unavailable, Wait,
};
use grapevine_core::version::{Dot, VersionVector};

use super::Collections;
use super::exchange::{decode_rows, encode_rows, key};
use crate::filters::{Blocked, FilterError, KeptRow};

/// The layers of filters that are kept in memory; its keys are the filters' ids.
const SECTION_LAYERS: u8 = 1;

/// The filters of a node that are kept in memory, for their sync machine. One at a time: what it
/// keeps is the version as of the last call.
pub struct MemoryExchange {
    collections: Arc<Collections>,
    applied: VersionVector,
    durable: VersionVector,
    /// Something that a snapshot has could not be taken in: it is not whole.
    lacking: bool,
    /// The last trouble met, for the log.
    trouble: Option<String>,
}

impl MemoryExchange {
    /// Over these collections.
    pub fn new(collections: Arc<Collections>) -> Self {
        let mut exchange = MemoryExchange {
            collections,
            applied: VersionVector::default(),
            durable: VersionVector::default(),
            lacking: false,
            trouble: None,
        };
        exchange.refresh();
        exchange
    }

    /// Looks at the stream again; true if something became durable or was applied since.
    pub fn refresh(&mut self) -> bool {
        let stream = self.collections.filters().memory_stream();
        let durable = stream.durable(self.collections.journal().synced());
        let applied = stream.applied();
        let moved = applied != self.applied || durable != self.durable;
        (self.applied, self.durable) = (applied, durable);
        moved
    }

    /// The origin of what this run of the node puts in.
    pub fn life(&self) -> Origin {
        self.collections.filters().memory_stream().life()
    }

    /// Whether this node has put something in since the last look.
    pub fn has_news(&self) -> bool {
        let stream = self.collections.filters().memory_stream();
        stream.made() > self.applied.get(stream.life())
    }

    /// The last trouble met since this was asked, in words.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    fn note(&mut self, trouble: &dyn std::fmt::Display) -> Unavailable {
        self.trouble = Some(trouble.to_string());
        Unavailable
    }

    fn show<T>(&mut self, shown: Result<T, FilterError>) -> Result<T, Unavailable> {
        let shown = shown.map_err(|error| self.note(&error))?;
        let settled = self.collections.settle_for_peers();
        settled.map_err(|error| self.note(&error))?;
        Ok(shown)
    }

    /// What came of bits of a snapshot here.
    fn take<T: Default>(&mut self, taken: Result<T, FilterError>) -> T {
        taken.unwrap_or_else(|error| {
            self.lacking = true;
            self.note(&error);
            T::default()
        })
    }

    /// Takes an operation in; false if what it rests on is not here yet.
    fn apply_one(&mut self, dot: Dot, bytes: &[u8]) -> Result<bool, Wait> {
        let Ok(operation @ Operation::Insert(insert)) = decode(bytes) else {
            self.note(&format_args!("what {} puts in does not decode", dot.origin));
            return Err(Wait::Refused);
        };
        if let Some(needed) = operation.needs()
            && !self.collections.journal().covers(needed)
        {
            return Ok(false);
        }
        let filters = self.collections.filters();
        match filters.apply_unlogged(&insert, || {
            filters.memory_stream().append_foreign(dot, bytes)
        }) {
            Ok(()) => Ok(true),
            Err(blocked @ (Blocked::Memory(_) | Blocked::ReadOnly(_))) => {
                self.note(&format_args!("keys of {} wait: {blocked}", dot.origin));
                Ok(false)
            }
            Err(blocked) => {
                self.note(&format_args!("keys of {}: {blocked}", dot.origin));
                Err(Wait::Refused)
            }
        }
    }
}

impl Replica for MemoryExchange {
    fn applied(&self) -> &VersionVector {
        &self.applied
    }

    fn durable(&self) -> &VersionVector {
        &self.durable
    }

    fn read(
        &mut self,
        wanted: &BTreeMap<Origin, u64>,
        cursor: Option<Cursor>,
        bytes: usize,
    ) -> Read {
        let synced = self.collections.journal().synced();
        let stream = self.collections.filters().memory_stream();
        stream.read(wanted, cursor, bytes, synced)
    }

    fn apply(&mut self, origin: Origin, first: u64, operations: &[Vec<u8>]) -> Applied {
        let mut applied = Applied {
            count: 0,
            waits: None,
        };
        for (sequence, bytes) in (first..).zip(operations) {
            match self.apply_one(Dot { origin, sequence }, bytes) {
                Ok(true) => applied.count += 1,
                Ok(false) => break,
                Err(wait) => {
                    applied.waits = Some(wait);
                    break;
                }
            }
        }
        let last = first - 1 + applied.count as u64;
        self.applied.advance(origin, last);
        self.durable.advance(origin, last);
        applied
    }

    fn fetched(&mut self, _: Part, _: Option<Dot>) {}

    fn give_up(&mut self, _: Part, _: Option<Dot>) {}

    fn sections(&self) -> &[u8] {
        &[SECTION_LAYERS]
    }

    fn page(&mut self, section: u8, after: &[u8], bytes_max: usize) -> Option<Page> {
        if section != SECTION_LAYERS {
            return None;
        }
        let filters = self.collections.filters();
        let (rows, next) = filters.kept_rows(key(after)?, bytes_max);
        let bytes = self.show(Ok(encode_rows(&rows))).ok()?;
        Some(Page {
            section,
            after: after.to_vec(),
            next: next.map(|id: FilterId| id.bytes().to_vec()),
            bytes,
        })
    }

    fn merge_page(&mut self, page: &Page, _: &VersionVector) -> Result<Vec<Part>, PageError> {
        if page.section != SECTION_LAYERS {
            return Err(PageError::Section(page.section));
        }
        if page.after.is_empty() {
            self.lacking = false;
        }
        let rows: Vec<KeptRow> = decode_rows(page)?;
        let mut parts = Vec::new();
        for row in &rows {
            let known = self.collections.filters().kept_parts(row, &mut parts);
            self.lacking |= !known;
        }
        Ok(parts)
    }

    fn block_hashes(
        &mut self,
        layer: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, Unavailable> {
        let filters = self.collections.filters();
        let hashes = filters.block_hashes(layer, first, count_max);
        self.show(hashes)
    }

    fn block_count(&mut self, layer: LayerName) -> Option<u32> {
        let count = self.collections.filters().block_count(layer);
        self.take(count)
    }

    fn differing(&mut self, layer: LayerName, first: u32, hashes: &[u64]) -> Vec<u32> {
        let differing = self.collections.filters().differing(layer, first, hashes);
        self.take(differing)
    }

    fn line_hashes(&mut self, layer: LayerName, block: u32, salt: u64) -> Vec<u32> {
        let hashes = self.collections.filters().line_hashes(layer, block, salt);
        self.take(hashes)
    }

    fn lines(
        &mut self,
        layer: LayerName,
        block: u32,
        salt: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, Unavailable> {
        let filters = self.collections.filters();
        let lines = filters.differing_lines(layer, block, salt, hashes);
        self.show(lines)
    }

    fn merge_lines(&mut self, layer: LayerName, block: u32, lines: &[Line]) -> bool {
        let merged = self.collections.filters().merge_lines(layer, block, lines);
        self.take(merged)
    }

    fn blob(&mut self, _: LegacyName, _: u64, _: usize) -> Option<Blob> {
        None
    }

    fn merge_blob(&mut self, _: LegacyName, _: u64, _: &Blob) -> Option<u64> {
        None
    }

    fn adopt(&mut self, version: &VersionVector) {
        if !std::mem::take(&mut self.lacking) {
            self.collections.filters().memory_stream().adopt(version);
            self.refresh();
        }
    }

    fn forget_partial(&mut self) {}

    fn shortages(&mut self, _: u64) -> Vec<(FilterId, u64)> {
        Vec::new()
    }

    fn grant(&mut self, _: FilterId, _: Origin, _: u64) {}
}
