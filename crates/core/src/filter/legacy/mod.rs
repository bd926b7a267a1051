//! Layers written by the C server `bloomd`, which are read and never written.
//!
//! A group that moves over from a C server keeps what that server had seen: each of its
//! `data.NNN.mmap` files becomes a [`BloomdLayer`], which answers every key bit for bit as the
//! server did, false positives included. New keys go to layers of our own shape.
//!
//! The geometry and the two hash functions are foreign and fixed (seed 0, so anybody can craft
//! collisions): nothing else uses them. Format and hashing: `bloomd` protocol notes, sections 6
//! and 7; the vectors are a data directory of the C server.

mod hashes;
mod layer;
mod spooky;

pub use hashes::LegacyHashes;
pub use layer::{BloomdLayer, HASHES_MAX, HEADER_BYTES, LAYER_BYTES_MAX, LayerError};
