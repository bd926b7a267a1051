//! Properties of the codec. Data taken from the original is held against the merging of tables,
//! and against the whole program.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

#[test]
fn versions_are_signed_numbers_of_64_bits() {
    for (text, expected) in [
        ("0", Some(0)),
        ("007", Some(7)),
        ("+5", Some(5)),
        ("-0", Some(0)),
        ("-3", Some(-3)),
        ("9223372036854775807", Some(i64::MAX)),
        ("-9223372036854775808", Some(i64::MIN)),
        ("00000000000000000000000000000000000001", Some(1)),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("18446744073709551616", None),
        ("", None),
        ("+", None),
        ("-", None),
        ("+-1", None),
        ("0x10", None),
        (" 5", None),
        ("5 ", None),
        ("abc", None),
    ] {
        assert_eq!(number(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn lines_have_up_to_three_columns() {
    let row = |line: &'static str| {
        let row = Row::parse(line.as_bytes());
        [row.key, row.version, row.value].map(|column| String::from_utf8_lossy(column).into_owned())
    };
    assert_eq!(row("k\t5\tv"), ["k", "5", "v"]);
    assert_eq!(row("k\t5\t\tv\t w\t"), ["k", "5", "\tv\t w\t"]);
    assert_eq!(row("k\t5"), ["k", "5", ""]);
    assert_eq!(row("k"), ["k", "", ""]);
    assert_eq!(row("k\t"), ["k", "", ""]);
    assert_eq!(row(""), ["", "", ""]);
    assert!(Row::parse(b"k\t-5").is_well_formed());
    assert!(!Row::parse(b"\t5\tv").is_well_formed());
    assert!(!Row::parse(b"k\tx\tv").is_well_formed());
    let keys: Vec<&[u8]> = rows(b"\na\t1\tx\n\t5\ty\n\nb").map(|row| row.key).collect();
    assert_eq!(keys, [b"a", b"b"]);
}

#[test]
fn what_would_be_another_row_is_refused() {
    for (key, value, expected) in [
        ("a b", " \\n\tv ", Ok(())),
        ("a", "", Ok(())),
        ("", "v", Err(RowError::EmptyKey)),
        ("a\tb", "v", Err(RowError::TabInKey)),
        ("a\nb", "v", Err(RowError::LineEndInKey)),
        ("a", "v\nb\t5\tw", Err(RowError::LineEndInValue)),
    ] {
        assert_eq!(Row::check(key.as_bytes(), value.as_bytes()), expected);
    }
}

#[test]
fn half_of_the_rows_are_dropped_until_they_fit() {
    let text: Vec<u8> = (0..100u8)
        .flat_map(|key| [key + 100, b'\t', b'1', b'\n'])
        .collect();
    let rows: Vec<Row<'_>> = rows(&text).collect();
    let mut tried = Vec::new();
    let mut squeezed = |bytes_max| {
        tried.clear();
        let packet = pack(&rows, bytes_max, |text| {
            tried.push(lines(text).count());
            Ok::<_, Infallible>(text.to_vec())
        });
        let packet = packet.expect("infallible").map(|packet| packet.rows);
        (packet, tried.clone())
    };
    // Each row is five bytes once it has all its columns.
    assert_eq!(squeezed(500), (Some(100), vec![100]));
    assert_eq!(squeezed(130), (Some(25), vec![100, 50, 25]));
    assert_eq!(squeezed(5), (Some(1), vec![100, 50, 25, 12, 6, 3, 1]));
    assert_eq!(squeezed(4), (None, vec![100, 50, 25, 12, 6, 3, 1]));
    assert_eq!(squeezed(0), (None, vec![]));
    let none = pack(&[], 500, |text| Ok::<_, Infallible>(text.to_vec()));
    assert_eq!(none, Ok(None));
}

#[test]
fn rows_that_cannot_fit_are_not_packed_in_vain() {
    let value = vec![b'x'; 10 * PACK_RATIO_MAX];
    let row = Row {
        key: b"k",
        version: b"1",
        value: &value,
    };
    let packet = pack(&[row; 3], 11, |_| Err("tried"));
    assert_eq!(packet, Err("tried"));
    let packet = pack(&[row; 3], 10, |_| Err("tried"));
    assert_eq!(packet, Ok(None));
}

proptest! {
    #[test]
    fn numbers_are_those_of_the_standard_library(text in "[-+0-9]{0,22}|[+-]?922337203685477[0-9]{4,5}|.{0,3}") {
        prop_assert_eq!(number(text.as_bytes()), text.parse().ok());
    }

    #[test]
    fn any_text_is_lines_and_whole_rows_read_the_same(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut again: Vec<u8> = lines(&text).flat_map(|line| [line, b"\n"].concat()).collect();
        if !text.ends_with(b"\n") {
            again.truncate(text.len());
        }
        prop_assert_eq!(&again, &text);
        for row in rows(&text) {
            let mut encoded = Vec::new();
            row.encode(&mut encoded);
            prop_assert_eq!(encoded.len(), row.encoded_bytes());
            let read: Vec<Row<'_>> = rows(&encoded).collect();
            prop_assert_eq!(read, [row]);
        }
    }

    #[test]
    fn columns_are_in_the_order_of_their_bytes(
        one in prop::collection::vec(any::<u8>(), 0..4),
        other in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        prop_assume!(!one.contains(&SEPARATOR) && !other.contains(&SEPARATOR));
        let with_tab = |column: &[u8]| [column, b"\t"].concat();
        prop_assert_eq!(column_order(&one, &other), with_tab(&one).cmp(&with_tab(&other)));
    }
}

#[test]
fn what_a_shell_script_would_change_is_known() {
    let whole = |line: &str| Row::parse(line.as_bytes()).is_handed_on_whole();
    for line in [
        "k\t5\tv",
        "k/a.b\t-5\ta  b\tc",
        "k\t5\t",
        "\u{e9}\t5\t\u{e9}",
    ] {
        assert!(whole(line), "{line:?}");
    }
    for line in [
        "a b\t5\tv",
        "a\\b\t5\tv",
        "a\u{1}\t5\tv",
        "k\t5\t v",
        "k\t5\tv ",
        "k\t5\t\tv",
        "k\t5\tv\t",
        "k\t5\ta\\tb",
        "k\t5\ta\0b",
        "k\tx\tv",
        "\t5\tv",
    ] {
        assert!(!whole(line), "{line:?}");
    }
}
