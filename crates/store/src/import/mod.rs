//! Reading what predecessors left on disk. Nothing here writes, and nothing is read through the
//! disk seam: the sources lie outside the data directory.

pub mod bloomd;
pub mod bloomd_config;
mod geometry;
mod ini;
