//! The manifest's bytes: what decodes is written to a disk and read back as the same.
#![no_main]

use grapevine_fuzz::checksums;
use grapevine_store::disk::SimulatedDisk;
use grapevine_store::manifest::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let file = checksums::file(input, |bytes| _ = checksums::repair_manifest(bytes));
    let Ok(manifest) = Manifest::decode(&file) else {
        return;
    };
    let disk = SimulatedDisk::new();
    manifest.write(&disk).expect("a simulated disk takes it");
    let again = Manifest::read(&disk).expect("what was written is read");
    // Compared as text: a row may hold NaN, which equals nothing.
    assert_eq!(format!("{again:?}"), format!("{:?}", Some(manifest)));
});
