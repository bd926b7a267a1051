//! Power cuts and kills at every operation, and by the thousand at random.

use proptest::prelude::*;

use super::*;
use crate::disk::{CrashPlan, NameFate, WriteFate};

const WRITES: [WriteFate; 6] = [
    WriteFate::Lost,
    WriteFate::Kept,
    WriteFate::Torn,
    WriteFate::Reordered,
    WriteFate::Flipped,
    WriteFate::Random,
];
const NAMES: [NameFate; 4] = [
    NameFate::Lost,
    NameFate::Kept,
    NameFate::Prefix,
    NameFate::Reordered,
];

/// What a client was told.
#[derive(Clone, Default)]
struct Ledger {
    appended: Vec<Vec<u8>>,
    /// How many of the first entries were said to be committed, and durable.
    committed: usize,
    synced: usize,
    /// Entries that truncation may have taken away.
    dropped: usize,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Append(u32),
    Commit,
    Sync,
    Mark,
    Truncate,
}

/// Start of the oldest segment; 0 when there is none, or no power to look.
fn oldest(disk: &SimulatedDisk) -> Position {
    let segments = segment::list(disk, "log").unwrap_or_default();
    segments.first().copied().unwrap_or_default()
}

/// Runs until the end or until the power goes. Nothing in it may fail for another reason.
fn run(disk: &SimulatedDisk, actions: &[Action], ledger: &mut Ledger) {
    // What an earlier life left counts as promised.
    let base = ledger.appended.len();
    let start = oldest(disk);
    let Ok((log, _)) = open_from(disk, small(), start) else {
        assert!(disk.is_down());
        return;
    };
    let mut ends = Vec::new();
    for action in actions {
        let result = match *action {
            Action::Append(number) => {
                ledger.appended.push(entry(number));
                log.append(&entry(number)).map(|end| ends.push(end))
            }
            Action::Commit => log.commit(log.appended()),
            Action::Sync => log.sync().map(drop),
            Action::Mark => log.mark_synced().map(drop),
            Action::Truncate => {
                let position = log.synced();
                ledger.dropped = base + ends.iter().filter(|end| **end <= position).count();
                log.truncate_before(position).map(drop)
            }
        };
        ledger.committed = base + ends.iter().filter(|end| **end <= log.committed()).count();
        ledger.synced = base + ends.iter().filter(|end| **end <= log.synced()).count();
        if result.is_err() {
            assert!(disk.is_down(), "{action:?}: {result:?}");
            return;
        }
    }
}

/// Opens after a crash and checks that the log holds at least the first `promised` entries, no
/// holes, nothing else, and that it holds them still after a second crash.
fn check(disk: &SimulatedDisk, ledger: &Ledger, promised: usize, what: &str) {
    let mut first = None;
    for round in 0..2 {
        let start = oldest(disk);
        let opened = open_from(disk, small(), start);
        let (log, _) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let read = entries(&log);
        if ledger.dropped == 0 {
            assert!(
                read.len() >= promised,
                "{what}: {} of {promised}",
                read.len()
            );
            assert_eq!(read[..], ledger.appended[..read.len()], "{what}");
        } else {
            // Some entries at the front are gone, but no more than truncation may take.
            let fits = (0..=ledger.dropped).any(|gone| {
                let rest = &ledger.appended[gone..];
                gone + read.len() >= promised && rest.starts_with(&read)
            });
            assert!(fits, "{what}: {read:?}");
        }
        let expected = first.get_or_insert_with(|| read.clone());
        assert_eq!(*expected, read, "{what}: what was served once stays");
        assert_eq!(verify(disk, "log").expect("verify"), [], "{what}");
        let plan = CrashPlan {
            writes: WriteFate::Lost,
            names: NameFate::Lost,
            seed: round,
        };
        disk.crash(plan);
    }
}

/// Cuts the power at every operation of the workload, with every fate.
fn exhaust(actions: &[Action], seeds: u64) -> u64 {
    let whole = SimulatedDisk::new();
    run(&whole, actions, &mut Ledger::default());
    let operations = whole.operations();
    for nth in 0..=operations {
        let disk = SimulatedDisk::new();
        disk.cut_power_at_operation(nth);
        let mut ledger = Ledger::default();
        run(&disk, actions, &mut ledger);
        assert_eq!(disk.is_down(), nth < operations);
        for (writes, names) in WRITES
            .iter()
            .flat_map(|w| NAMES.iter().map(move |n| (*w, *n)))
        {
            for seed in 0..seeds {
                let plan = CrashPlan {
                    writes,
                    names,
                    seed,
                };
                let crashed = disk.fork();
                crashed.crash(plan);
                check(
                    &crashed,
                    &ledger,
                    ledger.synced,
                    &format!("operation {nth}, {plan:?}"),
                );
            }
        }
        disk.kill();
        check(
            &disk,
            &ledger,
            ledger.committed,
            &format!("kill at operation {nth}"),
        );
    }
    operations
}

fn workload(commit_every: u32, sync_every: u32) -> Vec<Action> {
    let mut actions = Vec::new();
    for number in 0..24 {
        actions.push(Action::Append(number));
        if number % commit_every == 0 {
            actions.push(Action::Commit);
        }
        if number % sync_every == sync_every - 1 {
            actions.extend([Action::Sync, Action::Mark]);
        }
    }
    actions
}

#[test]
fn a_power_cut_at_any_operation_keeps_what_was_synced() {
    for (commit_every, sync_every) in [(1, 7), (3, 5), (2, 100)] {
        let operations = exhaust(&workload(commit_every, sync_every), 4);
        assert!(operations > 20, "{operations} operations");
    }
}

#[test]
fn a_power_cut_during_truncation_leaves_no_hole() {
    let mut actions = workload(2, 6);
    actions.extend([
        Action::Sync,
        Action::Truncate,
        Action::Append(77),
        Action::Sync,
    ]);
    exhaust(&actions, 4);
}

/// The power may also go while the log recovers from the cut before.
#[test]
fn a_power_cut_at_any_operation_of_recovery_loses_nothing_more() {
    let torn = SimulatedDisk::new();
    let mut ledger = Ledger::default();
    let mut actions = workload(1, 7);
    actions.extend((90..94).flat_map(|number| [Action::Append(number), Action::Commit]));
    run(&torn, &actions, &mut ledger);
    for seed in 0..64 {
        let first = CrashPlan {
            writes: WriteFate::Random,
            names: NameFate::Prefix,
            seed,
        };
        for nth in 0.. {
            let disk = torn.fork();
            disk.crash(first);
            disk.cut_power_at_operation(nth);
            let opened = open_from(&disk, small(), 0);
            let down = disk.is_down();
            assert_eq!(opened.is_err(), down);
            let plan = CrashPlan {
                seed: seed + nth,
                ..first
            };
            disk.crash(plan);
            check(
                &disk,
                &ledger,
                ledger.synced,
                &format!("{first:?}, then operation {nth}"),
            );
            if !down {
                break;
            }
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => any::<u16>().prop_map(|number| Action::Append(number.into())),
        4 => Just(Action::Commit),
        2 => Just(Action::Sync),
        1 => Just(Action::Mark),
        1 => Just(Action::Truncate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
    #[test]
    fn random_workloads_survive_random_crashes(
        actions in proptest::collection::vec(action(), 1..80),
        nth in 0u64..120,
        writes in proptest::sample::select(WRITES.as_slice()),
        names in proptest::sample::select(NAMES.as_slice()),
        seed: u64,
        kill: bool,
    ) {
        let disk = SimulatedDisk::new();
        disk.cut_power_at_operation(nth);
        let mut ledger = Ledger::default();
        run(&disk, &actions, &mut ledger);
        let promised = if kill {
            disk.kill();
            ledger.committed
        } else {
            disk.crash(CrashPlan { writes, names, seed });
            ledger.synced
        };
        check(&disk, &ledger, promised, "random");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]
    /// Frames of the tail that was cut must not come back behind the frames written in its place.
    #[test]
    fn a_second_life_never_brings_back_what_was_cut(
        length in 0usize..3,
        first in proptest::collection::vec(any::<u8>(), 1..12),
        second in proptest::collection::vec(any::<u8>(), 1..12),
        seeds: [u64; 2],
        nth in 0u64..40,
    ) {
        // Entries of one length, each in a frame of its own, so that frames lie where others lay.
        let life = |numbers: &[u8], tag: u32| -> Vec<Action> {
            let number = |n: &u8| Action::Append(tag + 37 * u32::from(*n) + length as u32);
            numbers.iter().flat_map(|n| [number(n), Action::Commit]).collect()
        };
        let disk = SimulatedDisk::new();
        let mut ledger = Ledger::default();
        run(&disk, &[Action::Append(0), Action::Sync, Action::Mark], &mut ledger);
        disk.kill();
        run(&disk, &life(&first, 37 * 1000), &mut ledger);
        let plan = CrashPlan { writes: WriteFate::Reordered, names: NameFate::Kept, seed: seeds[0] };
        disk.crash(plan);
        let left = {
            let (log, _) = open(&disk.fork());
            entries(&log)
        };
        let mut ledger = Ledger { appended: left.clone(), ..Ledger::default() };
        disk.cut_power_at_operation(nth);
        run(&disk, &life(&second, 37 * 9000), &mut ledger);
        disk.crash(CrashPlan { seed: seeds[1], ..plan });
        check(&disk, &ledger, ledger.synced, "second life");
    }
}
