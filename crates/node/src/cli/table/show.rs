//! `table list`, `table get`, `table show`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;

use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::super::listing::{Column, Listing};
use super::{
    Context, Done, Outcome, TableFailure, path, row_path, to_terminal, values, write_bytes,
};
use crate::client::{Client, RequestBody};
use crate::http::name;

/// Bytes of lines read at once.
const READ_BYTES: usize = 256 << 10;

const COLUMNS: [Column; 3] = [
    Column::Words("NAME"),
    Column::Numbers("ROWS"),
    Column::Numbers("DELETED"),
];

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only tables whose name begins so
    prefix: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// The table
    name: OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct GetArgs {
    /// The table
    table: OsString,
    /// The key
    key: OsString,
    /// Print the row as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The table
    table: OsString,
    /// Print a list of rows as JSON, with versions and expiries
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Page {
    #[serde(alias = "tables", alias = "rows")]
    items: Vec<Value>,
    next: Option<String>,
}

/// Asks for page after page of a list; `start` ends with its query.
fn pages(
    client: &Client,
    start: &str,
    mut each: impl FnMut(&Value) -> std::io::Result<()>,
) -> Result<(), TableFailure> {
    let mut after = None;
    // What the node lists ascends, so the pages end.
    loop {
        let behind = after.map_or(String::new(), |after: String| format!("&after={after}"));
        let page: Page = client.ask(
            Method::GET,
            &format!("{start}{behind}"),
            RequestBody::Nothing,
        )?;
        page.items.iter().try_for_each(&mut each)?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// The same as one JSON list, an item a line.
fn json_list(client: &Client, start: &str, context: &Context) -> Done {
    let mut output = context.output();
    let mut separator = "[";
    pages(client, start, |item| {
        write!(output, "{separator}{item}")?;
        separator = ",\n";
        Ok(())
    })?;
    let opening = if separator == "[" { "[" } else { "" };
    writeln!(output, "{opening}]")?;
    output.flush()?;
    Ok(Outcome::Done)
}

pub(super) fn list(args: &ListArgs, client: &Client, context: &Context) -> Done {
    let prefix = args.prefix.as_deref().unwrap_or_default();
    let start = format!("/api/v1/tables?prefix={}", name::encode(prefix.as_bytes()));
    if args.json {
        return json_list(client, &start, context);
    }
    let mut rows = Listing::new(context.output(), &COLUMNS);
    pages(client, &start, |table| {
        let encoded = table["encoded"].as_str().and_then(name::decode);
        let figures = ["rows", "gone_rows"].map(|figure| table[figure].to_string().into_bytes());
        let [live, gone] = figures;
        rows.row(&[encoded.unwrap_or_default(), live, gone])
    })?;
    rows.end("There are no such tables; `grapevine table create NAME` makes one.")?;
    Ok(Outcome::Done)
}

pub(super) fn info(args: &InfoArgs, client: &Client, context: &Context) -> Done {
    let table: Value = client.ask(Method::GET, &path(&args.name, ""), RequestBody::Nothing)?;
    if args.json {
        let mut output = context.output();
        writeln!(output, "{table:#}")?;
        output.flush()?;
        return Ok(Outcome::Done);
    }
    let mut rows = Listing::new(context.output(), &[Column::Words(""), Column::Words("")]);
    let encoded = table["encoded"].as_str().and_then(name::decode);
    rows.row(&[b"name".to_vec(), encoded.unwrap_or_default()])?;
    let (measured, links) = (&table["measured"], &table["links"]);
    for (what, value) in [
        ("rows", &measured["rows"]),
        ("expiring", &measured["expiring"]),
        ("bytes", &measured["bytes"]),
        ("gone_rows", &table["gone_rows"]),
        ("position", &measured["position"]),
        ("epoch", &table["epoch"]),
        ("linked", &table["linked"]),
        ("received", &links["received"]),
        ("told", &links["told"]),
    ] {
        rows.row(&[what, &value.to_string()])?;
    }
    let interfaces = links["interfaces"].as_array();
    for link in interfaces.into_iter().flatten().filter_map(Value::as_str) {
        rows.row(&["link", link])?;
    }
    rows.end("")?;
    Ok(Outcome::Done)
}

pub(super) fn get(args: &GetArgs, client: &Client, context: &Context) -> Done {
    let path = row_path(&args.table, &args.key)?;
    let row: Value = client.ask(Method::GET, &path, RequestBody::Nothing)?;
    let mut output = context.output();
    if args.json {
        writeln!(output, "{row:#}")?;
    } else {
        let mut line = values(&row).ok_or(TableFailure::NoRow)?.join(&b'\t');
        line.push(b'\n');
        write_bytes(&mut output, &line, to_terminal())?;
    }
    output.flush()?;
    Ok(Outcome::Done)
}

pub(super) fn show(args: &ShowArgs, client: &Client, context: &Context) -> Done {
    if args.json {
        return json_list(client, &path(&args.table, "/rows?"), context);
    }
    // The file of the table has all that is shown, and comes as one stream.
    let input = client.download(&path(&args.table, "/export"))?;
    let mut input = BufReader::with_capacity(READ_BYTES, input);
    let mut output = context.output();
    let terminal = to_terminal();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        if read.map_err(TableFailure::Broken)? == 0 {
            break;
        }
        let (key, values) = without_version(&line).ok_or(TableFailure::NoRow)?;
        write_bytes(&mut output, key, terminal)?;
        write_bytes(&mut output, values, terminal)?;
    }
    output.flush()?;
    Ok(Outcome::Done)
}

/// The key of a file's line, and what is behind the version, from its tab on.
fn without_version(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, behind) = line.split_at(memchr::memchr(b'\t', line)?);
    let version = memchr::memchr(b'\t', &behind[1..])?;
    Some((key, &behind[1 + version..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_left_out() {
        let split = without_version(b"key\t-12\tx\ty\n");
        assert_eq!(split, Some((&b"key"[..], &b"\tx\ty\n"[..])));
        assert_eq!(without_version(b"key\t12\n"), None);
        assert_eq!(without_version(b"key\n"), None);
    }
}
