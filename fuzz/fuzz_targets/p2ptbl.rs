//! p2ptbl's tables: any text is rows, which read the same when they are written again. Merged, in
//! any split and order, it becomes one table, which nothing changes any more.
#![no_main]

use std::convert::Infallible;

use grapevine_core::plain_table::{
    LastVersion, filter, merge, next_version, show, values, without_versions,
};
use grapevine_core::wire::p2ptbl::{Row, column_order, lines, number, pack, rows};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((cut, text)) = input.split_first() else {
        return;
    };
    for row in rows(text) {
        let mut line = Vec::new();
        row.encode(&mut line);
        assert_eq!(line.len(), row.encoded_bytes());
        assert_eq!(rows(&line).collect::<Vec<_>>(), [row]);
        assert_eq!(Row::check(row.key, row.value), Ok(()));
        let standard = std::str::from_utf8(row.version).ok();
        assert_eq!(
            number(row.version),
            standard.and_then(|text| text.parse().ok())
        );
    }
    let table = together(&[text]);
    check_merge(text, usize::from(*cut), &table);
    check_table(&table);
    check_filter(text, &table);
    check_pack(text, usize::from(*cut));
});

fn together(texts: &[&[u8]]) -> Vec<u8> {
    merge(texts).expect("few short texts")
}

fn check_merge(text: &[u8], cut: usize, table: &[u8]) {
    let all: Vec<&[u8]> = lines(text).collect();
    let (one, other) = all.split_at(cut % (all.len() + 1));
    let [one, other] = [one, other].map(|lines| lines.join(&b'\n'));
    assert_eq!(together(&[&one, &other]), table);
    assert_eq!(together(&[&other, &one, &other]), table);
    assert_eq!(together(&[&together(&[&other]), &one]), table);
    assert_eq!(together(&[table, table]), table);
    assert_eq!(together(&[table, text]), table);
}

fn check_table(table: &[u8]) {
    let found: Vec<Row<'_>> = rows(table).collect();
    assert_eq!(found.len(), lines(table).count());
    assert!(
        found
            .windows(2)
            .all(|pair| column_order(pair[0].key, pair[1].key).is_lt())
    );
    assert_eq!(lines(&show(table)).count(), found.len());
    for row in found {
        assert_eq!(values(table, row.key).collect::<Vec<_>>(), [row.value]);
        match next_version(table, row.key, 9) {
            Ok(next) => assert!(next > row.number().unwrap_or(0)),
            Err(LastVersion) => assert_eq!(row.number(), Some(i64::MAX)),
        }
    }
}

fn check_filter(text: &[u8], table: &[u8]) {
    let shown = without_versions(text).expect("a short text");
    assert_eq!(shown, show(table));
    let kept = filter(text, &shown, || 0).expect("a short text");
    assert_eq!(show(&kept), shown);
    assert_eq!(filter(text, b"", || 0), Ok(Vec::new()));
    // A text as what a program prints: no key that was not there.
    let other = filter(table, text, || 1).expect("a short text");
    assert!(rows(&other).all(|row| values(table, row.key).count() == 1));
}

fn check_pack(text: &[u8], bytes_max: usize) {
    let all: Vec<Row<'_>> = rows(text).collect();
    let packed = pack(&all, bytes_max, |text| Ok::<_, Infallible>(text.to_vec()));
    if let Ok(Some(packet)) = packed {
        assert!(packet.payload.len() <= bytes_max);
        let first: Vec<Row<'_>> = rows(&packet.payload).collect();
        assert_eq!(first, all[..packet.rows]);
    }
}
