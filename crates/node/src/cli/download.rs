//! What a node sends, as a file.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Context;

/// Bytes copied at once.
const COPY_BYTES: usize = 256 << 10;

/// Why it is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    /// It came to no proper end.
    #[error("the node broke off: {0}")]
    Broken(#[source] io::Error),
    /// Standard output takes no more.
    #[error("standard output: {0}")]
    Output(#[source] io::Error),
    /// The file cannot be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
}

/// Writes what comes to a file with the permissions `mode` (less the process's mask), or (`-`) to
/// standard output. The file is written beside its place and moved there when it is whole.
pub(super) fn save(
    input: &mut impl Read,
    target: &OsStr,
    mode: u32,
    context: &Context,
) -> Result<(), DownloadError> {
    if target == "-" {
        let mut output = context.output();
        copy(input, &mut output, DownloadError::Output)?;
        return output.flush().map_err(DownloadError::Output);
    }
    write_whole(Path::new(target), mode, input)
}

/// Copies to the end; a failure says on which side it was.
fn copy(
    input: &mut impl Read,
    output: &mut impl Write,
    write_failure: impl Fn(io::Error) -> DownloadError,
) -> Result<(), DownloadError> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = input.read(&mut buffer).map_err(DownloadError::Broken)?;
        if count == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..count]).map_err(&write_failure)?;
    }
}

fn write_whole(target: &Path, mode: u32, input: &mut impl Read) -> Result<(), DownloadError> {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(name);
    let failure = |source| DownloadError::File {
        path: target.display().to_string(),
        source,
    };
    let mut write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&part)
            .map_err(failure)?;
        copy(input, &mut file, failure)?;
        file.sync_all().map_err(failure)?;
        std::fs::rename(&part, target).map_err(failure)
    };
    let written = write();
    if written.is_err() {
        drop(std::fs::remove_file(&part));
    }
    written
}
