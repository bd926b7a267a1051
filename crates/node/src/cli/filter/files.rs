//! `filter export`, `filter load`, `filter merge`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use serde_json::Value;
use ureq::http::Method;

use super::super::download;
use super::{Context, Done, FilterFailure, Outcome, path};
use crate::client::{Client, RequestBody};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The filter
    name: OsString,
    /// The file; `-` is standard input or output
    file: OsString,
}

pub(super) fn export(args: &Args, client: &Client, context: &Context) -> Done {
    if args.file == "-" && io::stdout().is_terminal() {
        return Err(FilterFailure::Terminal);
    }
    let mut input = client.download(&path(&args.name, "/export"))?;
    // The file holds the filter's seed.
    download::save(&mut input, &args.file, 0o600, context)?;
    Ok(Outcome::Done)
}

pub(super) fn load(args: &Args, client: &Client, context: &Context) -> Done {
    let said = send(args, client, Method::PUT, "/import")?;
    let mut output = context.output();
    writeln!(
        output,
        "{} keys, {} layers, {} bytes",
        said["inserted"], said["layers"], said["bytes"]
    )?;
    output.flush()?;
    Ok(Outcome::Done)
}

pub(super) fn merge(args: &Args, client: &Client, context: &Context) -> Done {
    let said = send(args, client, Method::POST, "/merge")?;
    let mut output = context.output();
    writeln!(
        output,
        "{} layers merged, {} added",
        said["merged"], said["adopted"]
    )?;
    output.flush()?;
    Ok(Outcome::Done)
}

fn send(
    args: &Args,
    client: &Client,
    method: Method,
    behind: &str,
) -> Result<Value, FilterFailure> {
    let mut file = open(&args.file)?;
    let body = RequestBody::File(&mut file);
    Ok(client.ask(method, &path(&args.name, behind), body)?)
}

fn open(file: &OsStr) -> Result<Box<dyn Read>, FilterFailure> {
    if file == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let opened = File::open(file).map_err(|source| FilterFailure::File {
        path: Path::new(file).display().to_string(),
        source,
    })?;
    Ok(Box::new(opened))
}
