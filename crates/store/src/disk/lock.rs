//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Name of the lock file in the data directory.
pub const LOCK_FILE: &str = "lock";
/// A process id has at most this many digits; more bytes in the lock file are not read.
const MAX_PID_LEN: u64 = 20;

/// The right to use a data directory, held until dropped or until the process ends in any way.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Why a data directory cannot be taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Somebody else holds it.
    #[error("another process (pid {pid}) uses {}", directory.display())]
    Held {
        /// What the holder wrote into the lock file; `unknown` if nothing readable is there.
        pid: String,
        /// The data directory.
        directory: PathBuf,
    },
    /// The lock file cannot be opened, locked or written.
    #[error("cannot lock {}: {source}", directory.display())]
    Io {
        /// The data directory.
        directory: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl DirectoryLock {
    /// Takes the lock of the existing directory `root` and writes this process's id into it.
    /// The lock file stays behind: removing it would let two processes lock two files of one name.
    pub fn acquire(root: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            directory: root.to_owned(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(root.join(LOCK_FILE))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let directory = root.to_owned();
                return Err(LockError::Held {
                    pid: holder(&mut file),
                    directory,
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The process id in the lock file, for the message only.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_PID_LEN).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => pid.to_string(),
        _ => "unknown".to_owned(),
    }
}
