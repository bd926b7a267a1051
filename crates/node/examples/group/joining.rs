//! A fresh node joins one that holds a filter of a gibibyte.

use std::thread;
use std::time::{Duration, Instant};

use crate::load::{Client, bench, fill, last_key, number};
use crate::node::{Node, Usage};
use crate::{Outcome, Run, wait_for};

/// Keys for which a layer at an error of 0.001 takes a gibibyte.
const CAPACITY: u64 = 578_000_000;
/// Keys in it.
const KEYS: u64 = 10_000_000;
/// Checks a second on A meanwhile, one at a time.
const CHECKS: &str = "500";
/// For how long they are measured before anybody joins.
const BEFORE: &str = "3s";
const GIB: f64 = (1u64 << 30) as f64;

pub(crate) fn measure(run: &mut Run) -> Outcome {
    let a = Node::start(&run.directory(), &[])?;
    let mut client = Client::connect(&a)?;
    client.create("large", CAPACITY)?;
    fill(&a, "large", "held-", KEYS)?;
    let before = check(&a, BEFORE)?;
    a.reset_peak();
    let (resident, sent) = (a.memory_bytes("VmRSS")?, a.sent_bytes()?);
    let usage = Usage::begin(&a)?;
    let b_dir = run.directory();
    let (joined, during) = thread::scope(|scope| -> Outcome<_> {
        let join = scope.spawn(|| join(&b_dir, &a).map_err(|error| error.to_string()));
        let mut checks: Vec<[f64; 3]> = Vec::new();
        while !join.is_finished() || checks.is_empty() {
            checks.push(check(&a, "1s")?);
        }
        let joined = join.join().map_err(|_| "the join panicked")??;
        Ok((joined, checks))
    })?;
    let (cpu, thread, elapsed) = (usage.cpu()?, usage.group_thread()?, usage.elapsed());
    let worst = |place: usize| during.iter().map(|c| c[place]).fold(0.0, f64::max);
    let size = client.info("large", "storage")? / GIB;
    let what = format!("join with a filter of {size:.2} GiB, 10 M keys: start to in step");
    run.table.add(&what, format!("{:.1} s", joined.seconds));
    run.table
        .add("  last key answered after", format!("{:.1} s", joined.seen));
    let bytes = (a.sent_bytes()? - sent) / 1e6;
    run.table.add(
        "  sent by A, by B",
        format!("{bytes:.0}, {:.0} MB", joined.sent / 1e6),
    );
    run.table.add(
        "  CPU of A, its group thread; B, its group thread",
        format!(
            "{cpu:.1}, {thread:.1}; {:.1}, {:.1} s",
            joined.cpu, joined.thread
        ),
    );
    run.table.add(
        "  group thread of A, of the time",
        format!("{:.0} %", 100.0 * thread / elapsed.as_secs_f64()),
    );
    let peak = a.memory_bytes("VmHWM")?;
    run.table.add(
        "  memory of A before, its peak; peak of B",
        format!(
            "{:.2}, {:.2}; {:.2} GiB",
            resident / GIB,
            peak / GIB,
            joined.peak / GIB
        ),
    );
    run.table.add(
        "  checks on A before",
        format!(
            "p50 {:.0}, p99 {:.0}, max {:.0} µs",
            before[0], before[1], before[2]
        ),
    );
    run.table.add(
        "  checks on A meanwhile, the worst second of each",
        format!(
            "p50 {:.0}, p99 {:.0}, max {:.0} µs",
            worst(0),
            worst(1),
            worst(2)
        ),
    );
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

fn join(directory: &std::path::Path, a: &Node) -> Outcome<Joined> {
    let begun = Instant::now();
    let b = Node::join(directory, &[a], &[])?;
    let question = format!("c large {}\n", last_key("held-", KEYS));
    let mut client = Client::connect(&b)?;
    wait_for("the last key", || {
        let seen = client.ask(&question)? == "Yes";
        Ok(seen.then_some(()))
    })?;
    let seen = begun.elapsed().as_secs_f64();
    b.wait_in_step()?;
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

/// Checks of keys that are there, one at a time: p50, p99 and the longest, in microseconds.
fn check(node: &Node, duration: &str) -> Outcome<[f64; 3]> {
    let load = ["--operation", "check", "--rate", CHECKS, "--pipeline", "16"];
    let keys = KEYS.to_string();
    let which = [
        "--keys",
        &keys,
        "--prefix",
        "held-",
        "--distribution",
        "uniform",
    ];
    let report = bench(
        node,
        "large",
        &[&load[..], &which, &["--duration", duration]].concat(),
    )?;
    Ok([
        number(&report, "/latency_us/p50")?,
        number(&report, "/latency_us/p99")?,
        number(&report, "/latency_us/max")?,
    ])
}
