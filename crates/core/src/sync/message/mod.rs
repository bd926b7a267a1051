//! What two machines say to each other, as values and as bytes.
//!
//! ```text
//! message     = kind u8 | body
//!  1 operations      origin 16 | first u64 | mark u64 | operation*             1 or more
//!    operation       same varint | changed varint | bytes | again varint | length varint | rest
//!  2 report          session u64 | heard u64 | stamp u64 | window u32 | ask u8 | content
//!    content         0 summary: hash u64
//!                    1 moved:   entry*
//!                    2 range:   ends u8 | after 16 if ends & 1 | through 16 if ends & 2 | entry*
//!                    3 news:    hash u64 | entry*
//!    entry           origin 16 | durable varint | ahead varint | mark u64
//!  3 want            (origin 16 | first varint)*                               1 or more
//!  4 behind
//!  5 page request    section u8 | after
//!  6 page            section u8 | key after | has next u8 | key next if so | rows
//!  7 blocks request  layer | first u32
//!  8 blocks          layer | first u32 | total u32 | (hash u64)*
//!  9 lines request   layer | block u32 | salt u64 | (hash u32)*
//! 10 lines           layer | block u32 | salt u64 | hash u64 | (index u16 | line 64)*
//! 11 blob request    legacy | offset u64
//! 12 blob            legacy | offset u64 | total u64 | bytes
//! 13 gone            0 u8 | layer, or 1 u8 | legacy
//! 14 ask             filter 16 | wanted u64
//! 15 history         origin 16 | durable varint | cut u8 | (sequence varint | mark u64)*
//! 16 time question   number u64
//! 17 time            number u64 | wall u64
//!
//! layer       = filter 16 | index u32 | creator 16
//! legacy      = filter 16 | index u32
//! key         = length varint | bytes
//! varint      = LEB128, in as few bytes as the number has
//! ```
//! An operation begins as the one before it in the message: `same` bytes of it, then `changed` other
//! ones (all differ), then `again` that are the same; the first has nothing before it. The `rest`
//! is its own. Each of the three is as long as it can be. All operations of a message have at most
//! as many bytes as a message may have.
//! Integers are little endian, and what is last in a message reaches to its end. `ahead` is
//! received less durable. Entries ascend by origin. Every message has one form: what decodes
//! encodes to the same bytes. A kind that is not known here is to be noted and passed over.

mod bits;
mod bytes;
mod run;
#[cfg(test)]
mod tests;

use crate::catalogue::FilterId;
use crate::history::{History, MARKS_MAX};
use crate::origin::Origin;

use self::bits::{decode_bits, encode_bits, write_layer, write_legacy};
use self::bytes::{Reader, write_varint};
pub(super) use self::run::operation_bytes;
use self::run::{decode_run, encode_run};
use super::limits::{
    KEY_BYTES_MAX, MESSAGE_BYTES_MAX, REPORT_ENTRIES_MAX, SEQUENCE_MAX, WANT_ENTRIES_MAX,
};
use super::replica::{Blob, BlockHashes, BlockLines, LayerName, LegacyName, Page, Part, Run};

/// One thing that a machine says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Here are operations.
    Operations {
        /// The last mark among the operations before them, as the sender has it; 0: none is known.
        before: u64,
        /// They.
        run: Run,
    },
    /// This is what the sender has.
    Report(Report),
    /// Send these origins' operations, each from that number on.
    Want(Vec<(Origin, u64)>),
    /// The sender's log does not reach back to what the receiver lacks: take a snapshot.
    Behind,
    /// Asks for a page of a snapshot.
    PageRequest {
        /// Section of the snapshot.
        section: u8,
        /// The key after which the page is to begin; empty for the first page.
        after: Vec<u8>,
    },
    /// A page of a snapshot.
    Page(Page),
    /// Asks for fingerprints of a layer's blocks.
    BlocksRequest {
        /// The layer.
        layer: LayerName,
        /// The first block.
        first: u32,
    },
    /// Fingerprints of a layer's blocks.
    Blocks {
        /// The layer.
        layer: LayerName,
        /// The first block.
        first: u32,
        /// The fingerprints.
        blocks: BlockHashes,
    },
    /// Asks for the lines of a block that are not those with these hashes.
    LinesRequest {
        /// The layer.
        layer: LayerName,
        /// The block in it.
        block: u32,
        /// Drawn anew for each question.
        salt: u64,
        /// Hashes of the asking side's lines under the salt; lines beyond them count as different.
        hashes: Vec<u32>,
    },
    /// Lines of a block.
    Lines {
        /// The layer.
        layer: LayerName,
        /// The block in it.
        block: u32,
        /// The question's.
        salt: u64,
        /// The lines, and the whole block's fingerprint.
        lines: BlockLines,
    },
    /// Asks for a piece of a foreign layer's file.
    BlobRequest {
        /// The file.
        legacy: LegacyName,
        /// Where the piece is to begin.
        offset: u64,
    },
    /// A piece of a foreign layer's file.
    Blob {
        /// The file.
        legacy: LegacyName,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        blob: Blob,
    },
    /// The sender does not have these bits (any more).
    Gone(Part),
    /// The sender is short of rights to insert into a filter.
    Ask {
        /// The filter.
        filter: FilterId,
        /// Rights it would like.
        wanted: u64,
    },
    /// These marks the sender knows of an origin, of which the receiver seems to have others.
    History {
        /// The origin.
        origin: Origin,
        /// How many of its operations are in to stay.
        durable: u64,
        /// The marks in them.
        history: History,
    },
    /// Asks what the receiver's wall clock shows.
    TimeQuestion {
        /// Comes back with the answer.
        number: u64,
    },
    /// What the sender's wall clock shows.
    Time {
        /// The question's.
        number: u64,
        /// Milliseconds since 1970.
        wall: u64,
    },
}

/// What a node has, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Number that the sender's side gave this connection.
    pub session: u64,
    /// The receiver's number for it, as last heard; 0 if not heard yet. A report that does not
    /// name the receiver's present session may be from before it, and is not believed.
    pub heard: u64,
    /// Counts the sender's reports of this session: of two, the one with more is newer.
    pub stamp: u64,
    /// Rows that expired before this time are due at the sender, in milliseconds since 1970; 0:
    /// none are.
    pub horizon: u64,
    /// Bytes of operations that the sender is willing to have in flight to it.
    pub window: u32,
    /// Whether the sender needs to be told everything that the receiver has.
    pub ask: bool,
    /// What it has.
    pub content: Content,
}

/// How a report says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The hash of everything, as [`versions_hash`](super::fingerprint::versions_hash) makes it.
    Summary(u64),
    /// Of some origins.
    Moved(Vec<Entry>),
    /// Of the origins that changed since the last report of that kind or of all origins, with the
    /// hash of everything: who missed one of them finds out.
    News(u64, Vec<Entry>),
    /// Of all origins in a range: one that is not listed has nothing.
    Range {
        /// The range begins after this origin, or at the first there can be.
        after: Option<Origin>,
        /// The range ends with this origin, or with the last there can be.
        through: Option<Origin>,
        /// Ascending.
        entries: Vec<Entry>,
    },
}

/// What a node has of one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The origin.
    pub origin: Origin,
    /// How many of its operations are in to stay.
    pub durable: u64,
    /// How many were received: those that are in and those put aside until they can be. Not
    /// fewer; what is received need not be sent again in this session.
    pub received: u64,
    /// The last mark in what is in to stay ([`history`](crate::history)); 0: none is known.
    pub mark: u64,
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than any message.
    #[error("message of {length} bytes, the limit is {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// Bytes there are.
        length: usize,
    },
    /// A kind that this version does not know: to be noted and passed over.
    #[error("message of unknown kind {0}: sent by a newer version")]
    Kind(u8),
    /// It ends too early.
    #[error("message ends inside its {field}")]
    Short {
        /// What was being read.
        field: &'static str,
    },
    /// More bytes than the message has use for.
    #[error("message goes on for {0} bytes after its end")]
    Trailing(usize),
    /// A count or length beyond its limit, or below the least.
    #[error("message with {count} for its {field}, the limit is {limit}")]
    Limit {
        /// What was being read.
        field: &'static str,
        /// What it says.
        count: u64,
        /// The most there may be.
        limit: u64,
    },
    /// A value that no sender writes.
    #[error("message with a malformed {field}")]
    Malformed {
        /// What was being read.
        field: &'static str,
    },
}

const OPERATIONS: u8 = 1;
const REPORT: u8 = 2;
const WANT: u8 = 3;
const BEHIND: u8 = 4;
const PAGE_REQUEST: u8 = 5;
const PAGE: u8 = 6;
const BLOCKS_REQUEST: u8 = 7;
const BLOCKS: u8 = 8;
const LINES_REQUEST: u8 = 9;
const LINES: u8 = 10;
const BLOB_REQUEST: u8 = 11;
const BLOB: u8 = 12;
const GONE: u8 = 13;
const ASK: u8 = 14;
const HISTORY: u8 = 15;
const TIME_QUESTION: u8 = 16;
const TIME: u8 = 17;

const SUMMARY: u8 = 0;
const MOVED: u8 = 1;
const RANGE: u8 = 2;
const NEWS: u8 = 3;

impl Message {
    /// Appends the message to `buffer`.
    pub fn encode(&self, buffer: &mut Vec<u8>) {
        match self {
            Message::Operations { before, run } => encode_run(buffer, *before, run),
            Message::Report(report) => encode_report(buffer, report),
            Message::Want(wanted) => {
                buffer.push(WANT);
                for (origin, first) in wanted {
                    buffer.extend_from_slice(&origin.bytes());
                    write_varint(buffer, *first);
                }
            }
            Message::Behind => buffer.push(BEHIND),
            Message::PageRequest { section, after } => {
                buffer.extend_from_slice(&[PAGE_REQUEST, *section]);
                buffer.extend_from_slice(after);
            }
            Message::Page(page) => encode_page(buffer, page),
            Message::Gone(Part::Layer(layer)) => {
                buffer.extend_from_slice(&[GONE, 0]);
                write_layer(buffer, *layer);
            }
            Message::Gone(Part::Legacy(legacy)) => {
                buffer.extend_from_slice(&[GONE, 1]);
                write_legacy(buffer, *legacy);
            }
            Message::Ask { filter, wanted } => {
                buffer.push(ASK);
                buffer.extend_from_slice(&filter.bytes());
                buffer.extend_from_slice(&wanted.to_le_bytes());
            }
            Message::History {
                origin,
                durable,
                history,
            } => {
                buffer.push(HISTORY);
                buffer.extend_from_slice(&origin.bytes());
                write_varint(buffer, *durable);
                buffer.push(u8::from(history.is_cut()));
                for (sequence, mark) in history.marks() {
                    write_varint(buffer, *sequence);
                    buffer.extend_from_slice(&mark.to_le_bytes());
                }
            }
            Message::TimeQuestion { number } => {
                buffer.push(TIME_QUESTION);
                buffer.extend_from_slice(&number.to_le_bytes());
            }
            Message::Time { number, wall } => {
                buffer.push(TIME);
                buffer.extend_from_slice(&number.to_le_bytes());
                buffer.extend_from_slice(&wall.to_le_bytes());
            }
            bits => encode_bits(buffer, bits),
        }
    }

    /// Reads a message that fills `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(MessageError::TooLong {
                length: bytes.len(),
            });
        }
        let mut reader = Reader::new(bytes);
        let kind = reader.u8("kind")?;
        let message = match kind {
            OPERATIONS => decode_run(&mut reader)?,
            REPORT => Message::Report(decode_report(&mut reader)?),
            WANT => decode_want(&mut reader)?,
            BEHIND => Message::Behind,
            PAGE_REQUEST => Message::PageRequest {
                section: reader.u8("section")?,
                after: reader.rest("key", KEY_BYTES_MAX)?.to_vec(),
            },
            PAGE => decode_page(&mut reader)?,
            GONE => Message::Gone(match reader.u8("part")? {
                0 => Part::Layer(reader.layer()?),
                1 => Part::Legacy(reader.legacy()?),
                _ => return Err(MessageError::Malformed { field: "part" }),
            }),
            ASK => Message::Ask {
                filter: FilterId::new(reader.array("filter")?),
                wanted: reader.u64("rights")?,
            },
            HISTORY => decode_history(&mut reader)?,
            TIME_QUESTION => Message::TimeQuestion {
                number: reader.u64("number")?,
            },
            TIME => Message::Time {
                number: reader.u64("number")?,
                wall: reader.u64("time")?,
            },
            kind => decode_bits(&mut reader, kind)?,
        };
        match reader.left() {
            0 => Ok(message),
            trailing => Err(MessageError::Trailing(trailing)),
        }
    }
}

fn encode_report(buffer: &mut Vec<u8>, report: &Report) {
    buffer.push(REPORT);
    for number in [report.session, report.heard, report.stamp, report.horizon] {
        buffer.extend_from_slice(&number.to_le_bytes());
    }
    buffer.extend_from_slice(&report.window.to_le_bytes());
    buffer.push(u8::from(report.ask));
    let entries = match &report.content {
        Content::Summary(hash) => {
            buffer.push(SUMMARY);
            buffer.extend_from_slice(&hash.to_le_bytes());
            return;
        }
        Content::Moved(entries) => {
            buffer.push(MOVED);
            entries
        }
        Content::News(hash, entries) => {
            buffer.push(NEWS);
            buffer.extend_from_slice(&hash.to_le_bytes());
            entries
        }
        Content::Range {
            after,
            through,
            entries,
        } => {
            buffer.push(RANGE);
            buffer.push(u8::from(after.is_some()) | u8::from(through.is_some()) << 1);
            for end in [after, through].into_iter().flatten() {
                buffer.extend_from_slice(&end.bytes());
            }
            entries
        }
    };
    for entry in entries {
        buffer.extend_from_slice(&entry.origin.bytes());
        write_varint(buffer, entry.durable);
        write_varint(buffer, entry.received.saturating_sub(entry.durable));
        buffer.extend_from_slice(&entry.mark.to_le_bytes());
    }
}

fn decode_report(reader: &mut Reader<'_>) -> Result<Report, MessageError> {
    let (session, heard) = (reader.u64("session")?, reader.u64("session heard")?);
    let (stamp, horizon) = (reader.u64("stamp")?, reader.u64("horizon")?);
    let window = reader.u32("window")?;
    let ask = reader.flag("question")?;
    let content = match reader.u8("content")? {
        SUMMARY => Content::Summary(reader.u64("hash")?),
        MOVED => Content::Moved(decode_entries(reader)?),
        NEWS => Content::News(reader.u64("hash")?, decode_entries(reader)?),
        RANGE => {
            let ends = reader.u8("range")?;
            if ends > 3 {
                return Err(MessageError::Malformed { field: "range" });
            }
            let mut end = |bit: u8| {
                (ends & bit != 0)
                    .then(|| reader.array("range").map(Origin::new))
                    .transpose()
            };
            let (after, through) = (end(1)?, end(2)?);
            let entries = decode_entries(reader)?;
            let inside = |entry: &Entry| {
                after.is_none_or(|after| after < entry.origin)
                    && through.is_none_or(|through| entry.origin <= through)
            };
            let empty = matches!((after, through), (Some(after), Some(end)) if after >= end);
            if empty || !entries.iter().all(inside) {
                return Err(MessageError::Malformed { field: "range" });
            }
            Content::Range {
                after,
                through,
                entries,
            }
        }
        _ => return Err(MessageError::Malformed { field: "content" }),
    };
    Ok(Report {
        session,
        heard,
        stamp,
        horizon,
        window,
        ask,
        content,
    })
}

fn decode_entries(reader: &mut Reader<'_>) -> Result<Vec<Entry>, MessageError> {
    let mut entries: Vec<Entry> = Vec::new();
    while reader.left() > 0 {
        reader.room(entries.len(), "entries", REPORT_ENTRIES_MAX)?;
        let origin = Origin::new(reader.array("origin")?);
        let durable = reader.varint("version")?;
        let ahead = reader.varint("version")?;
        let received = durable
            .checked_add(ahead)
            .filter(|received| *received <= SEQUENCE_MAX)
            .ok_or(MessageError::Malformed { field: "version" })?;
        let mark = reader.u64("mark")?;
        if entries.last().is_some_and(|last| last.origin >= origin) {
            return Err(MessageError::Malformed { field: "origin" });
        }
        entries.push(Entry {
            origin,
            durable,
            received,
            mark,
        });
    }
    Ok(entries)
}

fn decode_want(reader: &mut Reader<'_>) -> Result<Message, MessageError> {
    let mut wanted: Vec<(Origin, u64)> = Vec::new();
    while reader.left() > 0 || wanted.is_empty() {
        reader.room(wanted.len(), "wishes", WANT_ENTRIES_MAX)?;
        let origin = Origin::new(reader.array("origin")?);
        let first = reader.varint("sequence number")?;
        if first == 0 || first > SEQUENCE_MAX || wanted.last().is_some_and(|last| last.0 >= origin)
        {
            return Err(MessageError::Malformed { field: "wish" });
        }
        wanted.push((origin, first));
    }
    Ok(Message::Want(wanted))
}

fn decode_history(reader: &mut Reader<'_>) -> Result<Message, MessageError> {
    let origin = Origin::new(reader.array("origin")?);
    let durable = reader.varint("version")?;
    let cut = reader.flag("history")?;
    let mut marks = Vec::new();
    while reader.left() > 0 {
        reader.room(marks.len(), "marks", MARKS_MAX)?;
        marks.push((reader.varint("sequence number")?, reader.u64("mark")?));
    }
    let history = History::from_marks(marks, cut).filter(|history| {
        let last = history.marks().last();
        durable <= SEQUENCE_MAX && last.is_none_or(|(sequence, _)| *sequence <= durable)
    });
    Ok(Message::History {
        origin,
        durable,
        history: history.ok_or(MessageError::Malformed { field: "history" })?,
    })
}

fn encode_page(buffer: &mut Vec<u8>, page: &Page) {
    buffer.extend_from_slice(&[PAGE, page.section]);
    write_varint(buffer, page.after.len() as u64);
    buffer.extend_from_slice(&page.after);
    buffer.push(u8::from(page.next.is_some()));
    if let Some(next) = &page.next {
        write_varint(buffer, next.len() as u64);
        buffer.extend_from_slice(next);
    }
    buffer.extend_from_slice(&page.bytes);
}

fn decode_page(reader: &mut Reader<'_>) -> Result<Message, MessageError> {
    let section = reader.u8("section")?;
    let length = reader.length("key", 0, KEY_BYTES_MAX)?;
    let after = reader.take(length, "key")?.to_vec();
    let next = if reader.flag("next key")? {
        let length = reader.length("key", 0, KEY_BYTES_MAX)?;
        Some(reader.take(length, "key")?.to_vec())
    } else {
        None
    };
    let bytes = reader.rest("rows", MESSAGE_BYTES_MAX)?.to_vec();
    Ok(Message::Page(Page {
        section,
        after,
        next,
        bytes,
    }))
}
