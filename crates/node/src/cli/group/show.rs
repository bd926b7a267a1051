//! `group status` and `group members`.

use std::io::Write;

use serde_json::Value;
use ureq::http::Method;

use super::{Context, Done, Outcome, plain};
use crate::client::{Client, RequestBody};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn status(args: &Args, client: &Client, context: &Context) -> Done {
    let status: Value = client.ask(Method::GET, "/api/v1/group", RequestBody::Nothing)?;
    let mut output = context.output();
    if args.json {
        writeln!(output, "{status:#}")?;
    } else {
        for key in ["id", "name", "met", "left", "refused", "connected"] {
            writeln!(output, "{key}\t{}", plain(&status[key]))?;
        }
        for key in ["key", "name", "addresses"] {
            writeln!(output, "me.{key}\t{}", plain(&status["me"][key]))?;
        }
        for key in ["members", "in_step"] {
            writeln!(output, "copies.{key}\t{}", plain(&status["copies"][key]))?;
        }
        for found in status["divergences"].as_array().into_iter().flatten() {
            let columns = ["member", "kind", "name", "count"].map(|key| plain(&found[key]));
            writeln!(output, "divergence\t{}", columns.join("\t"))?;
        }
        for note in status["notes"].as_array().into_iter().flatten() {
            writeln!(output, "note\t{}", plain(note))?;
        }
        writeln!(output, "forks\t{}", plain(&status["forks"]))?;
        let ahead = plain(&status["clock"]["off"]["ahead_ms"]);
        writeln!(output, "clock.off_ms\t{ahead}")?;
    }
    output.flush()?;
    Ok(Outcome::Done)
}

pub(super) fn members(args: &Args, client: &Client, context: &Context) -> Done {
    let path = "/api/v1/group/members";
    let answer: Value = client.ask(Method::GET, path, RequestBody::Nothing)?;
    let members = &answer["members"];
    let mut output = context.output();
    if args.json {
        writeln!(output, "{members:#}")?;
    } else {
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
            writeln!(output, "{}", columns.join("\t"))?;
        }
    }
    output.flush()?;
    Ok(Outcome::Done)
}
