//! What can be wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::kind::Refusal;
use super::origin::Origin;

/// One mistake in the configuration. Nothing was started or written.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file over the bound.
    #[error("{}: larger than {limit} bytes, the most a configuration may take", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit: usize,
    },
    /// A file that is not UTF-8.
    #[error("{}:{line}: not UTF-8", path.display())]
    FileNotText {
        /// The file.
        path: PathBuf,
        /// The line of the first wrong byte.
        line: usize,
    },
    /// A file that is not TOML.
    #[error("{}:{line}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line of the mistake.
        line: usize,
        /// What the parser found.
        problem: String,
    },
    /// A section that does not exist.
    #[error(
        "{origin}: unknown section `{section}`; the nearest is `{}`",
        Nearest(nearest, origin)
    )]
    UnknownSection {
        /// The section as written.
        section: String,
        /// The nearest one there is.
        nearest: &'static str,
        /// Where it is written.
        origin: Origin,
    },
    /// A key that does not exist.
    #[error(
        "{origin}: unknown key `{section}.{key}`; the nearest is `{}`",
        Nearest(nearest, origin)
    )]
    UnknownKey {
        /// The section as written.
        section: String,
        /// The key as written.
        key: String,
        /// The nearest one there is, with its section.
        nearest: &'static str,
        /// Where it is written.
        origin: Origin,
    },
    /// A variable that stands for nothing.
    #[error(
        "{origin}: there is no such variable; the nearest is `{nearest}` (two underscores divide \
         section and key). Correct it or unset it"
    )]
    UnknownVariable {
        /// Its name.
        origin: Origin,
        /// The nearest one there is.
        nearest: String,
    },
    /// A key of the file that is in no section.
    #[error("{origin}: `{key}` is in no section; the nearest key is `{nearest}`")]
    OutsideSection {
        /// The key as written.
        key: String,
        /// The nearest one there is, with its section.
        nearest: &'static str,
        /// Where it is written.
        origin: Origin,
    },
    /// A section written as something else than a table.
    #[error("{origin}: `{section}` is a section and wants `[{section}]` with keys below it")]
    SectionNotTable {
        /// The section.
        section: &'static str,
        /// Where it is written.
        origin: Origin,
    },
    /// A value that its key does not take.
    #[error("{origin}: `{key}` cannot be {value}: {}", Reason(refusal, allowed))]
    BadValue {
        /// The key, with its section.
        key: &'static str,
        /// The value as written, cut when long.
        value: String,
        /// Where it is written.
        origin: Origin,
        /// Why it was refused.
        refusal: Refusal,
        /// What the key takes, in words.
        allowed: String,
    },
    /// A `--set` that is not `section.key=value`.
    #[error("--set {text:?}: wants section.key=value")]
    BadAssignment {
        /// What followed `--set`.
        text: String,
    },
    /// A value from the environment or the command line that is not Unicode.
    #[error("{origin}: the value is not Unicode")]
    NotUnicode {
        /// Where it is.
        origin: Origin,
    },
    /// A key whose default cannot be found on this machine.
    #[error("`{key}` has no default here ({wanted}); set it, for example with --set {key}=…")]
    NoDefault {
        /// The key, with its section.
        key: &'static str,
        /// What the default would be.
        wanted: &'static str,
    },
    /// A file found in the data directory that names another one.
    #[error("{origin}: a file found in the data directory {} cannot move it to {}; \
        name the file with --config, or the directory with --data-dir", found_in.display(), moved_to.display())]
    DataDirMoved {
        /// Where it is written.
        origin: Origin,
        /// The directory the file was found in.
        found_in: PathBuf,
        /// The directory the file names.
        moved_to: PathBuf,
    },
    /// A listener that others can reach, without the protection its protocol has or wants.
    #[error(
        "{origin}: `{key}` = \"{address}\" can be reached from other machines: set {set}, \
        or listen on 127.0.0.1"
    )]
    OffLoopback {
        /// The key of the listener.
        key: &'static str,
        /// Its address.
        address: String,
        /// Where it is written.
        origin: Origin,
        /// What to set.
        set: &'static str,
    },
    /// More mistakes than are reported.
    #[error("more than {limit} mistakes; the rest is not shown")]
    TooMany {
        /// How many are shown.
        limit: usize,
    },
}

impl ConfigError {
    /// Whether the command line is wrong by itself, whatever else is configured.
    fn is_typed(&self) -> bool {
        let origin = match self {
            Self::BadAssignment { .. } => return true,
            Self::UnknownSection { origin, .. }
            | Self::UnknownKey { origin, .. }
            | Self::BadValue { origin, .. }
            | Self::NotUnicode { origin } => origin,
            _ => return false,
        };
        matches!(origin, Origin::Set | Origin::Flag(_))
    }
}

/// A name spelt the way the layer with the mistake spells names.
struct Nearest<'a>(&'a str, &'a Origin);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(name, origin) = self;
        if !matches!(origin, Origin::Environment(_)) {
            return f.write_str(name);
        }
        let rest = if name.contains('.') { "" } else { "__…" };
        write!(
            f,
            "GRAPEVINE_{}{rest}",
            name.to_uppercase().replace('.', "__")
        )
    }
}

struct Reason<'a>(&'a Refusal, &'a str);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(refusal, allowed) = self;
        match refusal {
            Refusal::NotAllowed => write!(f, "it takes {allowed}"),
            Refusal::MemoryUnknown => {
                f.write_str("this machine does not say how much memory it has; give a size")
            }
            Refusal::LogFilter(problem) => write!(f, "{problem}; it takes {allowed}"),
            Refusal::Element { ordinal, value } => {
                write!(f, "element {ordinal} is {value}; it takes {allowed}")
            }
            Refusal::TooManyElements => write!(f, "it has too many elements; it takes {allowed}"),
        }
    }
}

/// Every mistake found, at least one; shown one a line.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// Whether the command line is wrong by itself: that is wrong usage.
    #[must_use]
    pub fn are_typed(&self) -> bool {
        self.0.iter().any(ConfigError::is_typed)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
