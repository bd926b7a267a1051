//! bloomd's requests: lines do not depend on how the bytes were cut, every line parses or earns
//! one reply, and a command that can be written again reads as the same.
#![no_main]

use grapevine_core::wire::bloomd::client::{
    EncodeError, encode_check, encode_check_many, encode_clear, encode_close, encode_conf,
    encode_create, encode_drop, encode_flush, encode_info, encode_list, encode_set,
    encode_set_many,
};
use grapevine_core::wire::bloomd::{
    Beginning, CAPACITY_OPTION_MIN, Command, Keys, Lines, PROBABILITY_OPTION_LIMIT,
    is_filter_name, parse, reply,
};
use libfuzzer_sys::fuzz_target;

/// Longest line of the session: short, so that the bound is met.
const LINE_LENGTH_MAX: usize = 300;

fuzz_target!(|input: &[u8]| {
    let Some((cut, stream)) = input.split_first() else {
        return;
    };
    let size = usize::from(*cut) + 1;
    let lines = in_pieces(stream, stream.len().max(1));
    assert_eq!(lines, in_pieces(stream, size));
    for line in lines.iter().flatten() {
        check_line(line);
        check_keys(line, size);
    }
});

/// Reads the stream as a connection does, `size` bytes at a time; a line that is too long is none.
fn in_pieces(stream: &[u8], size: usize) -> Vec<Option<Vec<u8>>> {
    let (mut buffer, mut scanned, mut found) = (Vec::new(), 0, Vec::new());
    let mut passing_over = false;
    for piece in stream.chunks(size) {
        buffer.extend_from_slice(piece);
        let mut lines = Lines::resume(&buffer, LINE_LENGTH_MAX, scanned);
        passing_over = passing_over && !lines.pass_over();
        while !passing_over {
            match lines.next() {
                Some(line) => found.push(Some(line.to_vec())),
                None if lines.is_too_long() => {
                    found.push(None);
                    passing_over = !lines.pass_over();
                }
                None => break,
            }
        }
        let consumed = lines.consumed();
        scanned = lines.unfinished();
        buffer.drain(..consumed);
        assert!(
            buffer.len() <= LINE_LENGTH_MAX,
            "an unfinished line is bounded"
        );
    }
    found
}

/// A request for many keys has the same ones when it is read before its end.
fn check_keys(line: &[u8], size: usize) {
    let began = (0..=line.len()).find_map(|end| Beginning::of(&line[..end]));
    let (adds, filter, keys) = match (parse(line), began) {
        (Ok(Command::SetMany { filter, keys }), Some(began)) if began.adds => (true, filter, keys),
        (Ok(Command::CheckMany { filter, keys }), Some(_)) => (false, filter, keys),
        (_, None) => return,
        (parsed, began) => panic!("{parsed:?} began as {began:?}"),
    };
    let Some(began) = began else { return };
    assert_eq!((adds, filter), (began.adds, began.filter));
    let (mut start, mut end, mut read) = (began.length, began.length, Vec::new());
    while end < line.len() {
        end = (end + size).min(line.len());
        let (ended, length) = Keys::ended_in(&line[start..end]);
        read.extend(ended);
        start += length;
    }
    read.extend(Keys::of(&line[start..]));
    assert!(keys.eq(read));
}

fn check_line(line: &[u8]) {
    match parse(line) {
        Ok(command) => check_again(&command),
        Err(error) => {
            let mut out = Vec::new();
            reply::client_error(&mut out, error);
            assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert!(out.ends_with(b"\n"));
        }
    }
}

/// Writes the command as a client does and reads it back.
fn check_again(command: &Command<'_>) {
    let mut out = Vec::new();
    if encode(&mut out, command).is_err() || is_positional(command) {
        return;
    }
    let mut lines = Lines::new(&out, usize::MAX);
    let line = lines.next().expect("a request is a line");
    let again = parse(line).expect("what a client writes is read");
    match (*command, again) {
        (
            Command::SetMany { filter, keys },
            Command::SetMany {
                filter: other,
                keys: again,
            },
        )
        | (
            Command::CheckMany { filter, keys },
            Command::CheckMany {
                filter: other,
                keys: again,
            },
        ) => assert!(filter == other && keys.eq(again)),
        (command, again) => assert_eq!(command, again),
    }
    assert_eq!(lines.next(), None, "a request is one line");
    assert_eq!(lines.unfinished(), 0);
}

fn encode(out: &mut Vec<u8>, command: &Command<'_>) -> Result<(), EncodeError> {
    match *command {
        Command::Check { filter, key } => encode_check(out, filter, key),
        Command::Set { filter, key } => encode_set(out, filter, key),
        Command::CheckMany { filter, keys } => encode_check_many(out, filter, keys),
        Command::SetMany { filter, keys } => encode_set_many(out, filter, keys),
        Command::Create { filter, options } => {
            assert!(is_filter_name(filter), "create judges names");
            encode_create(out, filter, &options)
        }
        Command::List { prefix } => encode_list(out, prefix),
        Command::Drop { filter } => encode_drop(out, filter),
        Command::Close { filter } => encode_close(out, filter),
        Command::Clear { filter } => encode_clear(out, filter),
        Command::Flush { filter } => encode_flush(out, filter),
        Command::Info { filter } => encode_info(out, filter),
        Command::Conf { filter } => encode_conf(out, filter),
    }
}

/// Whether a create has values that only the positional form admits. Clients write the other.
fn is_positional(command: &Command<'_>) -> bool {
    let Command::Create { options, .. } = command else {
        return false;
    };
    options
        .capacity
        .is_some_and(|capacity| capacity < CAPACITY_OPTION_MIN)
        || options
            .probability
            .is_some_and(|error| error >= PROBABILITY_OPTION_LIMIT)
}
