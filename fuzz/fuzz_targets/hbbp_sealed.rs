//! HBBP's sealed payloads. The input is a payload that somebody sends, who has no keys: opening it
//! does no harm and does not succeed. As the input of a sender with keys it comes back whole, and
//! with any one bit changed not at all.
#![no_main]

use grapevine_core::wire::hbbp::{NONCE_ORIGINAL, SEAL_BYTES, Sealed};
use libfuzzer_sys::fuzz_target;

// The very file, without the program around it and all that this brings.
#[path = "../../crates/node/src/gateway/hbbp/seal.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
mod seal;

use seal::{KeyPair, NONCE_RANDOM_BYTES, is_own_nonce, is_weak, own_nonce, public_key};

fuzz_target!(|input: &[u8]| {
    let (sender, listener) = ([3; 32], [5; 32]);
    let sealing = KeyPair::new(sender, public_key(listener));
    let opening = KeyPair::new(listener, public_key(sender));
    match Sealed::parse(input) {
        Some(sealed) => assert_eq!(opening.open(&sealed), None, "nobody has sealed it"),
        None => assert!(input.len() < SEAL_BYTES),
    }
    let random = input.first_chunk::<NONCE_RANDOM_BYTES>();
    let nonce = random.map_or(NONCE_ORIGINAL, |random| own_nonce(*random));
    assert_eq!(is_own_nonce(&nonce), random.is_some());
    let mut payload = sealing.seal(&nonce, input);
    assert_eq!(payload.len(), input.len() + SEAL_BYTES);
    let sealed = Sealed::parse(&payload).expect("long enough");
    assert_eq!(opening.open(&sealed).as_deref(), Some(input));
    let at = input.iter().map(|byte| usize::from(*byte)).sum::<usize>() % payload.len();
    payload[at] ^= 1 << (at % 8);
    let changed = Sealed::parse(&payload).expect("long enough");
    assert_eq!(opening.open(&changed), None, "byte {at} was changed");
    // Any bytes may stand in a key file.
    if let Some(key) = input.first_chunk::<32>() {
        let weak = is_weak(*key);
        let other = KeyPair::new([9; 32], *key).seal(&NONCE_ORIGINAL, b"");
        let same = KeyPair::new([7; 32], *key).seal(&NONCE_ORIGINAL, b"") == other;
        assert_eq!(weak, same, "a weak key makes the same box of all private ones");
    }
});
