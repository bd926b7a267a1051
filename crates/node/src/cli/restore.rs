//! `grapevine restore DIR` and `grapevine restore --in-place`.

use std::io::Write;
use std::path::PathBuf;

use grapevine_store::restore::{restore, restore_in_place};

use super::{Context, Failure, Outcome};
use crate::data_directory;

/// Arguments of `grapevine restore`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The backup
    #[arg(required_unless_present = "in_place")]
    directory: Option<PathBuf>,
    /// Make the data directory anew from itself, under a new origin: for one that was set back or
    /// copied behind the back of its node. The old one stays beside it
    #[arg(long, conflicts_with = "directory")]
    in_place: bool,
}

/// Runs `grapevine restore`.
///
/// # Errors
/// When the data directory is there already (in place: is not there, or in use), the backup is
/// damaged, or the disk refuses; then nothing is made.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    context.without_node("restore")?;
    let config = context.config()?;
    let target = &config.node.data_dir;
    let entropy = data_directory::entropy().map_err(Failure::from_error)?;
    let options = data_directory::options(&config);
    let (made, kept) = if let Some(backup) = &args.directory {
        let made = restore(backup, target, options, entropy).map_err(Failure::from_error)?;
        (made, None)
    } else {
        let target = data_directory::existing(&config).map_err(Failure::from_error)?;
        let _lock = data_directory::lock(target).map_err(Failure::from_error)?;
        let made = restore_in_place(target, options, entropy);
        let (made, kept) = made.map_err(Failure::from_error)?;
        (made, Some(kept))
    };
    let mut output = context.output();
    writeln!(
        output,
        "{}: {} filters; origin {} (was {})",
        target.display(),
        made.filters,
        made.now,
        made.before,
    )?;
    if let Some(kept) = kept {
        writeln!(output, "what was there is in {}", kept.display())?;
    }
    output.flush()?;
    Ok(Outcome::Done)
}
