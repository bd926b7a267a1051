//! `table watch`: a line for each change, for as long as somebody reads them. When the node
//! restarts it goes on where it was.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Context, Done, TableFailure, columns, path, to_terminal, write_bytes};
use crate::client::{Client, ClientError};
use crate::http::name;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The table
    table: OsString,
    /// Begin behind this `id` of --json; `0`: with all rows. Without it: with what changes now
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Print an object a line
    #[arg(long)]
    json: bool,
}

/// A node that sends nothing for so long has gone: it gives a sign of life every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// How long to wait before a node is called again, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// Events that wait to be printed.
const EVENTS_WAITING_MAX: usize = 64;
/// Longest line of the stream, in bytes: a row in its longest writing is shorter.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// What the stream says.
#[derive(Debug, Default, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: Option<Value>,
}

pub(super) fn watch(args: &Args, first: Client, context: &Context) -> Done {
    let mut after = args.after.clone();
    let mut client = Some(first);
    let mut pause = RETRY[0];
    let mut reached = false;
    loop {
        let connected = match client.take() {
            Some(client) => connect(&client, args, after.as_deref()),
            // It may listen elsewhere now.
            None => match context.client() {
                Ok(client) => connect(&client, args, after.as_deref()),
                Err(_) => Ok(None),
            },
        };
        match connected {
            Ok(Some(events)) => {
                (reached, pause) = (true, RETRY[0]);
                print(&events, args.json, &mut after, context)?;
            }
            Err(error) if !reached || !may_pass(&error) => return Err(error.into()),
            Ok(None) | Err(_) => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(RETRY[1]);
    }
}

/// Whether a node may answer otherwise later.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::NoAnswer { .. } | ClientError::Broken { .. } => true,
        ClientError::Refused { status, .. } => *status >= 500,
        // Another program that has its port meanwhile.
        ClientError::Foreign { .. } => true,
        ClientError::Token { .. } | ClientError::TokenFile(_) => false,
    }
}

/// Opens the stream, and has a thread read it.
fn connect(
    client: &Client,
    args: &Args,
    after: Option<&str>,
) -> Result<Option<Receiver<Event>>, ClientError> {
    let behind = after.map_or(String::new(), |after| {
        format!("?after={}", name::encode(after.as_bytes()))
    });
    let input = client.download(&path(&args.table, &format!("/watch{behind}")))?;
    let (send, events) = sync_channel(EVENTS_WAITING_MAX);
    // A read has no time limit of its own; this way the one who prints has one.
    let reader = move || read(BufReader::new(input), &send);
    let spawned = std::thread::Builder::new()
        .name("watch".to_owned())
        .spawn(reader);
    Ok(spawned.ok().map(|_| events))
}

/// Reads events to the end of the stream, or until nobody wants them.
fn read(mut input: impl BufRead, send: &SyncSender<Event>) {
    let mut event = Event::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut input)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !matches!(count, Ok(1..)) || line.pop() != Some(b'\n') {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        if text.is_empty() {
            if send.send(std::mem::take(&mut event)).is_err() {
                return;
            }
        } else if let Some(name) = text.strip_prefix("event: ") {
            event.name = name.to_owned();
        } else if let Some(id) = text.strip_prefix("id: ") {
            event.id = Some(id.to_owned());
        } else if let Some(data) = text.strip_prefix("data: ") {
            event.data = serde_json::from_str(data).ok();
        }
    }
}

/// Prints events until the stream ends; `after` is then where to go on.
fn print(
    events: &Receiver<Event>,
    json: bool,
    after: &mut Option<String>,
    context: &Context,
) -> Result<(), TableFailure> {
    let mut output = context.output();
    let terminal = to_terminal();
    loop {
        let event = match events.try_recv() {
            Ok(event) => event,
            Err(_) => {
                output.flush()?;
                match events.recv_timeout(SILENCE_MAX) {
                    Ok(event) => event,
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        return Ok(());
                    }
                }
            }
        };
        write_event(&mut output, &event, json, terminal)?;
        if event.id.is_some() {
            *after = event.id;
        }
    }
}

fn write_event(
    output: &mut impl Write,
    event: &Event,
    json: bool,
    terminal: bool,
) -> Result<(), TableFailure> {
    // A comment, or an id alone.
    let Some(data) = &event.data else {
        return Ok(());
    };
    if json {
        let mut said = json!({"event": event.name, "id": event.id});
        for (key, value) in data.as_object().into_iter().flatten() {
            said[key] = value.clone();
        }
        writeln!(output, "{said}")?;
        return Ok(());
    }
    let mut line = event.name.clone().into_bytes();
    match event.name.as_str() {
        "row" => {
            line.push(b'\t');
            line.extend(columns(data).ok_or(TableFailure::NoRow)?);
        }
        "gone" => {
            let key = data["encoded"].as_str().and_then(name::decode);
            line.push(b'\t');
            line.extend(key.ok_or(TableFailure::NoRow)?);
        }
        _ => {}
    }
    line.push(b'\n');
    Ok(write_bytes(output, &line, terminal)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn events(text: &str) -> Vec<Event> {
        let (send, events) = sync_channel(100);
        read(io::Cursor::new(text.to_owned()), &send);
        drop(send);
        events.iter().collect()
    }

    #[test]
    fn a_stream_is_events_and_one_cut_short_is_none() {
        let text = ": watching\nid: a-1\n\nevent: row\nid: a-2\ndata: {\"encoded\":\"k\"}\n\n\
                    event: gone\ndata: {\"enc";
        let expected = [
            Event {
                id: Some("a-1".to_owned()),
                ..Event::default()
            },
            Event {
                name: "row".to_owned(),
                id: Some("a-2".to_owned()),
                data: Some(json!({"encoded": "k"})),
            },
        ];
        assert_eq!(events(text), expected);
    }

    #[test]
    fn changes_are_lines() -> Result<(), TableFailure> {
        let text = "event: row\ndata: {\"encoded\":\"a%2Fb\",\"values\":[\"x\",\"\"]}\n\n\
                    event: gone\nid: i\ndata: {\"encoded\":\"k\"}\n\n\
                    : nothing\n\n\
                    event: reset\nid: 0\ndata: {}\n\n";
        let (mut plain, mut objects) = (Vec::new(), Vec::new());
        for event in events(text) {
            write_event(&mut plain, &event, false, false)?;
            write_event(&mut objects, &event, true, false)?;
        }
        assert_eq!(plain, b"row\ta/b\tx\t\ngone\tk\nreset\n");
        let objects: Vec<Value> = String::from_utf8_lossy(&objects)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let gone = json!({"event": "gone", "id": "i", "encoded": "k"});
        assert_eq!((objects.len(), &objects[1]), (3, &gone));
        Ok(())
    }
}
