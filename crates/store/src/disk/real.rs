//! A directory of the operating system.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Advice;

use super::{Disk, DiskFile, OpenMode, Unsynced, check_dir, check_path, is_passing};

/// Files and directories are the owner's only: a log holds what users stored.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// What the descriptor in reserve is open on.
const RESERVE: &str = "/dev/null";
/// Syncs that wait for the device at once: file systems make them durable together.
const SYNCS_AT_ONCE: usize = 16;

/// A [`Disk`] rooted at one directory.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
    reserve: Arc<Mutex<Option<File>>>,
}

impl RealDisk {
    /// The disk of the directory `root`, which should exist; [`RealDisk::create_root`] makes it.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        let reserve = File::open(RESERVE).ok();
        Self {
            root,
            reserve: Arc::new(Mutex::new(reserve)),
        }
    }

    /// Opens a directory for a moment. Where no descriptor is left, the one in reserve serves:
    /// what was begun, such as a rename, must be made durable.
    fn with_directory<T>(
        &self,
        path: &Path,
        with: impl FnOnce(File) -> io::Result<T>,
    ) -> io::Result<T> {
        match File::open(path) {
            Err(error) if is_passing(&error) => {
                let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
                drop(reserve.take());
                let done = File::open(path).and_then(with);
                *reserve = File::open(RESERVE).ok();
                done
            }
            opened => with(opened?),
        }
    }

    /// Makes the root directory (and its parents) when missing.
    pub fn create_root(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(&self.root)
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        check_path(path)?;
        Ok(self.root.join(path))
    }

    fn resolve_dir(&self, path: &str) -> io::Result<PathBuf> {
        check_dir(path)?;
        Ok(self.root.join(path))
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(RealFile {
            file: options.open(self.resolve(path)?)?,
        }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.resolve_dir(dir)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let path = self.resolve(path)?;
        match DirBuilder::new().mode(DIRECTORY_MODE).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result,
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.resolve(path)?)
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir(self.resolve(path)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.with_directory(&self.resolve_dir(dir)?, |directory| directory.sync_all())
    }

    fn sync_all(&self, all: &[Unsynced]) -> io::Result<()> {
        let next = AtomicUsize::new(0);
        let sync = || -> io::Result<()> {
            while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                match one {
                    Unsynced::File(file) => file.sync()?,
                    Unsynced::Directory(path) => self.sync_dir(path)?,
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let helpers = 1..SYNCS_AT_ONCE.min(all.len());
            // Where the system refuses threads, those that there are do more.
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, sync);
            let helpers: Vec<_> = helpers.filter_map(|at| spawn(at).ok()).collect();
            let own = sync();
            let joined = helpers.into_iter().map(|helper| match helper.join() {
                Ok(synced) => synced,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.fold(own, |all, one| all.and(one))
        })
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.resolve_dir(path)?.try_exists()
    }

    fn free_space(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.root)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        let to_the_end: Option<NonZeroU64> = None;
        Ok(rustix::fs::fadvise(
            &self.file,
            0,
            to_the_end,
            Advice::DontNeed,
        )?)
    }
}
