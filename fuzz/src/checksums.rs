//! Puts right the checksums of a mutated file, so that what lies behind them is reached too. The
//! formats are described at the top of the store's `layer_file`, `manifest` and
//! `filters::transfer`.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// Magic, version and body length, in front of a body.
const PREFIX_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;
/// Block header: index, words, checksum.
const BLOCK_HEADER_BYTES: usize = 16;
const END: u32 = u32::MAX;
/// Magic and version of a manifest, and what stands before a block of it: length, checksum.
const MANIFEST_HEADER_BYTES: usize = 12;
const MANIFEST_PREFIX_BYTES: usize = 12;

/// The input of a target for a checksummed file: its first byte says whether the rest is taken as
/// it is (even) or repaired first (odd).
pub fn file(input: &[u8], repair: impl Fn(&mut [u8])) -> Vec<u8> {
    let Some((choice, bytes)) = input.split_first() else {
        return Vec::new();
    };
    let mut bytes = bytes.to_vec();
    if choice & 1 == 1 {
        repair(&mut bytes);
    }
    bytes
}

/// Repairs a head: prefix, body, checksum of both. Gives its length, if it is whole.
pub fn repair_head(bytes: &mut [u8]) -> Option<usize> {
    let end = PREFIX_BYTES.checked_add(word(bytes, 12)? as usize)?;
    let checksum = xxh3_64(bytes.get(..end)?);
    put(bytes, end, checksum)?;
    Some(end + CHECKSUM_BYTES)
}

/// Repairs the blocks of a manifest, each of whose checksums rests on the one before it.
pub fn repair_manifest(bytes: &mut [u8]) -> Option<()> {
    let mut before = xxh3_64(bytes.get(..MANIFEST_HEADER_BYTES)?);
    let mut at = MANIFEST_HEADER_BYTES;
    loop {
        let length = word(bytes, at)? as usize;
        let payload = at + MANIFEST_PREFIX_BYTES;
        let end = payload.checked_add(length)?;
        let mut block = Xxh3Default::new();
        block.update(&before.to_le_bytes());
        block.update(bytes.get(payload..end)?);
        before = block.digest();
        put(bytes, at + 4, before)?;
        if length == 0 {
            return Some(());
        }
        at = end;
    }
}

/// Repairs a layer's head and blocks as far as they can be followed. Gives its length, if it has
/// an end.
pub fn repair_layer(bytes: &mut [u8]) -> Option<usize> {
    let mut at = repair_head(bytes)?;
    let mut all = Xxh3Default::new();
    loop {
        let (index, words) = (word(bytes, at)?, word(bytes, at + 4)?);
        if index == END {
            all.update(&bytes[at..at + 8]);
            put(bytes, at + 8, all.digest())?;
            return Some(at + BLOCK_HEADER_BYTES);
        }
        let payload = at + BLOCK_HEADER_BYTES;
        let end = payload.checked_add((words as usize).checked_mul(8)?)?;
        let mut block = Xxh3Default::new();
        block.update(&bytes[at..at + 8]);
        block.update(bytes.get(payload..end)?);
        put(bytes, at + 8, block.digest())?;
        all.update(&block.digest().to_le_bytes());
        at = end;
    }
}

/// Repairs an exported filter: its head, then one layer after the other.
pub fn repair_export(bytes: &mut [u8]) {
    let mut at = repair_head(bytes);
    while let Some(start) = at {
        at = repair_layer(&mut bytes[start..]).map(|length| start + length);
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, checksum: u64) -> Option<()> {
    let field = bytes.get_mut(at..at.checked_add(CHECKSUM_BYTES)?)?;
    field.copy_from_slice(&checksum.to_le_bytes());
    Some(())
}
