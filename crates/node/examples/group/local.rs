//! What being in a group costs local clients: CPU per key and waiting.

use crate::load::{Client, SteadyLoad, bench, number};
use crate::node::{Node, Usage};
use crate::table::{median, rounds};
use crate::{Outcome, Run};

/// Keys of a run; each is set once, in pieces that 256 lines in flight make.
const KEYS: &str = "2000000";
/// Local checks while keys come in from another node: how long, and at which rate one at a time.
const CHECKING: &str = "5s";
const CHECKS: &str = "2000";

pub(crate) fn measure(run: &mut Run) -> Outcome {
    let without = Node::start(&run.directory(), &["group.listen=off"])?;
    let one = Node::start(&run.directory(), &[])?;
    pace(run, "no group", &without, &[])?;
    pace(run, "a group of one", &one, &[])?;
    drop((without, one));
    let a = Node::start(&run.directory(), &[])?;
    let b = Node::join(&run.directory(), &[&a], &[])?;
    let c = Node::join(&run.directory(), &[&a], &[])?;
    for node in [&a, &b, &c] {
        node.wait_for_peers(2)?;
    }
    pace(run, "a group of three", &a, &[&b, &c])?;
    beside_replication(run, &a, &b)
}

/// CPU per key of sets and checks, one line a key, 256 in flight.
fn pace(run: &mut Run, what: &str, node: &Node, others: &[&Node]) -> Outcome {
    let (mut set, mut check, mut at_others) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..run.rounds {
        let filter = format!("pace-{round}");
        Client::connect(node)?.create(&filter, 10_000_000)?;
        for other in others {
            other.wait_in_step()?;
        }
        let load = ["--pipeline", "256", "--keys", KEYS, "--requests", KEYS];
        let (usage, mut usages) = (Usage::begin(node)?, Vec::new());
        for other in others {
            usages.push(Usage::begin(other)?);
        }
        bench(
            node,
            &filter,
            &[&load[..], &["--operation", "set"]].concat(),
        )?;
        for other in others {
            other.wait_in_step()?;
        }
        let keys: f64 = KEYS.parse()?;
        set.push(usage.cpu()? * 1e6 / keys);
        for usage in usages {
            at_others.push(usage.cpu()? * 1e6 / keys);
        }
        let report = bench(
            node,
            &filter,
            &[&load[..], &["--operation", "check"]].concat(),
        )?;
        check.push(number(&report, "/server/cpu_us_per_key")?);
    }
    run.table
        .add(&format!("CPU a set, {what}"), rounds(&set, 3, "µs"));
    if !at_others.is_empty() {
        run.table.add(
            "  at each other node",
            format!("{:.3} µs", median(&at_others)),
        );
    }
    run.table
        .add(&format!("CPU a check, {what}"), rounds(&check, 3, "µs"));
    Ok(())
}

/// Checks on A alone and while B takes keys for all.
fn beside_replication(run: &mut Run, a: &Node, b: &Node) -> Outcome {
    let filter = "beside";
    Client::connect(a)?.create(filter, 50_000_000)?;
    b.wait_in_step()?;
    let open = ["--rate", CHECKS, "--pipeline", "64", "--duration", CHECKING];
    let closed = ["--pipeline", "256", "--duration", CHECKING];
    let check = ["--operation", "check", "--keys", "1000000"];
    let (mut p99, mut p99_alone) = (Vec::new(), Vec::new());
    let (mut cost, mut cost_alone, mut applied) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..run.rounds {
        let load = |kind: &str| format!("{kind}-{round}-");
        let steady = |prefix: &str| -> Outcome<(f64, f64)> {
            let load = SteadyLoad {
                node: b,
                filter,
                prefix,
                keys_per_ms: 100,
            };
            let usage = Usage::begin(a)?;
            let (report, keys, _) =
                load.beside(|| bench(a, filter, &[&open[..], &check].concat()))?;
            Ok((
                number(&report, "/latency_us/p99")?,
                usage.cpu()? * 1e6 / keys,
            ))
        };
        let alone = bench(a, filter, &[&open[..], &check].concat())?;
        p99_alone.push(number(&alone, "/latency_us/p99")?);
        // Nearly all of A's time is then for the keys that come in.
        let (latency, time) = steady(&load("open"))?;
        p99.push(latency);
        applied.push(time);
        let alone = bench(a, filter, &[&closed[..], &check].concat())?;
        cost_alone.push(number(&alone, "/server/cpu_us_per_key")?);
        let prefix = load("closed");
        let load = SteadyLoad {
            node: b,
            filter,
            prefix: &prefix,
            keys_per_ms: 100,
        };
        let (report, keys, _) =
            load.beside(|| bench(a, filter, &[&closed[..], &check].concat()))?;
        let cpu = number(&report, "/server/cpu_s")?;
        let checked = number(&report, "/counts/yes")? + number(&report, "/counts/no")?;
        cost.push((cpu * 1e6 - keys * time) / checked);
    }
    run.table.add(
        "check on A, one at a time, p99",
        rounds(&p99_alone, 0, "µs"),
    );
    run.table.add(
        "  while 100,000 keys/s come in from B",
        rounds(&p99, 0, "µs"),
    );
    run.table.add(
        "CPU of A for a key that comes in, checks at 2000/s included",
        rounds(&applied, 2, "µs"),
    );
    run.table
        .add("CPU a check on A", rounds(&cost_alone, 3, "µs"));
    run.table.add(
        "  while keys come in, their own cost taken off",
        rounds(&cost, 3, "µs"),
    );
    Ok(())
}
