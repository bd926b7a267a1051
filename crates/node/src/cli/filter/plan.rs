//! `filter plan`: what a filter would take, from the same arithmetic that shapes it.

use std::io::Write;

use clap::error::ErrorKind;
use grapevine_core::filter::parameters::{Growth, LayerShape, Parameters, ParametersError};
use grapevine_core::origin::Origin;
use serde_json::{Value, json};

use super::super::listing::{Column, Listing};
use super::super::{Context, Failure, Outcome, figures};
use grapevine_core::quantity::positive_count;

/// Layers that are shown: the first and what it grows to.
const LAYERS_SHOWN: u32 = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keys the first layer has room for
    #[arg(long, value_parser = positive_count)]
    capacity: u64,
    /// Bound on the share of absent keys that are reported as there
    #[arg(long, value_parser = figures::error_rate)]
    error: f64,
    /// How many times larger each further layer is
    #[arg(long, default_value_t = 4, conflicts_with = "fixed")]
    growth: u32,
    /// A filter that does not grow
    #[arg(long)]
    fixed: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A layer, and the filter when it has grown to it.
struct Step {
    layer: LayerShape,
    keys: u64,
    bytes: u64,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let growth = if args.fixed {
        Growth::Fixed
    } else {
        Growth::By(args.growth)
    };
    let parameters = Parameters {
        capacity: args.capacity,
        error: args.error,
        growth,
    };
    let steps = steps(parameters).map_err(|error| {
        Failure::Usage(clap::Error::raw(
            ErrorKind::ValueValidation,
            format!("{error}\n"),
        ))
    })?;
    let mut output = context.output();
    if args.json {
        let steps: Vec<Value> = steps.iter().map(|step| step.json(args.error)).collect();
        writeln!(output, "{:#}", json!({ "layers": steps }))?;
    } else {
        const HEADERS: [&str; 7] = [
            "layers",
            "keys",
            "bytes",
            "bits/key",
            "classic bits/key",
            "lines added",
            "error added",
        ];
        drop(output);
        let mut rows = Listing::new(context.output(), &[Column::Numbers(""); 7]);
        rows.row(&HEADERS)?;
        for (number, step) in (1..).zip(&steps) {
            rows.row(&step.fields(number, args.error))?;
        }
        rows.end("")?;
        return Ok(Outcome::Done);
    }
    output.flush()?;
    Ok(Outcome::Done)
}

/// The filter as it grows; fewer steps when a layer would be larger than any machine.
fn steps(parameters: Parameters) -> Result<Vec<Step>, ParametersError> {
    parameters.validate()?;
    let nobody = Origin::new([0; 16]);
    let mut steps: Vec<Step> = Vec::new();
    for index in 0..LAYERS_SHOWN {
        let layer = match parameters.layer(index, nobody, 1) {
            Ok(layer) => layer,
            Err(error) if index == 0 => return Err(error),
            Err(_) => break,
        };
        let (keys, bytes) = steps.last().map_or((0, 0), |last| (last.keys, last.bytes));
        steps.push(Step {
            layer,
            keys: keys.saturating_add(layer.capacity),
            bytes: bytes + layer.geometry.bytes(),
        });
    }
    Ok(steps)
}

/// Bits per key of Bloom's filter of that error: log2(1/p) / ln 2.
fn classic_bits_per_key(error: f64) -> f64 {
    -error.log2() / std::f64::consts::LN_2
}

impl Step {
    fn bits_per_key(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.keys as f64
    }

    /// In the order of the headers.
    fn fields(&self, number: usize, error: f64) -> [String; 7] {
        [
            number.to_string(),
            self.keys.to_string(),
            self.bytes.to_string(),
            format!("{:.2}", self.bits_per_key()),
            format!("{:.2}", classic_bits_per_key(error)),
            self.layer.geometry.lines.to_string(),
            format!("{:.3e}", self.layer.error),
        ]
    }

    fn json(&self, error: f64) -> Value {
        let classic = classic_bits_per_key(error) * self.keys as f64 / 8.0;
        json!({
            "keys": self.keys,
            "bytes": self.bytes,
            "bits_per_key": self.bits_per_key(),
            "classic_bytes": classic.ceil(),
            "classic_bits_per_key": classic_bits_per_key(error),
            "layer": {
                "capacity": self.layer.capacity,
                "error": self.layer.error,
                "bytes": self.layer.geometry.bytes(),
                "lines": self.layer.geometry.lines,
                "lines_per_key": self.layer.geometry.lines_per_key,
                "bits_per_line": self.layer.geometry.bits_per_line,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_grows_and_stays_near_the_classic_size() -> Result<(), ParametersError> {
        let steps = steps(Parameters {
            capacity: 1_000_000,
            error: 1e-4,
            growth: Growth::By(4),
        })?;
        let keys: Vec<u64> = steps.iter().map(|step| step.keys).collect();
        assert_eq!(
            keys,
            [1, 5, 21, 85, 341].map(|millions| millions * 1_000_000)
        );
        let classic = classic_bits_per_key(1e-4);
        assert!((classic - 19.17).abs() < 0.01);
        assert!((1.0..1.06).contains(&(steps[0].bits_per_key() / classic)));
        Ok(())
    }

    #[test]
    fn a_fixed_filter_has_one_layer_and_impossible_ones_none() {
        let fixed = Parameters {
            capacity: 10,
            error: 0.01,
            growth: Growth::Fixed,
        };
        assert_eq!(steps(fixed).map(|steps| steps.len()), Ok(1));
        assert!(
            steps(Parameters {
                error: 1.5,
                ..fixed
            })
            .is_err()
        );
        assert!(
            steps(Parameters {
                capacity: 0,
                ..fixed
            })
            .is_err()
        );
    }
}
