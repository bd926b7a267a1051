//! The rmbd gateway over real sockets: over a bitmap in memory, and as nodes serve it.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../../../core/tests/vectors/reader.rs"]
mod reader;

mod addresses;
mod clients;
mod durability;
mod gateway;
mod nodes;
mod peering;
mod program;
mod vectors;
