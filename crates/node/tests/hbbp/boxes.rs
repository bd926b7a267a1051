//! Sealed packets.

use std::time::Instant;

use grapevine::gateway::hbbp::{Content, KeyPair, Opener, Refusal, public_key, seal};
use grapevine_core::wire::hbbp::{DATAGRAM_BYTES_MAX, NONCE_ORIGINAL, Packet, SEAL_BYTES, Sealed};
use proptest::prelude::*;
use serde_json::Value;

use crate::VECTORS;
use crate::directory::Keys;
use crate::reader::{bytes, vectors};

fn key(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("a key")
}

/// The key files that a vector's listener had.
fn listener(vector: &Value) -> Keys {
    if !vector["keydir"].is_null() {
        return Keys::of(&vector["keydir"]);
    }
    let keys = Keys::empty();
    keys.put("default", "recv.priv", &bytes(&vector["recv_priv"]));
    keys.put("default", "send.pub", &bytes(&vector["send_pub"]));
    keys
}

fn open(opener: &Opener, datagram: &[u8]) -> Result<Content, Refusal> {
    opener.open(&Packet::parse(datagram)?, Instant::now())
}

#[test]
fn what_others_sealed_is_opened_also_twice() {
    for vector in vectors(VECTORS, "encrypted") {
        let source = &vector["source"];
        let keys = listener(&vector);
        let opener = Opener::new(keys.directory());
        let content = Content {
            payload: bytes(&vector["plaintext"]),
            sealed: true,
        };
        for _ in 0..2 {
            let opened = open(&opener, &bytes(&vector["datagram"])).expect("it opens");
            assert_eq!(opened, content, "{source}");
        }
    }
}

#[test]
fn sealing_gives_the_bytes_that_others_made() {
    for vector in vectors(VECTORS, "encrypted") {
        let keys = KeyPair::new(key(&vector["send_priv"]), key(&vector["recv_pub"]));
        let nonce = bytes(&vector["nonce"]).try_into().expect("a nonce");
        let payload = keys.seal(&nonce, &bytes(&vector["plaintext"]));
        let sealed = Packet {
            key: vector["key"].as_str().expect("text").as_bytes(),
            payload: &payload,
        };
        let datagram = sealed.encode().expect("it fits");
        assert_eq!(datagram, bytes(&vector["datagram"]), "{}", vector["source"]);
        assert_eq!(
            public_key(key(&vector["send_priv"])),
            key(&vector["send_pub"])
        );
    }
}

#[test]
fn what_the_original_refuses_is_refused() {
    for vector in vectors(VECTORS, "encrypted_rejected") {
        let keys = Keys::of(&vector["keydir"]);
        let opener = Opener::new(keys.directory());
        let refused = open(&opener, &bytes(&vector["datagram"]));
        assert!(refused.is_err(), "{}: {refused:?}", vector["name"]);
    }
}

/// The keys of both sides in one directory.
fn both_sides() -> Keys {
    let keys = Keys::empty();
    let (send, receive) = ([3; 32], [5; 32]);
    keys.put("default", "send.priv", &send);
    keys.put("default", "send.pub", &public_key(send));
    keys.put("default", "recv.priv", &receive);
    keys.put("default", "recv.pub", &public_key(receive));
    keys
}

#[test]
fn what_we_sealed_is_opened_once() {
    let keys = both_sides();
    let opener = Opener::new(keys.directory());
    let sealed = |payload: &[u8]| seal(&keys.directory(), b"task", payload).expect("sealed");
    let first = sealed(b"text");
    assert_ne!(first, sealed(b"text"), "a nonce is not used again");
    assert_eq!(open(&opener, &first).expect("opened").payload, b"text");
    assert!(matches!(open(&opener, &first), Err(Refusal::Replayed)));
    // The key is not under the seal: what was said to one task cannot be said to another.
    let elsewhere = [&b"other"[..], &first[4..]].concat();
    assert!(matches!(open(&opener, &elsewhere), Err(Refusal::Replayed)));
    assert!(open(&opener, &sealed(b"text")).is_ok());
    // A packet that does not open takes no place among those that did.
    let mut broken = sealed(b"more");
    let whole = broken.clone();
    *broken.last_mut().expect("a byte") ^= 1;
    assert!(matches!(open(&opener, &broken), Err(Refusal::Seal)));
    assert!(open(&opener, &whole).is_ok());
}

#[test]
fn what_the_original_sealed_is_opened_as_often_as_it_comes() {
    let keys = both_sides();
    let opener = Opener::new(keys.directory());
    let pair = KeyPair::new([3; 32], public_key([5; 32]));
    let payload = pair.seal(&NONCE_ORIGINAL, b"text");
    let packet = Packet {
        key: b"task",
        payload: &payload,
    };
    for _ in 0..3 {
        assert!(opener.open(&packet, Instant::now()).is_ok());
    }
}

#[test]
fn a_sealed_packet_is_as_long_as_the_longest_and_no_longer() {
    let keys = both_sides();
    let longest = vec![7; DATAGRAM_BYTES_MAX - SEAL_BYTES - 5];
    let datagram = seal(&keys.directory(), b"task", &longest).expect("it fits");
    assert_eq!(datagram.len(), DATAGRAM_BYTES_MAX);
    let opener = Opener::new(keys.directory());
    assert_eq!(open(&opener, &datagram).expect("opened").payload, longest);
    let longer = vec![7; longest.len() + 1];
    assert!(seal(&keys.directory(), b"task", &longer).is_err());
}

proptest! {
    #[test]
    fn any_payload_comes_back_and_no_changed_box_opens(
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        nonce: [u8; 24],
        private: [u8; 32],
        at: prop::sample::Index,
        bit in 0..8u8,
    ) {
        let sender = KeyPair::new(private, public_key([5; 32]));
        let listener = KeyPair::new([5; 32], public_key(private));
        let mut sealed = sender.seal(&nonce, &payload);
        let opened = listener.open(&Sealed::parse(&sealed).expect("long enough"));
        prop_assert_eq!(opened, Some(payload));
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert_eq!(listener.open(&Sealed::parse(&sealed).expect("long enough")), None);
    }
}
