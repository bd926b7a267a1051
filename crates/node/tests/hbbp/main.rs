//! HBBP without a network: boxes and keys against data taken from the original, and its programs
//! as far as they need no link. What needs one is in `tests/network/`.

#[path = "../../../core/tests/vectors/reader.rs"]
mod reader;

mod boxes;
mod directory;
mod keys;
mod launcher;
mod programs;
mod sending;

/// What was taken from the original.
const VECTORS: &str = include_str!("../../../core/tests/vectors/hbbp.json");
