//! `hbbp_keygen`: a pair of keys for each side, in the working directory.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::say;
use crate::gateway::hbbp::generate;

/// Any arguments are left alone, as by the original.
pub(in crate::applet) fn run(_arguments: &[OsString]) -> ExitCode {
    match generate(Path::new("")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}
