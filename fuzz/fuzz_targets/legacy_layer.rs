//! A layer file of a C bloomd: refused, or held whole and safe to ask. The first bytes are a key,
//! the rest the file.
#![no_main]

use grapevine_core::filter::legacy::{BloomdLayer, LegacyHashes};
use libfuzzer_sys::fuzz_target;

/// Bytes of the key.
const KEY_BYTES: usize = 8;

fuzz_target!(|input: &[u8]| {
    let (key, file) = input.split_at(KEY_BYTES.min(input.len()));
    let Ok(layer) = BloomdLayer::from_bytes(file) else {
        return;
    };
    assert_eq!(layer.as_bytes(), file);
    let rate = layer.false_positive_rate();
    assert!((0.0..=1.0).contains(&rate), "rate {rate}");
    if layer.contains(&LegacyHashes::of(key)) {
        assert!(rate > 0.0, "a layer with an empty partition holds no key");
    }
    assert_eq!(BloomdLayer::from_vec(file.to_vec()).as_ref(), Ok(&layer));
});
