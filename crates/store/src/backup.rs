//! Copying a data directory, also while a node writes it and without its help.
//!
//! # Why the copy is whole
//! A snapshot is the manifest, which says "everything before log position P is in the files of
//! these layers", and those files; a start adds what the log holds from P on. The copy is made in
//! this order:
//!
//! 1. The manifest is read, and the log's segments from P on are opened and held. Should the node
//!    take another snapshot now and remove them, their bytes stay until they are let go. If they
//!    are gone already, the copy begins anew with the newer manifest.
//! 2. The files of the layers that the manifest names are copied. They are replaced atomically, so
//!    each copy is one whole file, at least as new as the manifest: it holds every key from before
//!    P, and maybe keys from after it. Such a superset is harmless, since adding a key twice is
//!    adding it once.
//!    The file of rows is copied likewise: redb leaves the pages of a commit in place until the next
//!    one is made, and it is copied again if one was. What it has is at least as new as the
//!    manifest, and says up to which position of the log it has everything, so that a start knows
//!    what is left to replay; the log is synced up to there before the file says it.
//! 3. The log is copied, up to where it has come by then. What was acknowledged before the copy
//!    began was in it before step 1. It comes after the files because a file may be missing in
//!    step 2 when its filter was dropped, and the drop is in the log before the file goes.
//! 4. The manifest that was read in step 1 is written, and the whole copy is checked as `verify`
//!    does. What the log names and the manifest did not (a filter imported since P, whose files
//!    were written before the log's entry) comes out as missing there and is copied then. If
//!    something does not fit and the source has changed since, everything is done again, up to
//!    [`ATTEMPTS_MAX`] times, keeping the copies of files that are still the same. If nothing has
//!    changed the source itself is damaged, and the copy is given up with what was found.
//!
//! The end of the copied log may be torn where the node was writing; a start cuts that off, and
//! nobody had been told of it when the copy began.
//!
//! The copy holds the secret seed. Its files are the owner's alone, as those of the source.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use grapevine_core::catalogue::FilterRow;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::collections::OpenError;
use crate::disk::{Disk, DiskFile, OpenMode, RealDisk, parent};
use crate::filters::{FILTERS_DIR, layer_path, legacy_path};
use crate::identity::{Identity, IdentityError};
use crate::journal::LOG_DIR;
use crate::log::{HeldSegments, copy_file};
use crate::manifest::{self, MANIFEST_FILE, Manifest, ManifestError};
use crate::staging::{Staging, StagingError};
use crate::tables::{ROWS_FILE, copy_rows};
use crate::verify::{self, Finding, VerifyReport, verify};

/// How often a copy is tried while the source changes in a way that does not fit.
pub const ATTEMPTS_MAX: usize = 8;
/// Longest head of a layer file by which two of them are told apart; one with a longer head is
/// always copied.
const FINGERPRINT_BYTES_MAX: u64 = 1 << 20;

/// Why a data directory was not copied or restored. Nothing is left of the copy.
#[derive(Debug, Error)]
pub enum BackupError {
    /// There is no data directory.
    #[error("{} is no data directory: it has no {what}", path.display())]
    NotADirectory {
        /// The place.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The copy would stand inside what it is a copy of.
    #[error(
        "{} is, or is inside, {}, of which it would be a copy: name a place outside of it",
        destination.display(),
        source_directory.display()
    )]
    Inside {
        /// Where the copy was to stand.
        destination: PathBuf,
        /// What was to be copied.
        source_directory: PathBuf,
    },
    /// The identity of the source cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The manifest of the source cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The source is damaged, or changed in a way that did not fit each time.
    #[error("{}", damage(.0))]
    Damaged(Vec<Finding>),
    /// The log was never seen to reach back to the manifest.
    #[error(
        "the log does not reach back to position {position}, where the snapshot ends ({ATTEMPTS_MAX} attempts)"
    )]
    LogMoved {
        /// Where the last manifest read says the snapshot ends.
        position: u64,
    },
    /// The copy cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy's log cannot be made.
    #[error(transparent)]
    Log(#[from] crate::log::OpenError),
    /// A filter in the copy cannot be read, or its snapshot not written.
    #[error("the copy cannot be renewed: {0}")]
    Filters(#[from] crate::filters::FilterError),
    /// The tables of the copy cannot be read, or written again.
    #[error("the copy cannot be renewed: {0}")]
    Tables(#[from] crate::tables::TableError),
    /// A member of the copy cannot be entered again.
    #[error("the copy cannot be renewed: {0}")]
    Member(#[from] crate::collections::EnterError),
    /// The copy's log cannot be read.
    #[error("the copy cannot be renewed: {0}")]
    Read(#[from] crate::log::ReadError),
    /// The copy cannot be written.
    #[error("the copy cannot be renewed: {0}")]
    ReadOnly(#[from] crate::journal::ReadOnly),
    /// Which members the copy is to replace cannot be read or written.
    #[error(transparent)]
    Replacing(#[from] crate::restore::replacing::ReplacingError),
    /// There is nobody to replace.
    #[error(
        "the backup has no row of its own node in the table of members, so there is no member to \
         replace: leave --replace out"
    )]
    NoMember,
    /// The destination cannot be made.
    #[error(transparent)]
    Destination(#[from] StagingError),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// With which file, in the source or in the copy.
        path: String,
        /// The system's answer.
        source: io::Error,
    },
}

fn damage(findings: &[Finding]) -> String {
    let first = findings.first().map_or_else(String::new, |finding| {
        format!(
            "{} at offset {}: {}",
            finding.file, finding.offset, finding.what
        )
    });
    match findings.len() {
        0 | 1 => format!("the data is damaged: {first}"),
        count => format!("the data is damaged: {first}, and {} more", count - 1),
    }
}

/// What was copied.
#[derive(Debug, Default)]
pub struct Copied {
    /// Bytes written, those of attempts that did not fit included.
    pub bytes: u64,
    /// How often it was tried.
    pub attempts: usize,
    /// What the check of the copy found: no damage, maybe notes.
    pub report: VerifyReport,
}

/// Copies the data directory at `source` to `destination`, which must be absent or empty and
/// appears whole or not at all. A node may be running on `source`; what it acknowledged before
/// this was called is in the copy.
///
/// # Errors
/// When the source is damaged or the disk refuses; then there is no copy.
pub fn backup(source: &Path, destination: &Path) -> Result<Copied, BackupError> {
    let from = RealDisk::new(source.to_owned());
    ensure_data_directory(&from)?;
    ensure_outside(destination, source)?;
    let staging = Staging::begin(destination)?;
    let copied = copy(&from, &RealDisk::new(staging.path().to_owned()))?;
    staging.commit()?;
    Ok(copied)
}

/// Refuses a destination that is the source, or in it, whatever links lead there.
pub(crate) fn ensure_outside(destination: &Path, source: &Path) -> Result<(), BackupError> {
    let real = |path: &Path| {
        real_place(path).map_err(|error| BackupError::Io {
            path: path.display().to_string(),
            source: error,
        })
    };
    if real(destination)?.starts_with(real(source)?) {
        return Err(BackupError::Inside {
            destination: destination.to_owned(),
            source_directory: source.to_owned(),
        });
    }
    Ok(())
}

/// Where a path leads, links followed; what does not exist yet is taken as it is written.
fn real_place(path: &Path) -> io::Result<PathBuf> {
    let mut place = PathBuf::new();
    for part in std::path::absolute(path)?.components() {
        if part == Component::ParentDir {
            place.pop();
            continue;
        }
        place.push(part);
        match place.canonicalize() {
            Ok(real) => place = real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(place)
}

pub(crate) fn ensure_data_directory(disk: &RealDisk) -> Result<(), BackupError> {
    let has = |path| {
        disk.exists(path).map_err(|source| BackupError::Io {
            path: disk.root().join(path).display().to_string(),
            source,
        })
    };
    let missing = [crate::identity::IDENTITY_FILE, MANIFEST_FILE]
        .into_iter()
        .find_map(|file| match has(file) {
            Ok(true) => None,
            Ok(false) => Some(Ok(file)),
            Err(error) => Some(Err(error)),
        })
        .transpose()?;
    match missing {
        None => Ok(()),
        Some(what) => Err(BackupError::NotADirectory {
            path: disk.root().to_owned(),
            what,
        }),
    }
}

/// Copies the data directory on `source` to `target`, which is empty, and checks the copy. All of
/// it is durable when this returns.
///
/// # Errors
/// When the source is damaged or a disk refuses; `target` then holds anything.
pub fn copy(source: &dyn Disk, target: &dyn Disk) -> Result<Copied, BackupError> {
    let mut copying = Copying {
        source,
        target,
        kept: BTreeMap::new(),
        bytes: 0,
        doubts_rows: false,
    };
    let identity = Identity::read(source)?.ok_or_else(|| absent("identity"))?;
    identity.write(target)?;
    let mut ended = BackupError::LogMoved { position: 0 };
    for attempt in 1..=ATTEMPTS_MAX {
        let before = source_state(source)?;
        if let Err(position) = copying.pass()? {
            ended = BackupError::LogMoved { position };
            continue;
        }
        let report = copying.check()?;
        if report.is_clean() {
            copying.remove_stale(&report)?;
            return Ok(Copied {
                bytes: copying.bytes,
                attempts: attempt,
                report,
            });
        }
        copying.doubts_rows = report.findings.iter().all(|f| f.file == ROWS_FILE);
        ended = BackupError::Damaged(report.findings);
        // The file of rows may have been copied while a commit was on its way into it.
        if source_state(source)? == before && !copying.doubts_rows {
            break;
        }
    }
    Err(ended)
}

fn absent(what: &'static str) -> BackupError {
    BackupError::NotADirectory {
        path: PathBuf::new(),
        what,
    }
}

fn source_state(source: &dyn Disk) -> Result<(u64, Vec<String>, u64), BackupError> {
    verify::state(source).map_err(at(LOG_DIR))
}

fn at(path: &str) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Io { path, source }
}

struct Copying<'a> {
    source: &'a dyn Disk,
    target: &'a dyn Disk,
    /// Copied files of layers, with what tells whether the source's is still the same.
    kept: BTreeMap<String, Option<u64>>,
    bytes: u64,
    /// Nothing but the file of rows did not fit the last time.
    doubts_rows: bool,
}

impl Copying<'_> {
    /// Copies everything once. The inner error is the manifest's position when the log no longer
    /// reached back to it.
    fn pass(&mut self) -> Result<Result<(), u64>, BackupError> {
        let manifest = Manifest::read(self.source)?.ok_or_else(|| absent(MANIFEST_FILE))?;
        let held = HeldSegments::open(self.source, LOG_DIR, manifest.position());
        let Some(mut held) = held.map_err(at(LOG_DIR))? else {
            return Ok(Err(manifest.position()));
        };
        for row in &manifest.rows {
            for path in files(row) {
                self.file(&path)?;
            }
        }
        self.bytes += copy_rows(self.source, self.target).map_err(at(ROWS_FILE))?;
        held.extend(self.source, LOG_DIR).map_err(at(LOG_DIR))?;
        self.log(&held).map_err(at(LOG_DIR))?;
        manifest.write(self.target)?;
        self.bytes += manifest::bytes(self.target).map_err(at(MANIFEST_FILE))?;
        Ok(Ok(()))
    }

    /// Copies one file of a filter, unless the copy is still the same. One that is not there was
    /// dropped, or is damage; the check of the copy tells.
    fn file(&mut self, path: &str) -> Result<(), BackupError> {
        let file = match self.source.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at(path)(error)),
        };
        let fingerprint = fingerprint(&*file).map_err(at(path))?;
        if fingerprint.is_some() && self.kept.get(path) == Some(&fingerprint) {
            return Ok(());
        }
        let directory = parent(path);
        let copy = || {
            self.target.create_dir(FILTERS_DIR)?;
            self.target.create_dir(directory)?;
            let bytes = copy_file(&*file, self.target, path)?;
            self.target.sync_dir(directory)?;
            self.target.sync_dir(FILTERS_DIR)?;
            self.target.sync_dir("")?;
            Ok(bytes)
        };
        self.bytes += copy().map_err(at(path))?;
        self.kept.insert(path.to_owned(), fingerprint);
        Ok(())
    }

    /// Puts the held segments in place of what an earlier attempt copied.
    fn log(&mut self, held: &HeldSegments) -> io::Result<()> {
        self.target.create_dir(LOG_DIR)?;
        for name in self.target.list(LOG_DIR)? {
            self.target.remove(&format!("{LOG_DIR}/{name}"))?;
        }
        self.bytes += held.copy_to(self.target, LOG_DIR)?;
        self.target.sync_dir(LOG_DIR)?;
        self.target.sync_dir("")
    }

    /// Checks the copy, after fetching what only its log names.
    fn check(&mut self) -> Result<VerifyReport, BackupError> {
        let report = verify(self.target).map_err(at(""))?;
        let missing: Vec<String> = report.missing().map(str::to_owned).collect();
        if missing.is_empty() {
            return Ok(report);
        }
        for path in missing.iter().filter(|path| path.starts_with(FILTERS_DIR)) {
            self.file(path)?;
        }
        verify(self.target).map_err(at(""))
    }

    /// Removes what an earlier attempt copied and no row names any more.
    fn remove_stale(&self, report: &VerifyReport) -> Result<(), BackupError> {
        for note in &report.notes {
            let path = &note.file;
            if matches!(note.what, verify::Fault::Unclaimed) && path.starts_with(FILTERS_DIR) {
                self.remove(path).map_err(at(path))?;
            }
        }
        Ok(())
    }

    /// Removes a file of the copy, or a filter's directory with its files.
    fn remove(&self, path: &str) -> io::Result<()> {
        let is_directory = parent(path) == FILTERS_DIR;
        if !is_directory {
            self.target.remove(path)?;
            return self.target.sync_dir(parent(path));
        }
        for name in self.target.list(path)? {
            self.target.remove(&format!("{path}/{name}"))?;
        }
        self.target.remove_dir(path)?;
        self.target.sync_dir(FILTERS_DIR)
    }
}

/// The files that a row of the manifest names.
fn files(row: &FilterRow) -> impl Iterator<Item = String> {
    let layers = row.layers.iter();
    let layers = layers.map(|layer| layer_path(row.id, layer.shape.id));
    let foreign = row.legacy.iter();
    layers.chain(foreign.map(|layer| legacy_path(row.id, layer.index)))
}

/// What two files of layers have in common only when they are the same: the length, the head with
/// its counters, and the end, whose checksum is over those of all blocks. A foreign layer has
/// neither, but is never written twice: its length, first and last bytes stand for it. None for a
/// file that is not to be judged in this way.
fn fingerprint(file: &dyn DiskFile) -> io::Result<Option<u64>> {
    const START: u64 = 16;
    const END: u64 = 16;
    const CHECKSUM: u64 = 8;
    let length = file.len()?;
    if length < START + END {
        return Ok(None);
    }
    let mut start = [0; START as usize];
    file.read_at(0, &mut start)?;
    let head = if start.starts_with(&crate::layer_file::MAGIC[..]) {
        let field = u32::from_le_bytes([start[12], start[13], start[14], start[15]]);
        START + u64::from(field) + CHECKSUM
    } else {
        START
    };
    if head > FINGERPRINT_BYTES_MAX || head + END > length {
        return Ok(None);
    }
    let mut bytes = vec![0; (head + END) as usize];
    let (first, last) = bytes.split_at_mut(head as usize);
    file.read_at(0, first)?;
    file.read_at(length - END, last)?;
    bytes.extend_from_slice(&length.to_le_bytes());
    Ok(Some(xxh3_64(&bytes)))
}
