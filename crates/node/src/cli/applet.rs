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

/// Runs `grapevine applet`. The program has looked for an applet's name before it read its own
/// options; one that stands behind options is found here.
///
/// # Errors
/// None of its own: the applet prints its errors.
pub(super) fn run(args: &Args, _context: &Context) -> Result<Outcome, Failure> {
    let applet = Applet::named(&args.name);
    let code = applet.map_or(ExitCode::FAILURE, |applet| applet.run(&args.arguments));
    Ok(if code == ExitCode::SUCCESS {
        Outcome::Done
    } else {
        Outcome::Failed
    })
}
