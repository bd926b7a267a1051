//! Bit rot in what was durable: named, never cut, never served.

use super::super::segment::{self, HeaderFault, START_MAX};
use super::*;
use crate::disk::{CrashPlan, NameFate, OpenMode, WriteFate};

/// A log of several segments, synced and marked. The salt and all else are fixed.
fn marked(disk: &SimulatedDisk) -> Vec<Vec<u8>> {
    let (log, _) = open(disk);
    for number in 0..24 {
        log.append(&entry(number)).expect("append");
        log.commit(log.appended()).expect("commit");
        if number % 5 == 4 {
            log.sync().expect("sync");
        }
    }
    log.close().expect("close");
    assert!(log.counts().segments >= 2);
    entries(&log)
}

/// Names of the segments.
fn segments(disk: &SimulatedDisk) -> Vec<String> {
    let names = disk.list("log").expect("list").into_iter();
    names.filter(|name| name.ends_with(".log")).collect()
}

/// What was synced and marked is known beside the segments: a newest segment that is gone, or
/// shorter by whole frames, is not taken for a log that came no further.
#[test]
fn a_newest_segment_that_is_gone_or_older_is_named() {
    let path = |name: &String| format!("log/{name}");
    let disk = SimulatedDisk::new();
    marked(&disk);
    let names = segments(&disk);
    let last = names.last().expect("segments").clone();
    let gone = disk.fork();
    gone.remove(&path(&last)).expect("remove");
    let (mut empty, mut cut) = (None, Vec::new());
    let length = disk.bytes(&path(&last)).expect("bytes").len() as u64;
    for keep in [0, 64, length / 2] {
        let fork = disk.fork();
        let file = fork.open(&path(&last), OpenMode::ReadWrite).expect("open");
        file.set_len(keep).expect("cut");
        if keep == 0 {
            empty = Some(fork);
        } else {
            cut.push(fork);
        }
    }
    let single = SimulatedDisk::new();
    let (log, _) = open(&single);
    log.append(&entry(1)).expect("append");
    log.close().expect("close");
    let older = single.bytes(&path(&names[0])).expect("bytes");
    log.append(&entry(2)).expect("append");
    log.close().expect("close");
    drop(log);
    let file = single
        .open(&path(&names[0]), OpenMode::Create)
        .expect("open");
    file.write_at(0, &older).expect("an older copy");
    for (disk, name) in [(gone, &last), (single, &names[0])]
        .into_iter()
        .chain(cut.into_iter().chain(empty).map(|disk| (disk, &last)))
    {
        let refused = open_with(&disk, small()).expect_err("less than was durable");
        assert!(refused.to_string().contains(&path(name)), "{refused}");
        let findings = verify(&disk, "log").expect("verify");
        let named = |finding: &Finding| finding.is_corruption() && finding.file == path(name);
        assert!(findings.iter().any(named), "{findings:?}");
    }
}

/// The file beside the segments is no data: without it, or with one that is not whole, the log is
/// opened as its segments are.
#[test]
fn a_log_whose_reached_end_is_not_known_is_opened_and_it_is_noted_anew() {
    let disk = SimulatedDisk::new();
    let expected = marked(&disk);
    let whole = disk.bytes("log/reached").expect("it is there");
    let flipped = disk.fork();
    flipped.flip_bit("log/reached", 20, 1).expect("flip");
    let findings = verify(&flipped, "log").expect("verify");
    assert_eq!(findings[0].file, "log/reached");
    disk.remove("log/reached").expect("remove");
    for disk in [disk, flipped] {
        let (log, _) = open(&disk);
        assert_eq!(entries(&log), expected);
        assert_eq!(disk.bytes("log/reached").expect("it is there"), whole);
        assert_eq!(verify(&disk, "log").expect("verify"), []);
    }
}

#[test]
fn every_flipped_bit_of_a_marked_log_is_named() {
    let whole = SimulatedDisk::new();
    let expected = marked(&whole);
    let names = segments(&whole);
    let (mut corrupt, mut harmless) = (0, 0);
    for (index, name) in names.iter().enumerate() {
        let path = format!("log/{name}");
        let len = whole.bytes(&path).expect("bytes").len() as u64;
        for at in 0..len * 8 {
            let (offset, bit) = (at / 8, (at % 8) as u8);
            let disk = whole.fork();
            disk.flip_bit(&path, offset, bit).expect("flip");
            let findings = verify(&disk, "log").expect("verify");
            let finding = findings.first().expect("a flip is found");
            assert_eq!(finding.file, path);
            assert!(
                finding.offset <= offset,
                "{finding:?} for a flip at {offset}"
            );
            if finding.is_corruption() {
                corrupt += 1;
                // Damage in the last segment also stops the start; none is ever served.
                match open_with(&disk, small()) {
                    Err(_) => {}
                    Ok((log, report)) => {
                        assert_ne!(index + 1, names.len(), "opened over damage at {offset}");
                        assert_eq!(report.cut, None);
                        entries_from(&log, 0).expect_err("damage is not served");
                    }
                }
            } else {
                harmless += 1;
                let (log, report) = open_with(&disk, small()).expect("a flip in the mark");
                assert_eq!(
                    report.cut.expect("cut").bytes,
                    frame::FRAME_HEADER_LEN as u64
                );
                assert_eq!(entries(&log), expected, "no entry is lost");
            }
        }
    }
    assert_eq!(
        harmless,
        frame::FRAME_HEADER_LEN * 8,
        "the final mark and nothing else"
    );
    assert!(corrupt > 8 * 1000);
}

#[test]
fn damage_is_left_as_it_is_and_told_with_file_and_offset() {
    let disk = SimulatedDisk::new();
    marked(&disk);
    let name = segments(&disk).pop().expect("segments");
    let path = format!("log/{name}");
    disk.flip_bit(&path, 64 + 32, 0).expect("flip");
    let before = disk.bytes(&path).expect("bytes");
    match open_with(&disk, small()) {
        Err(OpenError::Corrupt {
            file,
            offset,
            what: frame::FrameFault::Checksum { .. },
        }) => {
            assert_eq!((file, offset), (path.clone(), 64));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.bytes(&path).expect("bytes"), before);
}

#[test]
fn a_missing_or_shortened_segment_in_the_middle_is_named() {
    let disk = SimulatedDisk::new();
    marked(&disk);
    let names = segments(&disk);
    let missing = disk.fork();
    missing
        .remove(&format!("log/{}", names[1]))
        .expect("remove");
    let refused = open_with(&missing, small());
    assert!(matches!(refused, Err(OpenError::Gap { .. })));
    let findings = verify(&missing, "log").expect("verify");
    assert!(
        findings
            .iter()
            .any(|finding| matches!(finding.what, Fault::Gap { .. }))
    );
    let file = disk.open(
        &format!("log/{}", names[0]),
        crate::disk::OpenMode::ReadWrite,
    );
    file.and_then(|file| file.set_len(100)).expect("shorten");
    assert!(matches!(
        open_with(&disk, small()),
        Err(OpenError::Gap { .. })
    ));
}

#[test]
fn a_torn_tail_is_cut_reported_and_kept_beside() {
    let disk = SimulatedDisk::new();
    let wide = LogConfig {
        segment_size: 1 << 20,
        ..small()
    };
    let (log, _) = open_with(&disk, wide).expect("open");
    log.append(b"whole").expect("append");
    log.sync().expect("sync");
    let end = log.committed();
    for round in 0..6u8 {
        let file = disk.open(
            "log/00000000000000000000.log",
            crate::disk::OpenMode::ReadWrite,
        );
        let file = file.expect("open");
        let at = file.len().expect("len");
        file.write_at(at, &[round; 40]).expect("write");
        disk.kill();
        let (log, report) = open_with(&disk, wide).expect("open");
        let cut = report.cut.expect("cut");
        assert_eq!((cut.bytes, cut.offset), (40, at));
        assert_eq!(disk.bytes(&cut.kept).expect("kept"), [round; 40]);
        let crashed = disk.fork();
        crashed.crash(CrashPlan {
            writes: WriteFate::Lost,
            names: NameFate::Lost,
            seed: 0,
        });
        assert_eq!(crashed.bytes(&cut.kept).expect("durable"), [round; 40]);
        assert_eq!(
            entries(&log),
            (0..=round).map(tail_entry).collect::<Vec<_>>()
        );
        log.append(&tail_entry(round + 1)).expect("append");
        log.sync().expect("sync");
    }
    assert!(end > 0);
    let names = disk.list("log").expect("list");
    let kept = names.iter().filter(|name| name.starts_with("cut-")).count();
    assert_eq!(kept, KEPT_CUTS);
}

fn tail_entry(round: u8) -> Vec<u8> {
    if round == 0 {
        b"whole".to_vec()
    } else {
        vec![b'r'; round as usize]
    }
}

/// A killed process leaves data that no frame vouches for; the next one marks it before all else.
#[test]
fn opening_marks_what_it_found() {
    let disk = SimulatedDisk::new();
    let (log, _) = open(&disk);
    log.append(b"data").expect("append");
    log.commit(log.appended()).expect("commit");
    disk.kill();
    drop(open(&disk));
    disk.flip_bit("log/00000000000000000000.log", 64 + 36, 3)
        .expect("flip");
    assert!(matches!(
        open_with(&disk, small()),
        Err(OpenError::Corrupt { offset: 64, .. })
    ));
}

/// Found by fuzzing: a segment without bytes and with the highest name of all was taken for one
/// that was being begun, and the first entry appended to it ran over the end of the numbers.
#[test]
fn a_segment_that_starts_beyond_all_logs_is_refused() {
    for (start, refused) in [
        (START_MAX, false),
        (START_MAX + 1, true),
        (Position::MAX, true),
    ] {
        let disk = SimulatedDisk::new();
        disk.create_dir("log").expect("directory");
        let file = disk.open(&segment::path("log", start), OpenMode::Create);
        let header = segment::SegmentHeader {
            start,
            id: ID,
            salt: 7,
        };
        file.and_then(|file| file.write_at(0, &header.encode()))
            .expect("file");
        let opened = Log::open(Arc::new(disk.clone()), "log", ID, small(), start);
        let beyond = HeaderFault::Beyond { named: start };
        let findings = verify(&disk, "log").expect("verify");
        if refused {
            assert!(matches!(
                opened.expect_err("refused"),
                OpenError::CorruptHeader { what, .. } if what == beyond
            ));
            assert_eq!(findings[0].what, Fault::Header(beyond));
            assert!(findings[0].is_corruption());
        } else {
            let (log, _) = opened.expect("it is opened");
            log.append(b"entry").expect("append");
            log.sync().expect("sync");
            assert!(findings.is_empty());
        }
    }
}
