//! Checking a whole data directory without opening it. Changes nothing and takes no lock.
//!
//! Everything is read: the identity, the manifest, every frame of the log and the operation in
//! each of its entries, every block of every layer file and every foreign layer that a row names.
//! The rows are those of the manifest as the log goes on with them, so a filter that was dropped
//! after the last snapshot need not have its files, and one that was imported after it must.
//!
//! It may run while a node writes: a file that is replaced or removed meanwhile can look damaged.
//! When something is found in a directory that has changed, it is checked again, a few times.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use grapevine_core::catalogue::{Catalogue, FilterId};
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::operation::{
    CatalogueChange, EntryHeader, Insert, Operation, OperationError, Stream, decode,
};
use grapevine_core::origin::Origin;
use grapevine_core::version::Dot;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::collections::{self, Held};
use crate::disk::{Disk, OpenMode};
use crate::identity::{IDENTITY_FILE, Identity, IdentityError};
use crate::journal::LOG_DIR;
use crate::layer_file::LayerFileError;
use crate::log::{self, Checked, Place, Position};
use crate::manifest::{self, BEFORE_FILE, MANIFEST_FILE, Manifest, ManifestError};
use crate::tables::{self, ROWS_FILE, RowStoreError};

/// Most findings, and most notes, of one check.
pub const FINDINGS_MAX: usize = 10_000;
/// How often a directory that changes meanwhile is checked.
pub const ATTEMPTS_MAX: usize = 3;

/// What a start does with a damaged file of rows.
const ROWS_REMEDY: &str =
    "the next start sets it aside and gets the rows from the log or from the other members";
/// What a start does with a file of rows that is older than the snapshot.
const OLDER_ROWS_REMEDY: &str =
    "the next start replays the log over it if it has the rest, or else begins another one";

/// Something in a data directory.
#[derive(Debug)]
pub struct Finding {
    /// Path of the file in the data directory.
    pub file: String,
    /// Offset in the file.
    pub offset: u64,
    /// What is there.
    pub what: Fault,
}

/// What is wrong, or worth a note.
#[derive(Debug, Error)]
pub enum Fault {
    /// A file that must be there is not.
    #[error("is missing")]
    Missing,
    /// The system refused to read it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// The identity does not hold.
    #[error(transparent)]
    Identity(IdentityError),
    /// The manifest does not hold.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The one before it does not hold. Nothing needs it as long as the newest one does.
    #[error("the manifest of the snapshot before: {0}; the next snapshot writes it anew")]
    ManifestBefore(ManifestError),
    /// The log does not hold, or has a torn tail.
    #[error(transparent)]
    Log(log::Fault),
    /// The log was written under another identity.
    #[error("belongs to another data directory than the identity")]
    OtherDirectory,
    /// The log does not reach from the snapshot on.
    #[error(
        "the snapshot in {MANIFEST_FILE} ends at log position {position}, the log holds {from} to \
         {to}: segments of it are missing, or the manifest is an older copy"
    )]
    NotHeld {
        /// The manifest's position.
        position: Position,
        /// Oldest position of the log.
        from: Position,
        /// Its end.
        to: Position,
    },
    /// An entry of the log is no operation that this program knows.
    #[error(transparent)]
    Operation(OperationError),
    /// An operation has the number of an earlier one, or a smaller one.
    #[error("operation number {found} follows {before}")]
    Sequence {
        /// Its number.
        found: u64,
        /// The number of the one before.
        before: u64,
    },
    /// An insert names a layer that was never opened.
    #[error("an insert into a layer that was never opened")]
    UnknownLayer,
    /// The file of rows does not hold.
    #[error("{0}; {ROWS_REMEDY}")]
    Rows(RowStoreError),
    /// The file of rows says that rows are missing in it.
    #[error(
        "rows are missing, and come from the other members (alone: grapevine table forget \
         --damaged): {0}"
    )]
    RowsDamaged(String),
    /// A note: a start found this file of rows damaged, and began another.
    #[error("a damaged file of rows that a start set aside; remove it when no row is missing")]
    SetAside,
    /// The file of rows is not the one that the snapshot was made with.
    #[error(
        "has rows up to log position {position}, the snapshot says {expected}; {OLDER_ROWS_REMEDY}"
    )]
    RowsBehind {
        /// What the file says.
        position: Position,
        /// What the manifest says.
        expected: Position,
    },
    /// The file of rows stands for more than the log holds.
    #[error("has rows up to log position {position}, the log ends at {end}")]
    RowsAhead {
        /// What the file says.
        position: Position,
        /// The end of the log.
        end: Position,
    },
    /// A layer file does not hold.
    #[error("{0}")]
    Corrupt(&'static str),
    /// A layer file does not hold, in a way that has no place in the file.
    #[error(transparent)]
    Layer(LayerFileError),
    /// The foreign layer's length is not what its row says.
    #[error("has {found} bytes, its row says {expected}")]
    Length {
        /// Its length in bytes.
        found: u64,
        /// As its row says.
        expected: u64,
    },
    /// The foreign layer's checksum is not what its row says.
    #[error("checksum {found:016x}, its row says {expected:016x}")]
    Checksum {
        /// Of the bytes that are there.
        found: u64,
        /// As its row says.
        expected: u64,
    },
    /// A note: the file belongs to no row.
    #[error("belongs to nothing; the next start removes the directories of unknown filters")]
    Unclaimed,
    /// A note: the file was being written when its writer ended, or is being written now.
    #[error("an unfinished write, of no use unless a node is writing it now")]
    Unfinished,
    /// A note: the directory was only being made, and holds nothing.
    #[error("not written yet: the next start goes on making the directory")]
    Unbegun,
    /// A note: bytes that an earlier start cut off the log.
    #[error("kept from a torn log tail")]
    Kept,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Filters in the catalogue.
    pub filters: u64,
    /// Layer files.
    pub layers: u64,
    /// Foreign layers.
    pub foreign: u64,
    /// Tables in their file.
    pub tables: u64,
    /// Rows in it, tombstones included.
    pub rows: u64,
    /// Segments of the log.
    pub segments: u64,
    /// Whole frames of the log.
    pub frames: u64,
    /// Operations in them.
    pub operations: u64,
    /// Keys in those.
    pub keys: u64,
    /// Bytes of whole frames and of files of layers.
    pub bytes: u64,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Damage, at most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// What is worth knowing but harms nothing, at most [`FINDINGS_MAX`].
    pub notes: Vec<Finding>,
    /// What was read.
    pub counts: Counts,
    /// The directory was being changed; findings may be of files that were replaced meanwhile.
    pub changed: bool,
}

impl VerifyReport {
    /// Whether no damage was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Paths of the files that are missing.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let missing = |finding: &&Finding| matches!(finding.what, Fault::Missing);
        self.findings
            .iter()
            .filter(missing)
            .map(|finding| finding.file.as_str())
    }

    fn find(&mut self, file: impl Into<String>, offset: u64, what: Fault) {
        push(&mut self.findings, file.into(), offset, what);
    }

    fn note(&mut self, file: impl Into<String>, offset: u64, what: Fault) {
        push(&mut self.notes, file.into(), offset, what);
    }
}

fn push(into: &mut Vec<Finding>, file: String, offset: u64, what: Fault) {
    if into.len() < FINDINGS_MAX {
        into.push(Finding { file, offset, what });
    }
}

/// Checks the data directory on `disk`. An error is one of a directory that cannot be listed;
/// one of a file is a finding.
///
/// # Errors
/// When a directory cannot be listed.
pub fn verify(disk: &dyn Disk) -> io::Result<VerifyReport> {
    let mut attempt = 1;
    loop {
        let before = state(disk)?;
        let mut report = verify_once(disk)?;
        report.changed = state(disk)? != before;
        if report.is_clean() || !report.changed || attempt == ATTEMPTS_MAX {
            return Ok(report);
        }
        attempt += 1;
    }
}

/// What tells whether somebody writes: the manifest, the file of rows and the log's files. A filter's files change
/// without either only when they are written anew in place of whole ones.
pub(crate) fn state(disk: &dyn Disk) -> io::Result<(u64, Vec<String>, u64)> {
    let manifest = manifest::fingerprint(disk).unwrap_or(0);
    let rows = tables::head(disk).unwrap_or_default();
    let manifest = manifest ^ rows.map_or(0, |head| xxh3_64(&head));
    let segments: Vec<String> = disk.list(LOG_DIR)?;
    let last = segments
        .iter()
        .rfind(|name| log::segment::parse_name(name).is_some());
    let length = last.map_or(Ok(0), |name| {
        disk.open(&format!("{LOG_DIR}/{name}"), OpenMode::Read)?
            .len()
    });
    Ok((manifest, segments, length.unwrap_or(0)))
}

fn verify_once(disk: &dyn Disk) -> io::Result<VerifyReport> {
    let mut report = VerifyReport::default();
    let identity = match Identity::read(disk) {
        Ok(Some(identity)) => Some(identity),
        Ok(None) => {
            report.find(IDENTITY_FILE, 0, Fault::Missing);
            None
        }
        Err(error) => {
            report.find(IDENTITY_FILE, 0, Fault::Identity(error));
            None
        }
    };
    let manifest = match Manifest::read(disk) {
        Ok(Some(manifest)) => Some(manifest),
        Ok(None) => {
            let held = collections::held(disk).map_err(|(_, error)| error)?;
            if identity.is_some() && held == Held::Begun {
                report.note(MANIFEST_FILE, 0, Fault::Unbegun);
            } else {
                report.find(MANIFEST_FILE, 0, Fault::Missing);
            }
            None
        }
        Err(error) => {
            report.find(MANIFEST_FILE, 0, Fault::Manifest(error));
            None
        }
    };
    if let Err(error) = Manifest::read_before(disk) {
        report.find(BEFORE_FILE, 0, Fault::ManifestBefore(error));
    }
    let known = manifest.is_some();
    let manifest = manifest.unwrap_or_default();
    let origins = identity.zip(manifest.directory);
    if origins.is_some_and(|(identity, directory)| identity.origin != directory) {
        report.find(MANIFEST_FILE, 0, Fault::OtherDirectory);
    }
    let mut replay = Replay::new(&manifest, known, &mut report);
    let checked = log::verify_entries(disk, LOG_DIR, |place, entry| replay.entry(place, entry))?;
    let end = checked.held.map(|(_, to)| to);
    let replay = replay.end(checked.findings.iter().any(log::Finding::is_corruption));
    judge_log(
        checked,
        identity,
        known.then_some(manifest.position()),
        &mut report,
    );
    files::check(disk, &replay, known, &mut report)?;
    check_rows(disk, manifest.tables, end, &mut report);
    Ok(report)
}

/// Checks the file of rows, which has everything up to `expected` at least.
fn check_rows(
    disk: &dyn Disk,
    expected: Position,
    end: Option<Position>,
    report: &mut VerifyReport,
) {
    let inspected = match tables::inspect(disk) {
        Ok(Some(inspected)) => inspected,
        Ok(None) if expected == 0 => return,
        Ok(None) => return report.find(ROWS_FILE, 0, Fault::Missing),
        Err(error) => return report.find(ROWS_FILE, 0, Fault::Rows(error)),
    };
    report.counts.tables = inspected.tables;
    report.counts.rows = inspected.rows;
    report.counts.bytes += inspected.bytes;
    if let Some(reason) = inspected.damage {
        return report.find(ROWS_FILE, 0, Fault::RowsDamaged(reason));
    }
    let position = inspected.position;
    if position < expected {
        report.find(ROWS_FILE, 0, Fault::RowsBehind { position, expected });
    }
    if let Some(end) = end.filter(|end| position > *end) {
        report.find(ROWS_FILE, 0, Fault::RowsAhead { position, end });
    }
}

/// Holds what the log says of itself against identity and manifest.
fn judge_log(
    checked: Checked,
    identity: Option<Identity>,
    position: Option<Position>,
    report: &mut VerifyReport,
) {
    report.counts.segments = checked.segments as u64;
    report.counts.frames = checked.frames;
    report.counts.bytes += checked.bytes;
    let first = checked.held.map_or(0, |(from, _)| from);
    let first = log::segment::path(LOG_DIR, first);
    if let (Some(id), Some(identity)) = (checked.id, identity)
        && id != identity.origin.bytes()
    {
        report.find(first.clone(), 0, Fault::OtherDirectory);
    }
    match (position, checked.held) {
        (Some(position), Some((from, to))) if position < from || position > to => {
            report.find(first, 0, Fault::NotHeld { position, from, to });
        }
        (Some(_), None) => report.find(LOG_DIR, 0, Fault::Missing),
        _ => {}
    }
    for finding in checked.findings {
        let corruption = finding.is_corruption();
        let log::Finding { file, offset, what } = finding;
        if corruption {
            report.find(file, offset, Fault::Log(what));
        } else {
            report.note(file, offset, Fault::Log(what));
        }
    }
}

/// The catalogue as a start would find it, from the manifest and the log after it.
struct Replay<'a> {
    report: &'a mut VerifyReport,
    /// Findings that a hole in the log explains, when there is one.
    doubtful: Vec<Finding>,
    from: Position,
    /// Without a manifest nothing is known of the layers that the log names.
    known: bool,
    last: BTreeMap<(Stream, Origin), u64>,
    rows: Rows,
}

/// The rows, and which of their layers must have a file.
#[derive(Default)]
struct Rows {
    catalogue: Catalogue,
    written: BTreeSet<(FilterId, LayerId)>,
    /// The revisions that files have at least.
    revisions: BTreeMap<(FilterId, LayerId), u64>,
}

impl<'a> Replay<'a> {
    fn new(manifest: &Manifest, known: bool, report: &'a mut VerifyReport) -> Self {
        let mut rows = Rows {
            catalogue: Catalogue::from_rows(manifest.rows.iter().cloned(), []),
            ..Rows::default()
        };
        let revisions = manifest.file_revisions();
        rows.revisions
            .extend(revisions.map(|(filter, layer, revision)| ((filter, layer), revision)));
        for row in &manifest.rows {
            rows.written
                .extend(row.layers.iter().map(|layer| (row.id, layer.shape.id)));
        }
        Replay {
            report,
            doubtful: Vec::new(),
            from: manifest.position(),
            known,
            last: BTreeMap::new(),
            rows,
        }
    }

    fn entry(&mut self, place: Place<'_>, entry: &[u8]) {
        let found = EntryHeader::decode(entry)
            .and_then(|(header, bytes)| decode(bytes).map(|operation| (header, operation)));
        let (header, operation) = match found {
            Ok(found) => found,
            Err(error) => {
                return self
                    .report
                    .find(place.file, place.offset, Fault::Operation(error));
            }
        };
        self.report.counts.operations += 1;
        let Dot { origin, sequence } = header.dot;
        let before = self.last.insert((header.stream, origin), sequence);
        if let Some(before) = before.filter(|before| sequence <= *before) {
            let fault = Fault::Sequence {
                found: sequence,
                before,
            };
            self.report.find(place.file, place.offset, fault);
        }
        match operation {
            Operation::Insert(insert) => {
                self.report.counts.keys += insert.hashes().len() as u64;
                self.insert(place, &insert);
            }
            Operation::Catalogue(change) if place.position >= self.from => {
                self.rows.apply(&change);
            }
            _ => {}
        }
    }

    fn insert(&mut self, place: Place<'_>, insert: &Insert<'_>) {
        let Some(row) = self.rows.catalogue.row(insert.spent.filter) else {
            return;
        };
        let known = row.layer(insert.spent.layer).is_some();
        if !known && place.position >= self.from {
            let fault = Fault::UnknownLayer;
            push(
                &mut self.doubtful,
                place.file.to_owned(),
                place.offset,
                fault,
            );
        }
    }

    fn end(self, holes: bool) -> Rows {
        if !holes && self.known {
            let room = FINDINGS_MAX.saturating_sub(self.report.findings.len());
            self.report
                .findings
                .extend(self.doubtful.into_iter().take(room));
        }
        self.report.counts.filters = self.rows.catalogue.rows().len() as u64;
        self.rows
    }
}

impl Rows {
    fn apply(&mut self, change: &CatalogueChange) {
        if !self.catalogue.apply(change) {
            return;
        }
        match change {
            CatalogueChange::Import(row, _) => self
                .written
                .extend(row.layers.iter().map(|layer| (row.id, layer.shape.id))),
            CatalogueChange::AdoptLayer(epoch, layer, _) => {
                self.written.insert((epoch.filter, layer.shape.id));
            }
            // One that comes back has files of its own.
            CatalogueChange::Drop(epoch) => {
                self.revisions
                    .retain(|(filter, _), _| *filter != epoch.filter);
            }
            _ => {}
        }
    }
}
