//! gzip (RFC 1952) as the payload of packets: small texts packed and unpacked in memory, with a
//! bound on both sides of the unpacking.

use std::io::{self, Read, Write};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};

/// The first bytes of every member.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// "Unix", which is what the programs of others write.
const OPERATING_SYSTEM: u8 = 3;
/// As small as can be had without a mark in the header that the others do not write.
const LEVEL: Compression = Compression::new(8);
/// How much is unpacked at a time.
const CHUNK_BYTES: usize = 8 << 10;

/// Why a packed text is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Whole members, checksums and lengths included, are needed.
    #[error("this is no whole gzip text: {0}")]
    Damaged(io::Error),
    /// More than the caller takes.
    #[error("it unpacks to more than {limit} bytes")]
    TooLong {
        /// What the caller takes.
        limit: usize,
    },
}

/// The text as one member, without a time and a name: equal texts are packed to equal bytes.
///
/// # Errors
/// None that memory can give; the encoder's interface has them.
pub fn pack(text: &[u8]) -> io::Result<Vec<u8>> {
    let header = GzBuilder::new().mtime(0).operating_system(OPERATING_SYSTEM);
    let mut encoder = header.write(Vec::new(), LEVEL);
    encoder.write_all(text)?;
    encoder.finish()
}

/// The text of all members one after the other, at most `limit` bytes. What follows the last
/// member and does not begin like one is ignored, as busybox does.
///
/// Memory grows with what comes out, never with what the input says of itself.
///
/// # Errors
/// There is no member, one is damaged or cut short, or they hold too much.
pub fn unpack(packed: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let mut text = Vec::new();
    let mut rest = packed;
    loop {
        let mut member = GzDecoder::new(rest);
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let count = member.read(&mut chunk).map_err(UnpackError::Damaged)?;
            if count == 0 {
                break;
            }
            if text.len() + count > limit {
                return Err(UnpackError::TooLong { limit });
            }
            text.extend_from_slice(&chunk[..count]);
        }
        rest = member.into_inner();
        if !rest.starts_with(&MAGIC) {
            return Ok(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn the_header_is_that_of_other_programs() {
        let packed = pack(b"k\t5\tv\n").expect("in memory");
        assert_eq!(packed[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    }

    #[test]
    fn nothing_is_one_empty_member() {
        let packed = pack(b"").expect("in memory");
        assert_eq!(unpack(&packed, 0).expect("whole"), b"");
        assert!(matches!(unpack(b"", LIMIT), Err(UnpackError::Damaged(_))));
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let zeros = vec![0; LIMIT];
        let packed = pack(&zeros).expect("in memory");
        assert!(packed.len() < 1232, "{} bytes", packed.len());
        assert_eq!(unpack(&packed, LIMIT).expect("just fits"), zeros);
        let refused = |packed: &[u8], limit| matches!(unpack(packed, limit), Err(UnpackError::TooLong { limit: told }) if told == limit);
        assert!(refused(&packed, LIMIT - 1));
        let many = [packed.as_slice(), &packed].concat();
        assert!(refused(&many, LIMIT));
    }

    #[test]
    fn members_follow_each_other_and_other_bytes_end_them() {
        let [one, two] = [b"a\n", b"b\n"].map(|text| pack(text).expect("in memory"));
        let both = [one.as_slice(), &two].concat();
        assert_eq!(unpack(&both, LIMIT).expect("whole"), b"a\nb\n");
        let junk = [both.as_slice(), b"junk"].concat();
        assert_eq!(unpack(&junk, LIMIT).expect("whole"), b"a\nb\n");
        let cut = &both[..both.len() - 1];
        assert!(matches!(unpack(cut, LIMIT), Err(UnpackError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks_and_no_part_of_it_does(
            text in prop::collection::vec(any::<u8>(), 0..200),
            cut in 0..300usize,
            flipped in 0..3000usize,
        ) {
            let packed = pack(&text).expect("in memory");
            prop_assert_eq!(unpack(&packed, text.len()).expect("whole"), text.clone());
            prop_assert!(unpack(&packed[..cut % packed.len()], LIMIT).is_err());
            // Behind the header, whose time and system say nothing, every bit counts.
            let mut other = packed.clone();
            let bit = 80 + flipped % (8 * (packed.len() - 10));
            other[bit / 8] ^= 1 << (bit % 8);
            if let Ok(unpacked) = unpack(&other, LIMIT) {
                prop_assert_eq!(unpacked, text);
            }
        }

        #[test]
        fn any_bytes_are_taken_or_refused(packed in prop::collection::vec(any::<u8>(), 0..100)) {
            let with_magic = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &packed].concat();
            for packed in [packed, with_magic] {
                if let Ok(text) = unpack(&packed, 50) {
                    prop_assert!(text.len() <= 50);
                }
            }
        }
    }
}
