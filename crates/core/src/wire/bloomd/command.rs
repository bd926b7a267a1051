//! Requests: what one line asks for.

use memchr::{memchr, memrchr};

use super::options::{self, CreateOptions};
use super::{ClientError, is_filter_name};

/// One request, borrowed from its line.
///
/// A filter name may be anything the client sent, also empty: only `create` judges names, every
/// other command just does not find such a filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command<'a> {
    /// `c`, `check`: is this key in the filter? The key is the rest of the line, blanks included.
    Check {
        /// Filter to ask.
        filter: &'a [u8],
        /// Key, at least one byte.
        key: &'a [u8],
    },
    /// `s`, `set`: add this key. `Yes` means it is new. The key is the rest of the line.
    Set {
        /// Filter to add to.
        filter: &'a [u8],
        /// Key, at least one byte.
        key: &'a [u8],
    },
    /// `m`, `multi`: check each key.
    CheckMany {
        /// Filter to ask.
        filter: &'a [u8],
        /// One or more keys.
        keys: Keys<'a>,
    },
    /// `b`, `bulk`: add each key, in order.
    SetMany {
        /// Filter to add to.
        filter: &'a [u8],
        /// One or more keys.
        keys: Keys<'a>,
    },
    /// `create`: make a filter.
    Create {
        /// Name that [`is_filter_name`] accepts.
        filter: &'a [u8],
        /// What the client asked for; what it left open is the server's default.
        options: CreateOptions,
    },
    /// `list`: the filters whose names begin with a prefix.
    List {
        /// The rest of the line, empty for every filter.
        prefix: &'a [u8],
    },
    /// `drop`: delete a filter.
    Drop {
        /// Filter to delete.
        filter: &'a [u8],
    },
    /// `close`: take a filter out of memory until it is used again.
    Close {
        /// Filter to close.
        filter: &'a [u8],
    },
    /// `clear`: forget a closed filter but keep its data for a later `create`.
    Clear {
        /// Filter to forget.
        filter: &'a [u8],
    },
    /// `flush`: reply once the data is on disk.
    Flush {
        /// One filter, or every filter.
        filter: Option<&'a [u8]>,
    },
    /// `info`: counters and sizes of a filter.
    Info {
        /// Filter to describe.
        filter: &'a [u8],
    },
    /// `conf` (Python server only): settings of the server or of one filter.
    Conf {
        /// One filter, or the server.
        filter: Option<&'a [u8]>,
    },
}

/// The keys of a `multi` or `bulk`, split as the C server does.
///
/// Every single space separates, so two spaces in a row enclose an empty key; one space at the end
/// of the line is ignored. A tab or a NUL is part of a key. Cheap to copy, so a server can pass over
/// the keys more than once. The count is bounded by the length of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    rest: &'a [u8],
}

impl<'a> Keys<'a> {
    /// All keys of `text`: what follows the filter name in a line, or the last piece of that.
    pub fn of(text: &'a [u8]) -> Self {
        Keys { rest: text }
    }

    /// The keys that end within `piece`, which is any piece of a line's keys but the last, and the
    /// bytes they take. What is behind those bytes begins the next piece.
    pub fn ended_in(piece: &'a [u8]) -> (Self, usize) {
        let length = memrchr(b' ', piece).map_or(0, |at| at + 1);
        (Keys::of(&piece[..length]), length)
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (key, rest) = cut(self.rest);
        self.rest = rest.unwrap_or_default();
        Some(key)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(!self.rest.is_empty()), Some(self.rest.len()))
    }
}

impl std::iter::FusedIterator for Keys<'_> {}

/// Length of the longest command word.
const WORD_LENGTH_MAX: usize = b"create".len();

/// Reads one line, given without its line end.
///
/// # Errors
/// The one reply that the line earns; the connection goes on.
#[inline]
pub fn parse(line: &[u8]) -> Result<Command<'_>, ClientError> {
    let (word, rest) = word(line);
    match word {
        b"s" | b"set" => filter_and_key(rest).map(|(filter, key)| Command::Set { filter, key }),
        b"c" | b"check" => filter_and_key(rest).map(|(filter, key)| Command::Check { filter, key }),
        b"b" | b"bulk" => {
            filter_and_keys(rest).map(|(filter, keys)| Command::SetMany { filter, keys })
        }
        b"m" | b"multi" => {
            filter_and_keys(rest).map(|(filter, keys)| Command::CheckMany { filter, keys })
        }
        _ => parse_rare(word, rest),
    }
}

/// The command word, and what follows its space. Words are short: looking at a few bytes beats a
/// search set up for long ones.
#[inline]
pub(super) fn word(line: &[u8]) -> (&[u8], Option<&[u8]>) {
    let space = line
        .iter()
        .take(WORD_LENGTH_MAX + 1)
        .position(|&byte| byte == b' ');
    match space {
        Some(at) => (&line[..at], Some(&line[at + 1..])),
        None => (line, None),
    }
}

/// The commands that are not on the hot path.
fn parse_rare<'a>(word: &[u8], rest: Option<&'a [u8]>) -> Result<Command<'a>, ClientError> {
    match word {
        b"create" => create(rest),
        b"list" => Ok(Command::List {
            prefix: rest.unwrap_or_default(),
        }),
        b"drop" => filter_alone(rest).map(|filter| Command::Drop { filter }),
        b"close" => filter_alone(rest).map(|filter| Command::Close { filter }),
        b"clear" => filter_alone(rest).map(|filter| Command::Clear { filter }),
        b"info" => filter_alone(rest).map(|filter| Command::Info { filter }),
        b"flush" if rest.is_none() => Ok(Command::Flush { filter: None }),
        b"flush" => filter_alone(rest).map(|filter| Command::Flush {
            filter: Some(filter),
        }),
        b"conf" => conf(rest),
        _ => Err(ClientError::CommandNotSupported),
    }
}

#[inline]
fn filter_and_key(rest: Option<&[u8]>) -> Result<(&[u8], &[u8]), ClientError> {
    match cut(rest.unwrap_or_default()) {
        (filter, Some(key)) if !key.is_empty() => Ok((filter, key)),
        _ => Err(ClientError::FilterAndKeyNeeded),
    }
}

#[inline]
fn filter_and_keys(rest: Option<&[u8]>) -> Result<(&[u8], Keys<'_>), ClientError> {
    filter_and_key(rest).map(|(filter, rest)| (filter, Keys::of(rest)))
}

/// A filter name with nothing after it, not even a space. The name itself may be empty: the word
/// with one space after it names the filter that nobody can create.
fn filter_alone(rest: Option<&[u8]>) -> Result<&[u8], ClientError> {
    match cut(rest.ok_or(ClientError::FilterNeeded)?) {
        (filter, None) => Ok(filter),
        _ => Err(ClientError::UnexpectedArguments),
    }
}

fn create(rest: Option<&[u8]>) -> Result<Command<'_>, ClientError> {
    let (filter, text) = cut(rest.ok_or(ClientError::FilterNeeded)?);
    if !is_filter_name(filter) {
        return Err(ClientError::BadFilterName);
    }
    let options = options::parse(text.unwrap_or_default())?;
    Ok(Command::Create { filter, options })
}

/// Only the Python server knows this command, so its leniency holds: blanks at the end are nothing.
fn conf(rest: Option<&[u8]>) -> Result<Command<'_>, ClientError> {
    let text = rest.unwrap_or_default();
    // Only bytes that no name can hold: a form feed at the end belongs to the name.
    let last = text.iter().rposition(|byte| !matches!(byte, b' ' | b'\t'));
    let Some(last) = last else {
        return Ok(Command::Conf { filter: None });
    };
    filter_alone(Some(&text[..=last])).map(|filter| Command::Conf {
        filter: Some(filter),
    })
}

/// The bytes before the first space, and those after it if there is one.
#[inline]
pub(super) fn cut(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b' ', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}
