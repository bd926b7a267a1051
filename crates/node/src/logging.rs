//! Logging to standard error, with a level that can be changed while the node runs.

use std::env;
use std::io::{self, IsTerminal};

use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, filter, fmt, reload};

use crate::config::{LogFormat, Node};

/// The variable that overrides `node.log`.
const FILTER_VARIABLE: &str = "RUST_LOG";

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
    /// Something in this process logs already.
    #[error("logging is set up already")]
    Installed(#[from] TryInitError),
    /// The log was taken down.
    #[error("the log cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct LogControl(reload::Handle<EnvFilter, Registry>);

impl LogControl {
    /// Takes up `node.log` of a newly read configuration; `RUST_LOG` still overrides it.
    ///
    /// # Errors
    /// When the filter is not valid; the old one stays.
    pub fn reload(&self, node: &Node) -> Result<(), LoggingError> {
        Ok(self.0.reload(filter_of(node, variable())?)?)
    }
}

/// Starts logging to standard error, for the whole process.
///
/// # Errors
/// When the filter is not valid or the process logs already.
pub fn start(node: &Node) -> Result<LogControl, LoggingError> {
    let (filter, handle) = reload::Layer::new(filter_of(node, variable())?);
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match node.log_format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(LogControl(handle))
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
    EnvFilter::try_new(&text).map_err(|source| LoggingError::Filter {
        origin,
        text,
        source,
    })
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
    fn the_filter_changes_while_running() -> Result<(), LoggingError> {
        let (layer, handle) = reload::Layer::new(filter_of(&node("info"), None)?);
        let _registry = tracing_subscriber::registry().with(layer);
        let control = LogControl(handle.clone());
        handle.reload(filter_of(&node("trace"), None)?)?;
        if variable().is_none() {
            control.reload(&node("warn"))?;
            assert_eq!(handle.with_current(ToString::to_string)?, "warn");
        }
        assert!(control.reload(&node("a=b=c")).is_err() || variable().is_some());
        Ok(())
    }
}
