//! Operations: every change of the node's state as bytes, for the log now and for peers.
//!
//! Effects travel, not commands: an insert is the hashes of the keys that were new and the layer
//! they went into; a creation is the finished row. Applying an operation never fails for a
//! reason of state, and applying one twice is the same as once.
//!
//! ```text
//! entry    = sequence u64 | kind u8 | body
//! insert   = filter 16 | layer index u32 | layer creator 16 | inserted u64 | hashes 16 each
//! other    = a MessagePack map; fields that this version does not know are passed over
//! ```
//! Integers are little endian. `inserted` is the number of keys the origin had put into the
//! layer once these were in; it only grows, so replay sets the counter to the largest seen.
//! The encoders write what follows the sequence number, which is given out by the log's owner.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::catalogue::{FilterId, FilterRow};
use crate::filter::Run;
use crate::filter::parameters::{LayerId, LayerShape};
use crate::hash::KeyHash;
use crate::limits::OPERATION_BODY_BYTES_MAX;
use crate::origin::Origin;

/// Bytes before the body of every entry.
const ENTRY_HEADER_BYTES: usize = 9;
/// Bytes of an insert before its hashes.
pub const INSERT_HEADER_BYTES: usize = 16 + 4 + 16 + 8;
/// Most hashes in one insert; a larger change is written as several.
pub const INSERT_HASHES_MAX: usize = 16 * 1024;

const KIND_INSERT: u8 = 1;
const KIND_CREATE: u8 = 2;
const KIND_DROP: u8 = 3;
const KIND_HIDE: u8 = 4;
const KIND_SHOW: u8 = 5;
const KIND_OPEN_LAYER: u8 = 6;
const KIND_ADOPT_LAYER: u8 = 7;
const KIND_IMPORT: u8 = 8;

/// A change of the catalogue: rare, and applied by the catalogue's one owner.
#[derive(Clone, Debug, PartialEq)]
pub enum CatalogueChange {
    /// A filter now exists.
    Create(FilterRow),
    /// A filter now exists whose layers' bits were put beside the log before this was written.
    Import(FilterRow),
    /// This epoch of a filter is gone, with everything in it.
    Drop(FilterId),
    /// The filter no longer answers to its name, but its data stays (bloomd's `clear`).
    Hide(FilterId),
    /// A hidden filter answers again.
    Show(FilterId),
    /// A filter has one more layer.
    OpenLayer(FilterId, LayerShape),
    /// A filter has one more layer, whose bits were put beside the log before this was written.
    AdoptLayer(FilterId, LayerShape),
}

/// New keys of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Insert<'a> {
    /// The filter, by epoch.
    pub filter: FilterId,
    /// The layer the keys went into.
    pub layer: LayerId,
    /// Keys the origin had inserted into the layer once these were in.
    pub inserted: u64,
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
    /// A change of the catalogue.
    Catalogue(CatalogueChange),
}

/// Why bytes are not an operation.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// Shorter than any operation of its kind.
    #[error("operation of {length} bytes is cut short")]
    Short {
        /// Bytes there are.
        length: usize,
    },
    /// The hashes of an insert are not a whole number, none, or too many.
    #[error("insert carries {bytes} bytes of hashes, not 1 to {INSERT_HASHES_MAX} times 16")]
    Hashes {
        /// Bytes of hashes.
        bytes: usize,
    },
    /// A kind that this version does not know.
    #[error("operation of unknown kind {0}: written by a newer version")]
    Kind(u8),
    /// The body is larger than any this version writes.
    #[error("operation body of {0} bytes, the limit is {OPERATION_BODY_BYTES_MAX}")]
    TooLong(usize),
    /// The body does not decode.
    #[error("operation of kind {kind} does not decode: {source}")]
    Body {
        /// Its kind.
        kind: u8,
        /// What the decoder says.
        source: rmp_serde::decode::Error,
    },
}

/// Appends an insert of `hashes` (1 to [`INSERT_HASHES_MAX`]) to `buffer`.
pub fn encode_insert(buffer: &mut Vec<u8>, filter: FilterId, run: Run, hashes: &[KeyHash]) {
    debug_assert!((1..=INSERT_HASHES_MAX).contains(&hashes.len()));
    buffer.reserve(1 + INSERT_HEADER_BYTES + hashes.len() * KeyHash::BYTES);
    buffer.push(KIND_INSERT);
    buffer.extend_from_slice(&filter.bytes());
    buffer.extend_from_slice(&run.layer.index.to_le_bytes());
    buffer.extend_from_slice(&run.layer.creator.bytes());
    buffer.extend_from_slice(&run.inserted.to_le_bytes());
    for hash in hashes {
        buffer.extend_from_slice(&hash.to_bytes());
    }
}

#[derive(Serialize, Deserialize)]
struct OpenLayerBody {
    filter: FilterId,
    layer: LayerShape,
}

#[derive(Serialize, Deserialize)]
struct FilterBody {
    filter: FilterId,
}

/// Appends a catalogue change to `buffer`.
pub fn encode_change(buffer: &mut Vec<u8>, change: &CatalogueChange) {
    match change {
        CatalogueChange::Create(row) => encode_body(buffer, KIND_CREATE, row),
        CatalogueChange::Import(row) => encode_body(buffer, KIND_IMPORT, row),
        CatalogueChange::Drop(filter) => {
            encode_body(buffer, KIND_DROP, &FilterBody { filter: *filter });
        }
        CatalogueChange::Hide(filter) => {
            encode_body(buffer, KIND_HIDE, &FilterBody { filter: *filter });
        }
        CatalogueChange::Show(filter) => {
            encode_body(buffer, KIND_SHOW, &FilterBody { filter: *filter });
        }
        CatalogueChange::OpenLayer(filter, layer) => {
            encode_body(
                buffer,
                KIND_OPEN_LAYER,
                &OpenLayerBody {
                    filter: *filter,
                    layer: *layer,
                },
            );
        }
        CatalogueChange::AdoptLayer(filter, layer) => {
            let body = OpenLayerBody {
                filter: *filter,
                layer: *layer,
            };
            encode_body(buffer, KIND_ADOPT_LAYER, &body);
        }
    }
}

fn encode_body(buffer: &mut Vec<u8>, kind: u8, body: &impl Serialize) {
    buffer.push(kind);
    rmp_serde::encode::write_named(buffer, body)
        .expect("rows are plain data and memory does not refuse a write");
}

/// Reads one entry: its sequence number and the operation.
pub fn decode(entry: &[u8]) -> Result<(u64, Operation<'_>), OperationError> {
    let short = OperationError::Short {
        length: entry.len(),
    };
    let Some((sequence, rest)) = entry.split_first_chunk::<8>() else {
        return Err(short);
    };
    let Some((kind, body)) = rest.split_first() else {
        return Err(short);
    };
    let sequence = u64::from_le_bytes(*sequence);
    if *kind == KIND_INSERT {
        return Ok((sequence, Operation::Insert(decode_insert(body)?)));
    }
    if body.len() > OPERATION_BODY_BYTES_MAX {
        return Err(OperationError::TooLong(body.len()));
    }
    let change = match *kind {
        KIND_CREATE => CatalogueChange::Create(decode_body(KIND_CREATE, body)?),
        KIND_IMPORT => CatalogueChange::Import(decode_body(KIND_IMPORT, body)?),
        KIND_DROP => CatalogueChange::Drop(decode_body::<FilterBody>(KIND_DROP, body)?.filter),
        KIND_HIDE => CatalogueChange::Hide(decode_body::<FilterBody>(KIND_HIDE, body)?.filter),
        KIND_SHOW => CatalogueChange::Show(decode_body::<FilterBody>(KIND_SHOW, body)?.filter),
        KIND_OPEN_LAYER => {
            let OpenLayerBody { filter, layer } = decode_body(KIND_OPEN_LAYER, body)?;
            CatalogueChange::OpenLayer(filter, layer)
        }
        KIND_ADOPT_LAYER => {
            let OpenLayerBody { filter, layer } = decode_body(KIND_ADOPT_LAYER, body)?;
            CatalogueChange::AdoptLayer(filter, layer)
        }
        kind => return Err(OperationError::Kind(kind)),
    };
    Ok((sequence, Operation::Catalogue(change)))
}

fn decode_body<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, OperationError> {
    rmp_serde::from_slice(body).map_err(|source| OperationError::Body { kind, source })
}

fn decode_insert(body: &[u8]) -> Result<Insert<'_>, OperationError> {
    let Some((header, hashes)) = body.split_first_chunk::<INSERT_HEADER_BYTES>() else {
        return Err(OperationError::Short {
            length: body.len() + ENTRY_HEADER_BYTES,
        });
    };
    let most = INSERT_HASHES_MAX * KeyHash::BYTES;
    if hashes.is_empty() || hashes.len() > most || !hashes.len().is_multiple_of(KeyHash::BYTES) {
        return Err(OperationError::Hashes {
            bytes: hashes.len(),
        });
    }
    let field = |from: usize| -> [u8; 16] {
        header[from..from + 16]
            .try_into()
            .expect("the range has sixteen bytes")
    };
    let index = u32::from_le_bytes(header[16..20].try_into().expect("four bytes"));
    let inserted = u64::from_le_bytes(header[36..44].try_into().expect("eight bytes"));
    Ok(Insert {
        filter: FilterId::new(field(0)),
        layer: LayerId {
            index,
            creator: Origin::new(field(20)),
        },
        inserted,
        hashes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{LegacyShape, Storage};
    use crate::filter::parameters::{Growth, Parameters};
    use crate::hash::Seed;
    use proptest::prelude::*;

    fn row(name: Vec<u8>, capacity: u64) -> FilterRow {
        let parameters = Parameters {
            capacity,
            error: 1e-4,
            growth: Growth::By(4),
        };
        FilterRow {
            id: FilterId::new([3; 16]),
            name,
            parameters,
            seed: Seed::new([9; 16]),
            storage: Storage::Durable,
            hidden: false,
            layers: vec![parameters.layer(0, Origin::new([1; 16]), 1).unwrap()],
            legacy: vec![LegacyShape {
                index: 0,
                bytes: 600,
                checksum: 7,
                capacity: 9,
                inserted: 5,
                error: 1e-5,
            }],
        }
    }

    proptest! {
        #[test]
        fn catalogue_changes_survive_their_bytes(
            name in prop::collection::vec(any::<u8>(), 1..200),
            capacity in 1..1_000_000u64,
            sequence in any::<u64>(),
        ) {
            let row = row(name, capacity);
            let (id, layer) = (row.id, row.layers[0]);
            for change in [
                CatalogueChange::Create(row.clone()),
                CatalogueChange::Import(row),
                CatalogueChange::Drop(id),
                CatalogueChange::Hide(id),
                CatalogueChange::Show(id),
                CatalogueChange::OpenLayer(id, layer),
                CatalogueChange::AdoptLayer(id, layer),
            ] {
                let mut bytes = sequence.to_le_bytes().to_vec();
                encode_change(&mut bytes, &change);
                let decoded = decode(&bytes).unwrap();
                prop_assert_eq!(decoded, (sequence, Operation::Catalogue(change)));
            }
        }

        #[test]
        fn inserts_survive_their_bytes(
            hashes in prop::collection::vec(any::<(u64, u64)>(), 1..100),
            index in any::<u32>(), inserted in any::<u64>(), sequence in any::<u64>(),
        ) {
            let hashes: Vec<_> =
                hashes.into_iter().map(|(low, high)| KeyHash { low, high }).collect();
            let layer = LayerId { index, creator: Origin::new([7; 16]) };
            let run = Run { layer, count: hashes.len(), inserted };
            let mut bytes = sequence.to_le_bytes().to_vec();
            encode_insert(&mut bytes, FilterId::new([2; 16]), run, &hashes);
            let (read, Operation::Insert(insert)) = decode(&bytes).unwrap() else {
                panic!("an insert decodes as an insert");
            };
            prop_assert_eq!((read, insert.layer, insert.inserted), (sequence, layer, inserted));
            prop_assert_eq!(insert.hashes().collect::<Vec<_>>(), hashes);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn what_is_cut_short_or_from_the_future_is_named() {
        assert!(matches!(
            decode(&[0; 8]),
            Err(OperationError::Short { length: 8 })
        ));
        assert!(matches!(
            decode(&[0, 0, 0, 0, 0, 0, 0, 0, 99]),
            Err(OperationError::Kind(99))
        ));
        let mut bytes = vec![0; 8];
        let layer = LayerId {
            index: 0,
            creator: Origin::new([7; 16]),
        };
        let run = Run {
            layer,
            count: 1,
            inserted: 1,
        };
        encode_insert(
            &mut bytes,
            FilterId::new([2; 16]),
            run,
            &[KeyHash::default()],
        );
        bytes.pop();
        assert!(matches!(
            decode(&bytes),
            Err(OperationError::Hashes { bytes: 15 })
        ));
    }
}
