//! `filter export`, `filter load`, `filter merge`.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use ureq::http::Method;

use super::{Context, Done, FilterFailure, Outcome, path};
use crate::client::{Client, RequestBody};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The filter
    name: OsString,
    /// The file; `-` is standard input or output
    file: OsString,
}

/// Bytes copied at once.
const COPY_BYTES: usize = 256 << 10;

pub(super) fn export(args: &Args, client: &Client, context: &Context) -> Done {
    let mut input = client.download(&path(&args.name, "/export"))?;
    if args.file == "-" {
        let mut output = context.output();
        copy(&mut input, &mut output, FilterFailure::Output)?;
        output.flush()?;
    } else {
        write_whole(Path::new(&args.file), &mut input)?;
    }
    Ok(Outcome::Done)
}

/// Copies to the end; a failure says on which side it was.
fn copy(
    input: &mut impl Read,
    output: &mut impl Write,
    write_failure: impl Fn(io::Error) -> FilterFailure,
) -> Result<(), FilterFailure> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = input.read(&mut buffer).map_err(FilterFailure::Download)?;
        if count == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..count]).map_err(&write_failure)?;
    }
}

/// Writes a file beside its place and moves it there when it is whole. Only its owner can read
/// it: it holds the filter's seed.
fn write_whole(target: &Path, input: &mut impl Read) -> Result<(), FilterFailure> {
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(name);
    let failure = |source| FilterFailure::File {
        path: target.display().to_string(),
        source,
    };
    let mut write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .map_err(failure)?;
        copy(input, &mut file, failure)?;
        file.sync_all().map_err(failure)?;
        std::fs::rename(&part, target).map_err(failure)
    };
    let written = write();
    if written.is_err() {
        drop(std::fs::remove_file(&part));
    }
    written
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
