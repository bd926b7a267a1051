//! The bitmap of the group: what is kept, what others are told, what they bring.

mod alone;
mod descriptors;
mod histories;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use grapevine_core::operation::{Operation as Change, encode_bits};
use grapevine_core::origin::Origin;
use grapevine_core::sync::{Page, PageError, Read, Replica, Source};
use grapevine_core::version::Dot;

use super::*;
use crate::disk::{CrashPlan, NameFate, Operation, SimulatedDisk, WriteFate};
use crate::filters::Entropy;
use crate::log::LogConfig;
use crate::manifest::Manifest;

const SECTION_BITMAP: u8 = 3;
const STRANGER: Origin = Origin::new([9; 16]);

/// Distinct bytes each time.
fn entropy() -> Entropy {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Arc::new(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        u128::from(number)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)
            .to_le_bytes()
    })
}

fn options() -> Options {
    Options {
        log: LogConfig::default(),
        memory: 1 << 20,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    }
}

fn open(disk: &SimulatedDisk) -> Arc<Collections> {
    let opened = Collections::open(Arc::new(disk.clone()), options(), entropy());
    Arc::new(opened.expect("the directory opens").0)
}

fn bits(collections: &Collections) -> Vec<u16> {
    collections.bitmap().bits().iter().collect()
}

/// The node's own operations, as a peer reads them.
fn operations(collections: &Arc<Collections>) -> Vec<Vec<u8>> {
    collections.journal().sync().expect("synced");
    let mut exchange = Exchange::new(Arc::clone(collections));
    let wanted = [(collections.journal().origin(), 1)].into();
    let Read::Runs { runs, .. } = exchange.read(&wanted, None, 1 << 20) else {
        panic!("the log reaches back");
    };
    runs.into_iter().flat_map(|run| run.operations).collect()
}

/// The bits that they set.
fn told(collections: &Arc<Collections>) -> Vec<Vec<u16>> {
    let operations = operations(collections).into_iter();
    let bits = |operation: Vec<u8>| match grapevine_core::operation::decode(&operation) {
        Ok(Change::Bits(bits)) => Some(bits.indexes().collect()),
        // Of the run that made them.
        Ok(Change::Mark(_)) => None,
        other => panic!("{other:?} is no operation on a bitmap"),
    };
    operations.filter_map(bits).collect()
}

fn operation(bits: &[u16]) -> Vec<u8> {
    let mut encoded = Vec::new();
    encode_bits(&mut encoded, bits);
    encoded
}

#[test]
fn only_new_bits_are_told_and_each_once() {
    let collections = open(&SimulatedDisk::new());
    let bitmap = collections.bitmap();
    assert_eq!(bitmap.set(&[]).expect("nothing to do"), 0);
    let first = bitmap.set(&[7, 3, 7, 65_199, 65_200]).expect("set");
    assert!(first > 0 && first == collections.journal().appended());
    assert_eq!(bitmap.set(&[3, 7]).expect("set"), first, "nothing is new");
    assert_eq!(bitmap.set(&[]).expect("nothing to do"), first);
    assert_eq!(collections.journal().appended(), first);
    let second = bitmap.set(&[3, 4]).expect("set");
    assert!(second > first);
    assert_eq!(told(&collections), [vec![3, 7, 65_199], vec![4]]);
    assert_eq!(bits(&collections), [3, 4, 7, 65_199]);
}

#[test]
fn more_bits_than_one_operation_takes_are_several() {
    let disk = SimulatedDisk::new();
    let collections = open(&disk);
    let all: Vec<u16> = (0..u16::MAX).collect();
    collections.bitmap().set(&all).expect("set");
    let told = told(&collections);
    assert_eq!(told.len(), 4, "65,200 bits, 16,384 at a time");
    assert_eq!(told.concat(), bits(&collections));
    drop(collections);
    disk.kill();
    assert_eq!(bits(&open(&disk)).len(), 65_200);
}

#[test]
fn bits_are_in_the_manifest_and_in_the_log_after_it() {
    let disk = SimulatedDisk::new();
    let collections = open(&disk);
    collections.bitmap().set(&[1, 2, 1999]).expect("set");
    collections.checkpoint().expect("a snapshot");
    collections.bitmap().set(&[64_000]).expect("set");
    drop(collections);
    disk.kill();
    let manifest = Manifest::read(&disk).expect("it reads").expect("it is");
    assert_eq!(manifest.bitmap.len(), 250, "nothing above the last bit");
    let collections = open(&disk);
    assert_eq!(bits(&collections), [1, 2, 1999, 64_000]);
    collections.bitmap().set(&[2]).expect("set");
    let origin = collections.journal().origin();
    let operations = collections.journal().applied().get(origin);
    let marks = collections.journal().history(origin).marks().len();
    let changes = operations - marks as u64;
    assert_eq!(changes, 2, "it was there, so there is no third");
}

#[test]
fn what_could_not_be_written_is_not_readable() {
    for failing in [Operation::Write, Operation::Sync] {
        let disk = SimulatedDisk::new();
        let collections = open(&disk);
        let bitmap = collections.bitmap();
        bitmap.set(&[1]).expect("set");
        collections.journal().sync().expect("synced");
        disk.fail_next(failing, 0, ErrorKind::Other);
        let set = bitmap.set(&[2, 3]);
        let kept = match failing {
            Operation::Write => {
                assert!(set.is_err());
                vec![1]
            }
            // Written, but no sync will tell.
            _ => {
                let position = set.expect("written");
                assert!(collections.journal().sync().is_err());
                assert!(collections.journal().synced() < position);
                vec![1, 2, 3]
            }
        };
        assert_eq!(bits(&collections), kept, "{failing:?}");
        assert_eq!(bitmap.set(&[]).expect("questions go on"), 0);
        assert_eq!(bitmap.set(&[1]).expect("nothing new"), 0);
        bitmap.set(&[4]).expect_err("no more writes");
        assert_eq!(bits(&collections), kept);
        let page = Exchange::new(Arc::clone(&collections)).page(SECTION_BITMAP, &[], 1 << 10);
        assert_eq!(page, None, "nobody is shown what may be lost");
        drop(collections);
        disk.kill();
        let after = bits(&open(&disk));
        assert!(after.contains(&1) && !after.contains(&4), "{after:?}");
    }
}

#[test]
fn bits_of_others_are_kept_and_passed_on_as_theirs() {
    let disk = SimulatedDisk::new();
    let collections = open(&disk);
    let dot = |sequence| Dot {
        origin: STRANGER,
        sequence,
    };
    collections.bitmap().set(&[5]).expect("set");
    collections
        .apply(dot(1), &operation(&[5, 65_199]))
        .expect("it rests on nothing");
    let covered = collections.bitmap().set(&[]).expect("nothing to do");
    assert_eq!(covered, collections.journal().appended());
    let refused = collections.apply(dot(2), &operation(&[65_200]));
    assert!(matches!(refused, Err(Hindrance::Operation(_))));
    assert_eq!(collections.journal().applied().get(STRANGER), 1);
    collections.journal().sync().expect("synced");
    drop(collections);
    disk.crash(CrashPlan {
        writes: WriteFate::Lost,
        names: NameFate::Lost,
        seed: 1,
    });
    let collections = open(&disk);
    assert_eq!(bits(&collections), [5, 65_199]);
    let mut exchange = Exchange::new(Arc::clone(&collections));
    let read = exchange.read(&[(STRANGER, 1)].into(), None, 1 << 10);
    let Read::Runs { runs, .. } = read else {
        panic!("the log reaches back: {read:?}");
    };
    assert_eq!(runs[0].origin, STRANGER);
    assert_eq!(runs[0].operations, [operation(&[5, 65_199])]);
    assert_eq!(told(&collections), [vec![5]], "what was there is not new");
}

#[test]
fn a_snapshot_brings_the_bits_and_none_is_told_as_this_nodes_own() {
    let (here, there) = (SimulatedDisk::new(), SimulatedDisk::new());
    let theirs = open(&there);
    theirs.bitmap().set(&[1, 2, 64_000]).expect("set");
    let mut exchange = Exchange::new(Arc::clone(&theirs));
    let page = exchange.page(SECTION_BITMAP, &[], 1 << 10).expect("a page");
    let synced = theirs.journal().synced();
    assert_eq!(synced, theirs.journal().appended(), "what is shown stays");
    assert_eq!((page.bytes.len(), &page.next), (8001, &None));

    let collections = open(&here);
    collections.bitmap().set(&[2]).expect("set");
    let mut exchange = Exchange::new(Arc::clone(&collections));
    let version = VersionVector::default();
    let source = Source {
        version: &version,
        comparing: false,
    };
    for _ in 0..2 {
        let parts = exchange.merge_page(&page, source).expect("it merges");
        assert!(parts.is_empty());
    }
    assert_eq!(bits(&collections), [1, 2, 64_000]);
    assert_eq!(told(&collections), [vec![2]]);
    let origins = collections.journal().applied();
    assert_eq!(origins.iter().count(), 1, "no version came with them");
    drop((exchange, collections));
    here.crash(CrashPlan {
        writes: WriteFate::Lost,
        names: NameFate::Lost,
        seed: 1,
    });
    let collections = open(&here);
    assert_eq!(bits(&collections), [1, 2, 64_000], "they are in the log");
    collections.checkpoint().expect("a snapshot");
    drop(collections);
    here.kill();
    assert_eq!(bits(&open(&here)), [1, 2, 64_000], "and in the manifest");
}

#[test]
fn a_page_that_is_no_bitmap_is_refused() {
    let collections = open(&SimulatedDisk::new());
    let page = Page {
        section: SECTION_BITMAP,
        after: Vec::new(),
        next: None,
        bytes: vec![0xFF; 8151],
    };
    let misplaced = |after: &[u8], next: Option<Vec<u8>>| Page {
        after: after.to_vec(),
        next,
        bytes: vec![1],
        ..page.clone()
    };
    let (second, more) = (misplaced(&[1], None), misplaced(&[], Some(vec![1])));
    let mut exchange = Exchange::new(Arc::clone(&collections));
    for malformed in [page, second, more] {
        let version = VersionVector::default();
        let source = Source {
            version: &version,
            comparing: false,
        };
        let refused = exchange.merge_page(&malformed, source);
        let expected = PageError::Rows {
            section: SECTION_BITMAP,
            at: 0,
        };
        assert_eq!(refused.err(), Some(expected));
    }
    assert!(bits(&collections).is_empty());
    assert_eq!(collections.journal().appended(), 0);
}

#[test]
fn a_manifest_holds_the_bits_of_the_operations_before_it_and_no_others() {
    let collections = open(&SimulatedDisk::new());
    let origin = collections.journal().origin();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each is one operation.
            for bit in 0..20_000 {
                collections.bitmap().set(&[bit]).expect("set");
            }
            done.store(true, Ordering::Release);
        });
        let mut last = false;
        while !last {
            last = done.load(Ordering::Acquire);
            let manifest = collections.manifest().expect("the node takes writes");
            let held = manifest.bookmark.at.version.get(origin);
            let bitmap = grapevine_core::bitmap::Bitmap::from_bytes(163, &manifest.bitmap);
            let bits: Vec<u16> = bitmap.expect("bits").iter().collect();
            // The first operation is the mark of the run.
            assert_eq!(bits, (0..held.saturating_sub(1) as u16).collect::<Vec<_>>());
        }
    });
    assert_eq!(bits(&collections).len(), 20_000);
}

#[test]
fn a_snapshot_that_cannot_be_read_back_leaves_the_one_before_and_the_log() {
    let disk = SimulatedDisk::new();
    let collections = open(&disk);
    collections.bitmap().set(&[1]).expect("set");
    collections.checkpoint().expect("a snapshot");
    let before = disk.bytes("manifest").expect("a manifest");
    disk.rot_when_synced(Some("manifest.new"));
    collections.bitmap().set(&[2]).expect("set");
    for _ in 0..2 {
        let error = collections.checkpoint().expect_err("it is read back");
        let named = matches!(&error, crate::filters::FilterError::Unreadable(_));
        assert!(named && error.to_string().contains("manifest"), "{error}");
        assert!(collections.unreadable_snapshot().is_some());
        assert_eq!(disk.bytes("manifest").expect("a manifest"), before);
    }
    collections
        .bitmap()
        .set(&[3])
        .expect("it still takes writes");
    collections.journal().sync().expect("synced");
    drop(collections);
    disk.kill();
    let collections = open(&disk);
    assert_eq!(bits(&collections), [1, 2, 3], "the log has the rest");
    disk.rot_when_synced(None);
    collections.checkpoint().expect("a snapshot");
    assert_eq!(collections.unreadable_snapshot(), None);
}
