//! `group status` and `group members`.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use ureq::http::Method;

use super::super::listing::{Column, Listing};
use super::super::status::{counted, duration};
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
    for called in status["joining"].as_array().into_iter().flatten() {
        for row in joining(called, io::stdout().is_terminal()) {
            rows.row(&row)?;
        }
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

/// An address that is called: two lines for people, one with a column for each figure for pipes.
fn joining(called: &Value, for_people: bool) -> Vec<Vec<String>> {
    let title = "joining".to_owned();
    if !for_people {
        let figures = [
            "address",
            "reason",
            "attempts",
            "last_attempt_ms_ago",
            "next_attempt_ms",
            "peer",
        ];
        let figures = figures.iter().map(|key| plain(&called[key]));
        return vec![std::iter::once(title).chain(figures).collect()];
    }
    let address = plain(&called["address"]);
    let reason = match &called["reason"] {
        Value::Null => "no answer yet".to_owned(),
        reason => plain(reason),
    };
    let mut course = Vec::new();
    if let Some(failed @ 1..) = called["attempts"].as_u64() {
        course.push(format!("{} failed", counted(failed, "call", "calls")));
    }
    if let Some(last) = called["last_attempt_ms_ago"].as_u64() {
        course.push(format!("last attempt {} ago", seconds(last)));
    }
    course.push(match called["next_attempt_ms"].as_u64() {
        Some(next) => format!("next in {}", seconds(next)),
        None => "calling now".to_owned(),
    });
    vec![
        vec![title, format!("{address}: {reason}")],
        vec![String::new(), course.join("; ")],
    ]
}

/// Whole seconds, so that the figures of two looks can be compared.
fn seconds(milliseconds: u64) -> String {
    duration(milliseconds.div_ceil(1000).max(1) * 1000)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_address_that_is_called_is_two_lines_for_people_and_one_for_pipes() {
        let called = json!({"address": "192.0.2.1:8676", "reason": "nobody answers", "attempts": 3,
            "last_attempt_ms_ago": 61_200, "next_attempt_ms": 400, "peer": null});
        let lines = [
            ["joining", "192.0.2.1:8676: nobody answers"],
            [
                "",
                "3 calls failed; last attempt 1 min 2 s ago; next in 1 s",
            ],
        ];
        assert_eq!(joining(&called, true), lines);
        let line = "joining\t192.0.2.1:8676\tnobody answers\t3\t61200\t400\t-";
        assert_eq!(joining(&called, false)[0].join("\t"), line);
        let first = json!({"address": "a:1", "reason": null, "attempts": 0,
            "last_attempt_ms_ago": 0, "next_attempt_ms": null, "peer": null});
        let lines = [
            ["joining", "a:1: no answer yet"],
            ["", "last attempt 1 s ago; calling now"],
        ];
        assert_eq!(joining(&first, true), lines);
    }
}
