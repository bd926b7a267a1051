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
    Part, Read, Replica, Source, Unavailable, Wait,
};
use grapevine_core::version::{Dot, VersionVector};

use super::Collections;
use super::exchange::{decode_rows, encode_rows, key};
use super::view::View;
use crate::filters::{Blocked, KeptRow};

/// The layers of filters that are kept in memory; its keys are the filters' ids.
const SECTION_LAYERS: u8 = 1;

/// The filters of a node that are kept in memory, for their sync machine. One at a time: what it
/// keeps is the version as of the last call.
pub struct MemoryExchange {
    view: View,
    applied: VersionVector,
    durable: VersionVector,
}

impl MemoryExchange {
    /// Over these collections.
    pub fn new(collections: Arc<Collections>) -> Self {
        let mut exchange = MemoryExchange {
            view: View::new(collections),
            applied: VersionVector::default(),
            durable: VersionVector::default(),
        };
        exchange.refresh();
        exchange
    }

    /// Looks at the stream again; true if something became durable or was applied since.
    pub fn refresh(&mut self) -> bool {
        let stream = self.view.collections.filters().memory_stream();
        let durable = stream.durable(self.view.collections.journal().synced());
        let applied = stream.applied();
        let moved = applied != self.applied || durable != self.durable;
        (self.applied, self.durable) = (applied, durable);
        moved
    }

    /// The origin of what this run of the node puts in.
    pub fn life(&self) -> Origin {
        self.view.collections.filters().memory_stream().life()
    }

    /// Whether this node has put something in since the last look.
    pub fn has_news(&self) -> bool {
        let stream = self.view.collections.filters().memory_stream();
        stream.made() > self.applied.get(stream.life())
    }

    /// The last trouble met since this was asked, in words.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.view.trouble.take()
    }

    /// Takes an operation in; false if what it rests on is not here yet.
    fn apply_one(&mut self, dot: Dot, bytes: &[u8]) -> Result<bool, Wait> {
        let Ok(operation @ Operation::Insert(insert)) = decode(bytes) else {
            self.view
                .note(&format_args!("what {} puts in does not decode", dot.origin));
            return Err(Wait::Refused);
        };
        if self.view.collections.lacks(&operation).is_some() {
            return Ok(false);
        }
        let filters = self.view.collections.filters();
        match filters.apply_unlogged(&insert, || {
            filters.memory_stream().append_foreign(dot, bytes)
        }) {
            Ok(()) => Ok(true),
            // What opened it is in, of another history: the layer comes with the group's state.
            Err(Blocked::UnknownLayer) => Ok(false),
            Err(blocked @ (Blocked::Memory(_) | Blocked::NoFile(_) | Blocked::ReadOnly(_))) => {
                self.view
                    .note(&format_args!("keys of {} wait: {blocked}", dot.origin));
                Ok(false)
            }
            Err(blocked) => {
                self.view
                    .note(&format_args!("keys of {}: {blocked}", dot.origin));
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
        let synced = self.view.collections.journal().synced();
        let stream = self.view.collections.filters().memory_stream();
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
        let filters = self.view.collections.filters();
        let (rows, next) = filters.kept_rows(key(after)?, bytes_max);
        let bytes = self.view.show(Ok(encode_rows(&rows))).ok()?;
        Some(Page {
            section,
            after: after.to_vec(),
            next: next.map(|id: FilterId| id.bytes().to_vec()),
            bytes,
        })
    }

    fn merge_page(&mut self, page: &Page, _: Source<'_>) -> Result<Vec<Part>, PageError> {
        if page.section != SECTION_LAYERS {
            return Err(PageError::Section(page.section));
        }
        if page.after.is_empty() {
            self.view.lacking = false;
        }
        let rows: Vec<KeptRow> = decode_rows(page)?;
        let mut parts = Vec::new();
        for row in &rows {
            let known = self.view.collections.filters().kept_parts(row, &mut parts);
            self.view.lacking |= !known;
        }
        Ok(parts)
    }

    fn block_hashes(
        &mut self,
        layer: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, Unavailable> {
        self.view.block_hashes(layer, first, count_max)
    }

    fn block_count(&mut self, layer: LayerName) -> Option<u32> {
        self.view.block_count(layer)
    }

    fn differing(&mut self, layer: LayerName, first: u32, hashes: &[u64]) -> Vec<u32> {
        self.view.differing(layer, first, hashes)
    }

    fn line_hashes(&mut self, layer: LayerName, block: u32, salt: u64) -> Vec<u32> {
        self.view.line_hashes(layer, block, salt)
    }

    fn lines(
        &mut self,
        layer: LayerName,
        block: u32,
        salt: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, Unavailable> {
        self.view.lines(layer, block, salt, hashes)
    }

    fn merge_lines(&mut self, layer: LayerName, block: u32, lines: &[Line]) -> bool {
        self.view.merge_lines(layer, block, lines)
    }

    fn blob(&mut self, _: LegacyName, _: u64, _: usize) -> Option<Blob> {
        None
    }

    fn merge_blob(&mut self, _: LegacyName, _: u64, _: &Blob) -> Option<u64> {
        None
    }

    fn adopt(&mut self, version: &VersionVector) {
        if !std::mem::take(&mut self.view.lacking) {
            self.view
                .collections
                .filters()
                .memory_stream()
                .adopt(version);
            self.refresh();
        }
    }

    fn compared(&mut self, _: Origin) {}

    fn forget_partial(&mut self) {}

    fn shortages(&mut self, _: u64) -> Vec<(FilterId, u64)> {
        Vec::new()
    }

    fn grant(&mut self, _: FilterId, _: Origin, _: u64) {}
}
