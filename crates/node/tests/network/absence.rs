//! Members that were away: longer than the log is kept, everybody at once, at another address.

use super::switch::Passing;
use super::*;

/// The least that either may be.
const SMALL_LOG: [&str; 2] = ["group.log_keep=1MiB", "filters.checkpoint_log=1MiB"];
/// Keys set at a time on each of two while a member is away; each takes some 20 bytes of log.
const KEYS: usize = 40_000;
const PARTS: usize = 4;
const KEYS_PER_LINE: usize = 500;

fn set(ledger: &Ledger, machine: &Machine, filter: &str, keys: std::ops::Range<usize>) {
    let mut client = machine.bloomd().expect("it serves");
    for from in keys.step_by(KEYS_PER_LINE) {
        let keys: Vec<String> = (from..from + KEYS_PER_LINE)
            .map(|number| format!("{}-{number}", machine.name))
            .collect();
        let answer = client.ask(&format!("b {filter} {}", keys.join(" ")));
        let answer = answer.expect("it answers");
        assert!(
            answer.starts_with("Yes") || answer.starts_with("No"),
            "{answer}"
        );
        ledger.enter(keys);
    }
}

fn flush(machine: &Machine) {
    let answer = machine.http("POST", "/api/v1/flush", "");
    let (status, body) = answer.expect("an answer");
    assert_eq!(status, 204, "{body}");
}

#[test]
fn a_member_away_longer_than_the_log_is_kept_catches_up_by_snapshot() {
    let lab = Lab::new(["a", "b", "c"]);
    let [a, b, c] = &lab.machines;
    a.start(&a.over_v4(), &[], &SMALL_LOG);
    for other in [b, c] {
        other.start(&other.over_v4(), &[&a.over_v4()], &SMALL_LOG);
    }
    wait_for_group(&[a, b, c]);
    assert_eq!(a.ask("create f capacity=100000"), "Done");
    assert_eq!(a.ask("create old"), "Done");
    let (kept, later) = (Ledger::new("f"), Ledger::new("new"));
    for machine in [a, b, c] {
        wait_for_filter(machine, "f");
        wait_for_filter(machine, "old");
    }
    lab.isolate(c, Passing::Nothing);
    // It has changes of its own to bring back.
    set(&kept, c, "f", 0..KEYS_PER_LINE);
    assert_eq!(a.ask("drop old"), "Done");
    assert_eq!(b.ask("create new"), "Done");
    wait_for_filter(a, "new");
    set(&later, b, "new", 0..KEYS_PER_LINE);
    // The log goes by whole segments, and each snapshot of the whole ends one.
    for part in 0..PARTS {
        for machine in [a, b] {
            set(&kept, machine, "f", part * KEYS..(part + 1) * KEYS);
            flush(machine);
        }
    }
    within(LONG_DEADLINE, "a and b to know that c is gone", || {
        a.connected() == 1 && b.connected() == 1 && c.connected() == 0
    });
    for machine in [a, b] {
        // What c lacks leaves the log with a snapshot of the whole.
        flush(machine);
    }
    lab.heal();
    let back = wait_for_group(&[a, b, c]);
    wait_for_keys(&kept, &[a, b, c]);
    wait_for_keys(&later, &[a, b, c]);
    println!("{} keys, in step {back:?} after the cut", kept.len());
    assert_eq!(c.ask("c old x"), "Filter does not exist");
    let taken = c.metric("grapevine_group_snapshots_taken_total");
    let log = c.log();
    assert!(
        taken > 0 && log.contains("its state is taken instead"),
        "no snapshot was needed: {taken} taken\n{log}"
    );
}

#[test]
fn a_node_whose_address_changes_while_it_runs_comes_back() {
    let lab = Lab::new(["a", "b"]);
    let [a, b] = &lab.machines;
    a.start("0.0.0.0:8676", &[], &[]);
    b.start("0.0.0.0:8676", &[&a.over_v4()], &[]);
    wait_for_group(&[a, b]);
    assert_eq!(a.ask("create f"), "Done");
    wait_for_filter(b, "f");
    let moved = b.move_to(77);
    let ledger = Ledger::new("f");
    for machine in [a, b] {
        set(&ledger, machine, "f", 0..KEYS_PER_LINE);
    }
    println!(
        "in step {:?} after the move",
        wait_for_keys(&ledger, &[a, b])
    );
    wait_for_group(&[a, b]);
    within(DEADLINE, "a to learn the new address", || {
        let known = a.member("b");
        known["addresses"] == serde_json::json!([moved])
    });
}

#[test]
fn islands_find_each_other_again_also_at_other_addresses() {
    let lab = Lab::new(["a", "b", "c"]);
    let [a, b, c] = &lab.machines;
    let all = [a, b, c];
    a.start(&a.over_v4(), &[], &[]);
    b.start(&b.over_v4(), &[&a.over_v4()], &[]);
    c.start(&c.over_v4(), &[&a.over_v4()], &[]);
    wait_for_group(&all);
    assert_eq!(a.ask("create f"), "Done");
    for machine in all {
        wait_for_filter(machine, "f");
    }

    // Everybody loses everybody.
    lab.everywhere(|line| line.passing = Passing::Nothing);
    let ledger = Ledger::new("f");
    for machine in all {
        set(&ledger, machine, "f", 0..KEYS_PER_LINE);
    }
    within(LONG_DEADLINE, "everybody to be alone", || {
        all.iter().all(|machine| machine.connected() == 0)
    });
    lab.heal();
    println!(
        "in step {:?} after the islands could meet",
        wait_for_group(&all)
    );
    wait_for_keys(&ledger, &all);

    // All gone, back in another order, told of nobody, one of them at another address.
    all.iter().for_each(|machine| machine.kill());
    let moved = a.move_to(77);
    c.start(&c.over_v4(), &[], &[]);
    a.start(&moved, &[], &[]);
    b.start(&b.over_v4(), &[], &[]);
    println!("in step {:?} after the restart", wait_for_group(&all));
    wait_for_keys(&ledger, &all);
    for machine in [b, c] {
        assert_eq!(machine.member("a")["addresses"][0], moved.as_str());
    }
}
