//! rmbd's filter as a whole, codec and bitmap together, against data taken from the original.

#[path = "vectors/reader.rs"]
mod reader;

use grapevine_core::bitmap::Bitmap;
use grapevine_core::wire::rmbd::{
    ACK, Message, ROWS_ORIGINAL, encode_has_reply, encode_sync, parse, positions,
};
use reader::{bytes, list, numbers, vectors};

fn empty() -> Bitmap {
    Bitmap::new(ROWS_ORIGINAL).expect("the original's size")
}

fn add(bitmap: &Bitmap, key: &[u8]) {
    for bit in positions(key, bitmap.bits()) {
        bitmap.set(bit).expect("a bit of the filter");
    }
}

fn has(bitmap: &Bitmap, key: &[u8]) -> bool {
    let places = positions(key, bitmap.bits());
    places.into_iter().all(|bit| bitmap.contains(bit))
}

/// What a server does with a datagram, but for peers.
fn serve(bitmap: &Bitmap, datagram: &[u8]) -> Option<Vec<u8>> {
    match parse(datagram)? {
        Message::Add { key } => {
            add(bitmap, key);
            None
        }
        Message::Has { key } => Some(encode_has_reply(key, has(bitmap, key)).to_vec()),
        Message::Sync { row, bits } => {
            let merged = bitmap.merge_row(row, &bits.map(|byte| byte != 0));
            merged.ok().map(|_| ACK.to_vec())
        }
        Message::Peer { .. } | Message::Ack => None,
    }
}

#[test]
fn each_packet_has_the_effect_it_has_on_the_original() {
    for vector in vectors(include_str!("vectors/rmbd_packets.json"), "vectors") {
        let bitmap = empty();
        for before in list(&vector["pre_hex"]) {
            serve(&bitmap, &bytes(before));
        }
        let reply = serve(&bitmap, &bytes(&vector["packet_hex"]));
        let expected = Some(&vector["reply_hex"]).filter(|reply| reply.is_string());
        assert_eq!(reply, expected.map(bytes), "{}", vector["note"]);
        let set: Vec<u16> = bitmap.iter().collect();
        assert_eq!(
            set,
            numbers::<u16>(&vector["filter_bits_after"]),
            "{}",
            vector["note"]
        );
    }
}

#[test]
fn filters_are_those_of_the_original() {
    for vector in vectors(include_str!("vectors/rmbd_filters.json"), "filters") {
        let bitmap = empty();
        for key in list(&vector["keys_hex"]) {
            add(&bitmap, &bytes(key));
        }
        assert_eq!(
            bitmap.iter().collect::<Vec<_>>(),
            numbers::<u16>(&vector["set_bits"])
        );
        let packets = list(&vector["sync_packets_hex"]);
        assert_eq!(packets.len(), usize::from(bitmap.rows()));
        let copy = empty();
        for (row, packet) in (0..).zip(packets) {
            let sent = encode_sync(row, &bitmap.row(row).expect("a row"));
            assert_eq!(sent[..], bytes(packet));
            assert_eq!(serve(&copy, &sent).as_deref(), Some(&ACK[..]));
        }
        assert_eq!(copy, bitmap);
        for query in list(&vector["queries"]) {
            let key = bytes(&query["key_hex"]);
            assert_eq!(
                Some(has(&bitmap, &key)),
                query["has"].as_bool(),
                "{key:02x?}"
            );
        }
    }
}

#[test]
fn one_way_peering_merges_as_between_originals() {
    for vector in vectors(include_str!("vectors/rmbd_merge.json"), "vectors") {
        let [a, b] = ["a_keys_hex", "b_keys_hex"].map(|keys| {
            let bitmap = empty();
            list(&vector[keys])
                .iter()
                .for_each(|key| add(&bitmap, &bytes(key)));
            bitmap
        });
        b.merge(&a).expect("of one size");
        assert_eq!(
            a.iter().collect::<Vec<_>>(),
            numbers::<u16>(&vector["a_bits"])
        );
        assert_eq!(
            b.iter().collect::<Vec<_>>(),
            numbers::<u16>(&vector["b_bits"])
        );
    }
}
