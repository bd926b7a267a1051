//! The data directory of a C `bloomd`: one folder `bloomd.NAME` per filter, holding `config.ini`
//! and the layers `data.000.mmap`, `data.001.mmap` …, oldest first.
//!
//! A layer's geometry follows from the length of its file, so a file that was cut short would
//! answer wrongly without looking damaged. Each length is therefore held against what the filter's
//! parameters and the server's own total demand.
//!
//! The server must be stopped, or have flushed and be idle: its files are not written atomically.

use super::bloomd_config::{ConfigError, FilterConfig};
use super::geometry;
use super::ini::INI_BYTES_MAX;
use grapevine_core::filter::legacy::{BloomdLayer, LAYER_BYTES_MAX, LayerError};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest name of a filter in bytes; the server allows no more.
pub const FILTER_NAME_BYTES_MAX: usize = 200;

/// Bounds of an import, each checked before memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportLimits {
    /// Entries looked at in the data directory.
    pub filters: usize,
    /// Entries looked at in one filter's folder.
    pub entries: usize,
    /// Layers of one filter.
    pub layers: usize,
    /// Bytes of all layers of one filter: what one step of the import holds in memory.
    pub filter_bytes: u64,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self {
            filters: 100_000,
            entries: 4096,
            layers: 32,
            filter_bytes: LAYER_BYTES_MAX,
        }
    }
}

/// Why a filter, or a whole directory, was not read. Other filters are not concerned.
#[derive(Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "the fields are named in the messages; path is what was refused"
)]
pub enum ImportError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A device, a pipe or a folder stands where a file should.
    #[error("{}: not a regular file", path.display())]
    NotRegular { path: PathBuf },
    /// More bytes than the bound in force.
    #[error("{}: {found} bytes, at most {max} are allowed", path.display())]
    TooLarge { path: PathBuf, found: u64, max: u64 },
    /// The file grew or shrank while it was read: the server is still running.
    #[error("{}: changed while it was read ({expected} bytes, then {found})", path.display())]
    Changed {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    /// There is no memory for the file.
    #[error("{}: no memory for its {bytes} bytes", path.display())]
    Memory { path: PathBuf, bytes: u64 },
    /// The directory has more entries, or the filter more layers, than the bound in force.
    #[error("{}: more than {max} entries", path.display())]
    TooMany { path: PathBuf, max: usize },
    /// A configuration does not hold.
    #[error("{}: {source}", path.display())]
    Config { path: PathBuf, source: ConfigError },
    /// A layer does not hold.
    #[error("{}: {source}", path.display())]
    Layer { path: PathBuf, source: LayerError },
    /// A layer file is not as long as its filter's parameters make it: cut short or extended.
    #[error("{}: {found} bytes, the filter's parameters make it {min} to {max}", path.display())]
    LayerSize {
        path: PathBuf,
        found: u64,
        min: u64,
        max: u64,
    },
    /// A layer's number of hashes does not go with its length and capacity.
    #[error("{}: {found} hashes, its length and capacity make it {expected}", path.display())]
    LayerHashes {
        path: PathBuf,
        found: u32,
        expected: u32,
    },
    /// A layer file is absent though a later one or the configuration speaks of it.
    #[error("{}: this layer is missing", path.display())]
    LayerMissing { path: PathBuf },
    /// A file ends in `.mmap`, as layers do, but is not called `data.NNN.mmap`.
    #[error("{}: looks like a layer but is not called data.NNN.mmap", path.display())]
    LayerName { path: PathBuf },
    /// The sizes of the layers do not add up to what the configuration says.
    #[error("{}: says {bytes} bytes in all, which is the size of no number of first layers ({found} in all)", path.display())]
    TotalSize {
        path: PathBuf,
        bytes: u64,
        found: u64,
    },
    /// The error rate was too small for the 6 decimals it was stored with, and there is no layer
    /// to tell it from.
    #[error("{}: default_probability = 0.000000 has lost the error rate", path.display())]
    ErrorRateLost { path: PathBuf },
    /// The folder was written by the Python server, whose configuration is a pickle.
    #[error("{}: written by the Python bloomd, not the C one; its configuration is a Python pickle and is not read", path.display())]
    PythonServer { path: PathBuf },
    /// A filter whose name has a slash: the server itself loses it when it restarts.
    #[error("{}: a filter inside another filter's folder (its name has a slash) is not imported", path.display())]
    Nested { path: PathBuf },
    /// The folder's name is no filter's: empty, too long, or with blanks.
    #[error("{}: no filter name follows `bloomd.` (1 to {FILTER_NAME_BYTES_MAX} bytes without blanks)", path.display())]
    FilterName { path: PathBuf },
}

impl ImportError {
    pub(super) fn config(path: &Path, source: ConfigError) -> Self {
        Self::Config {
            path: path.into(),
            source,
        }
    }

    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io {
            path: path.into(),
            source,
        }
    }
}

/// One filter of a C server.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedFilter {
    /// As clients name it: 1 to [`FILTER_NAME_BYTES_MAX`] bytes, no blanks.
    pub name: Vec<u8>,
    /// Keys the first layer was made for; layer *i* for this times `scale`ⁱ.
    pub capacity: u64,
    /// Error rate of the whole filter, above 0 and at most 0.1.
    pub error: f64,
    /// Growth of each layer over the one before, 2 or 4.
    pub scale: u32,
    /// Error rate of each layer over the one before.
    pub reduction: f64,
    /// The filter lives in memory only: it had no layers to leave.
    pub in_memory: bool,
    /// Keys added, by the server's last word. The layers' own counts may be newer.
    pub size: u64,
    /// Oldest first.
    pub layers: Vec<BloomdLayer>,
}

/// What a folder `bloomd.NAME` holds.
struct Folder {
    path: PathBuf,
    name: Vec<u8>,
    /// Layer files by their number.
    layers: Vec<(u32, PathBuf)>,
}

/// A data directory whose filters have been listed but not read.
pub struct BloomdDirectory {
    found: Vec<Result<Folder, ImportError>>,
    limits: ImportLimits,
}

impl BloomdDirectory {
    /// Lists the filters under `path`, sorted by name, with the default bounds.
    ///
    /// # Errors
    /// Only when the directory itself cannot be listed; what is wrong with a filter comes up in
    /// its place among [`into_filters`](Self::into_filters).
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        Self::open_within(path, ImportLimits::default())
    }

    /// [`open`](Self::open) with other bounds.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_within(path: &Path, limits: ImportLimits) -> Result<Self, ImportError> {
        let mut found = Vec::new();
        for (name, path) in entries(path, limits.filters)? {
            if let Some(name) = name.strip_prefix(b"bloomd.")
                && path.is_dir()
            {
                list_folder(name, path, limits, &mut found);
            }
        }
        Ok(Self { found, limits })
    }

    /// Names of the filters that were found sound so far, in order.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.found.iter().flatten().map(|folder| &folder.name[..])
    }

    /// Folders that the Python server wrote, in order. Their filters cannot be read.
    pub fn of_python_server(&self) -> impl Iterator<Item = &Path> {
        self.found.iter().filter_map(|folder| match folder {
            Err(ImportError::PythonServer { path }) => Some(path.as_path()),
            _ => None,
        })
    }

    /// Reads the filters one by one, so that one is held at a time. An error concerns the filter
    /// or folder it names; the others follow.
    pub fn into_filters(self) -> impl Iterator<Item = Result<ImportedFilter, ImportError>> {
        let limits = self.limits;
        self.found
            .into_iter()
            .map(move |folder| read_filter(&folder?, limits))
    }
}

/// The entries of a directory, sorted by name.
fn entries(path: &Path, max: usize) -> Result<Vec<(Vec<u8>, PathBuf)>, ImportError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(ImportError::io(path))? {
        let entry = entry.map_err(ImportError::io(path))?;
        if entries.len() == max {
            return Err(ImportError::TooMany {
                path: path.into(),
                max,
            });
        }
        entries.push((entry.file_name().as_bytes().to_vec(), entry.path()));
    }
    entries.sort_unstable();
    Ok(entries)
}

/// Lists one filter's folder: the filter or why there is none, then each folder inside it.
fn list_folder(
    name: &[u8],
    path: PathBuf,
    limits: ImportLimits,
    found: &mut Vec<Result<Folder, ImportError>>,
) {
    let entries = match entries(&path, limits.entries) {
        Ok(entries) => entries,
        Err(error) => return found.push(Err(error)),
    };
    let has = |wanted: &str| entries.iter().any(|(name, _)| name == wanted.as_bytes());
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let listed = if name.is_empty() && !has("config.ini") {
        None
    } else if name.is_empty() || name.len() > FILTER_NAME_BYTES_MAX || name.iter().any(is_blank) {
        Some(Err(ImportError::FilterName { path: path.clone() }))
    } else if has("config") && !has("config.ini") {
        Some(Err(ImportError::PythonServer { path: path.clone() }))
    } else {
        let folder = |layers| Folder {
            path: path.clone(),
            name: name.to_vec(),
            layers,
        };
        Some(layer_files(&path, &entries, limits.layers).map(folder))
    };
    found.extend(listed);
    let nested = entries
        .into_iter()
        .map(|(_, path)| path)
        .filter(|path| path.is_dir());
    found.extend(nested.map(|path| Err(ImportError::Nested { path })));
}

/// The layer files among a folder's entries, by their number, without a gap.
fn layer_files(
    folder: &Path,
    entries: &[(Vec<u8>, PathBuf)],
    max: usize,
) -> Result<Vec<(u32, PathBuf)>, ImportError> {
    let mut layers = Vec::new();
    for (name, path) in entries.iter().filter(|(name, _)| name.ends_with(b".mmap")) {
        if layers.len() == max {
            return Err(ImportError::TooMany {
                path: folder.into(),
                max,
            });
        }
        let number =
            layer_number(name).ok_or_else(|| ImportError::LayerName { path: path.clone() });
        layers.push((number?, path.clone()));
    }
    layers.sort_unstable();
    match (0_u32..)
        .zip(&layers)
        .find(|(wanted, (number, _))| wanted != number)
    {
        Some((wanted, _)) => Err(ImportError::LayerMissing {
            path: layer_path(folder, wanted),
        }),
        None => Ok(layers),
    }
}

/// NNN of `data.NNN.mmap`: three digits, or more without a leading zero.
fn layer_number(name: &[u8]) -> Option<u32> {
    let digits = name.strip_prefix(b"data.")?.strip_suffix(b".mmap")?;
    let number: u32 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (format!("{number:03}").as_bytes() == digits).then_some(number)
}

fn layer_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("data.{number:03}.mmap"))
}

fn read_filter(folder: &Folder, limits: ImportLimits) -> Result<ImportedFilter, ImportError> {
    let config_path = folder.path.join("config.ini");
    let config = FilterConfig::parse(&read_config(&config_path)?)
        .map_err(|source| ImportError::config(&config_path, source))?;
    // The server never reads the layers of an in-memory filter, and writes none.
    let files: &[_] = if config.in_memory {
        &[]
    } else {
        &folder.layers
    };
    let lengths = lengths(files, limits.filter_bytes)?;
    for ((index, path), length) in files.iter().zip(&lengths) {
        check_length(path, *index, *length, &config)?;
    }
    if !config.in_memory {
        check_total(&config_path, &config, &lengths)?;
    }
    let mut layers = Vec::with_capacity(files.len());
    for ((number, path), length) in files.iter().zip(lengths) {
        layers.push(read_layer(path, *number, length, &config)?);
    }
    let error = geometry::error_rate(&config, layers.first());
    Ok(ImportedFilter {
        name: folder.name.clone(),
        capacity: config.initial_capacity,
        error: error.ok_or(ImportError::ErrorRateLost { path: config_path })?,
        scale: config.scale_size,
        reduction: config.probability_reduction,
        in_memory: config.in_memory,
        size: config.size,
        layers,
    })
}

/// Lengths of the files in bytes, if they are regular and together within `max`.
fn lengths(files: &[(u32, PathBuf)], max: u64) -> Result<Vec<u64>, ImportError> {
    let mut lengths = Vec::with_capacity(files.len());
    let mut total = 0_u64;
    for (_, path) in files {
        let length = regular_length(path)?;
        total = total.saturating_add(length);
        if total > max {
            return Err(ImportError::TooLarge {
                path: path.clone(),
                found: total,
                max,
            });
        }
        lengths.push(length);
    }
    Ok(lengths)
}

/// Holds the layers' lengths against the total the server wrote at its last flush. It may have
/// added layers after that, but none that it counted can have changed or gone.
fn check_total(path: &Path, config: &FilterConfig, lengths: &[u64]) -> Result<(), ImportError> {
    let mut sum = 0;
    let mut matches = config.bytes == 0 && config.size == 0;
    for length in lengths {
        sum = length.saturating_add(sum);
        matches |= config.bytes == sum;
    }
    if matches {
        return Ok(());
    }
    if config.bytes > sum
        && (lengths.is_empty()
            || config.capacity > geometry::total_capacity(config, lengths.len() as u32))
    {
        let folder = path.parent().unwrap_or(path);
        return Err(ImportError::LayerMissing {
            path: layer_path(folder, lengths.len() as u32),
        });
    }
    Err(ImportError::TotalSize {
        path: path.into(),
        bytes: config.bytes,
        found: sum,
    })
}

/// Holds one layer's length against the filter's parameters.
fn check_length(
    path: &Path,
    index: u32,
    length: u64,
    config: &FilterConfig,
) -> Result<(), ImportError> {
    let (min, max) = geometry::length(config, index);
    if length < min || length > max {
        return Err(ImportError::LayerSize {
            path: path.into(),
            found: length,
            min,
            max,
        });
    }
    Ok(())
}

fn read_layer(
    path: &Path,
    index: u32,
    length: u64,
    config: &FilterConfig,
) -> Result<BloomdLayer, ImportError> {
    let capacity = geometry::capacity(config, index);
    let layer = BloomdLayer::from_vec(read_exactly(path, length)?)
        .map_err(|source| ImportError::Layer {
            path: path.into(),
            source,
        })?
        .with_capacity(capacity);
    let expected = geometry::hashes(length, capacity);
    if layer.hashes() != expected {
        let found = layer.hashes();
        return Err(ImportError::LayerHashes {
            path: path.into(),
            found,
            expected,
        });
    }
    Ok(layer)
}

/// The content of an INI file, bounded.
pub(super) fn read_config(path: &Path) -> Result<Vec<u8>, ImportError> {
    let length = regular_length(path)?;
    let max = INI_BYTES_MAX as u64;
    if length > max {
        return Err(ImportError::TooLarge {
            path: path.into(),
            found: length,
            max,
        });
    }
    read_exactly(path, length)
}

/// Length of the regular file at `path`, without opening what is none: a pipe would block.
fn regular_length(path: &Path) -> Result<u64, ImportError> {
    let metadata = fs::metadata(path).map_err(ImportError::io(path))?;
    if !metadata.is_file() {
        return Err(ImportError::NotRegular { path: path.into() });
    }
    Ok(metadata.len())
}

/// Reads a file of exactly `length` bytes, a length that was checked against its bound.
fn read_exactly(path: &Path, length: u64) -> Result<Vec<u8>, ImportError> {
    let memory = || ImportError::Memory {
        path: path.into(),
        bytes: length,
    };
    // One byte more shows a file that grew, and lets the reader see the end without growing.
    let room = usize::try_from(length)
        .ok()
        .and_then(|n| n.checked_add(1))
        .ok_or_else(memory)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(room).map_err(|_| memory())?;
    let file = File::open(path).map_err(ImportError::io(path))?;
    file.take(room as u64)
        .read_to_end(&mut bytes)
        .map_err(ImportError::io(path))?;
    let found = bytes.len() as u64;
    if found != length {
        return Err(ImportError::Changed {
            path: path.into(),
            expected: length,
            found,
        });
    }
    Ok(bytes)
}
