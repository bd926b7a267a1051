//! Directories that appear whole or not at all: filled under another name, then renamed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What is added to the name of a directory while it is being filled.
const SUFFIX: &str = ".unfinished";
/// What users stored is theirs alone.
const DIRECTORY_MODE: u32 = 0o700;

/// Why a directory cannot be made. Nothing is left of it.
#[derive(Debug, Error)]
pub enum StagingError {
    /// There is something in its place already.
    #[error("{} exists and is not an empty directory", path.display())]
    NotEmpty {
        /// The place.
        path: PathBuf,
    },
    /// Another process is filling it, or one that did so was killed.
    #[error(
        "{} exists: it is being written by another process, or one was killed while writing it; \
         if none is at work, remove it and try again", path.display()
    )]
    Unfinished {
        /// The directory that was being filled.
        path: PathBuf,
    },
    /// The path does not end in a name.
    #[error("{} does not end in the name of a directory", path.display())]
    Nameless {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// With which directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A directory being filled. Dropped before [`Staging::commit`], it goes with its content.
#[derive(Debug)]
pub(crate) struct Staging {
    path: PathBuf,
    destination: PathBuf,
    committed: bool,
}

impl Staging {
    /// Begins a directory that is to stand at `destination`, which must be absent or empty and
    /// whose parent must exist.
    pub(crate) fn begin(destination: &Path) -> Result<Self, StagingError> {
        ensure_free(destination)?;
        let Some(name) = destination.file_name() else {
            return Err(StagingError::Nameless {
                path: destination.to_owned(),
            });
        };
        let mut name = name.to_owned();
        name.push(SUFFIX);
        let path = destination.with_file_name(name);
        match DirBuilder::new().mode(DIRECTORY_MODE).create(&path) {
            Ok(()) => Ok(Staging {
                path,
                destination: destination.to_owned(),
                committed: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StagingError::Unfinished { path })
            }
            Err(source) => Err(StagingError::Io { path, source }),
        }
    }

    /// Where to write.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory another name than it was begun for, durably.
    pub(crate) fn commit_at(mut self, destination: &Path) -> Result<(), StagingError> {
        self.destination = destination.to_owned();
        self.commit()
    }

    /// Gives the directory its name, durably. Its files must be synced.
    pub(crate) fn commit(mut self) -> Result<(), StagingError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StagingError::Io { path, source }
        };
        let sync = |path: &Path| File::open(path)?.sync_all();
        sync(&self.path).map_err(failed(&self.path))?;
        // The system replaces an empty directory and refuses any other.
        fs::rename(&self.path, &self.destination).map_err(failed(&self.destination))?;
        self.committed = true;
        let parent = match self.destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        sync(parent).map_err(failed(parent))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.committed {
            // Made by `begin` and by nobody else. What cannot be removed is named at the next try.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn ensure_free(path: &Path) -> Result<(), StagingError> {
    let taken = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => true,
        Err(source) => {
            let path = path.to_owned();
            return Err(StagingError::Io { path, source });
        }
    };
    if taken {
        let path = path.to_owned();
        return Err(StagingError::NotEmpty { path });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_appears_whole_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("place");
        let staging = Staging::begin(&place).unwrap();
        fs::write(staging.path().join("file"), "x").unwrap();
        assert!(!place.exists());
        let second = Staging::begin(&place);
        assert!(matches!(second, Err(StagingError::Unfinished { .. })));
        drop(staging);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);

        fs::create_dir(&place).unwrap();
        let staging = Staging::begin(&place).unwrap();
        fs::write(staging.path().join("file"), "x").unwrap();
        staging.commit().unwrap();
        assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "x");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
        let again = Staging::begin(&place);
        assert!(matches!(again, Err(StagingError::NotEmpty { .. })));
        let file = Staging::begin(&place.join("file"));
        assert!(matches!(file, Err(StagingError::NotEmpty { .. })));
        let nameless = Staging::begin(Path::new("/.."));
        assert!(nameless.is_err());
    }

    #[test]
    fn what_came_meanwhile_is_not_replaced() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("place");
        let staging = Staging::begin(&place).unwrap();
        fs::create_dir(&place).unwrap();
        fs::write(place.join("precious"), "x").unwrap();
        assert!(matches!(staging.commit(), Err(StagingError::Io { .. })));
        assert_eq!(fs::read_to_string(place.join("precious")).unwrap(), "x");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
