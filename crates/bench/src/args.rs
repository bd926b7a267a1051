//! The arguments of `grapevine bench`, and how their values are written.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use thiserror::Error;

use super::keys::Distribution;
use super::plan;
use grapevine_core::quantity::positive_count;

/// Load a server and measure it.
///
/// Works against this program and against the originals that speak the same protocol.
/// Pin client and server to different cores (`taskset -c 1 grapevine bench …`) for numbers that
/// repeat.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What the server speaks
    #[arg(long, value_enum, default_value = "bloomd")]
    pub(super) protocol: ProtocolName,
    /// The server [default: this machine at the protocol's port: bloomd 8673, rmbd 8000]
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) addr: Option<String>,
    /// The filter to work on, created where it does not exist
    #[arg(long, value_name = "NAME", default_value = "bench", value_parser = parse_filter)]
    pub(super) filter: String,
    /// Capacity of the filter in keys [default: --keys, at least 100000]
    #[arg(long, value_name = "KEYS", value_parser = positive_count)]
    pub(super) capacity: Option<u64>,
    /// Error rate of the filter
    #[arg(long, value_name = "RATE", default_value = "0.0001", value_parser = parse_error_rate)]
    pub(super) error: f64,
    /// Leave the filter as it is: do not ask the server to create it
    #[arg(long)]
    pub(super) no_create: bool,
    /// set, check, or mixed[:SHARE], where SHARE of the requests are sets (0.5)
    #[arg(long, value_name = "OPERATION", default_value = "check", value_parser = parse_mix)]
    pub(super) operation: Mix,
    /// Connections, over all threads
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=plan::CONNECTIONS_MAX))]
    pub(super) connections: usize,
    /// Threads of the client, each with a poll loop of its own
    #[arg(long, value_name = "N", default_value = "1",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=plan::THREADS_MAX))]
    pub(super) threads: usize,
    /// Most requests in flight per connection [default: 1, with --rate 1024]
    #[arg(long, value_name = "DEPTH",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=plan::PIPELINE_MAX))]
    pub(super) pipeline: Option<usize>,
    /// Keys per request; more than one uses the bulk commands
    #[arg(long, value_name = "KEYS", default_value = "1",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=plan::BULK_MAX))]
    pub(super) bulk: usize,
    /// Number of different keys
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = positive_count)]
    pub(super) keys: u64,
    /// Order of the keys: sequential, uniform or zipf[:EXPONENT] (0.99)
    #[arg(long, value_name = "ORDER", default_value = "sequential",
          value_parser = parse_distribution)]
    pub(super) distribution: Distribution,
    /// Bytes of each key: the prefix, then the number of the key filled up with zeros
    #[arg(long, value_name = "BYTES", default_value = "16",
          value_parser = RangedU64ValueParser::<usize>::new().range(1..=plan::KEY_LENGTH_MAX))]
    pub(super) key_length: usize,
    /// What every key starts with: printable ASCII without blanks
    #[arg(long, value_name = "TEXT", default_value = "key:", value_parser = parse_prefix)]
    pub(super) prefix: String,
    /// Stop after so many requests
    #[arg(long, value_name = "N", value_parser = positive_count)]
    pub(super) requests: Option<u64>,
    /// Stop after this time [default: 10s, with --requests 10m]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) duration: Option<Duration>,
    /// Open loop: send so many requests per second over all connections, whatever the replies do
    ///
    /// Latency then counts from the moment a request was due, not from when it could be sent.
    #[arg(long, value_name = "PER SECOND", value_parser = parse_rate)]
    pub(super) rate: Option<f64>,
    /// Run this long before measuring, with the same operation and keys
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = parse_duration)]
    pub(super) warmup: Duration,
    /// Give up when no reply came for this long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub(super) timeout: Duration,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) seed: u64,
    /// Also report CPU time and memory of this process (the server, on this machine)
    #[arg(long, value_name = "PID")]
    pub(super) server_pid: Option<u32>,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Instead of measuring, be the reference server: answer every line with a constant
    ///
    /// With --bulk KEYS the constant is the answer to a request of KEYS keys.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) constant_server: Option<SocketAddr>,
}

/// The protocols that can be measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ProtocolName {
    /// bloomd's text protocol
    Bloomd,
    /// rmbd's datagrams; a set is an add and a question for the same key
    Rmbd,
}

impl ProtocolName {
    /// Name for messages and reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            ProtocolName::Bloomd => "bloomd",
            ProtocolName::Rmbd => "rmbd",
        }
    }

    /// Where a server of this machine listens by default.
    fn default_address(self) -> &'static str {
        match self {
            ProtocolName::Bloomd => "127.0.0.1:8673",
            ProtocolName::Rmbd => "127.0.0.1:8000",
        }
    }
}

impl Args {
    /// The server's address as given, else the protocol's own.
    pub(super) fn address(&self) -> &str {
        let default = self.protocol.default_address();
        self.addr.as_deref().unwrap_or(default)
    }
}

/// Which operations a run is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mix {
    /// Sets only.
    Set,
    /// Checks only.
    Check,
    /// Each request is a set with this probability, else a check.
    Mixed {
        /// Between 0 and 1.
        sets: f64,
    },
}

/// A value of the command line that was not understood.
#[derive(Debug, Error, PartialEq)]
pub(super) enum ValueError {
    /// Not one of the operations.
    #[error("expected set, check or mixed[:SHARE] with SHARE between 0 and 1")]
    Operation,
    /// Not one of the distributions.
    #[error("expected sequential, uniform or zipf[:EXPONENT] with EXPONENT over 0 up to {max}")]
    Distribution {
        /// Largest exponent.
        max: f64,
    },
    /// Not a time.
    #[error("expected a number followed by ms, s, m or h, at most {max:?}")]
    Duration {
        /// Longest time.
        max: Duration,
    },
    /// Not a rate.
    #[error("expected requests per second, over 0 up to {max}")]
    Rate {
        /// Highest rate.
        max: f64,
    },
    /// Not an error rate.
    #[error("expected an error rate between 0 and 1")]
    ErrorRate,
    /// A filter name that would break the line.
    #[error("expected 1 to {max} bytes without blanks or control characters")]
    Filter {
        /// Longest name in bytes.
        max: usize,
    },
    /// A prefix that would break the line or a bulk request.
    #[error("expected printable ASCII without blanks, at most {max} bytes")]
    Prefix {
        /// Longest prefix in bytes.
        max: usize,
    },
}

/// Longest filter name in bytes: bloomd's own limit.
const FILTER_NAME_MAX: usize = 200;
/// The exponent of `zipf` alone, the one that YCSB made customary.
const ZIPF_EXPONENT: f64 = 0.99;
/// The share of sets in `mixed` alone.
const MIXED_SHARE: f64 = 0.5;

fn parse_mix(text: &str) -> Result<Mix, ValueError> {
    match text {
        "set" => Ok(Mix::Set),
        "check" => Ok(Mix::Check),
        "mixed" => Ok(Mix::Mixed { sets: MIXED_SHARE }),
        _ => text
            .strip_prefix("mixed:")
            .and_then(|share| share.parse().ok())
            .filter(|share| (0.0..=1.0).contains(share))
            .map(|sets| Mix::Mixed { sets })
            .ok_or(ValueError::Operation),
    }
}

fn parse_distribution(text: &str) -> Result<Distribution, ValueError> {
    match text {
        "sequential" => Ok(Distribution::Sequential),
        "uniform" => Ok(Distribution::Uniform),
        "zipf" => Ok(Distribution::Zipf {
            exponent: ZIPF_EXPONENT,
        }),
        _ => text
            .strip_prefix("zipf:")
            .and_then(|exponent| exponent.parse().ok())
            .filter(|exponent: &f64| *exponent > 0.0 && *exponent <= plan::ZIPF_EXPONENT_MAX)
            .map(|exponent| Distribution::Zipf { exponent })
            .ok_or(ValueError::Distribution {
                max: plan::ZIPF_EXPONENT_MAX,
            }),
    }
}

fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let wrong = ValueError::Duration {
        max: plan::DURATION_MAX,
    };
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let seconds_per_unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong),
    };
    digits
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds_per_unit).ok())
        .filter(|duration| *duration <= plan::DURATION_MAX)
        .ok_or(wrong)
}

fn parse_rate(text: &str) -> Result<f64, ValueError> {
    text.parse()
        .ok()
        .filter(|rate: &f64| *rate > 0.0 && *rate <= plan::RATE_MAX)
        .ok_or(ValueError::Rate {
            max: plan::RATE_MAX,
        })
}

fn parse_error_rate(text: &str) -> Result<f64, ValueError> {
    text.parse()
        .ok()
        .filter(|rate: &f64| *rate > 0.0 && *rate < 1.0)
        .ok_or(ValueError::ErrorRate)
}

fn parse_filter(text: &str) -> Result<String, ValueError> {
    let breaks_line = text
        .bytes()
        .any(|byte| byte == b' ' || byte.is_ascii_control());
    if text.is_empty() || text.len() > FILTER_NAME_MAX || breaks_line {
        return Err(ValueError::Filter {
            max: FILTER_NAME_MAX,
        });
    }
    Ok(text.to_owned())
}

fn parse_prefix(text: &str) -> Result<String, ValueError> {
    if text.len() > plan::PREFIX_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ValueError::Prefix {
            max: plan::PREFIX_MAX,
        });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_a_unit_and_are_bounded() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in [
            "", "s", "10", "-1s", "1d", "NaNs", "infs", "25h", "1 s", "é", "1é",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn operations_and_distributions() {
        assert_eq!(parse_mix("set"), Ok(Mix::Set));
        assert_eq!(parse_mix("mixed"), Ok(Mix::Mixed { sets: 0.5 }));
        assert_eq!(parse_mix("mixed:0.1"), Ok(Mix::Mixed { sets: 0.1 }));
        for wrong in ["", "get", "mixed:", "mixed:1.1", "mixed:NaN"] {
            assert!(parse_mix(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            parse_distribution("zipf"),
            Ok(Distribution::Zipf { exponent: 0.99 })
        );
        assert_eq!(
            parse_distribution("zipf:1.5"),
            Ok(Distribution::Zipf { exponent: 1.5 })
        );
        for wrong in ["zipf:0", "zipf:NaN", "zipf:11", "normal"] {
            assert!(parse_distribution(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_would_break_the_line_are_refused() {
        assert!(parse_filter("täg:1").is_ok());
        for wrong in ["", "a b", "a\nb", &"x".repeat(201)] {
            assert!(parse_filter(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_prefix("").is_ok());
        for wrong in ["a b", "a\n", "ä"] {
            assert!(parse_prefix(wrong).is_err(), "{wrong:?}");
        }
    }
}
