//! The disk seam.
