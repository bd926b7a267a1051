use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn the_first_nul_ends_the_key() {
    for (datagram, key, payload) in [
        (&b"task\0text"[..], &b"task"[..], &b"text"[..]),
        (b"task\0\0a\0", b"task", b"\0a\0"),
        (b"task\0", b"task", b""),
        (b"task", b"task", b""),
        (b"\0text", b"", b"text"),
        (b"", b"", b""),
    ] {
        assert_eq!(Packet::parse(datagram), Ok(Packet { key, payload }));
    }
}

#[test]
fn the_longest_datagram_is_read_and_written_and_no_longer_one() {
    let payload = [7; DATAGRAM_BYTES_MAX - 4];
    let key = b"key";
    let longest = Packet {
        key,
        payload: &payload,
    };
    let datagram = longest.encode().expect("it fits");
    assert_eq!(datagram.len(), DATAGRAM_BYTES_MAX);
    assert_eq!(Packet::parse(&datagram), Ok(longest));
    assert_eq!(Packet::parse(&[1; DATAGRAM_BYTES_MAX + 1]), Err(TooLong));
    let longer = Packet {
        key: b"keys",
        payload: &payload,
    };
    assert_eq!(longer.encode(), Err(EncodeError::TooLong { bytes: 1233 }));
    let ended = Packet {
        key: b"a\0b",
        payload: b"",
    };
    assert_eq!(ended.encode(), Err(EncodeError::Nul));
}

#[test]
fn keys_that_lead_elsewhere_are_refused() {
    for key in [
        &b"a"[..],
        b"./a",
        b"a/b",
        b"a//b",
        b"a b",
        b"\xff",
        b".",
        b"a/",
    ] {
        assert_eq!(check_key(key), Ok(()), "{key:?}");
    }
    for (key, refusal) in [
        (&b""[..], KeyRefusal::Empty),
        (b"/a", KeyRefusal::Absolute),
        (b"/../a", KeyRefusal::Absolute),
        (b"../a", KeyRefusal::Upwards),
        (b"a/../b", KeyRefusal::Upwards),
        (b"a..b", KeyRefusal::Upwards),
        (b"a...", KeyRefusal::Upwards),
        (b"a\0", KeyRefusal::Nul),
    ] {
        assert_eq!(check_key(key), Err(refusal), "{key:?}");
    }
}

#[test]
fn a_sealed_payload_has_forty_bytes_or_more() {
    assert_eq!(Sealed::parse(&[0; SEAL_BYTES - 1]), None);
    let sealed = Sealed::parse(&[0; SEAL_BYTES]).expect("an empty payload, sealed");
    assert_eq!(sealed.cipher_text, b"");
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        key in vec(1..=u8::MAX, 0..64),
        payload in vec(any::<u8>(), 0..=DATAGRAM_BYTES_MAX - 65),
    ) {
        let packet = Packet { key: &key, payload: &payload };
        let datagram = packet.encode().expect("it fits");
        prop_assert_eq!(Packet::parse(&datagram), Ok(packet));
    }

    #[test]
    fn any_datagram_reads_as_what_writes_it_again(datagram in vec(any::<u8>(), 0..1300)) {
        let Ok(packet) = Packet::parse(&datagram) else {
            prop_assert!(datagram.len() > DATAGRAM_BYTES_MAX);
            return Ok(());
        };
        match packet.encode() {
            Ok(again) if datagram.contains(&0) => prop_assert_eq!(&again, &datagram),
            Ok(again) => prop_assert_eq!(again, [&datagram[..], &[0]].concat()),
            Err(error) => {
                prop_assert!(!datagram.contains(&0));
                prop_assert_eq!(error, EncodeError::TooLong { bytes: datagram.len() + 1 });
            }
        }
        if let Some(sealed) = Sealed::parse(packet.payload) {
            prop_assert_eq!(sealed.encode(), packet.payload);
        }
    }
}
