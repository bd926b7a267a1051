//! Bodies of requests, read piece by piece with a bound on how long each may take.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::error::ApiError;

/// How long a client may send nothing in the middle of a body.
const PIECE_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of a body after its request was refused, so that the client, which may still be
/// sending, gets to read the refusal instead of a broken connection.
const DRAIN_BYTES_MAX: usize = 8 << 20;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The next piece; none at the end.
pub(super) async fn piece(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = tokio::time::timeout(PIECE_TIMEOUT, body.frame())
            .await
            .map_err(|_| ApiError::SlowBody(PIECE_TIMEOUT.as_secs()))?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(ApiError::Interrupted),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                // Nothing, or trailers.
                _ => {}
            },
        }
    }
}

/// A whole body of at most `limit` bytes.
pub(super) async fn whole(body: &mut Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = piece(body).await? {
        if whole.len() + piece.len() > limit {
            return Err(ApiError::BodyTooLong { limit });
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Reads some of what is left.
pub(super) async fn drain(mut body: Body) {
    let read = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Ok(Some(piece)) = piece(&mut body).await {
            match left.checked_sub(piece.len()) {
                Some(less) => left = less,
                None => break,
            }
        }
    };
    drop(tokio::time::timeout(DRAIN_TIMEOUT, read).await);
}
