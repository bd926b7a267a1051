//! `grapevine bench`.

use super::{Context, Failure, Outcome};
pub(super) use grapevine_bench::Args;

pub(super) fn run(args: &Args, _context: &Context) -> Result<Outcome, Failure> {
    match grapevine_bench::run(args.clone()) {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if error.is_usage() => {
            let kind = clap::error::ErrorKind::ArgumentConflict;
            Err(Failure::Usage(clap::Error::raw(kind, format!("{error}\n"))))
        }
        Err(error) => Err(Failure::from_error(error)),
    }
}
