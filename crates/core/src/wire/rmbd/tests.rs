//! The codec against data taken from the original, and properties of it.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use reader::{bytes, numbers, vectors};

#[path = "../../../tests/vectors/reader.rs"]
mod reader;

fn row_of(columns: &Value) -> [bool; ROW_BITS] {
    let set: Vec<usize> = numbers(columns);
    std::array::from_fn(|column| set.contains(&column))
}

#[test]
fn keys_hash_as_in_the_original() {
    let text = include_str!("../../../tests/vectors/rmbd_hash.json");
    for vector in vectors(text, "vectors") {
        let key = bytes(&vector["key_hex"]);
        let hashes: Vec<u32> = (0..5).map(|start| hash::hash(&key, start)).collect();
        assert_eq!(hashes, numbers::<u32>(&vector["h32"]), "{key:02x?}");
        let places: Vec<u32> = positions(&key, 2000).map(u32::from).to_vec();
        assert_eq!(places, numbers::<u32>(&vector["pos"]), "{key:02x?}");
    }
}

#[test]
fn packets_parse_as_in_the_original() {
    let text = include_str!("../../../tests/vectors/rmbd_packets.json");
    let mut kinds = [0; 6];
    for vector in vectors(text, "vectors") {
        let (packet, expected) = (bytes(&vector["packet_hex"]), &vector["parse"]);
        let kind = expected["type"].as_str();
        let note = &vector["note"];
        let index = match parse(&packet) {
            Some(Message::Add { key }) => {
                assert_eq!(
                    (kind, key),
                    (Some("add"), &*bytes(&expected["key_hex"])),
                    "{note}"
                );
                0
            }
            Some(Message::Has { key }) => {
                assert_eq!(
                    (kind, key),
                    (Some("has"), &*bytes(&expected["key_hex"])),
                    "{note}"
                );
                1
            }
            Some(Message::Sync { row, .. }) => {
                let expected = expected["row"].as_u64();
                assert_eq!((kind, Some(row.into())), (Some("sync"), expected), "{note}");
                2
            }
            Some(Message::Peer { host, port }) => {
                assert_eq!(
                    (kind, host),
                    (Some("peer"), &*bytes(&expected["host_hex"])),
                    "{note}"
                );
                assert_eq!(Some(port.into()), expected["port"].as_u64(), "{note}");
                3
            }
            Some(Message::Ack) => {
                assert_eq!(kind, Some("ack"), "{note}");
                4
            }
            None => {
                assert!(expected.is_null(), "{note}");
                5
            }
        };
        kinds[index] += 1;
    }
    assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
}

#[test]
fn the_client_sends_what_the_original_sends() {
    let text = include_str!("../../../tests/vectors/rmbd_client.json");
    for vector in vectors(text, "sends") {
        let args = &vector["args"];
        let port = || u32::try_from(args[1].as_u64().expect("a port")).expect("32 bits");
        let sent = match vector["call"].as_str() {
            Some("add") => encode_add(&bytes(&args[0])).to_vec(),
            Some("has") => encode_has(&bytes(&args[0])).to_vec(),
            Some("sync") => {
                let row = args[0].as_u64().expect("a row");
                encode_sync(row.try_into().expect("16 bits"), &row_of(&args[1])).to_vec()
            }
            Some("peer") => encode_peer(&bytes(&args[0]), port()).to_vec(),
            call => panic!("the client has no {call:?}"),
        };
        assert_eq!(sent, bytes(&vector["packet_hex"]), "{}", vector["call"]);
    }
}

#[test]
fn the_client_understands_what_the_original_understands() {
    let text = include_str!("../../../tests/vectors/rmbd_client.json");
    for vector in vectors(text, "has_replies") {
        let (key, reply) = (bytes(&vector["key_hex"]), bytes(&vector["reply_hex"]));
        assert_eq!(encode_has(&key)[..], bytes(&vector["request_hex"]));
        let answer = HasReply::parse(&reply).map(|reply| reply.answer(&key));
        let expected = match &vector["client_returns"] {
            Value::String(_) => None,
            returned => Some(returned.as_bool()),
        };
        assert_eq!(answer, expected, "{}", vector["note"]);
    }
}

#[test]
fn replies_are_those_of_the_original() {
    let text = include_str!("../../../tests/vectors/rmbd_packets.json");
    let mut compared = 0;
    for vector in vectors(text, "vectors") {
        let (packet, reply) = (bytes(&vector["packet_hex"]), &vector["reply_hex"]);
        if let (Some(Message::Has { key }), true) = (parse(&packet), reply.is_string()) {
            let reply = bytes(reply);
            let read = HasReply::parse(&reply).expect("a reply");
            assert_eq!(read.answer(key), Some(read.present));
            assert_eq!(encode_has_reply(key, read.present)[..], reply);
            compared += 1;
        }
    }
    assert!(compared > 10);
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        key in prop::collection::vec(any::<u8>(), 0..200),
        row: u16,
        port: u32,
        columns in prop::collection::btree_set(0..ROW_BITS, 0..ROW_BITS),
        present: bool,
    ) {
        let cut = &key[..key.len().min(FIELD_BYTES_MAX)];
        let (add, has, peer) = (encode_add(&key), encode_has(&key), encode_peer(&key, port));
        prop_assert_eq!(parse(&add), Some(Message::Add { key: cut }));
        prop_assert_eq!(parse(&has), Some(Message::Has { key: cut }));
        prop_assert_eq!(parse(&peer), Some(Message::Peer { host: cut, port }));
        let bits = std::array::from_fn(|column| columns.contains(&column));
        let raw = bits.map(u8::from);
        let sync = encode_sync(row, &bits);
        prop_assert_eq!(parse(&sync), Some(Message::Sync { row, bits: &raw }));
        let reply = encode_has_reply(&key, present);
        prop_assert_eq!(HasReply::parse(&reply), Some(HasReply { key: cut, present }));
    }

    #[test]
    fn any_datagram_is_one_message_or_none(datagram in prop::collection::vec(any::<u8>(), 0..500)) {
        let length = match parse(&datagram) {
            Some(Message::Add { key } | Message::Has { key }) => {
                prop_assert!(key.len() <= FIELD_BYTES_MAX);
                KEY_DATAGRAM_BYTES
            }
            Some(Message::Sync { .. }) => SYNC_DATAGRAM_BYTES,
            Some(Message::Peer { .. }) => PEER_DATAGRAM_BYTES,
            Some(Message::Ack) | None => datagram.len(),
        };
        prop_assert_eq!(length, datagram.len());
    }

    #[test]
    fn lengths_are_exact(kind in 0..4_u8, off in prop_oneof![-3..0_isize, 1..4_isize]) {
        let right = [141, 141, 403, 145][usize::from(kind)];
        let mut datagram = vec![0; right];
        datagram[0] = kind;
        prop_assert!(parse(&datagram).is_some());
        datagram.resize(right.saturating_add_signed(off), 0);
        prop_assert_eq!(parse(&datagram), None);
    }
}
