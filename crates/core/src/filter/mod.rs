//! Bloom filters that keep their error bound, also when their copies are cut apart: layers of
//! 512-bit lines, the right to insert divided among the members of a group, and merging by OR.
//!
//! Read in this order: [`geometry`] (the shape of a layer and where a key's bits are),
//! [`parameters`] (how the error budget is shared out over layers), [`rights`] (who may insert
//! how much), then [`Filter`].

mod chain;
pub mod geometry;
mod layer;
pub mod legacy;
mod lines;
mod model;
pub mod parameters;
pub mod rights;
mod scalable;
#[cfg(test)]
mod tests;
mod waiting;

pub use layer::{Draw, Fill, Layer, Place, Spending};
pub use scalable::{
    AddLayerError, Effect, Filter, Key, Measure, Outcome, Progress, Run, WithoutRights,
};
pub use waiting::WaitingLines;
