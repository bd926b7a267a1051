//! HBBP's codec against data taken from the original.

#[path = "vectors/reader.rs"]
mod reader;

use grapevine_core::wire::hbbp::{DATAGRAM_BYTES_MAX, KeyRefusal, Packet, TooLong, check_key};
use reader::{bytes, vectors};

const VECTORS: &str = include_str!("vectors/hbbp.json");

#[test]
fn each_plain_datagram_says_what_it_said_to_the_original() {
    for vector in vectors(VECTORS, "plain") {
        let name = &vector["name"];
        let whole = bytes(&vector["datagram"]);
        // The original cuts what is too long, and so does whoever stands in for it.
        let cut = &whole[..whole.len().min(DATAGRAM_BYTES_MAX)];
        if cut.len() < whole.len() {
            assert_eq!(Packet::parse(&whole), Err(TooLong), "{name}");
        }
        let packet = Packet::parse(cut).expect("it is short enough");
        assert_eq!(packet.key, bytes(&vector["key"]), "{name}");
        if vector["has_nul"] == true {
            assert_eq!(packet.encode().as_deref(), Ok(cut), "{name}");
        }
        match vector["outcome"].as_str().expect("an outcome") {
            "run" => {
                assert_eq!(check_key(packet.key), Ok(()), "{name}");
                assert_eq!(packet.key, bytes(&vector["argv0"]), "{name}");
                assert_eq!(packet.payload, bytes(&vector["stdin"]), "{name}");
            }
            "rejected" => {
                let refusal = check_key(packet.key);
                let traversal = [KeyRefusal::Absolute, KeyRefusal::Upwards];
                assert!(traversal.contains(&refusal.expect_err("refused")), "{name}");
            }
            // There is no such program, which is not a matter of the rules.
            "exec-failed" => {
                let allowed = [Ok(()), Err(KeyRefusal::Empty)];
                assert!(allowed.contains(&check_key(packet.key)), "{name}");
            }
            other => panic!("{name}: {other}"),
        }
    }
}
