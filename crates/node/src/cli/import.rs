//! `grapevine import bloomd DIR|FILE.conf`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use grapevine_store::filters::{Creation, FilterError, Filters};
use grapevine_store::import::bloomd::{BloomdDirectory, ImportError, ImportedFilter};
use grapevine_store::import::bloomd_config::BloomdConfig;

use super::{Context, Failure, Outcome};
use crate::data_directory;

/// Arguments of `grapevine import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// The filters of a C bloomd that is stopped, or has flushed and is idle
    Bloomd {
        /// Its data directory, or its configuration file, whose `data_dir` is taken from the
        /// working directory when it is relative
        path: PathBuf,
    },
}

/// Why one filter was not taken over.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Read(#[from] ImportError),
    #[error("{}: there is a filter of that name already", .0.escape_ascii())]
    Exists(Vec<u8>),
    #[error("{}: {source}", name.escape_ascii())]
    Enter { name: Vec<u8>, source: FilterError },
}

/// Runs `grapevine import`: fails when a filter was not taken over, going on with the others.
///
/// # Errors
/// When nothing can be taken over: the source cannot be listed, or a node is running.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let From::Bloomd { path } = &args.from;
    let config = context.config()?;
    let mut output = context.output();
    let source = data_dir(path, &mut output)?;
    let directory = BloomdDirectory::open(&source).map_err(Failure::from_error)?;
    let node = data_directory::open(&config).map_err(Failure::from_error)?;
    let (mut taken, mut refused) = (0u64, 0u64);
    for imported in directory.into_filters() {
        let entered = imported
            .map_err(Refused::from)
            .and_then(|imported| enter(node.collections.filters(), imported));
        match entered {
            Ok(line) => {
                taken += 1;
                writeln!(output, "{line}")?;
            }
            Err(error) => {
                refused += 1;
                // Standard error may be closed; the exit code still tells.
                let _ = writeln!(io::stderr().lock(), "grapevine: {error}");
            }
        }
    }
    let last = node.collections.journal().sync();
    last.and_then(|_| node.collections.journal().mark_synced())
        .map_err(Failure::from_error)?;
    writeln!(
        output,
        "{taken} filters imported, {refused} refused, into {}",
        config.node.data_dir.display()
    )?;
    output.flush()?;
    Ok(match (taken, refused) {
        (0, 0) => Outcome::Absent,
        (_, 0) => Outcome::Done,
        _ => Outcome::Failed,
    })
}

/// The data directory that `path` is or names.
fn data_dir(path: &Path, output: &mut dyn Write) -> Result<PathBuf, Failure> {
    if path.is_dir() {
        return Ok(path.to_owned());
    }
    let config = BloomdConfig::read(path).map_err(Failure::from_error)?;
    for ignored in &config.ignored {
        let (line, text) = (ignored.line, &ignored.text);
        writeln!(output, "{}:{line}: passed over: {text}", path.display())?;
    }
    writeln!(output, "data_dir {}", config.data_dir.display())?;
    Ok(config.data_dir)
}

/// Enters one filter and gives the line that says so. It is made durable before the next one is
/// read and leaves memory, so that all of them together need not fit.
fn enter(filters: &Filters, imported: ImportedFilter) -> Result<String, Refused> {
    let name = imported.name.clone();
    let (layers, kept) = (imported.layers.len(), !imported.in_memory);
    let keys: u64 = imported.layers.iter().map(|layer| layer.count()).sum();
    let bytes: u64 = imported.layers.iter().map(|layer| layer.bytes()).sum();
    let enter = || -> Result<bool, FilterError> {
        let created = filters.import_bloomd(imported)?;
        if matches!(created, Creation::Exists(_) | Creation::Reclaiming) {
            return Ok(false);
        }
        filters.journal().sync()?;
        if let Some(handle) = filters.get(&name) {
            filters.unload(&handle)?;
        }
        Ok(true)
    };
    match enter() {
        Ok(true) if kept => Ok(format!(
            "{}: {layers} layers, {keys} keys, {bytes} bytes",
            name.escape_ascii()
        )),
        Ok(true) => Ok(format!(
            "{}: kept in memory only, so it is empty",
            name.escape_ascii()
        )),
        Ok(false) => Err(Refused::Exists(name)),
        Err(source) => Err(Refused::Enter { name, source }),
    }
}
