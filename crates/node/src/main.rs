//! The program `grapevine`.

use std::process::ExitCode;

fn main() -> ExitCode {
    grapevine::failure::abort_on_panic();
    let arguments: Vec<_> = std::env::args_os().collect();
    match grapevine::applet::Applet::called(&arguments) {
        Some((applet, arguments)) => applet.run(arguments),
        None => grapevine::cli::run(arguments),
    }
}
