//! What the machine asks of the data. The machine decides what is sent, when and to whom; the
//! replica holds the data and every rule about it.

use std::collections::BTreeMap;

use crate::catalogue::FilterId;
use crate::filter::parameters::LayerId;
use crate::history::History;
use crate::origin::Origin;
use crate::version::{Dot, VersionVector};

/// A layer of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerName {
    /// The filter, by epoch.
    pub filter: FilterId,
    /// The layer in it.
    pub layer: LayerId,
}

/// A layer of a foreign geometry, kept as the file it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LegacyName {
    /// The filter, by epoch.
    pub filter: FilterId,
    /// Its place among the filter's foreign layers.
    pub index: u32,
}

/// Bits that travel beside operations and pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Compared by blocks, fetched by lines.
    Layer(LayerName),
    /// Fetched as bytes, whole.
    Legacy(LegacyName),
}

impl Part {
    /// The filter it is part of.
    pub fn filter(self) -> FilterId {
        match self {
            Part::Layer(layer) => layer.filter,
            Part::Legacy(legacy) => legacy.filter,
        }
    }
}

/// A place in a replica's log. Opaque: only the replica that made it can read it, and only until
/// it is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub u64, pub u64);

/// Consecutive operations of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Who made them.
    pub origin: Origin,
    /// Number of the first of them, from 1 on.
    pub first: u64,
    /// The operations (`kind | body`), opaque here; each has 1 to
    /// [`OPERATION_BYTES_MAX`](super::OPERATION_BYTES_MAX) bytes.
    pub operations: Vec<Vec<u8>>,
}

/// What a read of the log brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Operations in log order; there may be none although more follow.
    Runs {
        /// Each begins where the one before it of the same origin ended.
        runs: Vec<Run>,
        /// Where to read on.
        next: Cursor,
        /// Whether the durable end of the log was reached. Reading on from `next` later is right.
        end: bool,
    },
    /// The log no longer holds the first operation wanted of some origin.
    Gone,
}

/// What became of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How many of them, from the first on, are in now.
    pub count: usize,
    /// Why not the next one; `None` if all are in.
    pub waits: Option<Wait>,
}

/// What an operation waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Another operation that is not in yet.
    For(Dot),
    /// Bits that never were operations, to be fetched from somebody who has applied it. The
    /// layers must be there already, without bits: they are compared with the peer's.
    Parts(Vec<Part>),
    /// Nothing: it does not decode or is of an unknown kind. Its origin is followed no further
    /// until the next start.
    Refused,
}

/// A piece of the state, in the order of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Which of [`Replica::sections`].
    pub section: u8,
    /// The key after which the page begins; empty at the section's start.
    pub after: Vec<u8>,
    /// The last key of the page, if the section goes on behind it.
    pub next: Option<Vec<u8>>,
    /// The rows after `after` up to `next`, opaque here.
    pub bytes: Vec<u8>,
}

/// Why a page was not merged; nothing of it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A section that this version does not know.
    #[error("section {0} of a snapshot is unknown: sent by a newer version")]
    Section(u8),
    /// They do not fit here now.
    #[error("the rows do not fit the memory bound, or the node takes no writes")]
    Room,
    /// The rows do not decode.
    #[error("a page of section {section} does not decode at byte {at}")]
    Rows {
        /// Its section.
        section: u8,
        /// Bytes into the page.
        at: usize,
    },
}

/// The bits are there but cannot be shown: they are damaged, or do not fit into memory now. The
/// question is not answered, so that nobody takes the bits for gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// Fingerprints of consecutive blocks of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockHashes {
    /// Blocks that the layer has.
    pub total: u32,
    /// One per block, as [`block_hash`](super::fingerprint::block_hash) makes them.
    pub hashes: Vec<u64>,
}

/// One line of a layer's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its place in the block, below [`BLOCK_LINES`](super::BLOCK_LINES).
    pub index: u16,
    /// Its 512 bits.
    pub words: [u64; 8],
}

/// The lines of a block that differ from those whose hashes were shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockLines {
    /// Of the whole block, as [`block_hash`](super::fingerprint::block_hash) makes it.
    pub hash: u64,
    /// At most [`BLOCK_LINES`](super::BLOCK_LINES), ascending.
    pub lines: Vec<Line>,
}

/// A piece of a foreign layer's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Length of the file in bytes.
    pub total: u64,
    /// The bytes from the offset asked for; none only at the end.
    pub bytes: Vec<u8>,
}

/// Whose state a page is of.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// What the peer had when its pages began to be read: all of its state at one time.
    pub version: &'a VersionVector,
    /// Nothing is known to be lacking here: the states are compared and should be the same.
    pub comparing: bool,
}

/// Per origin, how many operations of it a copy has, and the marks in them.
pub type Shown = BTreeMap<Origin, (u64, History)>;

/// The data of one node, as replication sees it.
///
/// Two version vectors belong to it. `applied` is what is in. `durable` is what would survive a
/// power cut now; it is part of `applied`. Only durable operations are ever shown to a peer, so a
/// sequence number that somebody has seen is never used again after a power cut. After either
/// grew for another reason than a call from the machine, the owner gives the machine
/// [`Input::Advanced`](super::Input::Advanced).
///
/// What `page`, `block_hashes`, `lines` and `blob` show must be durable too, own changes above
/// all: a peer would keep what a power cut here takes back, and nobody else would ever get it.
/// Where it is not, sync before answering.
pub trait Replica {
    /// Everything that is in here.
    fn applied(&self) -> &VersionVector;

    /// What would survive a power cut now.
    fn durable(&self) -> &VersionVector;

    /// The last mark in the first `count` operations of an origin, as far as they are in; 0: it is
    /// not known, and histories are not told apart.
    fn mark(&self, origin: Origin, count: u64) -> u64 {
        self.history(origin).at(count)
    }

    /// All marks known in the operations of an origin that are in.
    fn history(&self, origin: Origin) -> History {
        let _ = origin;
        History::default()
    }

    /// What the first section says of the operations that the copy had when its pages began to be
    /// read, and once the last section is merged, of those it had when the last page was read.
    fn shown(&self) -> &Shown {
        static NOTHING: Shown = Shown::new();
        &NOTHING
    }

    /// Reads durable operations in log order: those of the origins in `wanted` from the number
    /// given there on, from `cursor` on (`None`: wherever the first of them may be). Stops at
    /// about `bytes` bytes of operations, or earlier.
    fn read(
        &mut self,
        wanted: &BTreeMap<Origin, u64>,
        cursor: Option<Cursor>,
        bytes: usize,
    ) -> Read;

    /// Applies operations of `origin`, in order. The machine promises that `first` is the number
    /// after the last applied one of that origin and that `origin` is not this node.
    fn apply(&mut self, origin: Origin, first: u64, operations: &[Vec<u8>]) -> Applied;

    /// All of these bits that a peer has are in: one whose state includes the page that named
    /// them, or the operation `waiting` for them. [`apply`](Self::apply) of that operation must
    /// not wait for them again.
    fn fetched(&mut self, part: Part, waiting: Option<Dot>);

    /// The operation that made a filter which is here or on its way here.
    fn made(&self, filter: FilterId) -> Option<Dot> {
        let _ = filter;
        None
    }

    /// A peer whose state includes the page or the operation that named these bits does not have
    /// them any more: what they belonged to was dropped since. [`apply`](Self::apply) must not wait
    /// for them again.
    fn give_up(&mut self, part: Part, waiting: Option<Dot>);

    /// The sections of a snapshot, in the order in which they must be merged. Where there are
    /// histories, they come first and once more last, see [`shown`](Self::shown).
    fn sections(&self) -> &[u8];

    /// The page of `section` that begins after the key `after` (empty: at the start), with about
    /// `bytes_max` bytes of rows at most. `None`: no such section.
    fn page(&mut self, section: u8, after: &[u8], bytes_max: usize) -> Option<Page>;

    /// Takes a page of a peer whose state includes the source's version. Rows of the page's range
    /// that are here and not in the page, although that version covers them, were removed there,
    /// if operations of it are lacking here that can have removed them. Where nothing is lacking, two
    /// states that differ are a fault, and nothing is removed: see
    /// [`compared`](Self::compared). Says which
    /// bits must be compared for the rows to be whole (at most
    /// [`PARTS_MAX`](super::PARTS_MAX)). Rows may be newer than `version`, and then the machine
    /// does not promise to get their bits: until it says [`fetched`](Self::fetched) or
    /// [`give_up`](Self::give_up) they are missing, and an operation that needs them must wait.
    fn merge_page(&mut self, page: &Page, source: Source<'_>) -> Result<Vec<Part>, PageError>;

    /// Fingerprints of up to `count_max` blocks of a layer from block `first` on. `None`: there is
    /// no such layer here (any more).
    fn block_hashes(
        &mut self,
        layer: LayerName,
        first: u32,
        count_max: usize,
    ) -> Result<Option<BlockHashes>, Unavailable>;

    /// Blocks that a layer has here. `None`: there is no such layer here (any more).
    fn block_count(&mut self, layer: LayerName) -> Option<u32>;

    /// Which blocks from `first` on have other fingerprints here than these, ascending; none for
    /// blocks or layers that do not exist here.
    fn differing(&mut self, layer: LayerName, first: u32, hashes: &[u64]) -> Vec<u32>;

    /// Hashes under `salt` of all lines of a block, as
    /// [`line_hash`](super::fingerprint::line_hash) makes them; at most
    /// [`BLOCK_LINES`](super::BLOCK_LINES). None if the block does not exist here (any more).
    fn line_hashes(&mut self, layer: LayerName, block: u32, salt: u64) -> Vec<u32>;

    /// The lines of a block whose hash under `salt` is not the one shown. `None`: there is no such
    /// block here (any more).
    fn lines(
        &mut self,
        layer: LayerName,
        block: u32,
        salt: u64,
        hashes: &[u32],
    ) -> Result<Option<BlockLines>, Unavailable>;

    /// Takes a peer's lines; true if a bit was new. Lines outside the block are passed over.
    fn merge_lines(&mut self, layer: LayerName, block: u32, lines: &[Line]) -> bool;

    /// A piece of a foreign layer's file. `None`: there is none here (any more).
    fn blob(&mut self, legacy: LegacyName, offset: u64, bytes_max: usize) -> Option<Blob>;

    /// Takes a piece of a foreign layer's file: says at which offset it wants the next one, `None`
    /// when the file is whole, or no longer wanted. Pieces may come twice.
    fn merge_blob(&mut self, legacy: LegacyName, offset: u64, blob: &Blob) -> Option<u64>;

    /// Everything up to `version` has been merged: makes it durable and raises what is applied and
    /// durable to it. It never holds more of this node's own operations than there are.
    fn adopt(&mut self, version: &VersionVector);

    /// All pages of a comparison with `peer` were merged, and everything that it had when it read
    /// them is in: what was here and not there, and still is here unchanged, is not explained
    /// by an operation that was on its way.
    fn compared(&mut self, peer: Origin);

    /// Whether something here is damaged and mended by a comparison of the whole state, so that one
    /// should not wait for its time. Asked now and then.
    fn wants_state(&self) -> bool {
        false
    }

    /// A snapshot was given up: what came with it, and with no operation since, is to go at once. Soon
    /// operations of another history may come under the numbers that made it.
    fn forget_partial(&mut self);

    /// Filters for which this node needs rights to insert, with how many.
    fn shortages(&mut self, now: u64) -> Vec<(FilterId, u64)>;

    /// A member asks for rights. If some can be spared, the grant becomes an operation of this
    /// node, which travels like any other.
    fn grant(&mut self, filter: FilterId, to: Origin, wanted: u64);
}
