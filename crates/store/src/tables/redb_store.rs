//! Records in a redb database.
//!
//! All commits are durable, and each has the position of the journal that it stands for. They are
//! rare: rows are gathered in memory, where the journal has them too, and written many at a time,
//! in order. Each records which pages are free, so that opening reads a few pages only, also after
//! a kill; every page is checked when it is read, see `checked_file.rs`.
//!
//! The database lies on the disk seam, so simulated disks cut it as they cut everything else.
//! It is made under another name and renamed, so a file of its name is a whole database.

use std::fmt;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, OnceLock};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition,
};

use super::checked_file::{CheckedFile, SUMS_FILE};
use super::inspection::Scratch;
use super::record::{Record, after_table, record_key};
use super::row_store::{Commit, Contents, Due, RowStore, RowStoreError, ScrubPlace, Visit};
use super::state::is_empty;
use super::{ROWS_FILE, TABLES_DIR};
use crate::disk::{Disk, DiskFile, OpenMode, is_full};

/// The file while it is made.
const NEW_FILE: &str = "tables/rows.redb.new";
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
/// When a record is due (u64, big endian), then its key.
const DUE: TableDefinition<'_, &[u8], ()> = TableDefinition::new("due");
const TABLES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tables");
const FLOORS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("floors");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const POSITION: &str = "position";
const KNOWLEDGE: &str = "knowledge";
const DAMAGE: &str = "damage";
const FORMAT: &str = "format";
const FORMAT_VERSION: u8 = 2;
/// While rows are missing: nobody is to read the file as if it were whole.
const DAMAGED_VERSION: u8 = 3;

/// Memory that pages may take which a scrub reads, in bytes.
const SCRUB_CACHE_BYTES: usize = 1 << 20;
/// A file of at most so many bytes is scrubbed as a whole, with what redb keeps in it for itself. Of a
/// larger one that is read by each start and commit.
const SCRUB_WHOLE_BYTES: u64 = 4 << 20;

/// An open database.
pub(super) struct RedbStore {
    database: Database,
    /// Its file; none where what is read has no checksums.
    file: Option<Arc<CheckedFile>>,
    damage: OnceLock<String>,
}

/// What is to be believed of a file when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// That what is read of it holds, since whoever reads it checks that.
    Pages,
    /// Nothing: all of it is read, and its checksums are worked out.
    Nothing,
}

/// The files that a database is to be made of.
pub(super) struct NewFiles {
    rows: Arc<dyn DiskFile>,
    sums: Arc<dyn DiskFile>,
}

/// A file of the disk seam, as redb wants it.
pub(super) struct Backend(pub(super) Arc<dyn DiskFile>);

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}

fn refused(error: impl Into<redb::Error>) -> RowStoreError {
    let error = error.into();
    match error {
        redb::Error::Corrupted(what) => RowStoreError::Corrupt {
            file: ROWS_FILE,
            what,
        },
        // It ends too early, or does not begin as a database does.
        redb::Error::Io(error) if is_of_contents(&error) => corrupt(&error.to_string()),
        redb::Error::Io(error) => io_refused(error),
        error @ (redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
            corrupt(&error.to_string())
        }
        error => RowStoreError::Refused {
            file: ROWS_FILE,
            what: error.to_string(),
        },
    }
}

fn is_of_contents(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    )
}

fn unreadable(error: DatabaseError) -> RowStoreError {
    refused(redb::Error::from(error))
}

pub(super) fn corrupt(what: &str) -> RowStoreError {
    RowStoreError::Corrupt {
        file: ROWS_FILE,
        what: what.to_owned(),
    }
}

pub(super) fn io_refused(error: io::Error) -> RowStoreError {
    let (file, what) = (ROWS_FILE, error.to_string());
    if is_full(&error) {
        RowStoreError::Full { file, what }
    } else {
        RowStoreError::Refused { file, what }
    }
}

fn place(due: u64, key: &[u8]) -> Vec<u8> {
    [&due.to_be_bytes()[..], key].concat()
}

impl RedbStore {
    /// Opens the database of a directory; none if it has none yet. Where it has no checksums that
    /// belong to it, or a page that is needed does not match, all of it is read: what was altered
    /// since it was written is found here and not served.
    /// `cache` is the memory that pages of it may take, in bytes.
    pub(super) fn open(disk: &dyn Disk, cache: usize) -> Result<Option<Self>, RowStoreError> {
        let file = match disk.open(ROWS_FILE, OpenMode::ReadWrite) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_refused(error)),
        };
        // What an earlier process failed to sync must not be taken for durable.
        file.sync()
            .and_then(|()| file.drop_cache())
            .map_err(io_refused)?;
        let checked = CheckedFile::load(disk, &file, OpenMode::ReadWrite);
        if let Some(checked) = checked.map_err(io_refused)? {
            match Self::over_checked(checked, cache) {
                Err(RowStoreError::Corrupt { .. }) => {}
                opened => return opened.map(Some),
            }
        }
        drop(Self::over(
            Backend(Arc::clone(&file)),
            cache,
            Trust::Nothing,
        )?);
        let checked = CheckedFile::build(disk, file).map_err(io_refused)?;
        Self::over_checked(checked, cache).map(Some)
    }

    /// The same, to read only: what redb would write to the file it keeps in memory.
    pub(super) fn open_unwritten(
        disk: &dyn Disk,
        cache: usize,
    ) -> Result<Option<Self>, RowStoreError> {
        let file = match disk.open(ROWS_FILE, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_refused(error)),
        };
        let length = file.len().map_err(io_refused)?;
        let checked = CheckedFile::load(disk, &file, OpenMode::Read);
        if let Some(checked) = checked.map_err(io_refused)? {
            let scratch = Scratch::new(Arc::new(checked), length);
            match Self::over(scratch, cache, Trust::Pages) {
                Err(RowStoreError::Corrupt { .. }) => {}
                opened => return opened.map(Some),
            }
        }
        Self::over(Scratch::new(file, length), cache, Trust::Nothing).map(Some)
    }

    fn over_checked(file: CheckedFile, cache: usize) -> Result<Self, RowStoreError> {
        let file = Arc::new(file);
        let backend = Backend(Arc::clone(&file) as _);
        let mut store = Self::over(backend, cache, Trust::Pages)?;
        store.file = Some(file);
        Ok(store)
    }

    /// Opens a database that exists.
    pub(super) fn over(
        backend: impl StorageBackend,
        cache: usize,
        trust: Trust,
    ) -> Result<Self, RowStoreError> {
        if backend.len().map_err(io_refused)? == 0 {
            return Err(corrupt("it is empty"));
        }
        let mut builder = Builder::new();
        builder
            .set_cache_size(cache)
            .set_check_integrity_on_open(trust == Trust::Nothing);
        let database = builder.create_with_backend(backend).map_err(unreadable)?;
        let store = Self::of(database, None);
        let state = store.begin_read()?.open_table(STATE).map_err(refused)?;
        let format = state.get(FORMAT).map_err(refused)?;
        match format.as_ref().map(|guard| guard.value()) {
            Some([FORMAT_VERSION | DAMAGED_VERSION]) => {}
            Some([version]) => {
                return Err(RowStoreError::Refused {
                    file: ROWS_FILE,
                    what: format!(
                        "has format version {version}, this program reads up to {DAMAGED_VERSION}"
                    ),
                });
            }
            _ => return Err(corrupt("it has no format version")),
        }
        drop((format, state));
        Ok(store)
    }

    fn of(database: Database, file: Option<Arc<CheckedFile>>) -> Self {
        RedbStore {
            database,
            file,
            damage: OnceLock::new(),
        }
    }

    /// Opens the files that a database is to be made of.
    pub(super) fn prepare(disk: &dyn Disk) -> io::Result<NewFiles> {
        disk.create_dir(TABLES_DIR)?;
        disk.sync_dir("")?;
        // Where a file of rows is to be replaced, its head does not fit these: all of it would be read.
        Ok(NewFiles {
            rows: disk.open(NEW_FILE, OpenMode::Create)?,
            sums: disk.open(SUMS_FILE, OpenMode::Create)?,
        })
    }

    /// Makes the database of the files prepared for it, with a first commit; it has its name once
    /// that is durable.
    pub(super) fn create(
        disk: &dyn Disk,
        files: NewFiles,
        cache: usize,
        first: &Commit<'_>,
    ) -> Result<Self, RowStoreError> {
        let file = CheckedFile::begin(files.rows, files.sums).map_err(io_refused)?;
        let file = Arc::new(file);
        let mut builder = Builder::new();
        builder.set_cache_size(cache);
        let database = builder
            .create_with_backend(Backend(Arc::clone(&file) as _))
            .map_err(unreadable)?;
        let store = Self::of(database, Some(file));
        store.commit(first)?;
        disk.rename(NEW_FILE, ROWS_FILE).map_err(io_refused)?;
        disk.sync_dir(TABLES_DIR).map_err(io_refused)?;
        Ok(store)
    }

    fn begin_read(&self) -> Result<redb::ReadTransaction, RowStoreError> {
        self.database.begin_read().map_err(refused)
    }

    /// Everything but the records.
    pub(super) fn contents(&self) -> Result<Contents, RowStoreError> {
        let read = self.begin_read()?;
        let all = |definition| {
            let table: redb::ReadOnlyTable<&[u8], &[u8]> =
                read.open_table(definition).map_err(refused)?;
            let mut pairs = Vec::new();
            for pair in table.iter().map_err(refused)? {
                let (name, bytes) = pair.map_err(refused)?;
                pairs.push((name.value().to_vec(), bytes.value().to_vec()));
            }
            Ok::<_, RowStoreError>(pairs)
        };
        let state = read.open_table(STATE).map_err(refused)?;
        let position = state.get(POSITION).map_err(refused)?;
        let position = position
            .as_ref()
            .and_then(|guard| guard.value().try_into().ok());
        let position = position.ok_or_else(|| corrupt("it has no position"))?;
        let knowledge = state.get(KNOWLEDGE).map_err(refused)?;
        let damage = state.get(DAMAGE).map_err(refused)?;
        Ok(Contents {
            position: u64::from_le_bytes(position),
            tables: all(TABLES)?,
            floors: all(FLOORS)?,
            knowledge: knowledge.map(|guard| guard.value().to_vec()),
            damage: damage.map(|guard| guard.value().to_vec()),
        })
    }
}

fn record(bytes: &[u8]) -> Result<Record, RowStoreError> {
    Record::decode(bytes).ok_or_else(|| corrupt("a record does not decode"))
}

impl RedbStore {
    fn read_records(&self, keys: &[&[u8]]) -> Result<Vec<Option<Record>>, RowStoreError> {
        let records = self.begin_read()?.open_table(RECORDS).map_err(refused)?;
        let get = |key: &&[u8]| match records.get(*key).map_err(refused)? {
            Some(guard) => record(guard.value()).map(Some),
            None => Ok(None),
        };
        keys.iter().map(get).collect()
    }

    fn visit_records(
        &self,
        begin: Bound<&[u8]>,
        before: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), RowStoreError> {
        let records = self.begin_read()?.open_table(RECORDS).map_err(refused)?;
        if is_empty(begin, before) {
            return Ok(());
        }
        let range = (begin, before.map_or(Bound::Unbounded, Bound::Excluded));
        for pair in records.range::<&[u8]>(range).map_err(refused)? {
            let (key, bytes) = pair.map_err(refused)?;
            if let ControlFlow::Break(()) = visit(key.value(), record(bytes.value())?) {
                break;
            }
        }
        Ok(())
    }

    fn read_due(
        &self,
        after: &[u8],
        horizon: u64,
        count: usize,
    ) -> Result<Vec<Due>, RowStoreError> {
        let table = self.begin_read()?.open_table(DUE).map_err(refused)?;
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let mut due = Vec::new();
        for pair in table.range::<&[u8]>(range).map_err(refused)?.take(count) {
            let (place, ()) = pair.map(|(place, _)| (place, ())).map_err(refused)?;
            let Some((at, key)) = place.value().split_first_chunk() else {
                return Err(corrupt("an entry of what is due is cut short"));
            };
            if u64::from_be_bytes(*at) > horizon {
                break;
            }
            due.push(Due {
                place: place.value().to_vec(),
                key: key.to_vec(),
            });
        }
        Ok(due)
    }

    fn write(&self, commit: &Commit<'_>) -> Result<(), RowStoreError> {
        let mut write = self.database.begin_write().map_err(refused)?;
        // What a start needs to go on from this commit without reading the whole file.
        write.set_quick_repair(true);
        {
            let mut records = write.open_table(RECORDS).map_err(refused)?;
            let mut due = write.open_table(DUE).map_err(refused)?;
            for name in commit.cleared {
                let (from, to) = (record_key(name, b""), after_table(name));
                let all = records.extract_from_if::<&[u8], _>(&from[..]..&to[..], |_, _| true);
                for removed in all.map_err(refused)? {
                    let (key, old) = removed.map_err(refused)?;
                    if let Some(at) = record(old.value())?.due() {
                        due.remove(&place(at, key.value())[..]).map_err(refused)?;
                    }
                }
            }
            for (key, new) in commit.records {
                let old = match new {
                    Some(new) => records.insert(&key[..], &new.encode()[..]),
                    None => records.remove(&key[..]),
                };
                let old = old.map_err(refused)?;
                let old_due = match old.as_ref() {
                    Some(old) => record(old.value())?.due(),
                    None => None,
                };
                let new_due = new.as_ref().and_then(Record::due);
                if old_due == new_due {
                    continue;
                }
                if let Some(at) = old_due {
                    due.remove(&place(at, key)[..]).map_err(refused)?;
                }
                if let Some(at) = new_due {
                    due.insert(&place(at, key)[..], ()).map_err(refused)?;
                }
            }
            for (definition, pairs) in [(TABLES, commit.tables), (FLOORS, commit.floors)] {
                let mut table = write.open_table(definition).map_err(refused)?;
                for (name, bytes) in pairs {
                    table.insert(&name[..], &bytes[..]).map_err(refused)?;
                }
            }
            let mut state = write.open_table(STATE).map_err(refused)?;
            let position = commit.position.to_le_bytes();
            state.insert(POSITION, &position[..]).map_err(refused)?;
            let format = match commit.damage {
                Some(damage) => {
                    state.insert(DAMAGE, damage).map_err(refused)?;
                    DAMAGED_VERSION
                }
                None => {
                    state.remove(DAMAGE).map_err(refused)?;
                    FORMAT_VERSION
                }
            };
            state.insert(FORMAT, &[format][..]).map_err(refused)?;
            if let Some(knowledge) = commit.knowledge {
                state.insert(KNOWLEDGE, knowledge).map_err(refused)?;
            }
        }
        write.commit().map_err(refused)
    }
}

impl RedbStore {
    /// Notes that the file is damaged, once and for all: after that redb answers nothing more, and
    /// does not say why.
    fn noted<T>(&self, result: Result<T, RowStoreError>) -> Result<T, RowStoreError> {
        result.map_err(|error| {
            if let RowStoreError::Corrupt { what, .. } = &error {
                self.damage.get_or_init(|| what.clone());
            }
            self.damage.get().map_or(error, |what| corrupt(what))
        })
    }

    /// Reads on from the disk, as a database of its own: what the other one has in memory says
    /// nothing about the disk.
    fn scrub_from(
        &self,
        from: &ScrubPlace,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<ScrubPlace>, RowStoreError> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let begins = *from == ScrubPlace::Records(Vec::new());
        if begins {
            file.drop_cache().map_err(io_refused)?;
        }
        let length = file.len().map_err(io_refused)?;
        let scratch = Scratch::new(Arc::clone(file) as _, length);
        let trust = match begins && length <= SCRUB_WHOLE_BYTES {
            true => Trust::Nothing,
            false => Trust::Pages,
        };
        let store = Self::over(scratch, SCRUB_CACHE_BYTES, trust)?;
        if begins {
            store.contents()?;
        }
        let mut next = None;
        let mut place = from.clone();
        if let ScrubPlace::Records(after) = from {
            let begin = match after.is_empty() {
                true => Bound::Unbounded,
                false => Bound::Excluded(&after[..]),
            };
            store.visit_records(begin, None, &mut |key, record| {
                let bytes = key.len() + record.row.values().map_or(0, <[u8]>::len);
                if go_on(bytes) {
                    return ControlFlow::Continue(());
                }
                next = Some(ScrubPlace::Records(key.to_vec()));
                ControlFlow::Break(())
            })?;
            place = ScrubPlace::Due(Vec::new());
        }
        if let (None, ScrubPlace::Due(after)) = (&next, place) {
            let due = store.begin_read()?.open_table(DUE).map_err(refused)?;
            let range = (Bound::Excluded(&after[..]), Bound::Unbounded);
            for pair in due.range::<&[u8]>(range).map_err(refused)? {
                let (place, _) = pair.map_err(refused)?;
                if !go_on(place.value().len()) {
                    next = Some(ScrubPlace::Due(place.value().to_vec()));
                    break;
                }
            }
        }
        Ok(next)
    }
}

impl RowStore for RedbStore {
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Record>>, RowStoreError> {
        self.noted(self.read_records(keys))
    }

    fn visit(
        &self,
        begin: Bound<&[u8]>,
        before: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), RowStoreError> {
        self.noted(self.visit_records(begin, before, visit))
    }

    fn due(&self, after: &[u8], horizon: u64, count: usize) -> Result<Vec<Due>, RowStoreError> {
        self.noted(self.read_due(after, horizon, count))
    }

    fn commit(&self, commit: &Commit<'_>) -> Result<(), RowStoreError> {
        self.noted(self.write(commit))
    }

    fn scrub(
        &self,
        from: &ScrubPlace,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<ScrubPlace>, RowStoreError> {
        self.noted(self.scrub_from(from, go_on))
    }

    fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }
}
