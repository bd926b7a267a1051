//! A table in a file, which other processes read and replace at the same time.
//!
//! As in the original, whoever reads a table locks its file for reading and whoever changes it
//! replaces the file by a new one, with the old one locked (flock(2)). So one who waited for the
//! lock may find that it is on a file that is the table no longer: then everything begins anew. The
//! original goes on and loses what was written meanwhile.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use grapevine_core::plain_table::TABLE_BYTES_MAX;

/// How often a change begins anew because the file was replaced or edited meanwhile. Each time,
/// somebody else has come further.
const ATTEMPTS_MAX: usize = 10_000;
/// A new table and the directories above it: whatever the mask of the process, others do not
/// write there.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// Temporary files are made beside the table, under a name of this and random letters.
const TEMPORARY_PREFIX: &str = ".p2ptbl-";
const TEMPORARY_RANDOM_LETTERS: usize = 16;

/// What is wrong with a table's file. The table is as it was before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableFileError {
    /// Nothing there, or no regular file.
    #[error("{} is no P2P table", path.display())]
    NotATable { path: PathBuf },
    #[error("{}: {bytes} bytes are more than a table may have ({limit})", path.display())]
    TooLong {
        path: PathBuf,
        bytes: u64,
        limit: usize,
    },
    #[error("{} was changed by others {ATTEMPTS_MAX} times meanwhile", path.display())]
    Contended { path: PathBuf },
    #[error("{what} {}: {source}", path.display())]
    System {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// For `map_err`: what was done to which file.
fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> TableFileError + 'a {
    move |source| TableFileError::System {
        what,
        path: path.to_owned(),
        source,
    }
}

/// Makes an empty table, and the directories it lies in. One that is there is left alone.
pub(crate) fn create(path: &Path) -> Result<(), TableFileError> {
    if fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    if !parent.as_os_str().is_empty() {
        let mut directories = DirBuilder::new();
        directories.recursive(true).mode(DIRECTORY_MODE);
        let made = directories.create(parent);
        made.map_err(failed("cannot make the directory", parent))?;
    }
    let mut new = OpenOptions::new();
    new.append(true).create(true).mode(FILE_MODE);
    // Something else than a file may be there and must not be waited for.
    new.custom_flags(libc::O_NONBLOCK);
    let file = new.open(path).map_err(failed("cannot make", path))?;
    let found = file.metadata().map_err(failed("cannot look at", path))?;
    if found.is_file() {
        Ok(())
    } else {
        Err(TableFileError::NotATable {
            path: path.to_owned(),
        })
    }
}

/// Whether there is a table, as an error when there is none.
pub(crate) fn find(path: &Path) -> Result<(), TableFileError> {
    open(path).map(drop)
}

/// The whole table, as it was before or after whatever is done to it meanwhile.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TableFileError> {
    let (file, found) = open(path)?;
    file.lock_shared().map_err(failed("cannot lock", path))?;
    read_whole(&file, &found, path)
}

/// Replaces the table by what `make` makes of it; nothing is written when that is the same, or an
/// error. `make` is called again when the table was changed by others before it could be replaced.
pub(crate) fn change<E: From<TableFileError>>(
    path: &Path,
    mut make: impl FnMut(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    for _ in 0..ATTEMPTS_MAX {
        let (file, _) = open(path)?;
        file.lock().map_err(failed("cannot lock", path))?;
        // A link stays, and what it points to is replaced.
        let table = match fs::canonicalize(path) {
            Ok(table) => table,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("cannot find", path)(error).into()),
        };
        let found = file.metadata().map_err(failed("cannot look at", path))?;
        if !is_still(&found, &table) {
            continue;
        }
        let text = read_whole(&file, &found, path)?;
        let new = make(&text)?;
        if new == text || replace(&table, &found, &new)? {
            return Ok(());
        }
    }
    Err(TableFileError::Contended {
        path: path.to_owned(),
    }
    .into())
}

fn open(path: &Path) -> Result<(File, Metadata), TableFileError> {
    let not_a_table = || TableFileError::NotATable {
        path: path.to_owned(),
    };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if no_file(&error) => return Err(not_a_table()),
        Err(error) => return Err(failed("cannot open", path)(error)),
    };
    let found = file.metadata().map_err(failed("cannot look at", path))?;
    if found.is_file() {
        Ok((file, found))
    } else {
        Err(not_a_table())
    }
}

/// Whether the error says that there is no file of that name that could be a table.
fn no_file(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound};
    // The last is a socket's.
    matches!(
        error.kind(),
        NotFound | NotADirectory | IsADirectory | InvalidInput
    ) || error.raw_os_error() == Some(libc::ENXIO)
}

fn read_whole(mut file: &File, found: &Metadata, path: &Path) -> Result<Vec<u8>, TableFileError> {
    let limit = TABLE_BYTES_MAX;
    let too_long = |bytes| TableFileError::TooLong {
        path: path.to_owned(),
        bytes,
        limit,
    };
    if found.len() > limit as u64 {
        return Err(too_long(found.len()));
    }
    let mut text = Vec::new();
    // It may grow while it is read.
    let mut bounded = (&mut file).take(limit as u64 + 1);
    let read = bounded.read_to_end(&mut text);
    read.map_err(failed("cannot read", path))?;
    if text.len() > limit {
        return Err(too_long(text.len() as u64));
    }
    Ok(text)
}

/// Whether the file of that name is the one that was found and has not been written since.
fn is_still(found: &Metadata, path: &Path) -> bool {
    let state = |file: &Metadata| {
        let modified = (file.mtime(), file.mtime_nsec());
        (file.dev(), file.ino(), file.len(), modified)
    };
    fs::metadata(path).is_ok_and(|now| state(&now) == state(found))
}

/// Puts a new file in the place of the table that was found, with its owner and permissions. False
/// when the table is not any more what was found; then it stays.
fn replace(path: &Path, found: &Metadata, text: &[u8]) -> Result<bool, TableFileError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .rand_bytes(TEMPORARY_RANDOM_LETTERS)
        .tempfile_in(directory);
    let mut temporary = temporary.map_err(failed("cannot make a file in", directory))?;
    let new = temporary.as_file_mut();
    let own = new.metadata().map_err(failed("cannot look at", path))?;
    if (own.uid(), own.gid()) != (found.uid(), found.gid()) {
        // Most may not give files away. Then the new one is theirs, as any file they would make.
        drop(fchown(&*new, Some(found.uid()), Some(found.gid())));
    }
    new.write_all(text)
        .and_then(|()| new.set_permissions(Permissions::from_mode(found.mode() & 0o777)))
        .and_then(|()| new.sync_all())
        .map_err(failed("cannot write a new file for", path))?;
    if !is_still(found, path) {
        return Ok(false);
    }
    let persisted = temporary.persist(path);
    persisted.map_err(|error| failed("cannot replace", path)(error.error))?;
    // The name counts as written once its directory is. Some file systems cannot say so, and the
    // table is in its place already.
    drop(File::open(directory).and_then(|directory| directory.sync_all()));
    Ok(true)
}
