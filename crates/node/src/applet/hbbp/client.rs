//! `hbbpc INTERFACE TASK [MESSAGE|-]`: sends one message. `hbbpp` is its predecessor, by which
//! deployed p2ptbl scripts send: the same but for keys, of which it knows nothing.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use grapevine_core::wire::hbbp::{DATAGRAM_BYTES_MAX, EncodeError, PORT};

use super::{called, key_directory, say, say_unusable};
use crate::gateway::hbbp::program::reason;
use crate::gateway::hbbp::{SendError, Sender};

/// Which of the two programs.
#[derive(Clone, Copy)]
enum Program {
    /// Seals what there are keys for.
    Hbbpc,
    /// Sends everything in the clear.
    Hbbpp,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Hbbpc => "hbbpc",
            Program::Hbbpp => "hbbpp",
        }
    }
}

/// Runs `hbbpc`.
pub(in crate::applet) fn run(arguments: &[OsString]) -> ExitCode {
    exit_code(Program::Hbbpc, arguments)
}

/// Runs `hbbpp`.
pub(in crate::applet) fn run_plain(arguments: &[OsString]) -> ExitCode {
    exit_code(Program::Hbbpp, arguments)
}

fn exit_code(program: Program, arguments: &[OsString]) -> ExitCode {
    match send(program, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

/// Sends, or says why not.
fn send(program: Program, arguments: &[OsString]) -> Result<(), ()> {
    let (interface, key, message) = match arguments {
        [interface, key] => (interface, key, None),
        [interface, key, message] => (interface, key, Some(message)),
        _ => {
            say(format_args!(
                "usage: {} interface task [message|-]",
                called(program.name())
            ));
            return Err(());
        }
    };
    let message = match message {
        None => Vec::new(),
        Some(message) if message == "-" => {
            let message = read_input().map_err(|error| say(format_args!("read: {error}")))?;
            if key.len() + 1 + message.len() > DATAGRAM_BYTES_MAX {
                // Nobody knows how much more there is.
                say(format_args!(
                    "payload to long: max {DATAGRAM_BYTES_MAX} bytes"
                ));
                return Err(());
            }
            message
        }
        Some(message) => message.as_bytes().to_vec(),
    };
    send_as(program, interface, key, &message)
}

/// Sends a message as `hbbpc`, or says why not.
pub(in crate::applet) fn send_message(
    interface: &OsStr,
    key: &OsStr,
    message: &[u8],
) -> Result<(), ()> {
    send_as(Program::Hbbpc, interface, key, message)
}

fn send_as(program: Program, interface: &OsStr, key: &OsStr, message: &[u8]) -> Result<(), ()> {
    // No interface has a name that is no text.
    let interface = interface.to_str().unwrap_or_default();
    let sender = Sender::new(key_directory(), PORT);
    let sender = sender.map_err(|error| say(format_args!("socket: {}", reason(&error))))?;
    let sent = match program {
        Program::Hbbpc => sender.send(interface, key.as_bytes(), message),
        Program::Hbbpp => sender.send_plain(interface, key.as_bytes(), message),
    };
    sent.map_err(|error| complain(&error))
}

/// Standard input, or as much of it as is too much.
fn read_input() -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    let most = DATAGRAM_BYTES_MAX as u64 + 1;
    io::stdin().lock().take(most).read_to_end(&mut input)?;
    Ok(input)
}

/// In the original's words where it has any.
fn complain(error: &SendError) {
    match error {
        SendError::Message(EncodeError::TooLong { bytes }) => say(format_args!(
            "payload to long: max {DATAGRAM_BYTES_MAX} bytes, was {bytes}"
        )),
        SendError::Keys(unusable) => {
            say_unusable(unusable);
            say("missing key");
        }
        SendError::NoRoomForSeal { .. } => say("payload to large (no space left for crypto)"),
        SendError::System(error) => say(format_args!("sendto: {}", reason(error))),
        SendError::Message(EncodeError::Nul) | SendError::Random(_) | SendError::NoInterface => {
            say(error);
        }
    }
}
