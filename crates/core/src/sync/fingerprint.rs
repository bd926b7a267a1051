//! The hashes by which two copies of a layer find out where they differ. They are part of the
//! protocol: both sides must make the same.
//!
//! All three are SipHash-1-3 over little-endian words: fast enough not to matter beside a network
//! and without inputs that collide by accident. A peer that lies gains nothing by a collision
//! that it could not have by lying.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::origin::Origin;

/// Fingerprint of a block: its index and all its lines, in order.
pub fn block_hash<'a>(block: u32, lines: impl IntoIterator<Item = &'a [u64; 8]>) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(u64::from(block), 0);
    for line in lines {
        hasher.write(&bytes(line));
    }
    hasher.finish()
}

/// Hash of one line under a salt drawn for one question.
pub fn line_hash(salt: u64, line: &[u64; 8]) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(salt, 1);
    hasher.write(&bytes(line));
    (hasher.finish() >> 32) as u32
}

/// What one origin adds to the hash of what a node has: nothing if nothing of it was received.
pub fn version_hash(origin: Origin, durable: u64, received: u64) -> u64 {
    if received == 0 {
        return 0;
    }
    let mut hasher = SipHasher13::new_with_keys(0, 2);
    let mut words = [0; 32];
    words[..16].copy_from_slice(&origin.bytes());
    words[16..24].copy_from_slice(&durable.to_le_bytes());
    words[24..].copy_from_slice(&received.to_le_bytes());
    hasher.write(&words);
    hasher.finish()
}

/// Hash of what a node has, from the numbers of each origin's durable and received operations: the
/// sum of [`version_hash`] over them, so that a change of one does not cost a look at all.
pub fn versions_hash(entries: impl IntoIterator<Item = (Origin, u64, u64)>) -> u64 {
    let hashes = entries.into_iter();
    hashes
        .map(|(origin, durable, received)| version_hash(origin, durable, received))
        .fold(0, u64::wrapping_add)
}

fn bytes(line: &[u64; 8]) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (target, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(line) {
        *target = word.to_le_bytes();
    }
    bytes
}
