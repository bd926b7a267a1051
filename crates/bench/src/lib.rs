//! `grapevine bench`: a load generator that measures this program and the originals alike.
//!
//! The path of a run: [`Args`] → `plan` (checked, bounded) → `protocol` probes and prepares the
//! server → one `worker` per thread drives its connections over a poll loop → `report`.
//! A new protocol over a byte stream is one file beside `bloomd.rs` that implements
//! `protocol::Protocol`, and one arm in `Plan::protocol`; one of datagrams brings a `worker::Load`
//! of its own, as `rmbd.rs` does. The constant server in `reference` answers without thinking: what it
//! costs is the floor that every other number is held against.

mod args;
mod bloomd;
mod connection;
mod error;
mod keys;
mod plan;
mod process;
mod protocol;
mod reference;
mod report;
mod rmbd;
mod schedule;
mod tally;
#[cfg(test)]
mod tests;
mod worker;

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

pub use args::Args;
pub use error::BenchError;

use plan::Plan;
use process::Usage;
use protocol::Protocol;
use reference::ConstantServer;
use report::Report;
use worker::{Load, Outcome, Phase, Worker};

/// How often the line that says "still running" is redrawn. Rare, so that it costs the client
/// nothing that could be seen in a measurement.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the load generator, or with `--constant-server` the reference server (until killed).
///
/// Prints the report to standard output, also where it then returns an error because the
/// measurement was spoiled: replies that were errors, lost connections, missing answers.
pub fn run(args: Args) -> Result<(), BenchError> {
    if let Some(address) = args.constant_server {
        let mut server = ConstantServer::bind(address, args.bulk)?;
        println!("constant server on {}", server.address());
        return server.serve();
    }
    let json = args.json;
    let plan = Plan::new(args)?;
    let report = measure(&plan, !json)?;
    if json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    report.verdict()
}

/// Prepares the server and measures one run.
fn measure(plan: &Plan, progress: bool) -> Result<Report, BenchError> {
    let Some(protocol) = plan.protocol() else {
        rmbd::probe(plan.address)?;
        let loads = (0..plan.threads).map(|thread| rmbd::RmbdLoad::connect(plan, thread));
        return measure_with(plan, loads.collect::<Result<_, _>>()?, progress);
    };
    protocol.probe(plan.address)?;
    if plan.create {
        protocol.create(plan.address)?;
    }
    measure_with(plan, connect(plan, &*protocol)?, progress)
}

/// Warms the server up and measures one run.
fn measure_with<L: Load>(
    plan: &Plan,
    mut workers: Vec<L>,
    progress: bool,
) -> Result<Report, BenchError> {
    let line = progress_line(progress);
    if !plan.warmup.is_zero() {
        line.set_message("warming up");
        run_phase(&mut workers, plan.warmup, None)?.complete()?;
    }
    line.set_message("measuring");
    let server_before = plan.server_pid.map(Usage::of).transpose()?;
    let client_before = Usage::of_self()?;
    let outcome = run_phase(&mut workers, plan.duration, plan.requests)?;
    let client = Usage::of_self()?.since(client_before);
    // A server that died during the run is told by its lost connections, not by its absence here.
    let server = match (server_before, plan.server_pid.map(Usage::of)) {
        (Some(before), Some(Ok(after))) => Some(after.since(before)),
        _ => None,
    };
    line.finish_and_clear();
    Ok(Report::new(plan, outcome, client, server))
}

/// A line on standard error while the run lasts, on a terminal only.
fn progress_line(wanted: bool) -> ProgressBar {
    if !wanted || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let line = ProgressBar::new_spinner();
    line.enable_steady_tick(PROGRESS_INTERVAL);
    line
}

/// Opens every connection, dealt out over the threads.
fn connect<'a>(plan: &'a Plan, protocol: &'a dyn Protocol) -> Result<Vec<Worker<'a>>, BenchError> {
    (0..plan.threads)
        .map(|thread| Worker::connect(plan, protocol, thread))
        .collect()
}

/// Runs all workers side by side and adds up what they saw.
///
/// `requests` is the total over all workers.
fn run_phase<L: Load>(
    workers: &mut [L],
    duration: Duration,
    requests: Option<u64>,
) -> Result<Outcome, BenchError> {
    let threads = workers.len() as u64;
    let start = Instant::now();
    let outcomes: Vec<Result<Outcome, BenchError>> = std::thread::scope(|scope| {
        let mut running = Vec::with_capacity(workers.len());
        for (index, worker) in workers.iter_mut().enumerate() {
            let share = requests.map(|total| plan::share(total, threads, index as u64));
            let phase = Phase {
                start,
                duration,
                requests: share,
            };
            running.push(scope.spawn(move || worker.run(phase)));
        }
        running
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    let mut sum = Outcome::empty();
    for outcome in outcomes {
        sum.add(outcome?);
    }
    Ok(sum)
}
