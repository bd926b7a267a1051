//! Secrets: read from files that nobody else can read, never shown.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest secret file, in bytes.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// The bits of a file's mode that let anyone but its owner at it.
const OTHERS: u32 = 0o077;

/// A secret from a file. It has no way to be printed.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// The secret itself, for what has to compute with it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `candidate` is the secret, in a time that depends only on their lengths.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        if candidate.len() != self.0.len() {
            return false;
        }
        let pairs = self.0.iter().zip(candidate);
        black_box(pairs.fold(0u8, |differ, (a, b)| black_box(differ | (a ^ b)))) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret file is refused.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be opened or read.
    #[error("secret file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("secret file {} is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// Others than its owner have some access to it.
    #[error("secret file {} can be used by others (mode {mode:03o}): run chmod 600 on it", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user, who could read and change it.
    #[error("secret file {} belongs to user {owner}, not to this process's user or root", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// The user it belongs to.
        owner: u32,
    },
    /// There is nothing in it but a line end.
    #[error("secret file {} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is over the bound.
    #[error("secret file {} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit: usize,
    },
}

/// Reads a secret: the bytes of a regular file without one trailing line end. The file must
/// belong to this process's user or to root, and only its owner may have access to it.
///
/// # Errors
/// The first of the demands that the file does not meet.
pub fn read_secret(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    };
    // Without O_NONBLOCK opening a pipe would wait for a writer. What is checked is the open
    // file, so it cannot be exchanged in between.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err(SecretError::NotRegular {
            path: path.to_owned(),
        });
    }
    let mode = facts.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(SecretError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    let owner = facts.uid();
    if owner != 0 && owner != user_of_process().map_err(unreadable)? {
        return Err(SecretError::Owner {
            path: path.to_owned(),
            owner,
        });
    }
    let mut bytes = Vec::new();
    let limit = SECRET_BYTES_MAX;
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > limit {
        return Err(SecretError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    let secret = bytes
        .strip_suffix(b"\r\n")
        .or_else(|| bytes.strip_suffix(b"\n"));
    let secret = secret.unwrap_or(&bytes);
    if secret.is_empty() {
        return Err(SecretError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(Secret(secret.into()))
}

/// The effective user of this process, from `/proc` because the system call needs unsafe code.
fn user_of_process() -> io::Result<u32> {
    let status = fs::read_to_string("/proc/self/status")?;
    effective_user(&status)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/self/status has no Uid"))
}

/// The second number of the `Uid:` line, which has real, effective, saved and file system user.
fn effective_user(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    fn file(dir: &Path, name: &str, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
        let path = dir.join(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(path)
    }

    #[test]
    fn a_private_file_is_read_without_its_line_end() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        for (text, secret) in [
            ("a b", "a b"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
        ] {
            let path = file(dir.path(), "secret", text.as_bytes(), 0o600)?;
            assert_eq!(read_secret(&path)?.expose(), secret.as_bytes());
        }
        let path = file(dir.path(), "read-only", b"x", 0o400)?;
        symlink(&path, dir.path().join("link"))?;
        assert!(read_secret(&dir.path().join("link"))?.matches(b"x"));
        Ok(())
    }

    #[test]
    fn files_that_others_can_use_are_refused() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        for mode in [0o640, 0o604, 0o620, 0o601, 0o644, 0o777] {
            let path = file(dir.path(), "secret", b"x", mode)?;
            let refused = read_secret(&path);
            assert!(
                matches!(refused, Err(SecretError::Permissions { mode: m, .. }) if m == mode),
                "{mode:o}: {refused:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn only_small_regular_files_hold_secrets() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let read = |name| read_secret(&dir.path().join(name));
        assert!(matches!(
            read("absent"),
            Err(SecretError::Unreadable { .. })
        ));
        assert!(matches!(read(""), Err(SecretError::NotRegular { .. })));
        for empty in ["", "\n", "\r\n"] {
            file(dir.path(), "empty", empty.as_bytes(), 0o600)?;
            assert!(
                matches!(read("empty"), Err(SecretError::Empty { .. })),
                "{empty:?}"
            );
        }
        file(
            dir.path(),
            "large",
            &vec![b'x'; SECRET_BYTES_MAX + 1],
            0o600,
        )?;
        assert!(matches!(read("large"), Err(SecretError::TooLarge { .. })));
        file(dir.path(), "largest", &vec![b'x'; SECRET_BYTES_MAX], 0o600)?;
        assert_eq!(read("largest")?.expose().len(), SECRET_BYTES_MAX);
        Ok(())
    }

    #[test]
    fn a_secret_is_compared_whole_and_never_printed() {
        let secret = Secret(b"hunter2".as_slice().into());
        assert!(secret.matches(b"hunter2"));
        for other in [
            b"hunter3".as_slice(),
            b"hunter",
            b"hunter22",
            b"Hunter2",
            b"",
        ] {
            assert!(!secret.matches(other));
        }
        assert!(!format!("{secret:?}").contains("hunter"));
    }

    #[test]
    fn the_effective_user_is_the_second_number() {
        assert_eq!(effective_user("Name:\tx\nUid:\t1000\t0\t7\t8\n"), Some(0));
        assert_eq!(effective_user("Name:\tx\n"), None);
        assert!(user_of_process().is_ok());
    }
}
