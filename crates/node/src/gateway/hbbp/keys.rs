//! Key files: where they are looked for, and what makes one unfit.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use grapevine_core::wire::hbbp::check_key;

use super::seal::{KEY_BYTES, KeyPair, is_weak, public_key};

/// Where the original looks for keys.
pub const KEY_DIRECTORY: &str = "/etc/hbbp/keys";
/// The environment variable that names another place.
pub const KEY_DIRECTORY_VARIABLE: &str = "HBBP_KEYDIR";
/// The directory with the keys of all tasks that have none of their own.
const DEFAULT: &str = "default";
/// The bits of a private key's mode that let anyone but its owner at it.
const OTHERS: u32 = 0o077;
/// The mode that a private key should have.
const PRIVATE_MODE: u32 = 0o400;
/// The mode that a public key should have.
const PUBLIC_MODE: u32 = 0o444;
/// The bit of a public key's mode that lets anyone exchange it.
const OTHERS_WRITE: u32 = 0o002;

/// On which side of a message keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It seals: `send.priv` and `recv.pub`.
    Sender,
    /// It opens: `recv.priv` and `send.pub`.
    Listener,
}

impl Side {
    fn private(self) -> &'static str {
        match self {
            Side::Sender => "send.priv",
            Side::Listener => "recv.priv",
        }
    }

    fn public(self) -> &'static str {
        match self {
            Side::Sender => "recv.pub",
            Side::Listener => "send.pub",
        }
    }
}

/// What makes a key file unfit. The next place is not looked at then: a task's own keys are there
/// because the default ones were not to be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It holds less than a key. In the original's words.
    #[error("invalid key {}", path.display())]
    Short {
        /// The file.
        path: PathBuf,
    },
    /// A private key that is not private.
    #[error("private key {} can be used by others (mode {mode:03o}): run chmod 400 on it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A public key that anybody may exchange.
    #[error("public key {} can be changed by everybody (mode {mode:03o}): run chmod 444 on it", path.display())]
    Exchangeable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A public key with which everything can be opened by everybody.
    #[error("public key {} protects nothing", path.display())]
    Weak {
        /// The file.
        path: PathBuf,
    },
    /// A directory, a pipe or a device.
    #[error("key {} is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// It is there, but cannot be read.
    #[error("key {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// There are keys, but not two that can be used: nothing may be sent or taken then.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe(.files, .absent.as_ref()))]
pub struct Unusable {
    /// Why those that are there cannot be used; nothing when one is just absent.
    pub files: Vec<KeyFileError>,
    /// The one that is absent, while its counterpart is there.
    pub absent: Option<AbsentKey>,
}

/// A key file that is in none of its places.
#[derive(Debug, thiserror::Error)]
#[error("{name} is missing: put it into {} (chmod {mode:03o})", places(.directories))]
pub struct AbsentKey {
    /// The file's name.
    pub name: &'static str,
    /// The directories in which it was looked for, the first goes before the others.
    pub directories: Vec<PathBuf>,
    /// The mode that it should have.
    pub mode: u32,
}

fn places(directories: &[PathBuf]) -> String {
    let shown = directories.iter().map(|path| path.display().to_string());
    shown.collect::<Vec<_>>().join(" or ")
}

fn describe(files: &[KeyFileError], absent: Option<&AbsentKey>) -> String {
    let files = files.iter().map(ToString::to_string);
    let absent = absent.map(ToString::to_string);
    let all: Vec<_> = files.chain(absent).collect();
    format!("no usable pair of keys: {}", all.join("; "))
}

/// A directory with a directory of key files for each task, and one for all others.
#[derive(Clone, Debug)]
pub struct KeyDirectory {
    base: PathBuf,
}

impl KeyDirectory {
    /// That directory.
    #[must_use]
    pub fn new(base: PathBuf) -> Self {
        KeyDirectory { base }
    }

    /// The one that the original's programs use, by the environment.
    #[must_use]
    pub fn of_process() -> Self {
        let named = std::env::var_os(KEY_DIRECTORY_VARIABLE);
        KeyDirectory::new(named.map_or_else(|| KEY_DIRECTORY.into(), PathBuf::from))
    }

    /// The keys for messages with that key. Nothing when neither file is anywhere: such messages
    /// are plain.
    ///
    /// # Errors
    /// When only one of the files is there, or one is unfit.
    pub fn find(&self, key: &[u8], side: Side) -> Result<Option<KeyPair>, Unusable> {
        let private = self.first(key, side.private(), check_private);
        let public = self.first(key, side.public(), check_public);
        match (private, public) {
            (Ok(None), Ok(None)) => Ok(None),
            (Ok(Some(private)), Ok(Some(public))) => Ok(Some(KeyPair::new(private, public))),
            (private, public) => {
                let absent = match (&private, &public) {
                    (Ok(None), _) => Some((side.private(), PRIVATE_MODE)),
                    (_, Ok(None)) => Some((side.public(), PUBLIC_MODE)),
                    _ => None,
                };
                Err(Unusable {
                    files: private.err().into_iter().chain(public.err()).collect(),
                    absent: absent.map(|(name, mode)| AbsentKey {
                        name,
                        directories: self.places(key).collect(),
                        mode,
                    }),
                })
            }
        }
    }

    /// The directories in which the files for a key are looked for.
    fn places(&self, key: &[u8]) -> impl Iterator<Item = PathBuf> + use<> {
        // A key that leads elsewhere has no directory, and no listener takes it.
        let own = check_key(key)
            .is_ok()
            .then(|| self.base.join(OsStr::from_bytes(key)));
        own.into_iter().chain([self.base.join(DEFAULT)])
    }

    /// The key in the first of the places where there is such a file.
    fn first(
        &self,
        key: &[u8],
        file: &str,
        check: fn(PathBuf, u32) -> Result<PathBuf, KeyFileError>,
    ) -> Result<Option<[u8; KEY_BYTES]>, KeyFileError> {
        for directory in self.places(key) {
            if let Some(found) = read(directory.join(file), check)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn check_private(path: PathBuf, mode: u32) -> Result<PathBuf, KeyFileError> {
    if mode & OTHERS == 0 {
        Ok(path)
    } else {
        Err(KeyFileError::Exposed { path, mode })
    }
}

fn check_public(path: PathBuf, mode: u32) -> Result<PathBuf, KeyFileError> {
    if mode & OTHERS_WRITE == 0 {
        Ok(path)
    } else {
        Err(KeyFileError::Exchangeable { path, mode })
    }
}

/// Reads a key; nothing when there is no such file.
fn read(
    path: PathBuf,
    check: fn(PathBuf, u32) -> Result<PathBuf, KeyFileError>,
) -> Result<Option<[u8; KEY_BYTES]>, KeyFileError> {
    // Without O_NONBLOCK opening a pipe would wait for a writer. What is checked is the open
    // file, so it cannot be exchanged in between.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(source) => return Err(KeyFileError::Unreadable { path, source }),
    };
    let facts = match file.metadata() {
        Ok(facts) => facts,
        Err(source) => return Err(KeyFileError::Unreadable { path, source }),
    };
    if !facts.is_file() {
        return Err(KeyFileError::NotRegular { path });
    }
    let path = check(path, facts.permissions().mode() & 0o7777)?;
    let mut key = [0; KEY_BYTES];
    match file.read_exact(&mut key) {
        Ok(()) if path.extension() == Some(OsStr::new("pub")) && is_weak(key) => {
            Err(KeyFileError::Weak { path })
        }
        Ok(()) => Ok(Some(key)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(KeyFileError::Short { path })
        }
        Err(source) => Err(KeyFileError::Unreadable { path, source }),
    }
}

/// Whether an error says that there is no file. Any other may hide one, and without it messages
/// would go in the clear.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
pub enum KeygenError {
    /// A file of that name is there. In the original's words.
    #[error("{file} already exists")]
    Exists {
        /// Its name.
        file: &'static str,
    },
    /// The system refused. In the original's words.
    #[error("could not create file {file}")]
    Create {
        /// Its name.
        file: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Makes a pair of keys for each side, in files of that directory. When one cannot be made, those
/// made before it are removed.
///
/// # Errors
/// When a file is there already, or cannot be written.
pub fn generate(directory: &Path) -> Result<(), KeygenError> {
    let mut made = Vec::new();
    let mut all = || {
        for [public, private] in [["recv.pub", "recv.priv"], ["send.pub", "send.priv"]] {
            let mut secret = [0; KEY_BYTES];
            getrandom::fill(&mut secret).map_err(|error| KeygenError::Create {
                file: private,
                source: error.into(),
            })?;
            write(directory, public, 0o444, &public_key(secret), &mut made)?;
            write(directory, private, 0o400, &secret, &mut made)?;
        }
        Ok(())
    };
    let done = all();
    if done.is_err() {
        for path in made {
            // What cannot be removed stays; the caller knows that it failed.
            drop(std::fs::remove_file(path));
        }
    }
    done
}

fn write(
    directory: &Path,
    file: &'static str,
    mode: u32,
    key: &[u8],
    made: &mut Vec<PathBuf>,
) -> Result<(), KeygenError> {
    let path = directory.join(file);
    let create = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&path);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => KeygenError::Exists { file },
        _ => KeygenError::Create { file, source },
    };
    let mut output: File = create.map_err(failed)?;
    made.push(path);
    output
        .write_all(key)
        .and_then(|()| output.sync_all())
        .map_err(|source| KeygenError::Create { file, source })
}
