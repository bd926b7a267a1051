//! Why the filters of a node cannot do what they were asked.

use std::io;
use std::sync::Arc;

use grapevine_core::catalogue::NameError;
use grapevine_core::filter::AddLayerError;
use grapevine_core::filter::parameters::ParametersError;
use thiserror::Error;

use super::apply::Blocked;
use super::memory::OverBound;
use crate::disk::is_passing;
use crate::journal::ReadOnly;
use crate::layer_file::LayerFileError;

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
    /// No file can be opened for the moment. The same may be tried again.
    #[error("no file can be opened now, try again: {0}")]
    NoFile(Arc<str>),
    /// A snapshot was written and cannot be read back, so the one before it was kept, with the
    /// log. Nothing is lost and the node goes on.
    #[error("a snapshot was not taken: {0}")]
    Unreadable(Arc<str>),
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
    /// Nobody else has the filter, so that what is forgotten here is lost.
    #[error(
        "no other member has the filter, and what is forgotten here would be lost: restore a \
         backup, or drop the filter"
    )]
    OnlyCopy,
    /// The operation does not apply to a filter that is kept in memory only.
    #[error("the filter is kept in memory only")]
    InMemory,
}

impl From<Blocked> for FilterError {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::Memory(over) => FilterError::Memory(over),
            Blocked::NoFile(reason) => FilterError::NoFile(reason),
            Blocked::ReadOnly(error) => error.into(),
            Blocked::UnknownLayer | Blocked::Parts(_) => FilterError::NotFound,
        }
    }
}

impl From<ReadOnly> for FilterError {
    fn from(error: ReadOnly) -> Self {
        FilterError::ReadOnly(error.0)
    }
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
    /// The file could not be opened for the moment; nothing is known of it.
    #[error("{path}: {source}")]
    NotOpened { path: String, source: io::Error },
    #[error(transparent)]
    Layer(#[from] AddLayerError),
}

impl LoadError {
    /// Of a layer's file.
    pub(super) fn of_file(path: String, source: LayerFileError) -> Self {
        match source {
            LayerFileError::Io(source) if is_passing(&source) => {
                LoadError::NotOpened { path, source }
            }
            source => LoadError::File { path, source },
        }
    }
}

impl From<LoadError> for FilterError {
    /// What cannot be read is damaged, unless it was only not possible now.
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Memory(over) => FilterError::Memory(over),
            error @ LoadError::NotOpened { .. } => FilterError::NoFile(error.to_string().into()),
            error => FilterError::Damaged(error.to_string().into()),
        }
    }
}

impl FilterError {
    /// What makes an operation on the filter wait: it is to be tried again. The error is given
    /// back when the operation is to pass the filter over.
    pub(super) fn hindrance(self) -> Result<Blocked, FilterError> {
        match self {
            FilterError::Memory(over) => Ok(Blocked::Memory(over)),
            FilterError::NoFile(reason) => Ok(Blocked::NoFile(reason)),
            FilterError::ReadOnly(reason) => Ok(Blocked::ReadOnly(ReadOnly(reason))),
            error => Err(error),
        }
    }
}
