//! HBBP's programs: `hbbpc` sends, `hbbpp` too, never sealed, `hbbpd` runs a program for each
//! packet, `hbbp_keygen` makes keys. Words and exit codes are the original's; where they do better than it, the page
//! `docs/protocols/hbbp.md` says so.

pub(super) mod client;
pub(super) mod daemon;
pub(super) mod keygen;

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

use crate::gateway::hbbp::{KeyDirectory, Unusable};

/// The name that the program was called by, with its path, as the original shows it.
fn called(name: &str) -> String {
    let first = std::env::args_os().next().unwrap_or_default();
    match Path::new(&first).file_name() {
        Some(file) if file == OsStr::new(name) => first.to_string_lossy().into_owned(),
        _ => name.to_owned(),
    }
}

/// A line on standard error. That may be closed; the exit code still tells.
fn say(line: impl Display) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Says which key files cannot be used.
fn say_unusable(unusable: &Unusable) {
    for file in &unusable.files {
        say(file);
    }
}

/// The directory of key files: `$HBBP_KEYDIR`, else the original's place.
fn key_directory() -> KeyDirectory {
    KeyDirectory::of_process()
}
