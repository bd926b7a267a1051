//! The data directory as the commands use it that need no node: opened by its path.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grapevine_store::disk::{DirectoryLock, LockError, RealDisk};
use grapevine_store::filters::{Entropy, Filters, OpenError, Options};
use grapevine_store::log::LogConfig;

use crate::config::Config;

/// Why a data directory cannot be used from here.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataDirectoryError {
    /// It is not there.
    #[error("there is no data directory at {}", .0.display())]
    Absent(PathBuf),
    /// A node, or another command, uses it.
    #[error("a node is running on this data directory; stop it first")]
    InUse(#[source] LockError),
    /// Its lock cannot be taken.
    #[error(transparent)]
    Lock(LockError),
    /// It cannot be made or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Entropy(getrandom::Error),
}

/// The filters of a data directory that no node runs on.
pub(super) struct StoppedNode {
    pub(super) filters: Filters,
    _lock: DirectoryLock,
}

/// Takes the lock of the configured data directory and opens it, making it when it is absent.
pub(super) fn open(config: &Config) -> Result<StoppedNode, DataDirectoryError> {
    let path = &config.node.data_dir;
    let disk = RealDisk::new(path.clone());
    disk.create_root()
        .map_err(|source| DataDirectoryError::Io {
            path: path.clone(),
            source,
        })?;
    let lock = DirectoryLock::acquire(path).map_err(|error| match error {
        held @ LockError::Held { .. } => DataDirectoryError::InUse(held),
        other => DataDirectoryError::Lock(other),
    })?;
    let opened = Filters::open(Arc::new(disk), options(config), entropy()?);
    let (filters, _) = opened.map_err(|source| DataDirectoryError::Open {
        path: path.clone(),
        source,
    })?;
    Ok(StoppedNode {
        filters,
        _lock: lock,
    })
}

/// The configured data directory, which must be there.
pub(super) fn existing(config: &Config) -> Result<&Path, DataDirectoryError> {
    let path = &config.node.data_dir;
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(DataDirectoryError::Absent(path.clone())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(DataDirectoryError::Absent(path.clone()))
        }
        Err(source) => Err(DataDirectoryError::Io {
            path: path.clone(),
            source,
        }),
    }
}

/// The store's settings from the configuration. Nothing is unloaded for being idle: a command is
/// over before that.
pub(super) fn options(config: &Config) -> Options {
    Options {
        log: LogConfig::default(),
        memory: config.limits.memory.bytes,
        checkpoint_log: config.filters.checkpoint_log,
        idle_unload: None,
    }
}

/// Random bytes of the operating system. That it gives any is tried first; one that stops giving
/// them leaves nothing safe to do.
pub(super) fn entropy() -> Result<Entropy, DataDirectoryError> {
    getrandom::fill(&mut [0; 16]).map_err(DataDirectoryError::Entropy)?;
    Ok(Box::new(|| {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("a system that gave random bytes goes on giving them");
        bytes
    }))
}
