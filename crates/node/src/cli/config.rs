//! `grapevine config show|check`.

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::{Context, Failure, Outcome};
use crate::config::Config;

/// Arguments of `grapevine config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print every value, as a file that reads back the same
    Show {
        /// Say where each value came from
        #[arg(long)]
        origin: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a file alone, without the environment, and print everything that is wrong with it
    Check {
        /// The file; `-` is standard input
        file: PathBuf,
    },
}

/// Runs `grapevine config`.
///
/// # Errors
/// When the configuration is wrong (`show`) or standard output cannot be written.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let mut output = context.output();
    let outcome = match &args.verb {
        Verb::Show { origin, json } => {
            let config = context.config()?;
            if *json {
                writeln!(output, "{:#}", config.to_json(*origin))?;
            } else {
                write!(output, "{}", config.to_toml(*origin))?;
            }
            Outcome::Done
        }
        Verb::Check { file } => match Config::check_file(file, &context.surroundings) {
            Ok(_) => {
                writeln!(output, "{}: ok", file.display())?;
                Outcome::Done
            }
            // What is wrong is the answer that was asked for.
            Err(errors) => {
                writeln!(output, "{errors}")?;
                Outcome::Failed
            }
        },
    };
    output.flush()?;
    Ok(outcome)
}
