//! What being in a group costs local clients: CPU per key and waiting.

use std::thread;
use std::time::Duration;

use crate::load::{Client, SteadyLoad, bench, number, probe_beside};
use crate::node::{Node, Usage};
use crate::table::{median, quantile, rounds};
use crate::{Outcome, Run};

/// Keys of a run; each is set once, in pieces that 256 lines in flight make.
const KEYS: &str = "2000000";
/// The filter that takes keys from B.
const FILTER: &str = "beside";
/// Local checks while keys come in from another node: how long flat out, and one at
/// a time.
const CHECKING: &str = "4s";
const PROBING: Duration = Duration::from_secs(4);

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
        node.settle(others.len())?;
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
        node.settle(others.len())?;
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
    Client::connect(a)?.create(FILTER, 50_000_000)?;
    a.settle(2)?;
    let closed = ["--pipeline", "256", "--duration", CHECKING];
    let check = ["--operation", "check", "--keys", "1000000"];
    let check = || bench(a, FILTER, &[&closed[..], &check].concat());
    let probe = || {
        probe_beside(a, "c beside key\n", || {
            thread::sleep(PROBING);
            Ok(())
        })
    };
    let (mut p99, mut p99_alone) = (Vec::new(), Vec::new());
    let (mut cost, mut cost_alone, mut applied) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..run.rounds {
        p99_alone.push(quantile(&probe()?.1, 0.99));
        let usage = Usage::begin(a)?;
        let (((), times), keys, _) = load(b, &format!("probed-{round}-")).beside(probe)?;
        p99.push(quantile(&times, 0.99));
        // Nearly all of A's time is then for the keys that come in.
        let time = usage.cpu()? * 1e6 / keys;
        applied.push(time);
        cost_alone.push(number(&check()?, "/server/cpu_us_per_key")?);
        let (report, keys, _) = load(b, &format!("checked-{round}-")).beside(check)?;
        let cpu = number(&report, "/server/cpu_s")?;
        let checked = number(&report, "/counts/yes")? + number(&report, "/counts/no")?;
        cost.push((cpu * 1e6 - keys * time) / checked);
    }
    let table = &mut run.table;
    table.add(
        "check on A, one at a time, p99",
        rounds(&p99_alone, 0, "µs"),
    );
    table.add(
        "  while 100,000 keys/s come in from B",
        rounds(&p99, 0, "µs"),
    );
    table.add("CPU of A for a key from B", rounds(&applied, 2, "µs"));
    table.add("CPU of A for a check", rounds(&cost_alone, 3, "µs"));
    table.add(
        "  while keys come in, without what these cost",
        rounds(&cost, 3, "µs"),
    );
    Ok(())
}

fn load<'a>(node: &'a Node, prefix: &str) -> SteadyLoad<'a> {
    SteadyLoad {
        node,
        filter: FILTER,
        prefix: prefix.to_owned(),
        keys_per_ms: 100,
    }
}
