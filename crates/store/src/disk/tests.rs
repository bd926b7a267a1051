//! Tests of both disks: one contract, and what only the simulated one can do.

use std::io::ErrorKind;

use super::*;

/// What every disk must do.
fn keeps_the_contract(disk: &dyn Disk) {
    for bad in ["", "/etc", "../x", "a/../b", "a//b", ".", "a\0b"] {
        let refused = disk.open(bad, OpenMode::Create).map(drop).expect_err(bad);
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{bad}");
    }
    assert_eq!(disk.list("d").expect("list"), Vec::<String>::new());
    disk.create_dir("d").expect("create");
    disk.create_dir("d").expect("again");
    let missing = disk
        .open("d/a", OpenMode::ReadWrite)
        .map(drop)
        .expect_err("missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let file = disk.open("d/b", OpenMode::Create).expect("create");
    file.write_at(3, b"xyz").expect("write");
    file.sync().expect("sync");
    let mut bytes = [9; 6];
    file.read_at(0, &mut bytes).expect("read");
    assert_eq!(bytes, *b"\0\0\0xyz");
    let short = file.read_at(1, &mut bytes).expect_err("beyond the end");
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
    file.set_len(4).expect("cut");
    file.drop_cache().expect("drop");
    assert_eq!(file.len().expect("len"), 4);
    let reader = disk.open("d/b", OpenMode::Read).expect("open");
    assert!(reader.write_at(0, b"no").is_err());
    disk.rename("d/b", "d/a").expect("rename");
    assert!(disk.exists("d/a").expect("exists") && !disk.exists("d/b").expect("exists"));
    replace_file(disk, "d/c", b"one").expect("replace");
    replace_file(disk, "d/c", b"two").expect("replace");
    assert_eq!(read_file(disk, "d/c", 3).expect("read"), b"two");
    let long = read_file(disk, "d/c", 2).expect_err("over the limit");
    assert_eq!(long.kind(), ErrorKind::FileTooLarge);
    assert_eq!(disk.list("d").expect("list"), ["a", "c"]);
    assert!(disk.remove_dir("d").is_err(), "not empty");
    disk.remove("d/a").expect("remove");
    file.read_at(0, &mut bytes[..4])
        .expect("an open handle keeps working");
    disk.remove("d/c").expect("remove");
    disk.remove_dir("d").expect("remove");
    disk.sync_dir("").expect("sync");
    assert!(!disk.exists("d").expect("exists"));
    assert!(disk.free_space().expect("space") > 0);
}

#[test]
fn both_disks_keep_the_contract() {
    keeps_the_contract(&SimulatedDisk::new());
    let root = tempfile::tempdir().expect("directory");
    keeps_the_contract(&RealDisk::new(root.path().to_owned()));
}

#[test]
fn a_directory_has_one_process() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().expect("directory");
    let lock = DirectoryLock::acquire(root.path()).expect("free");
    let refused = DirectoryLock::acquire(root.path())
        .expect_err("held")
        .to_string();
    assert!(
        refused.contains(&format!("pid {}", std::process::id())),
        "{refused}"
    );
    drop(lock);
    DirectoryLock::acquire(root.path()).expect("free again");
    let disk = RealDisk::new(root.path().join("sub"));
    disk.create_root().expect("root");
    disk.open("f", OpenMode::Create).expect("create");
    let mode = |name: &str| {
        let metadata = std::fs::metadata(root.path().join(name)).expect("metadata");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!((mode("sub"), mode("sub/f")), (0o700, 0o600));
}

fn plan(writes: WriteFate, names: NameFate, seed: u64) -> CrashPlan {
    CrashPlan {
        writes,
        names,
        seed,
    }
}

/// A file whose first 2048 bytes are durable zeros, with two unsynced writes over them.
fn dirty() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    replace_file(&disk, "f", &[0; 2048]).expect("replace");
    let file = disk.open("f", OpenMode::ReadWrite).expect("open");
    file.write_at(0, &[1; 1024]).expect("write");
    file.write_at(1024, &[2; 1024]).expect("write");
    disk
}

fn after(fate: WriteFate, seed: u64) -> Vec<u8> {
    let disk = dirty();
    disk.crash(plan(fate, NameFate::Kept, seed));
    disk.bytes("f").expect("bytes")
}

#[test]
fn each_fate_of_unsynced_writes_does_what_it_says() {
    let kept = [[1; 1024], [2; 1024]].concat();
    assert_eq!(after(WriteFate::Lost, 1), [0; 2048]);
    assert_eq!(after(WriteFate::Kept, 1), kept);
    let all = |fate| {
        (0..64)
            .map(move |seed| after(fate, seed))
            .collect::<Vec<_>>()
    };
    let torn = all(WriteFate::Torn);
    assert!(torn.iter().all(|bytes| bytes[..1024] == [1; 1024]));
    assert!(
        torn.iter()
            .any(|bytes| bytes[1024..1536] == [0; 512] && bytes[1536..] == [2; 512])
    );
    let later_only = [[0; 1024], [2; 1024]].concat();
    assert!(all(WriteFate::Reordered).contains(&later_only));
    for flipped in all(WriteFate::Flipped) {
        let wrong: u32 = flipped
            .iter()
            .zip(&kept)
            .map(|(a, b)| (a ^ b).count_ones())
            .sum();
        assert_eq!(wrong, 1);
    }
    assert_eq!(
        after(WriteFate::Random, 5),
        after(WriteFate::Random, 5),
        "a seed is a seed"
    );
}

#[test]
fn names_are_durable_only_once_their_directory_is_synced() {
    for (fate, found) in [(NameFate::Lost, false), (NameFate::Kept, true)] {
        let disk = SimulatedDisk::new();
        disk.create_dir("d").expect("create");
        disk.sync_dir("").expect("sync");
        let file = disk.open("d/f", OpenMode::Create).expect("create");
        file.write_at(0, b"x").expect("write");
        file.sync().expect("sync");
        let before = disk.fork();
        before.sync_dir("d").expect("sync");
        before.crash(plan(WriteFate::Lost, NameFate::Lost, 0));
        assert_eq!(before.bytes("d/f").expect("synced"), b"x");
        disk.crash(plan(WriteFate::Lost, fate, 0));
        assert_eq!(disk.exists("d/f").expect("exists"), found, "{fate:?}");
        assert!(disk.exists("d").expect("exists"));
        assert!(file.read_at(0, &mut [0]).is_err(), "a handle from before");
    }
}

#[test]
fn a_failed_sync_leaves_bytes_that_only_memory_holds() {
    let disk = dirty();
    let file = disk.open("f", OpenMode::ReadWrite).expect("open");
    disk.fail_next(Operation::Sync, 1, ErrorKind::Other);
    file.write_at(0, &[3; 8]).expect("write");
    file.sync().expect("the first one works");
    file.write_at(0, &[4; 8]).expect("write");
    file.sync().expect_err("the second one fails");
    file.sync().expect("and the third one lies");
    assert_eq!(disk.bytes("f").expect("bytes")[..8], [4; 8]);
    let cached = disk.fork();
    disk.crash(plan(WriteFate::Kept, NameFate::Kept, 0));
    assert_eq!(disk.bytes("f").expect("bytes")[..8], [3; 8]);
    cached.kill();
    assert_eq!(cached.bytes("f").expect("bytes")[..8], [4; 8]);
    cached
        .open("f", OpenMode::Read)
        .and_then(|file| file.drop_cache())
        .expect("drop");
    assert_eq!(cached.bytes("f").expect("bytes")[..8], [3; 8]);
}

#[test]
fn power_and_space_run_out_where_they_are_told_to() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(10);
    let file = disk.open("f", OpenMode::Create).expect("create");
    file.write_at(0, &[1; 10]).expect("fits");
    let full = file.write_at(10, &[1]).expect_err("full");
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(disk.free_space().expect("space"), 0);
    disk.cut_power_at_sync(1);
    file.sync().expect("sync");
    disk.sync_dir("").expect_err("cut");
    assert!(disk.is_down() && disk.list("").is_err());
    disk.crash(plan(WriteFate::Lost, NameFate::Kept, 0));
    assert_eq!(disk.bytes("f").expect("bytes"), [1; 10]);
}
