//! `filter list` and `filter info`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::{Context, Done, Outcome, path};
use crate::client::{Client, RequestBody};
use crate::http::name;

#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Only filters whose name begins so
    prefix: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct InfoArgs {
    /// The filter
    name: OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Page {
    filters: Vec<Value>,
    next: Option<String>,
}

pub(super) fn list(args: &ListArgs, client: &Client, context: &Context) -> Done {
    let prefix = args.prefix.as_deref().unwrap_or_default();
    let start = format!("/api/v1/filters?prefix={}", name::encode(prefix.as_bytes()));
    let mut output = context.output();
    let mut after = None;
    let mut separator = "[";
    // The node's names ascend, so the pages end.
    loop {
        let behind = after.map_or(String::new(), |after: String| format!("&after={after}"));
        let page: Page = client.ask(
            Method::GET,
            &format!("{start}{behind}"),
            RequestBody::Nothing,
        )?;
        for filter in &page.filters {
            if args.json {
                write!(output, "{separator}{filter}")?;
                separator = ",\n";
            } else {
                write_row(&mut output, filter)?;
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if args.json {
        let opening = if separator == "[" { "[" } else { "" };
        writeln!(output, "{opening}]")?;
    }
    output.flush()?;
    Ok(Outcome::Done)
}

fn write_row(output: &mut impl Write, filter: &Value) -> std::io::Result<()> {
    write_name(output, filter)?;
    for figure in ["inserted", "capacity", "bytes", "error"] {
        write!(output, "\t{}", filter[figure])?;
    }
    if !filter["damaged"].is_null() {
        write!(output, "\tdamaged")?;
    }
    if !filter["too_large"].is_null() {
        write!(output, "\ttoo large")?;
    }
    writeln!(output)
}

/// The name's own bytes; on a terminal nothing that would steer it.
fn write_name(output: &mut impl Write, filter: &Value) -> std::io::Result<()> {
    let encoded = filter["encoded"].as_str().and_then(name::decode);
    let bytes = encoded.unwrap_or_default();
    if !std::io::stdout().is_terminal() {
        return output.write_all(&bytes);
    }
    let shown = name::display(&bytes).replace(char::is_control, "\u{fffd}");
    output.write_all(shown.as_bytes())
}

pub(super) fn info(args: &InfoArgs, client: &Client, context: &Context) -> Done {
    let info: Value = client.ask(Method::GET, &path(&args.name, ""), RequestBody::Nothing)?;
    let mut output = context.output();
    if args.json {
        writeln!(output, "{info:#}")?;
        output.flush()?;
        return Ok(Outcome::Done);
    }
    write!(output, "name\t")?;
    write_name(&mut output, &info)?;
    writeln!(output)?;
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    for key in [
        "id",
        "storage",
        "scope",
        "loaded",
        "error",
        "inserted",
        "capacity",
        "bytes",
        "layers",
        "damaged",
        "too_large",
    ] {
        writeln!(output, "{key}\t{}", plain(&info[key]))?;
    }
    for lag in info["copies"]["lag"].as_array().into_iter().flatten() {
        for figure in ["to_send", "to_receive"] {
            let member = plain(&lag["member"]).replace(char::is_control, "\u{fffd}");
            writeln!(
                output,
                "copies.lag.{member}.{figure}\t{}",
                plain(&lag[figure])
            )?;
        }
    }
    for figure in ["members", "in_step"] {
        writeln!(
            output,
            "copies.{figure}\t{}",
            plain(&info["copies"][figure])
        )?;
    }
    for group in ["parameters", "measured", "usage"] {
        for (key, value) in info[group].as_object().into_iter().flatten() {
            writeln!(output, "{group}.{key}\t{}", plain(value))?;
        }
    }
    for (number, layer) in info["layer_list"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        for (key, value) in layer.as_object().into_iter().flatten() {
            writeln!(output, "layer.{number}.{key}\t{}", plain(value))?;
        }
    }
    output.flush()?;
    Ok(Outcome::Done)
}
