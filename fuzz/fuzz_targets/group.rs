//! The group's protocol: an admission and the frames after it, cut into any pieces, are read as
//! when they come at once, and what was read is written again as the same bytes. Greetings and
//! standings may say more than this version knows: what is read of them comes back.
#![no_main]

use grapevine_core::wire::group::{
    Data, Decoded, Frame, Goodbye, Greeting, HEADER_BYTES, Kind, Opening, PROOFS_BYTES, Proofs,
    decode, push_frame,
};
use libfuzzer_sys::fuzz_target;

/// Set in the first byte when the stream begins with the proofs of an admission.
const ADMISSION: u8 = 0x80;

fuzz_target!(|input: &[u8]| {
    let Some((first, mut stream)) = input.split_first() else {
        return;
    };
    if first & ADMISSION != 0
        && let Some((proofs, rest)) = stream.split_first_chunk::<PROOFS_BYTES>()
    {
        assert_eq!(&Proofs::decode(proofs).encode(), proofs);
        stream = rest;
    }
    let whole = read(stream, stream.len().max(1));
    let pieces = read(stream, usize::from(first & !ADMISSION) + 1);
    assert_eq!(whole, pieces, "cutting the stream changes nothing");
});

/// The frames of a stream that arrives in pieces, and whether it ended in an error.
fn read(stream: &[u8], chunk: usize) -> (Vec<u8>, bool) {
    let (mut buffer, mut written) = (Vec::new(), Vec::new());
    for piece in stream.chunks(chunk) {
        buffer.extend_from_slice(piece);
        loop {
            match decode(&buffer) {
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return (written, true);
                }
                Ok(Decoded::Partial(needed)) => {
                    assert!(needed > buffer.len());
                    assert!(needed <= HEADER_BYTES + Kind::Data.bytes_max());
                    break;
                }
                Ok(Decoded::Whole(frame, end)) => {
                    check(frame);
                    let start = written.len();
                    push_frame(&mut written, frame.kind, frame.content).expect("it was read");
                    assert_eq!(written[start..], buffer[..end]);
                    buffer.drain(..end);
                }
            }
        }
    }
    (written, false)
}

fn check(frame: Frame<'_>) {
    match frame.kind {
        Kind::Heartbeat | Kind::Newer(_) => {}
        Kind::Data => match Data::decode(frame.content) {
            Ok(data) => {
                let again = data.encode();
                assert_eq!(Data::decode(&again).expect("it was read"), data);
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        },
        Kind::Opening => {
            if let Ok(opening) = Opening::decode(frame.content) {
                let bytes = opening.encode();
                assert!(frame.content.starts_with(&bytes));
                assert_eq!(opening.version_with(&opening), Some(opening.newest));
                greet(&opening.greeting);
            }
        }
        Kind::Goodbye => {
            if let Some(goodbye) = Goodbye::decode(frame.content) {
                assert!(!goodbye.text.chars().any(char::is_control));
                assert_eq!(Goodbye::decode(&goodbye.encode()), Some(goodbye));
            }
        }
    }
}

fn greet(bytes: &[u8]) {
    match Greeting::decode(bytes) {
        Ok(greeting) => {
            let again = greeting.encode();
            assert_eq!(Greeting::decode(&again).expect("it was read"), greeting);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
