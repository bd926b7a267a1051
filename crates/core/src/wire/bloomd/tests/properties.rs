//! Laws that hold for every input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::client::{
    encode_check, encode_check_many, encode_clear, encode_close, encode_conf, encode_create,
    encode_drop, encode_flush, encode_info, encode_list, encode_set, encode_set_many,
    parse_list_row, parse_status, parse_yes_no_line, parse_yes_no_many_line,
};
use super::super::reply::ListRow;
use super::super::{
    Beginning, ClientError, Command, CreateOptions, Keys, Lines, PROBABILITY_MIN, is_filter_name,
    parse,
};

/// Bytes that are likely to matter to the parser.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        4 => prop::sample::select(&b" \t\r\n\0=+-.e01"[..]),
        4 => prop::sample::select(&b"abcdefilmnopstuwxyz_"[..]),
        1 => any::<u8>(),
    ]
}

/// Starts of lines, so that a random line is a command more often than chance would have it.
const STARTS: &[&str] = &[
    "",
    "s ",
    "c ",
    "m ",
    "b ",
    "set ",
    "check ",
    "multi ",
    "bulk ",
    "list ",
    "drop ",
    "close ",
    "clear ",
    "flush ",
    "info ",
    "conf ",
    "create ",
    "create x ",
    "create x capacity=",
    "create x prob=",
    "create x in_memory",
    "create x 20000 ",
];

fn line() -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(STARTS), vec(byte(), 0..24))
        .prop_map(|(word, rest)| [word.as_bytes(), &rest].concat())
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..=200).prop_map(|name| {
        name.into_iter()
            .map(|byte| {
                if b" \t\r\n".contains(&byte) {
                    b'_'
                } else {
                    byte
                }
            })
            .collect()
    })
}

fn key(forbidden: &'static [u8], length_min: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(byte(), length_min..12).prop_map(|key| {
        key.into_iter()
            .map(|byte| {
                if forbidden.contains(&byte) {
                    b'_'
                } else {
                    byte
                }
            })
            .collect()
    })
}

/// All lines of `input` when it arrives in pieces of these lengths (used in turn), as a connection
/// reads it, each none when it is too long, and the bytes left over.
fn lines_of(input: &[u8], pieces: &[usize], length_max: usize) -> (Vec<Option<Vec<u8>>>, usize) {
    let mut buffer = Vec::new();
    let (mut scanned, mut passing_over) = (0, false);
    let mut found = Vec::new();
    let mut pieces = pieces.iter().cycle();
    let mut rest = input;
    while !rest.is_empty() {
        let length = pieces
            .next()
            .map_or(1, |length| (*length).clamp(1, rest.len()));
        buffer.extend_from_slice(&rest[..length]);
        rest = &rest[length..];
        let mut lines = Lines::resume(&buffer, length_max, scanned);
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
        scanned = lines.unfinished();
        let consumed = lines.consumed();
        buffer.drain(..consumed);
    }
    (found, buffer.len())
}

/// Whether a request for many keys adds them, its filter, and the keys.
type Request<'a> = (bool, &'a [u8], Vec<Vec<u8>>);

/// A request for many keys, read piece by piece once its beginning is known.
fn keys_in_pieces(line: &[u8], piece: usize) -> Option<Request<'_>> {
    let began = (0..=line.len()).find_map(|end| Beginning::of(&line[..end]))?;
    let (mut start, mut keys) = (began.length, Vec::new());
    let mut end = start;
    while end < line.len() {
        end = (end + piece).min(line.len());
        let (ended, length) = Keys::ended_in(&line[start..end]);
        keys.extend(ended.map(<[u8]>::to_vec));
        start += length;
    }
    keys.extend(Keys::of(&line[start..]).map(<[u8]>::to_vec));
    Some((began.adds, began.filter, keys))
}

/// Encodes, and reads the line back through the splitter.
fn sent(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    let mut lines = Lines::new(&out, usize::MAX);
    let line = lines.next().expect("a request is a whole line").to_vec();
    assert_eq!(lines.consumed(), out.len(), "a request is one line");
    line
}

proptest! {
    #[test]
    fn any_line_is_one_command_or_one_error(line in line()) {
        match parse(&line) {
            Ok(Command::Check { key, .. } | Command::Set { key, .. }) => {
                prop_assert!(!key.is_empty());
                prop_assert!(line.ends_with(key));
            }
            Ok(Command::CheckMany { keys, .. } | Command::SetMany { keys, .. }) => {
                let (least, most) = keys.size_hint();
                let count = keys.count();
                prop_assert!(count >= 1 && count >= least && Some(count) <= most);
                prop_assert!(keys.into_iter().all(|key| !key.contains(&b' ')));
            }
            Ok(Command::Create { filter, options }) => {
                prop_assert!(is_filter_name(filter));
                prop_assert!(options.capacity.is_none_or(|capacity| capacity >= 1_000));
                prop_assert!(options.probability.is_none_or(|p| p > 0.0 && p < 1.0));
            }
            Ok(_) => {}
            Err(error) => prop_assert_ne!(error, ClientError::LineTooLong),
        }
    }

    #[test]
    fn any_bytes_are_harmless(bytes in vec(any::<u8>(), 0..200)) {
        let answered = Lines::new(&bytes, 50).map(parse).count();
        prop_assert!(answered <= bytes.iter().filter(|&&byte| byte == b'\n').count());
        let mut answers = Vec::new();
        let _ = (parse_status(&bytes), parse_yes_no_line(&bytes), parse_list_row(&bytes));
        prop_assert_eq!(parse_yes_no_many_line(&bytes, &mut answers).is_err(), answers.is_empty());
    }

    #[test]
    fn cutting_the_input_changes_nothing(
        input in vec(line(), 0..8).prop_map(|lines| lines.join(&b'\n')),
        pieces in vec(1_usize..20, 1..6),
        length_max in 5_usize..60,
    ) {
        let whole = lines_of(&input, &[usize::MAX], length_max);
        prop_assert_eq!(lines_of(&input, &pieces, length_max), whole.clone());
        prop_assert_eq!(lines_of(&input, &[1], length_max), whole.clone());
        let ends = input.iter().filter(|&&byte| byte == b'\n').count();
        let open = whole.0.len() - ends;
        prop_assert!(open <= 1, "one line per line feed, and one that is too long already");
    }

    #[test]
    fn single_keys_survive(filter in name(), key in key(b"\n", 1)) {
        let line = sent(|out| encode_set(out, &filter, &key).expect("carriable"));
        prop_assert_eq!(parse(&line), Ok(Command::Set { filter: &filter, key: &key }));
        let line = sent(|out| encode_check(out, &filter, &key).expect("carriable"));
        prop_assert_eq!(parse(&line), Ok(Command::Check { filter: &filter, key: &key }));
    }

    #[test]
    fn many_keys_survive(filter in name(), keys in vec(key(b" \n", 0), 1..8)) {
        let borrowed = || keys.iter().map(Vec::as_slice);
        let line = sent(|out| encode_set_many(out, &filter, borrowed()).expect("carriable"));
        let Ok(Command::SetMany { filter: name, keys: read }) = parse(&line) else {
            return Err(TestCaseError::fail(format!("{line:?} is no bulk")));
        };
        prop_assert_eq!(name, &filter);
        prop_assert!(read.eq(borrowed()));
        let line = sent(|out| encode_check_many(out, &filter, borrowed()).expect("carriable"));
        let Ok(Command::CheckMany { filter: name, keys: read }) = parse(&line) else {
            return Err(TestCaseError::fail(format!("{line:?} is no multi")));
        };
        prop_assert_eq!(name, &filter);
        prop_assert!(read.eq(borrowed()));
    }

    #[test]
    fn keys_are_the_same_in_pieces(
        word in prop::sample::select(&["b ", "bulk ", "m ", "multi ", "s ", "list "][..]),
        rest in vec(prop::sample::select(&b"  ab\r"[..]), 0..24),
        piece in 1_usize..9,
    ) {
        let line = [word.as_bytes(), &rest].concat();
        let whole = match parse(&line) {
            Ok(Command::SetMany { filter, keys }) => Some((true, filter, keys)),
            Ok(Command::CheckMany { filter, keys }) => Some((false, filter, keys)),
            _ => None,
        };
        let whole = whole.map(|(adds, filter, keys)| {
            (adds, filter, keys.map(<[u8]>::to_vec).collect::<Vec<_>>())
        });
        prop_assert_eq!(keys_in_pieces(&line, piece), whole);
    }

    #[test]
    fn options_survive_exactly(
        filter in name(),
        capacity in prop::option::of(10_001..=i64::MAX as u64),
        probability in prop::option::of(PROBABILITY_MIN..0.1),
        in_memory in any::<Option<bool>>(),
    ) {
        let options = CreateOptions { capacity, probability, in_memory };
        let line = sent(|out| encode_create(out, &filter, &options).expect("carriable"));
        prop_assert_eq!(parse(&line), Ok(Command::Create { filter: &filter, options }));
    }

    #[test]
    fn names_survive(filter in name(), prefix in key(b"\n", 0)) {
        let some = Some(filter.as_slice());
        let filter = filter.as_slice();
        let line = sent(|out| encode_drop(out, filter).expect("carriable"));
        prop_assert_eq!(parse(&line), Ok(Command::Drop { filter }));
        let line = sent(|out| encode_close(out, filter).expect("carriable"));
        prop_assert_eq!(parse(&line), Ok(Command::Close { filter }));
        let line = sent(|out| encode_clear(out, filter).expect("carriable"));
        prop_assert_eq!(parse(&line), Ok(Command::Clear { filter }));
        let line = sent(|out| encode_info(out, filter).expect("carriable"));
        prop_assert_eq!(parse(&line), Ok(Command::Info { filter }));
        for filter in [None, some] {
            let line = sent(|out| encode_flush(out, filter).expect("carriable"));
            prop_assert_eq!(parse(&line), Ok(Command::Flush { filter }));
            let line = sent(|out| encode_conf(out, filter).expect("carriable"));
            prop_assert_eq!(parse(&line), Ok(Command::Conf { filter }));
        }
        let line = sent(|out| encode_list(out, &prefix).expect("carriable"));
        prop_assert_eq!(parse(&line), Ok(Command::List { prefix: &prefix }));
    }

    #[test]
    fn list_rows_survive(name in name(), bytes: u64, capacity: u64, size: u64, p in 1_u32..100_000) {
        // Six decimals carry millionths exactly.
        let probability = f64::from(p) / 1e6;
        let row = ListRow { name: &name, probability, bytes, capacity, size };
        let mut out = Vec::new();
        super::super::reply::list(&mut out, [row]);
        let line = &out[b"START\n".len()..out.len() - b"\nEND\n".len()];
        prop_assert_eq!(parse_list_row(line), Ok(row));
    }
}
