//! The simulator: nodes on simulated disks under random workloads, crashed, failed and rotted at
//! random points, and checked against a ledger of what they acknowledged. Everything follows from
//! a seed. Today a world has one node, and the disk is all that can go wrong.
#![forbid(unsafe_code)]

pub mod branch;
pub mod group;
pub mod ledger;
pub mod node;
pub mod outcome;
pub mod random;
pub mod scale;
pub mod world;
