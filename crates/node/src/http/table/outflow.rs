//! Answers of any length, written by a task of their own through a short queue.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::Frame;
use tokio::sync::mpsc;

use super::super::error::ApiError;

/// Pieces that wait for the connection.
const PIECES_WAITING_MAX: usize = 4;
/// How long a client may take nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes gathered into one piece, about.
pub(super) const PIECE_BYTES: usize = 64 << 10;

type Piece = Result<Bytes, ApiError>;

/// The end into which the answer is written.
#[derive(Clone)]
pub(super) struct Outflow(mpsc::Sender<Piece>);

/// The client has gone, or takes nothing any more.
#[derive(Debug)]
pub(super) struct Gone;

/// Both ends of an answer.
pub(super) fn outflow() -> (Outflow, Body) {
    let (send, receive) = mpsc::channel(PIECES_WAITING_MAX);
    (Outflow(send), Body::new(OutflowBody(receive)))
}

impl Outflow {
    /// Hands bytes to the connection; waits while too many wait there.
    pub(super) async fn give(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.hand(Ok(bytes.into())).await
    }

    /// Ends the answer in such a way that the client knows that it is not whole.
    pub(super) async fn fail(&self, error: ApiError) {
        // Whoever is gone needs not be told.
        drop(self.hand(Err(error)).await);
    }

    /// Waits until the client has gone.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }

    async fn hand(&self, piece: Piece) -> Result<(), Gone> {
        let sent = tokio::time::timeout(STALL_TIMEOUT, self.0.send(piece)).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }
}

struct OutflowBody(mpsc::Receiver<Piece>);

impl http_body::Body for OutflowBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let piece = std::task::ready!(self.0.poll_recv(context));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }
}
