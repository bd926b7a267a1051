//! bloomd's line protocol: bytes to values and back, nothing else.
//!
//! A request is one line, a reply is one line or a block between `START` and `END`. The reading
//! path takes no memory: [`Lines`] finds the lines in a buffer, [`parse`] turns one line into a
//! [`Command`] that borrows from it, and the functions of [`reply`] append exact bytes to the
//! output. [`Beginning`] reads a long request of many keys before its line has ended. [`client`] is
//! the other side, for tools that speak to a server.
//!
//! Two servers defined the protocol: the C one and the Python one before it. Where both give a line
//! a meaning, C's holds; what only the Python server accepted is accepted too. The whole table, and
//! what is deliberately different, is in `docs/protocols/bloomd.md`.
//!
//! Keys and filter names are bytes of any value but the separators. A NUL is an ordinary byte here:
//! `a\0b` and `a` are two keys (C strings made them one).

pub mod client;
mod command;
mod line;
mod options;
mod piece;
pub mod reply;
#[cfg(test)]
mod tests;

pub use command::{Command, Keys, parse};
pub use line::Lines;
pub use options::CreateOptions;
pub use piece::Beginning;

/// Longest filter name that `create` accepts, in bytes.
pub const FILTER_NAME_LENGTH_MAX: usize = 200;

/// Smallest capacity that `capacity=N` accepts: the C server wants more than ten thousand.
pub const CAPACITY_OPTION_MIN: u64 = 10_001;

/// Smallest capacity that the positional form accepts, as the Python server did.
pub const CAPACITY_POSITIONAL_MIN: u64 = 1_000;

/// Largest capacity either form can carry: the C server reads it as a signed 64-bit number.
pub const CAPACITY_MAX: u64 = i64::MAX as u64;

/// `prob=F` must be below this (and above 0), as in the C server.
pub const PROBABILITY_OPTION_LIMIT: f64 = 0.1;

/// The positional probability must be below this (and above 0), as in the Python server.
pub const PROBABILITY_POSITIONAL_LIMIT: f64 = 1.0;

/// Smallest probability that either form accepts: no filter is made for less. Both servers take
/// any number above 0.
pub const PROBABILITY_MIN: f64 = 1e-15;

/// Whether `create` takes this name: 1 to [`FILTER_NAME_LENGTH_MAX`] bytes, none of them a space,
/// tab, line feed or carriage return. Every other byte is part of a name.
pub fn is_filter_name(name: &[u8]) -> bool {
    (1..=FILTER_NAME_LENGTH_MAX).contains(&name.len())
        && !name
            .iter()
            .any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

/// What a client did wrong, as the protocol tells it: `Client Error: ` and the text below.
///
/// A refused request gets exactly one such line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ClientError {
    /// The first word is no command. Words are compared byte for byte.
    #[error("Command not supported")]
    CommandNotSupported,
    /// `create` with an option that is unknown or out of range.
    #[error("Bad arguments")]
    BadArguments,
    /// Something follows the filter name of a command that takes only a name.
    #[error("Unexpected arguments")]
    UnexpectedArguments,
    /// A check or set without a filter name or without a key.
    #[error("Must provide filter name and key")]
    FilterAndKeyNeeded,
    /// A command that needs a filter name has none.
    #[error("Must provide filter name")]
    FilterNeeded,
    /// `create` with a name that [`is_filter_name`] refuses.
    #[error("Bad filter name")]
    BadFilterName,
    /// The positional capacity of `create` is no integer or below [`CAPACITY_POSITIONAL_MIN`].
    #[error("Bad initial capacity!")]
    BadInitialCapacity,
    /// The positional probability of `create` is no number between 0 and 1.
    #[error("Bad false positive probability!")]
    BadFalsePositiveProbability,
    /// The line is longer than the server's limit (see [`Lines::is_too_long`]). [`parse`] never
    /// returns this: whoever reads the bytes answers it and passes over the line.
    #[error("Line too long")]
    LineTooLong,
}

impl ClientError {
    /// Every error there is.
    pub const ALL: [ClientError; 9] = [
        ClientError::CommandNotSupported,
        ClientError::BadArguments,
        ClientError::UnexpectedArguments,
        ClientError::FilterAndKeyNeeded,
        ClientError::FilterNeeded,
        ClientError::BadFilterName,
        ClientError::BadInitialCapacity,
        ClientError::BadFalsePositiveProbability,
        ClientError::LineTooLong,
    ];
}
