//! Making a data directory from a backup, under a new origin.
//!
//! A restored directory must not go on under the old origin: the operations that the old
//! directory made after the backup may be known to others, and their sequence numbers would be
//! given to other operations here. So the copy is recovered as what it was, everything its log
//! holds is brought into a snapshot, and then it gets a new random origin and an empty log that
//! begins where the old one ended. The seed stays: the bits were made with it.
//!
//! For the same reason the rights to insert that the old origin held stay with it; it may have
//! spent them after the backup. Its layers are full of keys that are found, and take no new ones:
//! the first new key of a growing filter opens a further layer, and a filter of fixed size takes
//! no new keys any more.
//!
//! Where the directory knows that others have other operations under the same numbers, that is not
//! enough: see [`renew_apart`].

mod apart;
pub mod replacing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use grapevine_core::origin::Origin;

use crate::backup::{BackupError, Copied, copy, ensure_data_directory, ensure_outside};
use crate::collections::{Collections, Recovered};
use crate::disk::{Disk, RealDisk};
use crate::filters::{Entropy, FilterError, Options};
use crate::identity::{IDENTITY_FILE, Identity};
use crate::journal::LOG_DIR;
use crate::log::{Log, LogConfig};
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::staging::{Staging, StagingError};
use crate::tables::TableError;
pub use apart::renew_apart;
use replacing::LostMember;

/// What a restore made.
#[derive(Debug)]
pub struct Restored {
    /// What was copied from the backup.
    pub copied: Copied,
    /// What recovering the copy found.
    pub recovered: Recovered,
    /// The origin of the directory that the backup was made of.
    pub before: Origin,
    /// The origin of the restored one.
    pub now: Origin,
    /// Operations that the old origin had made when the backup was taken.
    pub operations: u64,
    /// Filters in it.
    pub filters: usize,
    /// The member of a group that the backup was made of: the group counts it as one until
    /// somebody enters that it has left.
    pub member: Option<LostMember>,
}

/// What becomes of the member that a backup was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The operator enters it later, or it goes on.
    Keep,
    /// The restored node enters that it has left, once it has joined the group.
    Replace,
}

/// Makes a data directory at `directory`, which must be absent or empty, from the backup at
/// `backup`. It appears whole or not at all.
///
/// # Errors
/// When the backup is damaged, does not fit the memory bound in `options`, or the disk refuses;
/// then there is no directory.
pub fn restore(
    backup: &Path,
    directory: &Path,
    lost: Lost,
    options: Options,
    entropy: Entropy,
) -> Result<Restored, BackupError> {
    let from = RealDisk::new(backup.to_owned());
    ensure_data_directory(&from)?;
    ensure_outside(directory, backup)?;
    if let Some(parent) = directory.parent() {
        let made = RealDisk::new(parent.to_owned()).create_root();
        made.map_err(|source| StagingError::Io {
            path: parent.to_owned(),
            source,
        })?;
    }
    let staging = Staging::begin(directory)?;
    let target = Arc::new(RealDisk::new(staging.path().to_owned()));
    let copied = copy(&from, &*target)?;
    let opened = Opened::new(Arc::clone(&target) as Arc<dyn Disk>, options, &entropy)?;
    // Whether others have other operations under the numbers of some that it has.
    if opened.collections.journal().forks().is_empty() {
        let to = Arc::clone(&target);
        let restored = renew_opened(target, opened, copied, options, entropy)?;
        keep_wish(&from, &*to, lost, &restored)?;
        staging.commit()?;
        return Ok(restored);
    }
    let mut name = directory.as_os_str().to_owned();
    name.push(".apart");
    let anew = Staging::begin(Path::new(&name))?;
    let new = Arc::new(RealDisk::new(anew.path().to_owned()));
    let to = Arc::clone(&new);
    let restored = apart::carry_over(opened, new, copied, options, entropy)?;
    keep_wish(&from, &*to, lost, &restored)?;
    // The copy goes, the new directory takes its place.
    drop(staging);
    anew.commit_at(directory)?;
    Ok(restored)
}

/// Writes down which members the directory on `to` is to replace: those that the one on `from` was
/// to replace, and that one itself.
fn keep_wish(
    from: &dyn Disk,
    to: &dyn Disk,
    lost: Lost,
    restored: &Restored,
) -> Result<(), BackupError> {
    let mut members = replacing::read(from)?;
    if lost == Lost::Replace {
        let member = restored.member.clone();
        members.push(member.ok_or(BackupError::NoMember)?);
    }
    Ok(replacing::write(to, &members)?)
}

/// Makes the data directory at `directory`, which no process may use, anew in its place. What was
/// there stays beside it, under a name that says whose it was: the path that is given.
///
/// # Errors
/// As [`restore`]; then the directory is as it was.
pub fn restore_in_place(
    directory: &Path,
    lost: Lost,
    options: Options,
    entropy: Entropy,
) -> Result<(Restored, PathBuf), BackupError> {
    let from = RealDisk::new(directory.to_owned());
    ensure_data_directory(&from)?;
    let beside = |suffix: &str| {
        let mut name = directory.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let anew = beside(".anew");
    let restored = restore(directory, &anew, lost, options, entropy)?;
    let kept = beside(&format!(".{}", restored.before));
    let renamed = |from: &Path, to: &Path| {
        std::fs::rename(from, to).map_err(|source| BackupError::Io {
            path: from.display().to_string(),
            source,
        })
    };
    renamed(directory, &kept)?;
    if let Err(error) = renamed(&anew, directory) {
        // As it was before.
        renamed(&kept, directory)?;
        return Err(error);
    }
    Ok((restored, kept))
}

/// The directory that another is made from, as what it was.
struct Opened {
    collections: Collections,
    recovered: Recovered,
}

impl Opened {
    /// Refuses one in which a filter or the rows are damaged.
    fn new(disk: Arc<dyn Disk>, options: Options, entropy: &Entropy) -> Result<Self, BackupError> {
        let (collections, recovered) = Collections::open(disk, options, Arc::clone(entropy))?;
        if let Some(reason) = collections.damaged_rows() {
            return Err(TableError::Damaged(reason).into());
        }
        match recovered.damaged.first() {
            Some((_, reason)) => Err(FilterError::Damaged(Arc::clone(reason)).into()),
            None => Ok(Opened {
                collections,
                recovered,
            }),
        }
    }
}

/// Gives the data directory on `disk`, a copy that nobody uses, a new origin and key. Interrupted half
/// way it leaves a directory that cannot be opened.
///
/// # Errors
/// When the directory cannot be opened or a filter in it is damaged.
pub fn renew(
    disk: Arc<dyn Disk>,
    copied: Copied,
    options: Options,
    entropy: Entropy,
) -> Result<Restored, BackupError> {
    let opened = Opened::new(Arc::clone(&disk), options, &entropy)?;
    renew_opened(disk, opened, copied, options, entropy)
}

fn renew_opened(
    disk: Arc<dyn Disk>,
    opened: Opened,
    copied: Copied,
    options: Options,
    entropy: Entropy,
) -> Result<Restored, BackupError> {
    let (fresh, salt) = (Identity::random(&*entropy), entropy());
    let Opened {
        collections,
        recovered,
    } = opened;
    let before = *collections.filters().identity();
    let member = LostMember::of(&collections, before.origin);
    collections.checkpoint()?;
    drop(collections);
    let Some(manifest) = Manifest::read(&*disk)? else {
        return Err(BackupError::NotADirectory {
            path: MANIFEST_FILE.into(),
            what: MANIFEST_FILE,
        });
    };
    let io = |path: &str, source| BackupError::Io {
        path: path.to_owned(),
        source,
    };
    for name in disk.list(LOG_DIR).map_err(|error| io(LOG_DIR, error))? {
        let path = format!("{LOG_DIR}/{name}");
        disk.remove(&path).map_err(|error| io(&path, error))?;
    }
    // The seed stays: the filters were made with it.
    let identity = Identity {
        seed: before.seed,
        ..fresh
    };
    identity.write(&*disk)?;
    let manifest = Manifest {
        directory: Some(identity.origin),
        ..manifest
    };
    manifest.write(&*disk)?;
    let config = LogConfig {
        salt: u64::from_le_bytes(std::array::from_fn(|index| salt[index])),
        ..options.log
    };
    Log::create(
        Arc::clone(&disk),
        LOG_DIR,
        identity.origin.bytes(),
        config,
        manifest.position(),
    )?;
    disk.sync_dir("")
        .map_err(|error| io(IDENTITY_FILE, error))?;
    Ok(Restored {
        copied,
        recovered,
        before: before.origin,
        now: identity.origin,
        operations: manifest.bookmark.at.version.get(before.origin),
        filters: manifest.rows.len(),
        member,
    })
}
