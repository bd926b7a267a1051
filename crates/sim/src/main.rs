//! `grapevine-sim`: runs seeds and says which of them broke a promise.

use std::collections::BTreeMap;
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use grapevine_sim::branch::Branch;
use grapevine_sim::group::{self, GroupMutation, GroupPlan};
use grapevine_sim::node::Mutation;
use grapevine_sim::outcome::Outcome;
use grapevine_sim::world::{self, Plan};

/// Seeds run when neither seeds nor minutes are named.
const SEEDS_DEFAULT: u64 = 1000;
/// Operations per seed unless said otherwise.
const OPERATIONS_DEFAULT: u64 = 80;
/// Violations printed; more are only counted.
const VIOLATIONS_SHOWN_MAX: u64 = 20;

/// Lets a group's nodes crash, lose messages and be cut apart, and checks what they kept.
#[derive(Debug, Parser)]
#[command(name = "grapevine-sim")]
struct Arguments {
    /// Seeds to run, the end exclusive.
    #[arg(long, value_name = "A..B", value_parser = seeds, conflicts_with_all = ["minutes", "replay"])]
    seeds: Option<Range<u64>>,
    /// Runs fresh seeds for so many minutes.
    #[arg(long, value_name = "M", conflicts_with = "replay")]
    minutes: Option<f64>,
    /// Nodes of each seed's group [default: 3 to 7, drawn by the seed]; with 1 the disk of a
    /// single node is crashed at every point that matters.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    nodes: Option<u8>,
    /// Operations per seed.
    #[arg(long, value_name = "N", default_value_t = OPERATIONS_DEFAULT)]
    ops: u64,
    /// In every group directories are also set back to older copies, run twice, and swapped; else
    /// in one of four.
    #[arg(long)]
    forks: bool,
    /// Runs one seed and prints what it did.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
    /// Prints one JSON object per violation and a summary.
    #[arg(long)]
    json: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").map(|(a, b)| (a.parse(), b.parse()));
    match parts {
        Some((Ok(from), Ok(to))) if from < to => Ok(from..to),
        _ => Err("not of the form A..B with A below B".to_owned()),
    }
}

#[derive(Default)]
struct Tally {
    seeds: u64,
    violations: u64,
    branches: BTreeMap<Branch, u64>,
}

impl Tally {
    fn add(&mut self, arguments: &Arguments, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        for (branch, times) in &outcome.branches {
            *self.branches.entry(*branch).or_default() += times;
        }
        let Some(violation) = &outcome.violation else {
            return;
        };
        self.violations += 1;
        if self.violations > VIOLATIONS_SHOWN_MAX {
            return;
        }
        let ops = arguments.ops;
        let nodes = arguments
            .nodes
            .map_or(String::new(), |nodes| format!("--nodes {nodes} "));
        let forks = if arguments.forks { "--forks " } else { "" };
        let command = format!(
            "cargo run --release -p grapevine-sim -- {nodes}{forks}--ops {ops} --replay {seed}"
        );
        if arguments.json {
            let line = serde_json::json!({
                "seed": seed, "violation": violation, "replay": command,
            });
            println!("{line}");
        } else {
            println!("seed {seed}: {violation}\n  {command}");
        }
    }

    fn print(&self, arguments: &Arguments, took: Duration) {
        let minutes = (took.as_secs_f64() / 60.0).max(f64::MIN_POSITIVE);
        let per_minute = (self.seeds as f64 / minutes).round() as u64;
        let expected: &[Branch] = match arguments.nodes {
            Some(1) => &Branch::OF_ONE,
            _ => &Branch::OF_MANY,
        };
        let missed: Vec<Branch> = expected
            .iter()
            .copied()
            .filter(|branch| !self.branches.contains_key(branch))
            .collect();
        if arguments.json {
            let line = serde_json::json!({
                "seeds": self.seeds, "violations": self.violations,
                "branches": self.branches.iter().map(|(branch, times)| (format!("{branch:?}"), times)).collect::<BTreeMap<_, _>>(),
                "never_hit": missed, "seeds_per_minute": per_minute,
            });
            println!("{line}");
        } else {
            for (branch, times) in &self.branches {
                println!("{branch:?}: {times}");
            }
            println!("never hit: {missed:?}");
            println!("{per_minute} seeds per minute");
        }
        println!("{} seeds, {} violations", self.seeds, self.violations);
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut tally = Tally::default();
    let run = |seed, trace| match arguments.nodes {
        Some(1) => world::run(Plan {
            seed,
            operations: arguments.ops,
            mutation: Mutation::None,
            trace,
        }),
        nodes => group::run(GroupPlan {
            seed,
            nodes: nodes.map(usize::from),
            operations: arguments.ops,
            mutation: GroupMutation::None,
            forks: arguments.forks.then_some(true),
            trace,
        }),
    };
    // Fresh seeds begin at the clock, so that no two sessions run the same ones.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let first = now.map_or(0, |now| now.as_micros() as u64);
    let range = match (&arguments.seeds, arguments.replay) {
        (Some(seeds), _) => seeds.clone(),
        (None, Some(seed)) => seed..seed.saturating_add(1),
        (None, None) => first..first.saturating_add(SEEDS_DEFAULT),
    };
    let end = arguments.minutes.map(|minutes| {
        Instant::now() + Duration::try_from_secs_f64(minutes * 60.0).unwrap_or_default()
    });
    let begun = Instant::now();
    let mut seed = range.start;
    while end.map_or(seed < range.end, |end| Instant::now() < end) {
        let outcome = run(seed, arguments.replay.is_some());
        outcome.trace.iter().for_each(|line| println!("{line}"));
        tally.add(&arguments, seed, &outcome);
        seed += 1;
    }
    tally.print(&arguments, begun.elapsed());
    if tally.violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
