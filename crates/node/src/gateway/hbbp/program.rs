//! Runs one program for one packet, within limits.
//!
//! The process is started as this program under another name (`launch`), which takes the limits
//! upon itself and then becomes the handler by a bare `execve`: no shell, no search in `PATH`, and
//! no moment in which the handler runs without its limits.

use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, kill_process_group, pidfd_open,
    set_parent_process_death_signal, setrlimit, umask,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::orphans;

/// The name under which this program becomes a handler.
pub(crate) const LAUNCHER: &str = "grapevine-hbbp-handler";
/// This program, also when its file was replaced while it runs.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";
/// What stands for a limit that is not set.
const UNLIMITED: &str = "none";
/// Files that handlers make cannot be written by others.
const UMASK: Mode = Mode::from_bits_truncate(0o022);

/// What one run may take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Time on the clock; then it is killed with all processes of its group.
    pub(crate) time: Duration,
    /// Time on a processor, in whole seconds, for each of its processes.
    pub(crate) processor: Option<u64>,
    /// Address space in bytes, of each of its processes.
    pub(crate) address_space: Option<u64>,
    /// Whether its group ends with it, and it with this process.
    pub(crate) tied: bool,
}

/// A program to run.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// This program's file, which becomes the other.
    pub(crate) launcher: PathBuf,
    /// The other program's file, as `execve` takes it.
    pub(crate) path: PathBuf,
    /// Where it runs; here, when nothing is said.
    pub(crate) directory: Option<PathBuf>,
    /// Whether it has this process's environment and standard output, or only a `PATH`.
    pub(crate) inherits: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    With(ExitStatus),
    /// It took too long and was killed.
    Killed,
}

impl Program {
    /// Runs the program with `key` as its only argument and `payload` as its input, and waits for
    /// its end.
    ///
    /// # Errors
    /// When it cannot be started or watched. That the file is no program, the launcher says on
    /// standard error.
    pub(crate) fn run(&self, key: &[u8], payload: &[u8], limits: &Limits) -> io::Result<Ended> {
        let (mut child, _claim) = orphans::spawn(&mut self.command(key, limits))?;
        let group = Pid::from_child(&child);
        // Every payload fits into the pipe. A program that does not read is none of our concern.
        let input = child.stdin.take();
        drop(input.map(|mut input| input.write_all(payload)));
        let ended = has_ended(&child, limits.time);
        if limits.tied || !matches!(ended, Ok(true)) {
            // Nothing of it may be left. Its number is not given to others before it is waited for.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait()?;
        Ok(if ended? {
            Ended::With(status)
        } else {
            Ended::Killed
        })
    }

    fn command(&self, key: &[u8], limits: &Limits) -> Command {
        let mut command = Command::new(&self.launcher);
        let number = |limit: Option<u64>| limit.map_or(UNLIMITED.to_owned(), |n| n.to_string());
        command
            .arg0(LAUNCHER)
            .arg(number(limits.processor))
            .arg(number(limits.address_space))
            .arg(if limits.tied { "tied" } else { "free" })
            .arg(&self.path)
            .arg(OsStr::from_bytes(key))
            .stdin(Stdio::piped())
            .process_group(0);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if !self.inherits {
            command.env_clear().stdout(Stdio::null());
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        command
    }
}

/// Waits for the end; false when that does not come in time.
fn has_ended(child: &Child, time: Duration) -> io::Result<bool> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Instant::now().checked_add(time);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Longer than the system can count is for ever.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], left.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Becomes a handler: `PROCESSOR ADDRESS_SPACE tied|free PATH KEY`. Comes back only when that
/// fails, and has said why.
pub(crate) fn launch(arguments: &[OsString]) -> ExitCode {
    let error = match arguments {
        [processor, address_space, tied, path, key] => {
            match prepare(processor, address_space, tied == "tied") {
                Ok(()) => execute(Path::new(path), key),
                Err(error) => error,
            }
        }
        _ => io::ErrorKind::InvalidInput.into(),
    };
    // Standard error may be closed; the exit code still tells.
    drop(writeln!(io::stderr(), "exec: {}", reason(&error)));
    ExitCode::FAILURE
}

fn prepare(processor: &OsStr, address_space: &OsStr, tied: bool) -> io::Result<()> {
    umask(UMASK);
    if tied {
        set_parent_process_death_signal(Some(Signal::KILL))?;
    }
    restore_broken_pipes()?;
    limit(Resource::Cpu, processor)?;
    limit(Resource::As, address_space)
}

fn limit(resource: Resource, most: &OsStr) -> io::Result<()> {
    if most == UNLIMITED {
        return Ok(());
    }
    let most = most.to_str().and_then(|most| most.parse().ok());
    let most: u64 = most.ok_or(io::ErrorKind::InvalidInput)?;
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}

/// Programs expect to be ended by a pipe that nobody reads; Rust's begin with that signal
/// ignored, which is handed on. A signal that is caught is not: the next program has the default.
fn restore_broken_pipes() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _guard = runtime.enter();
    signal(SignalKind::pipe()).map(drop)
}

fn execute(path: &Path, key: &OsStr) -> io::Error {
    let text = |text: &OsStr| CString::new(text.as_bytes());
    let variables = std::env::vars_os().filter_map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        CString::new(name.into_vec()).ok()
    });
    let variables: Vec<CString> = variables.collect();
    let (Ok(path), Ok(key)) = (text(path.as_os_str()), text(key)) else {
        return io::ErrorKind::InvalidInput.into();
    };
    match nix::unistd::execve(&path, &[key], &variables) {
        Ok(never) => match never {},
        Err(error) => io::Error::from_raw_os_error(error as i32),
    }
}

/// An error of the system in its own words, without the number that Rust adds.
pub(crate) fn reason(error: &io::Error) -> String {
    let said = error.to_string();
    match said.rsplit_once(" (os error ") {
        Some((reason, _)) => reason.to_owned(),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    /// Runs a script in the launcher's stead.
    fn run(script: &str, time: Duration) -> (io::Result<Ended>, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let launcher = directory.path().join("launcher");
        fs::write(&launcher, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(&launcher, Permissions::from_mode(0o755)).expect("executable");
        let program = Program {
            launcher,
            path: "path".into(),
            directory: Some(directory.path().to_owned()),
            inherits: false,
        };
        let limits = Limits {
            time,
            processor: Some(1),
            address_space: None,
            tied: true,
        };
        let ended = program.run(b"key", b"payload", &limits);
        let out = fs::read_to_string(directory.path().join("out")).unwrap_or_default();
        (ended, out)
    }

    #[test]
    fn a_program_is_given_the_payload_and_waited_for() {
        let script = "{ cat; echo \" $* $HOME\"; } > out; exit 3";
        let (ended, out) = run(script, Duration::from_secs(60));
        assert_eq!(out, "payload 1 none tied path key \n");
        assert!(matches!(ended, Ok(Ended::With(status)) if status.code() == Some(3)));
    }

    #[test]
    fn one_that_hangs_is_killed_with_what_it_has_started() {
        let start = Instant::now();
        let (ended, out) = run("sleep 1000 & echo $! > out; wait", Duration::from_secs(1));
        assert!(matches!(ended, Ok(Ended::Killed)));
        let other = Pid::from_raw(out.trim().parse().expect("a number")).expect("a process");
        // The kernel takes a moment to end it, and whoever adopts it another.
        let deadline = start + Duration::from_secs(60);
        while rustix::process::test_kill_process(other).is_ok() && !is_zombie(other) {
            assert!(Instant::now() < deadline, "it runs still");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_zombie(id: Pid) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_nonzero()));
        status.is_ok_and(|status| status.contains(") Z "))
    }

    #[test]
    fn an_error_is_shown_without_its_number() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(reason(&error), "No such file or directory");
        assert_eq!(reason(&io::Error::other("something")), "something");
    }
}
