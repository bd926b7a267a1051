//! How a table's packet leaves: through the HBBP client.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::{Command, ExitStatus, Stdio};

use crate::applet::hbbp::client;

/// The client that the original calls, found as any program is.
const CLIENT: &str = "hbbpc";

/// Why nothing was sent, as far as this side can tell.
#[derive(Debug, thiserror::Error)]
pub(in crate::applet) enum SendError {
    /// The client within this program has said why.
    #[error("nothing was sent")]
    NotSent,
    #[error("cannot run {CLIENT}: {0}")]
    Start(io::Error),
    /// It has said why.
    #[error("{CLIENT} failed: {0}")]
    Failed(ExitStatus),
}

/// Sends one packet to everybody who listens on the interface. What takes it there is the program
/// `hbbpc`, with the payload on its standard input; where none is installed this program does it
/// itself.
pub(super) fn send(interface: &OsStr, key: &OsStr, payload: &[u8]) -> Result<(), SendError> {
    let started = Command::new(CLIENT)
        .arg(interface)
        .arg(key)
        .arg("-")
        .stdin(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return client::send_message(interface, key, payload).map_err(|()| SendError::NotSent);
        }
        Err(error) => return Err(SendError::Start(error)),
    };
    let written = match child.stdin.take() {
        None => Ok(()),
        Some(mut stdin) => stdin.write_all(payload),
    };
    let status = child.wait().map_err(SendError::Start)?;
    if !status.success() {
        return Err(SendError::Failed(status));
    }
    match written {
        // One that ends well without having read all has its reasons.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(SendError::Start(error)),
        _ => Ok(()),
    }
}
