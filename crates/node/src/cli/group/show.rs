//! `group status` and `group members`.

use std::io::Write;

use serde_json::Value;
use ureq::http::Method;

use super::super::listing::{Column, Listing};
use super::{Context, Done, Outcome, plain};
use crate::client::{Client, RequestBody};

const COLUMNS: [Column; 9] = [
    Column::Words("NAME"),
    Column::Words("STATE"),
    Column::Words("LIVENESS"),
    Column::Words("CONNECTED"),
    Column::Numbers("TO SEND"),
    Column::Numbers("TO RECEIVE"),
    Column::Words("ADDRESSES"),
    Column::Words("KEY"),
    Column::Numbers("CLOCK AHEAD MS"),
];

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn status(args: &Args, client: &Client, context: &Context) -> Done {
    let status: Value = client.ask(Method::GET, "/api/v1/group", RequestBody::Nothing)?;
    if args.json {
        let mut output = context.output();
        writeln!(output, "{status:#}")?;
        output.flush()?;
        return Ok(Outcome::Done);
    }
    let mut rows = Listing::new(context.output(), &[Column::Words(""), Column::Words("")]);
    for key in ["id", "name", "met", "left", "refused", "connected"] {
        rows.row(&[key.to_owned(), plain(&status[key])])?;
    }
    for key in ["key", "name", "addresses"] {
        rows.row(&[format!("me.{key}"), plain(&status["me"][key])])?;
    }
    for key in ["members", "in_step"] {
        rows.row(&[format!("copies.{key}"), plain(&status["copies"][key])])?;
    }
    for found in status["divergences"].as_array().into_iter().flatten() {
        let [member, kind, name, count] =
            ["member", "kind", "name", "count"].map(|key| plain(&found[key]));
        rows.row(&["divergence".to_owned(), member, kind, name, count])?;
    }
    for note in status["notes"].as_array().into_iter().flatten() {
        rows.row(&["note".to_owned(), plain(note)])?;
    }
    rows.row(&["forks".to_owned(), plain(&status["forks"])])?;
    let ahead = plain(&status["clock"]["off"]["ahead_ms"]);
    rows.row(&["clock.off_ms".to_owned(), ahead])?;
    rows.end("")?;
    Ok(Outcome::Done)
}

pub(super) fn members(args: &Args, client: &Client, context: &Context) -> Done {
    let path = "/api/v1/group/members";
    let answer: Value = client.ask(Method::GET, path, RequestBody::Nothing)?;
    let members = &answer["members"];
    if args.json {
        let mut output = context.output();
        writeln!(output, "{members:#}")?;
        output.flush()?;
    } else {
        let mut rows = Listing::new(context.output(), &COLUMNS);
        for member in members.as_array().into_iter().flatten() {
            let connected = match (&member["me"], &member["connected"]) {
                (Value::Bool(true), _) => "me",
                (_, Value::Bool(true)) => "connected",
                _ => "-",
            };
            let link = &member["link"];
            let columns = [
                plain(&member["name"]),
                plain(&member["state"]),
                plain(&member["liveness"]),
                connected.to_owned(),
                plain(&link["to_send"]),
                plain(&link["to_receive"]),
                plain(&member["addresses"]),
                plain(&member["key"]),
                plain(&link["clock_ahead_ms"]),
            ];
            rows.row(&columns)?;
        }
        rows.end("")?;
    }
    Ok(Outcome::Done)
}
