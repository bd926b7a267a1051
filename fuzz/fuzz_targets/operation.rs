//! An entry of the log, or an operation from a peer: refused, or the same after being written
//! again.
#![no_main]

use grapevine_core::filter::Run;
use grapevine_core::operation::{
    EntryHeader, Operation, decode, encode_adopted_version, encode_bits, encode_change,
    encode_draw, encode_fork, encode_grant, encode_group, encode_insert, encode_mark, encode_marks,
    encode_member, encode_renewed_row, encode_row, encode_rows_of, encode_table,
    encode_table_drop,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|entry: &[u8]| {
    let Ok((header, bytes)) = EntryHeader::decode(entry) else {
        return;
    };
    assert!(entry.starts_with(&header.encode()), "a header has one form");
    let Ok(operation) = decode(bytes) else {
        return;
    };
    let mut again = Vec::new();
    match &operation {
        Operation::Insert(insert) => {
            let hashes: Vec<_> = insert.hashes().collect();
            let run = Run {
                layer: insert.spent.layer,
                opened: insert.spent.opened,
                count: hashes.len(),
                inserted: insert.spent.total,
            };
            encode_insert(&mut again, insert.spent.filter, run, &hashes);
            assert_eq!(again, bytes, "an insert has one form");
        }
        Operation::Draw(spent) => {
            encode_draw(&mut again, spent);
            assert_eq!(again, bytes, "a draw has one form");
        }
        Operation::Bits(bits) => {
            let indexes: Vec<_> = bits.indexes().collect();
            encode_bits(&mut again, &indexes);
            assert_eq!(again, bytes, "bits have one form");
        }
        Operation::Rows(rows) => {
            encode_rows_of(&mut again, rows.name, rows.epoch);
            let mut count = 0;
            for row in rows.iter() {
                match row.renewed {
                    true => encode_renewed_row(&mut again, row.key, &row.row, row.made_by),
                    false => encode_row(&mut again, row.key, &row.row, row.made_by),
                }
                count += 1;
            }
            assert_eq!(count, rows.count());
            assert_eq!(again, bytes, "rows have one form");
        }
        Operation::Mark(mark) => {
            encode_mark(&mut again, *mark);
            assert_eq!(again, bytes, "a mark has one form");
        }
        Operation::Marks(origin, history) => encode_marks(&mut again, *origin, history),
        Operation::Fork(first) => encode_fork(&mut again, *first),
        Operation::Table(row) => encode_table(&mut again, row),
        Operation::DropTable(dropped) => encode_table_drop(&mut again, dropped),
        Operation::Catalogue(change) => encode_change(&mut again, change),
        Operation::Grant(grant) => encode_grant(&mut again, grant),
        Operation::Member(row) => encode_member(&mut again, row),
        Operation::Group(group) => encode_group(&mut again, group),
        Operation::AdoptVersion(version) => encode_adopted_version(&mut again, version),
    }
    let second = decode(&again).expect("what was written is read");
    // Compared as text: a row may hold NaN, which equals nothing.
    assert_eq!(format!("{second:?}"), format!("{operation:?}"));
});
