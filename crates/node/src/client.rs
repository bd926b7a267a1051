//! The client of a node's HTTP interface that the commands use.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::request::Builder;
use ureq::http::{HeaderValue, Method};
use ureq::{Agent, Body, SendBody};

use crate::cli::NodeAddress;
use crate::config::{GlobalOptions, Secret, SecretError, Surroundings, read_secret};

/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is not a file, in bytes: a million results take six.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Largest refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: u64 = 64 << 10;
/// The environment variable that names the file with the token.
const TOKEN_VARIABLE: &str = crate::config::TOKEN_FILE_VARIABLE;

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
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A node is on this machine or in its group, never behind a proxy for the web.
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .output_buffer_size(OUTPUT_BYTES)
            .user_agent(concat!("grapevine/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Ok(Client { agent, node, token })
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

    /// Sends a request; a refusal is an error.
    fn send(
        &self,
        method: Method,
        path: &str,
        body: RequestBody<'_>,
    ) -> Result<(u16, Body), ClientError> {
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
        if nobody {
            ClientError::NoAnswer { node, source }
        } else {
            ClientError::Broken { node, source }
        }
    }

    fn broken(&self, source: ureq::Error) -> ClientError {
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
