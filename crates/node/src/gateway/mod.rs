//! The protocols that a node speaks to clients, one folder each.

pub mod bloomd;
pub mod hbbp;
pub mod p2ptbl;
pub mod rmbd;
