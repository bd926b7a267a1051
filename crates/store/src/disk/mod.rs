//! The disk seam: the few operations that the durable side needs of a file system.
//!
//! Everything above this module reaches files through [`Disk`] and [`DiskFile`], so the same
//! code runs on a real directory ([`RealDisk`]) and on a simulated one ([`SimulatedDisk`]) that
//! keeps *live* and *durable* bytes apart and can lose, tear and flip what was never synced.
//!
//! Paths are relative, slash-separated names inside one data directory. Absolute names and `..`
//! are refused on every disk, so that a name that came from outside cannot leave the directory.

mod lock;
mod real;
mod simulated;

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

pub use lock::{DirectoryLock, LOCK_FILE, LockError, lock_holder};
pub use real::RealDisk;
pub use simulated::{CrashPlan, NameFate, Operation, SimulatedDisk, WriteFate};

/// Longest path in bytes that a disk accepts.
pub const MAX_PATH_LEN: usize = 1024;
/// Longest single name in bytes within a path; the usual limit of Linux file systems.
pub const MAX_NAME_LEN: usize = 255;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, to read only.
    Read,
    /// An existing file, to read and write.
    ReadWrite,
    /// To read and write; made when missing, emptied when present.
    Create,
}

/// Something that is to be made durable.
#[derive(Clone)]
pub enum Unsynced {
    /// The bytes of a file.
    File(Arc<dyn DiskFile>),
    /// The names in a directory.
    Directory(String),
}

/// A directory tree that holds files. All calls block.
pub trait Disk: Send + Sync {
    /// Opens the file at `path`. A missing file is [`io::ErrorKind::NotFound`] unless `mode` is
    /// [`OpenMode::Create`].
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;

    /// Names (not paths) of the files and directories in `dir`, sorted. The empty string is the
    /// data directory itself. A missing directory is an empty list.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Makes a directory whose parent exists. One that is there already is no error.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Renames a file, replacing what `to` named. Atomic; durable once the directory is synced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Handles that are open keep working.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// Makes the names in `dir` durable: creations, renames and removals up to now.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes all of these durable, in no order: at once where the system gains by that.
    fn sync_all(&self, all: &[Unsynced]) -> io::Result<()> {
        all.iter().try_for_each(|one| match one {
            Unsynced::File(file) => file.sync(),
            Unsynced::Directory(path) => self.sync_dir(path),
        })
    }

    /// Whether a file or directory of this name exists.
    fn exists(&self, path: &str) -> io::Result<bool>;

    /// Bytes that may still be written to this disk.
    fn free_space(&self) -> io::Result<u64>;
}

/// An open file. All calls block; they may be made from several threads at once.
pub trait DiskFile: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file when needed. After an error any part
    /// may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes bytes and length durable (`fdatasync`). After an error the bytes written since the
    /// last success must be taken as lost: the system forgets that they were dirty, so a second
    /// call that succeeds proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Asks the system to forget clean cached bytes, so that later reads show what the device
    /// holds. Bytes that an earlier failed [`sync`](Self::sync) left clean in memory are thus not
    /// taken for durable ones by the process that comes after. Call it after a `sync`. It is
    /// advice: a system may ignore it.
    fn drop_cache(&self) -> io::Result<()>;
}

/// Whether the disk has no room for what was to be written, so that room mends it.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Whether the process, or the system, has no file descriptor left: nothing was opened and nothing
/// written, and once others are closed the same call succeeds.
#[must_use]
pub fn is_passing(error: &io::Error) -> bool {
    let passing = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    passing.contains(&error.raw_os_error())
}

/// Replaces the file at `path` by `bytes`, atomically and durably: whoever reads it after a crash
/// at any moment finds the old or the new bytes whole. The temporary beside it ends in `.new`.
pub fn replace_file(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{path}.new");
    let file = disk.open(&temporary, OpenMode::Create)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent(path))
}

/// Reads a whole file of at most `limit` bytes; a longer one is
/// [`io::ErrorKind::FileTooLarge`], found before memory is taken.
pub fn read_file(disk: &dyn Disk, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::Read)?;
    let len = file.len()?;
    if len > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; len];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// The directory part of a path; empty for a name in the data directory itself.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Refuses a path that could name something outside the data directory.
fn check_path(path: &str) -> io::Result<()> {
    let fits = |name: &str| {
        !name.is_empty()
            && name != "."
            && name != ".."
            && name.len() <= MAX_NAME_LEN
            && !name.contains('\0')
    };
    if path.len() <= MAX_PATH_LEN && path.split('/').all(fits) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a relative path inside the directory",
        ))
    }
}

/// Like [`check_path`], but the empty string (the data directory itself) passes too.
fn check_dir(path: &str) -> io::Result<()> {
    if path.is_empty() {
        Ok(())
    } else {
        check_path(path)
    }
}

#[cfg(test)]
mod tests;
