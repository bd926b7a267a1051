//! A machine of the lab: a namespace with one interface on the switch, a data directory, and a
//! node that comes and goes. Tests reach its gateways on its own loopback.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Signal;
use serde_json::Value;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use super::frame::hardware_address;
use super::namespace::Namespace;
use super::process::Process;
use super::{DEADLINE, within};

const INTERFACE: &str = "lab0";
const MTU: u16 = 1280;
const BLOOMD_PORT: u16 = 8673;
const HTTP_PORT: u16 = 8675;
/// Where the group listens.
pub(crate) const GROUP_PORT: u16 = 8676;

pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) number: usize,
    pub(crate) namespace: Namespace,
    dir: PathBuf,
    secret: PathBuf,
    process: Mutex<Option<Process>>,
}

impl Machine {
    /// A machine, and the far end of its interface. Its data and its log are in `dir`.
    pub(crate) fn new(
        name: &'static str,
        number: usize,
        dir: &Path,
        secret: &Path,
    ) -> (Self, SyncDevice) {
        let namespace = Namespace::new();
        let device = namespace.run(|| {
            let builder = DeviceBuilder::new().name(INTERFACE).layer(Layer::L2);
            builder.build_sync().expect("a TAP device: /dev/net/tun")
        });
        let machine = Machine {
            name,
            number,
            namespace,
            dir: dir.join(name),
            secret: secret.to_owned(),
            process: Mutex::new(None),
        };
        let mac = hardware_address(number)
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        machine.namespace.ip(&[
            format!("link set {INTERFACE} address {mac} mtu {MTU} up"),
            format!("addr add {}/24 dev {INTERFACE}", machine.v4()),
            format!("addr add {}/64 dev {INTERFACE} nodad", machine.v6()),
        ]);
        (machine, device)
    }

    fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(
            10,
            86,
            76,
            u8::try_from(self.number + 1).expect("few machines"),
        )
    }

    fn v6(&self) -> Ipv6Addr {
        let last = u16::try_from(self.number + 1).expect("few machines");
        Ipv6Addr::new(0xfd86, 0x76, 0, 0, 0, 0, 0, last)
    }

    /// Where its group listens over IPv4, on the lab's network.
    pub(crate) fn over_v4(&self) -> String {
        format!("{}:{GROUP_PORT}", self.v4())
    }

    /// The same over IPv6.
    pub(crate) fn over_v6(&self) -> String {
        format!("[{}]:{GROUP_PORT}", self.v6())
    }

    /// Takes its IPv4 address away and gives it another; returns where the group listens then.
    pub(crate) fn move_to(&self, last: u8) -> String {
        let address = Ipv4Addr::new(10, 86, 76, last);
        self.namespace.ip(&[
            format!("addr del {}/24 dev {INTERFACE}", self.v4()),
            format!("addr add {address}/24 dev {INTERFACE}"),
        ]);
        format!("{address}:{GROUP_PORT}")
    }

    fn arguments(&self, listen: &str, join: &[&str], settings: &[&str]) -> Vec<String> {
        let mut arguments = vec!["serve".to_owned(), "--data-dir".to_owned()];
        arguments.push(self.data().display().to_string());
        let mut set = vec![
            format!("node.name={}", self.name),
            format!("group.listen={listen}"),
            format!("group.secret_file={}", self.secret.display()),
            format!("group.join={}", join.join(",")),
            "bloomd.udp=off".to_owned(),
            "rmbd.udp=off".to_owned(),
        ];
        set.extend(settings.iter().map(|&setting| setting.to_owned()));
        for setting in set {
            arguments.extend(["--set".to_owned(), setting]);
        }
        arguments
    }

    /// Starts its node, which listens at `listen`, and waits until it serves.
    pub(crate) fn start(&self, listen: &str, join: &[&str], settings: &[&str]) {
        let arguments = self.arguments(listen, join, settings);
        // A killed node leaves the file of its last life behind.
        let ready = self.data().join("listeners.json");
        drop(std::fs::remove_file(&ready));
        let log = self.log_file();
        *self.process() = Some(Process::start(&self.namespace, &arguments, log));
        within(DEADLINE, &format!("{} to be ready", self.name), || {
            if let Some(status) = self.process().as_mut().and_then(Process::ended) {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            std::fs::read_to_string(&ready).is_ok_and(|text| text.contains("http.listen"))
        });
    }

    /// Starts its node, which is to refuse that; what it says.
    pub(crate) fn fails_to_start(&self, listen: &str, settings: &[&str]) -> String {
        let before = self.log().len();
        let mut process = Process::start(
            &self.namespace,
            &self.arguments(listen, &[], settings),
            self.log_file(),
        );
        within(DEADLINE, &format!("{} to end", self.name), || {
            process.ended().is_some()
        });
        assert_eq!(process.ended().and_then(|status| status.code()), Some(1));
        self.log().split_off(before)
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        let mut process = self.process().take().expect("it runs");
        process.end(Signal::KILL);
    }

    /// SIGTERM.
    pub(crate) fn stop(&self) {
        let mut process = self.process().take().expect("it runs");
        let status = process.end(Signal::TERM);
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log_file(&self) -> File {
        std::fs::create_dir_all(&self.dir).expect("a directory");
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).open(self.dir.join("log"));
        log.expect("a log")
    }

    /// What its nodes have logged so far.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// A connection to a port of its loopback, made as by a program that runs there.
    fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let address = (Ipv4Addr::LOCALHOST, port);
        let stream = self.namespace.run(|| TcpStream::connect(address))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection to bloomd's gateway.
    pub(crate) fn bloomd(&self) -> io::Result<Client> {
        let stream = self.connect(BLOOMD_PORT)?;
        let input = BufReader::new(stream.try_clone()?);
        Ok(Client { stream, input })
    }

    /// Asks the bloomd gateway of a node that has to answer.
    pub(crate) fn ask(&self, line: &str) -> String {
        let answer = self.bloomd().and_then(|mut client| client.ask(line));
        answer.unwrap_or_else(|error| panic!("{}: {line}: {error}", self.name))
    }

    /// The status and the body of an HTTP answer.
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let mut stream = self.connect(HTTP_PORT)?;
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or(io::ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
    }

    /// The JSON at a path of its HTTP API.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = self.http("GET", path, "");
        let (status, body) = answer.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(status, 200, "{} {path}: {body}", self.name);
        serde_json::from_str(&body).expect("JSON")
    }

    /// Whether its node takes writes.
    pub(crate) fn is_ready(&self) -> bool {
        self.http("GET", "/readyz", "")
            .is_ok_and(|(status, _)| status == 200)
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.http("GET", "/metrics", "").expect("metrics");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|value| value.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not a number in:\n{text}"))
    }

    /// How many other members it is connected to.
    pub(crate) fn connected(&self) -> u64 {
        self.json("/api/v1/group")["connected"]
            .as_u64()
            .expect("a number")
    }

    /// A member as it sees it.
    pub(crate) fn member(&self, name: &str) -> Value {
        let group = self.json("/api/v1/group");
        let members = group["members"].as_array().expect("members");
        let known = members.iter().find(|member| member["name"] == name);
        known.expect("a member of that name").clone()
    }

    /// Whether it is connected to so many others, and none of them lacks anything.
    pub(crate) fn is_in_step(&self, others: u64) -> bool {
        let group = self.json("/api/v1/group");
        group["connected"] == others
            && group["copies"]["members"] == others + 1
            && group["copies"]["in_step"] == others + 1
    }
}

/// A client of bloomd's protocol.
pub(crate) struct Client {
    stream: TcpStream,
    input: BufReader<TcpStream>,
}

impl Client {
    /// Sends a line and gives the line that answers it, without its end; an error when there is
    /// no whole one.
    pub(crate) fn ask(&mut self, line: &str) -> io::Result<String> {
        self.stream.write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        self.input.read_line(&mut answer)?;
        match answer.strip_suffix('\n') {
            Some(answer) => Ok(answer.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
