//! What replication costs, measured on real nodes: `group [--rounds N] [MEASUREMENT…]`, run by
//! `benches/group`. Nodes are processes on loopback, in the directory that `GRAPEVINE_SCRATCH`
//! names, and are stopped by their ids. Measurements: `delay`, `wire`, `catch-up`, `join`, `idle`,
//! `local`; all without a name.

mod catching_up;
mod delay;
mod idle;
mod joining;
mod load;
mod local;
mod node;
mod table;
mod wire;

use std::error::Error;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use table::Table;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(180);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What every measurement is given.
struct Run {
    scratch: PathBuf,
    rounds: usize,
    table: Table,
    directories: usize,
}

impl Run {
    /// A directory that was not used before.
    fn directory(&mut self) -> PathBuf {
        self.directories += 1;
        self.scratch.join(format!("node{}", self.directories))
    }
}

type Measurement = fn(&mut Run) -> Outcome;

const MEASUREMENTS: [(&str, Measurement); 6] = [
    ("delay", delay::measure),
    ("wire", wire::measure),
    ("catch-up", catching_up::measure),
    ("join", joining::measure),
    ("idle", idle::measure),
    ("local", local::measure),
];

fn main() -> Outcome {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let mut rounds = 3;
    if words.first().is_some_and(|word| word == "--rounds") {
        rounds = words.get(1).ok_or("--rounds N")?.parse()?;
        words.drain(..2);
    }
    if let Some(unknown) = words
        .iter()
        .find(|word| !MEASUREMENTS.iter().any(|(name, _)| name == word))
    {
        return Err(format!("no measurement {unknown}").into());
    }
    let scratch = std::env::var_os("GRAPEVINE_SCRATCH").ok_or("GRAPEVINE_SCRATCH is not set")?;
    let mut run = Run {
        scratch: scratch.into(),
        rounds,
        table: Table::default(),
        directories: 0,
    };
    for (name, measure) in MEASUREMENTS {
        if words.is_empty() || words.iter().any(|word| word == name) {
            let begun = Instant::now();
            measure(&mut run).map_err(|error| format!("{name}: {error}"))?;
            eprintln!("{name}: {:.0} s", begun.elapsed().as_secs_f64());
        }
    }
    print!("{}", run.table);
    Ok(())
}

/// Waits until `condition` gives something.
fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Outcome<Option<T>>) -> Outcome<T> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        thread::sleep(LOOK_EVERY);
    }
    Err(format!("waited in vain for {what}").into())
}
