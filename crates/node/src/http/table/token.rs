//! Where a stream of changes goes on: the ids of its events.
//!
//! `ORIGIN-POSITION-TIME`: the data directory, the position of its journal up to which changes
//! were told, and the time, in milliseconds since 1970, up to which it was told what expired. For
//! clients it is a word without parts.

use std::fmt;

use grapevine_core::origin::Origin;
use grapevine_store::log::Position;

use super::super::error::ApiError;

/// How old the time of a token may be, in milliseconds. Rows that expired stay a day; who was away
/// longer cannot be told what went.
const AGE_MS_MAX: u64 = 12 * 3600 * 1000;
/// The id from which everything is told.
pub(super) const FROM_THE_BEGINNING: &str = "0";

/// A point of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) origin: Origin,
    pub(super) position: Position,
    pub(super) told_ms: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.origin, self.position, self.told_ms)
    }
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With what changes from now on.
    Now,
    /// With all rows.
    All,
    /// With what changed since.
    After {
        /// Up to here changes were told.
        position: Position,
        /// Up to here it was told what expired.
        told_ms: u64,
    },
}

impl Start {
    /// What a client asks for, on the node of that origin at the time `now_ms`.
    pub(super) fn of(given: Option<&[u8]>, origin: Origin, now_ms: u64) -> Result<Self, ApiError> {
        let Some(given) = given.filter(|given| !given.is_empty()) else {
            return Ok(Start::Now);
        };
        let text = String::from_utf8_lossy(given);
        if text == FROM_THE_BEGINNING {
            return Ok(Start::All);
        }
        let Some((of, position, told_ms)) = split(&text) else {
            return Err(ApiError::ParameterValue {
                name: "after",
                value: text.into_owned(),
                expected: "0 or the id of an event",
            });
        };
        let is_old = told_ms.saturating_add(AGE_MS_MAX) < now_ms;
        if of != origin.to_string() || is_old {
            return Ok(Start::All);
        }
        Ok(Start::After {
            position,
            // A clock that was set back tells again what went.
            told_ms: told_ms.min(now_ms),
        })
    }
}

fn split(text: &str) -> Option<(&str, Position, u64)> {
    let mut parts = text.split('-');
    let (origin, position, told) = (parts.next()?, parts.next()?, parts.next()?);
    let is_origin =
        origin.len() == 2 * Origin::BYTES && origin.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ended = parts.next().is_none();
    (is_origin && ended).then_some((origin, position.parse().ok()?, told.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn start(text: &str) -> Result<Start, ApiError> {
        Start::of(Some(text.as_bytes()), Origin::new([1; 16]), NOW)
    }

    fn token(origin: u8, told_ms: u64) -> String {
        let token = Token {
            origin: Origin::new([origin; 16]),
            position: 77,
            told_ms,
        };
        token.to_string()
    }

    #[test]
    fn a_stream_goes_on_at_its_own_tokens_and_begins_again_at_others() {
        let after = |told_ms| Start::After {
            position: 77,
            told_ms,
        };
        assert_eq!(start(&token(1, NOW - 5)).ok(), Some(after(NOW - 5)));
        assert_eq!(start(&token(1, NOW + 5)).ok(), Some(after(NOW)));
        let oldest = NOW - AGE_MS_MAX;
        assert_eq!(start(&token(1, oldest)).ok(), Some(after(oldest)));
        assert_eq!(start(&token(1, oldest - 1)).ok(), Some(Start::All));
        assert_eq!(start(&token(2, NOW)).ok(), Some(Start::All));
        assert_eq!(start("0").ok(), Some(Start::All));
        assert_eq!(start("").ok(), Some(Start::Now));
        let none = Start::of(None, Origin::new([1; 16]), NOW);
        assert_eq!(none.ok(), Some(Start::Now));
    }

    #[test]
    fn other_words_are_refused() {
        let whole = token(1, NOW);
        for text in [
            "1",
            "x-1-1",
            &whole[..35],
            &format!("{whole}-1"),
            "00-1-1",
            "\u{e9}",
        ] {
            assert!(start(text).is_err(), "{text}");
        }
    }
}
