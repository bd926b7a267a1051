//! Making a data directory, and telling one that was only being made from one that lost a file.
//!
//! The order is: the directory of filters, the log with its first segment, the identity, the
//! manifest. So a manifest implies an identity and a log, and an identity a log; what is there
//! when the power goes in between is one of a few pictures, none of which holds anything that was
//! acknowledged. Whatever else lies in the directory without a manifest is somebody's data: a
//! start never makes a new directory over it.

use std::io;
use std::sync::Arc;

use grapevine_core::membership::GroupIdentity;

use super::OpenError;
use crate::disk::{Disk, OpenMode};
use crate::filters::{Entropy, FILTERS_DIR, Filters};
use crate::identity::{IDENTITY_FILE, Identity};
use crate::journal::LOG_DIR;
use crate::log::segment::{self, SEGMENT_HEADER_LEN};
use crate::log::{Log, LogConfig, REACHED_FILE};
use crate::manifest::{BEFORE_FILE, MANIFEST_FILE, Manifest};
use crate::tables::TABLES_DIR;

/// What a directory begins with.
pub(super) struct Beginning {
    pub(super) identity: Identity,
    pub(super) manifest: Manifest,
    /// The manifest before it, if it belongs to the directory.
    pub(super) before: Option<Manifest>,
    /// Why the newest manifest is none, so that `manifest` is the one before.
    pub(super) lost: Option<OpenError>,
    /// They were made just now.
    pub(super) created: bool,
}

/// Reads identity and manifest of the directory, or makes them.
pub(super) fn read_or_make(
    disk: &Arc<dyn Disk>,
    config: LogConfig,
    entropy: &Entropy,
) -> Result<Beginning, OpenError> {
    let (identity, manifest) = (Identity::read(&**disk)?, Manifest::read(&**disk));
    // It is of use for what the newest one cannot say, and no harm where it cannot be read.
    let before = Manifest::read_before(&**disk).ok().flatten();
    let before = before.filter(|before| {
        let origin = identity.as_ref().map(|identity| identity.origin);
        before.directory.is_some() && before.directory == origin
    });
    let manifest = match (manifest, identity, before.clone()) {
        (Ok(None), Some(identity), Some(manifest)) => {
            let lost = OpenError::NoManifest(BEFORE_FILE.to_owned());
            return Ok(Beginning::from_before(identity, manifest, lost));
        }
        (Err(error), Some(identity), Some(manifest)) if error.is_of_contents() => {
            return Ok(Beginning::from_before(identity, manifest, error.into()));
        }
        (manifest, ..) => manifest?,
    };
    let identity = match (identity, manifest) {
        (Some(identity), Some(manifest)) => {
            if manifest
                .directory
                .is_some_and(|directory| directory != identity.origin)
            {
                return Err(OpenError::ForeignManifest);
            }
            return Ok(Beginning {
                identity,
                manifest,
                before,
                lost: None,
                created: false,
            });
        }
        (None, Some(_)) => return Err(OpenError::NoIdentity(MANIFEST_FILE.to_owned())),
        (identity, None) => identity,
    };
    let held = held(&**disk).map_err(|(path, source)| OpenError::Io { path, source })?;
    let identity = match (identity, held) {
        (Some(identity), Held::Begun) => identity,
        (Some(_), Held::Nothing) => return Err(OpenError::NoManifest(IDENTITY_FILE.to_owned())),
        (Some(_), Held::Data(path)) => return Err(OpenError::NoManifest(path)),
        (None, Held::Data(path)) => return Err(OpenError::NoIdentity(path)),
        (None, Held::Begun | Held::Nothing) => {
            let identity = Identity::random(&**entropy);
            begin(disk, config, &identity)?;
            identity
        }
    };
    // A node begins as a group of one.
    let manifest = Manifest {
        directory: Some(identity.origin),
        group: Some(GroupIdentity {
            id: entropy(),
            seed: identity.seed,
            met: false,
        }),
        ..Manifest::default()
    };
    manifest.write(&**disk)?;
    Ok(Beginning {
        identity,
        manifest,
        before: None,
        lost: None,
        created: true,
    })
}

impl Beginning {
    fn from_before(identity: Identity, manifest: Manifest, lost: OpenError) -> Self {
        Beginning {
            identity,
            before: Some(manifest.clone()),
            manifest,
            lost: Some(lost),
            created: false,
        }
    }
}

/// Makes everything up to the identity; opening the directory makes the rest.
pub(crate) fn begin(
    disk: &Arc<dyn Disk>,
    config: LogConfig,
    identity: &Identity,
) -> Result<(), OpenError> {
    let io = |path: &str| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    Filters::make_directory(&**disk).map_err(io(FILTERS_DIR))?;
    let first = segment::path(LOG_DIR, 0);
    if disk.exists(&first).map_err(io(&first))? {
        // A segment without a frame, under an identity that nobody was given.
        let removed = disk.remove(&first).and_then(|()| disk.sync_dir(LOG_DIR));
        removed.map_err(io(&first))?;
    }
    let id = identity.origin.bytes();
    Log::create(Arc::clone(disk), LOG_DIR, id, config, 0)?;
    Ok(identity.write(&**disk)?)
}

/// What lies in a directory that has no manifest, beside its identity.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing.
    Nothing,
    /// The first segment of a log, without a frame: the directory was being made.
    Begun,
    /// This file, which nothing explains but that others are lost.
    Data(String),
}

/// Looks at a directory that has no manifest. The error is of the path it names.
pub(crate) fn held(disk: &dyn Disk) -> Result<Held, (String, io::Error)> {
    let list = |dir: &str| disk.list(dir).map_err(|error| (dir.to_owned(), error));
    for dir in [FILTERS_DIR, TABLES_DIR] {
        if let Some(name) = list(dir)?.first() {
            return Ok(Held::Data(format!("{dir}/{name}")));
        }
    }
    let mut begun = false;
    for name in list(LOG_DIR)? {
        let path = format!("{LOG_DIR}/{name}");
        if name.ends_with(segment::UNFINISHED) || name == REACHED_FILE {
            continue;
        }
        let length = disk
            .open(&path, OpenMode::Read)
            .and_then(|file| file.len())
            .map_err(|error| (path.clone(), error))?;
        let first = segment::parse_name(&name) == Some(0);
        if !first || length > SEGMENT_HEADER_LEN as u64 {
            return Ok(Held::Data(path));
        }
        begun = true;
    }
    Ok(if begun { Held::Begun } else { Held::Nothing })
}
