//! The program called as `p2ptbl` and `p2ptbl-recv`: against data taken from the originals, in
//! many processes at once, and with what is meant to hurt it.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../../core/tests/vectors/reader.rs"]
mod reader;

mod differences;
mod files;
mod gossip;
mod receiving;
mod refusals;
mod vectors;
mod workbench;
