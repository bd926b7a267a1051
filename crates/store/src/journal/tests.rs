//! What peers are sent: durable operations, by origin, from where they lack them.

use std::sync::Arc;

use grapevine_core::sync::Shown;

use super::*;
use crate::disk::{Disk, SimulatedDisk};
use crate::log::LogConfig;

const ME: Origin = Origin::new([1; 16]);
const OTHER: Origin = Origin::new([2; 16]);

fn journal(disk: &SimulatedDisk) -> Journal {
    let there = !disk.list(LOG_DIR).expect("a list").is_empty();
    let (disk, config) = (Arc::new(disk.clone()), LogConfig::default());
    let log = if there {
        Log::open(disk, LOG_DIR, ME.bytes(), config, 0).map(|(log, _)| log)
    } else {
        Log::create(disk, LOG_DIR, ME.bytes(), config, 0)
    };
    let log = log.expect("a log");
    Journal::new(log, ME, Bookmark::default(), 0)
}

fn append(journal: &Journal, stream: Stream, text: &str) -> Dot {
    let write = |_, entry: &mut EntryBuffer<'_>| entry.extend_from_slice(text.as_bytes());
    journal.append(stream, write).expect("appended").1
}

fn wanted(origin: Origin, first: u64) -> BTreeMap<Origin, u64> {
    BTreeMap::from([(origin, first)])
}

/// The operations found, as text.
fn texts(found: &Found) -> Vec<(Origin, u64, String)> {
    let Found::Runs { runs, .. } = found else {
        panic!("{found:?}");
    };
    let each = runs.iter().flat_map(|(origin, run)| {
        let numbered = (run.first..).zip(&run.operations);
        numbered.map(|(number, bytes)| (*origin, number, String::from_utf8_lossy(bytes).into()))
    });
    each.collect()
}

#[test]
fn numbers_are_given_for_each_stream_and_only_the_groups_count() {
    let journal = journal(&SimulatedDisk::new());
    let own = append(&journal, Stream::Group, "a");
    let local = append(&journal, Stream::Local, "b");
    let next = append(&journal, Stream::Group, "c");
    assert_eq!((own.sequence, local.sequence, next.sequence), (1, 1, 2));
    assert_eq!(journal.applied().get(ME), 2);
}

#[test]
fn nothing_is_read_before_it_is_durable_and_nothing_of_this_node_alone() {
    let journal = journal(&SimulatedDisk::new());
    append(&journal, Stream::Group, "a");
    append(&journal, Stream::Local, "private");
    let found = journal.read(&wanted(ME, 1), None, 1000).expect("read");
    assert_eq!(texts(&found), []);
    assert_eq!(journal.durable().get(ME), 0);
    journal.sync().expect("synced");
    append(&journal, Stream::Group, "b");
    let found = journal.read(&wanted(ME, 1), None, 1000).expect("read");
    assert_eq!(texts(&found), [(ME, 1, "a".to_owned())]);
    assert_eq!(journal.durable().get(ME), 1);
}

#[test]
fn a_reader_gets_what_it_wants_and_goes_on_where_it_stopped() {
    let journal = journal(&SimulatedDisk::new());
    for number in 1..=20u64 {
        append(&journal, Stream::Group, &format!("own {number}"));
        let dot = Dot {
            origin: OTHER,
            sequence: number,
        };
        journal.append_foreign(dot, b"foreign").expect("appended");
    }
    journal.sync().expect("synced");
    let (mut next, mut place, mut read) = (5, None, Vec::new());
    loop {
        let found = journal.read(&wanted(ME, next), place, 20).expect("read");
        let Found::Runs { end, next: at, .. } = &found else {
            panic!("{found:?}");
        };
        let part = texts(&found);
        next += part.len() as u64;
        (place, read) = (Some(*at), [read, part].concat());
        if *end {
            break;
        }
    }
    let expected = (5..=20).map(|number| (ME, number, format!("own {number}")));
    assert_eq!(read, expected.collect::<Vec<_>>());
}

#[test]
fn what_came_with_a_snapshot_is_not_in_the_log() {
    let journal = journal(&SimulatedDisk::new());
    let version = [(OTHER, 7), (ME, 99)].into_iter().collect();
    let write = |entry: &mut EntryBuffer<'_>| entry.extend_from_slice(b"adopted");
    journal
        .append_version(&version, &Shown::new(), write)
        .expect("appended");
    journal.sync().expect("synced");
    assert_eq!(journal.applied().get(OTHER), 7);
    assert_eq!(journal.applied().get(ME), 0, "nobody knows more of it");
    let found = journal.read(&wanted(OTHER, 3), None, 1000).expect("read");
    assert_eq!(found, Found::Gone);
}

/// A bookmark stands for everything before its position: an adoption whose entry lies there is
/// not replayed, so its version must be in the bookmark.
#[test]
fn a_bookmark_taken_during_an_adoption_does_not_lose_it() {
    let (rounds, adoptions) = (100, 100u64);
    for _ in 0..rounds {
        let journal = journal(&SimulatedDisk::new());
        let adopt = || {
            for number in 1..=adoptions {
                let version = [(OTHER, number)].into_iter().collect();
                let write = |entry: &mut EntryBuffer<'_>| entry.extend_from_slice(b"adopted");
                journal
                    .append_version(&version, &Shown::new(), write)
                    .expect("appended");
            }
        };
        let look = || {
            let mut seen = 0;
            while seen < 2 * adoptions {
                let Bookmark { at, local, .. } = journal.bookmark().expect("a bookmark");
                let adopted = at.version.get(OTHER);
                // Each is two entries: the marks of the origin, and the version.
                assert_eq!(2 * adopted, local);
                seen = local;
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(look);
            scope.spawn(look);
            scope.spawn(look);
            adopt();
        });
    }
}
