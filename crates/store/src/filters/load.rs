//! Bits between memory and files: loading, unloading, writing the files of layers.

use std::io::{self, BufWriter, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, LegacyShape, Storage};
use grapevine_core::filter::legacy::BloomdLayer;
use grapevine_core::filter::parameters::LayerShape;
use grapevine_core::filter::{Layer, Place};
use xxhash_rust::xxh3::xxh3_64;

use super::Filters;
use super::apart::carry_over;
use super::error::{FilterError, LoadError};
use super::handle::{
    Bits, FILTERS_DIR, Handle, Loaded, Summary, directory, layer_path, legacy_path, lock,
};
use super::keys::LOAD_ATTEMPTS_MAX;
use super::memory::{Reservation, bytes_of};
use crate::disk::{Disk, DiskFile, OpenMode, is_passing, parent, read_file};
use crate::layer_file::{
    LayerFileError, LayerHead, LayerReader, MergeError, Skip, write_layer, write_rights,
};

/// Buffer between a layer and its file, in bytes.
const FILE_BUFFER_BYTES: usize = 1 << 20;

impl Filters {
    /// Reads a filter's bits into memory, unloading others where need be. A corrupt file makes it
    /// damaged until it is dropped.
    pub fn load(&self, handle: &Handle) -> Result<(), FilterError> {
        for _ in 0..LOAD_ATTEMPTS_MAX {
            match &*handle.bits_read() {
                Bits::Loaded(_) => return Ok(()),
                Bits::Damaged(reason) => return Err(FilterError::Damaged(Arc::clone(reason))),
                Bits::Gone => return Err(FilterError::NotFound),
                Bits::Unloaded | Bits::Apart(_) => {}
            }
            let bytes = bytes_of(&self.row(handle)?);
            let room = self.room(bytes, 0, handle.storage)?;
            let _loading = self.ring.loading();
            if self.load_into(handle, room)? {
                return Ok(());
            }
        }
        Err(self.crowded())
    }

    /// Reads the bits into the memory that is taken for them; false if that is not the filter's
    /// size any more.
    fn load_into(&self, handle: &Handle, room: Reservation) -> Result<bool, FilterError> {
        // A snapshot may be merging what waits into the files.
        let alone = handle.is_apart().then(|| self.alone());
        let mut bits = handle.bits_write();
        let apart = match &*bits {
            Bits::Loaded(_) => return Ok(true),
            Bits::Damaged(reason) => return Err(FilterError::Damaged(Arc::clone(reason))),
            Bits::Gone => return Err(FilterError::NotFound),
            Bits::Unloaded => None,
            Bits::Apart(_) if alone.is_none() => return Ok(false),
            Bits::Apart(apart) => Some(Arc::clone(&apart.filter)),
        };
        let row = self.row(handle)?;
        let layers = apart.as_ref().map_or(0, |apart| apart.layers().len());
        if bytes_of(&row) > room.bytes() || layers > row.layers.len() {
            return Ok(false);
        }
        match self.read_bits(handle, &row, room) {
            Ok(loaded) => {
                if let Some(apart) = apart {
                    carry_over(&apart, &loaded.filter);
                }
                *bits = Bits::Loaded(loaded);
                handle.usage.page_ins.fetch_add(1, Relaxed);
            }
            Err(error) => {
                let error = FilterError::from(error);
                if let FilterError::Damaged(reason) = &error {
                    *bits = Bits::Damaged(Arc::clone(reason));
                }
                return Err(error);
            }
        }
        drop(bits);
        lock(&self.apart).remove(&handle.id);
        if let Some(handle) = self.by_id(handle.id) {
            self.ring.enter(&handle);
        }
        Ok(true)
    }

    fn row(&self, handle: &Handle) -> Result<FilterRow, FilterError> {
        let row = self.with_catalogue(|catalogue| catalogue.row(handle.id).cloned());
        row.ok_or(FilterError::NotFound)
    }

    fn read_bits(
        &self,
        handle: &Handle,
        row: &FilterRow,
        room: Reservation,
    ) -> Result<Loaded, LoadError> {
        let loaded = self.empty(row.parameters, row.seed, row.storage);
        loaded.memory.grow_by(Some(room), bytes_of(row))?;
        for legacy in &row.legacy {
            let layer = Arc::new(self.read_legacy(handle, legacy)?);
            loaded.filter.add_legacy(layer)?;
        }
        for layer in &row.layers {
            self.read_new_layer(handle, &loaded, *layer)?;
        }
        Ok(loaded)
    }

    /// Adds a layer and reads its file, if it has one. Its memory is the caller's to take.
    pub(super) fn read_new_layer(
        &self,
        handle: &Handle,
        loaded: &Loaded,
        row: LayerRow,
    ) -> Result<(), LoadError> {
        let layer = loaded.filter.add_layer(row)?;
        if lock(&handle.snapshots).contains_key(&row.shape.id) {
            match layer.place() {
                Place::Memory => self.read_layer(handle, layer)?,
                Place::File => self.read_rights(handle, layer)?,
            }
            lock(&handle.snapshots).insert(row.shape.id, layer.revision());
        }
        Ok(())
    }

    pub(super) fn read_layer(&self, handle: &Handle, layer: &Layer) -> Result<(), LoadError> {
        let path = layer_path(handle.id, layer.id());
        let read = || -> Result<(), LayerFileError> {
            let reader = FileReader::open(&*self.disk, &path)?.layer()?;
            if !belongs(reader.head(), handle, &layer.shape()) {
                return Err(LayerFileError::Misplaced);
            }
            reader.load(layer)?.ensure_end()
        };
        read().map_err(|source| LoadError::of_file(path.clone(), source))
    }

    pub(super) fn read_legacy(
        &self,
        handle: &Handle,
        shape: &LegacyShape,
    ) -> Result<BloomdLayer, LoadError> {
        let path = legacy_path(handle.id, shape.index);
        let wrong = |what: String| LoadError::Legacy {
            path: path.clone(),
            what,
        };
        let bytes = read_file(&*self.disk, &path, shape.bytes).map_err(|error| {
            let said = error.to_string();
            match LoadError::of_file(path.clone(), error.into()) {
                passing @ LoadError::NotOpened { .. } => passing,
                _ => wrong(said),
            }
        })?;
        if bytes.len() as u64 != shape.bytes || xxh3_64(&bytes) != shape.checksum {
            return Err(wrong("corrupt: the checksum does not match".to_owned()));
        }
        let layer = BloomdLayer::from_vec(bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(layer.with_capacity(shape.capacity))
    }

    /// Reads the heads of a filter's files without its bits: what it holds, and that they are
    /// there. Layers that the log opens later have no file yet.
    pub(super) fn read_summary(&self, handle: &Handle, row: &FilterRow) -> Result<(), LoadError> {
        let mut summary = Summary {
            layers: (row.layers.len() + row.legacy.len()) as u64,
            ..Summary::default()
        };
        for legacy in &row.legacy {
            summary.capacity = summary.capacity.saturating_add(legacy.capacity);
            summary.inserted = summary.inserted.saturating_add(legacy.inserted);
            summary.bytes += legacy.bytes;
        }
        for LayerRow { shape, .. } in &row.layers {
            let head = self.read_head(handle, shape)?;
            let inserted = head.rights.spent();
            summary.capacity = summary.capacity.saturating_add(shape.capacity);
            summary.inserted = summary.inserted.saturating_add(inserted);
            summary.bytes += shape.geometry.bytes();
            lock(&handle.snapshots).insert(shape.id, head.revision);
        }
        *lock(&handle.summary) = summary;
        Ok(())
    }

    pub(super) fn read_head(
        &self,
        handle: &Handle,
        shape: &LayerShape,
    ) -> Result<LayerHead, LoadError> {
        let path = layer_path(handle.id, shape.id);
        let read = || -> Result<LayerHead, LayerFileError> {
            let reader = FileReader::open(&*self.disk, &path)?.layer()?;
            let head = reader.head().clone();
            if belongs(&head, handle, shape) {
                Ok(head)
            } else {
                Err(LayerFileError::Misplaced)
            }
        };
        read().map_err(|source| LoadError::of_file(path.clone(), source))
    }

    /// Writes the files of those layers that have changed since their last. Others go on using
    /// the filter meanwhile. The caller is alone with the files.
    pub(super) fn write_layers(&self, handle: &Handle) -> Result<(), FilterError> {
        let Some(filter) = handle.resident() else {
            return Ok(());
        };
        let mut unwritten = filter.layers().filter(|layer| handle.is_unwritten(layer));
        unwritten.try_for_each(|layer| self.write_layer(handle, layer))
    }

    pub(super) fn write_layer(&self, handle: &Handle, layer: &Layer) -> Result<(), FilterError> {
        // Read first: keys that come while the file is written make the next one due.
        let revision = layer.revision();
        match layer.place() {
            Place::Memory => self
                .write_layer_file(handle.id, layer, handle.storage)
                .map_err(|error| self.snapshot_failed(&error))?,
            Place::File => {
                let has_file = lock(&handle.snapshots).contains_key(&layer.id());
                match self.merge_layer_file(handle.id, layer, has_file) {
                    Ok(()) => {}
                    Err(MergeError::Write(error)) => return Err(self.snapshot_failed(&error)),
                    Err(MergeError::Read(LayerFileError::Io(error))) if is_passing(&error) => {
                        return Err(self.snapshot_failed(&error));
                    }
                    Err(MergeError::Read(error)) => {
                        let path = layer_path(handle.id, layer.id());
                        let reason = format!("{path}: {error}");
                        *handle.bits_write() = Bits::Damaged(reason.into());
                        return Ok(());
                    }
                }
            }
        }
        lock(&handle.snapshots).insert(layer.id(), revision);
        Ok(())
    }

    /// Writes a layer's file; of a filter that is kept in memory it has the rights alone.
    pub(super) fn write_layer_file(
        &self,
        id: FilterId,
        layer: &Layer,
        storage: Storage,
    ) -> io::Result<()> {
        self.disk.create_dir(&directory(id))?;
        let path = layer_path(id, layer.id());
        write_atomically(&*self.disk, &path, |out| match storage {
            Storage::Durable => write_layer(out, id, layer),
            Storage::Memory => write_rights(out, id, layer),
        })?;
        self.disk.sync_dir(FILTERS_DIR)
    }

    /// Writes what has changed to files and gives the memory back. A filter that is kept in
    /// memory only stays there.
    pub fn unload(&self, handle: &Handle) -> Result<(), FilterError> {
        if handle.storage == Storage::Memory {
            return Ok(());
        }
        self.ensure_writable()?;
        let _alone = self.alone();
        // Most of the work while the filter is in use, the rest while nobody can change it.
        self.write_layers(handle)?;
        self.unload_bits(handle, &mut handle.bits_write())
    }

    /// Gives the memory of bits back, which nobody uses. The caller is alone with the files.
    pub(super) fn unload_bits(&self, handle: &Handle, bits: &mut Bits) -> Result<(), FilterError> {
        let Bits::Loaded(loaded) = &*bits else {
            self.ring.leave(handle);
            return Ok(());
        };
        let filter = Arc::clone(&loaded.filter);
        for layer in filter.layers().filter(|layer| handle.is_unwritten(layer)) {
            self.write_layer(handle, layer)?;
        }
        self.ring.leave(handle);
        *lock(&handle.summary) = Summary::of(&filter);
        *bits = Bits::Unloaded;
        handle.usage.page_outs.fetch_add(1, Relaxed);
        Ok(())
    }

    /// What becomes of a file that was not written: the node takes no more writes, unless no file
    /// could be opened. What is replaced by a rename is whole all the same.
    pub(crate) fn snapshot_failed(&self, error: &io::Error) -> FilterError {
        if is_passing(error) {
            return FilterError::NoFile(error.to_string().into());
        }
        let reason = || format!("writing a snapshot failed: {error}");
        self.journal.fail(reason).into()
    }
}

fn belongs(head: &LayerHead, handle: &Handle, shape: &LayerShape) -> bool {
    head.filter == handle.id && head.shape == *shape
}

/// Writes a file beside its place, syncs it and moves it there.
pub(super) fn write_atomically<E: From<io::Error>>(
    disk: &dyn Disk,
    path: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<(), E> {
    let file = write_beside(disk, path, &|| true, write)?;
    file.sync()?;
    disk.rename(&beside(path), path)?;
    Ok(disk.sync_dir(parent(path))?)
}

/// The name under which a file is written before it is moved to `path`.
pub(super) fn beside(path: &str) -> String {
    format!("{path}.new")
}

/// Writes a file beside its place. It fails once it is not to `go_on`.
pub(super) fn write_beside<E: From<io::Error>>(
    disk: &dyn Disk,
    path: &str,
    go_on: GoOn<'_>,
    write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
) -> Result<Arc<dyn DiskFile>, E> {
    let file = disk.open(&beside(path), OpenMode::Create)?;
    let offset = 0;
    let writer = FileWriter {
        file,
        offset,
        go_on,
    };
    let mut out = BufWriter::with_capacity(FILE_BUFFER_BYTES, writer);
    write(&mut out)?;
    let written = out.into_inner().map_err(io::IntoInnerError::into_error);
    Ok(written.map(|writer| writer.file)?)
}

/// Whether a long work is to go on.
pub(crate) type GoOn<'a> = &'a dyn Fn() -> bool;

/// A file written from its start.
pub(crate) struct FileWriter<'a> {
    file: Arc<dyn DiskFile>,
    offset: u64,
    go_on: GoOn<'a>,
}

impl FileWriter<'_> {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Self {
        FileWriter {
            file,
            offset: 0,
            go_on: &|| true,
        }
    }
}

impl Write for FileWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !(self.go_on)() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.write_at(self.offset, bytes)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file read from its start.
pub(crate) struct FileReader {
    file: Arc<dyn DiskFile>,
    offset: u64,
    length: u64,
}

impl FileReader {
    pub(crate) fn open(disk: &dyn Disk, path: &str) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Read)?;
        let length = file.len()?;
        Ok(FileReader {
            file,
            offset: 0,
            length,
        })
    }

    /// The layer that it holds, its head read.
    pub(crate) fn layer(self) -> Result<LayerReader<Self>, LayerFileError> {
        let longest = self.length;
        LayerReader::within(self, longest)
    }

    /// Length of the file in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Refuses bytes after the end of what was read.
    pub(crate) fn ensure_end(&self) -> Result<(), LayerFileError> {
        if self.offset == self.length {
            return Ok(());
        }
        Err(LayerFileError::Corrupt {
            offset: self.offset,
            what: "bytes after the end",
        })
    }
}

impl Skip for FileReader {
    fn skip(&mut self, bytes: u64) {
        self.offset = self.offset.saturating_add(bytes).min(self.length);
    }
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length - self.offset;
        let length = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.read_at(self.offset, &mut buffer[..length])?;
        self.offset += length as u64;
        Ok(length)
    }
}
