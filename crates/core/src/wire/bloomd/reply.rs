//! Replies: exact bytes, appended to an output buffer.
//!
//! Nothing here is larger than its input by more than a constant factor: a token line takes at most
//! four bytes per key.

use std::io::Write;

use super::ClientError;

/// First line of a block (`list`, `info`, `conf`), without its line feed.
pub const START: &[u8] = b"START";

/// Last line of a block, without its line feed.
pub const END: &[u8] = b"END";

/// What every refusal of a request begins with.
pub const CLIENT_ERROR_PREFIX: &[u8] = b"Client Error: ";

/// The fixed replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It is done.
    Done,
    /// `create` of a filter that exists.
    Exists,
    /// `create` of a filter whose deletion has not ended.
    DeleteInProgress,
    /// The filter does not exist. Once per request, also for many keys.
    FilterDoesNotExist,
    /// `clear` of a filter that is not closed.
    NotProxied,
    /// The server failed, or a limit of its own does not allow it.
    InternalError,
}

impl Status {
    /// Every status there is.
    pub const ALL: [Status; 6] = [
        Status::Done,
        Status::Exists,
        Status::DeleteInProgress,
        Status::FilterDoesNotExist,
        Status::NotProxied,
        Status::InternalError,
    ];

    /// The reply with its line feed.
    pub const fn line(self) -> &'static [u8] {
        match self {
            Status::Done => b"Done\n",
            Status::Exists => b"Exists\n",
            Status::DeleteInProgress => b"Delete in progress\n",
            Status::FilterDoesNotExist => b"Filter does not exist\n",
            Status::NotProxied => b"Filter is not proxied. Close it first.\n",
            Status::InternalError => b"Internal Error\n",
        }
    }
}

/// One filter in a `list`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ListRow<'a> {
    /// Filter name.
    pub name: &'a [u8],
    /// Largest probability of a false positive, sent with six decimals.
    pub probability: f64,
    /// Bytes of all layers.
    pub bytes: u64,
    /// Keys that all layers hold.
    pub capacity: u64,
    /// Keys added.
    pub size: u64,
}

/// The fields of an `info`. `checks` and `sets` are sent too, as the sums they are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Info {
    /// Keys that all layers hold.
    pub capacity: u64,
    /// Checked keys that were there.
    pub check_hits: u64,
    /// Checked keys that were not.
    pub check_misses: u64,
    /// Whether the filter is in memory now. This is not the option of `create`.
    pub in_memory: bool,
    /// Times the filter was brought into memory.
    pub page_ins: u64,
    /// Times it was taken out.
    pub page_outs: u64,
    /// Largest probability of a false positive, sent with six decimals.
    pub probability: f64,
    /// Set keys that were new.
    pub set_hits: u64,
    /// Set keys that were there already.
    pub set_misses: u64,
    /// Keys added.
    pub size: u64,
    /// Bytes of all layers.
    pub storage: u64,
}

/// Appends a fixed reply.
#[inline]
pub fn status(out: &mut Vec<u8>, status: Status) {
    out.extend_from_slice(status.line());
}

/// Appends `Client Error: …`.
pub fn client_error(out: &mut Vec<u8>, error: ClientError) {
    append(out, format_args!("Client Error: {error}\n"));
}

/// Appends the answer to one key.
#[inline]
pub fn yes_no(out: &mut Vec<u8>, yes: bool) {
    out.extend_from_slice(if yes { b"Yes\n" } else { b"No\n" });
}

/// Appends the answers to several keys: one line, one space between tokens.
pub fn yes_no_many(out: &mut Vec<u8>, answers: impl IntoIterator<Item = bool>) {
    let first = out.len();
    for yes in answers {
        out.extend_from_slice(if yes { b"Yes " } else { b"No " });
    }
    // The space after the last token becomes the line's end.
    if out.len() > first {
        out.pop();
    }
    out.push(b'\n');
}

/// Appends the reply to `list`, rows in the order given (which has to be ascending by name).
pub fn list<'a>(out: &mut Vec<u8>, rows: impl IntoIterator<Item = ListRow<'a>>) {
    block(out, |out| {
        for row in rows {
            let ListRow {
                name,
                probability,
                bytes,
                capacity,
                size,
            } = row;
            out.extend_from_slice(name);
            append(
                out,
                format_args!(" {probability:.6} {bytes} {capacity} {size}\n"),
            );
        }
    });
}

/// Appends the reply to `info`, fields in the C server's order.
pub fn info(out: &mut Vec<u8>, info: &Info) {
    let checks = info.check_hits.saturating_add(info.check_misses);
    let sets = info.set_hits.saturating_add(info.set_misses);
    block(out, |out| {
        append(
            out,
            format_args!("capacity {}\nchecks {checks}\n", info.capacity),
        );
        append(out, format_args!("check_hits {}\n", info.check_hits));
        append(out, format_args!("check_misses {}\n", info.check_misses));
        append(
            out,
            format_args!("in_memory {}\n", u8::from(info.in_memory)),
        );
        append(
            out,
            format_args!("page_ins {}\npage_outs {}\n", info.page_ins, info.page_outs),
        );
        append(
            out,
            format_args!("probability {:.6}\nsets {sets}\n", info.probability),
        );
        append(out, format_args!("set_hits {}\n", info.set_hits));
        append(out, format_args!("set_misses {}\n", info.set_misses));
        append(
            out,
            format_args!("size {}\nstorage {}\n", info.size, info.storage),
        );
    });
}

/// Appends the reply to `conf`: `name value` lines, sorted by name. Names hold no space; a line
/// feed in a value is sent as `?`, since it would end the line.
pub fn conf<'a>(out: &mut Vec<u8>, settings: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    let mut settings: Vec<(&str, &[u8])> = settings.into_iter().collect();
    settings.sort_unstable();
    block(out, |out| {
        for (name, value) in settings {
            out.extend_from_slice(name.as_bytes());
            out.push(b' ');
            out.extend(
                value
                    .iter()
                    .map(|&byte| if byte == b'\n' { b'?' } else { byte }),
            );
            out.push(b'\n');
        }
    });
}

fn block(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"START\n");
    body(out);
    out.extend_from_slice(b"END\n");
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // A vector takes every write, so there is no failure to pass on.
    let _ = out.write_fmt(text);
}
