//! Removing what is gone, and what it must not bring back.

use grapevine_core::operation::{encode_row, encode_rows_of};
use grapevine_core::table::{FLOOR_MAX, OUTSIDE_ADVANCE_MAX, OUTSIDE_VERSION_MAX, next_version};
use grapevine_core::version::Dot;
use proptest::prelude::*;

use super::exchange::{node_with_table, pages, send, send_own, settle, take_over};
use super::*;
use crate::disk::{CrashPlan, NameFate, WriteFate};
use crate::tables::{Changed, Changes, RowsMemory};

fn collect(node: &Collections, nodes: &[&Collections]) -> u64 {
    let stable = stable(nodes);
    node.tables().collect(&stable).expect("collected")
}

fn tombstones(node: &Collections) -> u64 {
    node.tables()
        .summary(b"t")
        .expect("whole rows")
        .expect("a table")
        .tombstones
}

/// Two nodes on which `k` was deleted: the first has removed the tombstone.
fn forgotten_by_one() -> (Arc<Collections>, Arc<Collections>) {
    let (_, a) = node_with_table();
    let (_, b) = node_with_table();
    set(&a, "k", "v");
    delete(&a, "k");
    settle(&[&a, &b]);
    assert_eq!(collect(&a, &[&a, &b]), 1);
    (a, b)
}

#[test]
fn a_node_alone_removes_at_once_and_stays_above() {
    let (disk, node) = node_with_table();
    let first = set(&node, "k", "v");
    delete(&node, "k");
    assert_eq!(collect(&node, &[&node]), 1, "in memory");
    assert_eq!((tombstones(&node), collect(&node, &[&node])), (0, 0));
    let second = set(&node, "k", "v");
    assert!(second > first, "above the floor");
    delete(&node, "k");
    node.checkpoint().expect("a snapshot");
    assert_eq!(collect(&node, &[&node]), 1, "in the file");
    node.checkpoint().expect("a snapshot");
    drop(node);
    disk.kill();
    let node = open(&disk);
    assert_eq!(tombstones(&node), 0);
    assert_eq!(value(&node, "k"), None);
    assert!(set(&node, "k", "v") > second, "the floor was kept");
}

#[test]
fn nothing_goes_before_all_have_it_nor_from_a_linked_table() {
    let (_, a) = node_with_table();
    let (_, b) = node_with_table();
    set(&a, "k", "v");
    settle(&[&a, &b]);
    delete(&a, "k");
    assert_eq!(collect(&a, &[&a, &b]), 0);
    settle(&[&a, &b]);
    assert_eq!(collect(&a, &[&a, &b]), 1);
    set(&b, "k", "w");
    delete(&b, "k");
    settle(&[&a, &b]);
    b.tables().link(b"t").expect("linked");
    assert_eq!(collect(&b, &[&a, &b]), 0);
    assert_eq!(tombstones(&b), 1);
}

/// Its maker was set back while its state was being taken: nobody has the operation.
#[test]
fn a_row_that_no_operation_made_goes_once_it_is_due() {
    let (_, a) = node_with_table();
    let (_, b) = node_with_table();
    settle(&[&a, &b]);
    set(&a, "k", "v");
    delete(&a, "k");
    pages(&a, &b, 1 << 20, false);
    assert_eq!(tombstones(&b), 1);
    let mut stable = stable(&[&b]);
    let collected = |stable: &Stable| b.tables().collect(stable).expect("collected");
    assert_eq!(collected(&stable), 0, "the rest of the state may come");
    stable.at_rest = true;
    assert_eq!((collected(&stable), tombstones(&b)), (1, 0));
}

#[test]
fn a_later_row_wins_where_the_tombstone_still_is() {
    let (a, b) = forgotten_by_one();
    set(&a, "k", "again");
    send(&a, &b);
    assert_eq!(value(&b, "k").as_deref(), Some("again"));
}

#[test]
fn what_a_joiner_made_alone_is_written_again_above_the_floor() {
    let (a, b) = forgotten_by_one();
    let (_, joiner) = node_with_table();
    let old = [(b"k".to_vec(), row(1, "made alone"))];
    joiner.tables().merge(b"t", old).expect("merged");
    settle(&[&a, &b, &joiner]);
    for node in [&a, &b, &joiner] {
        assert_eq!(value(node, "k").as_deref(), Some("made alone"));
    }
}

#[test]
fn the_same_when_its_state_is_taken_over() {
    let (a, b) = forgotten_by_one();
    let (_, joiner) = node_with_table();
    let old = [(b"k".to_vec(), row(1, "made alone"))];
    joiner.tables().merge(b"t", old).expect("merged");
    take_over(&joiner, &a, 1 << 20);
    send_own(&a, &b);
    assert_eq!(value(&b, "k").as_deref(), Some("made alone"));
}

/// It was written again above the floor, and above what others had set there since.
#[test]
fn a_deletion_that_a_joiner_made_alone_deletes_nothing_that_was_set_since() {
    let (a, b) = forgotten_by_one();
    let (_, joiner) = node_with_table();
    let alone = Row {
        content: Content::Tombstone,
        ..row(1, "")
    };
    let old = [(b"k".to_vec(), alone)];
    joiner.tables().merge(b"t", old).expect("merged");
    let own = a.journal().applied().get(origin(&a));
    send(&joiner, &a);
    assert_eq!(a.journal().applied().get(origin(&a)), own);
    set(&b, "k", "set since");
    settle(&[&a, &b, &joiner]);
    for node in [&a, &b, &joiner] {
        assert_eq!(value(node, "k").as_deref(), Some("set since"));
    }
}

#[test]
fn a_members_rows_below_anothers_floor_stay_as_they_are() {
    let (_, a) = node_with_table();
    let (_, b) = node_with_table();
    for number in 0..3000 {
        let old = [(format!("old{number}").into_bytes(), row(1 << 40, "v"))];
        a.tables().merge(b"t", old).expect("merged");
        delete(&a, &format!("old{number}"));
    }
    settle(&[&a, &b]);
    assert_eq!(collect(&a, &[&a, &b]), 3000, "floors nearly everywhere");
    let own = a.journal().applied().get(origin(&a));
    let versions: Vec<i64> = (0..50).map(|n| set(&b, &format!("new{n}"), "v")).collect();
    send(&b, &a);
    assert_eq!(
        a.journal().applied().get(origin(&a)),
        own,
        "none is written again"
    );
    for (number, version) in versions.into_iter().enumerate() {
        let key = format!("new{number}");
        let found = a.tables().get(b"t", key.as_bytes(), 0).expect("reads");
        assert_eq!(found.expect("a table").row.expect("there").version, version);
    }
}

#[test]
fn rows_removed_there_go_here_and_those_removed_here_stay_away() {
    let (_, a) = node_with_table();
    let (_, away) = node_with_table();
    for key in ["k", "stays"] {
        set(&a, key, "v");
    }
    settle(&[&a, &away]);
    // It left; the others forget without it.
    delete(&a, "k");
    set(&a, "new", "v");
    assert_eq!(collect(&a, &[&a]), 1);
    let since = away.tables().page(b"t", b"", 9, 99, 0).expect("reads");
    let since = since.expect("a table").position;
    set(&away, "alone", "v");
    take_over(&a, &away, 1 << 20);
    let changes = away.tables().changes(b"t", since, 9).expect("reads");
    assert_eq!(
        changes,
        Changes::Reset,
        "a watcher cannot be told what is gone"
    );
    take_over(&away, &a, 1 << 20);
    let expected = ["alone", "new", "stays"].map(|key| (key.to_owned(), "v".to_owned()));
    assert_eq!(shown(&away, "t"), expected);
    assert_eq!(shown(&a, "t"), expected);
}

#[test]
fn floors_come_with_the_state() {
    let (_, a) = node_with_table();
    let high = [(b"k".to_vec(), row(1 << 50, "v"))];
    a.tables().merge(b"t", high).expect("merged");
    delete(&a, "k");
    assert_eq!(collect(&a, &[&a]), 1);
    let (_, b) = node_with_table();
    take_over(&a, &b, 1 << 20);
    assert!(set(&b, "k", "v") > 1 << 50);
}

#[test]
fn a_watcher_that_saw_the_tombstone_is_not_sent_back() {
    let (_, node) = node_with_table();
    let early = node.tables().page(b"t", b"", 9, 99, 0).expect("reads");
    let early = early.expect("a table").position;
    set(&node, "k", "v");
    delete(&node, "k");
    let late = node.journal().appended();
    assert_eq!(collect(&node, &[&node]), 1);
    let changes = |since| node.tables().changes(b"t", since, 9).expect("reads");
    // Memory still knows of it.
    let told = |rows: &[Changed]| rows.len() == 1 && rows[0].row.is_tombstone();
    assert!(matches!(changes(early), Changes::Rows { rows, .. } if told(&rows)));
    assert!(matches!(changes(late), Changes::Rows { rows, .. } if rows.is_empty()));
    set(&node, "k", "again");
    let told = |rows: &[Changed]| rows.len() == 1 && !rows[0].row.is_tombstone();
    assert!(matches!(changes(early), Changes::Rows { rows, .. } if told(&rows)));
}

#[test]
fn a_watcher_that_has_not_seen_the_tombstone_is_sent_back_once_nothing_knows_of_it() {
    let memory = RowsMemory {
        recent: 0,
        ..RowsMemory::default()
    };
    let disk = Arc::new(SimulatedDisk::new());
    let opened = Collections::open_within(disk, options(), memory, entropy());
    let node = opened.expect("it opens").0;
    node.tables().create(b"t").expect("made");
    set(&node, "k", "v");
    let early = node.journal().appended();
    delete(&node, "k");
    let late = node.journal().appended();
    assert_eq!(collect_alone(&node), 1);
    let changes = |since| node.tables().changes(b"t", since, 9).expect("reads");
    assert_eq!(changes(early), Changes::Reset);
    assert!(matches!(changes(late), Changes::Rows { rows, .. } if rows.is_empty()));
}

#[test]
fn an_operation_is_replayed_once_so_nothing_comes_back() {
    let disk = SimulatedDisk::new();
    let node = open(&disk);
    node.tables().create(b"t").expect("made");
    node.checkpoint().expect("a snapshot");
    set(&node, "k", "old");
    delete(&node, "k");
    // The rows go to the file, the manifest does not move: the log still has both operations.
    node.tables().flush().expect("flushed");
    assert_eq!(collect(&node, &[&node]), 1);
    node.tables().flush().expect("flushed");
    set(&node, "j", "new");
    node.journal().sync().expect("synced");
    drop(node);
    disk.crash(CrashPlan {
        writes: WriteFate::Lost,
        names: NameFate::Lost,
        seed: 1,
    });
    let node = open(&disk);
    assert_eq!(shown(&node, "t"), [("j".to_owned(), "new".to_owned())]);
    assert_eq!(tombstones(&node), 0, "the operations were not met again");
}

#[test]
fn no_row_locks_another_key_of_its_bucket() {
    let (_, a) = node_with_table();
    let last = [(b"k".to_vec(), row(i64::MAX - 1, "v"))];
    let merged = a
        .tables()
        .merge(b"t", last)
        .expect("merged")
        .expect("a table");
    assert_eq!((merged.changed, merged.refused), (0, 1));
    // A member had one before such rows were refused: it stays, and holds up its own key alone.
    let dot = Dot {
        origin: Origin::new([9; 16]),
        sequence: 1,
    };
    let mut bytes = Vec::new();
    encode_rows_of(&mut bytes, b"t", None);
    encode_row(&mut bytes, b"k", &row(i64::MAX - 1, "v"), None);
    a.apply(dot, &bytes).expect("taken");
    assert!(delete(&a, "k"));
    assert_eq!(collect(&a, &[&a]), 0, "no floor can carry it");
    let refused = a.tables().set(b"t", b"k", b"v", None);
    assert!(matches!(
        refused,
        Err(crate::tables::TableError::Versions(_))
    ));
    let neighbours = neighbours("k", 3);
    for key in &neighbours {
        set(&a, key, "v");
    }
}

/// Keys of the same bucket.
fn neighbours(key: &str, count: usize) -> Vec<String> {
    let bucket = grapevine_core::table::bucket(key.as_bytes());
    let keys = (0..).map(|number| format!("n{number}"));
    keys.filter(|key| grapevine_core::table::bucket(key.as_bytes()) == bucket)
        .take(count)
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Import(usize, i64),
    Set(usize),
    Delete(usize),
    Collect,
}

fn step() -> impl Strategy<Value = Step> {
    let near = |end: i64| (0..1_000_000_i64).prop_map(move |below| end - below);
    let version = prop_oneof![
        any::<i64>(),
        near(i64::MAX),
        near(FLOOR_MAX),
        near(OUTSIDE_VERSION_MAX),
        near(OUTSIDE_VERSION_MAX + OUTSIDE_ADVANCE_MAX),
    ];
    prop_oneof![
        (0..4_usize, version).prop_map(|(key, version)| Step::Import(key, version)),
        (0..4_usize).prop_map(Step::Set),
        (0..4_usize).prop_map(Step::Delete),
        Just(Step::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever was imported, set, deleted and removed, all keys of the bucket can be changed.
    #[test]
    fn no_sequence_of_changes_locks_a_key(steps in prop::collection::vec(step(), 1..60)) {
        let (_, node) = node_with_table();
        let keys = neighbours("k", 5);
        for step in steps {
            match step {
                Step::Import(key, version) => {
                    let rows = [(keys[key].clone().into_bytes(), row(version, "v"))];
                    node.tables().merge(b"t", rows).expect("merged");
                }
                Step::Set(key) => {
                    set(&node, &keys[key], "v");
                }
                Step::Delete(key) => {
                    delete(&node, &keys[key]);
                }
                Step::Collect => {
                    collect(&node, &[&node]);
                }
            }
            for key in &keys {
                let table = node.tables().lock();
                let floor = table.tables[&b"t"[..]].floors.of(key.as_bytes());
                let record = table.get_one([b"t\t", key.as_bytes()].concat()).expect("reads");
                let old = record.map(|record| record.row.version);
                let next = next_version(old, floor, u32::MAX).expect("there is room");
                prop_assert!(next < i64::MAX - (1 << 60), "{next}");
            }
        }
        for key in &keys {
            set(&node, key, "v");
        }
    }
}
