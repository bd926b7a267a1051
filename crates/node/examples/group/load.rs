//! Clients: one that asks and waits, one that sets keys at a steady rate, and `grapevine bench`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::node::{Node, program};
use crate::{DEADLINE, Outcome};

/// One connection to a node, in bloomd's protocol.
pub(crate) struct Client {
    stream: TcpStream,
    input: BufReader<TcpStream>,
    line: String,
}

impl Client {
    pub(crate) fn connect(node: &Node) -> Outcome<Client> {
        let stream = TcpStream::connect(node.address("bloomd.tcp")?)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let input = BufReader::new(stream.try_clone()?);
        Ok(Client {
            stream,
            input,
            line: String::new(),
        })
    }

    /// Sends a line (its end included) and gives the line that answers it, without its end.
    pub(crate) fn ask(&mut self, line: &str) -> Outcome<&str> {
        self.stream.write_all(line.as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> Outcome<&str> {
        self.line.clear();
        if self.input.read_line(&mut self.line)? == 0 {
            return Err("the node hung up".into());
        }
        Ok(self.line.trim_end())
    }

    /// The same, where another answer than `expected` ends the measurement.
    pub(crate) fn expect(&mut self, line: &str, expected: &str) -> Outcome {
        match self.ask(line)? {
            answer if answer == expected => Ok(()),
            answer => Err(format!("{} was answered {answer}", line.trim_end()).into()),
        }
    }

    /// A number that `info` says of a filter.
    pub(crate) fn info(&mut self, filter: &str, name: &str) -> Outcome<f64> {
        self.ask(&format!("info {filter}\n"))?;
        let mut found = None;
        loop {
            match self.answer()?.split_once(' ') {
                Some((known, value)) if known == name => found = Some(value.parse()?),
                Some(_) => {}
                None => return found.ok_or_else(|| format!("info says no {name}").into()),
            }
        }
    }

    /// Makes a filter.
    pub(crate) fn create(&mut self, filter: &str, capacity: u64) -> Outcome {
        let line = format!("create {filter} capacity={capacity} prob=0.001\n");
        self.expect(&line, "Done")
    }
}

/// Sets new keys from one connection, as many in each millisecond as the rate has, one line a key.
pub(crate) struct SteadyLoad<'a> {
    pub(crate) node: &'a Node,
    pub(crate) filter: &'a str,
    pub(crate) prefix: String,
    /// Keys set each millisecond.
    pub(crate) keys_per_ms: u64,
}

impl SteadyLoad<'_> {
    /// Runs until `stop`; counts into `keys` what was set. A millisecond whose replies are late is
    /// made up for by those after it.
    pub(crate) fn run(&self, stop: &AtomicBool, keys: &AtomicU64) -> Outcome {
        let mut client = Client::connect(self.node)?;
        let (begun, mut lines) = (Instant::now(), String::new());
        let mut due = begun;
        while !stop.load(Relaxed) {
            let from = keys.load(Relaxed);
            lines.clear();
            for number in from..from + self.keys_per_ms {
                writeln!(lines, "s {} {}{number:012}", self.filter, self.prefix)?;
            }
            client.stream.write_all(lines.as_bytes())?;
            for _ in 0..self.keys_per_ms {
                if client.answer()? != "Yes" && client.line.trim_end() != "No" {
                    return Err(format!("a set was answered {}", client.line).into());
                }
            }
            keys.store(from + self.keys_per_ms, Relaxed);
            due += Duration::from_millis(1);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    /// Runs it beside `work`; gives what that gives, the keys set and the seconds it took.
    pub(crate) fn beside<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, f64, f64)> {
        let (stop, keys) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let begun = Instant::now();
            let load = scope.spawn(|| self.run(&stop, &keys).map_err(|error| error.to_string()));
            let done = work();
            stop.store(true, Relaxed);
            load.join().map_err(|_| "the load panicked")??;
            let seconds = begun.elapsed().as_secs_f64();
            Ok((done?, keys.load(Relaxed) as f64, seconds))
        })
    }
}

/// Checks one key every two milliseconds until `stop`, waiting for each answer: the microseconds
/// that each took. (An open loop of `grapevine bench` takes a processor for itself, of which there
/// may be two.)
pub(crate) fn probe(node: &Node, line: &str, stop: &AtomicBool) -> Outcome<Vec<f64>> {
    let mut client = Client::connect(node)?;
    let (mut times, mut due) = (Vec::new(), Instant::now());
    while !stop.load(Relaxed) {
        let asked = Instant::now();
        client.ask(line)?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
        due = (due + PROBE_EVERY).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(times)
}

/// The same beside `work`.
pub(crate) fn probe_beside<T>(
    node: &Node,
    line: &str,
    work: impl FnOnce() -> Outcome<T>,
) -> Outcome<(T, Vec<f64>)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| probe(node, line, &stop).map_err(|error| error.to_string()));
        let done = work();
        stop.store(true, Relaxed);
        let times = asking.join().map_err(|_| "the probe panicked")??;
        Ok((done?, times))
    })
}

const PROBE_EVERY: Duration = Duration::from_millis(2);

/// Runs `grapevine bench` on a node and gives its report.
pub(crate) fn bench(node: &Node, filter: &str, arguments: &[&str]) -> Outcome<Value> {
    let output = Command::new(program()?)
        .args(["bench", "--json", "--no-create", "--filter", filter])
        .args(["--addr", &node.address("bloomd.tcp")?.to_string()])
        .args(["--server-pid", &node.id().to_string()])
        .args(arguments)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Sets that many new keys as fast as one connection can, 100 a line; gives the seconds it took.
pub(crate) fn fill(node: &Node, filter: &str, prefix: &str, keys: u64) -> Outcome<f64> {
    let (count, requests) = (keys.to_string(), (keys / 100).to_string());
    let bulk = ["--bulk", "100", "--pipeline", "16", "--operation", "set"];
    let size = ["--keys", &count, "--requests", &requests];
    let named = ["--prefix", prefix, "--key-length", KEY_BYTES];
    let report = bench(node, filter, &[&bulk[..], &size, &named].concat())?;
    number(&report, "/elapsed_s")
}

/// Bytes of a key that [`fill`] sets, prefix included.
const KEY_BYTES: &str = "16";

/// The last key that [`fill`] sets.
pub(crate) fn last_key(prefix: &str, keys: u64) -> String {
    let digits = 16 - prefix.len();
    format!("{prefix}{:0digits$}", keys - 1)
}

/// A number in a report.
pub(crate) fn number(report: &Value, place: &str) -> Outcome<f64> {
    let found = report.pointer(place).and_then(Value::as_f64);
    found.ok_or_else(|| format!("a report without {place}").into())
}
