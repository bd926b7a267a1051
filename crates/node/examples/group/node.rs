//! A node as a process of its own, with what the kernel and the node itself say about it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Outcome, wait_for};

/// Units of CPU time in `/proc/PID/stat`, a constant of Linux's interface.
const TICKS_PER_SECOND: f64 = 100.0;
/// What is written to `/proc/PID/clear_refs` to begin the peak of memory anew.
const RESET_PEAK: &str = "5";
/// After this time what a node shows of the group is newer than what was before.
const STATUS_AGE_MAX: Duration = Duration::from_millis(700);

/// A running node; it ends with this value.
pub(crate) struct Node {
    child: Child,
    listeners: BTreeMap<String, SocketAddr>,
    data_dir: PathBuf,
}

impl Node {
    /// Starts a release node on free loopback ports and waits until it serves.
    pub(crate) fn start(data_dir: &Path, settings: &[&str]) -> Outcome<Node> {
        let file = data_dir.join("listeners.json");
        // A life before this one left it behind.
        drop(fs::remove_file(&file));
        fs::create_dir_all(data_dir)?;
        let log = File::create(data_dir.with_extension("log"))?;
        let mut command = Command::new(program()?);
        command.arg("serve").arg("--data-dir").arg(data_dir);
        for listener in ["group.listen", "bloomd.tcp", "http.listen"] {
            command.arg("--set").arg(format!("{listener}=127.0.0.1:0"));
        }
        for setting in ["bloomd.udp=off", "rmbd.udp=off"].iter().chain(settings) {
            command.arg("--set").arg(setting);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        note(data_dir, child.id())?;
        let mut node = Node {
            child,
            listeners: BTreeMap::new(),
            data_dir: data_dir.to_owned(),
        };
        let listeners: BTreeMap<String, String> = wait_for("a node to serve", || {
            if let Some(status) = node.child.try_wait()? {
                let log = fs::read_to_string(data_dir.with_extension("log"))?;
                return Err(format!("a node ended with {status}: {log}").into());
            }
            let text = fs::read_to_string(&file).unwrap_or_default();
            Ok(serde_json::from_str(&text).ok())
        })?;
        for (key, address) in listeners {
            node.listeners.insert(key, address.parse()?);
        }
        Ok(node)
    }

    /// Starts a node that joins others.
    pub(crate) fn join(data_dir: &Path, others: &[&Node], settings: &[&str]) -> Outcome<Node> {
        let mut seeds = Vec::new();
        for other in others {
            seeds.push(other.address("group.listen")?.to_string());
        }
        let join = format!("group.join={}", seeds.join(","));
        let mut all = vec![join.as_str()];
        all.extend_from_slice(settings);
        Node::start(data_dir, &all)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub(crate) fn address(&self, key: &str) -> Outcome<SocketAddr> {
        let address = self.listeners.get(key).copied();
        address.ok_or_else(|| format!("a node without {key}").into())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(mut self) -> Outcome {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )?;
        wait_for("a node to end", || Ok(self.child.try_wait()?))?;
        Ok(())
    }

    /// User and system time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Outcome<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        // User and system time are the 14th and 15th field; the second may have spaces.
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |at: usize| fields.get(at).unwrap_or(&"").parse::<f64>();
        Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
    }

    /// The same of one of its threads, by name; 0 for one that it has not.
    pub(crate) fn thread_seconds(&self, name: &str) -> Outcome<f64> {
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            if stat.contains(&format!("({name})")) {
                let rest = stat.rsplit(") ").next().unwrap_or_default();
                let fields: Vec<&str> = rest.split(' ').collect();
                let ticks = |at: usize| fields.get(at).unwrap_or(&"").parse::<f64>();
                return Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND);
            }
        }
        Ok(0.0)
    }

    /// A line of `/proc/PID/status`, in bytes: `VmRSS` is the resident memory, `VmHWM` its peak.
    pub(crate) fn memory_bytes(&self, line: &str) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let mut words = status.lines().map(str::split_whitespace);
        let kib = words.find_map(|mut words| {
            let name = words.next()?.strip_suffix(':')?;
            (name == line).then(|| words.next())?
        });
        Ok(kib.ok_or("no such line of memory")?.parse::<f64>()? * 1024.0)
    }

    /// Begins the peak of memory anew, where the kernel lets us.
    pub(crate) fn reset_peak(&self) {
        drop(fs::write(
            format!("/proc/{}/clear_refs", self.id()),
            RESET_PEAK,
        ));
    }

    /// A metric; the sum over its members if it has one value for each.
    pub(crate) fn metric(&self, name: &str) -> Outcome<f64> {
        let text = self.get("/metrics")?;
        let mut sum = None;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(name) else {
                continue;
            };
            if rest.starts_with('{') || rest.starts_with(' ') {
                let value = rest.rsplit(' ').next().unwrap_or_default();
                sum = Some(sum.unwrap_or(0.0) + value.parse::<f64>()?);
            }
        }
        Ok(sum.unwrap_or(0.0))
    }

    /// Bytes of frames that it has sent to other members.
    pub(crate) fn sent_bytes(&self) -> Outcome<f64> {
        self.metric("grapevine_group_sent_bytes_total")
    }

    /// Waits until it is connected to so many members.
    pub(crate) fn wait_for_peers(&self, count: usize) -> Outcome {
        wait_for("members to connect", || {
            let status: Value = serde_json::from_str(&self.get("/api/v1/group")?)?;
            Ok((status["connected"] == count).then_some(()))
        })
    }

    /// Waits until so many members have everything that it has. What it shows is up to half a
    /// second old: right when they were not connected before, or nothing was set lately.
    pub(crate) fn wait_for_copies(&self, others: usize) -> Outcome {
        wait_for("the others to be in step", || {
            let connected = self.metric("grapevine_group_peers")? == others as f64;
            let lag = self.metric("grapevine_group_lag_operations")?;
            Ok((connected && lag == 0.0).then_some(()))
        })
    }

    /// The same just after something was set.
    pub(crate) fn settle(&self, others: usize) -> Outcome {
        thread::sleep(STATUS_AGE_MAX);
        self.wait_for_copies(others)
    }

    fn get(&self, path: &str) -> Outcome<String> {
        let url = format!("http://{}{path}", self.address("http.listen")?);
        Ok(ureq::get(&url).call()?.body_mut().read_to_string()?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whatever became of the measurement, its nodes end with it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The program, built beside this one.
pub(crate) fn program() -> Outcome<PathBuf> {
    let here = std::env::current_exe()?;
    let directory = here.ancestors().nth(2).ok_or("no place of its own")?;
    Ok(directory.join("grapevine"))
}

/// Writes down which process is whose, for whoever has to clean up after an interruption.
fn note(data_dir: &Path, id: u32) -> Outcome {
    let place = data_dir.with_file_name("processes");
    let mut file = OpenOptions::new().append(true).create(true).open(place)?;
    Ok(writeln!(file, "{id}")?)
}

/// What a node used over a while.
pub(crate) struct Usage<'a> {
    node: &'a Node,
    cpu: f64,
    thread: f64,
    since: Instant,
}

impl<'a> Usage<'a> {
    pub(crate) fn begin(node: &'a Node) -> Outcome<Self> {
        Ok(Usage {
            node,
            cpu: node.cpu_seconds()?,
            thread: node.thread_seconds("group")?,
            since: Instant::now(),
        })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// Seconds of CPU since the beginning.
    pub(crate) fn cpu(&self) -> Outcome<f64> {
        Ok(self.node.cpu_seconds()? - self.cpu)
    }

    /// Those of the thread that synchronises.
    pub(crate) fn group_thread(&self) -> Outcome<f64> {
        Ok(self.node.thread_seconds("group")? - self.thread)
    }
}
