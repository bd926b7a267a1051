//! `grapevine table …`.

mod files;
mod show;
mod watch;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Subcommand;
use clap::error::ErrorKind;
use grapevine_core::table::{RowError, validate_key, validate_values};
use serde_json::{Value, json};
use ureq::http::Method;

use super::consent::agrees;
use super::download::DownloadError;
use super::line_blocks::LineBlocksError;
use super::{Context, Failure, Outcome, nearest};
use crate::client::{Client, ClientError, RequestBody};
use crate::http::name;
use grapevine_core::quantity::parse_time;

/// Arguments of `grapevine table`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a table, unless there is one; prints nothing
    Create {
        /// Its name: 1 to 200 bytes without blanks
        name: OsString,
    },
    /// Drop a table and its rows, on all members of the group
    Drop {
        /// The table
        name: OsString,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Describe a table; looks at all of its rows
    Info(show::InfoArgs),
    /// List tables: name, rows, deleted rows, separated by tabs
    List(show::ListArgs),
    /// Set the row of a key; prints nothing
    Set(SetArgs),
    /// Give a row more time to live, without telling those who watch; exits with 3 when it is absent
    Touch(TouchArgs),
    /// Print the values of a key, separated by tabs; exits with 3 and prints nothing when it is
    /// absent
    Get(show::GetArgs),
    /// Delete the row of a key; exits with 3 when it is absent
    Delete {
        /// The table
        table: OsString,
        /// The key
        key: OsString,
    },
    /// Print all rows, by the bytes of their keys: key and values, separated by tabs
    Show(show::ShowArgs),
    /// Print changes as they come, until it is interrupted or the table is dropped
    Watch(watch::Args),
    /// Merge the rows of a file: of two with one key the larger version stays
    ///
    /// The file has a row a line, `KEY TAB VERSION TAB VALUE…`, or with --format jsonl a JSON object
    /// a line, as `table export --format jsonl` writes it.
    Import(files::Args),
    /// Write all rows to a file, by the bytes of their keys; --format jsonl has the expiries too
    Export(files::Args),
    /// Give up the rows that a damaged file had, and serve those that are left
    ///
    /// For a node without other members, whose log does not have all rows. Every row that was set
    /// before the log begins and not since is lost. A node with other members refuses: the rows
    /// come from them.
    Forget(ForgetArgs),
}

#[derive(Debug, clap::Args)]
struct ForgetArgs {
    /// Confirm that it is the rows of a damaged file that are given up
    #[arg(long, required = true)]
    damaged: bool,
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    /// The table
    table: OsString,
    /// The key: 1 to 1024 bytes without tabs and line ends
    key: OsString,
    /// The values: together at most 64 KiB, without tabs and line ends
    #[arg(required = true, value_name = "VALUE")]
    values: Vec<OsString>,
    /// How long the row lives, such as 90s or 1h; for ever without it
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    ttl: Option<Duration>,
    /// Print version and expiry as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct TouchArgs {
    /// The table
    table: OsString,
    /// The key
    key: OsString,
    /// How long the row lives from now on, such as 90s or 1h
    #[arg(long, value_name = "TIME", value_parser = ttl)]
    ttl: Duration,
    /// Print version and expiry as JSON
    #[arg(long)]
    json: bool,
}

fn ttl(text: &str) -> Result<Duration, &'static str> {
    let time = parse_time(text).filter(|time| !time.is_zero());
    time.ok_or("a whole number above 0 and a unit: ms, s, m, h or d")
}

/// Runs `grapevine table`.
///
/// # Errors
/// When the node cannot be reached or refuses, or a file cannot be read or written.
pub(super) fn run(args: &Args, context: &Context) -> Result<Outcome, Failure> {
    let client = context.client()?;
    let done = match &args.verb {
        Verb::Create { name } => create(name, &client),
        Verb::Drop { name, yes } => drop_table(name, *yes, &client),
        Verb::Info(args) => show::info(args, &client, context),
        Verb::List(args) => show::list(args, &client, context),
        Verb::Touch(args) => touch(args, &client, context),
        Verb::Set(args) => set(args, &client, context),
        Verb::Get(args) => show::get(args, &client, context),
        Verb::Delete { table, key } => delete(table, key, &client),
        Verb::Show(args) => show::show(args, &client, context),
        Verb::Watch(args) => watch::watch(args, client, context),
        Verb::Import(args) => files::import(args, &client, context),
        Verb::Export(args) => files::export(args, &client, context),
        Verb::Forget(_) => forget(&client),
    };
    match done {
        // A row that is absent is an answer like another, and the exit code gives it.
        Err(TableFailure::Client(error)) if error.is_absent_row() => Ok(Outcome::Absent),
        Err(TableFailure::Client(error)) if error.is_absent() => {
            nearest::say_absent(context, &error);
            Ok(Outcome::Absent)
        }
        Err(error) => Err(error.into()),
        Ok(outcome) => Ok(outcome),
    }
}

/// Why one of the commands could not be carried out.
#[derive(Debug, thiserror::Error)]
enum TableFailure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
    #[error(transparent)]
    Lines(#[from] LineBlocksError),
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("value {number} holds a tab, which separates values")]
    ValueTab { number: usize },
    #[error("the node broke off: {0}")]
    Broken(#[source] io::Error),
    #[error("the node sends lines that are no rows")]
    NoRow,
    #[error(
        "{0} rows were refused: a version above 2^62 is taken only for a key that is there, and only up to \
         2^33 above it. Give them smaller versions"
    )]
    Versions(u64),
    #[error("standard input is not a terminal: pass --yes to confirm")]
    NotAsked,
    #[error("after {rows} rows")]
    After { rows: u64, source: Box<Self> },
}

impl From<TableFailure> for Failure {
    fn from(failure: TableFailure) -> Self {
        match failure {
            TableFailure::Output(error) | TableFailure::Download(DownloadError::Output(error)) => {
                Failure::Output(error)
            }
            TableFailure::Client(error) if error.is_wrong_argument() => {
                Failure::from_argument(error)
            }
            TableFailure::Row(_) | TableFailure::ValueTab { .. } => Failure::from_argument(failure),
            TableFailure::NotAsked => {
                let said = format!("{failure}\n");
                Failure::Usage(clap::Error::raw(ErrorKind::MissingRequiredArgument, said))
            }
            failure => Failure::from_error(failure),
        }
    }
}

type Done = Result<Outcome, TableFailure>;

/// The path of a table, and of something behind it.
fn path(table: &OsStr, behind: &str) -> String {
    format!("/api/v1/tables/{}{behind}", name::encode(table.as_bytes()))
}

/// The path of a row whose key can be one.
fn row_path(table: &OsStr, key: &OsStr) -> Result<String, RowError> {
    validate_key(key.as_bytes())?;
    let key = name::encode(key.as_bytes());
    Ok(path(table, &format!("/rows/{key}")))
}

fn create(table: &OsStr, client: &Client) -> Done {
    client.tell(Method::PUT, &path(table, ""))?;
    Ok(Outcome::Done)
}

fn drop_table(table: &OsStr, yes: bool, client: &Client) -> Done {
    let shown = table.as_bytes().escape_ascii();
    let question = format!("Drop table {shown} and its rows?");
    if !yes && !agrees(&question).ok_or(TableFailure::NotAsked)? {
        return Ok(Outcome::Failed);
    }
    client.tell(Method::DELETE, &path(table, ""))?;
    Ok(Outcome::Done)
}

fn delete(table: &OsStr, key: &OsStr, client: &Client) -> Done {
    client.tell(Method::DELETE, &row_path(table, key)?)?;
    Ok(Outcome::Done)
}

/// Exits with 3 when no row is missing.
fn forget(client: &Client) -> Done {
    let said: Value = client.ask(Method::POST, "/api/v1/rows/forget", RequestBody::Nothing)?;
    Ok(match said["forgotten"].as_bool() {
        Some(true) => Outcome::Done,
        _ => Outcome::Absent,
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn touch(args: &TouchArgs, client: &Client, context: &Context) -> Done {
    let path = format!("{}/touch", row_path(&args.table, &args.key)?);
    let wish = json!({"ttl_ms": millis(args.ttl)}).to_string();
    said(Method::POST, &path, &wish, args.json, client, context)
}

/// Sends a wish about a row, and prints what the node says of it if that is wanted.
fn said(
    method: Method,
    path: &str,
    wish: &str,
    json: bool,
    client: &Client,
    context: &Context,
) -> Done {
    let body = RequestBody::Bytes {
        media_type: "application/json",
        bytes: wish.as_bytes(),
    };
    let said: Value = client.ask(method, path, body)?;
    if json {
        let mut output = context.output();
        writeln!(output, "{said}")?;
        output.flush()?;
    }
    Ok(Outcome::Done)
}

fn set(args: &SetArgs, client: &Client, context: &Context) -> Done {
    let path = row_path(&args.table, &args.key)?;
    let values: Vec<&[u8]> = args.values.iter().map(|value| value.as_bytes()).collect();
    if let Some(at) = values.iter().position(|value| value.contains(&b'\t')) {
        return Err(TableFailure::ValueTab { number: at + 1 });
    }
    validate_values(&values.join(&b'\t'))?;
    let encoded: Vec<String> = values.iter().map(|value| name::encode(value)).collect();
    let wish = json!({"values_encoded": encoded, "ttl_ms": args.ttl.map(millis)}).to_string();
    said(Method::PUT, &path, &wish, args.json, client, context)
}

/// Writes bytes as they are; on a terminal nothing that would steer it.
fn write_bytes(output: &mut impl Write, bytes: &[u8], terminal: bool) -> io::Result<()> {
    if !terminal {
        return output.write_all(bytes);
    }
    let steers = |c: char| c.is_control() && c != '\t' && c != '\n';
    let shown = name::display(bytes).replace(steers, "\u{fffd}");
    output.write_all(shown.as_bytes())
}

fn to_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The key of a row and its values, each after a tab, out of JSON.
fn columns(row: &Value) -> Option<Vec<u8>> {
    let mut line = name::decode(row["encoded"].as_str()?)?;
    for value in values(row)? {
        line.push(b'\t');
        line.extend_from_slice(&value);
    }
    Some(line)
}

/// The values of a row out of JSON.
fn values(row: &Value) -> Option<Vec<Vec<u8>>> {
    if let Some(encoded) = row["values_encoded"].as_array() {
        return encoded.iter().map(|v| name::decode(v.as_str()?)).collect();
    }
    let text = row["values"].as_array()?;
    text.iter().map(|v| Some(v.as_str()?.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_of_json_as_bytes() {
        let row = json!({"key": "a\u{fffd}", "encoded": "a%FF", "values": ["x", ""],
                         "values_encoded": null});
        assert_eq!(columns(&row), Some(b"a\xff\tx\t".to_vec()));
        let row = json!({"encoded": "k", "values": ["\u{fffd}"], "values_encoded": ["%FE", "%25"]});
        assert_eq!(columns(&row), Some(b"k\t\xfe\t%".to_vec()));
        assert_eq!(columns(&json!({"encoded": "k"})), None);
        assert_eq!(columns(&json!({"encoded": "%4", "values": []})), None);
    }

    #[test]
    fn lives_are_times_above_nothing() {
        assert_eq!(ttl("90s"), Ok(Duration::from_secs(90)));
        for text in ["0", "0s", "90", "-1s", "x", ""] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }

    #[test]
    fn terminals_are_not_steered() -> io::Result<()> {
        let (mut plain, mut shown) = (Vec::new(), Vec::new());
        write_bytes(&mut plain, b"a\t\x1b[2J\xff\n", false)?;
        assert_eq!(plain, b"a\t\x1b[2J\xff\n");
        write_bytes(&mut shown, b"a\t\x1b[2J\xff\n", true)?;
        assert_eq!(shown, "a\t\u{fffd}[2J\u{fffd}\n".as_bytes());
        Ok(())
    }
}
