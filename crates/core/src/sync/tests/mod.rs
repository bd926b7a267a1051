//! The machine's rules one by one, and all of them at once in a network that fails.

mod bench;
mod drift;
mod histories;
mod network;
mod origins;
mod rules;
mod seeds;
mod snapshots;
mod stable;
mod toy;
