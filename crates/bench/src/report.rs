//! What a run came to, for people and for programs.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::args::Mix;
use super::error::BenchError;
use super::keys::Distribution;
use super::plan::Plan;
use super::process::Usage;
use super::tally::TextCounts;
use super::worker::Outcome;

/// A run's result. Serialised as it is; the fields are described in `docs/benchmarking.md`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// Protocol name.
    pub(super) protocol: &'static str,
    /// Server's address.
    pub(super) address: String,
    /// What was asked for.
    pub(super) workload: Workload,
    /// From the start to the last reply.
    pub(super) elapsed_s: f64,
    /// Requests and keys.
    pub(super) counts: Counts,
    /// Requests answered per second.
    pub(super) requests_per_s: f64,
    /// Keys answered per second.
    pub(super) keys_per_s: f64,
    /// Latency of requests.
    pub(super) latency_us: Latency,
    /// Error replies by text.
    pub(super) error_replies: Vec<TextCount>,
    /// Lost connections by reason.
    pub(super) lost_connections: Vec<TextCount>,
    /// This process.
    pub(super) client: ProcessReport,
    /// The server's process, where its number was given.
    pub(super) server: Option<ProcessReport>,
}

/// The load.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Workload {
    filter: String,
    operation: &'static str,
    set_share: f64,
    connections: usize,
    threads: usize,
    pipeline: usize,
    bulk: usize,
    keys: u64,
    key_bytes: usize,
    distribution: &'static str,
    zipf_exponent: Option<f64>,
    /// Requests per second asked for; absent in a closed loop.
    rate_per_s: Option<f64>,
    warmup_s: f64,
    seed: u64,
}

/// How many of what.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Counts {
    /// Requests sent.
    pub(super) sent: u64,
    /// Requests answered, also by error replies.
    pub(super) answered: u64,
    /// Requests sent and never answered.
    pub(super) unanswered: u64,
    /// Requests of an open loop that were due and never sent.
    pub(super) unsent: u64,
    /// Keys answered yes.
    pub(super) yes: u64,
    /// Keys answered no.
    pub(super) no: u64,
    /// Error replies.
    pub(super) errors: u64,
    /// Connections lost.
    pub(super) lost_connections: u64,
}

/// Microseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
    pub(super) mean: f64,
}

/// A text and how often it came; the text is absent for all beyond those kept apart.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct TextCount {
    pub(super) text: Option<String>,
    pub(super) count: u64,
}

/// What a process used during the run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ProcessReport {
    pub(super) cpu_s: f64,
    pub(super) cpu_us_per_request: f64,
    pub(super) cpu_us_per_key: f64,
    /// Resident memory at the end of the run.
    pub(super) resident_bytes: u64,
}

impl Report {
    /// `client` and `server` hold the CPU time of the run and the memory at its end.
    pub(super) fn new(plan: &Plan, outcome: Outcome, client: Usage, server: Option<Usage>) -> Self {
        let elapsed_s = outcome.elapsed.as_secs_f64();
        let counts = Counts {
            sent: outcome.sent,
            answered: outcome.answered,
            unanswered: outcome.sent - outcome.answered,
            unsent: outcome.unsent,
            yes: outcome.tally.yes,
            no: outcome.tally.no,
            errors: outcome.tally.errors_total(),
            lost_connections: outcome.losses.total(),
        };
        let keys = counts.yes + counts.no;
        Self {
            protocol: plan.speaks.name(),
            address: plan.address.to_string(),
            workload: Workload::new(plan),
            elapsed_s,
            requests_per_s: ratio(counts.answered as f64, elapsed_s),
            keys_per_s: ratio(keys as f64, elapsed_s),
            latency_us: Latency::new(&outcome),
            error_replies: texts(outcome.tally.errors()),
            lost_connections: texts(&outcome.losses),
            client: ProcessReport::new(client, counts.answered, keys),
            server: server.map(|usage| ProcessReport::new(usage, counts.answered, keys)),
            counts,
        }
    }

    /// The report as one JSON object.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has only text keys and plain values")
    }

    /// Whether the run measured what was asked for.
    pub(super) fn verdict(&self) -> Result<(), BenchError> {
        let (lost, unanswered) = (self.counts.lost_connections, self.counts.unanswered);
        if lost > 0 || unanswered > 0 {
            return Err(BenchError::Incomplete { lost, unanswered });
        }
        match self.error_replies.first() {
            None => Ok(()),
            Some(first) => Err(BenchError::ErrorReplies {
                count: self.counts.errors,
                first: first.text.clone().unwrap_or_default(),
            }),
        }
    }
}

impl Workload {
    fn new(plan: &Plan) -> Self {
        let (operation, set_share) = match plan.mix {
            Mix::Set => ("set", 1.0),
            Mix::Check => ("check", 0.0),
            Mix::Mixed { sets } => ("mixed", sets),
        };
        let (distribution, zipf_exponent) = match plan.distribution {
            Distribution::Sequential => ("sequential", None),
            Distribution::Uniform => ("uniform", None),
            Distribution::Zipf { exponent } => ("zipf", Some(exponent)),
        };
        Self {
            filter: plan.filter.clone(),
            operation,
            set_share,
            connections: plan.connections,
            threads: plan.threads,
            pipeline: plan.pipeline,
            bulk: plan.bulk,
            keys: plan.keys,
            key_bytes: plan.format.length(),
            distribution,
            zipf_exponent,
            rate_per_s: plan.rate,
            warmup_s: plan.warmup.as_secs_f64(),
            seed: plan.seed,
        }
    }
}

impl Latency {
    fn new(outcome: &Outcome) -> Self {
        let latency_ns = &outcome.latency_ns;
        let at = |quantile| latency_ns.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: latency_ns.max() as f64 / 1e3,
            mean: latency_ns.mean() / 1e3,
        }
    }
}

impl ProcessReport {
    fn new(usage: Usage, requests: u64, keys: u64) -> Self {
        let cpu_s = usage.cpu.as_secs_f64();
        Self {
            cpu_s,
            cpu_us_per_request: ratio(cpu_s * 1e6, requests as f64),
            cpu_us_per_key: ratio(cpu_s * 1e6, keys as f64),
            resident_bytes: usage.resident_bytes,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (load, counts, latency) = (&self.workload, &self.counts, &self.latency_us);
        let loop_name = match load.rate_per_s {
            None => "closed loop".to_owned(),
            Some(rate) => format!("open loop at {rate}/s"),
        };
        writeln!(
            out,
            "{} {} {} on `{}`: {} connections, pipeline {}, {} keys a request, {loop_name}",
            self.protocol,
            self.address,
            load.operation,
            load.filter,
            load.connections,
            load.pipeline,
            load.bulk,
        )?;
        let elapsed = Duration::from_secs_f64(self.elapsed_s);
        writeln!(
            out,
            "requests   {} in {elapsed:.3?}, {:.0}/s",
            counts.answered, self.requests_per_s
        )?;
        writeln!(
            out,
            "keys       {}, {:.0}/s",
            counts.yes + counts.no,
            self.keys_per_s
        )?;
        writeln!(
            out,
            "latency    p50 {:.1} µs, p90 {:.1} µs, p99 {:.1} µs, p99.9 {:.1} µs, max {:.1} µs",
            latency.p50, latency.p90, latency.p99, latency.p999, latency.max,
        )?;
        writeln!(
            out,
            "answers    yes {}, no {}, errors {}",
            counts.yes, counts.no, counts.errors
        )?;
        if counts.unsent > 0 {
            writeln!(
                out,
                "not sent   {} were due while the pipeline was full",
                counts.unsent
            )?;
        }
        write_texts(out, "error     ", &self.error_replies)?;
        write_texts(out, "lost      ", &self.lost_connections)?;
        if counts.unanswered > 0 {
            writeln!(out, "unanswered {}", counts.unanswered)?;
        }
        self.client.write(out, "client")?;
        match &self.server {
            Some(server) => server.write(out, "server"),
            None => Ok(()),
        }
    }
}

impl ProcessReport {
    fn write(&self, out: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        writeln!(
            out,
            "{name:<10} {:.2} s CPU, {:.3} µs/request, {:.3} µs/key, {:.1} MiB resident",
            self.cpu_s,
            self.cpu_us_per_request,
            self.cpu_us_per_key,
            self.resident_bytes as f64 / f64::from(1 << 20),
        )
    }
}

fn write_texts(out: &mut fmt::Formatter<'_>, name: &str, texts: &[TextCount]) -> fmt::Result {
    for TextCount { text, count } in texts {
        let text = text.as_deref().unwrap_or("(others)");
        writeln!(out, "{name} {count} × {text}")?;
    }
    Ok(())
}

fn texts(counts: &TextCounts) -> Vec<TextCount> {
    let kept = counts.iter().map(|(text, count)| TextCount {
        text: Some(text.to_owned()),
        count,
    });
    let other = Some(counts.other()).filter(|count| *count > 0);
    kept.chain(other.map(|count| TextCount { text: None, count }))
        .collect()
}

/// 0 where nothing was counted: JSON has no infinity.
fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
