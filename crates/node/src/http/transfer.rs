//! Filters as files: export, import, merge. The bytes pass through a short queue between the
//! connection and a thread that reads or writes the bits.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use grapevine_store::filters::{Creation, FilterError};
use http_body::Frame;
use serde_json::json;
use tokio::runtime::Handle as RuntimeHandle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::error::ApiError;
use super::request::FilterName;
use super::{Api, TRANSFERS_MAX, answer, body};
use crate::engine::Engine;

/// Bytes of an exported filter that are sent at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces that wait between the connection and the thread.
const PIECES_WAITING_MAX: usize = 4;
/// How long a client may take nothing of an export.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

impl Api {
    fn transfer(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.transfers)
            .try_acquire_owned()
            .map_err(|_| ApiError::Busy {
                limit: TRANSFERS_MAX,
            })
    }
}

/// `GET /api/v1/filters/{name}/export`.
pub(super) async fn export(
    State(api): State<Arc<Api>>,
    name: FilterName,
) -> Result<Response, ApiError> {
    let permit = api.transfer()?;
    let handle = api.loaded_filter(&name).await?;
    let (send, mut receive) = mpsc::channel(PIECES_WAITING_MAX);
    let engine = Arc::clone(&api.engine);
    let runtime = RuntimeHandle::current();
    drop(tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut out = PieceWriter {
            piece: Vec::with_capacity(PIECE_BYTES),
            send,
            runtime,
        };
        let failure = match engine.filters().export(&handle, &mut out) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => ExportFailure::Client(error),
            Err(error) => ExportFailure::Filter(error),
        };
        // Whoever is gone needs not be told.
        drop(out.give(Err(failure)));
    }));
    // A filter that cannot be exported says so before its first byte.
    let first = match receive.recv().await {
        Some(Err(ExportFailure::Filter(error))) => return Err(error.into()),
        Some(piece) => piece,
        None => return Err(ApiError::Interrupted),
    };
    let body = ExportBody {
        first: Some(first),
        rest: receive,
    };
    let media_type = "application/octet-stream";
    Ok(answer::with_type(
        StatusCode::OK,
        media_type,
        Body::new(body),
    ))
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
enum ExportFailure {
    #[error(transparent)]
    Client(io::Error),
    #[error(transparent)]
    Filter(FilterError),
}

type Piece = Result<Bytes, ExportFailure>;

/// Collects what is written and hands it to the connection.
struct PieceWriter {
    piece: Vec<u8>,
    send: mpsc::Sender<Piece>,
    runtime: RuntimeHandle,
}

impl PieceWriter {
    fn give(&self, piece: Piece) -> io::Result<()> {
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(STALL_TIMEOUT, self.send.send(piece)).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let next = Vec::with_capacity(PIECE_BYTES);
        let piece = std::mem::replace(&mut self.piece, next);
        self.give(Ok(piece.into()))
    }
}

struct ExportBody {
    first: Option<Piece>,
    rest: mpsc::Receiver<Piece>,
}

impl http_body::Body for ExportBody {
    type Data = Bytes;
    type Error = ExportFailure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExportFailure>>> {
        let piece = match self.first.take() {
            Some(first) => Some(first),
            None => std::task::ready!(self.rest.poll_recv(context)),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }
}

/// `PUT /api/v1/filters/{name}/import`.
pub(super) async fn import(
    State(api): State<Arc<Api>>,
    name: FilterName,
    request: Request,
) -> Response {
    let given = name.0.clone();
    let mut body = request.into_body();
    let imported = async {
        if api.engine.filters().get(&given).is_some() {
            return Err(ApiError::Exists);
        }
        let work =
            move |engine: &Engine, file: &mut PieceReader| engine.filters().import(&given, file);
        let position = match upload(&api, &mut body, work).await? {
            Creation::Created(position) | Creation::Shown(position) => position,
            Creation::Exists(_) => return Err(ApiError::Exists),
            Creation::Reclaiming => return Err(ApiError::Reclaiming),
        };
        api.engine.settle(position).await?;
        let summary = api.filter(&name)?.summary();
        let said = json!({
            "outcome": "created",
            "inserted": summary.inserted,
            "layers": summary.layers,
            "bytes": summary.bytes,
        });
        Ok(answer::json(StatusCode::CREATED, &said))
    };
    finish(imported.await, body).await
}

/// `POST /api/v1/filters/{name}/merge`.
pub(super) async fn merge(
    State(api): State<Arc<Api>>,
    name: FilterName,
    request: Request,
) -> Response {
    let mut body = request.into_body();
    let merged = async {
        let handle = api.loaded_filter(&name).await?;
        let work =
            move |engine: &Engine, file: &mut PieceReader| engine.filters().merge(&handle, file);
        let (merged, position) = upload(&api, &mut body, work).await?;
        api.engine.settle(position).await?;
        let said = json!({"merged": merged.merged, "adopted": merged.adopted});
        Ok(answer::json(StatusCode::OK, &said))
    };
    finish(merged.await, body).await
}

async fn finish(answered: Result<Response, ApiError>, body: Body) -> Response {
    match answered {
        Ok(response) => response,
        Err(error) => {
            body::drain(body).await;
            error.into_response()
        }
    }
}

/// Runs `work` on a thread with the body as its file.
async fn upload<T: Send + 'static>(
    api: &Api,
    body: &mut Body,
    work: impl FnOnce(&Engine, &mut PieceReader) -> Result<T, FilterError> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = api.transfer()?;
    let (send, receive) = mpsc::channel(PIECES_WAITING_MAX);
    let worked = api.engine.run_blocking(move |engine| {
        let _permit = permit;
        let mut file = PieceReader {
            receive,
            piece: Bytes::new(),
            ended: false,
        };
        work(engine, &mut file)
    });
    let (worked, read) = tokio::join!(worked, pump(body, send));
    // A body that broke off is why the file is not whole.
    read?;
    Ok(worked?)
}

/// Hands a body to the thread; an empty piece is its end.
async fn pump(body: &mut Body, send: mpsc::Sender<Bytes>) -> Result<(), ApiError> {
    while let Some(piece) = body::piece(body).await? {
        if send.send(piece).await.is_err() {
            // The thread has seen enough.
            return Ok(());
        }
    }
    drop(send.send(Bytes::new()).await);
    Ok(())
}

/// The body as a file. Only its proper end reads as the end of the file.
struct PieceReader {
    receive: mpsc::Receiver<Bytes>,
    piece: Bytes,
    ended: bool,
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.ended {
            let piece = self.receive.blocking_recv();
            self.piece = piece.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.ended = self.piece.is_empty();
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
