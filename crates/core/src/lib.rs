//! The pure core of Grapevine: mergeable types, the operations that change them, and one codec
//! per protocol. Nothing here reads a clock, opens a socket or a file, starts a thread or draws
//! random numbers: time, randomness and bytes arrive as parameters. `clippy.toml` holds that.
#![deny(unsafe_code)]

pub mod bitmap;
pub mod carried;
pub mod catalogue;
pub mod cross_protocol;
pub mod filter;
pub mod group;
pub mod hash;
pub mod history;
pub mod limits;
pub mod membership;
mod memory;
pub mod operation;
pub mod origin;
pub mod plain_table;
pub mod quantity;
pub mod significant;
pub mod sync;
pub mod table;
pub mod version;
pub mod wire;
