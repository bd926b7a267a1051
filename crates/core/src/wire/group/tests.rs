use super::*;
use proptest::prelude::*;

fn opening() -> Opening {
    Opening {
        newest: 3,
        oldest: 2,
        incarnation: 0x0807_0605_0403_0201,
        greeting: b"hi".to_vec(),
    }
}

#[test]
fn golden_bytes() {
    let mut out = Vec::new();
    push_frame(&mut out, Kind::Data, b"abc").unwrap();
    push_frame(&mut out, Kind::Heartbeat, b"").unwrap();
    push_frame(&mut out, Kind::Opening, &opening().encode()).unwrap();
    let goodbye = Goodbye::new(Reason::OtherGroup, "lab");
    push_frame(&mut out, Kind::Goodbye, &goodbye.encode()).unwrap();
    let expected: &[&[u8]] = &[
        b"\x03\0\0\0\0abc",
        b"\0\0\0\0\x01",
        b"\x12\0\0\0\x02\x03\0\x02\0\x01\x02\x03\x04\x05\x06\x07\x08\x02\0\0\0hi",
        b"\x05\0\0\0\x03\x04\0lab",
    ];
    assert_eq!(out, expected.concat());
}

#[test]
fn a_proof_covers_every_part_in_its_place() {
    let ids = [[1; 32], [2; 32], [3; 32], [4; 32]];
    let input = |prover, [a, b, c, d]: [[u8; 32]; 4]| proof_input(prover, &a, &b, &c, &d);
    let first = input(Prover::Dialer, ids);
    assert_eq!(&first[..29], b"grapevine group admission 1\0d");
    assert_eq!(first[29..61], [1; 32]);
    assert_eq!(first[125..], [4; 32]);
    assert_ne!(input(Prover::Listener, ids), first);
    for (a, b) in [(0, 1), (2, 3), (0, 2), (1, 3)] {
        let mut exchanged = ids;
        exchanged.swap(a, b);
        assert_ne!(input(Prover::Dialer, exchanged), first);
    }
}

#[test]
fn proofs_survive_their_bytes() {
    let proofs = Proofs(std::array::from_fn(|i| [u8::try_from(i).unwrap(); 32]));
    assert_eq!(Proofs::decode(&proofs.encode()), proofs);
}

#[test]
fn a_length_over_the_limit_is_refused_by_the_header_alone() {
    for kind in [
        Kind::Data,
        Kind::Heartbeat,
        Kind::Opening,
        Kind::Goodbye,
        Kind::Newer(9),
    ] {
        let limit = kind.bytes_max();
        let mut frame = Vec::new();
        push_frame(&mut frame, kind, &vec![7; limit]).unwrap();
        assert!(matches!(decode(&frame), Ok(Decoded::Whole(_, n)) if n == frame.len()));
        assert!(push_frame(&mut Vec::new(), kind, &vec![7; limit + 1]).is_err());
        for claimed in [u32::try_from(limit).unwrap() + 1, u32::MAX] {
            frame[..4].copy_from_slice(&claimed.to_le_bytes());
            assert_eq!(
                decode(&frame[..HEADER_BYTES]),
                Err(FrameError::TooLarge {
                    kind,
                    claimed,
                    limit
                })
            );
        }
    }
    let newer = Frame {
        kind: Kind::Newer(4),
        content: b"?",
    };
    assert_eq!(decode(b"\x01\0\0\0\x04?!"), Ok(Decoded::Whole(newer, 6)));
}

#[test]
fn an_opening_may_grow_at_its_end_but_not_shrink() {
    let whole = opening().encode();
    let grown = [whole.as_slice(), b"later"].concat();
    assert_eq!(Opening::decode(&grown), Ok(opening()));
    for length in 0..whole.len() {
        let short = Opening::decode(&whole[..length]);
        assert_eq!(short, Err(OpeningError::Truncated(length)));
    }
}

#[test]
fn an_opening_is_bounded_and_makes_sense() {
    let mut long = opening().encode();
    long[12..16].copy_from_slice(&0x4001u32.to_le_bytes());
    let claimed = 0x4001;
    assert_eq!(
        Opening::decode(&long),
        Err(OpeningError::GreetingTooLong { claimed })
    );
    let (oldest, newest) = (4, 3);
    let turned = Opening {
        oldest,
        ..opening()
    };
    assert_eq!(
        Opening::decode(&turned.encode()),
        Err(OpeningError::Versions { oldest, newest })
    );
}

#[test]
fn two_sides_use_the_newest_version_of_both() {
    let speaks = |oldest, newest| Opening {
        newest,
        oldest,
        ..opening()
    };
    for (a, b, version) in [
        ((1, 1), (1, 1), Some(1)),
        ((1, 3), (2, 5), Some(3)),
        ((1, 5), (2, 3), Some(3)),
        ((1, 2), (3, 4), None),
    ] {
        let (a, b) = (speaks(a.0, a.1), speaks(b.0, b.1));
        assert_eq!(a.version_with(&b), version);
        assert_eq!(b.version_with(&a), version);
    }
}

#[test]
fn a_goodbye_is_fit_for_a_log() {
    let decoded = Goodbye::decode(b"\x01\0a\nb\x1b[31m\xff").unwrap();
    assert_eq!(decoded.reason, Reason::Stopping);
    assert!(!decoded.text.chars().any(char::is_control));
    assert_eq!(Goodbye::decode(b"\x01"), None);
    assert_eq!(
        Goodbye::new(Reason::Full, &"é".repeat(200)).text,
        "é".repeat(128)
    );
}

proptest! {
    #[test]
    fn frames_are_read_alike_however_they_are_cut(
        contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
        chunk in 1usize..64,
    ) {
        let mut stream = Vec::new();
        for content in &contents {
            push_frame(&mut stream, Kind::Data, content).unwrap();
        }
        let (mut buffer, mut read) = (Vec::new(), Vec::new());
        for piece in stream.chunks(chunk) {
            buffer.extend_from_slice(piece);
            loop {
                match decode(&buffer).unwrap() {
                    Decoded::Whole(frame, end) => {
                        read.push(frame.content.to_vec());
                        buffer.drain(..end);
                    }
                    Decoded::Partial(needed) => {
                        prop_assert!(needed > buffer.len());
                        break;
                    }
                }
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(read, contents);
    }

    #[test]
    fn openings_and_goodbyes_survive_their_bytes(
        oldest in 0u16..5, more in 0u16..5, incarnation: u64,
        greeting in prop::collection::vec(any::<u8>(), 0..100), code: u16, text in "[a-z ]{0,80}",
    ) {
        let opening = Opening { newest: oldest + more, oldest, incarnation, greeting };
        prop_assert_eq!(Opening::decode(&opening.encode()), Ok(opening));
        let goodbye = Goodbye { reason: Reason::from_code(code), text };
        prop_assert_eq!(Goodbye::decode(&goodbye.encode()), Some(goodbye));
    }

    #[test]
    fn no_bytes_make_a_reader_fail(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Opening::decode(&bytes);
        let _ = Goodbye::decode(&bytes);
        if let Ok(Decoded::Whole(frame, end)) = decode(&bytes) {
            prop_assert_eq!(end, HEADER_BYTES + frame.content.len());
        }
    }
}

fn group() -> Group {
    Group {
        id: [1; 16],
        seed: [2; 16],
        met: true,
    }
}

fn greeting() -> Greeting {
    Greeting {
        life: [4; 16],
        group_name: "lab".to_owned(),
        group: group(),
        origin: [3; 16],
        node: "a".to_owned(),
        software: "0.1.0".to_owned(),
        addresses: vec!["[::1]:8676".to_owned()],
    }
}

#[test]
fn a_standing_has_these_bytes() {
    let standing = Standing {
        group: group(),
        same: false,
    };
    let expected: &[&[u8]] = &[
        b"\x02\x82\xa5group\x83\xa2id\xc4\x10",
        &[1; 16],
        b"\xa4seed\xc4\x10",
        &[2; 16],
        b"\xa3met\xc3\xa4same\xc2",
    ];
    assert_eq!(Data::Standing(standing).encode(), expected.concat());
}

#[test]
fn a_greeting_has_these_bytes_and_later_fields_are_passed_over() {
    let expected: &[&[u8]] = &[
        b"\x87\xaagroup_name\xa3lab\xa5group\x83\xa2id\xc4\x10",
        &[1; 16],
        b"\xa4seed\xc4\x10",
        &[2; 16],
        b"\xa3met\xc3\xa6origin\xc4\x10",
        &[3; 16],
        b"\xa4life\xc4\x10",
        &[4; 16],
        b"\xa4node\xa1a\xa8software\xa50.1.0\xa9addresses\x91\xaa[::1]:8676",
    ];
    let mut bytes = greeting().encode();
    assert_eq!(bytes, expected.concat());
    assert_eq!(Greeting::decode(&bytes).unwrap(), greeting());
    bytes[0] += 1;
    bytes.extend_from_slice(b"\xa4zone\xa5north");
    assert_eq!(Greeting::decode(&bytes).unwrap(), greeting());
}

#[test]
fn what_is_no_greeting_is_refused() {
    assert!(matches!(
        Greeting::decode(b"\x91\x01"),
        Err(GreetingError::Map(_))
    ));
    let mut long = greeting();
    long.node = "x".repeat(GREETING_TEXT_BYTES_MAX + 1);
    let refused = Greeting::decode(&long.encode());
    assert!(matches!(
        refused,
        Err(GreetingError::TooLong {
            length: 256,
            limit: 255
        })
    ));
    let mut long = greeting();
    long.addresses = vec!["x".repeat(GREETING_ADDRESS_BYTES_MAX + 1)];
    let refused = Greeting::decode(&long.encode());
    assert!(matches!(refused, Err(GreetingError::TooLong { .. })));
    let mut many = greeting();
    many.addresses = vec![String::new(); GREETING_ADDRESSES_MAX + 1];
    let refused = Greeting::decode(&many.encode());
    assert!(matches!(refused, Err(GreetingError::Addresses(257))));
}

#[test]
fn the_seed_of_a_group_is_not_shown() {
    let shown = format!("{:?}", greeting());
    assert!(shown.contains("lab") && !shown.contains("seed"), "{shown}");
}

#[test]
fn what_is_no_data_is_refused() {
    assert!(matches!(Data::decode(b""), Err(DataError::Empty)));
    assert!(matches!(Data::decode(b"\x04"), Err(DataError::Kind(4))));
    let standing = Data::decode(b"\x02\x93");
    assert!(matches!(standing, Err(DataError::Standing(_))));
    for (kind, limit) in [(1, LIVENESS_BYTES_MAX), (2, STANDING_BYTES_MAX)] {
        let mut bytes = vec![0; limit + 2];
        bytes[0] = kind;
        assert!(matches!(
            Data::decode(&bytes),
            Err(DataError::TooLong { length, .. }) if length == limit + 1
        ));
    }
}

proptest! {
    #[test]
    fn data_comes_back(kind in 0..4_u8, bytes in prop::collection::vec(any::<u8>(), 0..200), same: bool) {
        let standing = Standing { group: group(), same };
        let data = match kind {
            0 => Data::Sync(&bytes),
            1 => Data::Liveness(&bytes),
            3 => Data::Memory(&bytes),
            _ => Data::Standing(standing),
        };
        let bytes = data.encode();
        prop_assert_eq!(Data::decode(&bytes).unwrap(), data);
    }

    #[test]
    fn any_bytes_are_harmless_to_the_maps(
        at: prop::sample::Index, to: u8, cut: prop::sample::Index,
    ) {
        let mut bytes = greeting().encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(read) = Greeting::decode(&bytes) {
            prop_assert_eq!(Greeting::decode(&read.encode()).unwrap(), read);
        }
        bytes.insert(0, 2);
        if let Ok(data) = Data::decode(&bytes) {
            let again = data.encode();
            prop_assert_eq!(Data::decode(&again).unwrap(), data);
        }
    }
}
