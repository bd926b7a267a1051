//! The options that every command takes.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use grapevine_core::quantity::parse_time;

/// Under what the help lists the options of every command.
pub(crate) const GLOBAL_OPTIONS: &str = "Global options";

/// Options of every command; they may stand before or after the command's name.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = GLOBAL_OPTIONS)]
pub struct GlobalOptions {
    /// Configuration file [default: grapevine.toml in the data directory, if there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one configuration key; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<OsString>,
    /// Data directory (node.data_dir)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Node to talk to [env: GRAPEVINE_NODE] [default: http://127.0.0.1:8675, or what listens
    /// in --data-dir]
    #[arg(long, value_name = "URL")]
    pub node: Option<String>,
    /// File with the token for a node that wants one (its http.token_file)
    /// [env: GRAPEVINE_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How long the node may take to begin its answer [default: as long as it answers /livez]
    #[arg(long, value_name = "TIME", value_parser = limit)]
    pub answer_within: Option<Duration>,
    /// `--join` of `grapevine serve`, which declares it: `group.join`.
    #[arg(skip)]
    pub join: Vec<OsString>,
}

fn limit(text: &str) -> Result<Duration, &'static str> {
    let time = parse_time(text).filter(|time| !time.is_zero());
    time.ok_or("a whole number above 0 and a unit: ms, s, m, h or d")
}

/// A flag that stands for a key.
pub(crate) struct NamedFlag {
    pub(crate) flag: &'static str,
    pub(crate) key: &'static str,
    pub(crate) value: OsString,
}

impl GlobalOptions {
    /// Adds the options of an inner level of the command line (after the command's name) to
    /// those of the outer one: assignments add up, of the rest the inner one wins.
    #[must_use]
    pub fn and(mut self, inner: Self) -> Self {
        self.set.extend(inner.set);
        self.join.extend(inner.join);
        Self {
            config: inner.config.or(self.config),
            set: self.set,
            data_dir: inner.data_dir.or(self.data_dir),
            node: inner.node.or(self.node),
            token_file: inner.token_file.or(self.token_file),
            answer_within: inner.answer_within.or(self.answer_within),
            join: self.join,
        }
    }

    /// The flags that set keys. A flag for a key is declared here and nowhere else.
    pub(crate) fn named_flags(&self) -> Vec<NamedFlag> {
        let data_dir = self.data_dir.iter().map(|path| NamedFlag {
            flag: "--data-dir",
            key: "node.data_dir",
            value: path.clone().into_os_string(),
        });
        let join = (!self.join.is_empty()).then(|| NamedFlag {
            flag: "--join",
            key: "group.join",
            value: self.join.join(OsStr::new(",")),
        });
        data_dir.chain(join).collect()
    }
}
