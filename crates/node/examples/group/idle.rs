//! What a group costs that has nothing to do.

use std::thread;
use std::time::Duration;

use crate::load::Client;
use crate::node::{Node, Usage};
use crate::table::rounds;
use crate::{Outcome, Run};

const NODES: usize = 5;
/// Until everybody knows everybody.
const SETTLE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);

pub(crate) fn measure(run: &mut Run) -> Outcome {
    let mut nodes: Vec<Node> = Vec::new();
    for _ in 0..NODES {
        let directory = run.directory();
        let others: Vec<&Node> = nodes.first().into_iter().collect();
        nodes.push(Node::join(&directory, &others, &[])?);
    }
    for node in &nodes {
        node.wait_for_peers(NODES - 1)?;
    }
    let mut client = Client::connect(&nodes[0])?;
    client.create("idle", 1_000_000)?;
    client.expect("s idle key\n", "Yes")?;
    thread::sleep(SETTLE);
    let mut usages = Vec::new();
    let (mut sent, mut bytes) = (Vec::new(), Vec::new());
    for node in &nodes {
        sent.push(node.sent_bytes()?);
        usages.push(Usage::begin(node)?);
    }
    thread::sleep(IDLE);
    let mut shares = Vec::new();
    for usage in &usages {
        shares.push(100.0 * usage.cpu()? / usage.elapsed().as_secs_f64());
    }
    for (node, before) in nodes.iter().zip(sent) {
        bytes.push((node.sent_bytes()? - before) / IDLE.as_secs_f64());
    }
    run.table.add(
        "CPU of an idle node in a group of five",
        rounds(&shares, 2, "% of a core"),
    );
    run.table
        .add("  frames that it sends", rounds(&bytes, 0, "B/s"));
    Ok(())
}
