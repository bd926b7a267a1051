//! What the exchanges have in common: bits shown to peers and taken from them, and the trouble met
//! on the way.

use std::fmt::Display;
use std::sync::Arc;

use grapevine_core::sync::{BlockHashes, BlockLines, LayerName, Line, Unavailable};

use super::Collections;
use crate::filters::FilterError;

/// The collections as peers see their bits.
pub(super) struct View {
    pub(super) collections: Arc<Collections>,
    /// Something of a snapshot could not be taken in here: it is not whole.
    pub(super) lacking: bool,
    /// The last trouble met, for the log.
    pub(super) trouble: Option<String>,
}

impl View {
    pub(super) fn new(collections: Arc<Collections>) -> Self {
        View {
            collections,
            lacking: false,
            trouble: None,
        }
    }

    pub(super) fn note(&mut self, trouble: &dyn Display) -> Unavailable {
        self.trouble = Some(trouble.to_string());
        Unavailable
    }

    /// An answer about state. What it shows is durable before it is given.
    pub(super) fn show<T>(&mut self, shown: Result<T, FilterError>) -> Result<T, Unavailable> {
        let shown = shown.map_err(|error| self.note(&error))?;
        let settled = self.collections.settle_for_peers();
        settled.map_err(|error| self.note(&error))?;
        Ok(shown)
    }

    /// What came of bits of a snapshot here.
    pub(super) fn take<T: Default>(&mut self, taken: Result<T, FilterError>) -> T {
        taken.unwrap_or_else(|error| {
            self.lacking = true;
            self.note(&error);
            T::default()
        })
    }

    pub(super) fn block_hashes(
        &mut self,
        layer: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, Unavailable> {
        let filters = self.collections.filters();
        let hashes = filters.block_hashes(layer, first, count_max);
        self.show(hashes)
    }

    pub(super) fn block_count(&mut self, layer: LayerName) -> Option<u32> {
        let count = self.collections.filters().block_count(layer);
        self.take(count)
    }

    pub(super) fn differing(&mut self, layer: LayerName, first: u32, hashes: &[u64]) -> Vec<u32> {
        let differing = self.collections.filters().differing(layer, first, hashes);
        self.take(differing)
    }

    pub(super) fn line_hashes(&mut self, layer: LayerName, block: u32, salt: u64) -> Vec<u32> {
        let hashes = self.collections.filters().line_hashes(layer, block, salt);
        self.take(hashes)
    }

    pub(super) fn lines(
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

    pub(super) fn merge_lines(&mut self, layer: LayerName, block: u32, lines: &[Line]) -> bool {
        let merged = self.collections.filters().merge_lines(layer, block, lines);
        self.take(merged)
    }
}
