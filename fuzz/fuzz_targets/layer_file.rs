//! A layer's file: head, blocks, end.
#![no_main]

use grapevine_fuzz::checksums;
use grapevine_store::layer_file::{BLOCK_WORDS, LayerReader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let file = checksums::file(input, |bytes| _ = checksums::repair_layer(bytes));
    let Ok(reader) = LayerReader::new(&file[..]) else {
        return;
    };
    let words = reader.head().shape.geometry.bytes() / 8;
    let mut next = 0;
    let _ = reader.blocks(|from, block| {
        assert!(
            from >= next && block.len() <= BLOCK_WORDS,
            "blocks are in order"
        );
        next = from + block.len();
        assert!(next as u64 <= words, "no block leads out of the layer");
    });
});
