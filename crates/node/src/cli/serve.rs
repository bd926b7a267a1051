//! `grapevine serve`.

use std::ffi::OsString;

use super::{Context, Failure, Outcome};
use crate::serve::{Reload, Service, banner};

/// Arguments of `grapevine serve`, beside the global options.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Members of the group to join (group.join); may be repeated
    #[arg(long, value_name = "HOST:PORT", num_args = 1..)]
    join: Vec<OsString>,
}

/// Runs `grapevine serve`.
///
/// # Errors
/// When the configuration is wrong or the node cannot start.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    context.without_node("serve")?;
    let mut context = context.clone();
    context.options.join.clone_from(&args.join);
    let config = context.config()?;
    let log = if banner::is_seen() {
        crate::logging::start_held(&config.node)
    } else {
        crate::logging::start(&config.node)
    };
    let log = log.map_err(Failure::from_error)?;
    let reload: Reload = Box::new(move || context.config());
    crate::serve::run(&config, Service::default(), &log, &reload).map_err(Failure::from_error)?;
    Ok(Outcome::Done)
}
