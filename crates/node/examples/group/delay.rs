//! The time from a set on one node until another has the key.
//!
//! The observer asks the second node for the key without a pause, so what it sees is late by up to
//! one round trip of its own. That round trip is measured with the same questions and reported
//! beside; nothing is taken off.

use std::thread;
use std::time::{Duration, Instant};

use crate::load::{Client, SteadyLoad};
use crate::node::Node;
use crate::table::{median, quantile, spread};
use crate::{DEADLINE, Outcome, Run};

/// Keys set one after another in each round.
const SETS: u64 = 2000;
/// The longest pause between two of them in milliseconds, so that they meet every phase of the
/// nodes' timers.
const PAUSE_MS: u64 = 7;

/// All times in milliseconds.
#[derive(Default)]
struct Delays {
    delay: Vec<f64>,
    set: Vec<f64>,
    question: Vec<f64>,
}

pub(crate) fn measure(run: &mut Run) -> Outcome {
    let a = Node::start(&run.directory(), &[])?;
    let b = Node::join(&run.directory(), &[&a], &[])?;
    b.wait_for_peers(1)?;
    let mut client = Client::connect(&a)?;
    client.create("delay", 100_000_000)?;
    a.settle(1)?;
    let (mut idle, mut loaded) = (Vec::new(), Vec::new());
    let mut rates = Vec::new();
    for round in 0..run.rounds {
        idle.push(observe(&a, &b, &format!("idle-{round}-"))?);
        let load = SteadyLoad {
            node: &a,
            filter: "delay",
            prefix: format!("load-{round}-"),
            keys_per_ms: 100,
        };
        let (delays, keys, seconds) =
            load.beside(|| observe(&a, &b, &format!("beside-{round}-")))?;
        loaded.push(delays);
        rates.push(keys / seconds);
    }
    report(run, "idle", &idle);
    report(run, &format!("at {:.0} sets/s", median(&rates)), &loaded);
    Ok(())
}

fn report(run: &mut Run, when: &str, rounds: &[Delays]) {
    let middle = |share: f64, of: fn(&Delays) -> &Vec<f64>| {
        let figures: Vec<f64> = rounds.iter().map(|one| quantile(of(one), share)).collect();
        median(&figures)
    };
    let delays = [0.5, 0.99, 1.0].map(|share| middle(share, |one| &one.delay));
    let all: Vec<String> = rounds
        .iter()
        .map(|one| format!("{:.2}", quantile(&one.delay, 0.99)))
        .collect();
    run.table.add(
        &format!("set on A to seen on B, {when}"),
        format!(
            "p50 {:.2}, p99 {:.2} ({}), max {:.2} ms",
            delays[0],
            delays[1],
            all.join(", "),
            delays[2]
        ),
    );
    run.table.add(
        "  the set's own round trip, the observer's",
        format!(
            "p50 {:.3}, p50 {:.3} p99 {:.3} ms",
            middle(0.5, |one| &one.set),
            middle(0.5, |one| &one.question),
            middle(0.99, |one| &one.question)
        ),
    );
    let worst: Vec<f64> = rounds.iter().flat_map(|one| one.delay.clone()).collect();
    eprintln!("    all rounds: {}", spread(&worst, "ms"));
}

fn observe(a: &Node, b: &Node, prefix: &str) -> Outcome<Delays> {
    let (mut setter, mut observer) = (Client::connect(a)?, Client::connect(b)?);
    let mut delays = Delays::default();
    for number in 0..SETS {
        let set = format!("s delay {prefix}{number}\n");
        let question = format!("c delay {prefix}{number}\n");
        let begun = Instant::now();
        setter.expect(&set, "Yes")?;
        delays.set.push(milliseconds(begun.elapsed()));
        loop {
            let asked = Instant::now();
            let seen = observer.ask(&question)? == "Yes";
            delays.question.push(milliseconds(asked.elapsed()));
            if seen {
                break;
            }
            if begun.elapsed() > DEADLINE {
                return Err("a key never came".into());
            }
        }
        delays.delay.push(milliseconds(begun.elapsed()));
        thread::sleep(Duration::from_millis(number % PAUSE_MS));
    }
    Ok(delays)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
