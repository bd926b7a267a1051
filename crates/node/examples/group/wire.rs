//! Bytes on the wire for each new key.
//!
//! The nodes count the bytes of their frames; what QUIC, UDP and IP add is what the loopback
//! interface carried more than while the same keys were set on a node without a group.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::load::{Client, SteadyLoad, bench, number};
use crate::node::Node;
use crate::table::rounds;
use crate::{Outcome, Run};

/// How long each load lasts.
const LOAD: Duration = Duration::from_secs(4);

/// A way to set keys; gives how many.
type Load = fn(&Node, &str) -> Outcome<f64>;

const LOADS: [(&str, Load); 4] = [
    ("100,000 sets/s, 100 a millisecond", steady),
    ("flat out, one line a key, 256 in flight", pipelined),
    ("flat out, 100 keys a line", bulk),
    ("64 connections, one key at a time", single),
];

fn steady(node: &Node, prefix: &str) -> Outcome<f64> {
    let load = SteadyLoad {
        node,
        filter: "wire",
        prefix: prefix.to_owned(),
        keys_per_ms: 100,
    };
    let ((), keys, _) = load.beside(|| {
        thread::sleep(LOAD);
        Ok(())
    })?;
    Ok(keys)
}

fn pipelined(node: &Node, prefix: &str) -> Outcome<f64> {
    set(node, prefix, &["--pipeline", "256"])
}

fn bulk(node: &Node, prefix: &str) -> Outcome<f64> {
    set(node, prefix, &["--pipeline", "16", "--bulk", "100"])
}

fn single(node: &Node, prefix: &str) -> Outcome<f64> {
    set(node, prefix, &["--connections", "64"])
}

fn set(node: &Node, prefix: &str, arguments: &[&str]) -> Outcome<f64> {
    let duration = format!("{}s", LOAD.as_secs());
    let common = ["--operation", "set", "--duration", &duration];
    let keys = ["--keys", "100000000", "--key-length", "24"];
    let named = ["--prefix", prefix];
    let all = [&common[..], &keys, &named, arguments].concat();
    number(&bench(node, "wire", &all)?, "/counts/yes")
}

pub(crate) fn measure(run: &mut Run) -> Outcome {
    let alone = Node::start(&run.directory(), &["group.listen=off"])?;
    let a = Node::start(&run.directory(), &[])?;
    let b = Node::join(&run.directory(), &[&a], &[])?;
    b.wait_for_peers(1)?;
    for node in [&a, &alone] {
        Client::connect(node)?.create("wire", 200_000_000)?;
    }
    a.settle(1)?;
    for (number, (what, load)) in LOADS.into_iter().enumerate() {
        let (mut payload, mut back, mut carried) = (Vec::new(), Vec::new(), Vec::new());
        let (mut frames, mut rate) = (Vec::new(), Vec::new());
        for round in 0..run.rounds {
            let prefix = format!("{number}-{round}-");
            let before = loopback_bytes()?;
            let keys_alone = load(&alone, &prefix)?;
            let without = (loopback_bytes()? - before) / keys_alone;
            let (sent, returned) = (a.sent_bytes()?, b.sent_bytes()?);
            let count = a.metric("grapevine_group_frames_sent_total")?;
            let before = loopback_bytes()?;
            let keys = load(&a, &prefix)?;
            a.settle(1)?;
            let with = (loopback_bytes()? - before) / keys;
            payload.push((a.sent_bytes()? - sent) / keys);
            back.push((b.sent_bytes()? - returned) / keys);
            carried.push(with - without);
            let count = a.metric("grapevine_group_frames_sent_total")? - count;
            frames.push(keys / count);
            rate.push(keys / LOAD.as_secs_f64());
        }
        let both: Vec<f64> = payload.iter().zip(&back).map(|(a, b)| a + b).collect();
        run.table.add(
            &format!("bytes of frames a new key, {what}"),
            rounds(&both, 2, "B"),
        );
        run.table
            .add("  of them acknowledgements", rounds(&back, 3, "B"));
        run.table
            .add("  with QUIC, UDP and IP, about", rounds(&carried, 1, "B"));
        run.table.add("  keys a frame", rounds(&frames, 0, "keys"));
        run.table.add("  keys set", rounds(&rate, 0, "a second"));
    }
    Ok(())
}

/// Bytes that the loopback interface has carried.
fn loopback_bytes() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"));
    let bytes = line.and_then(|line| line.split_whitespace().next());
    Ok(bytes.ok_or("no loopback interface")?.parse()?)
}
