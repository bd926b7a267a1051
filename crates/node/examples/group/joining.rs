//! A fresh node joins one that holds a filter of a gibibyte.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::catching_up::{SHORT_LOG, cut_log};
use crate::load::{Client, fill, last_key, probe_beside};
use crate::node::{Node, Usage};
use crate::table::spread;
use crate::{Outcome, Run, wait_for};

/// Keys for which a layer at an error of 0.001 takes a gibibyte.
const CAPACITY: u64 = 578_000_000;
/// Keys in it.
const KEYS: u64 = 10_000_000;
/// For how long checks on A are measured before anybody joins.
const BEFORE: Duration = Duration::from_secs(3);
const GIB: f64 = (1u64 << 30) as f64;

pub(crate) fn measure(run: &mut Run) -> Outcome {
    join_one(run, "from the log", &[])?;
    join_one(run, "by a snapshot", &SHORT_LOG)
}

fn join_one(run: &mut Run, how: &str, settings: &[&str]) -> Outcome {
    let a = Node::start(&run.directory(), settings)?;
    let mut client = Client::connect(&a)?;
    client.create("large", CAPACITY)?;
    fill(&a, "large", "held-", KEYS)?;
    if !settings.is_empty() {
        cut_log(&a, "large", "more-")?;
    }
    let last = format!("c large {}\n", last_key("held-", KEYS));
    let ((), before) = probe_beside(&a, &last, || {
        thread::sleep(BEFORE);
        Ok(())
    })?;
    a.reset_peak();
    let (resident, sent) = (a.memory_bytes("VmRSS")?, a.sent_bytes()?);
    let (usage, b_dir) = (Usage::begin(&a)?, run.directory());
    let (joined, during) = probe_beside(&a, &last, || join(&b_dir, &a, &last))?;
    let (cpu, thread) = (usage.cpu()?, usage.group_thread()?);
    let occupied = 100.0 * thread / usage.elapsed().as_secs_f64();
    let size = client.info("large", "storage")? / GIB;
    let table = &mut run.table;
    table.add(
        &format!("join, a filter of {size:.2} GiB with 10 M keys, {how}: start to in step"),
        format!("{:.1} s", joined.seconds),
    );
    table.add("  last key answered after", format!("{:.1} s", joined.seen));
    let bytes = (a.sent_bytes()? - sent) / 1e6;
    table.add(
        "  sent by A; by B",
        format!("{bytes:.0}; {:.0} MB", joined.sent / 1e6),
    );
    table.add(
        "  CPU of A, its group thread; of B, its group thread",
        format!(
            "{cpu:.1}, {thread:.1} ({occupied:.0} % of the time); {:.1}, {:.1} s",
            joined.cpu, joined.thread
        ),
    );
    table.add(
        "  memory of A before, its peak; peak of B",
        format!(
            "{:.2}, {:.2}; {:.2} GiB",
            resident / GIB,
            a.memory_bytes("VmHWM")? / GIB,
            joined.peak / GIB
        ),
    );
    table.add("  checks on A before", spread(&before, "µs"));
    table.add("  checks on A meanwhile", spread(&during, "µs"));
    Ok(())
}

/// What a join came to.
struct Joined {
    seconds: f64,
    seen: f64,
    sent: f64,
    cpu: f64,
    thread: f64,
    peak: f64,
}

fn join(directory: &Path, a: &Node, last: &str) -> Outcome<Joined> {
    let begun = Instant::now();
    let b = Node::join(directory, &[a], &[])?;
    let mut client = Client::connect(&b)?;
    wait_for("the last key", || {
        let seen = client.ask(last)? == "Yes";
        Ok(seen.then_some(()))
    })?;
    let seen = begun.elapsed().as_secs_f64();
    a.wait_for_copies(1)?;
    let seconds = begun.elapsed().as_secs_f64();
    // Whether it goes on growing once it has everything.
    thread::sleep(Duration::from_secs(1));
    Ok(Joined {
        seconds,
        seen,
        sent: b.sent_bytes()?,
        cpu: b.cpu_seconds()?,
        thread: b.thread_seconds("group")?,
        peak: b.memory_bytes("VmHWM")?,
    })
}
