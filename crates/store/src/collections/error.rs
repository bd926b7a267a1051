//! Why a data directory does not open.

use std::io;

use grapevine_core::membership::MemberError;
use grapevine_core::operation::OperationError;
use thiserror::Error;

use crate::filters::OverBound;
use crate::identity::{IDENTITY_FILE, IdentityError};
use crate::journal::ReadOnly;
use crate::log::{OpenError as LogOpenError, Position, ReadError};
use crate::manifest::{MANIFEST_FILE, ManifestError};
use crate::tables::RowStoreError;

/// Why a data directory cannot be opened. It was not changed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Its identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no manifest, and the directory was not only being made.
    #[error(
        "{MANIFEST_FILE} is missing, though {0} is there; nothing was changed: bring the file back, \
         restore a backup into another directory, or move this one away to begin anew"
    )]
    NoManifest(String),
    /// There is no identity, and the directory was not only being made.
    #[error(
        "{IDENTITY_FILE} is missing, though {0} is there; nothing was changed: bring the file back, \
         restore a backup into another directory, or move this one away to begin anew"
    )]
    NoIdentity(String),
    /// The manifest was made in another data directory.
    #[error("{MANIFEST_FILE} belongs to another data directory than {IDENTITY_FILE}")]
    ForeignManifest,
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
