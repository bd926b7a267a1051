//! Why the filters of a node cannot do what they were asked.

use std::io;
use std::sync::Arc;

use grapevine_core::catalogue::NameError;
use grapevine_core::filter::AddLayerError;
use grapevine_core::filter::parameters::ParametersError;
use grapevine_core::operation::OperationError;
use thiserror::Error;

use super::memory::OverBound;
use crate::identity::IdentityError;
use crate::layer_file::LayerFileError;
use crate::log::{LogError, OpenError as LogOpenError, Position, ReadError};
use crate::manifest::ManifestError;

/// Why a request was refused or failed. Unless said otherwise nothing was changed.
#[derive(Clone, Debug, Error)]
pub enum FilterError {
    /// There is no filter of that name, or it has been dropped since.
    #[error("filter does not exist")]
    NotFound,
    /// The name cannot be a filter's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The parameters make no filter, or no further layer.
    #[error(transparent)]
    Parameters(#[from] ParametersError),
    /// The filter cannot have that layer.
    #[error(transparent)]
    Layer(#[from] AddLayerError),
    /// The memory bound does not allow it. Of an insert, the keys before the first one that
    /// needed more memory are in.
    #[error(transparent)]
    Memory(#[from] OverBound),
    /// A write or sync failed earlier or now; the node no longer takes writes. Whether the
    /// request's own change survives a restart is not known.
    #[error("the node is read-only: {0}")]
    ReadOnly(Arc<str>),
    /// A file of the filter is corrupt. Other filters are not concerned.
    #[error("the filter is damaged: {0}")]
    Damaged(Arc<str>),
    /// The filter's parameters or seed are not those of the one it should merge with.
    #[error("filters differ: {ours} here, {theirs} in the file")]
    Unlike {
        /// This side's parameters.
        ours: String,
        /// The other side's.
        theirs: String,
    },
    /// The file is not an exported filter.
    #[error("not a filter's file: {0}")]
    Import(Arc<str>),
    /// The operation does not apply to a filter that is kept in memory only.
    #[error("the filter is kept in memory only")]
    InMemory,
}

impl From<LogError> for FilterError {
    fn from(error: LogError) -> Self {
        FilterError::ReadOnly(error.to_string().into())
    }
}

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
    /// The filters in the log do not fit the memory bound.
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

/// Why a filter's bits were not read into memory.
#[derive(Debug, Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Memory(#[from] OverBound),
    #[error("{path}: {source}")]
    File {
        path: String,
        source: LayerFileError,
    },
    #[error("{path}: {what}")]
    Legacy { path: String, what: String },
    #[error(transparent)]
    Layer(#[from] AddLayerError),
}
