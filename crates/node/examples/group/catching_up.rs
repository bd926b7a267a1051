//! The time to catch up with a million missed keys, from the log and by a snapshot.

use std::time::{Duration, Instant};

use crate::load::{Client, fill, last_key};
use crate::node::{Node, Usage};
use crate::table::rounds;
use crate::{Outcome, Run, wait_for};

/// Keys that are missed.
const KEYS: u64 = 1_000_000;
/// Settings under which the log is cut long before it holds them.
pub(crate) const SHORT_LOG: [&str; 2] = ["group.log_keep=1MiB", "filters.checkpoint_log=1MiB"];
/// Bytes of log at most when it was cut.
const CUT_BYTES: u64 = 4 << 20;
/// Keys whose log is more than [`SHORT_LOG`] keeps.
const MORE_KEYS: u64 = 100_000;

pub(crate) fn measure(run: &mut Run) -> Outcome {
    catch_up(run, "from the log", &[])?;
    catch_up(run, "by a snapshot", &SHORT_LOG)
}

fn catch_up(run: &mut Run, how: &str, settings: &[&str]) -> Outcome {
    let by_snapshot = !settings.is_empty();
    let a = Node::start(&run.directory(), settings)?;
    let b_dir = run.directory();
    let mut b = Node::join(&b_dir, &[&a], settings)?;
    b.wait_for_peers(1)?;
    Client::connect(&a)?.create("missed", 20_000_000)?;
    a.settle(1)?;
    fill(&a, "missed", "known-", KEYS)?;
    a.settle(1)?;
    let (mut seconds, mut seen, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cpu_a, mut cpu_b) = (Vec::new(), Vec::new());
    for round in 0..run.rounds {
        b.stop()?;
        let prefix = format!("m{round}-");
        fill(&a, "missed", &prefix, KEYS)?;
        if by_snapshot {
            cut_log(&a, "missed", &format!("x{round}-"))?;
        }
        let (sent, usage) = (a.sent_bytes()?, Usage::begin(&a)?);
        let begun = Instant::now();
        b = Node::join(&b_dir, &[&a], settings)?;
        let question = format!("c missed {}\n", last_key(&prefix, KEYS));
        let mut client = Client::connect(&b)?;
        wait_for("the last key", || {
            Ok((client.ask(&question)? == "Yes").then_some(()))
        })?;
        seen.push(begun.elapsed().as_secs_f64());
        a.wait_for_copies(1)?;
        seconds.push(begun.elapsed().as_secs_f64());
        bytes.push((a.sent_bytes()? - sent) / 1e6);
        cpu_a.push(usage.cpu()?);
        cpu_b.push(b.cpu_seconds()?);
        let taken = b.metric("grapevine_group_snapshots_taken_total")?;
        if (taken > 0.0) != by_snapshot {
            return Err(format!("{taken} snapshots were taken where it was to be {how}").into());
        }
    }
    run.table.add(
        &format!("start to in step, 1 M keys missed, {how}"),
        rounds(&seconds, 2, "s"),
    );
    run.table
        .add("  the last key seen after", rounds(&seen, 2, "s"));
    run.table.add("  sent by A", rounds(&bytes, 1, "MB"));
    run.table.add("  CPU of A", rounds(&cpu_a, 2, "s"));
    run.table.add("  CPU of B", rounds(&cpu_b, 2, "s"));
    Ok(())
}

/// Has a node with [`SHORT_LOG`] drop the log of all that was set so far.
pub(crate) fn cut_log(node: &Node, filter: &str, prefix: &str) -> Outcome {
    let mut client = Client::connect(node)?;
    // The first snapshot ends the segment, a later one removes it.
    client.expect("flush\n", "Done")?;
    fill(node, filter, prefix, MORE_KEYS)?;
    wait_for("the log to be cut", || {
        client.expect("flush\n", "Done")?;
        if log_bytes(node)? < CUT_BYTES {
            return Ok(Some(()));
        }
        std::thread::sleep(Duration::from_millis(100));
        Ok(None)
    })
}

fn log_bytes(node: &Node) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(node.data_dir().join("log"))? {
        // A segment may go meanwhile.
        bytes += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}
