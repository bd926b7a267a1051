//! `table watch`: a line for each change, for as long as somebody reads them. When the node
//! restarts it goes on where it was.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use super::{Context, Done, Outcome, TableFailure, columns, path, to_terminal, write_bytes};
use crate::client::{Client, ClientError};
use crate::http::name;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The table
    table: OsString,
    /// Print changes of keys that begin with this only
    #[arg(long)]
    prefix: Option<OsString>,
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

/// What happens while a stream is open.
#[derive(Debug)]
enum Happening {
    /// The node sends the stream.
    Begun,
    Event(Event),
    /// The stream has ended, or there is none.
    Ended(Option<ClientError>),
    /// Nobody reads standard output any more.
    Unread,
}

/// The stream, each time that it is opened.
struct Streams {
    send: SyncSender<(u64, Happening)>,
    happenings: Receiver<(u64, Happening)>,
    /// Which one is open: what comes of an earlier one counts for nothing.
    number: Arc<AtomicU64>,
}

pub(super) fn watch(args: &Args, first: Client, context: &Context) -> Done {
    let mut after = args.after.clone();
    let streams = Streams::new();
    let mut client = Some(first);
    let mut pause = RETRY[0];
    let mut reached = false;
    loop {
        // It may listen elsewhere now.
        let client = client.take().or_else(|| context.client().ok());
        if let Some(client) = client {
            streams.open(client, stream_path(args, after.as_deref()));
            let ended = print(&streams, args.json, &mut after, context, || {
                (reached, pause) = (true, RETRY[0]);
            })?;
            match ended {
                End::Dropped => return Ok(Outcome::Done),
                End::Failed(error) if !reached || !may_pass(&error) => return Err(error.into()),
                End::Failed(_) | End::Silent => {}
            }
        }
        streams.pause(pause)?;
        pause = (pause * 2).min(RETRY[1]);
    }
}

/// Whether a node may answer otherwise later.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::NoAnswer { .. }
        | ClientError::NotRunning { .. }
        | ClientError::NotAccepted { .. }
        | ClientError::Silent { .. }
        | ClientError::Broken { .. } => true,
        ClientError::Refused { status, .. } => *status >= 500,
        // Another program that has its port meanwhile.
        ClientError::Foreign { .. } | ClientError::OtherNode { .. } => true,
        ClientError::Token { .. } | ClientError::TokenFile(_) => false,
    }
}

fn stream_path(args: &Args, after: Option<&str>) -> String {
    let prefix = args.prefix.as_ref().map(|prefix| prefix.as_bytes());
    let pairs = [("after", after.map(str::as_bytes)), ("prefix", prefix)];
    let pairs: Vec<String> = pairs
        .iter()
        .filter_map(|(of, value)| Some(format!("{of}={}", name::encode((*value)?))))
        .collect();
    path(&args.table, &format!("/watch?{}", pairs.join("&")))
}

impl Streams {
    /// None is open yet.
    fn new() -> Self {
        let (send, happenings) = sync_channel(EVENTS_WAITING_MAX);
        let unread = send.clone();
        // Where there is no thread for it, the next line that is printed shows it.
        let watched = thread::Builder::new().spawn(move || {
            if is_unread() {
                drop(unread.send((0, Happening::Unread)));
            }
        });
        drop(watched);
        Streams {
            send,
            happenings,
            number: Arc::default(),
        }
    }

    /// Has a thread open the stream and read it: a read has no time limit of its own, and who prints
    /// is to notice that nobody reads that.
    fn open(&self, client: Client, path: String) {
        let (number, send, current) =
            (self.renumber(), self.send.clone(), Arc::clone(&self.number));
        let read = move || {
            let tell = |happening| {
                number == current.load(Ordering::Relaxed) && send.send((number, happening)).is_ok()
            };
            let ended = match client.download(&path) {
                Ok(input) => {
                    if tell(Happening::Begun) {
                        read(BufReader::new(input), |event| tell(Happening::Event(event)));
                    }
                    None
                }
                Err(error) => Some(error),
            };
            tell(Happening::Ended(ended));
        };
        let spawned = thread::Builder::new().name("watch".to_owned()).spawn(read);
        if spawned.is_err() {
            // It is tried again, as if the node had ended it.
            drop(self.send.try_send((number, Happening::Ended(None))));
        }
    }

    /// Nothing counts any more that comes of the one that was open.
    fn renumber(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// What happens next; none: nothing in that time.
    fn next(&self, wait: Duration) -> Result<Option<Happening>, io::Error> {
        let end = Instant::now() + wait;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.happenings.recv_timeout(left) {
                Ok((_, Happening::Unread)) => return Err(io::ErrorKind::BrokenPipe.into()),
                Ok((number, happening)) if number == self.number.load(Ordering::Relaxed) => {
                    return Ok(Some(happening));
                }
                Ok(_) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Waits before the next one.
    fn pause(&self, time: Duration) -> Result<(), io::Error> {
        self.renumber();
        self.next(time).map(drop)
    }
}

/// Waits until nobody reads standard output any more, which of a file never comes; false: that
/// cannot be seen.
fn is_unread() -> bool {
    let output = io::stdout();
    loop {
        let mut descriptors = [PollFd::new(&output, PollFlags::empty())];
        match poll(&mut descriptors, None) {
            Ok(_) => {
                let gone = PollFlags::ERR | PollFlags::HUP;
                return descriptors[0].revents().intersects(gone);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Reads events to the end of the stream, or until nobody wants them.
fn read(mut input: impl BufRead, tell: impl Fn(Event) -> bool) {
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
            if !tell(std::mem::take(&mut event)) {
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

/// Why a stream ended.
enum End {
    /// The table was dropped, and nothing more comes.
    Dropped,
    Failed(ClientError),
    /// Nothing came for too long, or no more.
    Silent,
}

/// Prints events until the stream ends; `after` is then where to go on.
fn print(
    streams: &Streams,
    json: bool,
    after: &mut Option<String>,
    context: &Context,
    mut begun: impl FnMut(),
) -> Result<End, TableFailure> {
    let mut output = context.output();
    let terminal = to_terminal();
    loop {
        let happening = match streams.next(Duration::ZERO)? {
            Some(happening) => happening,
            None => {
                output.flush()?;
                match streams.next(SILENCE_MAX)? {
                    Some(happening) => happening,
                    None => return Ok(End::Silent),
                }
            }
        };
        match happening {
            Happening::Begun => begun(),
            Happening::Ended(error) => return Ok(error.map_or(End::Silent, End::Failed)),
            Happening::Event(event) => {
                write_event(&mut output, &event, json, terminal)?;
                if event.name == "dropped" {
                    output.flush()?;
                    return Ok(End::Dropped);
                }
                if event.id.is_some() {
                    *after = event.id;
                }
            }
            Happening::Unread => {}
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

    fn events(text: &str) -> Vec<Event> {
        let (send, events) = sync_channel(100);
        read(io::Cursor::new(text.to_owned()), |event| {
            send.send(event).is_ok()
        });
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
