//! The program `grapevine`.

use std::process::ExitCode;

fn main() -> ExitCode {
    grapevine::failure::abort_on_panic();
    // The first argument is the name the program was called by. A name that stands for another
    // program is looked up here, before the arguments are read as grapevine's own.
    grapevine::cli::run(std::env::args_os())
}
