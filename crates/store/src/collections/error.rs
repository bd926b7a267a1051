//! Why a data directory does not open.

use std::io;

use grapevine_core::membership::MemberError;
use grapevine_core::operation::OperationError;
use thiserror::Error;

use crate::filters::OverBound;
use crate::identity::IdentityError;
use crate::journal::ReadOnly;
use crate::log::{OpenError as LogOpenError, Position, ReadError};
use crate::manifest::ManifestError;
use crate::tables::{ROWS_FILE, RowStoreError};

/// Why a data directory cannot be opened. It was not changed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Its identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is an identity and filters but no manifest.
    #[error("the manifest is missing though there is an identity")]
    NoManifest,
    /// There is a log or a manifest but no identity.
    #[error("the identity is missing though there is {0}")]
    NoIdentity(&'static str),
    /// Its log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// Its log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An entry of the log is no operation this program knows.
    #[error("log position {position}: {source}")]
    Operation {
        /// Where it ends.
        position: Position,
        /// What is wrong with it.
        source: OperationError,
    },
    /// An insert names a layer that was never opened.
    #[error("log position {position}: an insert into a layer that was never opened")]
    UnknownLayer {
        /// Where it ends.
        position: Position,
    },
    /// A member's row in the log cannot be used.
    #[error("log position {position}: {source}")]
    Member {
        /// Where it ends.
        position: Position,
        /// What is wrong with it.
        source: MemberError,
    },
    /// What the log holds could not be made room for.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
    /// The rows of tables cannot be read.
    #[error(transparent)]
    Tables(#[from] RowStoreError),
    /// The rows of tables stand for more than the log holds: some of its end is lost.
    #[error("the rows of tables are as of log position {position}, the log ends at {end}")]
    TablesAhead {
        /// What the rows stand for.
        position: Position,
        /// The end of the log.
        end: Position,
    },
    /// The rows of tables, or their file, are not those that the snapshot was made with.
    #[error(
        "{ROWS_FILE} is missing or old: it is as of log position {position}, the snapshot says \
         {expected}"
    )]
    TablesBehind {
        /// What the rows stand for.
        position: Position,
        /// What the manifest says.
        expected: Position,
    },
    /// A filter was unloaded again and again before it could be changed.
    #[error(transparent)]
    Memory(#[from] OverBound),
    /// The disk refused.
    #[error("{path}: {source}")]
    Io {
        /// With which file.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
}
