//! The kinds of value a key takes: how each is read, shown and described.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use grapevine_core::filter::parameters::ERROR_MIN;
use toml::Value;
use tracing_subscriber::EnvFilter;

use super::origin::{Given, Raw};
use super::surroundings::Surroundings;
use crate::logging::misspelt_level;
use grapevine_core::quantity::{
    COUNT_FORMS, parse_count, parse_size, parse_time, show_size, show_time,
};

/// Words that turn an optional value off.
pub(super) const OFF: [&str; 2] = ["", "off"];

/// What a kind says about the values it takes.
pub trait Shape: fmt::Debug + Sync {
    /// The kind in a word or two, for the reference.
    fn word(&self) -> &'static str;
    /// The values taken, with an example, to follow "it takes".
    fn allowed(&self) -> String;
}

/// Reads raw values into `Value` and shows them as TOML that reads back the same.
pub(crate) trait Kind: Shape {
    /// The Rust type of the value.
    type Value;
    /// Reads what a layer gave.
    fn read(
        &self,
        key: &'static str,
        given: &Given,
        surroundings: &Surroundings,
    ) -> Result<Self::Value, Refusal>;
    /// The value as TOML.
    fn show(&self, value: &Self::Value) -> Value;
}

/// Why a value was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is none of the values that the key takes.
    NotAllowed,
    /// It is a share of memory, and the machine does not say how much memory it has.
    MemoryUnknown,
    /// It is no valid log filter; the reason in words.
    LogFilter(Box<str>),
    /// It is a list, and one element is none of the values that the key takes.
    Element {
        /// Which one, counted from 1.
        ordinal: u16,
        /// The element as written, cut when long.
        value: Box<str>,
    },
    /// It is a list of more elements than the key takes.
    TooManyElements,
}

pub(super) fn text(given: &Given) -> Result<&str, Refusal> {
    match &given.raw {
        Raw::Text(text) => Ok(text),
        _ => Err(Refusal::NotAllowed),
    }
}

fn text_or_number(given: &Given) -> Result<&str, Refusal> {
    match &given.raw {
        Raw::Text(text) | Raw::Number(text) => Ok(text),
        _ => Err(Refusal::NotAllowed),
    }
}

fn within<T: PartialOrd>(value: T, min: T, max: T) -> Result<T, Refusal> {
    if value >= min && value <= max {
        Ok(value)
    } else {
        Err(Refusal::NotAllowed)
    }
}

pub(super) fn quoted(text: impl Into<String>) -> Value {
    Value::String(text.into())
}

/// A line of printable text, not empty.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) bytes_max: usize,
}

impl Shape for Text {
    fn word(&self) -> &'static str {
        "text"
    }
    fn allowed(&self) -> String {
        format!(
            "text of 1 to {} bytes without control characters",
            self.bytes_max
        )
    }
}

impl Kind for Text {
    type Value = String;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<String, Refusal> {
        let text = text(given)?;
        let fits = (1..=self.bytes_max).contains(&text.len());
        if fits && !text.contains(char::is_control) {
            Ok(text.to_owned())
        } else {
            Err(Refusal::NotAllowed)
        }
    }
    fn show(&self, value: &String) -> Value {
        quoted(value)
    }
}

/// A name that can stand in a path, an address or a table without quotes.
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) bytes_max: usize,
}

impl Shape for Label {
    fn word(&self) -> &'static str {
        "name"
    }
    fn allowed(&self) -> String {
        format!(
            "a name of 1 to {} ASCII letters, digits, `-`, `_` and `.`",
            self.bytes_max
        )
    }
}

impl Kind for Label {
    type Value = String;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<String, Refusal> {
        let text = text(given)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if (1..=self.bytes_max).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(text.to_owned())
        } else {
            Err(Refusal::NotAllowed)
        }
    }
    fn show(&self, value: &String) -> Value {
        quoted(value)
    }
}

/// A whole number from `min` to `max`.
#[derive(Debug)]
pub(crate) struct Integer<T> {
    min: u64,
    max: u64,
    of: PhantomData<T>,
}

impl<T> Integer<T> {
    pub(crate) const fn between(min: u64, max: u64) -> Self {
        Self {
            min,
            max,
            of: PhantomData,
        }
    }
}

impl<T: fmt::Debug + Sync> Shape for Integer<T> {
    fn word(&self) -> &'static str {
        "whole number"
    }
    fn allowed(&self) -> String {
        let forms = if self.max >= 100_000 {
            format!(", as {COUNT_FORMS}")
        } else {
            String::new()
        };
        format!("a whole number from {} to {}{forms}", self.min, self.max)
    }
}

impl<T: TryFrom<u64> + TryInto<i64> + Copy + fmt::Debug + Sync> Kind for Integer<T> {
    type Value = T;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<T, Refusal> {
        let number = parse_count(text_or_number(given)?).ok_or(Refusal::NotAllowed)?;
        T::try_from(within(number, self.min, self.max)?).map_err(|_| Refusal::NotAllowed)
    }
    fn show(&self, value: &T) -> Value {
        Value::Integer((*value).try_into().unwrap_or(i64::MAX))
    }
}

/// A number of bytes from `min` to `max`.
#[derive(Debug)]
pub(crate) struct Size<T> {
    min: u64,
    max: u64,
    of: PhantomData<T>,
}

impl<T> Size<T> {
    pub(crate) const fn between(min: u64, max: u64) -> Self {
        Self {
            min,
            max,
            of: PhantomData,
        }
    }
}

impl<T: fmt::Debug + Sync> Shape for Size<T> {
    fn word(&self) -> &'static str {
        "size"
    }
    fn allowed(&self) -> String {
        let (min, max) = (show_size(self.min), show_size(self.max));
        format!("a size from {min} to {max}, in B, KiB, MiB, GiB or TiB")
    }
}

impl<T: TryFrom<u64> + TryInto<u64> + Copy + fmt::Debug + Sync> Kind for Size<T> {
    type Value = T;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<T, Refusal> {
        let bytes = parse_size(text_or_number(given)?).ok_or(Refusal::NotAllowed)?;
        T::try_from(within(bytes, self.min, self.max)?).map_err(|_| Refusal::NotAllowed)
    }
    fn show(&self, value: &T) -> Value {
        quoted(show_size((*value).try_into().unwrap_or(u64::MAX)))
    }
}

/// The most memory the node may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The limit in bytes.
    pub bytes: u64,
    /// The share of the machine's memory it was given as, if it was.
    pub percent: Option<u8>,
}

/// A size, or a share of the machine's memory in percent.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) bytes_min: u64,
}

impl Shape for Memory {
    fn word(&self) -> &'static str {
        "size or percent"
    }
    fn allowed(&self) -> String {
        let min = show_size(self.bytes_min);
        format!("a size of at least {min}, as \"4GiB\", or a share of memory, as \"75%\"")
    }
}

impl Kind for Memory {
    type Value = MemoryLimit;
    fn read(
        &self,
        _: &'static str,
        given: &Given,
        surroundings: &Surroundings,
    ) -> Result<MemoryLimit, Refusal> {
        let text = text_or_number(given)?.trim();
        let Some(percent) = text.strip_suffix('%') else {
            let bytes = parse_size(text).ok_or(Refusal::NotAllowed)?;
            return Ok(MemoryLimit {
                bytes: within(bytes, self.bytes_min, u64::MAX)?,
                percent: None,
            });
        };
        let percent: u8 = percent
            .trim_end()
            .parse()
            .map_err(|_| Refusal::NotAllowed)?;
        let percent = within(percent, 1, 100)?;
        let machine = surroundings.memory.ok_or(Refusal::MemoryUnknown)?;
        let bytes = u128::from(machine) * u128::from(percent) / 100;
        let bytes = u64::try_from(bytes).map_err(|_| Refusal::NotAllowed)?;
        Ok(MemoryLimit {
            bytes: within(bytes, self.bytes_min, u64::MAX)?,
            percent: Some(percent),
        })
    }
    fn show(&self, value: &MemoryLimit) -> Value {
        quoted(
            value
                .percent
                .map_or_else(|| show_size(value.bytes), |share| format!("{share}%")),
        )
    }
}

/// A length of time from `min` to `max`.
#[derive(Debug)]
pub(crate) struct Time {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Time {
    fn parse(&self, given: &Given) -> Result<Duration, Refusal> {
        let time = parse_time(text_or_number(given)?).ok_or(Refusal::NotAllowed)?;
        within(time, self.min, self.max)
    }
}

impl Shape for Time {
    fn word(&self) -> &'static str {
        "time"
    }
    fn allowed(&self) -> String {
        let (min, max) = (show_time(self.min), show_time(self.max));
        format!("a time from {min} to {max}, in ms, s, m, h or d")
    }
}

impl Kind for Time {
    type Value = Duration;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<Duration, Refusal> {
        self.parse(given)
    }
    fn show(&self, value: &Duration) -> Value {
        quoted(show_time(*value))
    }
}

/// A length of time, or off.
#[derive(Debug)]
pub(crate) struct TimeOrOff(pub(crate) Time);

impl Shape for TimeOrOff {
    fn word(&self) -> &'static str {
        "time or off"
    }
    fn allowed(&self) -> String {
        format!("{}, or \"off\"", self.0.allowed())
    }
}

impl Kind for TimeOrOff {
    type Value = Option<Duration>;
    fn read(
        &self,
        _: &'static str,
        given: &Given,
        _: &Surroundings,
    ) -> Result<Option<Duration>, Refusal> {
        let text = text_or_number(given)?;
        if OFF.contains(&text) || parse_time(text) == Some(Duration::ZERO) {
            return Ok(None);
        }
        self.0.parse(given).map(Some)
    }
    fn show(&self, value: &Option<Duration>) -> Value {
        quoted(value.map_or_else(|| "off".to_owned(), show_time))
    }
}

/// The chance that a filter errs, within the bounds that the filter itself has.
#[derive(Debug)]
pub(crate) struct ErrorRate;

impl ErrorRate {
    /// Reads it; nothing when no filter can promise it.
    pub(crate) fn parse(text: &str) -> Option<f64> {
        let rate = text.trim().parse().ok()?;
        // What is no number is in no range.
        (ERROR_MIN..1.0).contains(&rate).then_some(rate)
    }

    /// What is taken, in words.
    pub(crate) fn takes() -> String {
        format!("a probability from {ERROR_MIN:e} to below 1, as 0.0001 or 1e-4")
    }
}

impl Shape for ErrorRate {
    fn word(&self) -> &'static str {
        "probability"
    }
    fn allowed(&self) -> String {
        Self::takes()
    }
}

impl Kind for ErrorRate {
    type Value = f64;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<f64, Refusal> {
        Self::parse(text_or_number(given)?).ok_or(Refusal::NotAllowed)
    }
    fn show(&self, value: &f64) -> Value {
        Value::Float(*value)
    }
}

/// `true` or `false`.
#[derive(Debug)]
pub(crate) struct Truth;

impl Shape for Truth {
    fn word(&self) -> &'static str {
        "true or false"
    }
    fn allowed(&self) -> String {
        "true or false".to_owned()
    }
}

impl Kind for Truth {
    type Value = bool;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<bool, Refusal> {
        match &given.raw {
            Raw::Bool(truth) => Ok(*truth),
            Raw::Text(text) => text.trim().parse().map_err(|_| Refusal::NotAllowed),
            _ => Err(Refusal::NotAllowed),
        }
    }
    fn show(&self, value: &bool) -> Value {
        Value::Boolean(*value)
    }
}

/// A type whose values have names in the configuration.
pub(crate) trait Named: Copy + PartialEq + fmt::Debug + Sync + 'static {
    /// Every value with its name.
    const NAMES: &'static [(&'static str, Self)];
}

/// How an acknowledged write is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Handed to the operating system before the reply: survives the end of the process.
    Os,
    /// As `Os`, and synced to the disk every `durability.interval`.
    Interval,
    /// Synced to the disk before the reply.
    Always,
}

impl Named for SyncMode {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("interval", Self::Interval),
        ("os", Self::Os),
        ("always", Self::Always),
    ];
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Named for LogFormat {
    const NAMES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// One of the names of `T`.
#[derive(Debug)]
pub(crate) struct Choice<T>(pub(crate) PhantomData<T>);

impl<T: Named> Shape for Choice<T> {
    fn word(&self) -> &'static str {
        "choice"
    }
    fn allowed(&self) -> String {
        let names: Vec<String> = T::NAMES
            .iter()
            .map(|(name, _)| format!("{name:?}"))
            .collect();
        format!("one of {}", names.join(", "))
    }
}

impl<T: Named> Kind for Choice<T> {
    type Value = T;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<T, Refusal> {
        let text = text(given)?.trim();
        let found = T::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or(Refusal::NotAllowed)
    }
    fn show(&self, value: &T) -> Value {
        let name = T::NAMES
            .iter()
            .find(|(_, known)| known == value)
            .map_or("", |(name, _)| name);
        quoted(name)
    }
}

/// The longest log filter, in bytes.
const LOG_FILTER_BYTES_MAX: usize = 4096;

/// A level or a filter in the syntax of `RUST_LOG`.
#[derive(Debug)]
pub(crate) struct LogFilter;

impl Shape for LogFilter {
    fn word(&self) -> &'static str {
        "log filter"
    }
    fn allowed(&self) -> String {
        "off, error, warn, info, debug, trace, or a filter such as \"info,grapevine=debug\""
            .to_owned()
    }
}

impl Kind for LogFilter {
    type Value = String;
    fn read(&self, _: &'static str, given: &Given, _: &Surroundings) -> Result<String, Refusal> {
        let text = text(given)?;
        if text.trim().is_empty() || text.len() > LOG_FILTER_BYTES_MAX {
            return Err(Refusal::NotAllowed);
        }
        if let Some((word, nearest)) = misspelt_level(text) {
            let why = format!("{word:?} is no level; the nearest is `{nearest}`");
            return Err(Refusal::LogFilter(why.into()));
        }
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(Refusal::LogFilter(error.to_string().into())),
        }
    }
    fn show(&self, value: &String) -> Value {
        quoted(value)
    }
}
