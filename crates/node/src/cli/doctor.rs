//! `grapevine doctor`: what a node needs of this machine, one line each.

mod listeners;
mod machine;
mod storage;

use std::io::Write;

use serde_json::{Value, json};

use super::{Context, Failure, Outcome};

/// Arguments of `grapevine doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// As it should be.
    Ok,
    /// A node starts, but something about it will be worse than it could be.
    Warn,
    /// A node cannot start, or cannot keep what it promises.
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
struct Check {
    verdict: Verdict,
    /// What was looked at.
    subject: String,
    /// What was found.
    found: String,
    /// What to do about it; empty when nothing.
    advice: &'static str,
}

impl Check {
    fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Ok,
            subject: subject.into(),
            found: found.into(),
            advice: "",
        }
    }

    fn warn(subject: impl Into<String>, found: impl Into<String>, advice: &'static str) -> Self {
        Self {
            verdict: Verdict::Warn,
            advice,
            ..Self::ok(subject, found)
        }
    }

    fn fail(subject: impl Into<String>, found: impl Into<String>, advice: &'static str) -> Self {
        Self {
            verdict: Verdict::Fail,
            ..Self::warn(subject, found, advice)
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "verdict": self.verdict.word(),
            "subject": self.subject,
            "found": self.found,
            "advice": self.advice,
        })
    }
}

/// Runs `grapevine doctor`: fails when a check does.
///
/// # Errors
/// When the configuration is wrong.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    context.without_node("doctor")?;
    let config = context.config()?;
    let mut checks = Vec::new();
    storage::check(&config.node.data_dir, &mut checks);
    listeners::check(&config, &mut checks);
    machine::check(&config, context.surroundings.memory, &mut checks);
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    let mut output = context.output();
    if args.json {
        let checks: Value = checks.iter().map(Check::to_json).collect();
        writeln!(output, "{:#}", json!({ "ok": !failed, "checks": checks }))?;
    } else {
        for check in &checks {
            let word = check.verdict.word();
            write!(output, "{word:<4}  {}: {}", check.subject, check.found)?;
            if !check.advice.is_empty() {
                write!(output, "; {}", check.advice)?;
            }
            writeln!(output)?;
        }
    }
    output.flush()?;
    Ok(if failed {
        Outcome::Failed
    } else {
        Outcome::Done
    })
}
