//! A server in this process, and requests written byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use grapevine::config::{Durability, SyncMode};
use grapevine::engine::{Engine, FilterDefaults, Keepers};
use grapevine::http::{Limits, Server, TokenSource};
use grapevine::metrics::Metrics;
use grapevine_core::catalogue::Storage;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_store::collections::Collections;
use grapevine_store::disk::{Disk, RealDisk};
use grapevine_store::filters::{Entropy, Options};
use grapevine_store::log::LogConfig;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long an answer may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);
/// Longest key that the servers of these tests take, in bytes.
pub(crate) const KEY_MAX: usize = 1000;
/// Memory that their filters may take, in bytes.
pub(crate) const MEMORY: u64 = 64 << 20;

/// A running server.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) directory: Option<tempfile::TempDir>,
    pub(crate) engine: Arc<Engine>,
    keepers: Option<Keepers>,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    served: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn start() -> Served {
        Served::with_token(TokenSource::none())
    }

    pub(crate) fn with_token(token: TokenSource) -> Served {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = Arc::new(RealDisk::new(directory.path().to_owned()));
        let mut served = Served::on(disk, token);
        served.directory = Some(directory);
        served
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, token: TokenSource) -> Served {
        let options = Options {
            log: LogConfig::default(),
            memory: MEMORY,
            checkpoint_log: 1 << 30,
            idle_unload: None,
        };
        let entropy: Entropy = Arc::new(|| {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).expect("random bytes");
            bytes
        });
        let (collections, _) = Collections::open(disk, options, entropy).expect("it opens");
        let parameters = Parameters {
            capacity: 10_000,
            error: 1e-4,
            growth: Growth::By(4),
        };
        let durability = Durability {
            sync: SyncMode::Interval,
            interval: Duration::from_secs(1),
        };
        let defaults = FilterDefaults {
            parameters,
            storage: Storage::Durable,
        };
        let engine = Engine::new(collections, defaults, durability);
        let keepers = engine.start().expect("threads");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let metrics = Arc::new(Metrics::new(Arc::clone(&engine)));
        let limits = Limits {
            line: KEY_MAX,
            ..Limits::default()
        };
        let server = Server::new(Arc::clone(&engine), metrics, token).with_limits(limits);
        let bound = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = bound.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (stop, stopping) = watch::channel(false);
        let served = runtime.spawn(server.serve(listener, stopping));
        Served {
            address,
            directory: None,
            engine,
            keepers: Some(keepers),
            runtime,
            stop,
            served: Some(served),
        }
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(served) = self.served.take() {
            let ended = async { tokio::time::timeout(DEADLINE, served).await };
            let ended = self.runtime.block_on(ended);
            ended.expect("it stops in time").expect("without a panic");
        }
    }

    pub(crate) fn begin_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// A path in its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_ref().expect("it has one").path()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it accepts");
        let deadline = stream.set_read_timeout(Some(DEADLINE));
        deadline.expect("a timeout can be set");
        stream
    }

    /// Sends a request with `headers` (lines) and gives the answer.
    pub(crate) fn request(&self, line: &str, headers: &str, body: &[u8]) -> Answer {
        let host = if headers.to_ascii_lowercase().contains("host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let length = body.len();
        let mut request = format!(
            "{line} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        let mut stream = self.connect();
        stream.write_all(&request).expect("it takes the request");
        Answer::read(&mut stream)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.request(&format!("GET {path}"), "", b"")
    }

    pub(crate) fn post(&self, path: &str, media_type: &str, body: &[u8]) -> Answer {
        let header = format!("Content-Type: {media_type}\r\n");
        self.request(&format!("POST {path}"), &header, body)
    }

    /// Makes a filter with the defaults.
    pub(crate) fn create(&self, encoded: &str) {
        let line = format!("PUT /api/v1/filters/{encoded}");
        assert_eq!(self.request(&line, "", b"").status, 201, "{encoded}");
    }

    pub(crate) fn set(&self, encoded: &str, keys: &[&str]) -> Value {
        let path = format!("/api/v1/filters/{encoded}/set");
        let body = serde_json::json!({ "keys": keys }).to_string();
        let answer = self.post(&path, "application/json", body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(keepers) = self.keepers.take() {
            // A test may have broken the disk on purpose.
            drop(keepers.stop());
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the connection.
    pub(crate) fn read(stream: &mut TcpStream) -> Answer {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer in time");
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {}", bytes.escape_ascii()));
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut body = bytes[end + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Answer {
            status: status.expect("a status"),
            head,
            body,
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.body.escape_ascii()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    /// Status and code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let said = self.json();
        let code = said["error"]["code"].as_str().expect("a code").to_owned();
        let message = said["error"]["message"].as_str().expect("a message");
        assert!(!message.is_empty());
        (self.status, code)
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\r');
        let end = end.expect("the length of a chunk");
        let length = std::str::from_utf8(&rest[..end]).expect("text");
        let length = usize::from_str_radix(length, 16).expect("a number");
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
}
