//! The operation log from files that are right, damaged or anything: checked, opened, read,
//! appended to and opened again.
#![no_main]

use std::ops::ControlFlow;
use std::sync::Arc;

use arbitrary::Arbitrary;
use grapevine_fuzz::segment::{ID, SALT, Segment};
use grapevine_store::disk::{Disk, OpenMode, SimulatedDisk};
use grapevine_store::log::{Log, LogConfig, OpenError, OpenReport, ReadError, verify};
use libfuzzer_sys::fuzz_target;

const DIRECTORY: &str = "log";
const LAST_ENTRY: &[u8] = b"appended after the opening";

#[derive(Arbitrary, Debug)]
struct Case {
    start: Start,
    segments: Vec<Segment>,
    damage: Vec<Damage>,
    /// Added to the position at which the log starts, to ask it to replay and read from there.
    replay_after: u8,
    read_after: u16,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Start {
    Zero,
    Low(u16),
    Any(u64),
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Flip { segment: u8, offset: u16, bit: u8 },
    Cut { segment: u8, keep: u16 },
}

fuzz_target!(|case: Case| {
    let disk = SimulatedDisk::new();
    let Some(start) = write(&disk, &case) else {
        return;
    };
    verify(&disk, DIRECTORY).expect("the directory can be listed");
    let replay = start.saturating_add(u64::from(case.replay_after));
    let Ok((log, report)) = open(&disk, replay) else {
        return;
    };
    check_entries(&case, &log, &report);
    let _ = log.read_from(
        log.start().saturating_add(u64::from(case.read_after)),
        |_, _| ControlFlow::Continue(()),
    );
    check_continuation(&disk, log);
});

fn write(disk: &SimulatedDisk, case: &Case) -> Option<u64> {
    let first = match case.start {
        Start::Zero => 0,
        Start::Low(start) => u64::from(start),
        Start::Any(start) => start,
    };
    disk.create_dir(DIRECTORY)
        .expect("an empty disk takes a directory");
    let mut start = first;
    for (index, segment) in case.segments.iter().enumerate() {
        let mut bytes = segment.file(start);
        for damage in &case.damage {
            apply(damage, index, &mut bytes);
        }
        let file = disk
            .open(&format!("{DIRECTORY}/{start:020}.log"), OpenMode::Create)
            .ok()?;
        file.write_at(0, &bytes).ok()?;
        file.sync().ok()?;
        let frames = segment.file(start).len().saturating_sub(64) as u64;
        start = start.checked_add(frames)?;
    }
    disk.sync_dir(DIRECTORY).ok()?;
    Some(first)
}

fn apply(damage: &Damage, index: usize, bytes: &mut Vec<u8>) {
    match *damage {
        Damage::Flip {
            segment,
            offset,
            bit,
        } if usize::from(segment) == index => {
            if let Some(byte) = bytes.get_mut(usize::from(offset)) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Damage::Cut { segment, keep } if usize::from(segment) == index => {
            bytes.truncate(usize::from(keep));
        }
        Damage::Flip { .. } | Damage::Cut { .. } => {}
    }
}

fn open(disk: &SimulatedDisk, replay_from: u64) -> Result<(Log, OpenReport), OpenError> {
    let config = LogConfig {
        salt: SALT,
        ..LogConfig::default()
    };
    Log::open(Arc::new(disk.clone()), DIRECTORY, ID, config, replay_from)
}

fn entries(log: &Log) -> Result<Vec<Vec<u8>>, ReadError> {
    let mut entries = Vec::new();
    log.read_from(log.start(), |_, entry| {
        entries.push(entry.to_vec());
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// A log that nobody damaged gives back what it was made of.
fn check_entries(case: &Case, log: &Log, report: &OpenReport) {
    let written: Option<Vec<Vec<&[u8]>>> = case.segments.iter().map(Segment::entries).collect();
    if let Some(written) = written
        && case.damage.is_empty()
        // Segments without frames share their name, so that the last one stands for all.
        && case.segments.iter().all(|segment| !segment.parts.is_empty())
    {
        assert!(report.cut.is_none(), "nothing was torn");
        let read = entries(log).expect("an undamaged log is read");
        assert_eq!(read, written.concat());
    }
}

/// A log that opens and can be read takes one more entry, and is the same when opened again.
fn check_continuation(disk: &SimulatedDisk, log: Log) {
    let Ok(mut expected) = entries(&log) else {
        return;
    };
    let start = log.start();
    if log.append(LAST_ENTRY).is_err() || log.sync().is_err() {
        return;
    }
    expected.push(LAST_ENTRY.to_vec());
    drop(log);
    let (log, report) = open(disk, start).expect("a log that was written opens");
    assert!(report.cut.is_none(), "what was synced is not cut");
    assert_eq!(entries(&log).expect("it is read"), expected);
    let findings = verify(disk, DIRECTORY).expect("the directory can be listed");
    assert!(
        !findings.iter().any(|finding| finding.is_corruption()),
        "{findings:?}"
    );
}
