//! `p2ptbl-recv`, which a HBBP listener runs for each packet of a table: unpacks standard input and
//! merges it into the table. Called through a link to a program of this name, the link's name is
//! the table's.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use grapevine_core::wire::p2ptbl::UNPACKED_BYTES_MAX;

use super::p2ptbl::{P2ptblError, TableFileError, create, merge_text};
use crate::gzip::{UnpackError, unpack};

/// The name of this program, which a table's link points to.
pub(super) const NAME: &str = "p2ptbl-recv";
const DIRECTORY_VARIABLE: &str = "P2PTBL_DIR";
const DIRECTORY_DEFAULT: &str = "/tmp/p2ptbl";
/// Most that is read from standard input. A listener gives at most one datagram (1232 bytes);
/// people may give more.
const PACKED_BYTES_MAX: usize = 1 << 20;
/// How long a table may become by what others send.
const RECEIVED_TABLE_BYTES_MAX: usize = 64 << 20;
/// Links that are followed to find the name of this program, as many as the system follows.
const LINKS_MAX: usize = 40;

/// Why nothing was received.
#[derive(Debug, thiserror::Error)]
enum ReceiveError {
    #[error("usage: grapevine applet {NAME} TABLE < PACKET, or a link named TABLE to {NAME}")]
    Usage,
    #[error("{} is no name for a table", name.display())]
    Name { name: OsString },
    #[error("standard input: {0}")]
    Input(io::Error),
    #[error("a packet of more than {PACKED_BYTES_MAX} bytes")]
    PacketTooLong,
    #[error("{}: {source}", table.display())]
    Unpack { table: PathBuf, source: UnpackError },
    #[error(transparent)]
    File(#[from] TableFileError),
    #[error(transparent)]
    Merge(#[from] P2ptblError),
}

/// Whether the program was called through the link of a table: one, of whatever name, that points
/// to a program of this name. Who starts a program may call it otherwise than its file, so the
/// file counts too.
pub(super) fn is_called_through_link(program: &OsStr) -> bool {
    let file = OsStr::from_bytes(rustix::param::linux_execfn().to_bytes());
    let called_otherwise = Path::new(file).file_name() != Path::new(program).file_name();
    // Without a slash it was looked up, and is no path from here.
    let is_path = program.as_bytes().contains(&b'/');
    (is_path && points_here(Path::new(program)))
        || points_here(Path::new(file))
        || (called_otherwise && Path::new(file).file_name() == Some(OsStr::new(NAME)))
}

fn points_here(link: &Path) -> bool {
    let mut path = link.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = std::fs::read_link(&path) else {
            return false;
        };
        if target.file_name() == Some(OsStr::new(NAME)) {
            return true;
        }
        // A target is relative to where its link is.
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    false
}

pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let program = std::env::args_os().next().unwrap_or_default();
    match table_name(&program, arguments).and_then(|name| receive(&name)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !matches!(error, ReceiveError::Merge(P2ptblError::BothEmpty)) {
                // Standard error may be closed; the exit code still tells.
                drop(writeln!(io::stderr(), "{NAME}: {error}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// The name it was called by; as `grapevine applet p2ptbl-recv TABLE` that argument.
fn table_name(program: &OsStr, arguments: &[OsString]) -> Result<OsString, ReceiveError> {
    let called = Path::new(program).file_name().unwrap_or_default();
    let linked = called == NAME || is_called_through_link(program);
    let name = if linked {
        called
    } else {
        arguments.first().ok_or(ReceiveError::Usage)?
    };
    let bytes = name.as_bytes();
    let leads_elsewhere =
        matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|byte| matches!(byte, b'/' | 0));
    if leads_elsewhere {
        return Err(ReceiveError::Name {
            name: name.to_owned(),
        });
    }
    Ok(name.to_owned())
}

fn receive(name: &OsStr) -> Result<(), ReceiveError> {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).filter(|value| !value.is_empty());
    let table = PathBuf::from(directory.unwrap_or_else(|| DIRECTORY_DEFAULT.into())).join(name);
    create(&table)?;
    let mut packed = Vec::new();
    let mut input = io::stdin().lock().take(PACKED_BYTES_MAX as u64 + 1);
    input
        .read_to_end(&mut packed)
        .map_err(ReceiveError::Input)?;
    if packed.len() > PACKED_BYTES_MAX {
        return Err(ReceiveError::PacketTooLong);
    }
    let text = unpack(&packed, UNPACKED_BYTES_MAX).map_err(|source| ReceiveError::Unpack {
        table: table.clone(),
        source,
    })?;
    Ok(merge_text(&table, &text, RECEIVED_TABLE_BYTES_MAX)?)
}
