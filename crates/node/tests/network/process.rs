//! A node as a process in a namespace, which the kernel kills when the test is gone.

use std::fs::File;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};

use super::DEADLINE;
use super::namespace::Namespace;

/// A running node, or one that has just ended.
pub(crate) struct Process {
    id: Pid,
    ended: mpsc::Receiver<ExitStatus>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts the program with `arguments`; `log` takes what it says.
    pub(crate) fn start(namespace: &Namespace, arguments: &[String], log: File) -> Self {
        let mut command = Self::command(env!("CARGO_BIN_EXE_grapevine"));
        command
            .args(arguments)
            .env_remove("GRAPEVINE_NODE")
            .env("RUST_LOG", "info,libp2p_mdns=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Self::of(namespace, command)
    }

    /// A program that the kernel kills when the test is gone.
    pub(crate) fn command(program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        command
    }

    /// Starts what [`Process::command`] gave.
    pub(crate) fn of(namespace: &Namespace, mut command: Command) -> Self {
        let (begun, id) = mpsc::channel();
        let (over, ended) = mpsc::channel();
        let namespace = namespace.again();
        // The signal comes when the thread that started the process ends, so that one waits.
        std::thread::spawn(move || {
            namespace.enter();
            let mut child = command.spawn().expect("setpriv is there");
            begun.send(Pid::from_child(&child)).expect("it waits");
            let status = child.wait().expect("it can be waited for");
            let _ = over.send(status);
        });
        Process {
            id: id.recv().expect("the node starts"),
            ended,
            status: None,
        }
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.status = self.status.or_else(|| self.ended.try_recv().ok());
        self.status
    }

    /// Sends it a signal and waits for its end.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        if let Some(status) = self.ended() {
            return status;
        }
        // It may end by itself meanwhile.
        let _ = kill_process(self.id, signal);
        let status = self.ended.recv_timeout(DEADLINE);
        *self.status.insert(status.expect("it ends"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = kill_process(self.id, Signal::KILL);
            let _ = self.ended.recv_timeout(DEADLINE);
        }
    }
}
