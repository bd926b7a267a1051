//! The program `grapevine`.

use std::process::ExitCode;

fn main() -> ExitCode {
    grapevine::failure::abort_on_panic();
    let mut arguments = std::env::args_os();
    // The first argument is the name the program was called by; it may be another program's.
    let program = arguments.next().unwrap_or_default();
    match grapevine::applet::Applet::called_as(&program) {
        Some(applet) => applet.run(&arguments.collect::<Vec<_>>()),
        None => grapevine::cli::run(std::iter::once(program).chain(arguments)),
    }
}
