//! A replica in memory: a set that only grows, layers of bits, files, a log that can be cut, and
//! a disk that has what was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::catalogue::FilterId;
use crate::filter::parameters::LayerId;
use crate::history::History;
use crate::origin::Origin;
use crate::sync::fingerprint::{block_hash, line_hash};
use crate::sync::*;
use crate::version::{Dot, VersionVector};

/// Adds a value to the set.
pub(super) const PUT: u8 = 1;
/// Sets a bit of a layer.
const BIT: u8 = 2;
/// Adds a value once another operation is in.
pub(super) const AFTER: u8 = 3;
/// A layer whose bits are beside the log.
pub(super) const IMPORT: u8 = 4;
/// A file beside the log.
const FILE: u8 = 5;

/// Layers from this number on are imported.
pub(super) const IMPORTED: u32 = 20;
/// Blocks of every layer.
pub(super) const BLOCKS: usize = 3;
/// Rows of a page at most, so that there are many.
const PAGE_ROWS: usize = 16;
/// Bytes of a piece of a file at most.
const BLOB_BYTES: usize = 100;

type Bits = Rc<Vec<[u64; 8]>>;

/// Everything that a node has.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) applied: VersionVector,
    log: Rc<Vec<(Dot, Vec<u8>)>>,
    /// Entries cut off before those of `log`.
    cut: usize,
    /// Per origin, the operations that are in and not in the log.
    below: VersionVector,
    pub(super) values: BTreeSet<u64>,
    pub(super) layers: BTreeMap<LayerName, Bits>,
    pub(super) files: BTreeMap<LegacyName, Vec<u8>>,
    /// Bits beside the log that are all in.
    whole: BTreeSet<Part>,
}

/// A node's data.
#[derive(Debug)]
pub(super) struct Toy {
    pub(super) me: Origin,
    pub(super) live: State,
    pub(super) disk: State,
    /// Rights still to be had of filter 1.
    pub(super) rights: u64,
    pub(super) short: bool,
    pub(super) granted: u64,
    /// An operation that this node does not understand.
    pub(super) refuses: Option<Dot>,
    pub(super) adopted: u64,
    pub(super) compared: Vec<Origin>,
    pub(super) given_up: u64,
    /// How often it forgot what had come of a state.
    pub(super) forgotten: u64,
    /// The marks that it knows.
    pub(super) histories: BTreeMap<Origin, History>,
    /// What is said of pages that it merged.
    pub(super) shown: Shown,
    /// The operation that made its filters.
    pub(super) made: Option<Dot>,
}

pub(super) fn origin(number: usize) -> Origin {
    Origin::new([number as u8 + 1; 16])
}

pub(super) fn layer(number: u8) -> LayerName {
    LayerName {
        filter: FilterId::new([number; 16]),
        layer: LayerId {
            index: u32::from(number),
            creator: Origin::new([9; 16]),
        },
    }
}

pub(super) fn file(number: u8) -> LegacyName {
    LegacyName {
        filter: FilterId::new([number; 16]),
        index: 0,
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

fn zeroes() -> Bits {
    Rc::new(vec![[0; 8]; BLOCKS * BLOCK_LINES])
}

impl Toy {
    pub(super) fn new(me: Origin) -> Self {
        Toy {
            me,
            live: State::default(),
            disk: State::default(),
            rights: 0,
            short: false,
            granted: 0,
            refuses: None,
            adopted: 0,
            compared: vec![],
            given_up: 0,
            forgotten: 0,
            histories: BTreeMap::new(),
            shown: Shown::new(),
            made: None,
        }
    }

    fn write(&mut self, operation: Vec<u8>) {
        let first = self.live.applied.get(self.me) + 1;
        self.enter(self.me, first, operation);
    }

    pub(super) fn put(&mut self, value: u64) {
        self.put_padded(value, 0);
    }

    /// A value with bytes that only make it long.
    pub(super) fn put_padded(&mut self, value: u64, padding: usize) {
        let mut operation = vec![PUT];
        operation.extend(value.to_le_bytes());
        operation.resize(operation.len() + padding, 0);
        self.write(operation);
    }

    pub(super) fn set_bit(&mut self, layer: u8, line: u16, bit: u16) {
        let mut operation = vec![BIT, layer];
        operation.extend(line.to_le_bytes());
        operation.extend(bit.to_le_bytes());
        self.write(operation);
    }

    pub(super) fn put_after(&mut self, value: u64, dot: Dot) {
        let mut operation = vec![AFTER];
        operation.extend(value.to_le_bytes());
        operation.extend(dot.origin.bytes());
        operation.extend(dot.sequence.to_le_bytes());
        self.write(operation);
    }

    pub(super) fn import(&mut self, number: u8, lines: &[(usize, u64)]) {
        let bits = self.live.layers.entry(layer(number)).or_insert_with(zeroes);
        for (line, word) in lines {
            Rc::make_mut(bits)[line % (BLOCKS * BLOCK_LINES)][0] |= word;
        }
        self.live.whole.insert(Part::Layer(layer(number)));
        self.write(vec![IMPORT, number]);
    }

    pub(super) fn add_file(&mut self, number: u8, bytes: Vec<u8>) {
        self.live.files.insert(file(number), bytes);
        self.live.whole.insert(Part::Legacy(file(number)));
        self.write(vec![FILE, number]);
    }

    pub(super) fn forget_layer(&mut self, number: u8) {
        self.live.layers.remove(&layer(number));
        self.sync();
    }

    pub(super) fn sync(&mut self) {
        self.disk = self.live.clone();
    }

    /// The power is cut.
    pub(super) fn crash(&mut self) {
        self.live = self.disk.clone();
    }

    /// Cuts the log's first entries as far as `version` has them.
    pub(super) fn truncate(&mut self, version: &VersionVector) {
        self.sync();
        let log = Rc::make_mut(&mut self.live.log);
        let count = log
            .iter()
            .position(|(dot, _)| !version.covers(*dot))
            .unwrap_or(log.len());
        for (dot, _) in log.drain(..count) {
            self.live.below.advance(dot.origin, dot.sequence);
        }
        self.live.cut += count;
        self.sync();
    }

    pub(super) fn log_length(&self) -> usize {
        self.live.log.len()
    }

    fn enter(&mut self, origin: Origin, sequence: u64, operation: Vec<u8>) {
        let state = &mut self.live;
        match operation[0] {
            PUT | AFTER => {
                state.values.insert(number(&operation[1..]));
            }
            BIT => {
                let line = u16::from_le_bytes([operation[2], operation[3]]);
                let bit = u16::from_le_bytes([operation[4], operation[5]]) % 512;
                let bits = state
                    .layers
                    .entry(layer(operation[1]))
                    .or_insert_with(zeroes);
                let line = usize::from(line) % (BLOCKS * BLOCK_LINES);
                Rc::make_mut(bits)[line][usize::from(bit) / 64] |= 1 << (bit % 64);
            }
            _ => {}
        }
        let dot = Dot { origin, sequence };
        Rc::make_mut(&mut state.log).push((dot, operation));
        assert!(state.applied.advance(origin, sequence));
    }

    fn waits(&mut self, origin: Origin, sequence: u64, operation: &[u8]) -> Option<Wait> {
        if self.refuses == Some(Dot { origin, sequence }) {
            return Some(Wait::Refused);
        }
        let part = match operation {
            [AFTER, rest @ ..] => {
                let dot = Dot {
                    origin: Origin::new(rest[8..24].try_into().expect("an origin")),
                    sequence: number(&rest[24..]),
                };
                return (!self.live.applied.covers(dot)).then_some(Wait::For(dot));
            }
            [IMPORT, number] => {
                let name = layer(*number);
                self.live.layers.entry(name).or_insert_with(zeroes);
                Part::Layer(name)
            }
            [FILE, number] => Part::Legacy(file(*number)),
            [PUT, rest @ ..] if rest.len() >= 8 => return None,
            [BIT, rest @ ..] if rest.len() == 5 => return None,
            _ => return Some(Wait::Refused),
        };
        (!self.live.whole.contains(&part)).then_some(Wait::Parts(vec![part]))
    }

    /// Whether what a peer is shown includes this layer: not while its own bits are missing.
    fn shows(&self, name: &LayerName) -> bool {
        name.layer.index < IMPORTED || self.live.whole.contains(&Part::Layer(*name))
    }

    fn block(&self, name: LayerName, block: u32) -> Option<&[[u64; 8]]> {
        let from = (block as usize).checked_mul(BLOCK_LINES)?;
        self.live.layers.get(&name)?.get(from..from + BLOCK_LINES)
    }
}

impl Replica for Toy {
    fn applied(&self) -> &VersionVector {
        &self.live.applied
    }

    fn durable(&self) -> &VersionVector {
        &self.disk.applied
    }

    fn history(&self, origin: Origin) -> History {
        self.histories.get(&origin).cloned().unwrap_or_default()
    }

    fn shown(&self) -> &Shown {
        &self.shown
    }

    fn read(
        &mut self,
        wanted: &BTreeMap<Origin, u64>,
        cursor: Option<Cursor>,
        bytes: usize,
    ) -> Read {
        let log = &self.disk.log;
        if wanted
            .iter()
            .any(|(origin, first)| *first <= self.disk.below.get(*origin))
        {
            return Read::Gone;
        }
        let from = cursor.map_or(0, |cursor| {
            (cursor.0 as usize).saturating_sub(self.disk.cut)
        });
        let (mut at, mut total) = (from.min(log.len()), 0);
        let mut runs: Vec<Run> = Vec::new();
        while at < log.len() && total < bytes {
            let (dot, operation) = &log[at];
            at += 1;
            if wanted
                .get(&dot.origin)
                .is_none_or(|first| dot.sequence < *first)
            {
                continue;
            }
            total += operation.len();
            match runs.last_mut() {
                Some(run) if run.origin == dot.origin => run.operations.push(operation.clone()),
                _ => runs.push(Run {
                    origin: dot.origin,
                    first: dot.sequence,
                    operations: vec![operation.clone()],
                }),
            }
        }
        Read::Runs {
            runs,
            next: Cursor((at + self.disk.cut) as u64, 0),
            end: at == log.len(),
        }
    }

    fn apply(&mut self, origin: Origin, first: u64, operations: &[Vec<u8>]) -> Applied {
        assert_ne!(origin, self.me, "own operations are never applied");
        assert_eq!(first, self.live.applied.get(origin) + 1, "in order");
        for (count, operation) in operations.iter().enumerate() {
            let sequence = first + count as u64;
            let waits = self.waits(origin, sequence, operation);
            if waits.is_some() {
                return Applied { count, waits };
            }
            self.enter(origin, sequence, operation.clone());
        }
        Applied {
            count: operations.len(),
            waits: None,
        }
    }

    fn fetched(&mut self, part: Part, _: Option<Dot>) {
        self.live.whole.insert(part);
    }

    fn made(&self, _: FilterId) -> Option<Dot> {
        self.made
    }

    fn give_up(&mut self, part: Part, _: Option<Dot>) {
        self.given_up += 1;
        self.live.whole.insert(part);
    }

    fn sections(&self) -> &[u8] {
        &[1, 2]
    }

    fn page(&mut self, section: u8, after: &[u8], _: usize) -> Option<Page> {
        self.sync();
        let rows: Vec<Vec<u8>> = match section {
            1 => self
                .live
                .values
                .iter()
                .map(|v| v.to_be_bytes().to_vec())
                .collect(),
            2 => {
                let layers = self
                    .live
                    .layers
                    .keys()
                    .filter(|name| self.shows(name))
                    .map(|name| vec![0, name.layer.index as u8]);
                let files = self
                    .live
                    .files
                    .keys()
                    .filter(|name| self.live.whole.contains(&Part::Legacy(**name)))
                    .map(|name| vec![1, name.filter.bytes()[0]]);
                layers.chain(files).collect()
            }
            _ => return None,
        };
        let mut rows = rows.into_iter().filter(|row| row.as_slice() > after);
        let page: Vec<Vec<u8>> = rows.by_ref().take(PAGE_ROWS).collect();
        Some(Page {
            section,
            after: after.to_vec(),
            next: rows.next().and_then(|_| page.last().cloned()),
            bytes: page.concat(),
        })
    }

    fn merge_page(&mut self, page: &Page, _: Source<'_>) -> Result<Vec<Part>, PageError> {
        let section = page.section;
        let mut parts = Vec::new();
        match section {
            1 => {
                let (rows, []) = page.bytes.as_chunks::<8>() else {
                    return Err(PageError::Rows { section, at: 0 });
                };
                let values = rows.iter().map(|row| u64::from_be_bytes(*row));
                self.live.values.extend(values);
            }
            2 => {
                for row in page.bytes.as_chunks::<2>().0 {
                    if row[0] == 0 {
                        let name = layer(row[1]);
                        self.live.layers.entry(name).or_insert_with(zeroes);
                        parts.push(Part::Layer(name));
                    } else if !self.live.whole.contains(&Part::Legacy(file(row[1]))) {
                        parts.push(Part::Legacy(file(row[1])));
                    }
                }
            }
            _ => return Err(PageError::Section(section)),
        }
        Ok(parts)
    }

    fn block_hashes(
        &mut self,
        name: LayerName,
        first: u32,
        _: usize,
    ) -> Result<Option<BlockHashes>, Unavailable> {
        self.sync();
        if !self.live.layers.contains_key(&name) || !self.shows(&name) {
            return Ok(None);
        }
        // Two at a time, so that a layer takes several questions.
        let hashes = (first..first.saturating_add(2))
            .filter_map(|block| Some(block_hash(block, self.block(name, block)?)))
            .collect();
        let total = BLOCKS as u32;
        Ok(Some(BlockHashes { total, hashes }))
    }

    fn block_count(&mut self, name: LayerName) -> Option<u32> {
        self.live
            .layers
            .contains_key(&name)
            .then_some(BLOCKS as u32)
    }

    fn differing(&mut self, name: LayerName, first: u32, hashes: &[u64]) -> Vec<u32> {
        (first..)
            .zip(hashes)
            .filter(|(block, hash)| {
                let lines = self.block(name, *block);
                lines.is_some_and(|lines| block_hash(*block, lines) != **hash)
            })
            .map(|(block, _)| block)
            .collect()
    }

    fn line_hashes(&mut self, name: LayerName, block: u32, salt: u64) -> Vec<u32> {
        let lines = self.block(name, block).unwrap_or_default();
        lines.iter().map(|line| line_hash(salt, line)).collect()
    }

    fn lines(
        &mut self,
        name: LayerName,
        block: u32,
        salt: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, Unavailable> {
        self.sync();
        let Some(lines) = self.block(name, block).filter(|_| self.shows(&name)) else {
            return Ok(None);
        };
        let differing = lines.iter().zip(0_u16..).filter(|(line, index)| {
            hashes.get(usize::from(*index)) != Some(&line_hash(salt, line))
        });
        Ok(Some(BlockLines {
            hash: block_hash(block, lines),
            lines: differing
                .map(|(line, index)| Line {
                    index,
                    words: *line,
                })
                .collect(),
        }))
    }

    fn merge_lines(&mut self, name: LayerName, block: u32, lines: &[Line]) -> bool {
        if block as usize >= BLOCKS {
            return false;
        }
        let bits = self.live.layers.entry(name).or_insert_with(zeroes);
        let mut new = false;
        for line in lines
            .iter()
            .filter(|line| usize::from(line.index) < BLOCK_LINES)
        {
            let at = block as usize * BLOCK_LINES + usize::from(line.index);
            for (ours, theirs) in Rc::make_mut(bits)[at].iter_mut().zip(line.words) {
                new |= theirs & !*ours != 0;
                *ours |= theirs;
            }
        }
        new
    }

    fn blob(&mut self, name: LegacyName, offset: u64, _: usize) -> Option<Blob> {
        self.sync();
        let whole = self.live.whole.contains(&Part::Legacy(name));
        let file = self.live.files.get(&name).filter(|_| whole)?;
        let from = usize::try_from(offset).ok()?.min(file.len());
        let to = (from + BLOB_BYTES).min(file.len());
        Some(Blob {
            total: file.len() as u64,
            bytes: file[from..to].to_vec(),
        })
    }

    fn merge_blob(&mut self, name: LegacyName, offset: u64, blob: &Blob) -> Option<u64> {
        if self.live.whole.contains(&Part::Legacy(name)) {
            return None;
        }
        let file = self.live.files.entry(name).or_default();
        if offset == file.len() as u64 {
            file.extend(&blob.bytes);
        }
        let length = file.len() as u64;
        (length < blob.total).then_some(length)
    }

    fn adopt(&mut self, version: &VersionVector) {
        let (theirs, ours) = (version.get(self.me), self.live.applied.get(self.me));
        assert!(
            theirs <= ours,
            "nobody has more own operations than there are"
        );
        for (origin, count) in version.iter() {
            if self.live.applied.advance(origin, count) {
                self.live.below.advance(origin, count);
            }
        }
        self.adopted += 1;
        self.sync();
    }

    fn compared(&mut self, peer: Origin) {
        self.compared.push(peer);
    }

    fn forget_partial(&mut self) {
        self.forgotten += 1;
    }

    fn shortages(&mut self, _: u64) -> Vec<(FilterId, u64)> {
        if self.short {
            vec![(FilterId::new([1; 16]), 10)]
        } else {
            vec![]
        }
    }

    fn grant(&mut self, _: FilterId, _: Origin, wanted: u64) {
        let given = wanted.min(self.rights);
        self.rights -= given;
        self.granted += given;
        if given > 0 {
            self.put(1 << 40 | given);
        }
    }
}
