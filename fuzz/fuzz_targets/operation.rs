//! An entry of the log: refused, or the same after being written again.
#![no_main]

use grapevine_core::filter::Run;
use grapevine_core::operation::{Operation, decode, encode_change, encode_insert};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|entry: &[u8]| {
    let Ok((sequence, operation)) = decode(entry) else {
        return;
    };
    let mut again = sequence.to_le_bytes().to_vec();
    match &operation {
        Operation::Insert(insert) => {
            let hashes: Vec<_> = insert.hashes().collect();
            let run = Run {
                layer: insert.layer,
                count: hashes.len(),
                inserted: insert.inserted,
            };
            encode_insert(&mut again, insert.filter, run, &hashes);
            assert_eq!(again, entry, "an insert has one form");
        }
        Operation::Catalogue(change) => encode_change(&mut again, change),
    }
    let (_, second) = decode(&again).expect("what was written is read");
    // Compared as text: a row may hold NaN, which equals nothing.
    assert_eq!(format!("{second:?}"), format!("{operation:?}"));
});
