//! The group: the machines that share this node's state.

pub mod transport;
