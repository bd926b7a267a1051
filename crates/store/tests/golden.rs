//! Data directories that earlier versions wrote: each is read right, or refused by the name of its
//! version. See `golden/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grapevine_store::collections::Collections;
use grapevine_store::disk::RealDisk;

mod fixture;

/// Keys that were set in each filter, and as many that were not.
const KEYS: u64 = 60;

fn directories() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = fs::read_dir(golden).expect("the directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut directories: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    directories.sort();
    directories
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Holds one line of what is expected against what is there.
fn hold(node: &Collections, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["filter", name, kept] => {
            let handle = node.filters().get(name.as_bytes()).expect(line);
            let there = fixture::found(node.filters(), &handle, &fixture::keys(0..KEYS));
            assert_eq!(there.to_string(), kept, "{line}");
            let others = fixture::keys(KEYS..2 * KEYS);
            assert_eq!(
                fixture::found(node.filters(), &handle, &others),
                0,
                "{line}"
            );
        }
        ["bit", bit] => {
            let bit = bit.parse::<u16>().expect(line);
            assert!(node.bitmap().bits().iter().any(|set| set == bit), "{line}");
        }
        ["row", table, key, value] => {
            let row = node.tables().find(table.as_bytes(), key.as_bytes());
            let row = row.expect(line).expect(line);
            assert_eq!(row.values(), Some(value.as_bytes()), "{line}");
        }
        ["member", name] => {
            let members = node.members();
            let mut rows = members.rows().filter_map(|row| row.member().ok());
            assert!(rows.any(|member| member.name == name), "{line}");
        }
        _ => panic!("what is {line:?}?"),
    }
}

#[test]
fn what_earlier_versions_wrote_is_read_or_refused_by_its_version() {
    let directories = directories();
    assert!(!directories.is_empty());
    for directory in directories {
        let expected = fs::read_to_string(directory.join("expected")).expect("what is expected");
        let (outcome, contents) = expected.split_once('\n').expect("lines");
        let place = tempfile::tempdir().expect("a directory");
        copy(&directory.join("data"), place.path());
        let disk = Arc::new(RealDisk::new(place.path().to_owned()));
        let opened = Collections::open(disk, fixture::options(), fixture::entropy());
        let said = directory.display();
        match (outcome.strip_prefix("refused "), opened) {
            (Some(text), Err(error)) => {
                assert!(error.to_string().contains(text), "{said}: {error}");
                for entry in ["manifest", "identity", "log", "filters"] {
                    assert!(place.path().join(entry).exists(), "{said}: {entry} is gone");
                }
            }
            (None, Ok((node, _))) => contents.lines().for_each(|line| hold(&node, line)),
            (Some(_), Ok(_)) => panic!("{said}: it is not refused"),
            (None, Err(error)) => panic!("{said}: {error}"),
        }
    }
}
