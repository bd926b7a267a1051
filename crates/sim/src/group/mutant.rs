//! Faults built into nodes, to show that the checks find them.

use std::collections::BTreeMap;
use std::sync::Arc;

use grapevine_core::catalogue::{FilterId, Storage};
use grapevine_core::history::History;
use grapevine_core::operation::Share;
use grapevine_core::origin::Origin;
use grapevine_core::sync::{
    Applied, Blob, BlockHashes, BlockLines, Cursor, LayerName, LegacyName, Line, Page, PageError,
    Part, Read, Replica, Shown, Source, Unavailable,
};
use grapevine_core::version::{Dot, VersionVector};
use grapevine_store::collections::{Collections, Exchange};
use grapevine_store::filters::Filters;

use super::clocks::{is_of_rows, without_rows};
use super::drops::of_present_table;
use super::memory::emptied;
use crate::random::Random;

/// The section of a snapshot that the bitmap is in.
const SECTION_BITMAP: u8 = 3;

/// A fault built into every node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupMutation {
    /// None: the nodes as they are.
    #[default]
    None,
    /// Every node inserts as if all rights were its own.
    RightsIgnored,
    /// A node says that it has operations before it has applied them; now and then it does not
    /// come to that.
    VersionAdvancedEarly,
    /// The state that a peer takes over comes without the bitmap.
    BitmapLeftOut,
    /// A node that starts again spends what it had drawn for filters kept in memory once more.
    DrawsForgotten,
    /// The log is cut before the snapshot that covers it is written.
    LogTruncatedEarly,
    /// Rows that are gone are removed without asking whether all members have seen them going.
    RowsRemovedAtOnce,
    /// Histories are told apart by how many operations there are.
    OnlyNumbersCompared,
    /// A directory made from one whose history is another than the group's still claims the old
    /// numbers.
    ForkKept,
    /// A clock that is set back stands still until it is where it was.
    ClockStandsStill,
    /// A node makes rows with a time to live by its own clock, whatever those of others show.
    OwnClockTrusted,
    /// Rows that expired are removed by the clock of one node alone, at once.
    RowsRemovedByOneClock,
    /// What is here and not in a copy that should be the same is taken for removed there.
    AbsentTakenForRemoved,
    /// The bits of a damaged layer are taken for there while its copy is gathered.
    HealedAsEmpty,
    /// The rows of a damaged file are taken for whole without those that peers have.
    RowsHealedAsEmpty,
    /// A filter that does not fit a node's memory keeps it from following anybody.
    LargeStopsAll,
    /// What is put into a filter that does not fit a node's memory is said to be there, and is not.
    LargeClaimed,
    /// Rows of a table that was dropped are taken for those of the one made after it.
    EpochsIgnored,
    /// A node that changes groups enters that all others left.
    SpeaksForOthers,
    /// Who leaves and comes back is the same for the failure detectors.
    NeverRenewed,
}

/// The replica of a node, with its fault.
pub(super) struct Mutant {
    exchange: Exchange,
    collections: Arc<Collections>,
    mutation: GroupMutation,
    /// With [`GroupMutation::VersionAdvancedEarly`], what the node claims to have.
    claimed: VersionVector,
    applications: u64,
    /// Draws when a copy seems to lack rows.
    unseen: Option<Random>,
    /// How often one did.
    pub(super) unseen_count: u64,
    /// With [`GroupMutation::HealedAsEmpty`], whether a filter was damaged in this life.
    was_damaged: bool,
}

impl Mutant {
    pub(super) fn new(
        collections: Arc<Collections>,
        mutation: GroupMutation,
        unseen: Option<Random>,
    ) -> Self {
        let exchange = Exchange::new(Arc::clone(&collections));
        let claimed = exchange.applied().clone();
        Mutant {
            exchange,
            collections,
            mutation,
            claimed,
            applications: 0,
            unseen,
            unseen_count: 0,
            was_damaged: false,
        }
    }

    pub(super) fn refresh(&mut self) {
        self.exchange.refresh();
        self.claimed.merge(self.exchange.applied());
    }

    pub(super) fn take_trouble(&mut self) -> Option<String> {
        self.exchange.take_trouble()
    }

    /// With [`GroupMutation::LargeStopsAll`], whether a filter does not fit.
    fn is_stopped(&self) -> bool {
        self.mutation == GroupMutation::LargeStopsAll
            && !self.collections.filters().too_large().is_empty()
    }

    fn claims_early(&self) -> bool {
        self.mutation == GroupMutation::VersionAdvancedEarly
    }
}

/// Gives a node all rights of a filter's layers.
pub(super) fn ignore_rights(filter: &grapevine_core::filter::Filter, me: Origin) {
    for layer in filter.layers() {
        let share = Share {
            taker: me,
            total: layer.shape().capacity,
        };
        layer.observe_grant(layer.id().creator, &[share]);
    }
}

/// Gives back what a node had drawn for filters that are kept in memory.
pub(super) fn forget_draws(filters: &Filters) {
    for handle in filters.list(b"") {
        let kept = handle
            .in_memory()
            .filter(|_| handle.storage() == Storage::Memory);
        for layer in kept.iter().flat_map(|filter| filter.layers()) {
            layer.release(layer.inserted_here());
        }
    }
}

impl Replica for Mutant {
    fn applied(&self) -> &VersionVector {
        if self.claims_early() {
            &self.claimed
        } else {
            self.exchange.applied()
        }
    }

    fn durable(&self) -> &VersionVector {
        self.exchange.durable()
    }

    fn mark(&self, origin: Origin, count: u64) -> u64 {
        match self.mutation {
            GroupMutation::OnlyNumbersCompared => 0,
            _ => self.exchange.mark(origin, count),
        }
    }

    fn history(&self, origin: Origin) -> History {
        self.exchange.history(origin)
    }

    fn shown(&self) -> &Shown {
        self.exchange.shown()
    }

    fn read(
        &mut self,
        wanted: &BTreeMap<Origin, u64>,
        cursor: Option<Cursor>,
        bytes: usize,
    ) -> Read {
        self.exchange.read(wanted, cursor, bytes)
    }

    fn apply(&mut self, origin: Origin, first: u64, operations: &[Vec<u8>]) -> Applied {
        self.applications += 1;
        if self.claims_early() && self.applications.is_multiple_of(20) {
            let count = operations.len();
            self.claimed.advance(origin, first - 1 + count as u64);
            return Applied { count, waits: None };
        }
        let applied = match self.mutation {
            _ if self.is_stopped() => Applied {
                count: 0,
                waits: None,
            },
            GroupMutation::LargeClaimed => {
                let emptied = |bytes: &Vec<u8>| emptied(&self.collections, bytes);
                let operations: Vec<Vec<u8>> = operations
                    .iter()
                    .map(|bytes| emptied(bytes).unwrap_or_else(|| bytes.clone()))
                    .collect();
                self.exchange.apply(origin, first, &operations)
            }
            GroupMutation::EpochsIgnored => {
                let taken = |bytes: &Vec<u8>| of_present_table(&self.collections, bytes);
                let operations: Vec<Vec<u8>> = operations
                    .iter()
                    .map(|bytes| taken(bytes).unwrap_or_else(|| bytes.clone()))
                    .collect();
                self.exchange.apply(origin, first, &operations)
            }
            _ => self.exchange.apply(origin, first, operations),
        };
        self.claimed.merge(self.exchange.applied());
        applied
    }

    fn fetched(&mut self, part: Part, waiting: Option<Dot>) {
        self.exchange.fetched(part, waiting);
    }

    fn made(&self, filter: FilterId) -> Option<Dot> {
        self.exchange.made(filter)
    }

    fn give_up(&mut self, part: Part, waiting: Option<Dot>) {
        self.exchange.give_up(part, waiting);
    }

    fn sections(&self) -> &[u8] {
        self.exchange.sections()
    }

    fn page(&mut self, section: u8, after: &[u8], bytes_max: usize) -> Option<Page> {
        let mut page = self.exchange.page(section, after, bytes_max)?;
        if self.mutation == GroupMutation::BitmapLeftOut && page.section == SECTION_BITMAP {
            page.bytes.clear();
        }
        Some(page)
    }

    fn merge_page(&mut self, page: &Page, source: Source<'_>) -> Result<Vec<Part>, PageError> {
        if self.is_stopped() {
            return Err(PageError::Room);
        }
        let mut page = page.clone();
        let unseen = &mut self.unseen;
        let mut blind = || unseen.as_mut().is_some_and(|random| random.one_in(4));
        if source.comparing && is_of_rows(&page) && blind() && without_rows(&mut page) {
            self.unseen_count += 1;
        }
        let lacking = self.collections.damaged_rows().is_some();
        if self.mutation == GroupMutation::RowsHealedAsEmpty && lacking && is_of_rows(&page) {
            page.bytes.clear();
        }
        if self.mutation == GroupMutation::AbsentTakenForRemoved {
            // As if something were lacking that nobody has.
            let mut version = source.version.clone();
            version.advance(Origin::new([0xff; 16]), 1);
            let source = Source {
                version: &version,
                comparing: false,
            };
            return self.exchange.merge_page(&page, source);
        }
        self.exchange.merge_page(&page, source)
    }

    fn block_hashes(
        &mut self,
        layer: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, Unavailable> {
        self.exchange.block_hashes(layer, first, count_max)
    }

    fn block_count(&mut self, layer: LayerName) -> Option<u32> {
        self.exchange.block_count(layer)
    }

    fn differing(&mut self, layer: LayerName, first: u32, hashes: &[u64]) -> Vec<u32> {
        if self.mutation == GroupMutation::HealedAsEmpty {
            // From then on: else the next comparison would mend what it left out.
            self.was_damaged |= self.exchange.wants_state();
            if self.was_damaged {
                return Vec::new();
            }
        }
        self.exchange.differing(layer, first, hashes)
    }

    fn line_hashes(&mut self, layer: LayerName, block: u32, salt: u64) -> Vec<u32> {
        self.exchange.line_hashes(layer, block, salt)
    }

    fn lines(
        &mut self,
        layer: LayerName,
        block: u32,
        salt: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, Unavailable> {
        self.exchange.lines(layer, block, salt, hashes)
    }

    fn merge_lines(&mut self, layer: LayerName, block: u32, lines: &[Line]) -> bool {
        self.exchange.merge_lines(layer, block, lines)
    }

    fn blob(&mut self, legacy: LegacyName, offset: u64, bytes_max: usize) -> Option<Blob> {
        self.exchange.blob(legacy, offset, bytes_max)
    }

    fn merge_blob(&mut self, legacy: LegacyName, offset: u64, blob: &Blob) -> Option<u64> {
        self.exchange.merge_blob(legacy, offset, blob)
    }

    fn adopt(&mut self, version: &VersionVector) {
        self.exchange.adopt(version);
    }

    fn compared(&mut self, peer: Origin) {
        self.exchange.compared(peer);
    }

    fn wants_state(&self) -> bool {
        self.exchange.wants_state()
    }

    fn forget_partial(&mut self) {
        self.exchange.forget_partial();
    }

    fn shortages(&mut self, now: u64) -> Vec<(FilterId, u64)> {
        self.exchange.shortages(now)
    }

    fn grant(&mut self, filter: FilterId, to: Origin, wanted: u64) {
        self.exchange.grant(filter, to, wanted);
    }
}
