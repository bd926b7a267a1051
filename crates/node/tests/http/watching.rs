//! Changes of tables as events.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use grapevine::http::TokenSource;
use grapevine_store::disk::RealDisk;
use serde_json::{Value, json};

use super::server::Served;
use super::tables::{create_table, import, set_row};

/// An open stream of events, and its head.
struct Stream(BufReader<TcpStream>, String);

#[derive(Debug)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl Stream {
    fn open(served: &Served, query: &str, headers: &str) -> Stream {
        let mut stream = served.connect();
        let head = format!(
            "GET /api/v1/tables/t/watch{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        let mut stream = Stream(BufReader::new(stream), String::new());
        let status = stream.line();
        assert!(status.contains(" 200 "), "{status}");
        loop {
            let line = stream.line();
            if line == "\r\n" {
                return stream;
            }
            stream.1 += &line;
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        assert!(!line.is_empty(), "the stream ended");
        line
    }

    /// The next line of the stream, out of its chunks: each line of an event begins none.
    fn text(&mut self) -> String {
        loop {
            let line = self.line();
            let is_chunk = line.ends_with("\r\n");
            if !is_chunk {
                return line.trim_end().to_owned();
            }
        }
    }

    /// The next event; of comments only the id.
    fn block(&mut self) -> Event {
        let (mut name, mut id, mut data) = (String::new(), String::new(), Value::Null);
        loop {
            let line = self.text();
            if let Some(text) = line.strip_prefix("event: ") {
                name = text.to_owned();
            } else if let Some(text) = line.strip_prefix("id: ") {
                id = text.to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = serde_json::from_str(text).expect("JSON");
            } else if line.is_empty() {
                return Event { name, id, data };
            }
        }
    }

    fn event(&mut self) -> Event {
        loop {
            let event = self.block();
            if !event.name.is_empty() {
                return event;
            }
        }
    }

    /// Reads on until that many keys were told of, and gives the last word on each. The table may not
    /// be sent again.
    fn follow(&mut self, count: usize) -> BTreeMap<String, String> {
        let mut known = BTreeMap::new();
        while known.len() < count {
            let event = self.event();
            assert!(matches!(&*event.name, "row" | "gone"), "{event:?}");
            let key = event.data["key"].as_str().expect("text").to_owned();
            known.insert(key, event.name);
        }
        known
    }

    /// The next events as words.
    fn words(&mut self, count: usize) -> String {
        let word = |event: Event| match event.data["key"].as_str() {
            Some(key) => format!("{}:{key}", event.name),
            None => event.name,
        };
        let words: Vec<String> = (0..count).map(|_| word(self.event())).collect();
        words.join(" ")
    }
}

fn set(served: &Served, key: &str) {
    set_row(served, &format!("t/rows/{key}"), &json!({"values": ["v"]}));
}

/// A file of rows whose keys are numbers.
fn lines(count: usize, version: i64) -> String {
    (0..count).map(|n| format!("{n}\t{version}\tv\n")).collect()
}

fn watchers(served: &Served) -> String {
    let text = served.get("/metrics").text();
    let line = text
        .lines()
        .find(|line| line.starts_with("grapevine_table_watchers "));
    line.expect("the metric").to_owned()
}

#[test]
fn changes_come_as_they_happen() {
    let served = Served::start();
    create_table(&served, "t");
    create_table(&served, "other");
    set(&served, "before");
    let mut stream = Stream::open(&served, "", "");
    assert_eq!(stream.block().id.split('-').count(), 3);
    set(&served, "a");
    set_row(&served, "other/rows/x", &json!({"values": ["v"]}));
    let event = stream.event();
    assert_eq!((&*event.name, &event.data["key"]), ("row", &json!("a")));
    let row = served.get("/api/v1/tables/t/rows/a").json();
    assert_eq!(event.data, row);
    served.request("DELETE /api/v1/tables/t/rows/a", "", b"");
    let event = stream.event();
    assert_eq!(&*event.name, "gone");
    assert_eq!(
        (&event.data["key"], &event.data["why"]),
        (&json!("a"), &json!("deleted"))
    );
    import(&served, "t", b"b\t1\tv\nc\t1\tv\n");
    assert_eq!(stream.words(2), "row:b row:c");
    assert_eq!(watchers(&served), "grapevine_table_watchers 1");
    drop(stream);
    let begun = std::time::Instant::now();
    while watchers(&served) != "grapevine_table_watchers 0" {
        assert!(begun.elapsed().as_secs() < 30, "the watcher never left");
    }
}

#[test]
fn with_nothing_seen_all_rows_come_first() {
    let served = Served::start();
    create_table(&served, "t");
    for key in ["a", "b", "c"] {
        set(&served, key);
    }
    served.request("DELETE /api/v1/tables/t/rows/b", "", b"");
    let mut stream = Stream::open(&served, "?after=0", "");
    let reset = stream.event();
    assert_eq!((&*reset.name, &*reset.id), ("reset", "0"));
    // Without an id: who breaks off here begins again.
    let row = stream.event();
    assert_eq!((&*row.name, &*row.id), ("row", ""));
    assert_eq!(stream.words(2), "row:c complete");
    set(&served, "d");
    assert_eq!(stream.words(1), "row:d");
}

#[test]
fn a_stream_goes_on_behind_the_event_that_was_seen_last() {
    let served = Served::start();
    create_table(&served, "t");
    let mut stream = Stream::open(&served, "", "");
    set(&served, "a");
    set(&served, "b");
    let first = stream.event();
    drop(stream);
    set(&served, "c");
    served.engine.journal().sync().expect("synced");
    let header = format!("Last-Event-ID: {}\r\n", first.id);
    // The header is the one that counts.
    let mut stream = Stream::open(&served, "?after=0", &header);
    let mut seen = vec![stream.words(1)];
    while seen.last().is_none_or(|word| word != "row:c") {
        seen.push(stream.words(1));
    }
    // What was seen may be told twice, as long as the log was not synced behind it.
    seen.retain(|word| word != "row:a");
    assert_eq!(seen, ["row:b", "row:c"]);
    drop(stream);

    let foreign = first.id.replace(&first.id[..4], "0000");
    let far = format!("{}-999999999-9999999999999", &first.id[..32]);
    let old = format!("{}-0-1", &first.id[..32]);
    for token in [foreign, far, old] {
        let mut stream = Stream::open(&served, &format!("?after={token}"), "");
        assert_eq!(
            stream.words(5),
            "reset row:a row:b row:c complete",
            "{token}"
        );
    }
    for query in ["after=x", "after=1-2-3", "since=0"] {
        let refused = served.get(&format!("/api/v1/tables/t/watch?{query}"));
        assert_eq!(refused.refusal(), (400, "parameter".to_owned()), "{query}");
    }
}

#[test]
fn what_expires_is_told_when_it_does() {
    let served = Served::start();
    create_table(&served, "t");
    let short = |key: &str, ttl: u64| {
        let wish = json!({"values": ["v"], "ttl_ms": ttl});
        let set = set_row(&served, &format!("t/rows/{key}"), &wish);
        set["expires"].as_u64().expect("a time")
    };
    short("before", 600);
    short("renewed", 500);
    let mut stream = Stream::open(&served, "", "");
    let begun = stream.block();
    short("during", 700);
    set(&served, "renewed");
    assert_eq!(stream.words(2), "row:during row:renewed");
    let event = stream.event();
    assert_eq!(
        (&*event.name, &event.data["key"]),
        ("gone", &json!("before"))
    );
    assert_eq!(event.data["why"], "expired");
    assert_eq!(stream.words(1), "gone:during");
    drop(stream);
    // Who was away is told as well.
    let mut stream = Stream::open(&served, &format!("?after={}", begun.id), "");
    let mut words: Vec<String> = (0..3).map(|_| stream.words(1)).collect();
    words.sort();
    assert_eq!(words, ["gone:before", "gone:during", "row:renewed"]);
}

#[test]
fn who_reads_slowly_misses_nothing_and_is_not_sent_the_table_again() {
    let served = Served::start();
    create_table(&served, "t");
    let mut stream = Stream::open(&served, "", "");
    stream.block();
    // More than fits the queues on the way.
    let lines: String = (0..60_000)
        .map(|n| format!("key-{n:05}\t1\t{}\n", "v".repeat(200)))
        .collect();
    import(&served, "t", lines.as_bytes());
    set(&served, "last");
    stream.follow(60_001);
}

#[test]
fn a_burst_is_told_as_what_changed() {
    const ROWS: usize = 30_000;
    const BURST: usize = 20_000;
    let mut served = Served::start();
    create_table(&served, "t");
    import(&served, "t", lines(ROWS, 1).as_bytes());
    served.engine.journal().sync().expect("synced");
    let caught_up = Stream::open(&served, "", "").block().id;
    import(&served, "t", lines(BURST, 2).as_bytes());
    served.request("DELETE /api/v1/tables/t/rows/0", "", b"");
    let from_there = format!("Last-Event-ID: {caught_up}\r\n");
    let known = Stream::open(&served, "", &from_there).follow(BURST);
    assert_eq!(known["0"], "gone");
    assert!(known.values().filter(|word| **word == "row").count() == BURST - 1);
    // After a restart only the rows themselves tell what changed.
    let checkpoint = served.engine.collections().checkpoint();
    checkpoint.expect("a snapshot");
    let directory = served.directory.take().expect("a directory");
    served.stop();
    drop(served);
    let disk = RealDisk::new(directory.path().to_owned());
    let served = Served::on(Arc::new(disk), TokenSource::none());
    let again = Stream::open(&served, "", &from_there).follow(BURST);
    assert!(again.keys().eq(known.keys()));
    let of_some = format!("?prefix=12&after={caught_up}");
    let of_some = Stream::open(&served, &of_some, "").follow(1111);
    assert!(of_some.keys().all(|key| key.starts_with("12")));
}

#[test]
fn a_prefix_chooses_what_is_told() {
    let served = Served::start();
    create_table(&served, "t");
    for key in ["a%2F1", "b%2F1", "b%2F%FF"] {
        set(&served, key);
    }
    let mut all = Stream::open(&served, "?prefix=b%2F&after=0", "");
    assert_eq!(all.words(4), "reset row:b/1 row:b/\u{fffd} complete");
    let mut bytes = Stream::open(&served, "?prefix=b%2F%FF", "");
    bytes.block();
    served.request("DELETE /api/v1/tables/t/rows/a%2F1", "", b"");
    served.request("DELETE /api/v1/tables/t/rows/b%2F1", "", b"");
    let short = json!({"values": ["v"], "ttl_ms": 1500});
    for path in ["t/rows/a%2F2", "t/rows/b%2F2"] {
        set_row(&served, path, &short);
    }
    assert_eq!(all.words(3), "gone:b/1 row:b/2 gone:b/2");
    set(&served, "b%2F%FF");
    assert_eq!(all.words(1), "row:b/\u{fffd}");
    assert_eq!(bytes.words(1), "row:b/\u{fffd}");
    let refused = served.get("/api/v1/tables/t/watch?prefix=%2");
    assert_eq!(refused.refusal(), (400, "name".to_owned()));
}

#[test]
fn a_stream_begins_at_once_and_is_not_held_up_on_its_way() {
    let served = Served::start();
    create_table(&served, "t");
    for query in ["", "?after=0"] {
        let mut stream = Stream::open(&served, query, "");
        assert_eq!(stream.text(), ": watching", "{query}");
        let head = stream.1.to_ascii_lowercase();
        assert!(head.contains("x-accel-buffering: no\r\n"), "{head}");
    }
}

#[test]
fn streams_are_bounded_and_end_with_the_node() {
    let mut served = Served::start();
    create_table(&served, "t");
    let mut streams: Vec<Stream> = (0..128).map(|_| Stream::open(&served, "", "")).collect();
    let refused = served.get("/api/v1/tables/t/watch").refusal();
    assert_eq!(refused, (503, "busy".to_owned()));
    streams.truncate(3);
    let begun = std::time::Instant::now();
    while watchers(&served) != "grapevine_table_watchers 3" {
        assert!(begun.elapsed().as_secs() < 30, "{}", watchers(&served));
    }
    Stream::open(&served, "", "");
    let stopping = std::time::Instant::now();
    served.stop();
    assert!(stopping.elapsed().as_secs() < 5);
    for stream in &mut streams {
        let mut rest = Vec::new();
        stream.0.read_to_end(&mut rest).expect("an end in time");
        assert!(rest.ends_with(b"0\r\n\r\n"), "{}", rest.escape_ascii());
    }
}

#[test]
fn a_stream_ends_when_its_table_is_dropped_also_if_another_is_made_at_once() {
    for made_anew in [false, true] {
        let served = Served::start();
        create_table(&served, "t");
        set(&served, "k");
        let mut stream = Stream::open(&served, "", "");
        stream.block();
        let dropped = served.engine.tables().drop_table(b"t");
        dropped.expect("it writes");
        if made_anew {
            create_table(&served, "t");
        }
        loop {
            let event = stream.block();
            if event.name == "dropped" {
                break;
            }
            assert_eq!(
                event.name, "",
                "of the old table nothing more comes: {event:?}"
            );
        }
        // The last chunk, of no bytes.
        while stream.line() != "0\r\n" {}
    }
}

#[test]
fn a_touched_row_is_told_when_its_new_time_comes_and_not_before() {
    let served = Served::start();
    create_table(&served, "t");
    let lease = |key: &str, ttl: u64| {
        let wish = json!({"values": ["v"], "ttl_ms": ttl});
        set_row(&served, &format!("t/rows/{key}"), &wish)
    };
    lease("k", 2000);
    let mut stream = Stream::open(&served, "?after=0", "");
    assert_eq!(stream.words(3), "reset row:k complete");
    let path = "/api/v1/tables/t/rows/k/touch";
    let touched = served.post(path, "application/json", b"{\"ttl_ms\": 4000}");
    assert_eq!(touched.status, 200, "{touched:?}");
    set(&served, "other");
    assert_eq!(stream.words(1), "row:other");
    let gone = stream.event();
    assert_eq!((&*gone.name, &gone.data["key"]), ("gone", &json!("k")));
    assert_eq!(gone.data["version"], touched.json()["version"]);
}
