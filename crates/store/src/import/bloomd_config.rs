//! The configuration file of a C `bloomd` (`bloomd -f FILE`), and the `config.ini` it keeps in
//! each filter's folder.
//!
//! The server reads numbers as C does, so `60s` is 60 and `True` is 0, keeps its default where a
//! probability is 0, and it logs what it does not know and goes on; so does this reader, which hands
//! back the lines it did not know and the values that do not mean what they look like. A value
//! outside the server's range is an error, as it is there.

use super::ini::{self, Content, INI_BYTES_MAX};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Why an INI file of a C server is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The file is larger than any such file.
    #[error("{found} bytes, at most {max} are allowed")]
    TooLong {
        /// Size of the file in bytes.
        found: u64,
        /// Largest size allowed in bytes.
        max: u64,
    },
    /// The file is not text.
    #[error("not UTF-8 text at offset {offset}")]
    NotText {
        /// Offset of the first byte that is not.
        offset: usize,
    },
    /// A line is neither a section nor a pair, in a file that only the server itself writes.
    #[error("line {line} is neither `[section]` nor `name = value`")]
    Malformed {
        /// Counted from 1.
        line: usize,
    },
    /// A value is outside its range, or not of its kind.
    #[error("{key} = {value:?}: must be {range}")]
    Value {
        /// Name of the key.
        key: &'static str,
        /// The value as it stands in the file, cut after [`SHOWN_CHARS_MAX`] characters.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// A key that the server always writes is absent: the file is cut short or another's.
    #[error("{key} is missing")]
    Missing {
        /// Name of the key.
        key: &'static str,
    },
}

/// Most characters of a refused or ignored text that are kept to be shown.
pub const SHOWN_CHARS_MAX: usize = 64;

/// How much a C server logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything; the server's default.
    Debug,
    /// Normal operation.
    Info,
    /// What may need attention.
    Warn,
    /// Failures.
    Error,
    /// Failures that end the server.
    Critical,
}

/// A line that the server logs and passes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredLine {
    /// Counted from 1.
    pub line: usize,
    /// The key, or the line if it has none; cut after [`SHOWN_CHARS_MAX`] characters.
    pub text: String,
}

/// A value that the server takes for another than whoever wrote it probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misreading {
    /// Counted from 1.
    pub line: usize,
    /// Name of the key.
    pub key: String,
    /// The value as it stands in the file, cut after [`SHOWN_CHARS_MAX`] characters.
    pub value: String,
    /// What is made of it.
    pub reading: Reading,
}

/// How a C server takes the value of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As it stands.
    Plain,
    /// As 0: it has no digit.
    Zero,
    /// Not at all, the default holds: it is 0, or has no digit.
    Default,
}

impl Reading {
    fn of(key: &str, value: &str) -> Self {
        let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
        let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
        match key {
            "port" | "tcp_port" | "udp_port" | "workers" | "flush_interval" | "cold_interval"
            | "in_memory" | "initial_capacity" | "use_mmap" | "scale_size"
                if !is_number =>
            {
                Reading::Zero
            }
            "default_probability" | "probability_reduction" if is_zero(digits) => Reading::Default,
            _ => Reading::Plain,
        }
    }
}

/// Whether C's `strtod` makes 0 of a number without its sign. It reads `nan`, `inf` and
/// hexadecimal digits too; those go on to be refused.
fn is_zero(digits: &str) -> bool {
    let start = digits.get(..3).unwrap_or(digits).to_ascii_lowercase();
    let is_other = start == "nan" || start == "inf" || start.starts_with("0x");
    let fraction = digits.strip_prefix('.').unwrap_or(digits);
    let has_digits = fraction.starts_with(|c: char| c.is_ascii_digit());
    !is_other && (!has_digits || ini::leading_decimal(digits) == Some(0.0))
}

impl std::fmt::Display for Misreading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Misreading {
            line, key, value, ..
        } = self;
        let reading = match self.reading {
            Reading::Zero => "is not a number and counts as 0",
            Reading::Default => "leaves the default as it is",
            Reading::Plain => "is taken as it stands",
        };
        write!(f, "line {line}: {key} = {value:?} {reading}, as in bloomd")
    }
}

/// The settings of a C server, each in its range.
#[derive(Clone, Debug, PartialEq)]
pub struct BloomdConfig {
    /// TCP port (`port`, `tcp_port`).
    pub tcp_port: u16,
    /// UDP port.
    pub udp_port: u16,
    /// Address of both, if the file names one; the C server takes every address of the machine.
    pub bind_address: Option<Ipv4Addr>,
    /// Where the filters lie; relative to where the server is started.
    pub data_dir: PathBuf,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Threads that serve connections, at least 1.
    pub workers: u32,
    /// Seconds between flushes, 0 for never.
    pub flush_interval_seconds: u32,
    /// Seconds without use after which a filter is unmapped, 0 for never.
    pub cold_interval_seconds: u32,
    /// Whether new filters live in memory only.
    pub in_memory: bool,
    /// Keys the first layer of a new filter is made for, above 10,000.
    pub initial_capacity: u64,
    /// Error rate of a new filter, above 0 and below 0.1.
    pub default_probability: f64,
    /// Whether files are mapped shared instead of written by flushes.
    pub use_mmap: bool,
    /// Growth of each layer over the one before, 2 or 4.
    pub scale_size: u32,
    /// Error rate of each layer over the one before, above 0.1 and below 1.
    pub probability_reduction: f64,
    /// What was not understood, in order.
    pub ignored: Vec<IgnoredLine>,
    /// What was understood otherwise than it looks, in order.
    pub misread: Vec<Misreading>,
}

impl Default for BloomdConfig {
    fn default() -> Self {
        Self {
            tcp_port: 8673,
            udp_port: 8674,
            bind_address: None,
            data_dir: PathBuf::from("/tmp/bloomd"),
            log_level: LogLevel::Debug,
            workers: 1,
            flush_interval_seconds: 60,
            cold_interval_seconds: 3600,
            in_memory: false,
            initial_capacity: 100_000,
            default_probability: 1e-4,
            use_mmap: false,
            scale_size: 4,
            probability_reduction: 0.9,
            ignored: Vec::new(),
            misread: Vec::new(),
        }
    }
}

impl BloomdConfig {
    /// Reads the whole content of a configuration file; what it does not set keeps the server's
    /// default. Of a key given twice, the last counts.
    ///
    /// # Errors
    /// [`ConfigError`], naming key, value and range.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for line in ini::lines(text(bytes)?) {
            let ignored = match line.content {
                Content::Malformed(text) => Some(text),
                Content::Pair { section, .. } if !section.eq_ignore_ascii_case("bloomd") => None,
                Content::Pair { name, value, .. } => {
                    let known = config.read_pair(line.number, &name.to_ascii_lowercase(), value)?;
                    (!known).then_some(name)
                }
            };
            if let Some(text) = ignored {
                config.ignored.push(IgnoredLine {
                    line: line.number,
                    text: shown(text),
                });
            }
        }
        Ok(config)
    }

    /// Reads the configuration file at `path`.
    ///
    /// # Errors
    /// [`super::bloomd::ImportError`], naming the file.
    pub fn read(path: &Path) -> Result<Self, super::bloomd::ImportError> {
        let bytes = super::bloomd::read_config(path)?;
        Self::parse(&bytes).map_err(|source| super::bloomd::ImportError::config(path, source))
    }

    /// Takes the value of one key, in lower case, as the server does; says whether there is such a
    /// key.
    fn read_pair(&mut self, line: usize, key: &str, value: &str) -> Result<bool, ConfigError> {
        let reading = Reading::of(key, value);
        let known = match reading {
            Reading::Plain => return self.set(key, value),
            Reading::Default => true,
            // What is refused is shown as it stands in the file.
            Reading::Zero => self.set(key, "0").map_err(|error| match error {
                ConfigError::Value { key, range, .. } => refused(key, value, range),
                other => other,
            })?,
        };
        self.misread.push(Misreading {
            line,
            key: key.to_owned(),
            value: shown(value),
            reading,
        });
        Ok(known)
    }

    /// Sets one key, in lower case; says whether there is such a key.
    fn set(&mut self, key: &str, value: &str) -> Result<bool, ConfigError> {
        match key {
            "port" | "tcp_port" => self.tcp_port = port("tcp_port", value)?,
            "udp_port" => self.udp_port = port("udp_port", value)?,
            "bind_address" => {
                let address = value
                    .parse()
                    .map_err(|_| refused("bind_address", value, "an IPv4 address"))?;
                self.bind_address = Some(address);
            }
            "data_dir" if value.is_empty() => {
                return Err(refused("data_dir", value, "a directory"));
            }
            "data_dir" => self.data_dir = PathBuf::from(value),
            "log_level" => self.log_level = log_level(value)?,
            "workers" => {
                self.workers = number("workers", value, 1, "1 to 4294967295")?;
            }
            "flush_interval" => {
                self.flush_interval_seconds = number("flush_interval", value, 0, SECONDS)?;
            }
            "cold_interval" => {
                self.cold_interval_seconds = number("cold_interval", value, 0, SECONDS)?;
            }
            "in_memory" => self.in_memory = flag("in_memory", value)?,
            "initial_capacity" => self.initial_capacity = capacity(value)?,
            "default_probability" => {
                self.default_probability = between(
                    "default_probability",
                    value,
                    0.0,
                    0.1,
                    "above 0 and below 0.1",
                )?;
            }
            "use_mmap" => self.use_mmap = flag("use_mmap", value)?,
            "scale_size" => self.scale_size = scale(value)?,
            "probability_reduction" => self.probability_reduction = reduction(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

const SECONDS: &str = "0 to 4294967295 seconds";

/// A filter's `config.ini`, as the server writes it after each flush.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FilterConfig {
    /// Keys the first layer is made for.
    pub initial_capacity: u64,
    /// Error rate of the whole filter, rounded to 6 decimals when it was written: 0 to 0.1, and
    /// 0 stands for anything below 5e-7.
    pub default_probability: f64,
    /// Growth of each layer over the one before, 2 or 4.
    pub scale_size: u32,
    /// Error rate of each layer over the one before, rounded to 6 decimals.
    pub probability_reduction: f64,
    /// Whether the filter has no layer files.
    pub in_memory: bool,
    /// Keys added, when the file was written.
    pub size: u64,
    /// Keys all layers were made for, when the file was written.
    pub capacity: u64,
    /// Size of all layer files in bytes, when the file was written.
    pub bytes: u64,
}

impl FilterConfig {
    /// Reads the whole content of a `config.ini`. The server writes all eight keys, so each of
    /// them is wanted, and nothing is guessed; keys it does not write are passed over.
    ///
    /// # Errors
    /// [`ConfigError`], naming the line or the key, its value and range.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let mut keys = FilterKeys::default();
        for line in ini::lines(text(bytes)?) {
            match line.content {
                Content::Malformed(_) => return Err(ConfigError::Malformed { line: line.number }),
                Content::Pair {
                    section,
                    name,
                    value,
                } => {
                    if section.eq_ignore_ascii_case("bloomd") {
                        keys.set(&name.to_ascii_lowercase(), value)?;
                    }
                }
            }
        }
        keys.complete()
    }
}

/// What of a [`FilterConfig`] has been read.
#[derive(Default)]
struct FilterKeys {
    initial_capacity: Option<u64>,
    default_probability: Option<f64>,
    scale_size: Option<u32>,
    probability_reduction: Option<f64>,
    in_memory: Option<bool>,
    size: Option<u64>,
    capacity: Option<u64>,
    bytes: Option<u64>,
}

impl FilterKeys {
    fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "initial_capacity" => self.initial_capacity = Some(capacity(value)?),
            "default_probability" => {
                let range = "at least 0 and at most 0.1";
                let probability = ini::leading_decimal(value).filter(|p| (0.0..=0.1).contains(p));
                let refused = || refused("default_probability", value, range);
                self.default_probability = Some(probability.ok_or_else(refused)?);
            }
            "scale_size" => self.scale_size = Some(scale(value)?),
            "probability_reduction" => self.probability_reduction = Some(reduction(value)?),
            "in_memory" => self.in_memory = Some(flag("in_memory", value)?),
            "size" => self.size = Some(total("size", value)?),
            "capacity" => self.capacity = Some(total("capacity", value)?),
            "bytes" => self.bytes = Some(total("bytes", value)?),
            _ => {}
        }
        Ok(())
    }

    fn complete(self) -> Result<FilterConfig, ConfigError> {
        fn wanted<T>(key: &'static str, value: Option<T>) -> Result<T, ConfigError> {
            value.ok_or(ConfigError::Missing { key })
        }
        Ok(FilterConfig {
            initial_capacity: wanted("initial_capacity", self.initial_capacity)?,
            default_probability: wanted("default_probability", self.default_probability)?,
            scale_size: wanted("scale_size", self.scale_size)?,
            probability_reduction: wanted("probability_reduction", self.probability_reduction)?,
            in_memory: wanted("in_memory", self.in_memory)?,
            size: wanted("size", self.size)?,
            capacity: wanted("capacity", self.capacity)?,
            bytes: wanted("bytes", self.bytes)?,
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, ConfigError> {
    if bytes.len() > INI_BYTES_MAX {
        let (found, max) = (bytes.len() as u64, INI_BYTES_MAX as u64);
        return Err(ConfigError::TooLong { found, max });
    }
    std::str::from_utf8(bytes).map_err(|e| ConfigError::NotText {
        offset: e.valid_up_to(),
    })
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

fn refused(key: &'static str, value: &str, range: &'static str) -> ConfigError {
    ConfigError::Value {
        key,
        value: shown(value),
        range,
    }
}

fn port(key: &'static str, value: &str) -> Result<u16, ConfigError> {
    ini::leading_integer(value)
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| refused(key, value, "0 to 65535"))
}

fn number(
    key: &'static str,
    value: &str,
    min: u32,
    range: &'static str,
) -> Result<u32, ConfigError> {
    ini::leading_integer(value)
        .and_then(|n| u32::try_from(n).ok())
        .filter(|n| *n >= min)
        .ok_or_else(|| refused(key, value, range))
}

fn total(key: &'static str, value: &str) -> Result<u64, ConfigError> {
    ini::leading_integer(value)
        .and_then(|n| u64::try_from(n).ok())
        .ok_or_else(|| refused(key, value, "0 to 9223372036854775807"))
}

fn capacity(value: &str) -> Result<u64, ConfigError> {
    ini::leading_integer(value)
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| (10_001..=CAPACITY_MAX).contains(n))
        .ok_or_else(|| refused("initial_capacity", value, "10001 to 281474976710656"))
}

/// Largest capacity read: 2⁴⁸ keys, beyond any machine, and exact in the arithmetic of layers.
const CAPACITY_MAX: u64 = 1 << 48;

fn scale(value: &str) -> Result<u32, ConfigError> {
    match ini::leading_integer(value) {
        Some(2) => Ok(2),
        Some(4) => Ok(4),
        _ => Err(refused("scale_size", value, "2 or 4")),
    }
}

fn reduction(value: &str) -> Result<f64, ConfigError> {
    between(
        "probability_reduction",
        value,
        0.1,
        1.0,
        "above 0.1 and below 1",
    )
}

fn between(
    key: &'static str,
    value: &str,
    above: f64,
    below: f64,
    range: &'static str,
) -> Result<f64, ConfigError> {
    ini::leading_decimal(value)
        .filter(|n| *n > above && *n < below)
        .ok_or_else(|| refused(key, value, range))
}

fn flag(key: &'static str, value: &str) -> Result<bool, ConfigError> {
    match ini::leading_integer(value) {
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        _ => Err(refused(key, value, "0 or 1")),
    }
}

fn log_level(value: &str) -> Result<LogLevel, ConfigError> {
    const LEVELS: [(&str, LogLevel); 5] = [
        ("DEBUG", LogLevel::Debug),
        ("INFO", LogLevel::Info),
        ("WARN", LogLevel::Warn),
        ("ERROR", LogLevel::Error),
        ("CRITICAL", LogLevel::Critical),
    ];
    LEVELS
        .into_iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value))
        .map(|(_, level)| level)
        .ok_or_else(|| refused("log_level", value, "DEBUG, INFO, WARN, ERROR or CRITICAL"))
}

#[cfg(test)]
#[path = "bloomd_config_tests.rs"]
mod tests;
