//! The files of filters, held against the rows that name them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, LegacyShape};
use grapevine_core::filter::parameters::LayerShape;
use grapevine_core::filter::rights::Rights;
use xxhash_rust::xxh3::Xxh3Default;

use super::{Fault, Rows, VerifyReport};
use crate::disk::Disk;
use crate::filters::{FILTERS_DIR, FileReader, layer_path, legacy_path};
use crate::journal::LOG_DIR;
use crate::layer_file::LayerFileError;
use crate::log::{REACHED_FILE, segment};
use crate::tables::{ROWS_FILE, SET_ASIDE_PREFIX, SUMS_FILE, TABLES_DIR};

const READ_BYTES: usize = 1 << 20;
/// How files end that are not yet in their place.
const UNFINISHED: &str = ".new";
/// How the copies of torn log tails begin.
const KEPT: &str = "cut-";

/// Checks every file that a row names, and notes those that none does. Without a manifest
/// (`known` is false) no file can be said to belong to nothing.
pub(super) fn check(
    disk: &dyn Disk,
    rows: &Rows,
    known: bool,
    report: &mut VerifyReport,
) -> io::Result<()> {
    let mut named = BTreeMap::new();
    for row in rows.catalogue.rows() {
        named.insert(row.id.to_string(), check_row(disk, row, rows, report)?);
    }
    for name in disk.list("")? {
        if name.ends_with(UNFINISHED) {
            report.note(name, 0, Fault::Unfinished);
        }
    }
    for name in disk.list(TABLES_DIR)? {
        let path = format!("{TABLES_DIR}/{name}");
        match path.as_str() {
            ROWS_FILE | SUMS_FILE => {}
            path if path.ends_with(UNFINISHED) => report.note(path, 0, Fault::Unfinished),
            path if name.starts_with(SET_ASIDE_PREFIX) => report.note(path, 0, Fault::SetAside),
            path => report.note(path, 0, Fault::Unclaimed),
        }
    }
    for name in disk.list(LOG_DIR)? {
        let what = match name.as_str() {
            name if name.ends_with(UNFINISHED) => Fault::Unfinished,
            name if name.starts_with(KEPT) => Fault::Kept,
            name if segment::parse_name(name).is_some() => continue,
            REACHED_FILE => continue,
            _ => Fault::Unclaimed,
        };
        report.note(format!("{LOG_DIR}/{name}"), 0, what);
    }
    if !known {
        return Ok(());
    }
    for name in disk.list(FILTERS_DIR)? {
        let directory = format!("{FILTERS_DIR}/{name}");
        let Some(files) = named.get(&name) else {
            report.note(directory, 0, Fault::Unclaimed);
            continue;
        };
        for name in disk.list(&directory)? {
            let path = format!("{directory}/{name}");
            if path.ends_with(UNFINISHED) {
                report.note(path, 0, Fault::Unfinished);
            } else if !files.contains(&path) {
                report.note(path, 0, Fault::Unclaimed);
            }
        }
    }
    Ok(())
}

/// Checks the files of one filter; gives the paths that are its own.
fn check_row(
    disk: &dyn Disk,
    row: &FilterRow,
    rows: &Rows,
    report: &mut VerifyReport,
) -> io::Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for LayerRow { shape, .. } in &row.layers {
        let path = layer_path(row.id, shape.id);
        // One that the log opened has no file before the next snapshot.
        if rows.written.contains(&(row.id, shape.id)) || disk.exists(&path)? {
            let expected = rows.revisions.get(&(row.id, shape.id)).copied();
            check_layer(
                disk,
                &path,
                row.id,
                shape,
                expected.unwrap_or_default(),
                report,
            );
        }
        files.insert(path);
    }
    for shape in &row.legacy {
        let path = legacy_path(row.id, shape.index);
        check_foreign(disk, &path, shape, report);
        files.insert(path);
    }
    Ok(files)
}

fn check_layer(
    disk: &dyn Disk,
    path: &str,
    filter: FilterId,
    shape: &LayerShape,
    revision: u64,
    report: &mut VerifyReport,
) {
    match read_layer(disk, path, filter, shape, revision) {
        Ok(bytes) => {
            report.counts.layers += 1;
            report.counts.bytes += bytes;
        }
        Err(LayerFileError::Corrupt { offset, what }) => {
            report.find(path, offset, Fault::Corrupt(what));
        }
        Err(LayerFileError::Io(error)) => report.find(path, 0, unreadable(error)),
        Err(error) => report.find(path, 0, Fault::Layer(error)),
    }
}

/// Reads all of a layer file; gives its length.
fn read_layer(
    disk: &dyn Disk,
    path: &str,
    filter: FilterId,
    shape: &LayerShape,
    expected: u64,
) -> Result<u64, LayerFileError> {
    let reader = FileReader::open(disk, path)?.layer()?;
    let head = reader.head();
    let mut rights = Rights::new(shape.capacity, shape.id.creator);
    let related = rights.merge(&head.rights).is_ok();
    if head.filter != filter || head.shape != *shape || !related {
        return Err(LayerFileError::Misplaced);
    }
    if head.revision < expected {
        let found = head.revision;
        return Err(LayerFileError::Older { found, expected });
    }
    let end = reader.blocks(|_, _| {})?;
    end.ensure_end()?;
    Ok(end.length())
}

fn check_foreign(disk: &dyn Disk, path: &str, shape: &LegacyShape, report: &mut VerifyReport) {
    let read = || -> io::Result<(u64, u64)> {
        let mut file = FileReader::open(disk, path)?;
        let mut hash = Xxh3Default::new();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok((file.length(), hash.digest())),
                length => hash.update(&buffer[..length]),
            }
        }
    };
    match read() {
        Ok((found, _)) if found != shape.bytes => {
            let expected = shape.bytes;
            report.find(path, found.min(expected), Fault::Length { found, expected });
        }
        Ok((_, found)) if found != shape.checksum => {
            let expected = shape.checksum;
            report.find(path, 0, Fault::Checksum { found, expected });
        }
        Ok((bytes, _)) => {
            report.counts.foreign += 1;
            report.counts.bytes += bytes;
        }
        Err(error) => report.find(path, 0, unreadable(error)),
    }
}

fn unreadable(error: io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::NotFound => Fault::Missing,
        _ => Fault::Unreadable(error),
    }
}
