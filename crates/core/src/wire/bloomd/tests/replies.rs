//! Replies, byte for byte, and their way back.

use super::super::client::{
    BlockLine, EncodeError, ReplyError, encode_check, encode_check_many, encode_list, encode_set,
    encode_set_many, parse_block_line, parse_field, parse_list_row, parse_status,
    parse_yes_no_line, parse_yes_no_many_line,
};
use super::super::reply::{self, Info, ListRow, Status};
use super::super::{ClientError, Lines};

/// What a writer appends, after something that is already there and has to stay.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before|".to_vec();
    write(&mut out);
    let text = String::from_utf8(out).expect("replies of these tests are text");
    text.strip_prefix("before|")
        .expect("the output is only appended to")
        .to_owned()
}

#[test]
fn statuses() {
    for (status, expected) in [
        (Status::Done, "Done\n"),
        (Status::Exists, "Exists\n"),
        (Status::DeleteInProgress, "Delete in progress\n"),
        (Status::FilterDoesNotExist, "Filter does not exist\n"),
        (
            Status::NotProxied,
            "Filter is not proxied. Close it first.\n",
        ),
        (Status::InternalError, "Internal Error\n"),
    ] {
        assert_eq!(written(|out| reply::status(out, status)), expected);
        assert_eq!(parse_status(expected.trim_end().as_bytes()), Ok(status));
    }
}

#[test]
fn client_errors() {
    let expected = [
        "Client Error: Command not supported\n",
        "Client Error: Bad arguments\n",
        "Client Error: Unexpected arguments\n",
        "Client Error: Must provide filter name and key\n",
        "Client Error: Must provide filter name\n",
        "Client Error: Bad filter name\n",
        "Client Error: Bad initial capacity!\n",
        "Client Error: Bad false positive probability!\n",
        "Client Error: Line too long\n",
    ];
    assert_eq!(expected.len(), ClientError::ALL.len());
    for (error, expected) in ClientError::ALL.into_iter().zip(expected) {
        assert_eq!(written(|out| reply::client_error(out, error)), expected);
        let text = error.to_string();
        let line = expected.trim_end().as_bytes();
        assert_eq!(parse_status(line), Err(ReplyError::Client(text.as_bytes())));
    }
}

#[test]
fn answers() {
    assert_eq!(written(|out| reply::yes_no(out, true)), "Yes\n");
    assert_eq!(written(|out| reply::yes_no(out, false)), "No\n");
    for (answers, expected) in [
        (&[true][..], "Yes\n"),
        (&[false], "No\n"),
        (&[true, false, true], "Yes No Yes\n"),
        (&[false, false], "No No\n"),
    ] {
        assert_eq!(
            written(|out| reply::yes_no_many(out, answers.iter().copied())),
            expected
        );
        let mut read = vec![true];
        let line = expected.trim_end().as_bytes();
        assert_eq!(parse_yes_no_many_line(line, &mut read), Ok(answers.len()));
        assert_eq!(&read[1..], answers);
    }
}

#[test]
fn list_blocks() {
    assert_eq!(written(|out| reply::list(out, [])), "START\nEND\n");
    let row = |name: &'static str, probability| ListRow {
        name: name.as_bytes(),
        probability,
        bytes: 300_046,
        capacity: 100_000,
        size: 0,
    };
    let rows = [
        row("bar", 1e-4),
        row("foo", 0.0999),
        row("half", 0.007_812_5),
        row("tiny", 1e-7),
    ];
    // 1/128 has seven decimals: half to even, as printf does it.
    let expected = "START\n\
        bar 0.000100 300046 100000 0\n\
        foo 0.099900 300046 100000 0\n\
        half 0.007812 300046 100000 0\n\
        tiny 0.000000 300046 100000 0\n\
        END\n";
    assert_eq!(written(|out| reply::list(out, rows)), expected);
    let bytes = [b"caf\xe9 0.000100 1 2 3".as_slice(), b"\n"].concat();
    let mut out = Vec::new();
    let name = b"caf\xe9".as_slice();
    let row = ListRow {
        name,
        probability: 1e-4,
        bytes: 1,
        capacity: 2,
        size: 3,
    };
    reply::list(&mut out, [row]);
    assert_eq!(out, [b"START\n", bytes.as_slice(), b"END\n"].concat());
    assert_eq!(parse_list_row(&bytes[..bytes.len() - 1]), Ok(row));
}

#[test]
fn info_block() {
    let info = Info {
        capacity: 100_000,
        check_hits: 1,
        check_misses: 2,
        in_memory: true,
        page_ins: 4,
        page_outs: 5,
        probability: 1e-4,
        set_hits: 6,
        set_misses: 7,
        size: 8,
        storage: u64::MAX,
    };
    let expected = "START\ncapacity 100000\nchecks 3\ncheck_hits 1\ncheck_misses 2\nin_memory 1\n\
        page_ins 4\npage_outs 5\nprobability 0.000100\nsets 13\nset_hits 6\nset_misses 7\nsize 8\n\
        storage 18446744073709551615\nEND\n";
    assert_eq!(written(|out| reply::info(out, &info)), expected);
    let closed = Info {
        in_memory: false,
        check_hits: u64::MAX,
        ..info
    };
    let text = written(|out| reply::info(out, &closed));
    assert!(text.contains("\nin_memory 0\n"));
    assert!(
        text.contains("\nchecks 18446744073709551615\n"),
        "a sum never wraps"
    );
}

#[test]
fn conf_block() {
    let settings = [
        ("tcp_port", &b"8673"[..]),
        ("data_dir", b"/a b\n"),
        ("name", b"\xc3\xbc"),
    ];
    assert_eq!(
        written(|out| reply::conf(out, settings)),
        "START\ndata_dir /a b?\nname ü\ntcp_port 8673\nEND\n"
    );
}

#[test]
fn a_block_is_read_line_by_line() {
    let mut lines = Lines::new(b"START\nsize 5\nEND\nDone\n", 100);
    let mut next = |inside| parse_block_line(lines.next().expect("a line"), inside);
    assert_eq!(next(false), Ok(BlockLine::Start));
    assert_eq!(next(true), Ok(BlockLine::Row(b"size 5")));
    assert_eq!(next(true), Ok(BlockLine::End));
    assert_eq!(next(false), Err(ReplyError::Status(Status::Done)));
    assert_eq!(parse_field(b"size 5"), Ok((&b"size"[..], &b"5"[..])));
    assert_eq!(
        parse_field(b"data_dir /a b"),
        Ok((&b"data_dir"[..], &b"/a b"[..]))
    );
    assert_eq!(parse_field(b"size"), Err(ReplyError::Foreign(b"size")));
}

#[test]
fn other_replies_are_told_apart() {
    let gone = Err(ReplyError::Status(Status::FilterDoesNotExist));
    let refused = Err(ReplyError::Client(b"Bad arguments"));
    assert_eq!(parse_yes_no_line(b"Yes"), Ok(true));
    assert_eq!(parse_yes_no_line(b"No"), Ok(false));
    assert_eq!(parse_yes_no_line(b"Filter does not exist"), gone);
    assert_eq!(parse_yes_no_line(b"Client Error: Bad arguments"), refused);
    for line in ["", "yes", "Yes ", "Yes No", "START", "Done\n"] {
        let foreign = Err(ReplyError::Foreign(line.as_bytes()));
        assert_eq!(parse_yes_no_line(line.as_bytes()), foreign, "{line:?}");
    }
    let mut answers = vec![true];
    assert!(parse_yes_no_many_line(b"Filter does not exist", &mut answers).is_err());
    // What the C server sends when a filter goes away during a bulk.
    let glued = b"Yes No Filter does not exist";
    let foreign = Err(ReplyError::Foreign(glued));
    assert_eq!(parse_yes_no_many_line(glued, &mut answers), foreign);
    assert_eq!(answers, [true]);
    assert_eq!(
        ReplyError::Foreign(b"\xff\n").to_string(),
        "no reply of this protocol: \"\\\\xff\\\\n\""
    );
    assert_eq!(ReplyError::Status(Status::Exists).to_string(), "Exists");
}

#[test]
fn bad_list_rows() {
    for line in [
        "",
        "foo",
        "foo 0.1 1 2",
        "foo 0.1 1 2 3 4",
        "foo x 1 2 3",
        "foo 0.1 -1 2 3",
    ] {
        let foreign = Err(ReplyError::Foreign(line.as_bytes()));
        assert_eq!(parse_list_row(line.as_bytes()), foreign, "{line:?}");
    }
}

#[test]
fn what_a_line_cannot_carry_is_refused_and_leaves_nothing() {
    let mut out = b"kept".to_vec();
    let name = Err(EncodeError::FilterName { length: 3 });
    assert_eq!(encode_set(&mut out, b"a b", b"key"), name);
    assert_eq!(
        encode_check(&mut out, b"foo", b""),
        Err(EncodeError::EmptyKey)
    );
    let line_feed = Err(EncodeError::KeyByte { byte: b'\n', at: 1 });
    assert_eq!(encode_set(&mut out, b"foo", b"a\nb"), line_feed);
    let space = Err(EncodeError::KeyByte { byte: b' ', at: 1 });
    assert_eq!(
        encode_set_many(&mut out, b"foo", [&b"x"[..], b"a b"]),
        space
    );
    assert_eq!(
        encode_check_many(&mut out, b"foo", []),
        Err(EncodeError::NoKeys)
    );
    assert_eq!(
        encode_list(&mut out, b"a\n"),
        Err(EncodeError::Prefix { at: 1 })
    );
    assert_eq!(out, b"kept");
}
