//! `grapevine verify`.

use std::io::Write;

use grapevine_store::disk::{RealDisk, lock_holder};
use grapevine_store::verify::{Finding, VerifyReport, verify};
use serde_json::{Value, json};

use super::{Context, Failure, Outcome};
use crate::data_directory::{self, DataDirectoryError};

/// Arguments of `grapevine verify`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `grapevine verify`: fails when there is damage.
///
/// # Errors
/// When there is no data directory or it cannot be listed.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    context.without_node("verify")?;
    let config = context.config()?;
    let path = data_directory::existing(&config).map_err(Failure::from_error)?;
    let io = |source| {
        Failure::from_error(DataDirectoryError::Io {
            path: path.to_owned(),
            source,
        })
    };
    let holder = lock_holder(path).map_err(io)?;
    let report = verify(&RealDisk::new(path.to_owned())).map_err(io)?;
    let mut output = context.output();
    if args.json {
        writeln!(output, "{:#}", to_json(&report, holder))?;
    } else {
        if let Some(pid) = holder {
            writeln!(
                output,
                "warning: a node (pid {pid}) runs on this directory: what it writes meanwhile may \
                 look damaged"
            )?;
        }
        for note in &report.notes {
            writeln!(output, "note: {}", line(note))?;
        }
        for finding in &report.findings {
            writeln!(output, "damaged: {}", line(finding))?;
        }
        writeln!(output, "{}", summary(&report))?;
    }
    output.flush()?;
    Ok(if report.is_clean() {
        Outcome::Done
    } else {
        Outcome::Failed
    })
}

fn line(finding: &Finding) -> String {
    let Finding { file, offset, what } = finding;
    format!("{file}: offset {offset}: {what}")
}

fn summary(report: &VerifyReport) -> String {
    let counts = report.counts;
    format!(
        "{} damaged, {} notes: {} filters, {} layer files, {} foreign layers, {} operations in {} \
         log frames, {} bytes read",
        report.findings.len(),
        report.notes.len(),
        counts.filters,
        counts.layers,
        counts.foreign,
        counts.operations,
        counts.frames,
        counts.bytes,
    )
}

fn to_json(report: &VerifyReport, holder: Option<u32>) -> Value {
    let list = |findings: &[Finding]| -> Value {
        let one = |finding: &Finding| {
            json!({
                "file": finding.file,
                "offset": finding.offset,
                "what": finding.what.to_string(),
            })
        };
        findings.iter().map(one).collect()
    };
    let counts = report.counts;
    json!({
        "clean": report.is_clean(),
        "node_pid": holder,
        "changed_meanwhile": report.changed,
        "findings": list(&report.findings),
        "notes": list(&report.notes),
        "filters": counts.filters,
        "layers": counts.layers,
        "foreign_layers": counts.foreign,
        "log_segments": counts.segments,
        "log_frames": counts.frames,
        "operations": counts.operations,
        "keys_in_log": counts.keys,
        "bytes": counts.bytes,
    })
}
