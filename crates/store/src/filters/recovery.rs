//! Opening a data directory: the snapshot, then the log's tail over it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use grapevine_core::catalogue::{Catalogue, FilterId, FilterRow, Storage};
use grapevine_core::filter::parameters::LayerShape;
use grapevine_core::hash::Seed;
use grapevine_core::operation::{CatalogueChange, Insert, Operation, decode};
use grapevine_core::origin::Origin;

use super::error::{FilterError, OpenError};
use super::handle::{Bits, FILTERS_DIR, Handle, lock};
use super::memory::MemoryBound;
use super::{Entropy, Filters, Handles, LOG_DIR, Options};
use crate::disk::{Disk, parent};
use crate::identity::Identity;
use crate::log::{Cut, Log, Position};
use crate::manifest::Manifest;

/// What opening a data directory found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The directory was empty and is now a data directory.
    pub created: bool,
    /// Operations replayed from the log.
    pub operations: u64,
    /// Keys in them.
    pub keys: u64,
    /// What was cut off the log's end because it had not been written whole.
    pub cut: Option<Cut>,
    /// Filters that cannot be used because a file of theirs is corrupt, with the reason.
    pub damaged: Vec<(Vec<u8>, Arc<str>)>,
}

impl Filters {
    /// Opens the data directory on `disk`, making one if it is empty. Whoever calls holds its
    /// lock.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        entropy: Entropy,
    ) -> Result<(Self, Recovered), OpenError> {
        let (identity, manifest, created) = read_state(&*disk, &entropy)?;
        // Its own name must be durable before anything relies on what is in it.
        make_filters_directory(&*disk)?;
        let mut config = options.log;
        config.salt = u64::from_le_bytes(entropy()[..8].try_into().expect("eight bytes"));
        let id = identity.origin.bytes();
        let (log, report) = Log::open(Arc::clone(&disk), LOG_DIR, id, config, manifest.position)?;
        let filters = Filters {
            disk,
            identity,
            options,
            entropy,
            log,
            sequence: AtomicU64::new(manifest.sequence),
            catalogue: Mutex::new(Catalogue::from_rows(manifest.rows.iter().cloned())),
            handles: RwLock::new(Handles::default()),
            memory: MemoryBound::new(options.memory),
            reclaiming: Mutex::default(),
            snapshot: Mutex::new(manifest.position),
            snapshot_position: AtomicU64::new(manifest.position),
            tried: AtomicU64::new(manifest.position),
            snapshot_failure: OnceLock::new(),
        };
        for row in &manifest.rows {
            filters.restore_handle(row);
        }
        let mut recovered = Recovered {
            created,
            cut: report.cut,
            ..Recovered::default()
        };
        filters.replay(manifest.position, &mut recovered)?;
        filters.remove_orphans()?;
        recovered.damaged = filters.damaged();
        Ok((filters, recovered))
    }

    fn restore_handle(&self, row: &FilterRow) {
        let mut handle = Handle::new(row, Bits::Unloaded);
        if row.storage == Storage::Memory {
            // Its keys went with the process that held them; it starts again, empty. Where the
            // memory bound no longer allows that, its first use says so.
            let first = row.parameters.layer(0, self.identity.origin, 1);
            if let Some(loaded) = first.ok().and_then(|first| self.empty(row, &[first]).ok()) {
                handle = Handle::new(row, Bits::Loaded(loaded));
            }
        } else if let Err(error) = self.read_summary(&handle, row) {
            *handle.bits_write() = Bits::Damaged(error.to_string().into());
        }
        self.register(handle, row.hidden);
    }

    pub(super) fn register(&self, handle: Handle, hidden: bool) {
        let handle = Arc::new(handle);
        let mut handles = self.handles_write();
        if !hidden {
            handles
                .by_name
                .insert(handle.name.clone(), Arc::clone(&handle));
        }
        handles.by_id.insert(handle.id, handle);
    }

    fn replay(&self, from: Position, recovered: &mut Recovered) -> Result<(), OpenError> {
        let mut failure = None;
        self.log.read_from(from, |position, entry| {
            match self.replay_entry(position, entry, recovered) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn replay_entry(
        &self,
        position: Position,
        entry: &[u8],
        recovered: &mut Recovered,
    ) -> Result<(), OpenError> {
        let decoded = decode(entry);
        let (sequence, operation) =
            decoded.map_err(|source| OpenError::Operation { position, source })?;
        let next = sequence.saturating_add(1);
        self.sequence
            .fetch_max(next, std::sync::atomic::Ordering::Relaxed);
        recovered.operations += 1;
        match operation {
            Operation::Insert(insert) => {
                recovered.keys += insert.hashes().len() as u64;
                self.replay_insert(position, &insert)
            }
            Operation::Catalogue(change) => self.replay_change(&change),
        }
    }

    fn replay_insert(&self, position: Position, insert: &Insert<'_>) -> Result<(), OpenError> {
        let handle = self.handles_read().by_id.get(&insert.filter).cloned();
        // The filter was dropped since.
        let Some(handle) = handle else { return Ok(()) };
        self.replay_load(handle.id)?;
        let filter = match self.bits(&handle) {
            Ok(filter) => filter,
            // Damaged: the log is kept until the filter is mended or dropped.
            Err(_) => return Ok(()),
        };
        let layer = filter
            .layer(insert.layer)
            .ok_or(OpenError::UnknownLayer { position })?;
        for hash in insert.hashes() {
            layer.apply(hash);
        }
        layer.observe_inserted(self.identity.origin, insert.inserted);
        Ok(())
    }

    fn replay_change(&self, change: &CatalogueChange) -> Result<(), OpenError> {
        if !lock(&self.catalogue).apply(change) {
            if let CatalogueChange::AdoptLayer(id, shape) = change {
                self.replay_merge(*id, shape);
            }
            return Ok(());
        }
        match change {
            CatalogueChange::Create(row) => {
                self.register(Handle::new(row, Bits::Unloaded), row.hidden);
                self.replay_load(row.id)?;
            }
            CatalogueChange::Import(row) => self.restore_handle(row),
            CatalogueChange::Drop(id) => self.forget(*id),
            CatalogueChange::Hide(id) => {
                let mut handles = self.handles_write();
                if let Some(handle) = handles.by_id.get(id).cloned() {
                    handles.by_name.remove(&handle.name);
                }
            }
            CatalogueChange::Show(id) => {
                let mut handles = self.handles_write();
                if let Some(handle) = handles.by_id.get(id).cloned() {
                    handles.by_name.insert(handle.name.clone(), handle);
                }
            }
            CatalogueChange::OpenLayer(id, shape) | CatalogueChange::AdoptLayer(id, shape) => {
                // Read again with the layer that its row now has.
                let handle = self.handles_read().by_id.get(id).cloned();
                if let Some(handle) = handle {
                    if matches!(change, CatalogueChange::AdoptLayer(..)) {
                        // Its file was synced before this was logged.
                        lock(&handle.snapshots).insert(shape.id, u64::MAX);
                    }
                    self.replay_add_layer(&handle, *shape)?;
                }
            }
        }
        Ok(())
    }

    /// Keys were merged into a layer that was there already: they are in its file only.
    fn replay_merge(&self, id: FilterId, shape: &LayerShape) {
        let Some(handle) = self.handles_read().by_id.get(&id).cloned() else {
            return;
        };
        lock(&handle.snapshots).insert(shape.id, u64::MAX);
        let damage = match &*handle.bits_read() {
            Bits::Loaded(loaded) => match loaded.filter.layer(shape.id) {
                Some(layer) => self.read_layer(&handle, layer).err(),
                None => None,
            },
            _ => None,
        };
        if let Some(error) = damage {
            *handle.bits_write() = Bits::Damaged(error.to_string().into());
        }
    }

    /// Unloads what the replay has loaded: the process before may have used one filter after the
    /// other within the same bound.
    fn make_room(&self) -> Result<(), OpenError> {
        for handle in self.all() {
            self.unload(&handle).map_err(|error| OpenError::Io {
                path: FILTERS_DIR.to_owned(),
                source: std::io::Error::other(error),
            })?;
        }
        Ok(())
    }

    /// Loads a filter whose layers have no files yet, so that the next snapshot writes them.
    fn replay_load(&self, id: FilterId) -> Result<(), OpenError> {
        let handle = self.handles_read().by_id.get(&id).cloned();
        let Some(handle) = handle else {
            return Ok(());
        };
        if let Err(FilterError::Memory(_)) = self.load(&handle) {
            self.make_room()?;
            if let Err(FilterError::Memory(error)) = self.load(&handle) {
                return Err(error.into());
            }
        }
        // Damaged filters answer for themselves.
        Ok(())
    }

    fn replay_add_layer(&self, handle: &Handle, shape: LayerShape) -> Result<(), OpenError> {
        let mut fits = true;
        let damage = match &*handle.bits_read() {
            Bits::Loaded(loaded) => {
                fits = loaded.memory.grow(shape.geometry.bytes()).is_ok();
                if fits {
                    self.read_new_layer(handle, loaded, shape).err()
                } else {
                    None
                }
            }
            _ => None,
        };
        if let Some(error) = damage {
            *handle.bits_write() = Bits::Damaged(error.to_string().into());
            return Ok(());
        }
        if !fits {
            self.make_room()?;
        }
        // With the layer that its row now has.
        self.replay_load(handle.id)
    }

    fn forget(&self, id: FilterId) {
        let mut handles = self.handles_write();
        if let Some(handle) = handles.by_id.remove(&id)
            && handles
                .by_name
                .get(&handle.name)
                .is_some_and(|other| other.id == id)
        {
            handles.by_name.remove(&handle.name);
        }
    }

    /// Removes the files of filters that the catalogue does not know: dropped just before the
    /// last process ended, or never entered.
    fn remove_orphans(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io {
            path: FILTERS_DIR.to_owned(),
            source,
        };
        let known: BTreeSet<String> = self
            .handles_read()
            .by_id
            .keys()
            .map(FilterId::to_string)
            .collect();
        for name in self.disk.list(FILTERS_DIR).map_err(failed)? {
            if let (false, Ok(id)) = (known.contains(&name), u128::from_str_radix(&name, 16)) {
                self.remove_files(FilterId::new(id.to_be_bytes()))
                    .map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn make_filters_directory(disk: &dyn Disk) -> Result<(), OpenError> {
    let made = disk
        .create_dir(FILTERS_DIR)
        .and_then(|()| disk.sync_dir(parent(FILTERS_DIR)));
    made.map_err(|source| OpenError::Io {
        path: FILTERS_DIR.to_owned(),
        source,
    })
}

/// Identity and manifest of the directory, made if it is empty.
fn read_state(disk: &dyn Disk, entropy: &Entropy) -> Result<(Identity, Manifest, bool), OpenError> {
    let (identity, manifest) = (Identity::read(disk)?, Manifest::read(disk)?);
    match (identity, manifest) {
        (Some(identity), Some(manifest)) => Ok((identity, manifest, false)),
        (Some(identity), None) => {
            // The process that made the directory ended before it had written its first
            // manifest, or the manifest was lost; then there is something else as well.
            let list = |path| {
                disk.list(path).map_err(|source| OpenError::Io {
                    path: path.to_owned(),
                    source,
                })
            };
            if list(LOG_DIR)?.is_empty() && list(FILTERS_DIR)?.is_empty() {
                let manifest = Manifest::default();
                manifest.write(disk)?;
                return Ok((identity, manifest, true));
            }
            Err(OpenError::NoManifest)
        }
        (None, Some(_)) => Err(OpenError::NoIdentity("a manifest")),
        (None, None) => {
            let log = disk.list(LOG_DIR).map_err(|source| OpenError::Io {
                path: LOG_DIR.to_owned(),
                source,
            })?;
            if !log.is_empty() {
                return Err(OpenError::NoIdentity("a log"));
            }
            let identity = Identity {
                origin: Origin::new(entropy()),
                seed: Seed::new(entropy()),
            };
            identity.write(disk)?;
            let manifest = Manifest::default();
            manifest.write(disk)?;
            Ok((identity, manifest, true))
        }
    }
}
