//! The machine's rules one by one, and all of them at once in a network that fails.

mod network;
mod rules;
mod seeds;
mod toy;
