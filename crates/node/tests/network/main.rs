//! Whole nodes on machines of their own: network namespaces on a switch in user space that loses,
//! delays, doubles and cuts. Needs root; run by `checks/network`.

#[path = "../../../core/tests/vectors/reader.rs"]
mod reader;

mod absence;
mod discovery;
mod frame;
mod hbbp;
mod hbbp_vectors;
mod lab;
mod ledger;
mod machine;
mod namespace;
mod process;
mod reach;
mod rights;
mod storm;
mod stranger;
mod switch;
mod tables;

use std::time::{Duration, Instant};

use lab::Lab;
use ledger::Ledger;
use machine::Machine;

/// How long anything may take on good lines before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);
/// The same on bad lines, and after them: a session that is lost is noticed within 16 s and called
/// again within 15 s, and a call may be lost.
const LONG_DEADLINE: Duration = Duration::from_secs(90);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `condition` holds, and says how long that took.
fn within(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited in vain for {what}");
        wait_until(Instant::now() + LOOK_EVERY);
    }
    start.elapsed()
}

/// Until a moment, which may have been.
fn wait_until(deadline: Instant) {
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
        if left.is_zero() {
            return;
        }
    }
}

/// Lets something go on for a while.
fn go_on_for(time: Duration) {
    wait_until(Instant::now() + time);
}

/// Waits until the running nodes of these machines are one group, in step, writable.
fn wait_for_group(machines: &[&Machine]) -> Duration {
    let others = machines.len() as u64 - 1;
    let took = within(LONG_DEADLINE, "all to be in step", || {
        machines.iter().all(|machine| machine.is_in_step(others))
    });
    for machine in machines {
        assert!(machine.is_ready(), "{} takes no writes", machine.name);
    }
    let id = |machine: &Machine| machine.json("/api/v1/group")["id"].clone();
    let ids: Vec<_> = machines.iter().map(|machine| id(machine)).collect();
    assert!(
        ids.iter().all(|id| *id == ids[0]),
        "several groups: {ids:?}"
    );
    took
}

/// Waits until a machine knows a filter.
fn wait_for_filter(machine: &Machine, filter: &str) {
    within(
        LONG_DEADLINE,
        &format!("{filter} on {}", machine.name),
        || machine.ask(&format!("c {filter} none")) == "No",
    );
}

/// Waits until every acknowledged key is on every machine.
fn wait_for_keys(ledger: &Ledger, machines: &[&Machine]) -> Duration {
    let mut lacking = Vec::new();
    let start = Instant::now();
    for machine in machines {
        within(
            LONG_DEADLINE,
            &format!("all keys on {}", machine.name),
            || {
                lacking.push(ledger.lacking(machine));
                lacking.last() == Some(&0)
            },
        );
    }
    start.elapsed()
}
