//! A real node as a child process: started on ephemeral loopback ports in a directory of its
//! own, waited for with deadlines, stopped by its id.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `condition` gives something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// A running node.
pub(crate) struct Node {
    child: Child,
    data_dir: PathBuf,
    listeners: BTreeMap<String, SocketAddr>,
}

impl Node {
    /// Starts a node in `data_dir` with `settings` (`section.key=value`) and waits until it
    /// serves.
    pub(crate) fn start(data_dir: &Path, settings: &[&str]) -> Node {
        Node::spawn(data_dir, settings).ready()
    }

    /// The same with variables of the environment.
    pub(crate) fn start_with_variables(
        data_dir: &Path,
        settings: &[&str],
        variables: &[(&str, &Path)],
    ) -> Node {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
        command.envs(variables.iter().copied());
        Node::spawn_as(command, data_dir, settings).ready()
    }

    /// The same under limits of the system, as the shell's `ulimit` takes them.
    pub(crate) fn start_under(limits: &str, data_dir: &Path, settings: &[&str]) -> Node {
        let mut command = Command::new("sh");
        // A write over the limit is to be refused, not to end the process.
        let script = format!("trap '' XFSZ; ulimit {limits}; exec \"$0\" \"$@\"");
        command
            .args(["-c", &script])
            .arg(env!("CARGO_BIN_EXE_grapevine"));
        Node::spawn_as(command, data_dir, settings).ready()
    }

    /// Waits until it serves.
    fn ready(mut self) -> Node {
        let node = &mut self;
        let file = node.data_dir.join("listeners.json");
        node.listeners = wait_for("the node to be ready", || {
            if let Some(status) = node.child.try_wait().expect("the child can be waited for") {
                panic!("the node ended with {status}: {}", node.errors());
            }
            let text = std::fs::read_to_string(&file).ok()?;
            let listeners: BTreeMap<String, String> = serde_json::from_str(&text).ok()?;
            let addresses = listeners
                .into_iter()
                .map(|(key, address)| (key, address.parse().expect("an address")));
            Some(addresses.collect())
        });
        self
    }

    /// Starts a node that may never serve.
    pub(crate) fn spawn(data_dir: &Path, settings: &[&str]) -> Node {
        let command = Command::new(env!("CARGO_BIN_EXE_grapevine"));
        Node::spawn_as(command, data_dir, settings)
    }

    fn spawn_as(mut command: Command, data_dir: &Path, settings: &[&str]) -> Node {
        // A killed node leaves the file of its last life behind.
        drop(std::fs::remove_file(data_dir.join("listeners.json")));
        command.arg("serve").arg("--data-dir").arg(data_dir);
        for listener in [
            "group.listen",
            "bloomd.tcp",
            "bloomd.udp",
            "rmbd.udp",
            "http.listen",
        ] {
            command.arg("--set").arg(format!("{listener}=127.0.0.1:0"));
        }
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        if command.get_envs().all(|(name, _)| name != "RUST_LOG") {
            command.env("RUST_LOG", "info");
        }
        let child = command
            .env_remove("GRAPEVINE_NODE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts");
        Node {
            child,
            data_dir: data_dir.to_owned(),
            listeners: BTreeMap::new(),
        }
    }

    /// Where a listener is.
    pub(crate) fn address(&self, key: &str) -> SocketAddr {
        self.listeners[key]
    }

    /// A connection to the bloomd gateway.
    pub(crate) fn bloomd(&self) -> Client {
        Client::connect(self.address("bloomd.tcp"))
    }

    /// The directory of its data.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    /// SIGTERM, and waits for it to end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .expect("it takes signals");
        self.wait()
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_for("the node to end", || {
            self.child.try_wait().expect("it can be waited for")
        })
    }

    /// What it wrote to standard error. Only when it has ended.
    pub(crate) fn errors(&mut self) -> String {
        let mut errors = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut errors).expect("text");
        }
        errors
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whatever a test did, its node ends with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What an HTTP server answers to one request: the status and everything behind the head.
pub(crate) fn http(address: SocketAddr, request: &str, body: &str) -> (u16, String) {
    let mut client = Client::connect(address);
    let length = body.len();
    let request = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let mut answer = Vec::new();
    // A connection that is refused ends without a word.
    if client.try_send(request.as_bytes()).is_ok() {
        drop(client.input.read_to_end(&mut answer));
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let text = answer.split_once("\r\n\r\n").map_or("", |(_, text)| text);
    (status.unwrap_or(0), text.to_owned())
}

/// A command that prints lines for as long as it runs.
pub(crate) struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    /// Starts `grapevine` with arguments, for a node's directory.
    pub(crate) fn start(data_dir: &Path, arguments: &[&str]) -> Follower {
        let mut child = Command::new(env!("CARGO_BIN_EXE_grapevine"))
            .args(arguments)
            .arg("--data-dir")
            .arg(data_dir)
            .env_remove("GRAPEVINE_NODE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                drop(send.send(line));
            }
        });
        Follower { child, lines }
    }

    /// The next line.
    pub(crate) fn line(&self) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        line.expect("a line in time")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A client of a line protocol.
pub(crate) struct Client {
    stream: TcpStream,
    input: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("it accepts connections");
        stream
            .set_read_timeout(Some(DEADLINE))
            .expect("a timeout can be set");
        stream.set_nodelay(true).expect("delays can be turned off");
        let input = BufReader::new(stream.try_clone().expect("a second handle"));
        Client { stream, input }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("it takes what is sent");
    }

    /// The next line, with its end; empty when the connection was closed.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.input
            .read_until(b'\n', &mut line)
            .expect("a line in time");
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Sends bytes to a node that may be gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next line from a node that may be gone; cut short, or none, if it is.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.input.read_line(&mut line).ok().map(|_| line)
    }

    /// The connection itself.
    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a line and gives the line that answers it.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(line.as_bytes());
        self.send(b"\n");
        self.line()
    }

    /// Sends `bytes`, says that nothing more comes, and gives everything that is answered.
    pub(crate) fn exchange(mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.stream
            .shutdown(Shutdown::Write)
            .expect("it can be half closed");
        let mut answer = Vec::new();
        self.input.read_to_end(&mut answer).expect("an end in time");
        answer
    }

    /// The same with a node that may refuse the connection: then nothing.
    pub(crate) fn exchange_or_nothing(mut self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        if self.try_send(bytes).is_ok() && self.stream.shutdown(Shutdown::Write).is_ok() {
            drop(self.input.read_to_end(&mut answer));
        }
        answer
    }
}
