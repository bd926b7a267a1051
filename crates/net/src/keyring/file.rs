//! The file of a keyring: only its owner may read it, and it is replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Keyring, KeyringError};
use crate::secret::{SecretError, read_secret};

/// Mode of the file: only its owner reads and writes.
const OWNER_ONLY: u32 = 0o600;

/// Why a keyring file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyringFileError {
    /// It cannot be read, or others could read it too.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It is not text.
    #[error("keyring {} is not text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A line of it is not a key.
    #[error("keyring {}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyringError,
    },
    /// It has no key. To have no secret, name no file.
    #[error("keyring {} has no key", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written; the one before is untouched unless only its durability is in doubt.
    #[error("keyring {} cannot be written: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads a keyring, by the rules of every secret file.
///
/// # Errors
/// The file breaks those rules, or does not hold at least one key.
pub fn read_keyring(path: &Path) -> Result<Keyring, KeyringFileError> {
    let secret = read_secret(path)?;
    let path = path.to_owned();
    let Ok(text) = std::str::from_utf8(secret.expose()) else {
        return Err(KeyringFileError::NotText { path });
    };
    match Keyring::parse(text) {
        Ok(ring) if ring.is_empty() => Err(KeyringFileError::Empty { path }),
        Ok(ring) => Ok(ring),
        Err(source) => Err(KeyringFileError::Content { path, source }),
    }
}

/// Replaces a keyring file, or makes it: a reader meets the old one or the new one, and never one
/// that others may read.
///
/// # Errors
/// The disk refuses.
pub fn write_keyring(path: &Path, ring: &Keyring) -> Result<(), KeyringFileError> {
    replace(path, ring.text().as_bytes()).map_err(|source| KeyringFileError::Unwritable {
        path: path.to_owned(),
        source,
    })
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A link stays one: what it leads to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut staged_name = name.to_owned();
    staged_name.push(".new");
    let staged = path.with_file_name(staged_name);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // One left by a crash may be there, with whatever mode.
    match fs::remove_file(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, &path)?;
    File::open(directory)?.sync_all()
}
