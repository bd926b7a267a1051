//! The bits of layers as nodes compare them: by blocks of 1024 lines of 512 bits, and by lines.

use std::sync::Arc;

use grapevine_core::filter::{Layer, Place};
use grapevine_core::sync::fingerprint::{block_hash, line_hash};
use grapevine_core::sync::{BLOCK_LINES, BlockHashes, BlockLines, LayerName, LegacyName, Line};

use super::Filters;
use super::error::{FilterError, LoadError};
use super::handle::{Bits, layer_path, legacy_path, lock};
use super::load::FileReader;
use crate::disk::{Disk, OpenMode};
use crate::layer_file::LayerFileError;

const LINE_WORDS: usize = 8;
const BLOCK_WORDS: usize = BLOCK_LINES * LINE_WORDS;

/// A layer that is looked at, wherever its array is.
pub(super) struct Seen<'a> {
    layer: &'a Layer,
    /// Its file, if the array is there and the file was made.
    file: Option<(&'a dyn Disk, String)>,
}

impl Seen<'_> {
    fn block_count(&self) -> u32 {
        self.layer.word_count().div_ceil(BLOCK_WORDS) as u32
    }

    /// Fingerprints of up to `count_max` blocks from `first` on.
    fn hashes(&self, first: u32, count_max: usize) -> Result<BlockHashes, FilterError> {
        let total = self.block_count();
        let count = u32::try_from(count_max).unwrap_or(u32::MAX);
        let end = total.min(first.saturating_add(count));
        let hash = |block| Ok(block_hash(block, &self.lines_of(block)?));
        let hashes: Result<_, FilterError> = (first..end).map(hash).collect();
        Ok(BlockHashes {
            total,
            hashes: hashes?,
        })
    }

    /// The lines of a block; none behind the end of the layer.
    fn lines_of(&self, block: u32) -> Result<Vec<[u64; LINE_WORDS]>, FilterError> {
        let from = block as usize * BLOCK_WORDS;
        let count = self.layer.word_count().saturating_sub(from);
        let mut words = vec![0; count.min(BLOCK_WORDS)];
        if self.layer.place() == Place::Memory {
            self.layer.copy_words(from, &mut words);
        } else if !words.is_empty() {
            // What waits is looked at first: it waits until it is in the file.
            self.layer.lay_over(from, &mut words);
            self.lay_file_over(from, &mut words)?;
        }
        Ok(words.as_chunks().0.to_vec())
    }

    fn lay_file_over(&self, from: usize, words: &mut [u64]) -> Result<(), FilterError> {
        let Some((disk, path)) = &self.file else {
            return Ok(());
        };
        let mut of_file = vec![0; words.len()];
        let mut pick = || -> Result<(), LayerFileError> {
            let reader = FileReader::open(*disk, path)?.layer()?;
            reader.into_blocks().pick(from, &mut of_file)
        };
        pick().map_err(|error| LoadError::of_file(path.clone(), error))?;
        words.iter_mut().zip(of_file).for_each(|(a, b)| *a |= b);
        Ok(())
    }
}

impl Filters {
    /// Looks at a layer while nobody unloads it. None when there is no such layer.
    pub(super) fn with_layer<T>(
        &self,
        name: LayerName,
        look: impl FnOnce(&Layer) -> T,
    ) -> Result<Option<T>, FilterError> {
        self.with_seen(name, |seen| Ok(look(seen.layer)))
    }

    fn with_seen<T>(
        &self,
        name: LayerName,
        look: impl FnOnce(&Seen<'_>) -> Result<T, FilterError>,
    ) -> Result<Option<T>, FilterError> {
        let file = |there: bool| {
            let path = layer_path(name.filter, name.layer);
            there.then(|| (&*self.disk as &dyn Disk, path))
        };
        let Some(handle) = self.by_id(name.filter) else {
            let arrivals = lock(&self.arrivals);
            let Some(arrival) = arrivals.filters.get(&name.filter) else {
                return Ok(None);
            };
            let Some(layer) = arrival.loaded.filter.layer(name.layer) else {
                return Ok(None);
            };
            self.relieve(arrival, layer)?;
            let file = file(arrival.has_file(name.layer));
            return look(&Seen { layer, file }).map(Some);
        };
        let bits = match self.replica(&handle) {
            Ok(bits) => bits,
            Err(FilterError::NotFound) => return Ok(None),
            Err(error) => return Err(error),
        };
        match &*bits {
            Bits::Loaded(held) | Bits::Apart(held) => {
                let Some(layer) = held.filter.layer(name.layer) else {
                    return Ok(None);
                };
                let there = lock(&handle.snapshots).contains_key(&name.layer);
                look(&Seen {
                    layer,
                    file: file(there),
                })
                .map(Some)
            }
            Bits::Damaged(reason) => Err(FilterError::Damaged(Arc::clone(reason))),
            Bits::Unloaded | Bits::Gone => Ok(None),
        }
    }

    /// The same for whoever gathers bits: of a damaged filter it is the copy that is not whole yet,
    /// of which nothing is shown to others.
    fn with_gathered<T>(
        &self,
        name: LayerName,
        look: impl FnOnce(&Seen<'_>) -> Result<T, FilterError>,
    ) -> Result<Option<T>, FilterError> {
        {
            let arrivals = lock(&self.arrivals);
            if let Some(healing) = arrivals.healing.get(&name.filter) {
                let layer = healing.loaded.filter.layer(name.layer);
                let seen = layer.map(|layer| Seen { layer, file: None });
                return seen.map(|seen| look(&seen)).transpose();
            }
        }
        self.with_seen(name, look)
    }

    /// Fingerprints of up to `count_max` blocks from `first` on.
    pub(crate) fn block_hashes(
        &self,
        name: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, FilterError> {
        self.with_seen(name, |seen| seen.hashes(first, count_max))
    }

    /// Blocks that a layer has. None when there is no such layer.
    pub(crate) fn block_count(&self, name: LayerName) -> Result<Option<u32>, FilterError> {
        self.with_gathered(name, |seen| Ok(seen.block_count()))
    }

    /// Blocks from `first` on whose fingerprint is another here.
    pub(crate) fn differing(
        &self,
        name: LayerName,
        first: u32,
        hashes: &[u64],
    ) -> Result<Vec<u32>, FilterError> {
        let own = self.with_gathered(name, |seen| seen.hashes(first, hashes.len()))?;
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
        let hashes = self.with_gathered(name, |seen| {
            let lines = seen.lines_of(block)?;
            Ok(lines.iter().map(|line| line_hash(salt, line)).collect())
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
        let lines = self.with_seen(name, |seen| {
            let lines = seen.lines_of(block)?;
            Ok((!lines.is_empty()).then(|| BlockLines {
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
            }))
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
        let merged = self.with_gathered(name, |Seen { layer, .. }| {
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
            Ok(news)
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
        let file = self.disk.open(&path, OpenMode::Read).ok()?;
        let left = shape.bytes.checked_sub(offset)?;
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max)];
        file.read_at(offset, &mut bytes).ok()?;
        Some((shape.bytes, bytes))
    }
}
