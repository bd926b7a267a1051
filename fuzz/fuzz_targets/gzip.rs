//! gzip from outside: unpacked to no more than the bound, or refused; what is packed here unpacks.
//! Where the first byte is odd, the rest is deflated data alone, and header and checksums are put
//! around it, so that they do not stop what is mutated.
#![no_main]

use std::io::Read;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;
use gzip::{UnpackError, pack, unpack};
use libfuzzer_sys::fuzz_target;

// The program is not linked: its network would be built with it.
#[path = "../../crates/node/src/gzip.rs"]
mod gzip;

const LIMIT: usize = 64 << 10;
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    if kind % 2 == 1 {
        check_deflated(rest);
        return;
    }
    match unpack(rest, LIMIT) {
        Ok(text) => {
            assert!(text.len() <= LIMIT);
            let again = pack(&text).expect("in memory");
            assert_eq!(unpack(&again, text.len()).expect("whole"), text);
        }
        Err(UnpackError::TooLong { limit }) => assert_eq!(limit, LIMIT),
        Err(UnpackError::Damaged(_)) => {}
    }
});

fn check_deflated(deflated: &[u8]) {
    let mut text = Vec::new();
    let mut decoder = DeflateDecoder::new(deflated);
    let read = decoder
        .by_ref()
        .take(LIMIT as u64 + 1)
        .read_to_end(&mut text);
    let Ok(_) = read else {
        return;
    };
    let taken = deflated.len() - decoder.into_inner().len();
    let mut crc = Crc::new();
    crc.update(&text);
    let mut packed = HEADER.to_vec();
    packed.extend_from_slice(&deflated[..taken]);
    packed.extend_from_slice(&crc.sum().to_le_bytes());
    packed.extend_from_slice(&crc.amount().to_le_bytes());
    match unpack(&packed, LIMIT) {
        Ok(unpacked) => assert_eq!(unpacked, text),
        Err(UnpackError::TooLong { .. }) => assert!(text.len() > LIMIT),
        // Data that just stops is an end to the one decoder and a cut to the other.
        Err(UnpackError::Damaged(_)) => {}
    }
}
