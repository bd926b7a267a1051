//! Grapevine's simulator: whole stores on simulated disks, with a workload and faults drawn from a
//! seed, checked against a ledger after every restart. Everything is on one thread and nothing
//! depends on a clock, so a seed is a reproduction.
#![forbid(unsafe_code)]

pub mod chance;
pub mod ledger;
pub mod run;
