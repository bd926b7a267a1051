//! Where a value came from, and values before they are read.

use std::fmt;
use std::path::PathBuf;

/// Where the value of a key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A configuration file; lines count from 1.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line of the value.
        line: usize,
    },
    /// An environment variable, by its name.
    Environment(String),
    /// `--set`.
    Set,
    /// A named flag, such as `--data-dir`.
    Flag(&'static str),
}

impl Origin {
    /// True unless the value is the built-in default.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        *self != Self::Default
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Set => f.write_str("--set"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A value as a layer gave it, before the key's kind has read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// A quoted TOML string, or any text from outside a file.
    Text(String),
    /// An unquoted TOML number, in decimal.
    Number(String),
    /// An unquoted TOML `true` or `false`.
    Bool(bool),
    /// A TOML list; lists inside it are values that no key takes.
    List(Vec<Raw>),
    /// A TOML table in a list, as an element with named fields.
    Fields(Vec<(String, Raw)>),
    /// A TOML value that no key takes, in words (`a table`).
    Other(&'static str),
}

/// How much of a refused value a message repeats, in characters.
const SHOWN_CHARACTERS_MAX: usize = 120;

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => {
                let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
                let rest = if shown.len() < text.len() { " …" } else { "" };
                write!(f, "{shown:?}{rest}")
            }
            Self::Number(text) => {
                f.write_str(&text.chars().take(SHOWN_CHARACTERS_MAX).collect::<String>())
            }
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::List(_) => f.write_str("a list"),
            Self::Fields(_) => f.write_str("a table"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// A raw value and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) raw: Raw,
    pub(crate) origin: Origin,
}
