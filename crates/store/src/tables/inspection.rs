//! Looking at the file of rows from outside, also while a node writes it.
//!
//! redb copies what it changes: the pages of the last commit stay as they are until the next one
//! is in the file's head. So a copy between two readings of the head that are the same holds that
//! commit whole. Pages of a commit that was being made are in it as after a power cut.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, PoisonError};

use grapevine_core::table::validate_key;
use redb::StorageBackend;

use super::checked_file::CheckedFile;
use super::record::split_key;
use super::redb_store::{RedbStore, Trust, corrupt};
use super::row_store::{RowStore, RowStoreError};
use super::state::{Counts, State};
use super::{ROWS_FILE, TABLES_DIR};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::log::{Position, copy_file};

/// What tells one commit from the next, in bytes from the file's beginning.
const HEAD_BYTES: usize = 4096;
/// Memory that pages of the file may take, in bytes.
const CACHE_BYTES: usize = 128 << 20;
/// How often the file is copied while it changes.
const COPIES_MAX: usize = 32;

/// What is in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inspected {
    /// What changed rows before this position of the journal is in.
    pub(crate) position: Position,
    /// Tables.
    pub(crate) tables: u64,
    /// Rows, tombstones included.
    pub(crate) rows: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Why rows are missing in it, if it says so.
    pub(crate) damage: Option<String>,
}

/// The head of the file; none if there is no file.
pub(crate) fn head(disk: &dyn Disk) -> io::Result<Option<Vec<u8>>> {
    match disk.open(ROWS_FILE, OpenMode::Read) {
        Ok(file) => head_of(&*file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn head_of(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let length = file.len()?.min(HEAD_BYTES as u64);
    let mut head = vec![0; usize::try_from(length).unwrap_or(HEAD_BYTES)];
    file.read_at(0, &mut head)?;
    Ok(head)
}

/// Copies the file, if there is one; gives the bytes written.
///
/// # Errors
/// When a disk refuses, or the file changed each time.
pub(crate) fn copy_rows(source: &dyn Disk, target: &dyn Disk) -> io::Result<u64> {
    let mut bytes = 0;
    for _ in 0..COPIES_MAX {
        let Some(before) = head(source)? else {
            return Ok(bytes);
        };
        let file = source.open(ROWS_FILE, OpenMode::Read)?;
        target.create_dir(TABLES_DIR)?;
        bytes += match copy_file(&*file, target, ROWS_FILE) {
            Ok(bytes) => bytes,
            // redb gives room back: a commit cut the file behind what was read of its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
            Err(error) => return Err(error),
        };
        target.sync_dir(TABLES_DIR)?;
        target.sync_dir("")?;
        if head_of(&*file)? == before {
            return Ok(bytes);
        }
    }
    Err(io::Error::other("the file changed each time it was copied"))
}

/// Reads all of the file and changes nothing; none if there is no file.
///
/// # Errors
/// When it does not hold.
pub(crate) fn inspect(disk: &dyn Disk) -> Result<Option<Inspected>, RowStoreError> {
    let refused = |error: io::Error| RowStoreError::Refused {
        file: ROWS_FILE,
        what: error.to_string(),
    };
    let file = match disk.open(ROWS_FILE, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    let bytes = file.len().map_err(refused)?;
    // Where there are checksums a node goes by them, also for bytes that redb passes over.
    let checked = CheckedFile::load(disk, &file, OpenMode::Read).map_err(refused)?;
    let file = checked.map_or(file, |checked| Arc::new(checked) as _);
    let store = RedbStore::over(Scratch::new(file, bytes), CACHE_BYTES, Trust::Nothing)?;
    let mut counts: BTreeMap<Vec<u8>, Counts> = BTreeMap::new();
    let mut wrong = None;
    let mut rows = 0;
    store.visit(Bound::Unbounded, None, &mut |key, record| {
        let Some((name, row_key)) = split_key(key) else {
            wrong = Some("a record has no table");
            return ControlFlow::Break(());
        };
        if validate_key(row_key).is_err() || record.row.validate().is_err() {
            wrong = Some("a record is no row");
            return ControlFlow::Break(());
        }
        rows += 1;
        *counts.entry(name.to_vec()).or_default().of(&record) += 1;
        ControlFlow::Continue(())
    })?;
    if let Some(what) = wrong {
        return Err(corrupt(what));
    }
    let state = State::load(store.contents()?, Arc::new(store))?;
    for (name, table) in &state.tables {
        if counts.remove(name).unwrap_or_default() != table.counts {
            return Err(corrupt("a table has more or fewer rows than it says"));
        }
    }
    if !counts.is_empty() {
        return Err(corrupt("rows belong to a table that is not there"));
    }
    Ok(Some(Inspected {
        position: state.position,
        tables: state.table_counts().0 as u64,
        rows,
        bytes,
        damage: state
            .mending
            .damage
            .map(|damage| damage.reason().to_owned()),
    }))
}

/// A file that is only read; what is written to it is kept in memory.
pub(super) struct Scratch {
    file: Arc<dyn DiskFile>,
    written: Mutex<Written>,
}

struct Written {
    length: u64,
    /// Of the file, what still counts.
    from_file: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

/// Bytes of a page.
pub(super) const PAGE_BYTES: u64 = 4096;

impl Scratch {
    pub(super) fn new(file: Arc<dyn DiskFile>, length: u64) -> Self {
        Scratch {
            file,
            written: Mutex::new(Written {
                length,
                from_file: length,
                pages: BTreeMap::new(),
            }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as it is now.
    fn page(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(page) = written.pages.get(&number) {
            return Ok(page.clone());
        }
        let start = number * PAGE_BYTES;
        let mut page = vec![0; PAGE_BYTES as usize];
        let held = written.from_file.saturating_sub(start).min(PAGE_BYTES);
        self.file.read_at(start, &mut page[..held as usize])?;
        Ok(page)
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

/// The pages that a range touches: number, where in the page it begins, how many bytes.
pub(super) fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let (number, within) = (at / PAGE_BYTES, at % PAGE_BYTES);
            let count = (PAGE_BYTES - within).min(end - at);
            at += count;
            (number, within as usize, count as usize)
        })
    })
}

impl StorageBackend for Scratch {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > written.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        for (number, within, count) in pieces(offset, out.len()) {
            let page = self.page(&written, number)?;
            out[done..done + count].copy_from_slice(&page[within..within + count]);
            done += count;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        if len < written.length {
            // What is cut off and comes back is zeros.
            written.from_file = written.from_file.min(len);
            written.pages.retain(|number, _| number * PAGE_BYTES < len);
            let (number, within) = (len / PAGE_BYTES, (len % PAGE_BYTES) as usize);
            if let Some(page) = written.pages.get_mut(&number) {
                page[within..].fill(0);
            }
        }
        written.length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        let mut done = 0;
        for (number, within, count) in pieces(offset, data.len()) {
            let mut page = self.page(&written, number)?;
            page[within..within + count].copy_from_slice(&data[done..done + count]);
            written.pages.insert(number, page);
            done += count;
        }
        written.length = written.length.max(offset + data.len() as u64);
        Ok(())
    }
}
