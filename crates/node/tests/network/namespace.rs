//! Network namespaces without a name: one lives as long as something refers to it, so a test that
//! is killed leaves none behind.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network of its own: interfaces, addresses, routes, ports.
pub(crate) struct Namespace(File);

impl Namespace {
    /// An empty one, with its loopback up.
    pub(crate) fn new() -> Self {
        // A process that begins in a new namespace, for as long as it takes to open that.
        let mut holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there, and this is root");
        let mut echo = [0];
        let sent = holder.stdin.as_mut().expect("a pipe").write_all(b".");
        let heard = holder.stdout.as_mut().expect("a pipe").read(&mut echo);
        assert!(
            sent.is_ok() && heard.is_ok_and(|length| length == 1),
            "no network namespace: this needs root"
        );
        let file = File::open(format!("/proc/{}/ns/net", holder.id()));
        drop(holder.stdin.take());
        holder.wait().expect("it ends with its input");
        let namespace = Namespace(file.expect("its namespace"));
        namespace.ip(&["link set lo up".to_owned()]);
        namespace
    }

    /// Runs something on a thread that is in this namespace. Sockets made and processes started
    /// there belong to it for ever.
    pub(crate) fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                job()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Moves the calling thread here.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter a namespace");
    }

    /// The same namespace, for a thread that outlives this value.
    pub(crate) fn again(&self) -> Self {
        Namespace(self.0.try_clone().expect("a second handle"))
    }

    /// Runs lines of `ip`.
    pub(crate) fn ip(&self, lines: &[String]) {
        let output = self.run(|| {
            let mut ip = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("ip is there");
            let mut input = ip.stdin.take().expect("a pipe");
            let text = lines.join("\n");
            input.write_all(text.as_bytes()).expect("it reads");
            drop(input);
            ip.wait_with_output().expect("it ends")
        });
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip, told {lines:?}: {errors}");
    }
}
