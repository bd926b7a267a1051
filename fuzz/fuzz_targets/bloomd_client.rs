//! bloomd's replies: every line reads as what was asked for or is refused, and what was read is
//! written again as the same line.
#![no_main]

use grapevine_core::wire::bloomd::client::{
    BlockLine, ReplyError, parse_block_line, parse_field, parse_list_row, parse_status,
    parse_yes_no_line, parse_yes_no_many_line,
};
use grapevine_core::wire::bloomd::{Lines, reply};
use libfuzzer_sys::fuzz_target;

/// Longest line of the session.
const LINE_LENGTH_MAX: usize = 4096;

fuzz_target!(|stream: &[u8]| {
    let mut inside = false;
    for line in Lines::new(stream, LINE_LENGTH_MAX) {
        check_answers(line);
        inside = check_block(line, inside);
    }
});

fn check_answers(line: &[u8]) {
    let mut answers = vec![true];
    let mut out = Vec::new();
    match parse_yes_no_many_line(line, &mut answers) {
        Ok(count) => {
            assert_eq!(answers.len(), 1 + count);
            reply::yes_no_many(&mut out, answers.drain(1..));
            check_same(&out, line);
        }
        Err(error) => {
            assert_eq!(answers, [true], "a refused line leaves no answers");
            check_error(error, line);
        }
    }
    out.clear();
    if let Ok(yes) = parse_yes_no_line(line) {
        reply::yes_no(&mut out, yes);
        check_same(&out, line);
    }
    out.clear();
    if let Ok(status) = parse_status(line) {
        reply::status(&mut out, status);
        check_same(&out, line);
    }
}

fn check_error(error: ReplyError<'_>, line: &[u8]) {
    assert!(!error.to_string().is_empty());
    if let ReplyError::Foreign(named) = error {
        assert_eq!(named, line, "a foreign line is named whole");
    }
}

/// Reads the line as one of a block; says whether the next one is inside.
fn check_block(line: &[u8], inside: bool) -> bool {
    match parse_block_line(line, inside) {
        Ok(BlockLine::Start) => true,
        Ok(BlockLine::Row(row)) => {
            check_row(row);
            true
        }
        Ok(BlockLine::End) | Err(_) => false,
    }
}

fn check_row(row: &[u8]) {
    if let Ok((name, value)) = parse_field(row) {
        assert_eq!([name, b" ", value].concat(), row);
    }
    let Ok(first) = parse_list_row(row) else {
        return;
    };
    let mut out = Vec::new();
    reply::list(&mut out, [first]);
    let written = Lines::new(&out, usize::MAX)
        .nth(1)
        .expect("a row between start and end");
    let second = parse_list_row(written).expect("what a server writes is read");
    assert_eq!(
        (second.name, second.bytes, second.capacity, second.size),
        (first.name, first.bytes, first.capacity, first.size)
    );
}

fn check_same(written: &[u8], line: &[u8]) {
    assert_eq!(written.strip_suffix(b"\n"), Some(line));
}
