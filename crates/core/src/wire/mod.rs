//! One codec per protocol: bytes to values and back, nothing else. A codec knows no data type of
//! the rest of the crate, so a protocol can be read, tested and fuzzed alone.

pub mod bloomd;
pub mod group;
pub mod hbbp;
pub mod p2ptbl;
pub mod rmbd;
