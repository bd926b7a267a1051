//! The file of rows, every page of which is checked when it is read.
//!
//! redb verifies its own checksums only where it reads the whole file, and takes a page for good
//! otherwise: it would serve what a damaged page holds, or panic. So a file beside that of rows has
//! a checksum for each page. A page that does not match is an error of the read, before redb sees
//! a byte of it.
//!
//! ```text
//! "GrpvnSum" | version u32 | 0 u32 | head u64 | head before u64 | checksum u64 | zeros up to 4096
//! | checksum of page 0 u64 | of page 1 | …
//! ```
//! Page 0 is redb's head, the only page that is overwritten in place. It has checksums of its own;
//! here it tells whether the two files belong together: it is the head that is noted, or the one
//! before, as each is noted before it is written. A copy put in place of the rows, or a program
//! that knows no checksums, leaves another head. The checksums are of no use then, and a start
//! reads the whole file once and makes them anew.
//!
//! Other pages of the last commit never change in place, so checksums of a commit under way do not
//! meet them. They are durable before redb writes the head that makes their pages count: each sync
//! of the rows syncs them too. After a crash, pages that no commit holds may differ from their
//! checksums; nobody reads these.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use super::inspection::{PAGE_BYTES, pieces};
use crate::disk::{Disk, DiskFile, OpenMode};

/// The file of checksums.
pub(crate) const SUMS_FILE: &str = "tables/rows.sums";
const MAGIC: &[u8; 8] = b"GrpvnSum";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 40;
const PAGE: usize = PAGE_BYTES as usize;
/// Checksums that are written at once.
const SUMS_PER_BLOCK: usize = PAGE / 8;
/// Pages that are read at once while checksums are made.
const PAGES_PER_READ: usize = 256;

/// A file of rows with the checksums of its pages.
pub(super) struct CheckedFile {
    rows: Arc<dyn DiskFile>,
    file: Arc<dyn DiskFile>,
    sums: Mutex<Sums>,
    /// The checksum of zeros, which counts as 0: a file that grows needs no checksums.
    zeros: u64,
}

#[derive(Default)]
struct Sums {
    pages: Vec<u64>,
    /// Blocks of checksums that are not in their file.
    dirty: BTreeSet<usize>,
    head: u64,
    /// Something in their file is not synced.
    unsynced: bool,
}

impl Sums {
    fn set(&mut self, page: u64, sum: u64) {
        let page = page as usize;
        if page >= self.pages.len() {
            self.resize(page + 1);
        }
        self.pages[page] = sum;
        self.dirty.insert(page / SUMS_PER_BLOCK);
    }

    fn resize(&mut self, pages: usize) {
        // What is cut off and comes back is zeros.
        let changed = self.pages.len().min(pages)..pages.max(self.pages.len());
        self.pages.resize(pages, 0);
        let blocks = changed.map(|page| page / SUMS_PER_BLOCK);
        self.dirty.extend(blocks);
        let last = pages.div_ceil(SUMS_PER_BLOCK);
        self.dirty.retain(|block| *block < last);
    }
}

fn header(head: u64, before: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&head.to_le_bytes());
    header[24..32].copy_from_slice(&before.to_le_bytes());
    let checksum = xxh3_64(&header[..32]);
    header[32..].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn pages_of(length: u64) -> usize {
    length.div_ceil(PAGE_BYTES) as usize
}

/// Bytes of a file with the checksums of that many pages.
fn sums_bytes(pages: usize) -> u64 {
    ((1 + pages.div_ceil(SUMS_PER_BLOCK)) * PAGE) as u64
}

/// A checksum of the head, whatever of it there is.
fn head_of(rows: &dyn DiskFile) -> io::Result<u64> {
    let mut head = [0; PAGE];
    let held = rows.len()?.min(PAGE_BYTES) as usize;
    rows.read_at(0, &mut head[..held])?;
    Ok(xxh3_64(&head[..held]))
}

impl CheckedFile {
    fn new(rows: Arc<dyn DiskFile>, file: Arc<dyn DiskFile>, sums: Sums) -> Self {
        CheckedFile {
            rows,
            file,
            sums: Mutex::new(sums),
            zeros: xxh3_64(&[0; PAGE]),
        }
    }

    /// A file of rows with the checksums that were kept of it; none where there are none that belong
    /// to it.
    pub(super) fn load(
        disk: &dyn Disk,
        rows: &Arc<dyn DiskFile>,
        mode: OpenMode,
    ) -> io::Result<Option<Self>> {
        let file = match disk.open(SUMS_FILE, mode) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let count = pages_of(rows.len()?);
        if file.len()? < sums_bytes(count) {
            return Ok(None);
        }
        let mut found = [0; HEADER_BYTES];
        file.read_at(0, &mut found)?;
        let number = |at: usize| {
            let bytes = found[at..at + 8].try_into();
            u64::from_le_bytes(bytes.expect("eight bytes"))
        };
        let (head, before) = (number(16), number(24));
        let now = head_of(&**rows)?;
        if found != header(head, before) || (now != head && now != before) {
            return Ok(None);
        }
        let mut sums = Sums {
            head: now,
            ..Sums::default()
        };
        sums.pages.reserve_exact(count);
        let mut block = vec![0; PAGE];
        for number in 0..count.div_ceil(SUMS_PER_BLOCK) {
            file.read_at(((1 + number) * PAGE) as u64, &mut block)?;
            let room = count - sums.pages.len();
            let entries = block.as_chunks::<8>().0.iter().take(room);
            sums.pages
                .extend(entries.map(|bytes| u64::from_le_bytes(*bytes)));
        }
        Ok(Some(Self::new(Arc::clone(rows), file, sums)))
    }

    /// The checksums of a file that is being made, in a file that was opened for them.
    pub(super) fn begin(rows: Arc<dyn DiskFile>, file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let checked = Self::new(rows, file, Sums::default());
        checked.note_head(&mut checked.lock(), head_of(&*checked.rows)?)?;
        Ok(checked)
    }

    /// Makes the checksums of a file that was found to hold.
    pub(super) fn build(disk: &dyn Disk, rows: Arc<dyn DiskFile>) -> io::Result<Self> {
        let checked = Self::new(
            rows,
            disk.open(SUMS_FILE, OpenMode::Create)?,
            Sums::default(),
        );
        let length = checked.rows.len()?;
        checked.file.set_len(sums_bytes(pages_of(length)))?;
        let mut pages = vec![0; PAGES_PER_READ * PAGE];
        let mut offset = 0;
        while offset < length {
            let count = (length - offset).min(pages.len() as u64) as usize;
            checked.rows.read_at(offset, &mut pages[..count])?;
            pages[count..].fill(0);
            let mut sums = checked.lock();
            for (at, page) in pages[..count.next_multiple_of(PAGE)]
                .chunks(PAGE)
                .enumerate()
            {
                sums.set(offset / PAGE_BYTES + at as u64, checked.sum(page));
            }
            offset += count as u64;
        }
        checked.write_sums(&mut checked.lock())?;
        checked.file.sync()?;
        // They count once they are all there.
        checked.note_head(&mut checked.lock(), head_of(&*checked.rows)?)?;
        checked.sync()?;
        disk.sync_dir(super::TABLES_DIR)?;
        Ok(checked)
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sum(&self, page: &[u8]) -> u64 {
        xxh3_64(page) ^ self.zeros
    }

    /// A page with zeros behind the end of the file.
    fn page(&self, number: u64) -> io::Result<[u8; PAGE]> {
        let mut page = [0; PAGE];
        let start = number * PAGE_BYTES;
        let held = self.rows.len()?.saturating_sub(start).min(PAGE_BYTES);
        self.rows.read_at(start, &mut page[..held as usize])?;
        Ok(page)
    }

    fn note_head(&self, sums: &mut Sums, head: u64) -> io::Result<()> {
        sums.unsynced = true;
        self.file.write_at(0, &header(head, sums.head))?;
        sums.head = head;
        Ok(())
    }

    fn write_sums(&self, sums: &mut Sums) -> io::Result<()> {
        let mut block = [0; PAGE];
        for number in std::mem::take(&mut sums.dirty) {
            let first = number * SUMS_PER_BLOCK;
            let last = sums.pages.len().min(first + SUMS_PER_BLOCK);
            block.fill(0);
            let entries = block.as_chunks_mut::<8>().0.iter_mut();
            for (entry, sum) in entries.zip(&sums.pages[first..last]) {
                *entry = sum.to_le_bytes();
            }
            self.file.write_at(((1 + number) * PAGE) as u64, &block)?;
            sums.unsynced = true;
        }
        Ok(())
    }
}

impl fmt::Debug for CheckedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedFile")
    }
}

impl DiskFile for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        self.rows.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.rows.read_at(offset, buffer)?;
        let mut done = 0;
        for (number, within, count) in pieces(offset, buffer.len()) {
            let piece = &buffer[done..done + count];
            done += count;
            if number == 0 {
                continue;
            }
            let found = match (within, count) {
                (0, PAGE) => self.sum(piece),
                _ => self.sum(&self.page(number)?),
            };
            let expected = self.lock().pages.get(number as usize).copied();
            if found != expected.unwrap_or_default() {
                let at = number * PAGE_BYTES;
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the page at offset {at} does not match its checksum"),
                ));
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut sums = self.lock();
        let mut done = 0;
        for (number, within, count) in pieces(offset, bytes.len()) {
            let piece = &bytes[done..done + count];
            done += count;
            let mut page = [0; PAGE];
            if count < PAGE {
                page = self.page(number)?;
            }
            page[within..within + count].copy_from_slice(piece);
            if number == 0 {
                self.note_head(&mut sums, xxh3_64(&page))?;
            } else {
                sums.set(number, self.sum(&page));
            }
        }
        drop(sums);
        self.rows.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut sums = self.lock();
        let before = self.rows.len()?;
        let pages = pages_of(len);
        // After a kill in between, the rows are not longer than their checksums.
        if self.file.len()? < sums_bytes(pages) {
            self.file.set_len(sums_bytes(pages))?;
            sums.unsynced = true;
        }
        sums.resize(pages);
        self.rows.set_len(len)?;
        if before.min(len) < PAGE_BYTES {
            let head = head_of(&*self.rows)?;
            self.note_head(&mut sums, head)?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        {
            let mut sums = self.lock();
            self.write_sums(&mut sums)?;
            if std::mem::take(&mut sums.unsynced) {
                self.file.sync()?;
            }
        }
        self.rows.sync()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.rows.drop_cache()
    }
}
