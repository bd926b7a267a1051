//! `grapevine-sim`: runs seeds, prints each violation with the command that replays it, and what
//! was and was not reached.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use grapevine_sim::run::{BRANCHES, run};

/// Seeds run when neither `--seeds` nor `--minutes` says how many.
const SEEDS_DEFAULT: u64 = 1000;
/// Most violations that are printed in full.
const VIOLATIONS_SHOWN_MAX: u64 = 20;

/// Runs simulated nodes and checks what they keep.
#[derive(Debug, Parser)]
#[command(name = "grapevine-sim", version)]
struct Args {
    /// The seeds to run, the last one left out; fresh ones if not given
    #[arg(long, value_name = "A..B", value_parser = seeds, conflicts_with = "minutes")]
    seeds: Option<(u64, u64)>,
    /// Run fresh seeds for so long
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// Steps of each seed
    #[arg(long, value_name = "N", default_value_t = 200)]
    ops: u64,
    /// Run one seed and print what happens in it
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "minutes"])]
    replay: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text
        .split_once("..")
        .ok_or("two numbers with .. between them")?;
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|error| format!("{text}: {error}"))
    };
    let (from, to) = (number(from)?, number(to)?);
    if from < to {
        Ok((from, to))
    } else {
        Err(format!("{from} is not below {to}"))
    }
}

/// What all seeds together came to.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    violations: Vec<(u64, String)>,
    branches: BTreeMap<&'static str, u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let total = match args.replay {
        Some(seed) => replay(seed, args.ops),
        None => all(&args),
    };
    // A reader that has gone has seen what it wanted.
    drop(print(&args, &total));
    if total.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn replay(seed: u64, ops: u64) -> Total {
    let report = run(seed, ops, true);
    drop(io::stdout().write_all(report.trace.as_bytes()));
    Total {
        seeds: 1,
        violations: report
            .violation
            .map(|violation| (seed, violation))
            .into_iter()
            .collect(),
        branches: report.branches,
    }
}

fn all(args: &Args) -> Total {
    let start = Instant::now();
    let fresh = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    let (from, to) = args.seeds.unwrap_or((fresh, fresh + SEEDS_DEFAULT));
    let limit = args
        .minutes
        .map(|minutes| Duration::from_secs_f64(minutes.max(0.0) * 60.0));
    let mut total = Total::default();
    for seed in from.. {
        let done = match limit {
            Some(limit) => start.elapsed() >= limit,
            None => seed >= to,
        };
        if done {
            break;
        }
        let report = run(seed, args.ops, false);
        total.seeds += 1;
        for (branch, count) in report.branches {
            *total.branches.entry(branch).or_default() += count;
        }
        total
            .violations
            .extend(report.violation.map(|violation| (seed, violation)));
    }
    eprintln!(
        "{:.0} seeds a minute",
        total.seeds as f64 * 60.0 / start.elapsed().as_secs_f64()
    );
    total
}

fn print(args: &Args, total: &Total) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let missed: Vec<_> = BRANCHES
        .iter()
        .filter(|branch| !total.branches.contains_key(*branch))
        .collect();
    if args.json {
        let violations: Vec<_> = total
            .violations
            .iter()
            .map(|(seed, violation)| serde_json::json!({ "seed": seed, "violation": violation }))
            .collect();
        let report = serde_json::json!({
            "seeds": total.seeds,
            "violations": violations,
            "branches": total.branches,
            "missed": missed,
        });
        writeln!(out, "{report:#}")?;
    } else {
        for (branch, count) in &total.branches {
            writeln!(out, "{count:>10}  {branch}")?;
        }
        for branch in missed {
            writeln!(out, "     never  {branch}")?;
        }
        for (seed, violation) in total.violations.iter().take(VIOLATIONS_SHOWN_MAX as usize) {
            writeln!(out, "seed {seed}: {violation}")?;
            let ops = args.ops;
            writeln!(
                out,
                "  cargo run --release -p grapevine-sim -- --replay {seed} --ops {ops}"
            )?;
        }
    }
    writeln!(
        out,
        "{} seeds, {} violations",
        total.seeds,
        total.violations.len()
    )
}
