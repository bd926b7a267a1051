//! One process per data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::is_full;

/// Name of the lock file in the data directory.
pub const LOCK_FILE: &str = "lock";
/// A process id has at most this many digits; more bytes in the lock file are not read.
const MAX_PID_LEN: u64 = 20;
/// Bytes read of the system's list of locks: room for tens of thousands.
const MAX_LOCKS_LEN: u64 = 4 << 20;

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
        let pid = format!("{}\n", std::process::id());
        // Over what is there, cut afterwards: on a full disk that needs no room. Where there is
        // none for the first id either, the lock holds without it.
        let written = file
            .write_all_at(pid.as_bytes(), 0)
            .and_then(|()| file.set_len(pid.len() as u64));
        if let Err(error) = written
            && !is_full(&error)
        {
            return Err(failed(error));
        }
        Ok(Self { _file: file })
    }
}

/// The process that holds the lock of `root`, without trying to take it: a starting node must not
/// find the lock taken because somebody looked. None when nobody holds it, or when the system does
/// not show who does (a process in another container).
pub fn lock_holder(root: &Path) -> io::Result<Option<u32>> {
    let mut file = match File::open(root.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let inode = file.metadata()?.ino();
    let Ok(pid) = holder(&mut file).parse() else {
        return Ok(None);
    };
    let mut locks = String::new();
    File::open("/proc/locks")?
        .take(MAX_LOCKS_LEN)
        .read_to_string(&mut locks)?;
    let held = locks.lines().any(|line| is_lock(line, pid, inode));
    Ok(held.then_some(pid))
}

/// Whether a line of `/proc/locks` is a whole-file lock of this process on this file, as in
/// `1: FLOCK  ADVISORY  WRITE 708 00:19:1234 0 EOF`. The device is not compared: some file
/// systems show another number there than they give to `stat`.
fn is_lock(line: &str, pid: u32, inode: u64) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let kind = fields.next();
    let holder = fields.nth(2).and_then(|pid| pid.parse().ok());
    let file = fields.next().and_then(|id| id.rsplit(':').next());
    kind == Some("FLOCK")
        && holder == Some(pid)
        && file.and_then(|inode| inode.parse().ok()) == Some(inode)
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
