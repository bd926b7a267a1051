//! Logging to standard error, with a level that can be changed while the node runs.
//!
//! Lines go through a queue: who logs never waits for whoever reads them. Where nobody does (a
//! terminal that was stopped, a pipe that is full), lines beyond the queue's are dropped and
//! counted.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, filter, fmt, reload};

use crate::config::{LogFormat, Node};

/// The variable that overrides `node.log`.
const FILTER_VARIABLE: &str = "RUST_LOG";
/// Lines that wait to be read.
const LINES_WAITING_MAX: usize = 8192;
/// Counts the lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();
/// Words that are levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why logging could not be set up or changed. What was logged before is logged still.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not valid.
    #[error("{origin}: log filter {text:?}: {source}")]
    Filter {
        /// `RUST_LOG` or `node.log`.
        origin: &'static str,
        /// The filter as given.
        text: String,
        /// What is wrong with it.
        source: filter::ParseError,
    },
    /// A word that stands alone and is no level.
    #[error(
        "{origin}: log filter {text:?}: {word:?} is no level; the nearest is `{nearest}` (of off, \
         error, warn, info, debug, trace; a module has its own as module=level)"
    )]
    Level {
        /// `RUST_LOG` or `node.log`.
        origin: &'static str,
        /// The filter as given.
        text: String,
        /// The word.
        word: String,
        /// The level with the nearest name.
        nearest: &'static str,
    },
    /// There is nowhere to write to.
    #[error("standard error: {0}")]
    StandardError(io::Error),
    /// Something in this process logs already.
    #[error("logging is set up already")]
    Installed(#[from] TryInitError),
    /// The log was taken down.
    #[error("the log cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// The log of this process: what waits in its queue is written for as long as this is kept, and a
/// moment when it is dropped.
#[derive(Debug)]
pub struct LogControl {
    filter: reload::Handle<EnvFilter, Registry>,
    _queue: WorkerGuard,
}

impl LogControl {
    /// Takes up `node.log` of a newly read configuration; `RUST_LOG` still overrides it.
    ///
    /// # Errors
    /// When the filter is not valid; the old one stays.
    pub fn reload(&self, node: &Node) -> Result<(), LoggingError> {
        Ok(self.filter.reload(filter_of(node, variable())?)?)
    }
}

/// Starts logging to standard error, for the whole process.
///
/// # Errors
/// When the filter is not valid or the process logs already.
pub fn start(node: &Node) -> Result<LogControl, LoggingError> {
    let (filter, handle) = reload::Layer::new(filter_of(node, variable())?);
    let (queue, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(writer()?);
    // Only one log is installed in a process.
    drop(DROPPED.set(queue.error_counter()));
    let lines = fmt::layer().with_writer(queue);
    let lines = match node.log_format {
        LogFormat::Text => lines.with_ansi(wants_colours()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(LogControl {
        filter: handle,
        _queue: worker,
    })
}

/// Standard error without the lock that others of this process take to write to it: it may be held
/// up for as long as nobody reads.
fn writer() -> Result<File, LoggingError> {
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    Ok(File::from(stderr.map_err(LoggingError::StandardError)?))
}

/// On a terminal, unless `NO_COLOR` says anything (no-color.org).
fn wants_colours() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Lines of this process's log that were dropped because nobody read those before them.
pub(crate) fn dropped_lines() -> u64 {
    DROPPED
        .get()
        .map_or(0, |counter| counter.dropped_lines() as u64)
}

fn variable() -> Option<String> {
    env::var(FILTER_VARIABLE)
        .ok()
        .filter(|text| !text.trim().is_empty())
}

fn filter_of(node: &Node, variable: Option<String>) -> Result<EnvFilter, LoggingError> {
    let (origin, text) = match variable {
        Some(text) => (FILTER_VARIABLE, text),
        None => ("node.log", node.log.clone()),
    };
    if let Some((word, nearest)) = misspelt_level(&text) {
        let word = word.to_owned();
        return Err(LoggingError::Level {
            origin,
            word,
            nearest,
            text,
        });
    }
    EnvFilter::try_new(&text).map_err(|source| LoggingError::Filter {
        origin,
        text,
        source,
    })
}

/// A word of a filter that is no level and has none, with the nearest: it would be taken for the
/// name of a module, and all others would log nothing.
pub(crate) fn misspelt_level(filter: &str) -> Option<(&str, &'static str)> {
    let is_level = |word: &str| {
        LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level))
            || matches!(word, "" | "0" | "1" | "2" | "3" | "4" | "5")
    };
    let mut words = filter.split(',').map(str::trim);
    let word = words.find(|word| !is_level(word) && !word.contains(['=', '[']))?;
    let distance = |level: &&&'static str| {
        let start: String = word.to_lowercase().chars().take(2 * level.len()).collect();
        strsim::damerau_levenshtein(&start, level)
    };
    let nearest = LEVELS.iter().min_by_key(distance);
    Some((word, nearest.copied().unwrap_or("info")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn node(log: &str) -> Node {
        Node {
            name: "n".to_owned(),
            data_dir: PathBuf::from("d"),
            log: log.to_owned(),
            log_format: LogFormat::Text,
        }
    }

    #[test]
    fn the_variable_overrides_the_key() -> Result<(), LoggingError> {
        assert_eq!(filter_of(&node("info"), None)?.to_string(), "info");
        assert_eq!(
            filter_of(&node("info"), Some("debug".to_owned()))?.to_string(),
            "debug"
        );
        let refused = filter_of(&node("info"), Some("grapevine=loud".to_owned()));
        let refused = refused
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            refused.starts_with("RUST_LOG: log filter \"grapevine=loud\": "),
            "{refused}"
        );
        Ok(())
    }

    #[test]
    fn a_misspelt_level_is_refused_with_the_nearest() -> Result<(), LoggingError> {
        for (text, nearest) in [
            ("warning", "warn"),
            ("Warn1", "warn"),
            ("eror,grapevine=debug", "error"),
            ("info,dbug", "debug"),
        ] {
            match filter_of(&node(text), None).err() {
                Some(LoggingError::Level { nearest: said, .. }) => assert_eq!(said, nearest),
                other => panic!("{text}: {other:?}"),
            }
        }
        assert!(filter_of(&node("grapevine"), None).is_err());
        for text in [
            "WARN",
            "off",
            "3",
            "info,libp2p=debug",
            "warn,grapevine::serve=trace",
        ] {
            filter_of(&node(text), None)?;
        }
        Ok(())
    }

    #[test]
    fn the_filter_changes_while_running() -> Result<(), LoggingError> {
        let (layer, handle) = reload::Layer::new(filter_of(&node("info"), None)?);
        let _registry = tracing_subscriber::registry().with(layer);
        let (_, worker) = tracing_appender::non_blocking(io::sink());
        let control = LogControl {
            filter: handle.clone(),
            _queue: worker,
        };
        handle.reload(filter_of(&node("trace"), None)?)?;
        if variable().is_none() {
            control.reload(&node("warn"))?;
            assert_eq!(handle.with_current(ToString::to_string)?, "warn");
        }
        assert!(control.reload(&node("a=b=c")).is_err() || variable().is_some());
        Ok(())
    }
}
