//! The data directory, taken and opened: by a node, and by the commands that need none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grapevine_store::collections::{Collections, OpenError, Recovered};
use grapevine_store::disk::{DirectoryLock, LockError, RealDisk};
use grapevine_store::filters::{Entropy, Options};
use grapevine_store::log::LogConfig;

use crate::config::{Config, MemoryDivision};

/// Why a data directory cannot be used from here.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
    /// It is not there.
    #[error("there is no data directory at {}", .0.display())]
    Absent(PathBuf),
    /// A node, or another command, uses it.
    #[error("{0}: stop it first")]
    InUse(LockError),
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

/// A data directory that is this process's until this is dropped.
pub(crate) struct Opened {
    pub(crate) collections: Collections,
    pub(crate) recovered: Recovered,
    pub(crate) lock: DirectoryLock,
}

/// Takes the lock of the configured data directory and opens it, making it when it is absent.
pub(crate) fn open(config: &Config) -> Result<Opened, DataDirectoryError> {
    let path = &config.node.data_dir;
    let disk = RealDisk::new(path.clone());
    disk.create_root()
        .map_err(|source| DataDirectoryError::Io {
            path: path.clone(),
            source,
        })?;
    let lock = lock(path)?;
    let rows = MemoryDivision::of(config.limits.memory.bytes).rows;
    let opened = Collections::open_within(Arc::new(disk), options(config), rows, entropy()?);
    let (collections, recovered) = opened.map_err(|source| DataDirectoryError::Open {
        path: path.clone(),
        source,
    })?;
    Ok(Opened {
        collections,
        recovered,
        lock,
    })
}

/// Takes the lock of a data directory.
pub(crate) fn lock(path: &Path) -> Result<DirectoryLock, DataDirectoryError> {
    DirectoryLock::acquire(path).map_err(|error| match error {
        held @ LockError::Held { .. } => DataDirectoryError::InUse(held),
        other => DataDirectoryError::Lock(other),
    })
}

/// The configured data directory, which must be there.
pub(crate) fn existing(config: &Config) -> Result<&Path, DataDirectoryError> {
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

/// The store's settings from the configuration.
pub(crate) fn options(config: &Config) -> Options {
    Options {
        log: LogConfig::default(),
        memory: MemoryDivision::of(config.limits.memory.bytes).filters,
        checkpoint_log: config.filters.checkpoint_log,
        idle_unload: config.filters.idle_unload,
    }
}

/// Random bytes of the operating system. That it gives any is tried first; one that stops giving
/// them leaves nothing safe to do.
pub(crate) fn entropy() -> Result<Entropy, DataDirectoryError> {
    getrandom::fill(&mut [0; 16]).map_err(DataDirectoryError::Entropy)?;
    Ok(Arc::new(|| {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("a system that gave random bytes goes on giving them");
        bytes
    }))
}
