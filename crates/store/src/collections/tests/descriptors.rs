//! No file can be opened for a while: nothing is lost by it, and nothing stays closed.

use grapevine_core::catalogue::{Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};

use super::*;
use crate::disk::Disk;
use crate::filters::{Creation, FilterError, NewFilter, Recreation, Scratch};
use crate::tables::ROWS_FILE;

fn open_with(disk: &SimulatedDisk, log: LogConfig) -> Arc<Collections> {
    let options = Options {
        log,
        memory: 1 << 20,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    };
    let opened = Collections::open(Arc::new(disk.clone()), options, entropy());
    Arc::new(opened.expect("the directory opens").0)
}

fn make(node: &Collections, name: &[u8]) {
    let parameters = Parameters {
        capacity: 1000,
        error: 1e-6,
        growth: Growth::By(4),
    };
    let new = NewFilter {
        parameters,
        storage: Storage::Durable,
        seed: None,
        scope: Scope::Group,
    };
    let made = node.filters().create(name, new, Recreation::AtOnce);
    assert!(matches!(made, Ok(Creation::Created(_))));
}

fn add(node: &Collections, name: &[u8], key: &[u8]) -> Result<(), FilterError> {
    let handle = node.filters().get(name).expect("it is there");
    let mut scratch = Scratch::default();
    let position = node.filters().set(&handle, &[key], &mut scratch)?;
    Ok(node.journal().commit(position)?)
}

fn has(node: &Collections, name: &[u8], key: &[u8]) -> Result<bool, FilterError> {
    let handle = node.filters().get(name).expect("it is there");
    let mut scratch = Scratch::default();
    node.filters().check(&handle, &[key], &mut scratch)?;
    Ok(scratch.found()[0])
}

#[test]
fn a_snapshot_and_a_filter_that_cannot_be_opened_are_tried_again() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    make(&node, b"f");
    add(&node, b"f", b"key").expect("set");
    node.tables().create(b"t").expect("made");
    disk.take_descriptors(true);
    let refused = node.checkpoint();
    assert!(
        matches!(refused, Err(FilterError::NoFile(_))),
        "{refused:?}"
    );
    assert!(node.journal().read_only().is_none());
    add(&node, b"f", b"another").expect("it takes writes");
    disk.take_descriptors(false);
    node.checkpoint().expect("a snapshot");
    assert!(disk.exists(ROWS_FILE).expect("asked"));

    let handle = node.filters().get(b"f").expect("it is there");
    node.filters().unload(&handle).expect("unloaded");
    disk.take_descriptors(true);
    for _ in 0..2 {
        let refused = has(&node, b"f", b"key");
        assert!(
            matches!(refused, Err(FilterError::NoFile(_))),
            "{refused:?}"
        );
    }
    assert_eq!(handle.damage(), None);
    disk.take_descriptors(false);
    assert!(has(&node, b"f", b"key").expect("it is read"));
    assert!(has(&node, b"f", b"another").expect("it is read"));
    disk.crash(cut());
    let node = open(&disk);
    assert!(has(&node, b"f", b"key").expect("it is read"));
}

/// A segment that cannot be begun is put off: the present one grows.
#[test]
fn the_log_goes_on_where_no_segment_can_be_begun() {
    let disk = SimulatedDisk::new();
    let log = LogConfig {
        segment_size: 4096,
        ..LogConfig::default()
    };
    let node = open_with(&disk, log);
    make(&node, b"f");
    let segments = |node: &Collections| node.journal().log_counts().segments;
    let before = segments(&node);
    disk.take_descriptors(true);
    for number in 0..500_u32 {
        add(&node, b"f", format!("key-{number}").as_bytes()).expect("set");
    }
    assert_eq!(segments(&node), before);
    disk.take_descriptors(false);
    add(&node, b"f", b"last").expect("set");
    assert!(segments(&node) > before);
    node.journal().sync().expect("synced");
    drop(node);
    disk.crash(cut());
    let node = open_with(&disk, log);
    for number in 0..500_u32 {
        let key = format!("key-{number}");
        assert!(
            has(&node, b"f", key.as_bytes()).expect("it is read"),
            "{key}"
        );
    }
}

/// The power goes, and takes all that was not synced.
fn cut() -> CrashPlan {
    CrashPlan {
        seed: 1,
        writes: WriteFate::Lost,
        names: NameFate::Lost,
    }
}
