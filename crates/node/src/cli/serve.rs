//! `grapevine serve`.

use super::{Context, Failure, Outcome};
use crate::serve::{Reload, Service};

/// Arguments of `grapevine serve`: the global options say everything.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Runs `grapevine serve`.
///
/// # Errors
/// When the configuration is wrong or the node cannot start.
pub(super) fn run(_args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let config = context.config()?;
    let log = crate::logging::start(&config.node).map_err(Failure::from_error)?;
    let again = context.clone();
    let reload: Reload = Box::new(move || again.config());
    crate::serve::run(&config, Service::default(), &log, &reload).map_err(Failure::from_error)?;
    Ok(Outcome::Done)
}
