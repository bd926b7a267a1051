//! The bits of layers as nodes compare them: by blocks of 1024 lines of 512 bits, and by lines.

use grapevine_core::filter::Layer;
use grapevine_core::sync::fingerprint::{block_hash, line_hash};
use grapevine_core::sync::{BLOCK_LINES, BlockHashes, BlockLines, LayerName, LegacyName, Line};

use super::Filters;
use super::error::FilterError;
use super::handle::lock;
use super::keys::loaded;
use crate::filters::legacy_path;

const LINE_WORDS: usize = 8;
const BLOCK_WORDS: usize = BLOCK_LINES * LINE_WORDS;

impl Filters {
    /// Looks at a layer while nobody unloads it. None when there is no such layer.
    pub(super) fn with_layer<T>(
        &self,
        name: LayerName,
        look: impl FnOnce(&Layer) -> T,
    ) -> Result<Option<T>, FilterError> {
        let Some(handle) = self.by_id(name.filter) else {
            let arrivals = lock(&self.arrivals);
            let arrival = arrivals.filters.get(&name.filter);
            let layer = arrival.and_then(|arrival| arrival.loaded.filter.layer(name.layer));
            return Ok(layer.map(|layer| look(layer)));
        };
        let bits = match self.loaded(&handle) {
            Ok(bits) => bits,
            Err(FilterError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        match loaded(&bits) {
            Ok(loaded) => Ok(loaded.filter.layer(name.layer).map(|layer| look(layer))),
            Err(FilterError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for whoever gathers bits: of a damaged filter it is the copy that is not whole yet,
    /// of which nothing is shown to others.
    fn with_gathered<T>(
        &self,
        name: LayerName,
        look: impl FnOnce(&Layer) -> T,
    ) -> Result<Option<T>, FilterError> {
        {
            let arrivals = lock(&self.arrivals);
            if let Some(healing) = arrivals.healing.get(&name.filter) {
                let layer = healing.loaded.filter.layer(name.layer);
                return Ok(layer.map(|layer| look(layer)));
            }
        }
        self.with_layer(name, look)
    }

    /// Fingerprints of up to `count_max` blocks from `first` on.
    pub(crate) fn block_hashes(
        &self,
        name: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, FilterError> {
        self.with_layer(name, |layer| hashes_of(layer, first, count_max))
    }

    /// Blocks that a layer has. None when there is no such layer.
    pub(crate) fn block_count(&self, name: LayerName) -> Result<Option<u32>, FilterError> {
        self.with_gathered(name, block_count)
    }

    /// Blocks from `first` on whose fingerprint is another here.
    pub(crate) fn differing(
        &self,
        name: LayerName,
        first: u32,
        hashes: &[u64],
    ) -> Result<Vec<u32>, FilterError> {
        let own = self.with_gathered(name, |layer| hashes_of(layer, first, hashes.len()))?;
        let own = own.map(|own| own.hashes).unwrap_or_default();
        Ok((first..)
            .zip(own.iter().zip(hashes))
            .filter(|(_, (own, theirs))| own != theirs)
            .map(|(block, _)| block)
            .collect())
    }

    /// Hashes under `salt` of the lines of a block.
    pub(crate) fn line_hashes(
        &self,
        name: LayerName,
        block: u32,
        salt: u64,
    ) -> Result<Vec<u32>, FilterError> {
        let hashes = self.with_gathered(name, |layer| {
            let lines = lines_of(layer, block);
            lines.iter().map(|line| line_hash(salt, line)).collect()
        })?;
        Ok(hashes.unwrap_or_default())
    }

    /// The lines of a block whose hash under `salt` is not the one shown, and that are not empty.
    pub(crate) fn differing_lines(
        &self,
        name: LayerName,
        block: u32,
        salt: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, FilterError> {
        let lines = self.with_layer(name, |layer| {
            let lines = lines_of(layer, block);
            (!lines.is_empty()).then(|| BlockLines {
                hash: block_hash(block, &lines),
                lines: (0..)
                    .zip(&lines)
                    .filter(|(index, line)| {
                        let shown = hashes.get(usize::from(*index));
                        **line != [0; LINE_WORDS] && shown != Some(&line_hash(salt, line))
                    })
                    .map(|(index, words)| Line {
                        index,
                        words: *words,
                    })
                    .collect(),
            })
        })?;
        Ok(lines.flatten())
    }

    /// ORs lines of another copy into a block; true if a bit was new.
    pub(crate) fn merge_lines(
        &self,
        name: LayerName,
        block: u32,
        lines: &[Line],
    ) -> Result<bool, FilterError> {
        let merged = self.with_gathered(name, |layer| {
            let from = block as usize * BLOCK_WORDS;
            let room = layer.word_count().saturating_sub(from).min(BLOCK_WORDS);
            let mut news = false;
            for line in lines {
                let at = usize::from(line.index) * LINE_WORDS;
                if at + LINE_WORDS <= room {
                    news |= layer.merge_words(from + at, &line.words);
                }
            }
            if news {
                layer.touch();
            }
            news
        })?;
        Ok(merged.unwrap_or(false))
    }

    /// A piece of a foreign layer's file and the file's length.
    pub(crate) fn foreign_piece(
        &self,
        name: LegacyName,
        offset: u64,
        bytes_max: usize,
    ) -> Option<(u64, Vec<u8>)> {
        let row = self.with_catalogue(|catalogue| catalogue.row(name.filter).cloned())?;
        let shape = row.legacy.iter().find(|shape| shape.index == name.index)?;
        let path = legacy_path(name.filter, name.index);
        let file = self.disk.open(&path, crate::disk::OpenMode::Read).ok()?;
        let left = shape.bytes.checked_sub(offset)?;
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max)];
        file.read_at(offset, &mut bytes).ok()?;
        Some((shape.bytes, bytes))
    }
}

fn hashes_of(layer: &Layer, first: u32, count_max: usize) -> BlockHashes {
    let total = block_count(layer);
    let count = u32::try_from(count_max).unwrap_or(u32::MAX);
    let end = total.min(first.saturating_add(count));
    let hash = |block| block_hash(block, &lines_of(layer, block));
    let hashes = (first..end).map(hash).collect();
    BlockHashes { total, hashes }
}

fn block_count(layer: &Layer) -> u32 {
    layer.word_count().div_ceil(BLOCK_WORDS) as u32
}

/// The lines of a block; none behind the end of the layer.
fn lines_of(layer: &Layer, block: u32) -> Vec<[u64; LINE_WORDS]> {
    let from = block as usize * BLOCK_WORDS;
    let count = layer.word_count().saturating_sub(from).min(BLOCK_WORDS);
    let mut words = vec![0; count];
    layer.copy_words(from, &mut words);
    words.as_chunks().0.to_vec()
}
