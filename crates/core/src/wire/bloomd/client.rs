//! The client's side: requests to bytes, reply lines to values.
//!
//! A reply is read line by line: split the input with [`Lines`](super::Lines) and hand each line to
//! the function for what was asked. Anything else that a server may say instead is a
//! [`ReplyError`] that tells which.

use memchr::memchr2;

use super::reply::{CLIENT_ERROR_PREFIX, END, ListRow, START, Status};
use super::{CreateOptions, FILTER_NAME_LENGTH_MAX, is_filter_name};

/// Why a request cannot be written. The output buffer is left as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// No filter can have this name.
    #[error(
        "a filter name of {length} bytes: it takes 1 to {FILTER_NAME_LENGTH_MAX}, \
         none a space, tab, line feed or carriage return"
    )]
    FilterName {
        /// Length of the name in bytes.
        length: usize,
    },
    /// A single key must have at least one byte.
    #[error("an empty key")]
    EmptyKey,
    /// A request for many keys must have at least one.
    #[error("no keys")]
    NoKeys,
    /// The key holds a byte that ends it: a line feed, or a space among many keys.
    #[error("a key holds byte {byte:#04x} at {at}, which would end it")]
    KeyByte {
        /// The byte.
        byte: u8,
        /// Where in the key, in bytes.
        at: usize,
    },
    /// A list prefix with a line feed.
    #[error("a prefix holds a line feed at {at}")]
    Prefix {
        /// Where in the prefix, in bytes.
        at: usize,
    },
}

/// Appends a check of one key.
///
/// # Errors
/// A name or key the protocol cannot carry.
pub fn encode_check(out: &mut Vec<u8>, filter: &[u8], key: &[u8]) -> Result<(), EncodeError> {
    encode_key(out, b"c ", filter, key)
}

/// Appends a set of one key.
///
/// # Errors
/// A name or key the protocol cannot carry.
pub fn encode_set(out: &mut Vec<u8>, filter: &[u8], key: &[u8]) -> Result<(), EncodeError> {
    encode_key(out, b"s ", filter, key)
}

/// Appends a check of many keys. Empty keys are possible here, spaces in keys are not.
///
/// # Errors
/// No keys, or a name or key the protocol cannot carry.
pub fn encode_check_many<'k>(
    out: &mut Vec<u8>,
    filter: &[u8],
    keys: impl IntoIterator<Item = &'k [u8]>,
) -> Result<(), EncodeError> {
    encode_keys(out, b"m ", filter, keys)
}

/// Appends a set of many keys, in order. Empty keys are possible here, spaces in keys are not.
///
/// # Errors
/// No keys, or a name or key the protocol cannot carry.
pub fn encode_set_many<'k>(
    out: &mut Vec<u8>,
    filter: &[u8],
    keys: impl IntoIterator<Item = &'k [u8]>,
) -> Result<(), EncodeError> {
    encode_keys(out, b"b ", filter, keys)
}

/// Appends a create, in the C server's form. Values are written as given: a server refuses those
/// outside its bounds.
///
/// # Errors
/// A name no filter can have.
pub fn encode_create(
    out: &mut Vec<u8>,
    filter: &[u8],
    options: &CreateOptions,
) -> Result<(), EncodeError> {
    check_filter(filter)?;
    out.extend_from_slice(b"create ");
    out.extend_from_slice(filter);
    if let Some(capacity) = options.capacity {
        out.extend_from_slice(format!(" capacity={capacity}").as_bytes());
    }
    if let Some(probability) = options.probability {
        out.extend_from_slice(format!(" prob={probability:e}").as_bytes());
    }
    if let Some(in_memory) = options.in_memory {
        out.extend_from_slice(if in_memory {
            b" in_memory=1"
        } else {
            b" in_memory=0"
        });
    }
    end_line(out);
    Ok(())
}

/// Appends a list of the filters whose names begin with `prefix`; empty for all.
///
/// # Errors
/// A prefix with a line feed.
pub fn encode_list(out: &mut Vec<u8>, prefix: &[u8]) -> Result<(), EncodeError> {
    if let Some(at) = memchr::memchr(b'\n', prefix) {
        return Err(EncodeError::Prefix { at });
    }
    out.extend_from_slice(b"list");
    if !prefix.is_empty() {
        out.push(b' ');
        out.extend_from_slice(prefix);
    }
    end_line(out);
    Ok(())
}

/// Appends a drop.
///
/// # Errors
/// A name no filter can have.
pub fn encode_drop(out: &mut Vec<u8>, filter: &[u8]) -> Result<(), EncodeError> {
    encode_filter(out, b"drop", Some(filter))
}

/// Appends a close.
///
/// # Errors
/// A name no filter can have.
pub fn encode_close(out: &mut Vec<u8>, filter: &[u8]) -> Result<(), EncodeError> {
    encode_filter(out, b"close", Some(filter))
}

/// Appends a clear.
///
/// # Errors
/// A name no filter can have.
pub fn encode_clear(out: &mut Vec<u8>, filter: &[u8]) -> Result<(), EncodeError> {
    encode_filter(out, b"clear", Some(filter))
}

/// Appends a flush of one filter or of all.
///
/// # Errors
/// A name no filter can have.
pub fn encode_flush(out: &mut Vec<u8>, filter: Option<&[u8]>) -> Result<(), EncodeError> {
    encode_filter(out, b"flush", filter)
}

/// Appends an info.
///
/// # Errors
/// A name no filter can have.
pub fn encode_info(out: &mut Vec<u8>, filter: &[u8]) -> Result<(), EncodeError> {
    encode_filter(out, b"info", Some(filter))
}

/// Appends a conf of one filter or of the server. The C server does not know it.
///
/// # Errors
/// A name no filter can have.
pub fn encode_conf(out: &mut Vec<u8>, filter: Option<&[u8]>) -> Result<(), EncodeError> {
    encode_filter(out, b"conf", filter)
}

fn check_filter(filter: &[u8]) -> Result<(), EncodeError> {
    if is_filter_name(filter) {
        Ok(())
    } else {
        Err(EncodeError::FilterName {
            length: filter.len(),
        })
    }
}

fn encode_filter(out: &mut Vec<u8>, word: &[u8], filter: Option<&[u8]>) -> Result<(), EncodeError> {
    filter.map_or(Ok(()), check_filter)?;
    out.extend_from_slice(word);
    if let Some(filter) = filter {
        out.push(b' ');
        out.extend_from_slice(filter);
    }
    end_line(out);
    Ok(())
}

fn encode_key(
    out: &mut Vec<u8>,
    word: &[u8],
    filter: &[u8],
    key: &[u8],
) -> Result<(), EncodeError> {
    check_filter(filter)?;
    if key.is_empty() {
        return Err(EncodeError::EmptyKey);
    }
    if let Some(at) = memchr::memchr(b'\n', key) {
        return Err(EncodeError::KeyByte { byte: b'\n', at });
    }
    for part in [word, filter, b" ", key] {
        out.extend_from_slice(part);
    }
    end_line(out);
    Ok(())
}

fn encode_keys<'k>(
    out: &mut Vec<u8>,
    word: &[u8],
    filter: &[u8],
    keys: impl IntoIterator<Item = &'k [u8]>,
) -> Result<(), EncodeError> {
    check_filter(filter)?;
    let start = out.len();
    out.extend_from_slice(word);
    out.extend_from_slice(filter);
    let mut last = None;
    for key in keys {
        if let Some(at) = memchr2(b' ', b'\n', key) {
            out.truncate(start);
            return Err(EncodeError::KeyByte { byte: key[at], at });
        }
        out.push(b' ');
        out.extend_from_slice(key);
        last = Some(key);
    }
    match last {
        None => {
            out.truncate(start);
            return Err(EncodeError::NoKeys);
        }
        // One space at the end of a line is ignored: an empty last key takes two.
        Some([]) => out.push(b' '),
        Some(_) => {}
    }
    end_line(out);
    Ok(())
}

/// A server drops one `\r` before the line feed, so a request that ends in one gets a second.
fn end_line(out: &mut Vec<u8>) {
    if out.last() == Some(&b'\r') {
        out.push(b'\r');
    }
    out.push(b'\n');
}

/// A reply line that is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError<'a> {
    /// A fixed reply, as `Filter does not exist` to a set.
    #[error("{}", .0.line().trim_ascii_end().escape_ascii())]
    Status(Status),
    /// The server refused the request; the text after `Client Error: `.
    #[error("Client Error: {}", .0.escape_ascii())]
    Client(&'a [u8]),
    /// Nothing that this protocol says at this place: the client is out of step, or the other side
    /// is no bloomd.
    #[error("no reply of this protocol: {:?}", .0.escape_ascii().to_string())]
    Foreign(&'a [u8]),
}

impl<'a> ReplyError<'a> {
    fn of(line: &'a [u8]) -> Self {
        if let Some(text) = line.strip_prefix(CLIENT_ERROR_PREFIX) {
            return ReplyError::Client(text);
        }
        find_status(line).map_or(ReplyError::Foreign(line), ReplyError::Status)
    }
}

fn find_status(line: &[u8]) -> Option<Status> {
    Status::ALL
        .into_iter()
        .find(|status| status.line().strip_suffix(b"\n") == Some(line))
}

/// Reads the answer to a create, drop, close, clear or flush. Refusals such as `Exists` are values.
///
/// # Errors
/// A client error, or no status at all.
pub fn parse_status(line: &[u8]) -> Result<Status, ReplyError<'_>> {
    find_status(line).ok_or_else(|| ReplyError::of(line))
}

/// Reads the answer to a check or set of one key.
///
/// # Errors
/// A status or client error instead of an answer, or neither.
#[inline]
pub fn parse_yes_no_line(line: &[u8]) -> Result<bool, ReplyError<'_>> {
    token(line).ok_or_else(|| ReplyError::of(line))
}

/// Appends the answers to a check or set of many keys, and says how many they were. On an error
/// `answers` is left as it was.
///
/// # Errors
/// A status or client error instead of answers, or a token that is none.
pub fn parse_yes_no_many_line<'a>(
    line: &'a [u8],
    answers: &mut Vec<bool>,
) -> Result<usize, ReplyError<'a>> {
    let before = answers.len();
    for part in line.split(|&byte| byte == b' ') {
        let Some(yes) = token(part) else {
            answers.truncate(before);
            return Err(ReplyError::of(line));
        };
        answers.push(yes);
    }
    Ok(answers.len() - before)
}

#[inline]
fn token(text: &[u8]) -> Option<bool> {
    match text {
        b"Yes" => Some(true),
        b"No" => Some(false),
        _ => None,
    }
}

/// One line of the reply to a list, info or conf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockLine<'a> {
    /// The block begins.
    Start,
    /// The block is complete.
    End,
    /// A line within it.
    Row(&'a [u8]),
}

/// Reads a line of a block. `inside` says whether [`BlockLine::Start`] has been read: before it only
/// that may come, or a refusal.
///
/// # Errors
/// A status or client error instead of a block, or something else before it.
pub fn parse_block_line(line: &[u8], inside: bool) -> Result<BlockLine<'_>, ReplyError<'_>> {
    match (inside, line) {
        (false, START) => Ok(BlockLine::Start),
        (false, _) => Err(ReplyError::of(line)),
        (true, END) => Ok(BlockLine::End),
        (true, _) => Ok(BlockLine::Row(line)),
    }
}

/// Reads a row of a list: `NAME PROB BYTES CAPACITY SIZE`.
///
/// # Errors
/// [`ReplyError::Foreign`] for anything else.
pub fn parse_list_row(line: &[u8]) -> Result<ListRow<'_>, ReplyError<'_>> {
    let mut fields = line.split(|&byte| byte == b' ');
    let row = (|| {
        Some(ListRow {
            name: fields.next()?,
            probability: number(fields.next()?)?,
            bytes: number(fields.next()?)?,
            capacity: number(fields.next()?)?,
            size: number(fields.next()?)?,
        })
    })();
    row.filter(|_| fields.next().is_none())
        .ok_or(ReplyError::Foreign(line))
}

/// Reads a row of an info or conf: the field's name and its value, which may hold spaces.
///
/// # Errors
/// [`ReplyError::Foreign`] for a line without a space.
pub fn parse_field(line: &[u8]) -> Result<(&[u8], &[u8]), ReplyError<'_>> {
    let at = memchr::memchr(b' ', line).ok_or(ReplyError::Foreign(line))?;
    Ok((&line[..at], &line[at + 1..]))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    str::from_utf8(text).ok()?.parse().ok()
}
