//! Tests of the log: what it promises when all goes well, and its refusals.

mod crash;
mod damage;
mod format;

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::*;
use crate::disk::{Operation, RealDisk, SimulatedDisk};

const ID: DirectoryId = *b"data directory 1";

/// Segments of a few frames, so that every test crosses some.
fn small() -> LogConfig {
    LogConfig {
        segment_size: 400,
        max_payload: 64,
        max_waiting: 4096,
        salt: 7,
    }
}

fn open_with(disk: &SimulatedDisk, config: LogConfig) -> Result<(Log, OpenReport), OpenError> {
    open_from(disk, config, 0)
}

/// Opens the log, or makes it where there is none.
fn open_from(
    disk: &SimulatedDisk,
    config: LogConfig,
    replay_from: Position,
) -> Result<(Log, OpenReport), OpenError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    if segment::list(disk, "log").is_ok_and(|segments| segments.is_empty()) {
        let log = Log::create(shared, "log", ID, config, 0)?;
        return Ok((log, OpenReport::default()));
    }
    Log::open(shared, "log", ID, config, replay_from)
}

fn open(disk: &SimulatedDisk) -> (Log, OpenReport) {
    open_with(disk, small()).expect("the log opens")
}

fn entries_from(log: &Log, from: Position) -> Result<Vec<(Position, Vec<u8>)>, ReadError> {
    let mut entries = Vec::new();
    log.read_from(from, |position, entry| {
        entries.push((position, entry.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

fn entries(log: &Log) -> Vec<Vec<u8>> {
    let read = entries_from(log, log.start()).expect("the log reads");
    read.into_iter().map(|(_, entry)| entry).collect()
}

/// An entry that tells its number and has its own length, from 4 to 40 bytes.
fn entry(number: u32) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + (number as usize * 7) % 37, number as u8);
    bytes
}

#[test]
fn entries_come_back_in_order_across_segments() {
    let disk = SimulatedDisk::new();
    let (log, _) = open(&disk);
    let mut positions = Vec::new();
    for number in 0..60 {
        positions.push(log.append(&entry(number)).expect("append"));
        if number % 3 == 0 {
            log.commit(log.appended()).expect("commit");
        }
    }
    log.commit(log.appended()).expect("commit");
    let expected: Vec<_> = (0..60).map(entry).collect();
    assert_eq!(entries(&log), expected);
    assert!(
        log.counts().segments > 3,
        "the workload must cross segments"
    );
    assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
    // A position that covers entry n reads on at entry n + 1.
    for (number, position) in positions.iter().enumerate() {
        let rest = entries_from(&log, *position).expect("read");
        assert_eq!(rest.len(), 59 - number, "from {position}");
    }
    log.close().expect("close");
    drop(log);
    let (log, report) = open(&disk);
    assert_eq!((report.cut, report.unread), (None, None));
    assert_eq!(entries(&log), expected);
    assert_eq!(log.synced(), log.committed());
}

#[test]
fn a_read_that_breaks_says_where_to_go_on() {
    let (log, _) = open(&SimulatedDisk::new());
    log.append_all([b"a".as_slice(), b"bb", b""])
        .expect("append");
    log.commit(log.appended()).expect("commit");
    let next = log
        .read_from(0, |_, _| ControlFlow::Break(()))
        .expect("read");
    let rest: Vec<_> = entries_from(&log, next)
        .expect("read")
        .into_iter()
        .map(|e| e.1)
        .collect();
    assert_eq!(rest, [b"bb".to_vec(), Vec::new()]);
    assert!(matches!(
        entries_from(&log, 1 << 40),
        Err(ReadError::Beyond { .. })
    ));
}

#[test]
fn an_entry_that_fits_no_frame_is_refused_and_leaves_nothing() {
    let (log, _) = open(&SimulatedDisk::new());
    let longest = vec![1; 60];
    log.append(&longest).expect("the longest entry fits");
    let refused = log.append(&[2; 61]);
    assert_eq!(
        refused,
        Err(LogError::EntryTooLong {
            length: 61,
            limit: 60
        })
    );
    let refused = log.append_all([[3; 10].as_slice(), &[4; 61]]);
    assert!(matches!(refused, Err(LogError::EntryTooLong { .. })));
    drop(log.begin().expect("begin"));
    log.commit(log.appended()).expect("commit");
    assert_eq!(entries(&log), [longest]);
    let beyond = log.commit(log.appended() + 1);
    assert!(matches!(beyond, Err(LogError::NotAppended { .. })));
}

#[test]
fn an_appender_writes_first_when_too_much_waits() {
    let (log, _) = open(&SimulatedDisk::new());
    for number in 0..400 {
        log.append(&entry(number)).expect("append");
        assert!(log.appended() - log.committed() <= 2 * 4096);
    }
    assert!(log.committed() > 0, "nobody called commit");
    let mut appender = log.begin().expect("begin");
    let refused = (0..1000).find_map(|_| appender.entry(&[9; 60]).err());
    assert_eq!(refused, Some(LogError::BatchTooLong { limit: 8192 }));
    drop(appender);
    log.commit(log.appended()).expect("commit");
    assert_eq!(entries(&log), (0..400).map(entry).collect::<Vec<_>>());
}

#[test]
fn one_failed_sync_or_write_makes_it_read_only_for_good() {
    for operation in [Operation::Sync, Operation::Write] {
        let disk = SimulatedDisk::new();
        let (log, _) = open(&disk);
        log.append(b"first").expect("append");
        let kept = log.sync().expect("sync");
        log.append(b"second").expect("append");
        disk.fail_next(operation, 0, ErrorKind::StorageFull);
        assert!(
            matches!(log.sync(), Err(LogError::Failed { .. })),
            "{operation:?}"
        );
        let before = disk.operations();
        assert!(matches!(log.append(b"third"), Err(LogError::Failed { .. })));
        assert!(matches!(log.commit(1), Err(LogError::Failed { .. })));
        assert!(matches!(log.sync(), Err(LogError::Failed { .. })));
        assert!(matches!(log.mark_synced(), Err(LogError::Failed { .. })));
        assert_eq!(
            disk.operations(),
            before,
            "a failed sync is never tried again"
        );
        let LogState::Failed(failure) = log.state() else {
            panic!("still open")
        };
        assert_eq!(failure.kind, ErrorKind::StorageFull);
        assert_eq!(log.synced(), kept);
        assert_eq!(entries(&log)[0], b"first");
    }
}

/// After a failed sync the bytes are in memory, clean, and will never reach the device. The next
/// process must not take them for durable.
#[test]
fn bytes_of_a_failed_sync_are_not_taken_for_durable_after_a_restart() {
    let disk = SimulatedDisk::new();
    let (log, _) = open(&disk);
    log.append(b"first").expect("append");
    log.sync().expect("sync");
    log.append(b"second").expect("append");
    disk.fail_next(Operation::Sync, 0, ErrorKind::Other);
    log.sync().expect_err("the sync fails");
    disk.kill();
    let (log, _) = open(&disk);
    assert_eq!(entries(&log), [b"first"]);
}

#[test]
fn truncation_removes_whole_segments_that_end_before() {
    let disk = SimulatedDisk::new();
    let (log, _) = open(&disk);
    for number in 0..60 {
        log.append(&entry(number)).expect("append");
    }
    log.commit(log.appended()).expect("commit");
    let all = entries_from(&log, 0).expect("read");
    assert_eq!(
        log.truncate_before(10).expect("truncate"),
        0,
        "position 10 is still asked for"
    );
    let (middle, _) = all[30];
    assert!(log.truncate_before(middle).expect("truncate") > 0);
    assert!(log.start() > 0 && log.start() <= middle);
    assert_eq!(entries_from(&log, middle).expect("read"), all[30..]);
    assert!(matches!(entries_from(&log, 0), Err(ReadError::Gone { .. })));
    log.truncate_before(Position::MAX).expect("truncate");
    let end = log.committed();
    assert!(log.start() < end, "the newest segment stays");
    drop(log);
    let refused = open_with(&disk, small()).expect_err("a log that no longer reaches back");
    assert!(matches!(refused, OpenError::NotHeld { replay_from: 0, .. }));
    let (log, _) = Log::open(Arc::new(disk.clone()), "log", ID, small(), end).expect("open");
    assert!(log.committed() >= end);
    let refused = Log::open(Arc::new(disk), "log", ID, small(), end + 4096);
    assert!(matches!(
        refused,
        Err(OpenError::NotHeld { held: Some(_), .. })
    ));
}

#[test]
fn a_log_of_another_directory_or_of_the_future_is_refused_by_name() {
    let disk = SimulatedDisk::new();
    drop(open(&disk));
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let refused = Log::open(Arc::clone(&shared), "log", [9; 16], small(), 0);
    assert!(matches!(refused, Err(OpenError::WrongDirectory { .. })));
    let refused = Log::create(Arc::clone(&shared), "log", ID, small(), 0);
    assert!(matches!(refused, Err(OpenError::Exists { .. })));
    let header = format::future_header();
    crate::disk::replace_file(&disk, "log/00000000000000000000.log", &header).expect("replace");
    let refused = open_with(&disk, small());
    assert!(matches!(
        refused,
        Err(OpenError::FutureVersion {
            found: 2,
            newest: 1,
            ..
        })
    ));
    let empty: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
    let refused = Log::open(Arc::clone(&empty), "log", ID, small(), 5);
    assert!(matches!(
        refused,
        Err(OpenError::NotHeld { held: None, .. })
    ));
    let log = Log::create(empty, "log", ID, small(), 5000).expect("create");
    log.append(b"x").expect("append");
    log.sync().expect("sync");
    assert_eq!((log.start(), entries(&log)), (5000, vec![b"x".to_vec()]));
}

#[test]
fn a_mark_is_written_once_per_stretch_of_data() {
    let disk = SimulatedDisk::new();
    let (log, _) = open(&disk);
    assert!(!log.mark_synced().expect("mark"), "nothing to mark");
    log.append(b"x").expect("append");
    assert!(!log.mark_synced().expect("mark"), "data waits");
    log.commit(log.appended()).expect("commit");
    assert!(!log.mark_synced().expect("mark"), "data is not synced");
    log.sync().expect("sync");
    assert!(log.mark_synced().expect("mark"));
    assert!(!log.mark_synced().expect("mark"), "marks beget no marks");
    log.sync().expect("sync");
    assert!(!log.mark_synced().expect("mark"));
    let operations = disk.operations();
    log.commit(log.appended()).expect("commit");
    log.sync().expect("sync");
    assert_eq!(disk.operations(), operations, "an idle log does nothing");
}

#[test]
fn threads_find_their_entries_once_and_in_order() {
    const THREADS: u32 = 8;
    const EACH: u32 = 400;
    let root = tempfile::tempdir().expect("directory");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(root.path().to_owned()));
    let config = LogConfig {
        segment_size: 16 << 10,
        max_payload: 512,
        ..small()
    };
    let log = Log::create(Arc::clone(&disk), "log", ID, config, 0).expect("create");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let log = &log;
            scope.spawn(move || {
                for number in 0..EACH {
                    let bytes = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                    let position = log.append(&bytes).expect("append");
                    log.commit(position).expect("commit");
                    assert!(log.committed() >= position);
                    if number % 50 == thread {
                        assert!(log.sync().expect("sync") >= position);
                    }
                }
            });
        }
    });
    log.close().expect("close");
    drop(log);
    let (log, report) = Log::open(Arc::clone(&disk), "log", ID, config, 0).expect("open");
    assert_eq!(report.cut, None);
    assert!(report.segments > 3);
    let mut next = [0; THREADS as usize];
    for entry in entries(&log) {
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().expect("8 bytes"));
        assert_eq!(next[word(0) as usize], word(4), "thread {}", word(0));
        next[word(0) as usize] += 1;
    }
    assert_eq!(next, [EACH; THREADS as usize]);
    assert_eq!(verify(&*disk, "log").expect("verify"), []);
}
