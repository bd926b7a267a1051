//! Operations: every change of a node's state as bytes, for the log and for peers.
//!
//! Effects travel, not commands: an insert is the hashes of the keys that were new and the layer
//! they went into; a creation is the finished row. Applying an operation never fails for a
//! reason of state, and applying one twice is the same as once.
//!
//! ```text
//! entry     = stream u8 | origin 16 | sequence u64 | operation
//! operation = kind u8 | body
//! insert    = spent | hashes 16 each
//! draw      = spent
//! spent     = filter 16 | layer index u32 | layer creator 16 | opened u64 | total u64
//! bits      = indexes u16 each, below 65200
//! mark      = u64, not 0: of the run of the node that makes what follows
//! rows      = a table's name and rows of it, see `operation/rows.rs`
//! drop table = a MessagePack map: the table's description, and what its dropper had seen
//! other     = a MessagePack map; fields that this version does not know are carried along, within
//!             the bounds of `carried.rs`
//! ```
//! Integers are little endian. `opened` is the number of the creator's operation that opened the
//! layer: a copy that does not have it yet must wait for it, one that has it and no such layer
//! knows that the filter was dropped. `total` is the number of rights the origin had spent in the
//! layer once these keys were in; it only grows, so replay sets the counter to the largest seen.
//! Of a filter that is kept in memory the log has draws, of rights for keys to come, and no keys;
//! those travel beside it.
//! What an operation rests on in the same way is its [`Operation::needs`].

mod error;
mod marks;
mod rows;
mod tables;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bitmap::BITMAP_BITS_MAX;
use crate::catalogue::{FilterId, FilterRow, LayerRow, validate_name};
use crate::filter::Run;
use crate::filter::parameters::{LayerId, LayerShape};
use crate::filter::rights::Rights;
use crate::hash::KeyHash;
use crate::history::History;
use crate::limits::{ADOPTED_VERSION_BYTES_MAX, OPERATION_BODY_BYTES_MAX};
use crate::membership::{GroupIdentity, MemberRow};
use crate::origin::Origin;
use crate::table::TableRow;
use crate::version::{Dot, VersionVector};
pub use error::OperationError;
use marks::decode_mark;
pub use marks::{encode_fork, encode_mark, encode_marks};
pub use rows::{
    KeyedRow, ROW_OVERHEAD_BYTES, Rows, RowsError, decode_rows, encode_renewed_row, encode_row,
    encode_rows_of,
};
pub use tables::{TableDrop, encode_table, encode_table_drop};

/// Bytes before the operation in every entry.
pub const ENTRY_HEADER_BYTES: usize = 1 + Origin::BYTES + 8;
/// Bytes of an insert before its hashes.
pub const INSERT_HEADER_BYTES: usize = SPENT_BYTES;
const SPENT_BYTES: usize = 16 + 4 + 16 + 8 + 8;
/// Most hashes in one insert; a larger change is written as several.
pub const INSERT_HASHES_MAX: usize = 16 * 1024;
/// Most bits in one operation on a bitmap.
pub const BITS_MAX: usize = 16 * 1024;

const KIND_INSERT: u8 = 1;
const KIND_CREATE: u8 = 2;
const KIND_DROP: u8 = 3;
const KIND_HIDE: u8 = 4;
const KIND_SHOW: u8 = 5;
const KIND_OPEN_LAYER: u8 = 6;
const KIND_ADOPT_LAYER: u8 = 7;
const KIND_IMPORT: u8 = 8;
const KIND_GRANT: u8 = 9;
const KIND_BITS: u8 = 10;
const KIND_MEMBER: u8 = 11;
const KIND_GROUP: u8 = 12;
const KIND_ADOPT_VERSION: u8 = 13;
const KIND_DRAW: u8 = 14;
const KIND_TABLE: u8 = 15;
const KIND_ROWS: u8 = 16;
const KIND_MARK: u8 = 17;
const KIND_MARKS: u8 = 18;
const KIND_FORK: u8 = 19;
const KIND_DROP_TABLE: u8 = 20;
const KIND_ROWS_OF_EPOCH: u8 = 21;

/// Who an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// This node alone.
    Local,
    /// Every member of the group.
    Group,
}

/// What an entry of the log says before the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Who it is for.
    pub stream: Stream,
    /// Who made it, and its number among those that it made for this stream, from 1 on.
    pub dot: Dot,
}

impl EntryHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut bytes = [0; ENTRY_HEADER_BYTES];
        bytes[0] = match self.stream {
            Stream::Local => 0,
            Stream::Group => 1,
        };
        bytes[1..17].copy_from_slice(&self.dot.origin.bytes());
        bytes[17..].copy_from_slice(&self.dot.sequence.to_le_bytes());
        bytes
    }

    /// Reads the header of an entry; gives it and the operation's bytes.
    pub fn decode(entry: &[u8]) -> Result<(Self, &[u8]), OperationError> {
        let Some((header, operation)) = entry.split_first_chunk::<ENTRY_HEADER_BYTES>() else {
            return Err(OperationError::Short {
                length: entry.len(),
            });
        };
        let stream = match header[0] {
            0 => Stream::Local,
            1 => Stream::Group,
            unknown => return Err(OperationError::Stream(unknown)),
        };
        let origin: [u8; 16] = header[1..17].try_into().expect("sixteen bytes");
        let sequence = u64::from_le_bytes(header[17..].try_into().expect("eight bytes"));
        let dot = Dot {
            origin: Origin::new(origin),
            sequence,
        };
        Ok((EntryHeader { stream, dot }, operation))
    }
}

/// A change of the catalogue: rare, and applied by the catalogue's one owner.
#[derive(Clone, Debug, PartialEq)]
pub enum CatalogueChange {
    /// A filter now exists.
    Create(FilterRow),
    /// A filter now exists whose layers' bits were put beside the log before this was written;
    /// the rights of its layers as they came with them.
    Import(FilterRow, Vec<Rights>),
    /// This epoch of a filter is gone, with everything in it.
    Drop(Epoch),
    /// The filters of this name no longer answer, but their data stays (bloomd's `clear`).
    Hide(Name),
    /// They answer again.
    Show(Name),
    /// A filter has one more layer.
    OpenLayer(Epoch, LayerRow),
    /// A filter has one more layer, or one has more bits, which were put beside the log before
    /// this was written; the layer's rights as they are with them.
    AdoptLayer(Epoch, LayerRow, Rights),
}

/// One epoch of a filter, and the operation that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Its id.
    pub filter: FilterId,
    /// The operation that made it.
    pub created: Dot,
}

/// The name of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// 1 to 200 bytes, any but white space.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
}

/// Rights to insert into a layer, handed on by the origin of the operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The filter, by epoch.
    pub filter: FilterId,
    /// The layer.
    pub layer: LayerId,
    /// The operation that opened it.
    pub opened: Dot,
    /// Who was ever given how many in all by this giver.
    pub shares: Vec<Share>,
}

/// One member's part of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Who may spend them.
    pub taker: Origin,
    /// Rights that the giver has given it in all; it only grows.
    pub total: u64,
}

/// Rights that the origin of the operation has spent in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The filter, by epoch.
    pub filter: FilterId,
    /// The layer.
    pub layer: LayerId,
    /// Number of the operation of the layer's creator that opened it.
    pub opened: u64,
    /// How many in all.
    pub total: u64,
}

impl Spent {
    /// The operation that opened the layer.
    fn opened(&self) -> Dot {
        Dot {
            origin: self.layer.creator,
            sequence: self.opened,
        }
    }

    fn encode(&self, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self.filter.bytes());
        buffer.extend_from_slice(&self.layer.index.to_le_bytes());
        buffer.extend_from_slice(&self.layer.creator.bytes());
        buffer.extend_from_slice(&self.opened.to_le_bytes());
        buffer.extend_from_slice(&self.total.to_le_bytes());
    }
}

/// New keys of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Insert<'a> {
    /// The rights spent once these keys were in: where they went.
    pub spent: Spent,
    hashes: &'a [u8],
}

impl<'a> Insert<'a> {
    /// The hashes of the keys.
    pub fn hashes(&self) -> impl ExactSizeIterator<Item = KeyHash> + 'a {
        self.hashes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| KeyHash::from_bytes(*bytes))
    }
}

/// A decoded operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation<'a> {
    /// New keys.
    Insert(Insert<'a>),
    /// Rights spent before the keys that take them, which are not in the log.
    Draw(Spent),
    /// A change of the catalogue.
    Catalogue(CatalogueChange),
    /// Rights handed on.
    Grant(Grant),
    /// Bits of the bitmap that are set now.
    Bits(Bits<'a>),
    /// What a member of the group is, or was.
    Member(MemberRow),
    /// A table exists, or more is known of it.
    Table(TableRow),
    /// A table is gone, with every row of its epoch and those before.
    DropTable(TableDrop),
    /// Rows of a table, which exists with them.
    Rows(Rows<'a>),
    /// The operations of the origin from here to its next mark are of one run of its node.
    Mark(u64),
    /// The marks of an origin, of which a snapshot that is taken over next has operations.
    Marks(Origin, History),
    /// What this node has of an origin from a number on is not what others have under it, or is
    /// not known to be anywhere else.
    Fork(Dot),
    /// The group that this node belongs to now.
    Group(GroupIdentity),
    /// A snapshot was taken over: this node has everything up to here.
    AdoptVersion(VersionVector),
}

impl Operation<'_> {
    /// The stream it belongs to in a node whose collections are the group's.
    pub fn is_for_all(&self) -> bool {
        match self {
            Operation::Group(_)
            | Operation::AdoptVersion(_)
            | Operation::Marks(..)
            | Operation::Fork(_)
            | Operation::Catalogue(CatalogueChange::Hide(_) | CatalogueChange::Show(_)) => false,
            Operation::Rows(rows) => !rows.carries_dots(),
            _ => true,
        }
    }

    /// The operation that must be in before this one can be applied, if there is one.
    pub fn needs(&self) -> Option<Dot> {
        match self {
            Operation::Insert(Insert { spent, .. }) | Operation::Draw(spent) => {
                Some(spent.opened())
            }
            Operation::Grant(grant) => Some(grant.opened),
            Operation::Catalogue(
                CatalogueChange::Drop(epoch)
                | CatalogueChange::OpenLayer(epoch, _)
                | CatalogueChange::AdoptLayer(epoch, ..),
            ) => Some(epoch.created),
            _ => None,
        }
    }
}

/// Indexes of bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bits<'a>(&'a [u8]);

impl<'a> Bits<'a> {
    /// The indexes, in the order they were written.
    pub fn indexes(&self) -> impl ExactSizeIterator<Item = u16> + 'a {
        self.0
            .as_chunks()
            .0
            .iter()
            .map(|bytes| u16::from_le_bytes(*bytes))
    }
}

/// Appends an insert of `hashes` (1 to [`INSERT_HASHES_MAX`]) to `buffer`.
pub fn encode_insert(buffer: &mut Vec<u8>, filter: FilterId, run: Run, hashes: &[KeyHash]) {
    debug_assert!((1..=INSERT_HASHES_MAX).contains(&hashes.len()));
    buffer.reserve(1 + INSERT_HEADER_BYTES + hashes.len() * KeyHash::BYTES);
    buffer.push(KIND_INSERT);
    let spent = Spent {
        filter,
        layer: run.layer,
        opened: run.opened,
        total: run.inserted,
    };
    spent.encode(buffer);
    for hash in hashes {
        buffer.extend_from_slice(&hash.to_bytes());
    }
}

/// Appends a draw to `buffer`.
pub fn encode_draw(buffer: &mut Vec<u8>, spent: &Spent) {
    buffer.push(KIND_DRAW);
    spent.encode(buffer);
}

#[derive(Serialize, Deserialize)]
struct LayerBody {
    filter: FilterId,
    created: Dot,
    layer: LayerRow,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rights: Option<Rights>,
}

impl LayerBody {
    fn epoch(&self) -> Epoch {
        Epoch {
            filter: self.filter,
            created: self.created,
        }
    }
}

#[derive(Serialize)]
struct ImportBody<'a> {
    row: &'a FilterRow,
    rights: &'a [Rights],
}

#[derive(Deserialize)]
struct ImportedBody {
    row: FilterRow,
    rights: Vec<Rights>,
}

/// Appends the bits that are set now (1 to [`BITS_MAX`], each below [`BITMAP_BITS_MAX`]) to
/// `buffer`.
pub fn encode_bits(buffer: &mut Vec<u8>, indexes: &[u16]) {
    debug_assert!((1..=BITS_MAX).contains(&indexes.len()));
    buffer.push(KIND_BITS);
    for index in indexes {
        buffer.extend_from_slice(&index.to_le_bytes());
    }
}

/// Appends a grant to `buffer`.
pub fn encode_grant(buffer: &mut Vec<u8>, grant: &Grant) {
    encode_body(buffer, KIND_GRANT, grant);
}

/// Appends a member's row to `buffer`.
pub fn encode_member(buffer: &mut Vec<u8>, row: &MemberRow) {
    encode_body(buffer, KIND_MEMBER, row);
}

/// Appends the group that the node belongs to now to `buffer`.
pub fn encode_group(buffer: &mut Vec<u8>, group: &GroupIdentity) {
    encode_body(buffer, KIND_GROUP, group);
}

/// Appends the version of a snapshot that was taken over to `buffer`.
pub fn encode_adopted_version(buffer: &mut Vec<u8>, version: &VersionVector) {
    encode_body(buffer, KIND_ADOPT_VERSION, version);
}

/// Appends a catalogue change to `buffer`.
pub fn encode_change(buffer: &mut Vec<u8>, change: &CatalogueChange) {
    match change {
        CatalogueChange::Create(row) => encode_body(buffer, KIND_CREATE, row),
        CatalogueChange::Import(row, rights) => {
            encode_body(buffer, KIND_IMPORT, &ImportBody { row, rights });
        }
        CatalogueChange::Drop(epoch) => encode_body(buffer, KIND_DROP, epoch),
        CatalogueChange::Hide(name) => encode_body(buffer, KIND_HIDE, name),
        CatalogueChange::Show(name) => encode_body(buffer, KIND_SHOW, name),
        CatalogueChange::OpenLayer(epoch, layer) => {
            encode_layer(buffer, KIND_OPEN_LAYER, epoch, layer, None);
        }
        CatalogueChange::AdoptLayer(epoch, layer, rights) => {
            encode_layer(buffer, KIND_ADOPT_LAYER, epoch, layer, Some(rights));
        }
    }
}

fn encode_layer(
    buffer: &mut Vec<u8>,
    kind: u8,
    epoch: &Epoch,
    layer: &LayerRow,
    rights: Option<&Rights>,
) {
    let body = LayerBody {
        filter: epoch.filter,
        created: epoch.created,
        layer: *layer,
        rights: rights.cloned(),
    };
    encode_body(buffer, kind, &body);
}

fn encode_body(buffer: &mut Vec<u8>, kind: u8, body: &impl Serialize) {
    buffer.push(kind);
    rmp_serde::encode::write_named(buffer, body)
        .expect("rows are plain data and memory does not refuse a write");
}

/// Whether an operation is short enough to be read: what is longer must not be written.
pub fn fits(operation: &[u8]) -> bool {
    let longest = match operation.first() {
        Some(&KIND_INSERT) => SPENT_BYTES + INSERT_HASHES_MAX * KeyHash::BYTES,
        Some(&KIND_ADOPT_VERSION) => ADOPTED_VERSION_BYTES_MAX,
        _ => OPERATION_BODY_BYTES_MAX,
    };
    operation.len() <= 1 + longest
}

/// Reads one operation.
pub fn decode(operation: &[u8]) -> Result<Operation<'_>, OperationError> {
    let Some((kind, body)) = operation.split_first() else {
        return Err(OperationError::Short { length: 0 });
    };
    let kind = *kind;
    if kind == KIND_INSERT {
        return Ok(Operation::Insert(decode_insert(body)?));
    }
    if kind == KIND_DRAW {
        let spent = body.try_into().map(decode_spent);
        return spent
            .map(Operation::Draw)
            .map_err(|_| OperationError::Draw { bytes: body.len() });
    }
    if kind == KIND_BITS {
        return Ok(Operation::Bits(decode_bits(body)?));
    }
    if matches!(kind, KIND_ROWS | KIND_ROWS_OF_EPOCH) {
        return Ok(Operation::Rows(Rows::decode(kind, body)?));
    }
    if kind == KIND_MARK {
        return decode_mark(body).map(Operation::Mark);
    }
    if !fits(operation) {
        return Err(OperationError::TooLong(body.len()));
    }
    let change = match kind {
        KIND_CREATE => {
            let row: FilterRow = decode_body(kind, body)?;
            validate_name(&row.name).map_err(OperationError::FilterName)?;
            CatalogueChange::Create(row)
        }
        KIND_IMPORT => {
            let ImportedBody { row, rights } = decode_body(kind, body)?;
            validate_name(&row.name).map_err(OperationError::FilterName)?;
            CatalogueChange::Import(row, rights)
        }
        KIND_DROP => CatalogueChange::Drop(decode_body(kind, body)?),
        KIND_HIDE => CatalogueChange::Hide(decode_body(kind, body)?),
        KIND_SHOW => CatalogueChange::Show(decode_body(kind, body)?),
        KIND_OPEN_LAYER => {
            let body: LayerBody = decode_body(kind, body)?;
            CatalogueChange::OpenLayer(body.epoch(), body.layer)
        }
        KIND_ADOPT_LAYER => {
            let body: LayerBody = decode_body(kind, body)?;
            let LayerShape { id, capacity, .. } = body.layer.shape;
            let epoch = body.epoch();
            let rights = body.rights.unwrap_or(Rights::new(capacity, id.creator));
            CatalogueChange::AdoptLayer(epoch, body.layer, rights)
        }
        KIND_GRANT => return Ok(Operation::Grant(decode_body(kind, body)?)),
        KIND_MEMBER => return Ok(Operation::Member(decode_body(kind, body)?)),
        KIND_TABLE => return tables::decode_table(body).map(Operation::Table),
        KIND_DROP_TABLE => return tables::decode_table_drop(body).map(Operation::DropTable),
        KIND_MARKS => {
            let (origin, history) = decode_body(kind, body)?;
            return Ok(Operation::Marks(origin, history));
        }
        KIND_FORK => return Ok(Operation::Fork(decode_body(kind, body)?)),
        KIND_GROUP => return Ok(Operation::Group(decode_body(kind, body)?)),
        KIND_ADOPT_VERSION => return Ok(Operation::AdoptVersion(decode_body(kind, body)?)),
        kind => return Err(OperationError::Kind(kind)),
    };
    Ok(Operation::Catalogue(change))
}

fn decode_bits(body: &[u8]) -> Result<Bits<'_>, OperationError> {
    if body.is_empty() || body.len() > BITS_MAX * 2 || !body.len().is_multiple_of(2) {
        return Err(OperationError::Bits { bytes: body.len() });
    }
    let bits = Bits(body);
    match bits.indexes().find(|index| *index >= BITMAP_BITS_MAX) {
        Some(index) => Err(OperationError::NoBit(index)),
        None => Ok(bits),
    }
}

fn decode_body<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, OperationError> {
    rmp_serde::from_slice(body).map_err(|source| OperationError::Body { kind, source })
}

fn decode_insert(body: &[u8]) -> Result<Insert<'_>, OperationError> {
    let Some((header, hashes)) = body.split_first_chunk::<SPENT_BYTES>() else {
        return Err(OperationError::Short {
            length: body.len() + 1,
        });
    };
    let most = INSERT_HASHES_MAX * KeyHash::BYTES;
    if hashes.is_empty() || hashes.len() > most || !hashes.len().is_multiple_of(KeyHash::BYTES) {
        return Err(OperationError::Hashes {
            bytes: hashes.len(),
        });
    }
    Ok(Insert {
        spent: decode_spent(header),
        hashes,
    })
}

fn decode_spent(bytes: &[u8; SPENT_BYTES]) -> Spent {
    let field = |from: usize| -> [u8; 16] {
        bytes[from..from + 16]
            .try_into()
            .expect("the range has sixteen bytes")
    };
    let number =
        |from: usize| u64::from_le_bytes(bytes[from..from + 8].try_into().expect("eight bytes"));
    Spent {
        filter: FilterId::new(field(0)),
        layer: LayerId {
            index: u32::from_le_bytes(bytes[16..20].try_into().expect("four bytes")),
            creator: Origin::new(field(20)),
        },
        opened: number(36),
        total: number(44),
    }
}

#[cfg(test)]
mod tests;
