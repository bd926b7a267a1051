//! Lines and their meaning, for every command but `create`.

use super::super::{Beginning, ClientError, Command, Lines, parse};
use super::{Outcome, check_table};

const NOT_SUPPORTED: Outcome = Err(ClientError::CommandNotSupported);
const UNEXPECTED: Outcome = Err(ClientError::UnexpectedArguments);
const NEED_KEY: Outcome = Err(ClientError::FilterAndKeyNeeded);
const NEED_FILTER: Outcome = Err(ClientError::FilterNeeded);

const fn check(filter: &'static str, key: &'static str) -> Outcome {
    Ok(Command::Check {
        filter: filter.as_bytes(),
        key: key.as_bytes(),
    })
}

const fn set(filter: &'static str, key: &'static str) -> Outcome {
    Ok(Command::Set {
        filter: filter.as_bytes(),
        key: key.as_bytes(),
    })
}

const fn list(prefix: &'static str) -> Outcome {
    Ok(Command::List {
        prefix: prefix.as_bytes(),
    })
}

const fn drop_filter(filter: &'static str) -> Outcome {
    Ok(Command::Drop {
        filter: filter.as_bytes(),
    })
}

const fn close(filter: &'static str) -> Outcome {
    Ok(Command::Close {
        filter: filter.as_bytes(),
    })
}

const fn clear(filter: &'static str) -> Outcome {
    Ok(Command::Clear {
        filter: filter.as_bytes(),
    })
}

const fn info(filter: &'static str) -> Outcome {
    Ok(Command::Info {
        filter: filter.as_bytes(),
    })
}

const fn flush(filter: Option<&'static str>) -> Outcome {
    Ok(Command::Flush {
        filter: match filter {
            Some(name) => Some(name.as_bytes()),
            None => None,
        },
    })
}

const fn conf(filter: Option<&'static str>) -> Outcome {
    Ok(Command::Conf {
        filter: match filter {
            Some(name) => Some(name.as_bytes()),
            None => None,
        },
    })
}

#[test]
fn framing_and_words() {
    check_table(&[
        ("\n", NOT_SUPPORTED),
        ("\r\n", NOT_SUPPORTED),
        (" \n", NOT_SUPPORTED),
        ("\t\n", NOT_SUPPORTED),
        ("LIST\n", NOT_SUPPORTED),
        ("List\n", NOT_SUPPORTED),
        (" list\n", NOT_SUPPORTED),
        ("\tlist\n", NOT_SUPPORTED),
        ("  s foo key\n", NOT_SUPPORTED),
        ("list\tfoo\n", NOT_SUPPORTED),
        ("lists\n", NOT_SUPPORTED),
        ("createx\n", NOT_SUPPORTED),
        ("createx foo\n", NOT_SUPPORTED),
        ("creat foo\n", NOT_SUPPORTED),
        ("sets foo key\n", NOT_SUPPORTED),
        ("x foo key\n", NOT_SUPPORTED),
        ("QUIT\n", NOT_SUPPORTED),
        ("mro\n", NOT_SUPPORTED),
        ("list\r\r\n", NOT_SUPPORTED),
        ("list\r\n", list("")),
    ]);
}

#[test]
fn single_keys() {
    check_table(&[
        ("s foo test123\n", set("foo", "test123")),
        ("set foo test123\r\n", set("foo", "test123")),
        ("c foo test123\n", check("foo", "test123")),
        ("check foo test123\r\n", check("foo", "test123")),
        // The key is the rest of the line, as it stands.
        ("s foo a b\n", set("foo", "a b")),
        ("c foo  k\n", check("foo", " k")),
        ("s foo k \n", set("foo", "k ")),
        ("s foo  \n", set("foo", " ")),
        ("s foo a\tb\n", set("foo", "a\tb")),
        ("s foo a\r\r\n", set("foo", "a\r")),
        ("s foo \r\r\n", set("foo", "\r")),
        ("s foo schlüssel\n", set("foo", "schlüssel")),
        // A name nobody can create is looked up like any other.
        ("s  k\n", set("", "k")),
        ("s foo\tbar k\n", set("foo\tbar", "k")),
        ("s\n", NEED_KEY),
        ("set\n", NEED_KEY),
        ("s \n", NEED_KEY),
        ("s foo\n", NEED_KEY),
        ("s foo \n", NEED_KEY),
        ("s foo \r\n", NEED_KEY),
        ("s  \n", NEED_KEY),
        ("c\n", NEED_KEY),
        ("check foo\n", NEED_KEY),
        ("check foo \n", NEED_KEY),
    ]);
}

#[test]
fn a_nul_is_a_byte_of_the_key() {
    // Differs from the C server, where a NUL ended the key.
    check_table(&[
        ("s foo a\0b\n", set("foo", "a\0b")),
        ("s foo \0\n", set("foo", "\0")),
        ("s f\0o a\n", set("f\0o", "a")),
        ("list\0\n", NOT_SUPPORTED),
    ]);
    assert_ne!(parse(b"s foo a\0b"), parse(b"s foo a"));
    assert_eq!(keys_of(b"b foo \0 a"), Ok(vec![&b"\0"[..], b"a"]));
}

#[test]
fn keys_may_be_any_other_bytes() {
    let line = b"s foo \xff\xfe\x01\x80";
    assert_eq!(
        parse(line),
        Ok(Command::Set {
            filter: b"foo",
            key: b"\xff\xfe\x01\x80"
        })
    );
}

fn keys_of(line: &[u8]) -> Result<Vec<&[u8]>, ClientError> {
    match parse(line)? {
        Command::CheckMany {
            filter: b"foo",
            keys,
        }
        | Command::SetMany {
            filter: b"foo",
            keys,
        } => Ok(keys.collect()),
        other => panic!("{other:?} has no keys of foo"),
    }
}

#[test]
fn many_keys() {
    let rows: &[(&str, &[&str])] = &[
        ("foo a", &["a"]),
        ("foo a b c", &["a", "b", "c"]),
        ("foo a a", &["a", "a"]),
        // Two spaces enclose an empty key, one at the end is ignored.
        ("foo a  b", &["a", "", "b"]),
        ("foo a   b", &["a", "", "", "b"]),
        ("foo a ", &["a"]),
        ("foo a  ", &["a", ""]),
        ("foo  a", &["", "a"]),
        ("foo  ", &[""]),
        ("foo   ", &["", ""]),
        ("foo a\tb c", &["a\tb", "c"]),
        ("foo a\r b\r", &["a\r", "b\r"]),
    ];
    for (rest, expected) in rows {
        let expected: Vec<&[u8]> = expected.iter().map(|key| key.as_bytes()).collect();
        for word in ["m", "multi", "b", "bulk"] {
            let line = format!("{word} {rest}");
            assert_eq!(keys_of(line.as_bytes()), Ok(expected.clone()), "{line:?}");
            let sets = matches!(parse(line.as_bytes()), Ok(Command::SetMany { .. }));
            assert_eq!(sets, word.starts_with('b'), "{line:?}");
        }
    }
    for word in ["m", "multi", "b", "bulk"] {
        // Also where the Python server said "... and at least one key".
        for rest in ["", " ", " foo", " foo ", "  "] {
            let line = format!("{word}{rest}");
            assert_eq!(parse(line.as_bytes()), NEED_KEY, "{line:?}");
        }
    }
}

#[test]
fn a_hundred_thousand_keys() {
    let mut line = b"b foo".to_vec();
    for index in 0..100_000 {
        line.extend_from_slice(format!(" key{index}").as_bytes());
    }
    let keys = keys_of(&line).expect("keys");
    assert_eq!(keys.len(), 100_000);
    assert_eq!(keys[99_999], b"key99999");
}

#[test]
fn list_takes_the_rest_of_the_line() {
    check_table(&[
        ("list\n", list("")),
        ("list \n", list("")),
        ("list foo\n", list("foo")),
        ("list foo bar\n", list("foo bar")),
        ("list  foo\n", list(" foo")),
        ("list foo:bar:\r\n", list("foo:bar:")),
    ]);
}

#[test]
fn commands_with_a_name_alone() {
    check_table(&[
        ("drop foo\n", drop_filter("foo")),
        ("drop foo\r\n", drop_filter("foo")),
        ("drop \n", drop_filter("")),
        ("drop\n", NEED_FILTER),
        ("drop  \n", UNEXPECTED),
        ("drop foo \n", UNEXPECTED),
        ("drop foo bar\n", UNEXPECTED),
        ("close foo\n", close("foo")),
        ("close \n", close("")),
        ("close\n", NEED_FILTER),
        ("close foo \n", UNEXPECTED),
        ("clear foo\n", clear("foo")),
        ("clear \n", clear("")),
        ("clear\n", NEED_FILTER),
        ("clear foo bar\n", UNEXPECTED),
        ("info foo\n", info("foo")),
        ("info \n", info("")),
        ("info\n", NEED_FILTER),
        ("info foo \n", UNEXPECTED),
        ("flush\n", flush(None)),
        ("flush foo\n", flush(Some("foo"))),
        ("flush \n", flush(Some(""))),
        ("flush foo \n", UNEXPECTED),
        ("flush foo bar\n", UNEXPECTED),
    ]);
}

#[test]
fn conf_is_taken_from_the_python_server() {
    check_table(&[
        ("conf\n", conf(None)),
        ("conf\r\n", conf(None)),
        ("conf \n", conf(None)),
        ("conf foo\n", conf(Some("foo"))),
        ("conf foo \n", conf(Some("foo"))),
        ("conf foo\t \n", conf(Some("foo"))),
        ("conf \x0c\n", conf(Some("\x0c"))),
        ("conf foo bar\n", UNEXPECTED),
        ("conf  foo\n", UNEXPECTED),
        ("config\n", NOT_SUPPORTED),
    ]);
}

#[test]
fn an_unfinished_line_waits() {
    let mut lines = Lines::new(b"s foo a\nlist\r\nc foo hal", 100);
    assert_eq!(lines.next(), Some(&b"s foo a"[..]));
    assert_eq!(lines.consumed(), 8);
    assert_eq!(lines.next(), Some(&b"list"[..]));
    assert_eq!(lines.next(), None);
    assert_eq!(lines.next(), None);
    assert_eq!(
        (lines.consumed(), lines.unfinished(), lines.is_too_long()),
        (14, 9, false)
    );

    let mut lines = Lines::resume(b"c foo half\n", 100, 9);
    assert_eq!(lines.next(), Some(&b"c foo half"[..]));
    assert_eq!((lines.next(), lines.unfinished()), (None, 0));
}

#[test]
fn a_line_of_exactly_the_limit_passes() {
    for (input, expected) in [("12345\n", Some("12345")), ("1234\r\n", Some("1234"))] {
        let mut lines = Lines::new(input.as_bytes(), 5);
        assert_eq!(lines.next(), expected.map(str::as_bytes));
        assert_eq!((lines.next(), lines.is_too_long()), (None, false));
    }
}

#[test]
fn a_longer_line_is_passed_over() {
    // Whether its end has arrived makes no difference to the line being too long.
    for (input, rest) in [
        ("ok\n123456", None),
        ("ok\n123456\n", Some(None)),
        ("ok\n123456\nlist\n", Some(Some("list"))),
        ("ok\n12345\r\nlist\n", Some(Some("list"))),
    ] {
        let mut lines = Lines::new(input.as_bytes(), 5);
        assert_eq!(lines.next(), Some(&b"ok"[..]), "{input:?}");
        assert_eq!(lines.next(), None, "{input:?}");
        assert!(lines.is_too_long(), "{input:?}");
        assert_eq!(lines.next(), None, "{input:?}");
        assert_eq!(lines.consumed(), 3, "{input:?}");
        assert_eq!(lines.pass_over(), rest.is_some(), "{input:?}");
        assert!(!lines.is_too_long(), "{input:?}");
        let next = rest.flatten().map(str::as_bytes);
        assert_eq!((lines.next(), lines.unfinished()), (next, 0), "{input:?}");
    }
}

#[test]
fn the_middle_of_a_longer_line_is_passed_over() {
    let mut lines = Lines::new(b"789\nlist\n1234", 5);
    assert!(lines.pass_over());
    assert_eq!(lines.next(), Some(&b"list"[..]));
    assert_eq!((lines.next(), lines.unfinished()), (None, 4));
    let mut lines = Lines::new(b"789", 5);
    assert!(!lines.pass_over());
    assert_eq!((lines.next(), lines.unfinished()), (None, 0));
}

#[test]
fn a_request_for_many_keys_is_known_before_it_ends() {
    let beginning = |line: &'static str| {
        Beginning::of(line.as_bytes())
            .map(|b| (b.adds, str::from_utf8(b.filter).unwrap(), b.length))
    };
    assert_eq!(beginning("b foo k"), Some((true, "foo", 6)));
    assert_eq!(beginning("bulk foo  "), Some((true, "foo", 9)));
    assert_eq!(beginning("m foo key key"), Some((false, "foo", 6)));
    assert_eq!(beginning("multi  k"), Some((false, "", 7)));
    for other in [
        "",
        "b",
        "b ",
        "b foo",
        "b foo ",
        "bulky foo k",
        "s foo key",
        "c f k",
        "list b f k",
    ] {
        assert_eq!(beginning(other), None, "{other:?}");
    }
}
