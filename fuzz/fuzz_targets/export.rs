//! An exported filter, taken into an empty data directory within its memory bound. What was taken
//! in can be asked, and exported again.
#![no_main]

use grapevine_fuzz::checksums;
use grapevine_fuzz::data_directory::{MEMORY_MAX, open_empty};
use grapevine_store::filters::{Creation, Scratch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let file = checksums::file(input, checksums::repair_export);
    let node = open_empty();
    let filters = node.filters();
    let imported = filters.import(b"foreign", &mut &file[..]);
    assert!(filters.memory().used() <= MEMORY_MAX);
    if imported.is_err() {
        assert!(
            filters.get(b"foreign").is_none(),
            "a refused file leaves no filter"
        );
        return;
    }
    assert!(matches!(imported, Ok(Creation::Created(_))));
    let handle = filters.get(b"foreign").expect("an imported filter answers");
    let mut scratch = Scratch::default();
    filters
        .check(&handle, &[b"key"], &mut scratch)
        .expect("it can be asked");
    let mut copy = Vec::new();
    filters
        .export(&handle, &mut copy)
        .expect("it can be exported")
        .expect("memory takes it");
    let again = open_empty();
    let again = again.filters();
    assert!(matches!(
        again.import(b"copy", &mut &copy[..]),
        Ok(Creation::Created(_))
    ));
});
