//! The bytes themselves: golden vectors, round trips, arbitrary input.

use proptest::collection::vec;
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::super::frame::{self, Entries, FRAME_HEADER_LEN, FrameFault, MAX_PAYLOAD};
use super::super::segment::{self, HeaderFault, SegmentHeader};
use super::*;

/// A whole header of the version after this one.
pub(super) fn future_header() -> [u8; 64] {
    let mut header = SegmentHeader {
        start: 0,
        id: ID,
        salt: 0,
    }
    .encode();
    header[8] = 2;
    let checksum = xxh3_64(&header[..56]);
    header[56..].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn sealed(entries: &[Vec<u8>], position: Position, synced: Position, salt: u64) -> Vec<u8> {
    let mut bytes = vec![0; FRAME_HEADER_LEN];
    for entry in entries {
        bytes.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        bytes.extend_from_slice(entry);
    }
    frame::seal(&mut bytes, position, synced, salt);
    bytes
}

/// If this fails, logs written before can no longer be read: raise the format version instead.
#[test]
fn format_one_is_these_bytes() {
    let frame = sealed(&[b"hello".to_vec()], 0x0102, 0x0100, 7);
    assert_eq!(
        frame[..24],
        *b"GvF1\x09\0\0\0\x02\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0"
    );
    assert_eq!(frame[32..], *b"\x05\0\0\0hello");
    let header = SegmentHeader {
        start: 0x0102,
        id: ID,
        salt: 7,
    }
    .encode();
    assert_eq!(
        header[..24],
        *b"GrpvnLog\x01\0\0\0\x40\0\0\0\x02\x01\0\0\0\0\0\0"
    );
    assert_eq!(header[24..40], ID);
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    assert_eq!(
        (word(&frame[24..32]), word(&header[56..])),
        GOLDEN_CHECKSUMS
    );
}

/// Computed with the reference implementation of xxHash, not with this program.
const GOLDEN_CHECKSUMS: (u64, u64) = (2_665_784_420_242_266_108, 6_499_981_728_017_444_567);

#[test]
fn names_sort_and_parse() {
    let path = segment::path("log", 255);
    assert_eq!(path, "log/00000000000000000255.log");
    assert_eq!(segment::parse_name("00000000000000000255.log"), Some(255));
    for foreign in [
        "255.log",
        "99999999999999999999.log",
        "cut-00000000000000000001",
        ".log",
    ] {
        assert_eq!(segment::parse_name(foreign), None, "{foreign}");
    }
    assert_eq!(SegmentHeader::decode(&[0; 64], 0), Err(HeaderFault::Magic));
    let header = SegmentHeader {
        start: 3,
        id: ID,
        salt: 0,
    }
    .encode();
    assert_eq!(
        SegmentHeader::decode(&header, 4),
        Err(HeaderFault::Start { found: 3, named: 4 })
    );
    assert_eq!(
        SegmentHeader::decode(&header[..63], 3),
        Err(HeaderFault::Short)
    );
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_read() {
    let mut frame = sealed(&[], 0, 0, 0);
    frame[4..8].copy_from_slice(&(MAX_PAYLOAD as u32 + 1).to_le_bytes());
    let refused = frame::decode(&frame, 0, 0);
    assert_eq!(
        refused,
        Err(FrameFault::Length {
            length: MAX_PAYLOAD as u32 + 1
        })
    );
}

proptest! {
    #[test]
    fn frames_round_trip(
        entries in vec(vec(any::<u8>(), 0..50), 0..20),
        position: u64,
        back in 0u64..1000,
        salt: u64,
        rest in vec(any::<u8>(), 0..9),
    ) {
        let synced = position.saturating_sub(back);
        let mut bytes = sealed(&entries, position, synced, salt);
        bytes.extend_from_slice(&rest);
        let (header, payload) = frame::decode(&bytes, position, salt).expect("decodes");
        prop_assert_eq!((header.position, header.synced), (position, synced));
        let read: Vec<_> = Entries::new(payload).map(|e| e.expect("entry").1.to_vec()).collect();
        prop_assert_eq!(read, entries);
        prop_assert!(frame::decode(&bytes, position, salt ^ 1).is_err());
        prop_assert!(frame::decode(&bytes, position ^ 1, salt).is_err());
    }

    #[test]
    fn any_bytes_decode_or_are_refused(mut bytes in vec(any::<u8>(), 0..200), start: bool, n: u32) {
        if start && bytes.len() >= 16 {
            bytes[..4].copy_from_slice(&frame::FRAME_MAGIC);
            bytes[4..8].copy_from_slice(&n.to_le_bytes());
            bytes[8..16].fill(0);
        }
        prop_assert!(frame::decode(&bytes, 0, 0).is_err());
        let total: usize = Entries::new(&bytes).flatten().map(|(_, entry)| entry.len() + 4).sum();
        prop_assert!(total <= bytes.len());
        prop_assert!(SegmentHeader::decode(&bytes, 0).is_err());
    }

    /// Whatever lies after the header, opening and checking end without a panic, and what an open
    /// log holds reads back.
    #[test]
    fn any_file_opens_or_is_refused(bytes in vec(any::<u8>(), 0..600), whole_header: bool) {
        let disk = SimulatedDisk::new();
        drop(open(&disk));
        let header = SegmentHeader { start: 0, id: ID, salt: 7 }.encode();
        let head: &[u8] = if whole_header { &header } else { &[] };
        let file = [head, &bytes].concat();
        crate::disk::replace_file(&disk, "log/00000000000000000000.log", &file).expect("replace");
        let findings = verify(&disk, "log").expect("verify");
        prop_assert_eq!(findings.is_empty(), whole_header && bytes.is_empty());
        if let Ok((log, _)) = open_with(&disk, small()) {
            prop_assert!(entries(&log).is_empty());
        }
    }
}
