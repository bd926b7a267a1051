//! Prints the error of a filter whose copies grew while they were cut apart, with growth rights
//! and without, over how much each copy took meanwhile. `docs/error-bound.md` has its output.

use std::process::ExitCode;

use clap::Parser;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_sim::group::error_bound::{Cut, Measured, false_positives_max, measure};

/// Keys that each node takes in the cut, for each that the filter was made for.
const LENGTHS: [f64; 5] = [0.25, 0.5, 1.0, 2.0, 4.0];
/// Chance of a filter that just meets its bound to be called worse.
const SIGNIFICANCE: f64 = 1e-6;

/// Measures the error of filters that grew apart.
#[derive(Debug, Parser)]
struct Arguments {
    /// Nodes, each alone in the cut.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Keys that the filter is made for.
    #[arg(long, default_value_t = 50_000)]
    capacity: u64,
    /// Errors that the filter promises.
    #[arg(long, value_delimiter = ',', default_values_t = [0.01, 0.001])]
    errors: Vec<f64>,
    /// How many times as large each layer is as the one before it.
    #[arg(long, default_value_t = 4)]
    growth: u32,
    /// Absent keys that every node is asked for.
    #[arg(long, default_value_t = 1_000_000)]
    probes: u64,
    /// Of the simulation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn bits_per_key(bytes: u64, keys: u64) -> f64 {
    bytes as f64 * 8.0 / keys.max(1) as f64
}

fn row(arguments: &Arguments, length: f64, with: &Measured, without: &Measured) {
    let probes = arguments.probes;
    println!(
        "| {length} | {:.5} | {:.5} | {} | {} | {:.2} | {:.2} | {:.1} | {:.1} | {:.1} |",
        with.error_max(probes),
        without.error_max(probes),
        with.layers,
        without.layers,
        with.fill_max,
        without.fill_max,
        bits_per_key(with.bytes, with.keys),
        bits_per_key(without.bytes, without.keys),
        bits_per_key(with.bytes_sized_right, with.keys),
    );
}

fn chart(error: f64, probes: u64, rows: &[(f64, Measured, Measured)]) {
    let line = |of: &dyn Fn(&(f64, Measured, Measured)) -> String| {
        rows.iter().map(of).collect::<Vec<_>>().join(", ")
    };
    let percent = |share: f64| format!("{:.3}", share * 100.0);
    println!("\n```mermaid\nxychart-beta");
    println!(
        "    title \"Wrong answers in percent, promised {}\"",
        error * 100.0
    );
    println!(
        "    x-axis \"keys per node in the cut / capacity\" [{}]",
        line(&|(length, ..)| length.to_string())
    );
    println!("    y-axis \"percent\"");
    println!(
        "    bar [{}]",
        line(&|(_, _, without)| percent(without.error_max(probes)))
    );
    println!(
        "    line [{}]",
        line(&|(_, with, _)| percent(with.error_max(probes)))
    );
    println!("    line [{}]\n```", line(&|_| percent(error)));
}

fn run(arguments: &Arguments) -> Result<bool, String> {
    let mut kept = true;
    for error in &arguments.errors {
        println!(
            "\nError promised: {error}; {} nodes, capacity {}, growth {}, {} absent keys per node\n",
            arguments.nodes, arguments.capacity, arguments.growth, arguments.probes
        );
        println!(
            "| keys per node / capacity | error with rights | without | layers with | without \
             | fullest layer with | without | bits per key with | without | one filter sized right |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        let mut rows = Vec::new();
        for length in LENGTHS {
            let cut = |rights| Cut {
                seed: arguments.seed,
                nodes: arguments.nodes,
                parameters: Parameters {
                    capacity: arguments.capacity,
                    error: *error,
                    growth: Growth::By(arguments.growth),
                },
                keys_per_node: (arguments.capacity as f64 * length) as u64,
                probes: arguments.probes,
                rights,
            };
            let (with, without) = (measure(&cut(true))?, measure(&cut(false))?);
            row(arguments, length, &with, &without);
            let most = false_positives_max(arguments.probes, *error, SIGNIFICANCE);
            kept &= with.false_positives.iter().all(|wrong| *wrong <= most);
            rows.push((length, with, without));
        }
        chart(*error, arguments.probes, &rows);
    }
    Ok(kept)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a filter with rights is wrong more often than it promised");
            ExitCode::FAILURE
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
