//! `table import` and `table export`.

use std::ffi::OsString;
use std::io::Write;

use serde::Deserialize;
use ureq::http::Method;

use super::super::download;
use super::super::line_blocks::{LineBlocks, progress};
use super::{Context, Done, Outcome, TableFailure, path};
use crate::client::{Client, RequestBody};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The table
    table: OsString,
    /// The file; `-` is standard input or output
    file: OsString,
    /// How rows stand in the file
    #[arg(long, value_enum, default_value_t = Format::P2ptbl)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// `KEY TAB VERSION TAB VALUE…` a line, without expiries
    P2ptbl,
    /// A JSON object a line, with expiries; any bytes of keys and values come back
    Jsonl,
}

impl Format {
    /// Its name for the node, and what it is.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Format::P2ptbl => ("p2ptbl", "text/tab-separated-values"),
            Format::Jsonl => ("jsonl", "application/x-ndjson"),
        }
    }
}

/// What the node says of one block.
#[derive(Default, Deserialize)]
struct Counts {
    rows: u64,
    changed: u64,
    refused: u64,
}

pub(super) fn import(args: &Args, client: &Client, context: &Context) -> Done {
    let mut lines = LineBlocks::open(&args.file)?;
    let bar = progress(lines.length);
    let mut total = Counts::default();
    let outcome = send(&mut lines, args, client, &mut total, &bar);
    bar.finish_and_clear();
    match outcome {
        Err(TableFailure::Client(error)) if error.is_absent() => return Err(error.into()),
        Err(failure) if total.rows > 0 => {
            return Err(TableFailure::After {
                rows: total.rows,
                source: Box::new(failure),
            });
        }
        outcome => outcome?,
    }
    let Counts {
        rows,
        changed,
        refused,
    } = total;
    let mut output = context.output();
    writeln!(
        output,
        "{rows} rows: {changed} changed, {} not",
        rows.saturating_sub(changed)
    )?;
    output.flush()?;
    match refused {
        0 => Ok(Outcome::Done),
        count => Err(TableFailure::Versions(count)),
    }
}

fn send(
    lines: &mut LineBlocks,
    args: &Args,
    client: &Client,
    total: &mut Counts,
    bar: &indicatif::ProgressBar,
) -> Result<(), TableFailure> {
    // Asked before the first line: of an empty file it says whether the table is there.
    let mut first = 1;
    let (format, media_type) = args.format.names();
    let mut block: &[u8] = &[];
    loop {
        let body = RequestBody::Bytes {
            media_type,
            bytes: block,
        };
        let path = path(
            &args.table,
            &format!("/import?line={first}&format={format}"),
        );
        let counts: Counts = client.ask(Method::POST, &path, body)?;
        total.rows += counts.rows;
        total.changed += counts.changed;
        total.refused += counts.refused;
        bar.inc(block.len() as u64);
        let rate = total.rows as f64 / bar.elapsed().as_secs_f64().max(1e-3);
        bar.set_message(format!(
            "{} rows, {rate:.0}/s, {} changed",
            total.rows, total.changed
        ));
        first = lines.lines + 1;
        match lines.next()? {
            Some(next) => block = next,
            None => return Ok(()),
        }
    }
}

pub(super) fn export(args: &Args, client: &Client, context: &Context) -> Done {
    let behind = format!("/export?format={}", args.format.names().0);
    let mut input = client.download(&path(&args.table, &behind))?;
    download::save(&mut input, &args.file, 0o666, context)?;
    Ok(Outcome::Done)
}
