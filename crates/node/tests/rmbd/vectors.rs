//! Data taken from the original, over the wire.

use grapevine_core::wire::rmbd::{PEER_DATAGRAM_BYTES, SYNC_DATAGRAM_BYTES};

use crate::gateway::{Client, Served};
use crate::harness::wait_for;
use crate::reader::{bytes, list, numbers, vectors};

/// A key that no vector has: what is answered after a question for it is answered late.
const MARK: &[u8] = b"the mark behind each packet";

#[test]
fn each_packet_has_the_effect_it_has_on_the_original() {
    for vector in vectors(
        include_str!("../../../core/tests/vectors/rmbd_packets.json"),
        "vectors",
    ) {
        let note = &vector["note"];
        let served = Served::start();
        let (before, client) = (Client::of(served.address), Client::of(served.address));
        for packet in list(&vector["pre_hex"]) {
            before.send(&bytes(packet));
        }
        let mut packet = bytes(&vector["packet_hex"]);
        let listener = vector["sync_arrives_at"]["addr"].as_str().map(|address| {
            // Any free port instead of the one of that time.
            let (host, _) = address.split_once(':').expect("a port");
            let listener = Client::on(&format!("{host}:0"), served.address);
            let port = u32::from(listener.address().port());
            packet[PEER_DATAGRAM_BYTES - 4..].copy_from_slice(&port.to_be_bytes());
            listener
        });
        client.send(&packet);
        if vector["reply_hex"].is_string() {
            assert_eq!(client.receive(), bytes(&vector["reply_hex"]), "{note}");
        }
        assert!(!client.has(MARK), "{note}: and nothing else was answered");
        assert_eq!(
            served.bits(),
            numbers::<u16>(&vector["filter_bits_after"]),
            "{note}"
        );
        if let Some(listener) = listener {
            assert_eq!(listener.receive().len(), SYNC_DATAGRAM_BYTES, "{note}");
        }
        served.stop();
    }
}

#[test]
fn filters_travel_as_the_original_sends_them() {
    for vector in vectors(
        include_str!("../../../core/tests/vectors/rmbd_filters.json"),
        "filters",
    ) {
        let served = Served::start();
        let client = Client::of(served.address);
        for chunk in list(&vector["keys_hex"]).chunks(100) {
            for key in chunk {
                client.add(&bytes(key));
            }
            // The socket's buffer is finite: what was sent is taken in before more is.
            client.has(MARK);
        }
        assert_eq!(served.bits(), numbers::<u16>(&vector["set_bits"]));
        for query in list(&vector["queries"]) {
            let present = client.has(&bytes(&query["key_hex"]));
            assert_eq!(Some(present), query["has"].as_bool());
        }
        let peer = Client::of(served.address);
        client.peer(peer.address());
        for packet in list(&vector["sync_packets_hex"]) {
            assert_eq!(peer.receive(), bytes(packet));
        }
        served.stop();
    }
}

#[test]
fn one_way_peering_merges_as_between_originals() {
    for vector in vectors(
        include_str!("../../../core/tests/vectors/rmbd_merge.json"),
        "vectors",
    ) {
        let [a, b] = ["a_keys_hex", "b_keys_hex"].map(|keys| {
            let served = Served::start();
            let client = Client::of(served.address);
            list(&vector[keys])
                .iter()
                .for_each(|key| client.add(&bytes(key)));
            client.has(MARK);
            served
        });
        Client::of(a.address).peer(b.address);
        let expected = numbers::<u16>(&vector["b_bits"]);
        wait_for("the bits to arrive", || {
            (b.bits() == expected).then_some(())
        });
        assert_eq!(a.bits(), numbers::<u16>(&vector["a_bits"]));
        a.stop();
        b.stop();
    }
}
