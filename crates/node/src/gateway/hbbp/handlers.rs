//! Programs that packets run: those directly below one directory, by the packets' keys.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use grapevine_core::wire::hbbp::check_key;

use super::program::{Ended, Limits, Program, THIS_PROGRAM};
use super::{Complaints, Consumer, Opened};
use crate::metrics::HbbpMetrics;

/// Packets that wait for their program; more are dropped.
const WAITING_MAX: usize = 64;
/// What a program may take.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(30),
    processor: Some(10),
    address_space: Some(1 << 30),
    tied: true,
};
const EXECUTABLE: u32 = 0o111;
const OTHERS_WRITE: u32 = 0o002;

/// Why a directory is no directory of handlers.
#[derive(Debug, thiserror::Error)]
pub enum HandlersError {
    /// It is not there, or cannot be looked into.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a directory", path.display())]
    NotDirectory {
        /// What was named.
        path: PathBuf,
    },
    /// Anybody could put programs there.
    #[error("everybody can write to {}: run chmod o-w on it", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
    },
    /// There is no thread to run programs on.
    #[error("starting a thread: {0}")]
    Thread(io::Error),
}

/// A packet and its program.
struct Job {
    path: PathBuf,
    key: Vec<u8>,
    payload: Vec<u8>,
}

/// The consumer of packets for which there is a program. They run one at a time, in the order in
/// which packets come, on a thread of their own.
pub(super) struct Handlers {
    directory: PathBuf,
    waiting: SyncSender<Job>,
    metrics: HbbpMetrics,
    complaints: Arc<Complaints>,
}

impl Handlers {
    /// Those of a directory.
    ///
    /// # Errors
    /// When it is not fit.
    pub(super) fn open(directory: &Path, metrics: HbbpMetrics) -> Result<Self, HandlersError> {
        let path = directory.to_owned();
        let unreadable = |source| HandlersError::Unreadable {
            path: path.clone(),
            source,
        };
        let directory = directory.canonicalize().map_err(unreadable)?;
        let facts = directory.metadata().map_err(unreadable)?;
        if !facts.is_dir() {
            return Err(HandlersError::NotDirectory { path });
        }
        if facts.permissions().mode() & OTHERS_WRITE != 0 {
            return Err(HandlersError::Open { path });
        }
        // Of their own: a flood of bad packets must not hide that a handler fails.
        let complaints = Arc::new(Complaints::default());
        let (waiting, jobs) = sync_channel(WAITING_MAX);
        let runner = Runner {
            directory: directory.clone(),
            metrics: metrics.clone(),
            complaints: Arc::clone(&complaints),
        };
        std::thread::Builder::new()
            .name("hbbp-handlers".to_owned())
            .spawn(move || runner.run(&jobs))
            .map_err(HandlersError::Thread)?;
        Ok(Handlers {
            directory,
            waiting,
            metrics,
            complaints,
        })
    }

    /// The program of a key.
    fn program(&self, key: &[u8]) -> Option<PathBuf> {
        find(&self.directory, key)
    }
}

/// The regular, executable file that a key names below a directory, links followed as long as
/// they stay below it.
fn find(directory: &Path, key: &[u8]) -> Option<PathBuf> {
    check_key(key).ok()?;
    let path = directory.join(OsStr::from_bytes(key)).canonicalize().ok()?;
    let facts = path.metadata().ok()?;
    let fit = path.starts_with(directory)
        && facts.is_file()
        && facts.permissions().mode() & EXECUTABLE != 0;
    fit.then_some(path)
}

impl Consumer for Handlers {
    fn wants(&self, _interface: &str, key: &[u8]) -> bool {
        self.program(key).is_some()
    }

    fn take(&self, packet: Opened) {
        let Some(path) = self.program(&packet.key) else {
            return;
        };
        let job = Job {
            path,
            key: packet.key,
            payload: packet.payload,
        };
        if self.waiting.try_send(job).is_err() {
            self.metrics.handlers_dropped.inc();
            let what = format!("{WAITING_MAX} wait for their handlers");
            self.complaints.say("hbbp: dropped a packet", &what);
        }
    }
}

/// What runs the programs.
struct Runner {
    directory: PathBuf,
    metrics: HbbpMetrics,
    complaints: Arc<Complaints>,
}

impl Runner {
    /// Until the handlers are dropped. The programs end with this thread.
    fn run(&self, jobs: &Receiver<Job>) {
        for job in jobs {
            self.metrics.handlers_run.inc();
            let program = Program {
                launcher: THIS_PROGRAM.into(),
                path: job.path,
                directory: Some(self.directory.clone()),
                inherits: false,
            };
            let began = Instant::now();
            let ended = program.run(&job.key, &job.payload, &LIMITS);
            let duration = self.metrics.handler_duration.at(0);
            duration.record(began.elapsed(), 1);
            let trouble = match ended {
                Ok(Ended::With(status)) if status.success() => continue,
                Ok(Ended::With(status)) => format!("ended with {status}"),
                Ok(Ended::Killed) => format!("killed: it ran for {} s", LIMITS.time.as_secs()),
                Err(error) => error.to_string(),
            };
            self.metrics.handlers_failed.inc();
            let path = program.path.display();
            let what = format!("{path}: {trouble}");
            self.complaints.say("hbbp: a handler", &what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::symlink;

    fn program(path: &Path) {
        fs::write(path, "#!/bin/sh\n").expect("written");
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("executable");
    }

    #[test]
    fn only_programs_below_the_directory_are_found() {
        let around = tempfile::tempdir().expect("a directory");
        let around = around.path().canonicalize().expect("its path");
        let directory = around.join("handlers");
        fs::create_dir_all(directory.join("sub")).expect("made");
        program(&around.join("outside"));
        program(&directory.join("task"));
        program(&directory.join("sub/task"));
        fs::write(directory.join("text"), "").expect("written");
        symlink("sub/task", directory.join("inside")).expect("a link");
        symlink("../outside", directory.join("leaves")).expect("a link");
        symlink(&around, directory.join("up")).expect("a link");
        let task = directory.join("sub/task");
        for key in [&b"sub/task"[..], b"./sub//task", b"inside"] {
            assert_eq!(find(&directory, key).as_ref(), Some(&task), "{key:?}");
        }
        assert_eq!(find(&directory, b"task"), Some(directory.join("task")));
        let absolute = directory.join("task").into_os_string();
        for key in [
            &b""[..],
            b".",
            b"sub",
            b"sub/",
            b"task/",
            b"text",
            b"absent",
            b"leaves",
            b"up/outside",
            b"up/handlers/task/../task",
            b"../outside",
            b"../handlers/task",
            absolute.as_bytes(),
        ] {
            assert_eq!(find(&directory, key), None, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn a_directory_that_everybody_can_write_to_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Handlers::open(directory.path(), HbbpMetrics::default());
        assert!(open().is_ok());
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("set");
        assert!(matches!(open(), Err(HandlersError::Open { .. })));
    }
}
