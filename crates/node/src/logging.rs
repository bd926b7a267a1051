//! Logging to standard error, with a level that can be changed while the node runs.
//!
//! Lines go through a queue: who logs never waits for whoever reads them. Where nobody does (a
//! terminal that was stopped, a pipe that is full), lines beyond the queue's are dropped and
//! counted.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

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
/// How long lines wait for a banner.
const BANNER_PATIENCE: Duration = Duration::from_secs(2);
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
    held: Held,
    _queue: WorkerGuard,
}

/// Lines that wait until something else was printed. They wait in the queue, and not for long.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<(Mutex<bool>, Condvar)>);

impl Held {
    /// Lets them go.
    pub fn release(&self) {
        let (released, changed) = &*self.0;
        *released.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Waits until they may go, at most until `deadline`.
    fn wait(&self, deadline: Instant) {
        let (released, changed) = &*self.0;
        let guard = released.lock().unwrap_or_else(PoisonError::into_inner);
        let left = deadline.saturating_duration_since(Instant::now());
        drop(changed.wait_timeout_while(guard, left, |released| !*released));
    }
}

impl Drop for LogControl {
    fn drop(&mut self) {
        self.held.release();
    }
}

impl LogControl {
    /// The lines that wait, if [`start_held`] made them.
    #[must_use]
    pub fn held(&self) -> Held {
        self.held.clone()
    }

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
    let control = start_held(node)?;
    control.held.release();
    Ok(control)
}

/// Starts logging as [`start`] does, but lines wait until they are released, `BANNER_PATIENCE` has
/// passed or this ends: what a person who starts a node is to read first comes first.
///
/// # Errors
/// When the filter is not valid or the process logs already.
pub fn start_held(node: &Node) -> Result<LogControl, LoggingError> {
    let held = Held::default();
    let lines = Lines {
        file: writer()?,
        waits: Some((held.clone(), Instant::now() + BANNER_PATIENCE)),
    };
    let (filter, handle) = reload::Layer::new(filter_of(node, variable())?);
    let (queue, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_WAITING_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(lines);
    // Only one log is installed in a process.
    drop(DROPPED.set(queue.error_counter()));
    let lines = fmt::layer().with_writer(queue);
    let lines = match node.log_format {
        LogFormat::Text => {
            let no_color = env::var_os("NO_COLOR");
            let colours = wants_colours(io::stderr().is_terminal(), no_color);
            lines.with_ansi(colours).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()?;
    Ok(LogControl {
        filter: handle,
        held,
        _queue: worker,
    })
}

/// Where the queue is written to.
struct Lines {
    file: File,
    /// What is waited for, and until when; nothing when that is over.
    waits: Option<(Held, Instant)>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some((held, deadline)) = self.waits.take() {
            held.wait(deadline);
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Standard error without the lock that others of this process take to write to it: it may be held
/// up for as long as nobody reads.
fn writer() -> Result<File, LoggingError> {
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    Ok(File::from(stderr.map_err(LoggingError::StandardError)?))
}

/// On a terminal, unless `NO_COLOR` says anything (no-color.org).
fn wants_colours(terminal: bool, no_color: Option<OsString>) -> bool {
    terminal && no_color.is_none_or(|value| value.is_empty())
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
    fn colours_are_for_terminals_without_no_color() {
        let said = |text: &str| Some(OsString::from(text));
        assert!(wants_colours(true, None));
        assert!(wants_colours(true, said("")), "empty is not set");
        assert!(!wants_colours(true, said("1")) && !wants_colours(true, said("0")));
        assert!(!wants_colours(false, None) && !wants_colours(false, said("")));
    }

    #[test]
    fn lines_wait_until_they_are_released() -> io::Result<()> {
        let mut read = tempfile::tempfile()?;
        let held = Held::default();
        let far = Instant::now() + Duration::from_secs(600);
        let mut lines = Lines {
            file: read.try_clone()?,
            waits: Some((held.clone(), far)),
        };
        let (begins, begun) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            begins.send(()).expect("somebody waits");
            lines.write_all(b"behind\n")
        });
        begun.recv().expect("it begins");
        read.write_all(b"before\n")?;
        held.release();
        writer.join().expect("it ends")?;
        let mut text = String::new();
        io::Seek::rewind(&mut read)?;
        io::Read::read_to_string(&mut read, &mut text)?;
        assert_eq!(text, "before\nbehind\n");
        // What nobody releases goes when its time has come.
        Held::default().wait(Instant::now());
        Ok(())
    }

    #[test]
    fn the_filter_changes_while_running() -> Result<(), LoggingError> {
        let (layer, handle) = reload::Layer::new(filter_of(&node("info"), None)?);
        let _registry = tracing_subscriber::registry().with(layer);
        let (_, worker) = tracing_appender::non_blocking(io::sink());
        let control = LogControl {
            filter: handle.clone(),
            held: Held::default(),
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
