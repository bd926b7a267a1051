//! `filter import` and `filter check --input`: keys by the million, a line each.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::super::line_blocks::{LineBlocks, progress};
use super::{Context, Done, FilterFailure, Outcome, figures, make, path};
use crate::client::{Client, ClientError, RequestBody};

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The filter
    name: OsString,
    /// The file, one key a line (empty lines are skipped, a carriage return before a line's end is no
    /// part of the key); `-` is standard input
    file: OsString,
}

/// What the node says of one block; the names of the counts are those of `set` and `check`.
#[derive(Deserialize)]
struct Counts {
    keys: u64,
    #[serde(alias = "new")]
    yes: u64,
    /// Keys that a filter of fixed size had no room for.
    #[serde(default)]
    full: u64,
}

pub(super) fn import(args: &ImportArgs, client: &Client, context: &Context) -> Done {
    let mut lines = LineBlocks::open(&args.file)?;
    // Asked before the first line: an empty file makes a filter, too.
    let info: Result<Value, ClientError> =
        client.ask(Method::GET, &path(&args.name, ""), RequestBody::Nothing);
    match info {
        Err(error) if error.is_absent() => {
            let said = make(client, &args.name, &json!({}))?;
            let parameters = &said["filter"]["parameters"];
            drop(writeln!(
                io::stderr(),
                "grapevine: made the filter, with capacity {} and error {}",
                parameters["capacity"],
                figures::plain(&parameters["error"])
            ));
        }
        info => drop(info?),
    }
    let counts = run(&mut lines, client, &path(&args.name, "/set"), "new")?;
    let Counts {
        keys,
        yes: new,
        full,
    } = counts;
    let mut output = context.output();
    write!(
        output,
        "{keys} keys: {new} new, {} seen",
        keys.saturating_sub(new).saturating_sub(full)
    )?;
    if full > 0 {
        write!(output, ", {full} not added: the filter is full")?;
    }
    writeln!(output)?;
    output.flush()?;
    Ok(if full > 0 {
        Outcome::Failed
    } else {
        Outcome::Done
    })
}

pub(super) fn check(name: &OsStr, input: &OsStr, client: &Client, context: &Context) -> Done {
    let mut lines = LineBlocks::open(input)?;
    let info: Value = client.ask(Method::GET, &path(name, ""), RequestBody::Nothing)?;
    let Counts { keys, yes, .. } = run(&mut lines, client, &path(name, "/check"), "yes")?;
    let mut output = context.output();
    let share = if keys > 0 {
        yes as f64 / keys as f64
    } else {
        0.0
    };
    writeln!(
        output,
        "{keys} keys: {yes} yes, {} no ({share:.6}; configured {})",
        keys.saturating_sub(yes),
        figures::plain(&info["error"])
    )?;
    output.flush()?;
    Ok(if yes == keys {
        Outcome::Done
    } else {
        Outcome::Absent
    })
}

fn run(
    lines: &mut LineBlocks,
    client: &Client,
    path: &str,
    counted: &'static str,
) -> Result<Counts, FilterFailure> {
    let bar = progress(lines.length);
    let path = format!("{path}?results=none");
    let mut total = Counts {
        keys: 0,
        yes: 0,
        full: 0,
    };
    let mut go = || -> Result<(), FilterFailure> {
        while let Some(block) = lines.next()? {
            let body = RequestBody::Bytes {
                media_type: "text/plain",
                bytes: block,
            };
            let counts: Counts = client.ask(Method::POST, &path, body)?;
            total.keys += counts.keys;
            total.yes += counts.yes;
            total.full += counts.full;
            bar.inc(block.len() as u64);
            let seconds = bar.elapsed().as_secs_f64().max(1e-3);
            let rate = total.keys as f64 / seconds;
            bar.set_message(format!(
                "{} keys, {rate:.0}/s, {} {counted}",
                total.keys, total.yes
            ));
        }
        Ok(())
    };
    let outcome = go();
    bar.finish_and_clear();
    match outcome {
        Ok(()) => Ok(total),
        Err(failure) if total.keys == 0 => Err(failure),
        Err(failure) => Err(FilterFailure::After {
            keys: total.keys,
            source: Box::new(failure),
        }),
    }
}
