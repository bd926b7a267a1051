//! Answers: JSON, and bodies that are made piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use serde_json::Value;

use crate::replies::Room;

/// Answers written into one piece of a body.
const ANSWERS_PER_PIECE: usize = 8192;

/// A JSON answer.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    with_type(status, "application/json", format!("{value}\n").into())
}

/// A long answer: what of it waits for the client is counted among the answers of all.
pub(super) fn long(media_type: &'static str, text: String, mut room: Room) -> Response {
    room.shrink(text.len());
    let body = HeldBody {
        text: text.into_bytes(),
        given: 0,
        _room: room,
    };
    with_type(StatusCode::OK, media_type, Body::new(body))
}

/// A long JSON answer.
pub(super) fn long_json(value: &Value, room: Room) -> Response {
    long("application/json", format!("{value}\n"), room)
}

/// Bytes handed to the connection at once.
const PIECE_BYTES: usize = 64 << 10;

/// A text that gives up its room once the connection has all of it.
struct HeldBody {
    text: Vec<u8>,
    given: usize,
    _room: Room,
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let end = self.text.len().min(self.given + PIECE_BYTES);
        if end == self.given {
            return Poll::Ready(None);
        }
        // A copy: a slice would keep all of it for as long as the last piece waits.
        let piece = Bytes::copy_from_slice(&self.text[self.given..end]);
        self.given = end;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.given == self.text.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.text.len() - self.given) as u64)
    }
}

/// An answer of a media type.
pub(super) fn with_type(status: StatusCode, media_type: &'static str, body: Body) -> Response {
    let media_type = (header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    (status, [media_type], body).into_response()
}

/// What is said of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is not there, or was there before: `false`.
    No,
    /// It is there, or is new: `true`.
    Yes,
    /// It was not added, because the filter is full and does not grow: `null`.
    Full,
}

/// An answer per key, two bits each.
#[derive(Debug, Default)]
pub(super) struct Answers {
    words: Vec<u64>,
    count: usize,
}

/// Answers in a word.
const PER_WORD: usize = 32;

impl Answers {
    pub(super) fn push(&mut self, answer: Answer) {
        if self.count.is_multiple_of(PER_WORD) {
            self.words.push(0);
        }
        if let Some(last) = self.words.last_mut() {
            let bits = match answer {
                Answer::No => 0,
                Answer::Yes => 1,
                Answer::Full => 2,
            };
            *last |= bits << (self.count % PER_WORD * 2);
        }
        self.count += 1;
    }

    fn text(&self, index: usize) -> &'static str {
        match self.words[index / PER_WORD] >> (index % PER_WORD * 2) & 3 {
            0 => "false",
            1 => "true",
            _ => "null",
        }
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
            piece.push_str(self.answers.text(index));
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
            let given = [Answer::Yes, Answer::No, Answer::Full];
            (0..count).for_each(|index| answers.push(given[index % 3]));
            let mut body = ResultsBody {
                opening: Some("{\"results\":[".to_owned()),
                answers,
                given: 0,
                ended: false,
            };
            let text: String = std::iter::from_fn(|| body.piece()).collect();
            let value: Value = serde_json::from_str(&text)?;
            let said = [Some(true), Some(false), None];
            let expected: Vec<Option<bool>> = (0..count).map(|index| said[index % 3]).collect();
            assert_eq!(value["results"], serde_json::json!(expected));
        }
        Ok(())
    }
}
