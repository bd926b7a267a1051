//! Filters: sets that answer "have we seen this?" with a bounded rate of false positives.

pub mod legacy;
