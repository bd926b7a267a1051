//! The operation log.
