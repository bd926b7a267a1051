//! `filter list` and `filter info`.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use serde::Deserialize;
use serde_json::Value;
use ureq::http::Method;

use super::listing::{Column, Listing};
use super::{Context, Done, Outcome, figures, path};
use crate::client::{Client, RequestBody};
use crate::http::name;

const COLUMNS: [Column; 5] = [
    Column::Words("NAME"),
    Column::Numbers("KEYS"),
    Column::Numbers("CAPACITY"),
    Column::Numbers("BYTES"),
    Column::Numbers("ERROR"),
];

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
    let mut rows = (!args.json).then(|| Listing::new(context.output(), &COLUMNS));
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
            match &mut rows {
                None => {
                    write!(output, "{separator}{filter}")?;
                    separator = ",\n";
                }
                Some(rows) => rows.row(&row(filter))?,
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if let Some(rows) = rows {
        rows.end("There are no such filters; `grapevine filter create NAME` makes one.")?;
        return Ok(Outcome::Done);
    }
    let opening = if separator == "[" { "[" } else { "" };
    writeln!(output, "{opening}]")?;
    output.flush()?;
    Ok(Outcome::Done)
}

/// The name's own bytes, the figures, and what is wrong with it.
fn row(filter: &Value) -> Vec<Vec<u8>> {
    let mut fields = vec![name_of(filter)];
    for figure in ["inserted", "capacity", "bytes", "error"] {
        fields.push(figures::plain(&filter[figure]).into_bytes());
    }
    for (fault, word) in [("damaged", "damaged"), ("too_large", "too large")] {
        if !filter[fault].is_null() {
            fields.push(word.into());
        }
    }
    fields
}

fn name_of(filter: &Value) -> Vec<u8> {
    let encoded = filter["encoded"].as_str().and_then(name::decode);
    encoded.unwrap_or_default()
}

pub(super) fn info(args: &InfoArgs, client: &Client, context: &Context) -> Done {
    let info: Value = client.ask(Method::GET, &path(&args.name, ""), RequestBody::Nothing)?;
    let mut output = context.output();
    if args.json {
        writeln!(output, "{info:#}")?;
        output.flush()?;
        return Ok(Outcome::Done);
    }
    drop(output);
    let mut rows = Listing::new(context.output(), &[Column::Words(""), Column::Words("")]);
    rows.row(&[b"name".to_vec(), name_of(&info)])?;
    for (key, value) in facts(&info) {
        rows.row(&[key, value])?;
    }
    rows.end("")?;
    Ok(Outcome::Done)
}

/// Everything known of a filter but its name, a key and a value each.
fn facts(info: &Value) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut add = |key: String, value: &Value| facts.push((key, plain(value)));
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
        add(key.to_owned(), &info[key]);
    }
    for lag in info["copies"]["lag"].as_array().into_iter().flatten() {
        for figure in ["to_send", "to_receive"] {
            let member = plain(&lag["member"]).replace(char::is_control, "\u{fffd}");
            add(format!("copies.lag.{member}.{figure}"), &lag[figure]);
        }
    }
    for figure in ["members", "in_step"] {
        add(format!("copies.{figure}"), &info["copies"][figure]);
    }
    for group in ["parameters", "measured", "usage"] {
        for (key, value) in info[group].as_object().into_iter().flatten() {
            add(format!("{group}.{key}"), value);
        }
    }
    let layers = info["layer_list"].as_array().into_iter().flatten();
    for (number, layer) in layers.enumerate() {
        for (key, value) in layer.as_object().into_iter().flatten() {
            add(format!("layer.{number}.{key}"), value);
        }
    }
    facts
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => figures::plain(other),
    }
}
