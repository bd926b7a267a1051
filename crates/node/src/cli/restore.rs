//! `grapevine restore DIR`.

use std::io::Write;
use std::path::PathBuf;

use grapevine_store::restore::restore;

use super::{Context, Failure, Outcome};
use crate::data_directory;

/// Arguments of `grapevine restore`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup
    directory: PathBuf,
}

/// Runs `grapevine restore`.
///
/// # Errors
/// When the data directory is there already, the backup is damaged, or the disk refuses; then
/// nothing is made.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let config = context.config()?;
    let target = &config.node.data_dir;
    let entropy = data_directory::entropy().map_err(Failure::from_error)?;
    let options = data_directory::options(&config);
    let made = restore(&args.directory, target, options, entropy).map_err(Failure::from_error)?;
    let mut output = context.output();
    writeln!(
        output,
        "{}: {} filters; origin {} (was {})",
        target.display(),
        made.filters,
        made.now,
        made.before,
    )?;
    output.flush()?;
    Ok(Outcome::Done)
}
