//! The Python server's `conf`: its settings, as far as they have a meaning here, under its names.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use grapevine_core::catalogue::Storage;
use grapevine_core::filter::parameters::{Growth, LATER_LAYER_RATIO, Parameters};
use grapevine_core::wire::bloomd::reply::{self, Status};
use grapevine_store::filters::Handle;
use tracing::level_filters::LevelFilter;

use super::execute::Executor;
use crate::config::{Config, SyncMode};

/// What `conf` shows of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where the node keeps its state.
    pub data_dir: PathBuf,
    /// Port for datagrams, if there is one.
    pub udp_port: Option<u16>,
    /// The time between syncs of the log: zero when the operating system decides, none when each
    /// reply waits for one.
    pub flush_interval: Option<Duration>,
    /// The time after which an unused filter leaves memory; zero for never.
    pub cold_interval: Duration,
}

impl Settings {
    /// Those of a configuration, with the port that the datagrams' socket got.
    pub(crate) fn of(config: &Config, udp_port: Option<u16>) -> Self {
        Settings {
            data_dir: config.node.data_dir.clone(),
            udp_port,
            flush_interval: match config.durability.sync {
                SyncMode::Os => Some(Duration::ZERO),
                SyncMode::Interval => Some(config.durability.interval),
                SyncMode::Always => None,
            },
            cold_interval: config.filters.idle_unload.unwrap_or_default(),
        }
    }
}

impl Executor<'_> {
    /// Appends the reply: the server's settings, or those that a filter has of its own among them.
    pub(super) fn conf(&self, filter: Option<&[u8]>, out: &mut Vec<u8>) {
        let engine = &self.gateway.engine;
        let mut settings = self.of_server();
        let Some(name) = filter else {
            let defaults = engine.defaults();
            settings.extend(of_filter(&defaults.parameters, defaults.storage));
            return reply::conf(out, borrowed(&settings));
        };
        match engine.filters().get(name) {
            Some(handle) => {
                settings.extend(of_handle(&handle));
                settings.push(("name", name.to_vec()));
                reply::conf(out, borrowed(&settings));
            }
            None => reply::status(out, Status::FilterDoesNotExist),
        }
    }

    fn of_server(&self) -> Vec<(&'static str, Vec<u8>)> {
        let settings = &self.gateway.settings;
        let data_dir = settings.data_dir.as_os_str().as_bytes();
        let mut shown = vec![
            ("cold_interval", seconds(settings.cold_interval)),
            ("data_dir", data_dir.to_vec()),
            ("log_level", log_level().into()),
            ("probability_reduction", float(LATER_LAYER_RATIO)),
        ];
        let interval = settings.flush_interval.map(seconds);
        shown.extend(interval.map(|interval| ("flush_interval", interval)));
        shown.extend(self.port.map(|port| ("port", decimal(port))));
        shown.extend(settings.udp_port.map(|port| ("udp_port", decimal(port))));
        shown
    }
}

fn of_handle(handle: &Handle) -> [(&'static str, Vec<u8>); 4] {
    let parameters = Parameters {
        error: handle.error(),
        ..handle.parameters()
    };
    of_filter(&parameters, handle.storage())
}

fn of_filter(parameters: &Parameters, storage: Storage) -> [(&'static str, Vec<u8>); 4] {
    let growth = match parameters.growth {
        Growth::Fixed => 1,
        Growth::By(factor) => factor,
    };
    [
        ("initial_capacity", decimal(parameters.capacity)),
        ("default_probability", float(parameters.error)),
        ("scale_size", decimal(growth)),
        ("in_memory", decimal(u8::from(storage == Storage::Memory))),
    ]
}

fn borrowed<'s>(settings: &'s [(&'s str, Vec<u8>)]) -> impl Iterator<Item = (&'s str, &'s [u8])> {
    settings.iter().map(|(name, value)| (*name, &value[..]))
}

fn decimal(number: impl Into<u64>) -> Vec<u8> {
    number.into().to_string().into_bytes()
}

/// Whole seconds as an integer, which all intervals of the Python server are.
fn seconds(time: Duration) -> Vec<u8> {
    match time.subsec_nanos() {
        0 => decimal(time.as_secs()),
        _ => float(time.as_secs_f64()),
    }
}

/// The level that is logged now, as the Python server calls it.
fn log_level() -> &'static str {
    match LevelFilter::current() {
        LevelFilter::OFF => "CRITICAL",
        LevelFilter::ERROR => "ERROR",
        LevelFilter::WARN => "WARN",
        LevelFilter::INFO => "INFO",
        _ => "DEBUG",
    }
}

/// Significant digits that Python 2 shows of a float.
const DIGITS: usize = 12;

/// A number between 0 and 10¹² as Python 2 shows it: `0.0001`, `1e-05`, `2.0`.
fn float(value: f64) -> Vec<u8> {
    let scientific = format!("{value:.*e}", DIGITS - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let without_zeros = |digits: &str| {
        let digits = digits.trim_end_matches('0');
        digits.trim_end_matches('.').to_owned()
    };
    if exponent < -4 {
        return format!("{}e-{:02}", without_zeros(digits), -exponent).into_bytes();
    }
    let decimals = usize::try_from(DIGITS as i32 - 1 - exponent).unwrap_or(0);
    let shown = format!("{value:.decimals$}");
    match shown.contains('.').then(|| without_zeros(&shown)) {
        Some(shown) if shown.contains('.') => shown.into_bytes(),
        whole => (whole.unwrap_or(shown) + ".0").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_python_shows_them() {
        for (value, shown) in [
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.25e-9, "1.25e-09"),
            (0.001, "0.001"),
            (0.1, "0.1"),
            (0.05 + 0.01, "0.06"),
            (1.0 / 3.0, "0.333333333333"),
            (2.0, "2.0"),
            (60.5, "60.5"),
            (100.0, "100.0"),
            (0.000_123_456_789_012_34, "0.000123456789012"),
        ] {
            assert_eq!(String::from_utf8_lossy(&float(value)), shown);
        }
        assert_eq!(seconds(Duration::from_secs(60)), b"60");
        assert_eq!(seconds(Duration::from_millis(250)), b"0.25");
        assert_eq!(seconds(Duration::ZERO), b"0");
    }
}
