//! `hbbpd [INTERFACE]`: runs a program of the working directory for each packet.
//!
//! The process that was called binds the socket, so that it can say what is wrong, and hands it to
//! a second one as standard input; that one goes on in a session of its own. Rust offers no safe
//! fork.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use grapevine_core::wire::hbbp::{DATAGRAM_BYTES_MAX, KeyRefusal, PORT, Packet, check_key};
use rustix::process::setsid;

use super::{called, key_directory, say, say_unusable};
use crate::gateway::hbbp::program::{Limits, Program, THIS_PROGRAM, reason};
use crate::gateway::hbbp::{self, Change, Ear, LOOK_EVERY, Opener, Place, Refusal};

/// The argument that makes the second process. No interface has so long a name.
const SECOND: &str = "--serve-standard-input";
/// The environment variable with the seconds that a handler may take.
const TIME_VARIABLE: &str = "HBBPD_TIMEOUT";
/// The same when nothing is said.
const TIME: Duration = Duration::from_secs(600);
/// How long the second process may take to begin.
const BEGIN: Duration = Duration::from_secs(10);
/// The pause between two looks at it.
const PAUSE: Duration = Duration::from_millis(2);
const EXECUTABLE: u32 = 0o111;

pub(in crate::applet) fn run(arguments: &[OsString]) -> ExitCode {
    let done = match arguments {
        [second, number] if second == SECOND => serve(Place::Everywhere, number),
        [second, number, interface] if second == SECOND => serve(place(interface), number),
        [] => begin(Place::Everywhere),
        [interface] => begin(place(interface)),
        _ => {
            say(format_args!("usage: {} [interface]", called("hbbpd")));
            Err(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(()) => ExitCode::FAILURE,
    }
}

fn place(interface: &OsStr) -> Place {
    // No interface has a name that is no text.
    Place::Interface(interface.to_str().unwrap_or_default().to_owned())
}

/// Binds the socket and starts the process that goes on with it. Errors have been said.
fn begin(place: Place) -> Result<(), ()> {
    let failed = |what: &'static str| {
        move |error: io::Error| say(format_args!("{what}: {}", reason(&error)))
    };
    if let Place::Interface(name) = &place
        && hbbp::number(name)
            .map_err(failed("listener: socket"))?
            .is_none()
    {
        say("interface not found");
        return Err(());
    }
    let mut ear = Ear::new(place, PORT);
    let socket = match ear.look().map_err(failed("listener: bind"))? {
        Change::Bound(socket) => socket,
        Change::None | Change::Gone => {
            say("interface not found");
            return Err(());
        }
    };
    let watched = socket.try_clone().map_err(failed("listener: dup"))?;
    let mut command = Command::new(THIS_PROGRAM);
    command
        .arg0("hbbpd")
        .arg(SECOND)
        .arg(ear.bound().unwrap_or_default().to_string())
        .stdin(Stdio::from(OwnedFd::from(socket)));
    if let Place::Interface(name) = ear.place() {
        command.arg(name);
    }
    let mut child = command.spawn().map_err(failed("fork"))?;
    has_begun(&mut child, &watched)
}

/// Waits until the second process has left this session: a terminal that closes now is not its
/// concern any more. It tells so by the first change it makes to the socket, which is one for both;
/// numbers of sessions tell nothing where they are those of another namespace.
fn has_begun(child: &mut Child, socket: &UdpSocket) -> Result<(), ()> {
    let deadline = Instant::now() + BEGIN;
    while Instant::now() < deadline {
        if matches!(socket.read_timeout(), Ok(Some(_))) {
            return Ok(());
        }
        match child.try_wait() {
            Ok(None) => std::thread::sleep(PAUSE),
            Ok(Some(_)) | Err(_) => return Err(()),
        }
    }
    say("the daemon does not begin");
    Err(())
}

/// Serves the socket that is standard input, bound to the interface of that number.
fn serve(place: Place, number: &OsStr) -> Result<(), ()> {
    let number = number.to_str().and_then(|number| number.parse().ok());
    let number: u32 = number.ok_or(())?;
    let failed = |error: io::Error| say(format_args!("listener: {}", reason(&error)));
    setsid().map_err(|error| failed(error.into()))?;
    name_process();
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let daemon = Daemon {
        opener: Opener::new(key_directory()),
        limits: Limits {
            time: time(),
            processor: None,
            address_space: None,
            tied: false,
        },
    };
    let ear = Ear::bound_to(place, PORT, number);
    daemon.serve(ear, socket.into()).map_err(|error| {
        say(format_args!("listener: recvfrom: {}", reason(&error)));
    })
}

/// Lets `ps` and `killall` know it by its name, not by that of the file it was started from.
fn name_process() {
    if let Ok(name) = CString::new("hbbpd") {
        // Nothing else depends on it.
        let _ = rustix::thread::set_name(&name);
    }
}

/// The time that a handler may take.
fn time() -> Duration {
    let seconds = std::env::var(TIME_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok());
    seconds.map_or(TIME, Duration::from_secs)
}

struct Daemon {
    opener: Opener,
    limits: Limits,
}

impl Daemon {
    /// Takes packets one by one, each to the end of its handler, until the socket fails.
    fn serve(&self, mut ear: Ear, mut socket: UdpSocket) -> io::Result<()> {
        // One byte more than the longest: what fills it was too long.
        let mut buffer = [0; DATAGRAM_BYTES_MAX + 1];
        prepare(&socket)?;
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => self.take(&buffer[..length]),
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error),
            }
            // An interface that cannot be bound to now may be at the next look.
            if let Ok(Change::Bound(other)) = ear.look() {
                prepare(&other)?;
                socket = other;
            }
        }
    }

    /// Runs the handler of a packet, or says why not.
    fn take(&self, datagram: &[u8]) {
        let datagram = match datagram.get(..DATAGRAM_BYTES_MAX) {
            Some(first) if first.len() < datagram.len() => {
                say(format_args!("payload cut to {DATAGRAM_BYTES_MAX} bytes"));
                first
            }
            _ => datagram,
        };
        let Ok(packet) = Packet::parse(datagram) else {
            return;
        };
        match check_key(packet.key) {
            // The empty key is no path, and is refused as such.
            Ok(()) | Err(KeyRefusal::Empty) => {}
            Err(_) => return say("payload tried directory traversal"),
        }
        let path = Path::new(OsStr::from_bytes(packet.key));
        if let Err(error) = check_handler(path) {
            return say(format_args!("exec: {}", reason(&error)));
        }
        let content = match self.opener.open(&packet, Instant::now()) {
            Ok(content) => content,
            Err(Refusal::Keys(unusable)) => {
                say_unusable(&unusable);
                return say(Refusal::Seal);
            }
            Err(refusal) => return say(refusal),
        };
        let program = Program {
            launcher: THIS_PROGRAM.into(),
            path: path_of(path),
            directory: None,
            inherits: true,
        };
        match program.run(packet.key, &content.payload, &self.limits) {
            Ok(hbbp::program::Ended::With(_)) => {}
            Ok(hbbp::program::Ended::Killed) => {
                let seconds = self.limits.time.as_secs();
                say(format_args!("handler killed after {seconds} seconds"));
            }
            Err(error) => say(format_args!("exec: {}", reason(&error))),
        }
    }
}

fn prepare(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(LOOK_EVERY))
}

fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// What `execve` would say of a file that is none to run, before anything is opened for it.
fn check_handler(path: &Path) -> io::Result<()> {
    let facts = std::fs::metadata(path)?;
    if facts.is_file() && facts.permissions().mode() & EXECUTABLE != 0 {
        Ok(())
    } else {
        Err(rustix::io::Errno::ACCESS.into())
    }
}

/// The path as `execve` is given it: the key, but one that an interpreter would take for an option.
fn path_of(path: &Path) -> PathBuf {
    if path.as_os_str().as_bytes().starts_with(b"-") {
        Path::new(".").join(path)
    } else {
        path.to_owned()
    }
}
