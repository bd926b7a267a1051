//! The manifest: everything but the bits of filters as of one position of the log. Together with the layer files it
//! is the snapshot that recovery starts from; what the log holds from that position on is
//! replayed over it.
//!
//! ```text
//! "GrpvnMan" | version u32 | blocks, see `manifest/blocks.rs`
//! ```
//! The blocks hold, one MessagePack value after the other, the head, the number of filters and each
//! of them, the number of members' rows and each of them. Neither the file nor any part of it has
//! a largest length: what a node could hold, it can write and read back.

mod blocks;

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::sync::Arc;

use grapevine_core::bitmap::{Bitmap, BitmapError, ROWS_MAX};
use grapevine_core::catalogue::{FilterId, FilterRow};
use grapevine_core::filter::parameters::LayerId;
use grapevine_core::membership::{GroupIdentity, MemberRow};
use grapevine_core::origin::Origin;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3Default;

use self::blocks::{BLOCK_BYTES, BlockReader, BlockWriter, Fault};
use crate::disk::{Disk, OpenMode, parent};
use crate::filters::{FileReader, FileWriter};
use crate::journal::Bookmark;
use crate::log::{Position, copy_file};

/// Name of the file in the data directory.
pub const MANIFEST_FILE: &str = "manifest";
/// Name of the one before it, which the log is kept for.
pub const BEFORE_FILE: &str = "manifest.before";
const MAGIC: &[u8; 8] = b"GrpvnMan";
const FORMAT_VERSION: u32 = 3;
const HEADER_BYTES: usize = 12;

/// What is known of everything before the position of [`bookmark`](Self::bookmark).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The origin of the directory that it was made in.
    #[serde(default)]
    pub directory: Option<Origin>,
    /// Replay the log from here; what was in before.
    pub bookmark: Bookmark,
    /// All filters; in the file they follow the head.
    #[serde(skip)]
    pub rows: Vec<FilterRow>,
    /// Names that do not answer on this node.
    pub hidden: Vec<ByteBuf>,
    /// The group that the node belongs to; none before its first start has ended.
    pub group: Option<GroupIdentity>,
    /// All nodes that belong to the group, or did; in the file they follow the filters.
    #[serde(skip)]
    pub members: Vec<MemberRow>,
    /// The bits of the bitmap, as [`Bitmap::to_bytes`] gives them; none in what a program wrote
    /// that had no bitmap yet.
    #[serde(default)]
    pub bitmap: ByteBuf,
    /// The file of rows has everything before this position, at least; 0 where there is none.
    #[serde(default)]
    pub tables: Position,
    /// Of the files of layers, in the order of the rows and of the layers in them: the revision
    /// that each has, at least; 0 where there is no file or it is not known.
    #[serde(default)]
    pub revisions: Vec<Vec<u64>>,
}

impl Manifest {
    /// Where to replay the log from.
    pub fn position(&self) -> Position {
        self.bookmark.at.position
    }

    /// Layers with the revision that their files have at least, where that is known.
    pub(crate) fn file_revisions(&self) -> impl Iterator<Item = (FilterId, LayerId, u64)> {
        let rows = self.rows.iter().zip(&self.revisions);
        rows.flat_map(|(row, revisions)| {
            let layers = row.layers.iter().zip(revisions);
            layers.map(|(layer, revision)| (row.id, layer.shape.id, *revision))
        })
    }
}

/// Why a manifest cannot be read or written.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The file is not what this program wrote.
    #[error("{MANIFEST_FILE} is corrupt: {0}")]
    Corrupt(&'static str),
    /// The checksums match but what they are of does not decode.
    #[error("{MANIFEST_FILE} does not decode: {0}")]
    Body(rmp_serde::decode::Error),
    /// The bitmap in it is larger than any.
    #[error("{MANIFEST_FILE}: {0}")]
    Bitmap(#[from] BitmapError),
    /// The file was written by another version of the program.
    #[error(
        "{MANIFEST_FILE} has format version {found}, this program reads {FORMAT_VERSION}: {}",
        advice(*found)
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// What was written is not what is read back. The file that was there is still there.
    #[error("a new {MANIFEST_FILE} was written and cannot be read back: {0}")]
    Unreadable(Box<ManifestError>),
    /// What was read back is something else.
    #[error("it says something else than what was written")]
    Different,
    /// The disk refused.
    #[error("{MANIFEST_FILE}: {0}")]
    Io(#[from] io::Error),
}

impl ManifestError {
    /// Whether the file is not what was written, so that the one before stands in for it.
    pub(crate) fn is_of_contents(&self) -> bool {
        match self {
            ManifestError::Corrupt(_) | ManifestError::Body(_) | ManifestError::Bitmap(_) => true,
            ManifestError::Version { .. }
            | ManifestError::Unreadable(_)
            | ManifestError::Different
            | ManifestError::Io(_) => false,
        }
    }
}

fn advice(found: u32) -> &'static str {
    if found > FORMAT_VERSION {
        "a newer version wrote it; start that one"
    } else {
        "an older version wrote it; export its filters and tables with that one"
    }
}

impl From<rmp_serde::decode::Error> for ManifestError {
    fn from(error: rmp_serde::decode::Error) -> Self {
        use rmp_serde::decode::Error::{InvalidDataRead, InvalidMarkerRead};
        match error {
            InvalidDataRead(error) | InvalidMarkerRead(error) => read_failed(error),
            error => ManifestError::Body(error),
        }
    }
}

/// Tells what is wrong with the file from a disk that refuses.
fn read_failed(error: io::Error) -> ManifestError {
    let fault = error.get_ref().and_then(|inner| inner.downcast_ref());
    match fault {
        Some(Fault(what)) => ManifestError::Corrupt(what),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            ManifestError::Corrupt("it is cut short")
        }
        None => error.into(),
    }
}

impl Manifest {
    /// Reads the manifest of a directory; none when it has no such file.
    pub fn read(disk: &dyn Disk) -> Result<Option<Self>, ManifestError> {
        Self::read_file(disk, MANIFEST_FILE)
    }

    /// Reads the manifest before it, in the same way. Its errors are told of the other file.
    pub(crate) fn read_before(disk: &dyn Disk) -> Result<Option<Self>, ManifestError> {
        Self::read_file(disk, BEFORE_FILE)
    }

    /// Keeps what the manifest is now as the one before, if it can be read. Atomic and durable.
    pub(crate) fn keep_before(disk: &dyn Disk) -> io::Result<()> {
        let readable = open(disk, MANIFEST_FILE).is_ok_and(|input| digest_of(input).is_ok());
        if !readable {
            return Ok(());
        }
        let temporary = format!("{BEFORE_FILE}.new");
        copy_file(
            &*disk.open(MANIFEST_FILE, OpenMode::Read)?,
            disk,
            &temporary,
        )?;
        disk.rename(&temporary, BEFORE_FILE)?;
        // The next one must not be there without this one.
        disk.sync_dir(parent(BEFORE_FILE))
    }

    fn read_file(disk: &dyn Disk, path: &str) -> Result<Option<Self>, ManifestError> {
        match open(disk, path) {
            Ok(input) => Self::read_from(input).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes it, atomically and durably. Before the new file takes the place of the old one it
    /// is read back: what this program cannot read must not be all that is left.
    pub fn write(&self, disk: &dyn Disk) -> Result<(), ManifestError> {
        let temporary = format!("{MANIFEST_FILE}.new");
        let file = disk.open(&temporary, OpenMode::Create)?;
        let output = FileWriter::new(Arc::clone(&file));
        let output = BufWriter::with_capacity(BLOCK_BYTES, output);
        let (output, digest) = self.write_to(output)?;
        drop(output);
        file.sync()?;
        let unreadable = |error| ManifestError::Unreadable(Box::new(error));
        match digest_of(open(disk, &temporary)?) {
            Ok(read) if read == digest => {}
            Ok(_) => return Err(unreadable(ManifestError::Different)),
            // The disk refuses to read, now: what it holds is not known.
            Err(ManifestError::Io(error)) => return Err(error.into()),
            Err(error) => return Err(unreadable(error)),
        }
        disk.rename(&temporary, MANIFEST_FILE)?;
        Ok(disk.sync_dir(parent(MANIFEST_FILE))?)
    }

    /// Decodes the bytes of a manifest file.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::read_from(bytes)
    }

    fn read_from(input: impl Read) -> Result<Self, ManifestError> {
        let mut manifest = Manifest::default();
        read_parts(input, &mut |part| {
            match part {
                Part::Head(head) => manifest = *head,
                Part::Filter(row) => manifest.rows.push(row),
                Part::Member(row) => manifest.members.push(row),
            }
            Ok(())
        })?;
        Ok(manifest)
    }

    /// Writes all of it; gives the output back, flushed, and a digest of what it says.
    fn write_to<W: Write>(&self, mut output: W) -> io::Result<(W, u64)> {
        let header = header();
        output.write_all(&header)?;
        let mut output = Digesting {
            output: BlockWriter::new(output, blocks::start(&header)),
            digest: Xxh3Default::new(),
        };
        put(&mut output, self)?;
        put(&mut output.output, &(self.rows.len() as u64))?;
        for row in &self.rows {
            put(&mut output, row)?;
        }
        put(&mut output.output, &(self.members.len() as u64))?;
        for row in &self.members {
            put(&mut output, row)?;
        }
        let digest = output.digest.digest();
        let mut output = output.output.finish()?;
        output.flush()?;
        Ok((output, digest))
    }
}

/// Length of the manifest file.
pub(crate) fn bytes(disk: &dyn Disk) -> io::Result<u64> {
    disk.open(MANIFEST_FILE, OpenMode::Read)?.len()
}

/// What tells one manifest file from another; an error where there is none.
pub(crate) fn fingerprint(disk: &dyn Disk) -> io::Result<u64> {
    let file = disk.open(MANIFEST_FILE, OpenMode::Read)?;
    // The last checksum is one of everything before it.
    let mut last = [0; 8];
    file.read_at(file.len()?.saturating_sub(8), &mut last)?;
    Ok(u64::from_le_bytes(last))
}

fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header
}

fn put(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    rmp_serde::encode::write_named(output, value).map_err(io::Error::other)
}

/// A manifest comes as its head, then its rows.
enum Part {
    Head(Box<Manifest>),
    Filter(FilterRow),
    Member(MemberRow),
}

/// Reads a manifest part by part, so that no more than one of them need be in memory.
fn read_parts(
    mut input: impl Read,
    visit: &mut dyn FnMut(Part) -> io::Result<()>,
) -> Result<(), ManifestError> {
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).map_err(read_failed)?;
    if !header.starts_with(MAGIC) {
        return Err(ManifestError::Corrupt("it does not begin as a manifest"));
    }
    let found = u32::from_le_bytes(header[8..].try_into().expect("four bytes"));
    if found != FORMAT_VERSION {
        return Err(ManifestError::Version { found });
    }
    let mut blocks = BlockReader::new(input, blocks::start(&header));
    let head: Manifest = take(&mut blocks)?;
    Bitmap::from_bytes(ROWS_MAX, &head.bitmap)?;
    visit(Part::Head(Box::new(head)))?;
    for _ in 0..take::<u64>(&mut blocks)? {
        visit(Part::Filter(take(&mut blocks)?))?;
    }
    for _ in 0..take::<u64>(&mut blocks)? {
        visit(Part::Member(take(&mut blocks)?))?;
    }
    blocks.finish().map_err(read_failed)
}

fn take<T: DeserializeOwned>(input: &mut impl Read) -> Result<T, ManifestError> {
    Ok(rmp_serde::from_read(input)?)
}

/// The digest of what a manifest file says, as this program reads it. By bytes and not by values:
/// a number that is none is not equal to itself.
fn digest_of(input: impl Read) -> Result<u64, ManifestError> {
    let mut output = Digesting {
        output: io::sink(),
        digest: Xxh3Default::new(),
    };
    read_parts(input, &mut |part| match part {
        Part::Head(head) => put(&mut output, &head),
        Part::Filter(row) => put(&mut output, &row),
        Part::Member(row) => put(&mut output, &row),
    })?;
    Ok(output.digest.digest())
}

/// Passes on what is written to it and takes a digest of it.
struct Digesting<W> {
    output: W,
    digest: Xxh3Default,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.output.write(bytes)?;
        self.digest.update(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn open(disk: &dyn Disk, path: &str) -> io::Result<impl Read + use<>> {
    let file = FileReader::open(disk, path)?;
    Ok(BufReader::with_capacity(BLOCK_BYTES, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimulatedDisk;
    use crate::journal::Note;
    use grapevine_core::carried::Value;
    use grapevine_core::catalogue::{FilterId, LayerRow, Scope, Storage};
    use grapevine_core::filter::parameters::{Growth, Parameters};
    use grapevine_core::hash::Seed;
    use grapevine_core::history::History;
    use grapevine_core::membership::NodeId;
    use grapevine_core::version::Dot;
    use std::collections::BTreeMap;

    fn marks(sequence: u64) -> History {
        let mut history = History::default();
        history.mark(sequence, 77);
        history
    }

    fn manifest() -> Manifest {
        let parameters = Parameters {
            capacity: 77,
            error: 1e-7,
            growth: Growth::Fixed,
        };
        let me = Origin::new([1; 16]);
        let created = Dot {
            origin: me,
            sequence: 3,
        };
        let row = FilterRow {
            id: FilterId::new([3; 16]),
            created,
            scope: Scope::Group,
            name: b"caf\xe9".to_vec(),
            parameters,
            seed: Seed::new([4; 16]),
            storage: Storage::Durable,
            layers: vec![LayerRow {
                shape: parameters.layer(0, me, 1).unwrap(),
                opened: created,
            }],
            legacy: vec![],
            other: BTreeMap::new(),
        };
        let note = |position| Note {
            position,
            version: [(me, position / 3)].into_iter().collect(),
        };
        Manifest {
            directory: Some(me),
            bookmark: Bookmark {
                at: note(1 << 40),
                local: 7,
                earlier: vec![note(9)],
                histories: BTreeMap::from([(me, marks(5))]),
                forks: BTreeMap::from([(me, 6)]),
            },
            rows: vec![row],
            hidden: vec![ByteBuf::from(b"caf\xe9")],
            group: Some(GroupIdentity {
                id: [5; 16],
                seed: Seed::new([6; 16]),
                met: true,
            }),
            members: vec![MemberRow {
                node: NodeId::new([8; 32]),
                version: 2,
                body: vec![0x80],
            }],
            bitmap: ByteBuf::from(vec![0, 0x40, 1]),
            tables: 1 << 39,
            revisions: vec![vec![1 << 33]],
        }
    }

    fn encoded(manifest: &Manifest) -> Vec<u8> {
        manifest.write_to(Vec::new()).expect("memory").0
    }

    #[test]
    fn manifest_survives_its_file() {
        assert_eq!(Manifest::decode(&encoded(&manifest())).unwrap(), manifest());
    }

    #[test]
    fn a_bitmap_that_is_too_long_is_refused() {
        for (length, taken) in [(0, true), (8150, true), (8151, false)] {
            let manifest = Manifest {
                bitmap: ByteBuf::from(vec![1; length]),
                ..manifest()
            };
            let read = Manifest::decode(&encoded(&manifest));
            assert_eq!(read.is_ok(), taken, "{read:?}");
        }
    }

    #[test]
    fn the_version_of_another_program_is_named() {
        for found in [FORMAT_VERSION - 1, FORMAT_VERSION + 1] {
            let mut bytes = encoded(&manifest());
            bytes[8..12].copy_from_slice(&found.to_le_bytes());
            let error = Manifest::decode(&bytes).expect_err("another version");
            let named = format!("format version {found}, this program reads {FORMAT_VERSION}");
            assert!(error.to_string().contains(&named), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_read_back_does_not_take_the_place_of_what_can() {
        let disk = SimulatedDisk::new();
        manifest().write(&disk).expect("it is written");
        let deep = (0..1020).fold(Value::Nil, |value, _| Value::Array(vec![value]));
        let mut unreadable = manifest();
        unreadable.tables += 1;
        unreadable.rows[0].other = [("deep".to_owned(), deep)].into();
        let error = unreadable.write(&disk).expect_err("it is not read back");
        assert!(matches!(error, ManifestError::Unreadable(_)), "{error}");
        assert_eq!(Manifest::read(&disk).expect("it reads"), Some(manifest()));
    }

    #[test]
    fn a_number_that_is_none_is_read_back() {
        let disk = SimulatedDisk::new();
        let mut odd = manifest();
        odd.rows[0].parameters.error = f64::NAN;
        odd.write(&disk).expect("it is written");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = encoded(&manifest());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(
                Manifest::decode(&bytes[..length]).is_err(),
                "cut at {length}"
            );
        }
    }
}
