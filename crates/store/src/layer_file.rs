//! A layer's bits in a file: the snapshot of a filter is one such file per layer.
//!
//! ```text
//! "GrpvnLyr" | version u32 | head length u32 | head (MessagePack) | XXH3-64 of all before
//! block*     : index u32 | words u32 | XXH3-64 of (index, words, payload) | payload
//! end        : 0xFFFFFFFF u32 | block count u32 | XXH3-64 of (end, count, all block checksums)
//! ```
//!
//! Integers and words are little endian. A block is 8192 words (64 KiB), the last one of a layer
//! may be shorter; blocks of zeros are left out, so a new layer of any size is a small file. A
//! file is written beside its place, synced and renamed, so it is whole or not there. The same
//! bytes, one layer after the other, follow the head of an exported filter.

use std::io::{self, Read, Write};

use grapevine_core::catalogue::FilterId;
use grapevine_core::filter::geometry::LINE_WORDS;
use grapevine_core::filter::parameters::LayerShape;
use grapevine_core::filter::rights::Rights;
use grapevine_core::filter::{Layer, WaitingLines};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

pub(crate) const MAGIC: &[u8; 8] = b"GrpvnLyr";
const FORMAT_VERSION: u32 = 2;
/// Words of a block.
pub const BLOCK_WORDS: usize = 8192;
/// Largest head in a stream that comes from outside: the rights of a layer shared by thousands of
/// members. The head of a file of this node's own may be as long as its file.
const HEAD_BYTES_MAX: u64 = 16 << 20;
const END: u32 = u32::MAX;

/// What a layer file says before the bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerHead {
    /// The filter it belongs to.
    pub filter: FilterId,
    /// Its description.
    pub shape: LayerShape,
    /// Who may insert how much, and has.
    pub rights: Rights,
    /// The layer's revision when it was written, or an earlier one: grows from one file of a layer
    /// to the next.
    pub revision: u64,
}

/// Why a layer cannot be read.
#[derive(Debug, Error)]
pub enum LayerFileError {
    /// The bytes are not what this program wrote.
    #[error("corrupt at offset {offset}: {what}")]
    Corrupt {
        /// Offset from the layer's first byte.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Written by a later program.
    #[error("layer format version {found}, this program reads up to {FORMAT_VERSION}")]
    FutureVersion {
        /// Its version.
        found: u32,
    },
    /// The file was written before the one that the manifest was made with.
    #[error("is an older copy of itself: revision {found}, the manifest says {expected}")]
    Older {
        /// Its revision.
        found: u64,
        /// As the manifest says.
        expected: u64,
    },
    /// The layer is not the one expected here.
    #[error("holds another layer than its name says")]
    Misplaced,
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a layer's file was not replaced by one with more bits.
#[derive(Debug, Error)]
pub enum MergeError {
    /// The old one cannot be read.
    #[error(transparent)]
    Read(LayerFileError),
    /// The new one cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Writes `layer` as it is now; every bit set before the call is in the file. The counters are
/// read first, so the file may hold keys that they do not count yet, never the other way round.
pub fn write_layer(out: &mut dyn Write, filter: FilterId, layer: &Layer) -> io::Result<()> {
    write_head(out, filter, layer)?;
    write_blocks(out, layer.word_count(), |from, words| {
        Ok(layer.copy_words(from, words))
    })
}

/// Writes a layer whose array is in its file `old`, if it has one, with `waiting` over it.
pub fn write_merged<R: Read>(
    out: &mut dyn Write,
    filter: FilterId,
    layer: &Layer,
    old: Option<LayerReader<R>>,
    waiting: &WaitingLines,
) -> Result<(), MergeError> {
    write_head(out, filter, layer)?;
    let mut old = old.map(LayerReader::into_blocks);
    write_blocks(out, layer.word_count(), |from, words| {
        words.fill(0);
        let mut any = match &mut old {
            Some(blocks) => blocks.read_at(from, words).map_err(MergeError::Read)?,
            None => false,
        };
        let lines = (from / LINE_WORDS) as u64..((from + words.len()) / LINE_WORDS) as u64;
        for (index, line) in waiting.range(lines) {
            let at = *index as usize * LINE_WORDS - from;
            let own = words[at..].iter_mut().zip(line);
            own.for_each(|(own, new)| *own |= new);
            any = true;
        }
        Ok(any)
    })
}

/// Writes `layer` without its bits, as if it were empty: its keys are not to outlive the process,
/// the rights that they took are.
pub fn write_rights(out: &mut dyn Write, filter: FilterId, layer: &Layer) -> io::Result<()> {
    write_head(out, filter, layer)?;
    write_blocks(out, 0, |_, _| Ok(false))
}

fn write_head(out: &mut dyn Write, filter: FilterId, layer: &Layer) -> io::Result<()> {
    // Before the counters and the bits, which may be newer.
    let revision = layer.revision();
    let head = LayerHead {
        revision,
        filter,
        shape: layer.shape(),
        rights: layer.rights(),
    };
    let body = rmp_serde::to_vec_named(&head).expect("a layer's head is plain data");
    let mut bytes = Vec::with_capacity(body.len() + 24);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    out.write_all(&bytes)
}

/// Writes those blocks of `total` words that `copy` does not find to be all zero, and the end.
fn write_blocks<E: From<io::Error>>(
    out: &mut dyn Write,
    total: usize,
    mut copy: impl FnMut(usize, &mut [u64]) -> Result<bool, E>,
) -> Result<(), E> {
    let (mut bytes, mut words) = (Vec::new(), vec![0u64; BLOCK_WORDS]);
    let (mut all, mut count) = (Xxh3Default::new(), 0u32);
    for (index, from) in (0..total).step_by(BLOCK_WORDS).enumerate() {
        let words = &mut words[..BLOCK_WORDS.min(total - from)];
        if !copy(from, words)? {
            continue;
        }
        bytes.clear();
        bytes.extend_from_slice(&(index as u32).to_le_bytes());
        bytes.extend_from_slice(&(words.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        words
            .iter()
            .for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        let checksum = block_checksum(&bytes[..8], &bytes[16..]).to_le_bytes();
        bytes[8..16].copy_from_slice(&checksum);
        all.update(&checksum);
        count += 1;
        out.write_all(&bytes)?;
    }
    bytes.clear();
    bytes.extend_from_slice(&END.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    all.update(&bytes);
    bytes.extend_from_slice(&all.digest().to_le_bytes());
    Ok(out.write_all(&bytes)?)
}

fn block_checksum(header: &[u8], payload: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(header);
    hash.update(payload);
    hash.digest()
}

/// A layer being read: first its head, then its blocks.
#[derive(Debug)]
pub struct LayerReader<R> {
    input: Counted<R>,
    head: LayerHead,
    word_count: usize,
}

impl<R: Read> LayerReader<R> {
    /// Reads and checks the head of a layer that comes from outside.
    pub fn new(input: R) -> Result<Self, LayerFileError> {
        Self::within(input, HEAD_BYTES_MAX)
    }

    /// Reads and checks a head that cannot be longer than `longest`, in bytes.
    pub(crate) fn within(input: R, longest: u64) -> Result<Self, LayerFileError> {
        let mut input = Counted { input, offset: 0 };
        let mut bytes = vec![0; 16];
        input.read_exact(&mut bytes)?;
        if !bytes.starts_with(MAGIC) {
            return Err(input.corrupt(0, "it does not begin as a layer"));
        }
        let field = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte]));
        let (version, length) = (field(8), field(12));
        if version != FORMAT_VERSION {
            return Err(LayerFileError::FutureVersion { found: version });
        }
        if u64::from(length) > longest {
            return Err(input.corrupt(12, "the head is longer than any"));
        }
        bytes.resize(16 + length as usize, 0);
        input.read_exact(&mut bytes[16..])?;
        let checksum = input.read_u64()?;
        if xxh3_64(&bytes) != checksum {
            return Err(input.corrupt(0, "the head's checksum does not match"));
        }
        let head: LayerHead = rmp_serde::from_slice(&bytes[16..])
            .map_err(|_| input.corrupt(16, "the head does not decode"))?;
        let geometry = head.shape.geometry.validate();
        let geometry =
            geometry.map_err(|_| input.corrupt(16, "the layer's shape is impossible"))?;
        let word_count = usize::try_from(geometry.bytes() / 8)
            .map_err(|_| input.corrupt(16, "the layer is larger than the address space"))?;
        Ok(LayerReader {
            input,
            head,
            word_count,
        })
    }

    /// What the head says. Check the size it promises before making room for it.
    pub fn head(&self) -> &LayerHead {
        &self.head
    }

    /// The blocks behind the head.
    pub fn into_blocks(self) -> Blocks<R> {
        Blocks {
            input: self.input,
            word_count: self.word_count,
            all: Xxh3Default::new(),
            count: 0,
            next: 0,
            head: None,
            payload: Vec::new(),
        }
    }

    /// Reads all blocks, giving each as the index of its first word and its words, and gives the
    /// input back where the layer ends.
    pub fn blocks(self, mut visit: impl FnMut(usize, &[u64])) -> Result<R, LayerFileError> {
        let mut blocks = self.into_blocks();
        let mut words = vec![0u64; BLOCK_WORDS];
        while let Some((from, length)) = blocks.next_place()? {
            blocks.read(&mut words[..length])?;
            visit(from, &words[..length]);
        }
        Ok(blocks.input.input)
    }

    /// Reads all blocks into `layer`, which must be of the head's shape.
    pub fn load(self, layer: &Layer) -> Result<R, LayerFileError> {
        if layer.shape().geometry != self.head.shape.geometry {
            return Err(LayerFileError::Misplaced);
        }
        layer
            .merge_rights(&self.head.rights)
            .map_err(|_| LayerFileError::Misplaced)?;
        layer.raise_revision(self.head.revision);
        self.blocks(|from, words| {
            layer.merge_words(from, words);
        })
    }
}

/// The blocks of a layer being read, ascending; those of zeros are not there.
pub struct Blocks<R> {
    input: Counted<R>,
    word_count: usize,
    /// Of the checksums of all blocks so far.
    all: Xxh3Default,
    count: u32,
    /// Index of the first block that may come.
    next: usize,
    /// The header of the block that comes, and its checksum; none before it was looked at.
    head: Option<([u8; 8], u64)>,
    payload: Vec<u8>,
}

impl<R: Read> Blocks<R> {
    /// The first word and the number of words of the block that comes; none at the layer's end.
    fn next_place(&mut self) -> Result<Option<(usize, usize)>, LayerFileError> {
        let offset = self.input.offset;
        let (header, checksum) = match self.head {
            Some(head) => head,
            None => {
                let mut header = [0u8; 8];
                self.input.read_exact(&mut header)?;
                *self.head.insert((header, self.input.read_u64()?))
            }
        };
        let field = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        let (index, length) = (field(0) as usize, field(4) as usize);
        if field(0) == END {
            let mut all = self.all.clone();
            all.update(&header);
            if all.digest() != checksum || field(4) != self.count {
                let what = "the end's checksum does not match";
                return Err(self.input.corrupt(offset, what));
            }
            return Ok(None);
        }
        let blocks = self.word_count.div_ceil(BLOCK_WORDS);
        let from = index.saturating_mul(BLOCK_WORDS);
        let fits = (self.next..blocks).contains(&index)
            && length == BLOCK_WORDS.min(self.word_count - from);
        if !fits {
            return Err(self.input.corrupt(offset, "a block is out of place"));
        }
        Ok(Some((from, length)))
    }

    /// Reads the block that comes, whose place was asked for.
    fn read(&mut self, words: &mut [u64]) -> Result<(), LayerFileError> {
        let offset = self.input.offset;
        let Some((header, checksum)) = self.head.take() else {
            return Ok(());
        };
        self.payload.resize(words.len() * 8, 0);
        self.input.read_exact(&mut self.payload)?;
        if block_checksum(&header, &self.payload) != checksum {
            let what = "a block's checksum does not match";
            return Err(self.input.corrupt(offset, what));
        }
        self.all.update(&checksum.to_le_bytes());
        for (word, bytes) in words.iter_mut().zip(self.payload.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let index = u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[byte]));
        self.count += 1;
        self.next = index as usize + 1;
        Ok(())
    }

    /// Reads the block whose first word is `from` into `words`; false if it is all zero. Blocks
    /// are asked for in ascending order; those between are read over.
    fn read_at(&mut self, from: usize, words: &mut [u64]) -> Result<bool, LayerFileError> {
        while let Some((place, length)) = self.next_place()? {
            if place > from {
                break;
            }
            if place == from && length == words.len() {
                self.read(words)?;
                return Ok(true);
            }
            self.read(&mut vec![0; length])?;
        }
        Ok(false)
    }
}

/// A reader that can pass over bytes without reading them.
pub trait Skip: Read {
    /// Passes over that many bytes.
    fn skip(&mut self, bytes: u64);
}

impl<R: Skip> Blocks<R> {
    /// Reads the block whose first word is `from` alone; nothing if it is all zero. It ends the
    /// reading: the checksum over all blocks is not looked at.
    pub fn pick(mut self, from: usize, words: &mut [u64]) -> Result<(), LayerFileError> {
        loop {
            match self.next_place() {
                Ok(Some((place, length))) if place < from => {
                    self.head = None;
                    self.next = place / BLOCK_WORDS + 1;
                    self.input.input.skip(length as u64 * 8);
                    self.input.offset += length as u64 * 8;
                }
                Ok(Some((place, length))) if place == from && length == words.len() => {
                    return self.read(words);
                }
                Ok(_) => return Ok(()),
                Err(_) if self.is_at_end() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether what comes is the end, whose checksum cannot match after blocks were passed over.
    fn is_at_end(&self) -> bool {
        self.head
            .is_some_and(|(header, _)| header.starts_with(&END.to_le_bytes()))
    }
}

/// A reader that knows where it is, to name a fault.
#[derive(Debug)]
struct Counted<R> {
    input: R,
    offset: u64,
}

impl<R: Read> Counted<R> {
    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), LayerFileError> {
        self.input
            .read_exact(buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.corrupt(self.offset, "it is cut short"),
                _ => error.into(),
            })?;
        self.offset += buffer.len() as u64;
        Ok(())
    }

    fn read_u64(&mut self) -> Result<u64, LayerFileError> {
        let mut bytes = [0; 8];
        self.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn corrupt(&self, offset: u64, what: &'static str) -> LayerFileError {
        LayerFileError::Corrupt { offset, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grapevine_core::filter::parameters::{Growth, Parameters};
    use grapevine_core::hash::Seed;
    use grapevine_core::origin::Origin;
    use proptest::prelude::*;

    const ME: Origin = Origin::new([1; 16]);

    fn layer(capacity: u64, keys: u64) -> Layer {
        let parameters = Parameters {
            capacity,
            error: 1e-3,
            growth: Growth::By(4),
        };
        let layer = Layer::new(parameters.layer(0, ME, 1).unwrap(), ME).unwrap();
        let seed = Seed::new([5; 16]);
        (0..keys).for_each(|key| _ = layer.apply(seed.hash(&key.to_le_bytes())));
        layer.observe_inserted(ME, keys);
        layer
    }

    fn file(layer: &Layer) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_layer(&mut bytes, FilterId::new([2; 16]), layer).unwrap();
        bytes
    }

    fn words(layer: &Layer) -> Vec<u64> {
        let mut words = vec![0; layer.word_count()];
        layer.copy_words(0, &mut words);
        words
    }

    fn read(bytes: &[u8]) -> Result<Layer, LayerFileError> {
        let reader = LayerReader::new(bytes)?;
        let copy = Layer::new(reader.head().shape, ME).map_err(|_| LayerFileError::Misplaced)?;
        let rest = reader.load(&copy)?;
        assert!(rest.is_empty(), "all of the file was read");
        Ok(copy)
    }

    #[test]
    fn a_layer_survives_its_file() {
        for (capacity, keys) in [(10, 3), (1000, 1000), (200_000, 150_000), (5_000_000, 1)] {
            let layer = layer(capacity, keys);
            let copy = read(&file(&layer)).unwrap();
            assert_eq!(words(&copy), words(&layer));
            assert_eq!((copy.inserted(), copy.available()), (keys, capacity - keys));
            assert_eq!(copy.revision(), layer.revision());
        }
    }

    #[test]
    fn zeros_take_no_room() {
        assert!(file(&layer(100_000_000, 0)).len() < 1000);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = file(&layer(10, 5));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in prop::collection::vec(any::<u8>(), 0..300),
            magic in any::<bool>(),
        ) {
            if magic {
                bytes.splice(0..bytes.len().min(12), MAGIC.iter().copied().chain([2, 0, 0, 0]));
            }
            prop_assert!(LayerReader::new(&bytes[..]).is_err());
        }
    }
}
