//! `grapevine backup DIR`.

use std::io::Write;
use std::path::PathBuf;

use grapevine_store::backup::backup;

use super::{Context, Failure, Outcome};
use crate::data_directory;

/// Arguments of `grapevine backup`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the copy is to stand: absent, or an empty directory. It holds the secret seed
    directory: PathBuf,
}

/// Runs `grapevine backup`.
///
/// # Errors
/// When the data directory is absent or damaged, or the copy cannot be written; then there is
/// none.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    context.without_node("backup")?;
    let config = context.config()?;
    let source = data_directory::existing(&config).map_err(Failure::from_error)?;
    let copied = backup(source, &args.directory).map_err(Failure::from_error)?;
    let counts = copied.report.counts;
    let mut output = context.output();
    writeln!(
        output,
        "{}: {} filters, {} layers, {} bytes; checked",
        args.directory.display(),
        counts.filters,
        counts.layers + counts.foreign,
        counts.bytes,
    )?;
    output.flush()?;
    Ok(Outcome::Done)
}
