//! `grapevine applet NAME …`.

use std::ffi::OsString;
use std::process::ExitCode;

use super::{Context, Failure, Outcome};
use crate::applet::Applet;

/// Arguments of `grapevine applet`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The program to be
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(Applet::names()))]
    name: String,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs `grapevine applet`. The applet prints its own errors.
///
/// # Errors
/// None of its own.
pub(super) fn run(args: &Args, _context: &Context) -> Result<Outcome, Failure> {
    let code =
        Applet::named(&args.name).map_or(ExitCode::FAILURE, |applet| applet.run(&args.arguments));
    Ok(if code == ExitCode::SUCCESS {
        Outcome::Done
    } else {
        Outcome::Failed
    })
}
