//! What another program left in the directory that becomes this node's.

use std::path::{Path, PathBuf};

use grapevine_store::identity::IDENTITY_FILE;
use grapevine_store::import::bloomd::BloomdDirectory;

/// A directory with filters that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "{}: the Python bloomd wrote {}{}. Its filters cannot be read here: their settings are Python \
     pickles and their bits were set by other hashes. So that they are not served as empty, this \
     start is refused and nothing was changed. Set data_dir to another directory and set the keys \
     again there, or move the folders away",
    directory.display(), first.display(), others(*more)
)]
pub struct PythonFilters {
    /// The directory.
    directory: PathBuf,
    /// The first of their folders, in it.
    first: PathBuf,
    /// Further ones.
    more: usize,
}

fn others(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

/// Refuses a directory with filters of the Python server, unless a node has kept its state there
/// already. One that cannot be listed is left to whoever opens it.
pub(super) fn refuse_python_filters(directory: &Path) -> Result<(), PythonFilters> {
    if directory.join(IDENTITY_FILE).exists() {
        return Ok(());
    }
    let Ok(found) = BloomdDirectory::open(directory) else {
        return Ok(());
    };
    let mut folders = found.of_python_server();
    let Some(first) = folders.next() else {
        return Ok(());
    };
    Err(PythonFilters {
        directory: directory.to_owned(),
        first: first.strip_prefix(directory).unwrap_or(first).to_owned(),
        more: folders.count(),
    })
}
