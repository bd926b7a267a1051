//! `set` and `check`: keys in, answers out.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use grapevine_core::filter::Outcome;
use grapevine_store::filters::{Handle, Scratch};
use grapevine_store::log::Position;
use serde_json::json;

use super::answer::{self, Answer, Answers};
use super::error::ApiError;
use super::framing::{Framing, KeyStream};
use super::query::Query;
use super::request::FilterName;
use super::{Api, body};

/// Keys looked up in one go.
const BATCH_KEYS_MAX: usize = 4096;
/// An unfinished key, with the piece behind it, that is not counted among those of all requests.
const FREE_BYTES: usize = 1 << 20;
/// Keys of a request that asks for a result each.
const RESULTS_MAX: u64 = 1 << 20;
/// Keys after which a long request has its changes written: others wait for the log as well.
const SETTLE_KEYS: u64 = 1 << 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Set,
    Check,
}

/// `POST /api/v1/filters/{name}/set`.
pub(super) async fn set(api: State<Arc<Api>>, name: FilterName, request: Request) -> Response {
    respond(&api, &name, request, Operation::Set).await
}

/// `POST /api/v1/filters/{name}/check`.
pub(super) async fn check(api: State<Arc<Api>>, name: FilterName, request: Request) -> Response {
    respond(&api, &name, request, Operation::Check).await
}

async fn respond(api: &Api, name: &FilterName, request: Request, operation: Operation) -> Response {
    let (head, mut body) = request.into_parts();
    let answered = async {
        let results = wants_results(head.uri.query())?;
        let framing = framing(&head.headers)?;
        let handle = api.loaded_filter(name).await?;
        let mut lookup = Lookup::new(api, &handle, operation, results);
        lookup.run(&mut body, framing).await?;
        Ok::<_, ApiError>(lookup.answer())
    };
    match answered.await {
        Ok(response) => response,
        Err(error) => {
            body::drain(body).await;
            error.into_response()
        }
    }
}

fn wants_results(query: Option<&str>) -> Result<bool, ApiError> {
    let query = Query::read(query, ["results"])?;
    match query.get(0) {
        None | Some(b"all") => Ok(true),
        Some(b"none") => Ok(false),
        Some(other) => Err(ApiError::ParameterValue {
            name: "results",
            value: String::from_utf8_lossy(other).into_owned(),
            expected: "all or none",
        }),
    }
}

fn framing(headers: &HeaderMap) -> Result<Framing, ApiError> {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.map_or(Cow::Borrowed(""), |value| {
        String::from_utf8_lossy(value.as_bytes())
    });
    Framing::of(&given).ok_or_else(|| ApiError::MediaType(given.into_owned()))
}

/// One request: its counts so far.
struct Lookup<'a> {
    api: &'a Api,
    handle: &'a Handle,
    operation: Operation,
    scratch: Scratch,
    answers: Option<Answers>,
    keys: u64,
    yes: u64,
    full: u64,
    position: Position,
    settled_keys: u64,
}

impl<'a> Lookup<'a> {
    fn new(api: &'a Api, handle: &'a Handle, operation: Operation, results: bool) -> Self {
        Lookup {
            api,
            handle,
            operation,
            scratch: Scratch::default(),
            answers: results.then(Answers::default),
            keys: 0,
            yes: 0,
            full: 0,
            position: 0,
            settled_keys: 0,
        }
    }

    async fn run(&mut self, body: &mut Body, framing: Framing) -> Result<(), ApiError> {
        let mut stream = KeyStream::new(framing, self.api.limits.line);
        let mut room = None;
        while let Some(piece) = body::piece(body).await? {
            let unfinished = stream.kept() + piece.len();
            if unfinished > FREE_BYTES {
                self.api.hold(&mut room, unfinished).await?;
            } else {
                room = None;
            }
            stream.feed(&piece, |keys| self.take(keys))?;
            if self.keys - self.settled_keys >= SETTLE_KEYS {
                self.api.engine.settle(self.position).await?;
                self.settled_keys = self.keys;
            }
        }
        stream.finish(|keys| self.take(keys))?;
        Ok(self.api.engine.settle(self.position).await?)
    }

    fn take(&mut self, keys: &[Cow<'_, [u8]>]) -> Result<(), ApiError> {
        let room = match self.answers {
            Some(_) => usize::try_from(RESULTS_MAX - self.keys).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let taken = &keys[..keys.len().min(room)];
        let taken_refs: Vec<&[u8]> = taken.iter().map(|key| &**key).collect();
        for batch in taken_refs.chunks(BATCH_KEYS_MAX) {
            self.look_up(batch)?;
        }
        if keys.len() > room {
            return Err(ApiError::TooManyKeys { limit: RESULTS_MAX });
        }
        Ok(())
    }

    fn look_up(&mut self, batch: &[&[u8]]) -> Result<(), ApiError> {
        let filters = self.api.engine.filters();
        let reached = match self.operation {
            Operation::Set => filters.set(self.handle, batch, &mut self.scratch)?,
            Operation::Check => filters.check(self.handle, batch, &mut self.scratch)?,
        };
        match self.operation {
            Operation::Set => {
                for outcome in self.scratch.outcomes() {
                    let answer = match outcome {
                        Outcome::New => Answer::Yes,
                        Outcome::Seen => Answer::No,
                        Outcome::Full => Answer::Full,
                    };
                    self.yes += u64::from(answer == Answer::Yes);
                    self.full += u64::from(answer == Answer::Full);
                    if let Some(answers) = &mut self.answers {
                        answers.push(answer);
                    }
                }
            }
            Operation::Check => {
                for found in self.scratch.found() {
                    self.yes += u64::from(*found);
                    if let Some(answers) = &mut self.answers {
                        answers.push(if *found { Answer::Yes } else { Answer::No });
                    }
                }
            }
        }
        self.position = self.position.max(reached);
        self.keys += batch.len() as u64;
        Ok(())
    }

    fn answer(self) -> Response {
        let no = self.keys - self.yes - self.full;
        let head = match self.operation {
            Operation::Set => json!({
                "keys": self.keys,
                "new": self.yes,
                "seen": no,
                "full": self.full,
            }),
            Operation::Check => json!({"keys": self.keys, "yes": self.yes, "no": no}),
        };
        match self.answers {
            Some(answers) => answer::with_results(&head, answers),
            None => answer::json(StatusCode::OK, &head),
        }
    }
}
