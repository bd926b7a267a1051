//! The rmbd gateway over real sockets, with a bitmap in memory behind it.

#[path = "../harness/mod.rs"]
mod harness;

mod clients;
mod durability;
mod gateway;
mod peering;
mod program;
mod vectors;
