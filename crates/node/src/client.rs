//! The client of a node's HTTP interface that the commands use.

mod connection;

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::OnceLock;

use grapevine_store::disk::lock_holder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::request::Builder;
use ureq::http::{HeaderValue, Method};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::{Agent, Body, SendBody};

use connection::{Caller, Patience, Silence};

use crate::cli::{NodeAddress, Owner};
use crate::config::{GlobalOptions, Secret, SecretError, Surroundings, read_secret};

/// Largest answer that is not a file, in bytes: a million results take six.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Largest refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;
/// The environment variable that names the file with the token.
const TOKEN_VARIABLE: &str = crate::config::TOKEN_FILE_VARIABLE;

/// The header of `/livez` that names the data directory of a node.
pub(crate) const NODE_HEADER: &str = "grapevine-node";

/// Bytes of a request on their way to the socket.
const OUTPUT_BYTES: usize = 256 << 10;

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is nobody, or not an HTTP server.
    #[error(
        "no node answers at {node}; start one with `grapevine serve`, or name another with \
         --node or --data-dir"
    )]
    NoAnswer {
        /// The address.
        node: NodeAddress,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// No node uses the data directory whose file names the address.
    #[error(
        "no node runs on {}: nobody answers at {node}, which its listeners.json names, and no process \
         holds its lock. Start one with `grapevine serve --data-dir`",
        directory.display()
    )]
    NotRunning {
        /// The address.
        node: NodeAddress,
        /// The data directory.
        directory: PathBuf,
    },
    /// Nobody accepts a connection.
    #[error(
        "{node} has not accepted a connection within {seconds} s; start a node with `grapevine serve`, or \
         name another with --node or --data-dir"
    )]
    NotAccepted {
        /// The address.
        node: NodeAddress,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It sends nothing. Whether the request was carried out is not known.
    #[error("gave up waiting for {node}: {silence}. Look at its log, or restart it")]
    Silent {
        /// The address.
        node: NodeAddress,
        /// For how long.
        silence: Silence,
    },
    /// The connection broke in the middle. Whether the request was carried out is not known.
    #[error("the connection to {node} broke")]
    Broken {
        /// The address.
        node: NodeAddress,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// The node refused.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The word that programs go by, such as `not_found`.
        code: String,
        /// What the node says.
        message: String,
        /// The path that was asked for.
        path: String,
    },
    /// It wants a token.
    #[error("{node} wants another token, or one at all: --token-file or {TOKEN_VARIABLE}")]
    Token {
        /// The address.
        node: NodeAddress,
    },
    /// The answer is not one of Grapevine's.
    #[error("{node} answers, but not as a grapevine node does (status {status})")]
    Foreign {
        /// The address.
        node: NodeAddress,
        /// HTTP status.
        status: u16,
    },
    /// Another node, or another program, has the port that the node of the data directory had.
    #[error(
        "{node} is not the node of {}: its listeners.json is left from a node that was killed, and \
         another program listens there now. Start a node on this directory, or name one with --node",
        directory.display()
    )]
    OtherNode {
        /// The address.
        node: NodeAddress,
        /// The data directory.
        directory: PathBuf,
    },
    /// The file with the token cannot be used.
    #[error(transparent)]
    TokenFile(#[from] SecretError),
}

impl ClientError {
    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, ClientError::Refused { code, .. } if code == "not_found" || code == "no_table")
    }

    /// Whether what was asked for can be no name, key, value or parameter: wrong usage.
    #[must_use]
    pub fn is_wrong_argument(&self) -> bool {
        const CODES: [&str; 7] = [
            "name",
            "parameters",
            "parameter",
            "key",
            "value",
            "ttl",
            "address",
        ];
        matches!(self, ClientError::Refused { code, .. } if CODES.contains(&code.as_str()))
    }

    /// Whether it is a row, of a table that is there, that is absent.
    #[must_use]
    pub fn is_absent_row(&self) -> bool {
        matches!(self, ClientError::Refused { code, .. } if code == "not_found")
    }
}

/// What a request carries.
pub enum RequestBody<'a> {
    /// Nothing.
    Nothing,
    /// Bytes of a media type.
    Bytes {
        /// Such as `application/json`.
        media_type: &'static str,
        /// As they are sent.
        bytes: &'a [u8],
    },
    /// A filter's file, of any length.
    File(&'a mut dyn Read),
}

/// A client of one node; it keeps its connection.
pub struct Client {
    agent: Agent,
    node: NodeAddress,
    token: Option<Secret>,
    patience: Patience,
    /// Set once the node is known to be the one that is meant.
    met: OnceLock<()>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: ErrorBody,
}

#[derive(Deserialize)]
struct ErrorBody {
    code: String,
    message: String,
}

impl Client {
    /// A client of `node`, with the token that the options or the environment name.
    ///
    /// # Errors
    /// When the token's file cannot be used.
    pub fn new(
        node: NodeAddress,
        options: &GlobalOptions,
        surroundings: &Surroundings,
    ) -> Result<Self, ClientError> {
        let variable = surroundings
            .variables
            .get(std::ffi::OsStr::new(TOKEN_VARIABLE));
        let variable = variable.filter(|path| !path.is_empty()).map(PathBuf::from);
        let path = options.token_file.clone().or(variable);
        let token = path.map(|path| read_secret(&path)).transpose()?;
        let patience = Patience {
            answer: options.answer_within,
            ..Patience::default()
        };
        Ok(Client::with_patience(node, token, patience))
    }

    fn with_patience(node: NodeAddress, token: Option<Secret>, patience: Patience) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A node is on this machine or in its group, never behind a proxy for the web.
            .proxy(None)
            .output_buffer_size(OUTPUT_BYTES)
            .user_agent(concat!("grapevine/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = Agent::with_parts(config, Caller(patience), DefaultResolver::default());
        Client {
            agent,
            node,
            token,
            patience,
            met: OnceLock::new(),
        }
    }

    /// The node it talks to.
    #[must_use]
    pub fn node(&self) -> &NodeAddress {
        &self.node
    }

    /// Sends a request and reads its JSON answer.
    ///
    /// # Errors
    /// When there is no answer or a refusal.
    pub fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: RequestBody<'_>,
    ) -> Result<T, ClientError> {
        let (status, mut answer) = self.send(method, path, body)?;
        let read = answer.with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let text = read.map_err(|source| self.broken(source))?;
        serde_json::from_slice(&text).map_err(|_| self.foreign(status))
    }

    /// Sends a request whose answer has no body.
    ///
    /// # Errors
    /// When there is no answer or a refusal.
    pub fn tell(&self, method: Method, path: &str) -> Result<(), ClientError> {
        self.send(method, path, RequestBody::Nothing).map(drop)
    }

    /// Sends a request and gives the bytes that answer it as they come.
    ///
    /// # Errors
    /// When there is no answer or a refusal.
    pub fn download(&self, path: &str) -> Result<impl Read + use<>, ClientError> {
        let (_, answer) = self.send(Method::GET, path, RequestBody::Nothing)?;
        Ok(answer.into_with_config().limit(u64::MAX).reader())
    }

    /// Makes sure that who answers is the node of the data directory whose file names the address,
    /// before it is told anything, such as the token.
    fn meet(&self) -> Result<(), ClientError> {
        let Some(owner) = self.node.owner() else {
            return Ok(());
        };
        if self.met.get().is_some() {
            return Ok(());
        }
        let answered = self.agent.get(format!("{}/livez", self.node)).call();
        let answered = answered.map_err(|source| self.unanswered(source))?;
        let named = answered.headers().get(NODE_HEADER);
        if named.is_none_or(|named| named.as_bytes() != owner.origin.as_bytes()) {
            return Err(ClientError::OtherNode {
                node: self.node.clone(),
                directory: owner.directory.clone(),
            });
        }
        // The connection serves for what follows once this was read to its end.
        let rest = answered.into_body().into_with_config();
        drop(rest.limit(REFUSAL_BYTES_MAX).read_to_vec());
        self.met.get_or_init(|| ());
        Ok(())
    }

    /// Sends a request; a refusal is an error.
    fn send(
        &self,
        method: Method,
        path: &str,
        body: RequestBody<'_>,
    ) -> Result<(u16, Body), ClientError> {
        self.meet()?;
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.node));
        if let Some(token) = &self.token {
            let value = [b"Bearer ", token.expose()].concat();
            let value = HeaderValue::from_bytes(&value);
            let mut value = value.map_err(|_| self.token_refused())?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        let answered = self
            .run(request, body)
            .map_err(|source| self.unanswered(source))?;
        let status = answered.status().as_u16();
        let body = answered.into_body();
        if (200..300).contains(&status) {
            return Ok((status, body));
        }
        Err(self.refusal(status, body, path))
    }

    fn run(
        &self,
        request: Builder,
        body: RequestBody<'_>,
    ) -> Result<ureq::http::Response<Body>, ureq::Error> {
        const FILE: &str = "application/octet-stream";
        match body {
            RequestBody::Nothing => {
                let posts = request
                    .method_ref()
                    .is_some_and(|method| matches!(*method, Method::POST | Method::PUT));
                if posts {
                    self.agent.run(request.body(&[][..])?)
                } else {
                    self.agent.run(request.body(())?)
                }
            }
            RequestBody::Bytes { media_type, bytes } => self
                .agent
                .run(request.header("content-type", media_type).body(bytes)?),
            RequestBody::File(file) => {
                let request = request.header("content-type", FILE);
                self.agent.run(request.body(SendBody::from_reader(file))?)
            }
        }
    }

    fn unanswered(&self, source: ureq::Error) -> ClientError {
        use io::ErrorKind as K;
        let node = self.node.clone();
        if let Some(silence) = connection::silence(&source) {
            return ClientError::Silent { node, silence };
        }
        if let ureq::Error::Timeout(_) = source {
            let seconds = self.patience.connect.as_secs();
            return ClientError::NotAccepted { node, seconds };
        }
        let nobody = match &source {
            ureq::Error::Io(error) => matches!(
                error.kind(),
                K::ConnectionRefused
                    | K::HostUnreachable
                    | K::NetworkUnreachable
                    | K::AddrNotAvailable
            ),
            _ => true,
        };
        let source = Box::new(source);
        let idle = |owner: &&Owner| matches!(lock_holder(&owner.directory), Ok(None));
        if let (true, Some(owner)) = (nobody, self.node.owner().filter(idle)) {
            let directory = owner.directory.clone();
            ClientError::NotRunning { node, directory }
        } else if nobody {
            ClientError::NoAnswer { node, source }
        } else {
            ClientError::Broken { node, source }
        }
    }

    fn broken(&self, source: ureq::Error) -> ClientError {
        if let Some(silence) = connection::silence(&source) {
            let node = self.node.clone();
            return ClientError::Silent { node, silence };
        }
        ClientError::Broken {
            node: self.node.clone(),
            source: Box::new(source),
        }
    }

    fn token_refused(&self) -> ClientError {
        ClientError::Token {
            node: self.node.clone(),
        }
    }

    fn foreign(&self, status: u16) -> ClientError {
        ClientError::Foreign {
            node: self.node.clone(),
            status,
        }
    }

    fn refusal(&self, status: u16, mut body: Body, path: &str) -> ClientError {
        let text = body.with_config().limit(REFUSAL_BYTES_MAX).read_to_vec();
        let said = text
            .ok()
            .and_then(|text| serde_json::from_slice::<ErrorAnswer>(&text).ok());
        match said {
            Some(ErrorAnswer { error }) if error.code == "token" => self.token_refused(),
            Some(ErrorAnswer { error }) => ClientError::Refused {
                status,
                code: error.code,
                message: error.message,
                path: path.to_owned(),
            },
            None => self.foreign(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    const LIFE: Duration = Duration::from_millis(300);
    /// How long anything may take before a test fails.
    const DEADLINE: Duration = Duration::from_secs(30);

    fn client(address: SocketAddr, answer: Option<Duration>) -> Client {
        let patience = Patience {
            connect: LIFE,
            silence: Duration::from_millis(200),
            life: LIFE,
            answer,
        };
        let node = NodeAddress::at(address).expect("an address");
        Client::with_patience(node, None, patience)
    }

    /// A server on a thread: `serve` is given each connection and what it asks for.
    fn server(serve: impl Fn(TcpStream, &str) + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let serve = std::sync::Arc::new(serve);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let serve = std::sync::Arc::clone(&serve);
                std::thread::spawn(move || {
                    let mut head = [0; 4096];
                    let count = stream.read(&mut head).unwrap_or(0);
                    serve(stream, &String::from_utf8_lossy(&head[..count]));
                });
            }
        });
        address
    }

    /// Keeps a connection open and does nothing.
    fn hold(stream: TcpStream) {
        loop {
            std::thread::park();
            assert!(stream.peer_addr().is_ok());
        }
    }

    fn answer(mut stream: &TcpStream, text: &str) {
        let length = text.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
        stream.write_all(head.as_bytes()).expect("it takes it");
    }

    #[test]
    fn a_node_that_hangs_is_given_up_and_named() {
        let address = server(|stream, _| hold(stream));
        let begun = Instant::now();
        let silent = client(address, None).tell(Method::GET, "/api/v1/filters");
        let error = silent.expect_err("nobody answers");
        assert!(matches!(error, ClientError::Silent { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains(&address.to_string()) && said.contains("/livez"),
            "{said}"
        );
        assert!(begun.elapsed() < DEADLINE);
        // One that stops reading a long body hangs, too.
        let body = vec![b'x'; 64 << 20];
        let bytes = RequestBody::File(&mut &body[..]);
        let silent = client(address, None).ask::<serde_json::Value>(Method::PUT, "/", bytes);
        let error = silent.expect_err("nobody reads");
        assert!(matches!(error, ClientError::Silent { .. }), "{error:?}");
    }

    #[test]
    fn a_node_that_lives_may_take_its_time_unless_it_is_given_less() {
        let asked = std::sync::Arc::new(AtomicU64::new(0));
        let counted = std::sync::Arc::clone(&asked);
        let address = server(move |stream, request| {
            if request.starts_with("GET /livez") {
                counted.fetch_add(1, Ordering::Relaxed);
                return answer(&stream, "alive");
            }
            let begun = Instant::now();
            while counted.load(Ordering::Relaxed) < 3 && begun.elapsed() < DEADLINE {
                std::thread::yield_now();
            }
            answer(&stream, "[]");
        });
        let done = client(address, None).ask::<serde_json::Value>(
            Method::GET,
            "/slow",
            RequestBody::Nothing,
        );
        assert_eq!(done.expect("an answer"), serde_json::json!([]));
        assert!(asked.load(Ordering::Relaxed) >= 3);
        let address = server(|stream, request| match request.starts_with("GET /livez") {
            true => answer(&stream, "alive"),
            false => hold(stream),
        });
        let late = client(address, Some(Duration::from_millis(700))).tell(Method::GET, "/slow");
        let error = late.expect_err("it is late");
        let said = error.to_string();
        assert!(said.contains("within 700ms (--answer-within)"), "{said}");
    }

    #[test]
    fn a_node_that_accepts_nothing_is_given_up() {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).expect("bound");
        socket.listen(0).expect("it listens");
        let address = socket.local_addr().ok().and_then(|at| at.as_socket());
        let address = address.expect("its address");
        // Nobody accepts them, and there is no room for more.
        let full: Vec<_> = (0..4)
            .map(|_| TcpStream::connect_timeout(&address, LIFE))
            .collect();
        assert!(full.iter().any(Result::is_err), "it has room for many");
        let refused = client(address, None).tell(Method::GET, "/");
        let error = refused.expect_err("nobody accepts");
        assert!(
            matches!(error, ClientError::NotAccepted { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(&address.to_string()));
    }
}
