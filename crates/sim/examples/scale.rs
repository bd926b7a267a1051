//! Prints what a group costs by its size. `docs/scale.md` has its output.

use std::alloc::System;
use std::process::ExitCode;
use std::time::Duration;

use cap::Cap;
use clap::Parser;
use grapevine_sim::scale::{Convergence, Gauges, Kind, Light, Part, Plan, Report, Whole, run};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Lets groups of these sizes rest, work steadily and work in bursts.
#[derive(Debug, Parser)]
struct Arguments {
    /// Nodes of each group.
    #[arg(default_values_t = [10, 100, 300])]
    nodes: Vec<usize>,
    /// Messages lost, in percent: each size is run with each.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 5])]
    loss: Vec<u64>,
    /// Length of each part, in simulated seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Keys per second of the steady part, of all nodes together.
    #[arg(long, default_value_t = 50)]
    rate: u64,
    /// Keys of one burst; there is one each second.
    #[arg(long, default_value_t = 200)]
    burst: u64,
    /// Whole stores on simulated disks instead of light data.
    #[arg(long)]
    whole: bool,
    /// Of the simulation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanoseconds)
}

fn quantiles(numbers: &[u64]) -> String {
    let [half, most] = [0.5, 0.99].map(|share| Convergence::quantile(numbers, share));
    let last = numbers.last().copied().unwrap_or(0);
    format!("{half}/{most}/{last}")
}

fn kinds(part: &Part) -> String {
    let shown = |(kind, (messages, bytes)): (&Kind, &(u64, u64))| {
        format!(
            "{kind:?} {messages} ({:.0} B)",
            *bytes as f64 / *messages as f64
        )
    };
    let kinds = part.traffic.kinds.iter().map(shown);
    kinds.collect::<Vec<_>>().join(", ")
}

/// A part as cells: per node and second, per node and operation, convergence, processor time.
fn cells(nodes: usize, part: &Part) -> String {
    let nodes = nodes as f64;
    let (messages, bytes) = part.traffic.all();
    let each = |count: u64, per: f64| count as f64 / nodes / per;
    let operations = part.operations as f64;
    let per_operation = if part.operations == 0 {
        "| | ".to_owned()
    } else {
        let (messages, bytes) = (each(messages, operations), each(bytes, operations));
        format!("| {messages:.2} | {bytes:.0} ")
    };
    let time = |time: Duration| time.as_secs_f64() * 1000.0 / nodes / part.seconds;
    format!(
        "{:.1} | {:.0} {per_operation}| {} | {} | {:.2} | {:.2}",
        each(messages, part.seconds),
        each(bytes, part.seconds),
        quantiles(&part.convergence.times),
        quantiles(&part.convergence.rounds),
        time(part.machines),
        time(part.looks),
    )
}

fn print(plan: &Plan, report: &Report) {
    let (nodes, loss) = (plan.nodes, plan.loss);
    for (name, part) in [
        ("idle", &report.idle),
        ("steady", &report.steady),
        ("bursts", &report.bursts),
    ] {
        println!("| {nodes} | {loss} | {name} | {} |", cells(nodes, part));
    }
}

fn print_details(plan: &Plan, report: &Report) {
    println!("\n{} nodes, {} % lost:", plan.nodes, plan.loss);
    println!("  state of one machine: {:.0} bytes", report.machine_bytes);
    for (name, part) in [
        ("meeting", &report.meeting),
        ("idle", &report.idle),
        ("steady", &report.steady),
        ("bursts", &report.bursts),
    ] {
        println!(
            "  {name}, {:.1} s, {} operations: {}",
            part.seconds,
            part.operations,
            kinds(part)
        );
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let gauges = Gauges {
        processor,
        allocated: || ALLOCATOR.allocated(),
    };
    println!(
        "| nodes | loss % | part | messages/s | bytes/s | messages/op | bytes/op | ms p50/p99/max \
         | rounds p50/p99/max | machine ms/s | looks ms/s |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    let mut reports = Vec::new();
    for nodes in &arguments.nodes {
        for loss in &arguments.loss {
            let plan = Plan {
                seed: arguments.seed,
                nodes: *nodes,
                loss: *loss,
                seconds: arguments.seconds,
                rate: arguments.rate,
                burst: arguments.burst,
            };
            let report = if arguments.whole {
                run::<Whole>(&plan, gauges)
            } else {
                run::<Light>(&plan, gauges)
            };
            match report {
                Ok(report) => {
                    print(&plan, &report);
                    reports.push((plan, report));
                }
                Err(what) => {
                    eprintln!("{nodes} nodes, {loss} % lost: {what}");
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    for (plan, report) in &reports {
        print_details(plan, report);
    }
    ExitCode::SUCCESS
}
