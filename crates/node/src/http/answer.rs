//! Answers: JSON, and bodies that are made piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use serde_json::Value;

/// Answers written into one piece of a body.
const ANSWERS_PER_PIECE: usize = 8192;

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    with_type(status, "application/json", format!("{value}\n").into())
}

/// An answer of a media type.
pub(super) fn with_type(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    let media_type = (header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    (status, [media_type], body).into_response()
}

/// One yes or no per key, a bit each.
#[derive(Debug, Default)]
pub(super) struct Answers {
    words: Vec<u64>,
    count: usize,
}

impl Answers {
    pub(super) fn push(&mut self, yes: bool) {
        if self.count.is_multiple_of(64) {
            self.words.push(0);
        }
        if let Some(last) = self.words.last_mut() {
            *last |= u64::from(yes) << (self.count % 64);
        }
        self.count += 1;
    }

    fn get(&self, index: usize) -> bool {
        self.words[index / 64] >> (index % 64) & 1 == 1
    }
}

/// The JSON object `head` with `"results":[…]` as its last member, written out as it is sent: the
/// text of a million answers is never in memory.
pub(super) fn with_results(head: &Value, answers: Answers) -> Response {
    let mut opening = head.to_string();
    opening.pop();
    opening.push_str(",\"results\":[");
    let body = ResultsBody {
        opening: Some(opening),
        answers,
        given: 0,
        ended: false,
    };
    with_type(StatusCode::OK, "application/json", Body::new(body))
}

struct ResultsBody {
    opening: Option<String>,
    answers: Answers,
    given: usize,
    ended: bool,
}

impl ResultsBody {
    fn piece(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let mut piece = self.opening.take().unwrap_or_default();
        let end = self.answers.count.min(self.given + ANSWERS_PER_PIECE);
        for index in self.given..end {
            if index > 0 {
                piece.push(',');
            }
            piece.push_str(if self.answers.get(index) {
                "true"
            } else {
                "false"
            });
        }
        self.given = end;
        self.ended = end == self.answers.count;
        if self.ended {
            piece.push_str("]}\n");
        }
        Some(piece)
    }
}

impl http_body::Body for ResultsBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.piece().map(|piece| Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_out_as_they_went_in_over_many_pieces() -> Result<(), serde_json::Error> {
        for count in [0, 1, 64, 65, ANSWERS_PER_PIECE, 3 * ANSWERS_PER_PIECE + 7] {
            let mut answers = Answers::default();
            (0..count).for_each(|index| answers.push(index % 3 == 0));
            let mut body = ResultsBody {
                opening: Some("{\"results\":[".to_owned()),
                answers,
                given: 0,
                ended: false,
            };
            let text: String = std::iter::from_fn(|| body.piece()).collect();
            let value: Value = serde_json::from_str(&text)?;
            let expected: Vec<bool> = (0..count).map(|index| index % 3 == 0).collect();
            assert_eq!(value["results"], serde_json::json!(expected));
        }
        Ok(())
    }
}
