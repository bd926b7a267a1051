//! The durable side of Grapevine: the disk seam (real and simulated), the operation log,
//! snapshots, recovery, offline checking, backup, and imports of predecessors' files.
//! Nothing here knows the network.
#![forbid(unsafe_code)]

pub mod backup;
pub mod collections;
pub mod disk;
pub mod filters;
pub mod identity;
pub mod import;
pub mod journal;
pub mod layer_file;
pub mod log;
pub mod manifest;
pub mod memory_stream;
pub mod restore;
mod staging;
pub mod tables;
pub mod verify;

pub use staging::StagingError;
pub use verify::verify;
