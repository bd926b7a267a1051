//! `grapevine filter …`.

mod bulk;
mod files;
mod plan;
mod show;

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use clap::Subcommand;
use clap::error::ErrorKind;
use serde_json::{Value, json};
use ureq::http::Method;

use super::consent::agrees;
use super::download::DownloadError;
use super::line_blocks::LineBlocksError;
use super::{Context, Failure, Outcome, figures, listing, nearest};
use crate::client::{Client, ClientError, RequestBody};
use crate::http::name;
use grapevine_core::quantity::positive_count;

/// Arguments of `grapevine filter`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a filter, unless there is one; says `created`, `exists` or `shown` (it was hidden)
    Create(CreateArgs),
    /// List filters: name, keys, capacity, bytes, error, separated by tabs
    List(show::ListArgs),
    /// Describe a filter
    Info(show::InfoArgs),
    /// Drop a filter and its keys
    Drop {
        /// The filter
        name: OsString,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Add keys; prints `new` or `seen` for each, `full` where a fixed filter has no room
    Set {
        /// The filter
        name: OsString,
        /// The keys
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<OsString>,
    },
    /// Look keys up; prints `yes` or `no` for each and exits with 3 unless all are there
    Check(CheckArgs),
    /// Add the lines of a file, making the filter if it is missing
    Import(bulk::ImportArgs),
    /// Write a filter, or all, to its files and sync them
    Flush {
        /// The filter; without it, all
        name: Option<OsString>,
    },
    /// Take a filter out of memory until it is used again
    Close {
        /// The filter
        name: OsString,
    },
    /// Remove all keys of a filter, which stays as it is otherwise
    ///
    /// Keys that were set before go on all members of the group. (The command `clear` of bloomd's
    /// protocol does something else: it takes a closed filter off the list and keeps its files.)
    Clear {
        /// The filter
        name: OsString,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Drop the bits of a filter on this node alone and get them from the other members
    ///
    /// For a filter that is damaged here. It answers again once they have come. A node without
    /// other members refuses: nobody else has the bits.
    Forget {
        /// The filter
        name: OsString,
    },
    /// Write a filter to a file, which holds its seed: keep it secret
    Export(files::Args),
    /// Make a filter from an exported file
    Load(files::Args),
    /// Take the keys of an exported filter of the same parameters into a filter
    Merge(files::Args),
    /// Say what size a filter would have; asks no node
    Plan(plan::Args),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Its name: 1 to 200 bytes without blanks
    name: OsString,
    /// Keys its first layer has room for [default: the node's filters.capacity]
    #[arg(long, value_parser = positive_count)]
    capacity: Option<u64>,
    /// Bound on the share of absent keys that are reported as there [default: the node's
    /// filters.error]
    #[arg(long, value_parser = figures::error_rate)]
    error: Option<f64>,
    /// Keep its keys in memory and in no log: a node that restarts gets them back from the other
    /// members that ran meanwhile, or from nobody
    #[arg(long)]
    in_memory: bool,
    /// Keep it on this node alone, not in the group
    #[arg(long)]
    local: bool,
    /// Do not let it grow: refuse new keys when it is full
    #[arg(long)]
    fixed: bool,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The filter
    name: OsString,
    /// The keys
    #[arg(required_unless_present = "input", value_name = "KEY")]
    keys: Vec<OsString>,
    /// Look up the lines of a file (`-`: standard input) and print counts only
    #[arg(long, value_name = "FILE", conflicts_with = "keys")]
    input: Option<OsString>,
}

/// Runs `grapevine filter`.
///
/// # Errors
/// When the node cannot be reached or refuses, or a file cannot be read or written.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    if let Verb::Plan(args) = &args.verb {
        return plan::run(args, context);
    }
    let client = context.client()?;
    let done = match &args.verb {
        Verb::Create(args) => create(args, &client, context),
        Verb::List(args) => show::list(args, &client, context),
        Verb::Info(args) => show::info(args, &client, context),
        Verb::Drop { name, yes } => drop_filter(name, *yes, &client),
        Verb::Set { name, keys } => each(name, keys, "set", ["new", "seen"], &client, context),
        Verb::Check(args) => match &args.input {
            Some(input) => bulk::check(&args.name, input, &client, context),
            None => each(
                &args.name,
                &args.keys,
                "check",
                ["yes", "no"],
                &client,
                context,
            ),
        },
        Verb::Import(args) => bulk::import(args, &client, context),
        Verb::Flush { name: None } => tell(&client, "/api/v1/flush"),
        Verb::Flush { name: Some(name) } => tell(&client, &path(name, "/flush")),
        Verb::Close { name } => tell(&client, &path(name, "/close")),
        Verb::Clear { name, yes } => clear(name, *yes, &client),
        Verb::Forget { name } => tell(&client, &path(name, "/forget")),
        Verb::Export(args) => files::export(args, &client, context),
        Verb::Load(args) => files::load(args, &client, context),
        Verb::Merge(args) => files::merge(args, &client, context),
        Verb::Plan(_) => Ok(Outcome::Done),
    };
    match done {
        Err(FilterFailure::Client(error)) if error.is_absent() => {
            nearest::say_absent(context, &error);
            Ok(Outcome::Absent)
        }
        Err(error) => Err(error.into()),
        Ok(outcome) => Ok(outcome),
    }
}

/// Why one of the commands could not be carried out.
#[derive(Debug, thiserror::Error)]
enum FilterFailure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error(transparent)]
    Lines(#[from] LineBlocksError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("after {keys} keys")]
    After { keys: u64, source: Box<Self> },
    #[error(
        "a filter's file is binary and holds the secret seed of its hash: it is not shown on a \
         terminal. Name a file, or send it through a pipe"
    )]
    Terminal,
    #[error("standard input is not a terminal: pass --yes to confirm")]
    NotAsked,
}

impl From<FilterFailure> for Failure {
    fn from(failure: FilterFailure) -> Self {
        match failure {
            FilterFailure::Output(error)
            | FilterFailure::Download(DownloadError::Output(error)) => Failure::Output(error),
            FilterFailure::NotAsked => {
                let said = format!("{failure}\n");
                Failure::Usage(clap::Error::raw(ErrorKind::MissingRequiredArgument, said))
            }
            FilterFailure::Client(error) if error.is_wrong_argument() => {
                Failure::from_argument(error)
            }
            FilterFailure::Terminal => {
                let said = format!("{failure}\n");
                Failure::Usage(clap::Error::raw(ErrorKind::InvalidValue, said))
            }
            failure => Failure::from_error(failure),
        }
    }
}

type Done = Result<Outcome, FilterFailure>;

/// The path of a filter, and of something behind it.
fn path(name: &OsStr, behind: &str) -> String {
    format!("/api/v1/filters/{}{behind}", name::encode(name.as_bytes()))
}

fn tell(client: &Client, path: &str) -> Done {
    client.tell(Method::POST, path)?;
    Ok(Outcome::Done)
}

/// Makes a filter; gives the node's answer.
fn make(client: &Client, name: &OsStr, wish: &Value) -> Result<Value, ClientError> {
    let wish = wish.to_string();
    let body = RequestBody::Bytes {
        media_type: "application/json",
        bytes: wish.as_bytes(),
    };
    client.ask(Method::PUT, &path(name, ""), body)
}

fn create(args: &CreateArgs, client: &Client, context: &Context) -> Done {
    let wish = json!({
        "capacity": args.capacity,
        "error": args.error,
        "in_memory": args.in_memory.then_some(true),
        "local": args.local,
        "fixed": args.fixed,
    });
    let said = make(client, &args.name, &wish)?;
    let mut output = context.output();
    writeln!(output, "{}", said["outcome"].as_str().unwrap_or_default())?;
    output.flush()?;
    let parameters = &said["filter"]["parameters"];
    let differs = args
        .capacity
        .is_some_and(|wanted| parameters["capacity"] != wanted)
        || args
            .error
            .is_some_and(|wanted| parameters["error"] != wanted);
    if differs {
        drop(writeln!(
            io::stderr(),
            "grapevine: note: it has capacity {} and error {}",
            parameters["capacity"],
            figures::plain(&parameters["error"])
        ));
    }
    Ok(Outcome::Done)
}

fn drop_filter(name: &OsStr, yes: bool, client: &Client) -> Done {
    let shown = name.as_bytes().escape_ascii();
    if !yes
        && !agrees(&format!("Drop filter {shown} and its keys?")).ok_or(FilterFailure::NotAsked)?
    {
        return Ok(Outcome::Failed);
    }
    client.tell(Method::DELETE, &path(name, ""))?;
    Ok(Outcome::Done)
}

fn clear(name: &OsStr, yes: bool, client: &Client) -> Done {
    let shown = name.as_bytes().escape_ascii();
    let question = format!("Remove all keys of filter {shown}?");
    if !yes && !agrees(&question).ok_or(FilterFailure::NotAsked)? {
        return Ok(Outcome::Failed);
    }
    tell(client, &path(name, "/clear"))
}

#[derive(serde::Deserialize)]
struct Results {
    results: Vec<Option<bool>>,
}

/// `set` and `check` with keys from the command line: a word per key.
fn each(
    name: &OsStr,
    keys: &[OsString],
    operation: &str,
    words: [&str; 2],
    client: &Client,
    context: &Context,
) -> Done {
    let mut bytes = Vec::new();
    for key in keys {
        // The system bounds arguments far below this.
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
    }
    let body = RequestBody::Bytes {
        media_type: "application/octet-stream",
        bytes: &bytes,
    };
    let path = path(name, &format!("/{operation}"));
    let Results { results } = client.ask(Method::POST, &path, body)?;
    let mut output = context.output();
    for result in &results {
        let word = match result {
            Some(true) => words[0],
            Some(false) => words[1],
            None => "full",
        };
        writeln!(output, "{word}")?;
    }
    output.flush()?;
    Ok(if results.contains(&None) {
        Outcome::Failed
    } else if operation == "check" && results.contains(&Some(false)) {
        Outcome::Absent
    } else {
        Outcome::Done
    })
}
