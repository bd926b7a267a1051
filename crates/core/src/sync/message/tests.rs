//! One form for every message, its bytes, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::filter::parameters::LayerId;
use crate::hash::Seed;
use crate::operation::encode_insert;
use crate::sync::limits::{
    BLOCK_HASHES_MAX, BLOCK_LINES, OPERATION_BYTES_MAX, OPERATIONS_PER_MESSAGE_MAX,
};
use crate::sync::replica::Line;

fn origin() -> impl Strategy<Value = Origin> {
    any::<[u8; 16]>().prop_map(Origin::new)
}

fn layer() -> impl Strategy<Value = LayerName> {
    (any::<[u8; 16]>(), any::<u32>(), origin()).prop_map(|(filter, index, creator)| LayerName {
        filter: FilterId::new(filter),
        layer: LayerId { index, creator },
    })
}

fn legacy() -> impl Strategy<Value = LegacyName> {
    (any::<[u8; 16]>(), any::<u32>()).prop_map(|(filter, index)| LegacyName {
        filter: FilterId::new(filter),
        index,
    })
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::btree_map(origin(), (any::<u32>(), any::<u32>(), any::<u64>()), 0..20)
        .prop_map(|entries| {
            entries
                .into_iter()
                .map(|(origin, (durable, ahead, mark))| Entry {
                    origin,
                    durable: u64::from(durable),
                    received: u64::from(durable) + u64::from(ahead),
                    mark,
                })
                .collect()
        })
}

fn content() -> impl Strategy<Value = Content> {
    let range =
        (entries(), any::<bool>(), any::<bool>()).prop_map(|(mut entries, after, through)| {
            let last = entries.last().map(|entry| entry.origin);
            let through = last.filter(|_| through);
            let first = entries.first().map(|entry| entry.origin);
            let after = first.filter(|first| after && through != Some(*first));
            if after.is_some() {
                entries.remove(0);
            }
            Content::Range {
                after,
                through,
                entries,
            }
        });
    prop_oneof![
        any::<u64>().prop_map(Content::Summary),
        entries().prop_map(Content::Moved),
        (any::<u64>(), entries()).prop_map(|(hash, entries)| Content::News(hash, entries)),
        range
    ]
}

fn report() -> impl Strategy<Value = Message> {
    let head = any::<(u64, u64, u64, u64, u32, bool)>();
    (head, content()).prop_map(|((session, heard, stamp, horizon, window, ask), content)| {
        Message::Report(Report {
            session,
            heard,
            stamp,
            horizon,
            window,
            ask,
            content,
        })
    })
}

fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..length)
}

fn lines() -> impl Strategy<Value = BlockLines> {
    let lines = prop::collection::btree_map(0..BLOCK_LINES as u16, any::<[u64; 8]>(), 0..9);
    (any::<u64>(), lines).prop_map(|(hash, lines)| BlockLines {
        hash,
        lines: lines
            .into_iter()
            .map(|(index, words)| Line { index, words })
            .collect(),
    })
}

fn bits() -> impl Strategy<Value = Message> {
    let hashes = prop::collection::vec(any::<u64>(), 0..BLOCK_HASHES_MAX);
    let short = prop::collection::vec(any::<u32>(), 0..BLOCK_LINES);
    prop_oneof![
        (layer(), any::<u32>()).prop_map(|(layer, first)| Message::BlocksRequest { layer, first }),
        (layer(), any::<(u32, u32)>(), hashes).prop_map(|(layer, (first, total), hashes)| {
            Message::Blocks {
                layer,
                first,
                blocks: BlockHashes { total, hashes },
            }
        }),
        (layer(), any::<(u32, u64)>(), short).prop_map(|(layer, (block, salt), hashes)| {
            Message::LinesRequest {
                layer,
                block,
                salt,
                hashes,
            }
        }),
        (layer(), any::<(u32, u64)>(), lines()).prop_map(|(layer, (block, salt), lines)| {
            Message::Lines {
                layer,
                block,
                salt,
                lines,
            }
        }),
        (legacy(), any::<u64>())
            .prop_map(|(legacy, offset)| Message::BlobRequest { legacy, offset }),
        (legacy(), any::<(u64, u64)>(), bytes(300)).prop_map(|(legacy, (offset, total), bytes)| {
            Message::Blob {
                legacy,
                offset,
                blob: Blob { total, bytes },
            }
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let run = (
        origin(),
        1..SEQUENCE_MAX - 20,
        prop_oneof![
            prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20),
            // Alike, as those that follow each other are.
            prop::collection::vec(prop::collection::vec(0..2_u8, 1..12), 1..20),
        ],
    );
    let want = prop::collection::btree_map(origin(), 1..=SEQUENCE_MAX, 1..20);
    let page = (
        any::<u8>(),
        bytes(40),
        prop::option::of(bytes(40)),
        bytes(300),
    );
    prop_oneof![
        (run, any::<u64>()).prop_map(|((origin, first, operations), before)| {
            let run = Run {
                origin,
                first,
                operations,
            };
            Message::Operations { before, run }
        }),
        report(),
        want.prop_map(|wanted| Message::Want(wanted.into_iter().collect())),
        Just(Message::Behind),
        (any::<u8>(), bytes(40))
            .prop_map(|(section, after)| Message::PageRequest { section, after }),
        page.prop_map(|(section, after, next, bytes)| Message::Page(Page {
            section,
            after,
            next,
            bytes
        })),
        bits(),
        prop_oneof![
            layer().prop_map(Part::Layer),
            legacy().prop_map(Part::Legacy)
        ]
        .prop_map(Message::Gone),
        any::<([u8; 16], u64)>().prop_map(|(filter, wanted)| Message::Ask {
            filter: FilterId::new(filter),
            wanted
        }),
        any::<u64>().prop_map(|number| Message::TimeQuestion { number }),
        any::<(u64, u64)>().prop_map(|(number, wall)| Message::Time { number, wall }),
    ]
}

fn encoded(message: &Message) -> Vec<u8> {
    let mut buffer = Vec::new();
    message.encode(&mut buffer);
    buffer
}

proptest! {
    #[test]
    fn every_message_comes_back(message in message()) {
        let bytes = encoded(&message);
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn what_decodes_has_one_form(message in message(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encoded(&message);
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(encoded(&message), bytes);
        }
    }

    #[test]
    fn a_message_cut_short_is_another_or_refused(message in message(), at in any::<prop::sample::Index>()) {
        let bytes = encoded(&message);
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert_ne!(Message::decode(cut), Ok(message));
    }
}

fn run(operations: Vec<Vec<u8>>) -> Message {
    let run = Run {
        origin: Origin::new([7; 16]),
        first: 258,
        operations,
    };
    Message::Operations { before: 9, run }
}

#[test]
fn operations_have_these_bytes() {
    let mut counted = vec![8; 200];
    counted[7] = 9;
    let longer = [&counted[..], &[5]].concat();
    let bytes = encoded(&run(vec![vec![9; 3], vec![8; 200], counted, longer]));
    let mut expected = vec![OPERATIONS];
    expected.extend([7; 16]);
    expected.extend([2, 1, 0, 0, 0, 0, 0, 0]);
    expected.extend([9, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([0, 0, 0, 3, 9, 9, 9]);
    expected.extend([0, 3, 8, 8, 8, 0, 197, 1]);
    expected.extend([8; 197]);
    expected.extend([7, 1, 9, 192, 1, 0]);
    expected.extend([200, 1, 0, 0, 1, 5]);
    assert_eq!(bytes, expected);
    assert_eq!(operation_bytes(&[0; 127]), 128);
    assert_eq!(operation_bytes(&[0; 128]), 130);
}

#[test]
fn inserts_of_one_key_cost_little_more_than_its_hash() {
    let count = 1000;
    let inserts = (1..=count).map(|inserted: u64| {
        let run = crate::filter::Run {
            layer: LayerId {
                index: 1,
                creator: Origin::new([3; 16]),
            },
            opened: 77,
            inserted: 40_000 + inserted,
            count: 1,
        };
        let mut operation = Vec::new();
        let hash = Seed::new([1; 16]).hash(&inserted.to_le_bytes());
        encode_insert(&mut operation, FilterId::new([2; 16]), run, &[hash]);
        operation
    });
    let bytes = encoded(&run(inserts.collect())).len();
    assert!(bytes <= 22 * count as usize, "{bytes} bytes");
}

#[test]
fn few_bytes_do_not_stand_for_more_than_a_message_has() {
    let same = vec![vec![4; OPERATION_BYTES_MAX]; 2];
    let bytes = encoded(&run(same));
    assert!(bytes.len() < OPERATION_BYTES_MAX + 100);
    assert_eq!(
        Message::decode(&bytes),
        Err(MessageError::Limit {
            field: "operations' bytes",
            count: 2 * (OPERATION_BYTES_MAX as u64 + 3),
            limit: MESSAGE_BYTES_MAX as u64,
        })
    );
}

#[test]
fn an_operation_that_hides_what_is_the_same_is_refused() {
    let (one, mark) = ([1, 0, 0, 0, 0, 0, 0, 0], [0; 8]);
    let head = [&[OPERATIONS][..], &[7; 16], &one, &mark].concat();
    let first = [0, 0, 0, 2, 6, 6];
    let forms: [&[u8]; 4] = [
        // The same again, in full.
        &[0, 0, 0, 2, 6, 6],
        // A changed byte that did not change, or that ends too early.
        &[0, 1, 6, 1, 0],
        &[0, 1, 5, 0, 1, 5],
        // More than the one before has.
        &[3, 0, 0, 0],
    ];
    for form in forms {
        let refused = Message::decode(&[&head[..], &first, form].concat());
        let known = matches!(
            refused,
            Err(MessageError::Malformed { field: "operation" }
                | MessageError::Limit {
                    field: "operation",
                    ..
                })
        );
        assert!(known, "{form:?}: {refused:?}");
    }
    let read = Message::decode(&[&head[..], &first, &[2, 0, 0, 0]].concat());
    let Ok(Message::Operations { run, .. }) = read else {
        panic!("{read:?}");
    };
    assert_eq!(run.operations, [[6, 6], [6, 6]]);
}

#[test]
fn a_report_has_these_bytes() {
    let report = Message::Report(Report {
        session: 1,
        heard: 2,
        stamp: 3,
        horizon: 5,
        window: 4,
        ask: true,
        content: Content::Range {
            after: None,
            through: Some(Origin::new([9; 16])),
            entries: vec![Entry {
                origin: Origin::new([5; 16]),
                durable: 300,
                received: 301,
                mark: 7,
            }],
        },
    });
    let mut expected = vec![REPORT, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([4, 0, 0, 0, 1, RANGE, 2]);
    expected.extend([9; 16]);
    expected.extend([5; 16]);
    expected.extend([0xac, 2, 1, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(encoded(&report), expected);
}

#[test]
fn news_have_these_bytes() {
    let news = Message::Report(Report {
        session: 1,
        heard: 2,
        stamp: 3,
        horizon: 5,
        window: 4,
        ask: false,
        content: Content::News(
            0x0102,
            vec![Entry {
                origin: Origin::new([5; 16]),
                durable: 1,
                received: 1,
                mark: 7,
            }],
        ),
    });
    let mut expected = vec![REPORT, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([4, 0, 0, 0, 0, NEWS]);
    expected.extend([2, 1, 0, 0, 0, 0, 0, 0]);
    expected.extend([5; 16]);
    expected.extend([1, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(encoded(&news), expected);
}

#[test]
fn limits_are_named() {
    let limit = |message: &Message| match Message::decode(&encoded(message)) {
        Err(MessageError::Limit { field, count, .. }) => (field, count),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        limit(&run(vec![vec![0; OPERATION_BYTES_MAX + 1]])),
        ("operation", OPERATION_BYTES_MAX as u64 + 1)
    );
    assert_eq!(limit(&run(vec![vec![]])), ("operation", 0));
    let many = OPERATIONS_PER_MESSAGE_MAX + 1;
    assert_eq!(
        limit(&run(vec![vec![1]; many])),
        ("operations", many as u64)
    );
    let after = vec![0; KEY_BYTES_MAX + 1];
    assert_eq!(
        limit(&Message::PageRequest { section: 0, after }),
        ("key", KEY_BYTES_MAX as u64 + 1)
    );
    let wanted = (0..=WANT_ENTRIES_MAX as u128).map(|n| (Origin::new(n.to_be_bytes()), 1));
    assert_eq!(
        limit(&Message::Want(wanted.collect())),
        ("wishes", WANT_ENTRIES_MAX as u64 + 1)
    );
    assert_eq!(
        Message::decode(&vec![0; MESSAGE_BYTES_MAX + 1]),
        Err(MessageError::TooLong {
            length: MESSAGE_BYTES_MAX + 1
        })
    );
}

#[test]
fn what_no_sender_writes_is_refused() {
    assert_eq!(Message::decode(&[99]), Err(MessageError::Kind(99)));
    assert_eq!(
        Message::decode(&[]),
        Err(MessageError::Short { field: "kind" })
    );
    assert_eq!(
        Message::decode(&[BEHIND, 0]),
        Err(MessageError::Trailing(1))
    );
    let mut last = run(vec![vec![1]; 2]);
    if let Message::Operations { run, .. } = &mut last {
        run.first = SEQUENCE_MAX - 1;
    }
    assert_eq!(
        Message::decode(&encoded(&last)),
        Err(MessageError::Malformed {
            field: "sequence number"
        })
    );
    let mut padded = encoded(&Message::Want(vec![(Origin::new([1; 16]), 1)]));
    padded.pop();
    padded.extend([0x81, 0]);
    assert_eq!(
        Message::decode(&padded),
        Err(MessageError::Malformed {
            field: "sequence number"
        })
    );
}
