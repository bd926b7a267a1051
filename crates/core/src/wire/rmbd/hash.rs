//! Which bits of the filter a key has: part of the protocol, since peers share the bits.

/// Bits of a key.
pub const HASHES: usize = 5;

/// FNV-1a's prime for 32 bits (Fowler, Noll, Vo).
const PRIME: u32 = 0x0100_0193;

/// The bits of a key in a filter of `bits` bits, not all different: FNV-1a of 32 bits, started
/// from 0 to 4 where the usual offset basis would stand, modulo `bits` (which is not 0).
#[must_use]
pub fn positions(key: &[u8], bits: u16) -> [u16; HASHES] {
    std::array::from_fn(|start| (hash(key, start as u32) % u32::from(bits)) as u16)
}

pub(super) fn hash(key: &[u8], start: u32) -> u32 {
    key.iter().fold(start, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(PRIME)
    })
}
