//! `filter import` and `filter check --input`: keys by the million, a line each.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::Method;

use super::{Context, Done, FilterFailure, Outcome, make, path};
use crate::client::{Client, ClientError, RequestBody};

/// Bytes of lines sent in one request.
const BLOCK_BYTES: usize = 1 << 20;
/// Longest line that is sent at all; the node's own limit (limits.line) is usually less.
const LINE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The filter
    name: OsString,
    /// The file, one key a line (empty lines are skipped); `-` is standard input
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
                parameters["error"]
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
        info["error"]
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

/// A bar on standard error, if that is a terminal.
fn progress(length: Option<u64>) -> ProgressBar {
    let (bar, template) = match length {
        Some(length) => (
            ProgressBar::new(length),
            "{bar:30} {bytes}/{total_bytes} {msg} {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A file in blocks of whole lines.
struct LineBlocks {
    input: Box<dyn Read>,
    path: String,
    /// Bytes in the file, when that is known.
    length: Option<u64>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were given out last.
    given: usize,
    lines: u64,
    ended: bool,
}

impl LineBlocks {
    fn open(path: &OsStr) -> Result<Self, FilterFailure> {
        let shown = Path::new(path).display().to_string();
        let (input, length): (Box<dyn Read>, _) = if path == "-" {
            (Box::new(io::stdin().lock()), None)
        } else {
            let opened = File::open(path).and_then(|file| {
                let facts = file.metadata()?;
                Ok((file, facts.is_file().then_some(facts.len())))
            });
            let (file, length) = opened.map_err(|source| FilterFailure::File {
                path: shown.clone(),
                source,
            })?;
            (Box::new(file), length)
        };
        Ok(Self::new(input, shown, length))
    }

    fn new(input: Box<dyn Read>, path: String, length: Option<u64>) -> Self {
        LineBlocks {
            input,
            path,
            length,
            buffer: Vec::new(),
            given: 0,
            lines: 0,
            ended: false,
        }
    }

    /// The next lines: about [`BLOCK_BYTES`], more only when one line is longer.
    fn next(&mut self) -> Result<Option<&[u8]>, FilterFailure> {
        self.buffer.drain(..self.given);
        self.given = 0;
        let mut wanted = BLOCK_BYTES;
        loop {
            self.fill(wanted)?;
            if let Some(last) = memchr::memrchr(b'\n', &self.buffer) {
                self.given = last + 1;
            }
            if self.ended {
                self.given = self.buffer.len();
            }
            if self.given > 0 {
                let block = &self.buffer[..self.given];
                self.lines += memchr::memchr_iter(b'\n', block).count() as u64;
                return Ok(Some(block));
            }
            if self.ended {
                return Ok(None);
            }
            if wanted >= LINE_BYTES_MAX {
                return Err(FilterFailure::LineTooLong {
                    path: self.path.clone(),
                    line: self.lines + 1,
                    limit: LINE_BYTES_MAX,
                });
            }
            wanted *= 2;
        }
    }

    fn fill(&mut self, wanted: usize) -> Result<(), FilterFailure> {
        let missing = wanted.saturating_sub(self.buffer.len()) as u64;
        let read = self
            .input
            .as_mut()
            .take(missing)
            .read_to_end(&mut self.buffer);
        let read = read.map_err(|source| FilterFailure::File {
            path: self.path.clone(),
            source,
        })?;
        self.ended = (read as u64) < missing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: Vec<u8>) -> Result<Vec<Vec<u8>>, FilterFailure> {
        let input = Box::new(io::Cursor::new(text));
        let mut lines = LineBlocks::new(input, "test".to_owned(), None);
        let mut blocks = Vec::new();
        while let Some(block) = lines.next()? {
            blocks.push(block.to_vec());
        }
        Ok(blocks)
    }

    #[test]
    fn blocks_are_whole_lines_and_nothing_is_lost() -> Result<(), FilterFailure> {
        assert_eq!(blocks(Vec::new())?, Vec::<Vec<u8>>::new());
        assert_eq!(blocks(b"a\nb".to_vec())?, [b"a\nb"]);
        let mut text: Vec<u8> = (0..400_000)
            .flat_map(|n| format!("{n}\n").into_bytes())
            .collect();
        text.extend_from_slice(&vec![b'x'; 3 * BLOCK_BYTES]);
        text.extend_from_slice(b"\nend");
        let blocks = blocks(text.clone())?;
        assert!(blocks.len() > 2);
        let whole = blocks.len() - 1;
        assert!(blocks[..whole].iter().all(|block| block.ends_with(b"\n")));
        assert_eq!(blocks.concat(), text);
        Ok(())
    }

    #[test]
    fn an_endless_line_is_refused_with_its_number() {
        let input = Box::new(b"one\ntwo\n".chain(io::repeat(b'x')));
        let mut lines = LineBlocks::new(input, "test".to_owned(), None);
        assert!(matches!(lines.next(), Ok(Some(b"one\ntwo\n"))));
        let refused = lines.next().err();
        assert!(
            matches!(refused, Some(FilterFailure::LineTooLong { line: 3, .. })),
            "{refused:?}"
        );
    }
}
