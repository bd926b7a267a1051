//! The load generator against servers in this process: whole runs, counted exactly.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use clap::Parser as _;

use super::report::Counts;
use super::*;

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn plan(address: SocketAddr, arguments: &str) -> Plan {
    let address = address.to_string();
    let words = ["bench", "--addr", &address]
        .into_iter()
        .chain(arguments.split_whitespace());
    Plan::new(Command::try_parse_from(words).unwrap().args).unwrap()
}

/// Runs `arguments` against a constant server and returns the report.
fn against_constant(keys: usize, arguments: &str) -> Report {
    let mut server = ConstantServer::bind("127.0.0.1:0".parse().unwrap(), keys).unwrap();
    let (address, stop) = (server.address(), server.stopper().unwrap());
    let serving = std::thread::spawn(move || server.serve());
    let report = measure(&plan(address, arguments), false);
    stop.wake().unwrap();
    serving.join().unwrap().unwrap();
    report.unwrap()
}

/// A server for one test: `reply` gets each line of one connection and writes what it likes;
/// `false` closes the connection. It handles the two preparing connections by itself.
fn scripted(
    connections: usize,
    reply: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |stream: TcpStream| {
        let mut out = stream.try_clone().unwrap();
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let go_on = match line.split(' ').next() {
                Some("list") => out.write_all(b"START\nEND\n").is_ok(),
                Some("create") => out.write_all(b"Exists\n").is_ok(),
                _ => reply(&line, &mut out),
            };
            if !go_on {
                let _ = out.shutdown(Shutdown::Both);
                return;
            }
        }
    };
    let serving = std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for _ in 0..connections + 2 {
                let (stream, _) = listener.accept().unwrap();
                scope.spawn(|| serve(stream));
            }
        });
    });
    (address, serving)
}

#[test]
fn counted_runs_are_counted_exactly() {
    for (keys, arguments) in [
        (1, "--requests 1 --operation set"),
        (1, "--requests 10007 --connections 16"),
        (
            1,
            "--requests 100003 --pipeline 256 --operation mixed:0.3 --distribution uniform",
        ),
        (
            1,
            "--requests 50001 --pipeline 300000 --connections 3 --threads 2 --warmup 20ms",
        ),
        (
            100,
            "--requests 5003 --bulk 100 --pipeline 7 --connections 5 --distribution zipf",
        ),
        (
            3000,
            "--requests 307 --bulk 3000 --pipeline 40 --key-length 200",
        ),
        (
            1,
            "--requests 2003 --rate 40000 --connections 5 --threads 2",
        ),
        (1, "--requests 503 --rate 5000 --pipeline 1 --connections 2"),
    ] {
        let report = against_constant(keys, arguments);
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let requests: u64 = words[1].parse().unwrap();
        let expected = Counts {
            sent: requests,
            answered: requests,
            unanswered: 0,
            unsent: 0,
            yes: requests * keys as u64,
            no: 0,
            errors: 0,
            lost_connections: 0,
        };
        assert_eq!(report.counts, expected, "{arguments}");
        assert!(report.verdict().is_ok());
        assert!(report.latency_us.p50 > 0.0 && report.latency_us.max >= report.latency_us.p50);
        assert!(report.elapsed_s > 0.0);
    }
}

#[test]
fn timed_runs_end_and_answer_everything() {
    let report = against_constant(1, "--duration 100ms --pipeline 64");
    assert!(report.counts.sent > 64);
    assert_eq!(report.counts.sent, report.counts.answered);
    let report = against_constant(1, "--duration 200ms --rate 1000 --connections 2");
    assert_eq!(report.counts.sent + report.counts.unsent, 200);
    assert_eq!(report.counts.sent, report.counts.answered);
}

#[test]
fn sequential_keys_are_each_sent_once_and_answers_add_up() {
    const ARGUMENTS: &str = "--operation set --requests 100 --bulk 10 --keys 1000 --pipeline 4 \
                             --connections 3 --threads 2 --key-length 8";
    let (seen, keys) = std::sync::mpsc::channel();
    let (address, serving) = scripted(3, move |line, out| {
        let mut words = line.split(' ');
        assert_eq!((words.next(), words.next()), (Some("b"), Some("bench")));
        let tokens = words.map(|key| {
            seen.send(key.to_owned()).unwrap();
            if key.ends_with('0') { "Yes" } else { "No" }
        });
        let reply = tokens.collect::<Vec<_>>().join(" ") + "\n";
        out.write_all(reply.as_bytes()).is_ok()
    });
    let report = measure(&plan(address, ARGUMENTS), false).unwrap();
    serving.join().unwrap();
    assert_eq!((report.counts.yes, report.counts.no), (100, 900));
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0) += 1;
    }
    let every_key_once = (0..1000)
        .map(|number| (format!("key:{number:04}"), 1))
        .collect();
    assert_eq!(counts, every_key_once);
}

#[test]
fn error_replies_are_counted_and_spoil_the_verdict() {
    let (address, serving) = scripted(1, |_, out| {
        out.write_all(b"Filter does not exist\n").is_ok()
    });
    let report = measure(&plan(address, "--requests 10 --pipeline 3"), false).unwrap();
    serving.join().unwrap();
    assert_eq!((report.counts.answered, report.counts.errors), (10, 10));
    assert!(matches!(
        report.verdict(),
        Err(BenchError::ErrorReplies { count: 10, .. })
    ));
    assert!(report.to_string().contains("10 × Filter does not exist"));
}

#[test]
fn lost_connections_and_missing_answers_are_told() {
    // The server hangs up on one key; the other connection goes on with what is left.
    let (address, serving) = scripted(2, |line, out| {
        !line.ends_with("key:000000000005") && out.write_all(b"No\n").is_ok()
    });
    let report = measure(&plan(address, "--requests 100 --connections 2"), false).unwrap();
    serving.join().unwrap();
    assert_eq!(
        (report.counts.lost_connections, report.counts.unanswered),
        (1, 1)
    );
    assert_eq!(report.counts.sent, 100);
    assert!(matches!(
        report.verdict(),
        Err(BenchError::Incomplete {
            lost: 1,
            unanswered: 1
        })
    ));
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let (address, serving) = scripted(1, |_, _| true);
    let plan = plan(address, "--requests 5 --pipeline 3 --timeout 50ms");
    let report = measure(&plan, false).unwrap();
    serving.join().unwrap();
    assert_eq!((report.counts.sent, report.counts.unanswered), (3, 3));
    assert_eq!(
        report.lost_connections[0].text.as_deref(),
        Some("no reply within the timeout")
    );
}

#[test]
fn a_connection_lost_late_hands_its_requests_to_an_idle_one() {
    // Two connections encode four requests each. One is cut at its first, but not before the
    // other has sent and received all of its own.
    let answered = std::sync::atomic::AtomicUsize::new(0);
    let (address, serving) = scripted(2, move |line, out| {
        use std::sync::atomic::Ordering::SeqCst;
        if line.ends_with("key:000000000000") {
            while answered.load(SeqCst) < 4 {
                std::thread::yield_now();
            }
            return false;
        }
        let sent = out.write_all(b"No\n").is_ok();
        answered.fetch_add(1, SeqCst);
        sent
    });
    let report = measure(&plan(address, "--requests 8 --connections 2"), false).unwrap();
    serving.join().unwrap();
    assert_eq!((report.counts.sent, report.counts.answered), (8, 7));
}

#[test]
fn connections_lost_in_the_warm_up_end_the_benchmark() {
    let (address, serving) = scripted(1, |_, _| false);
    let error = measure(&plan(address, "--requests 5 --warmup 5s"), false).unwrap_err();
    serving.join().unwrap();
    assert!(
        matches!(
            error,
            BenchError::Incomplete {
                lost: 1,
                unanswered: 1
            }
        ),
        "{error}"
    );
}

#[test]
fn replies_nobody_asked_for_end_the_connection() {
    let (address, serving) = scripted(1, |_, out| out.write_all(b"Yes\nYes\n").is_ok());
    let report = measure(&plan(address, "--requests 5"), false).unwrap();
    serving.join().unwrap();
    assert_eq!(
        report.lost_connections[0].text.as_deref(),
        Some("more replies than requests")
    );
}

#[test]
fn an_open_loop_counts_latency_from_when_a_request_was_due() {
    // The first reply is held back until 20 more requests were due: with one request in flight
    // they could not be sent, and a closed loop would see one slow request only.
    let start = std::sync::OnceLock::new();
    let (address, serving) = scripted(1, move |_, out| {
        let first = *start.get_or_init(Instant::now);
        while first.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        out.write_all(b"No\n").is_ok()
    });
    let arguments = "--requests 30 --rate 1000 --pipeline 1";
    let report = measure(&plan(address, arguments), false).unwrap();
    serving.join().unwrap();
    assert_eq!(report.counts.answered, 30);
    assert!(report.latency_us.max >= 19_000.0);
    // Ten of thirty requests waited 10 ms or more, so the 70th percentile tells it.
    assert!(report.latency_us.p90 >= 10_000.0, "{:?}", report.latency_us);
}

#[test]
fn what_is_no_such_server_is_said_clearly() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let web = std::thread::spawn(move || {
        let (mut stream, _) = taken.accept().unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = measure(&plan(address, ""), false).unwrap_err();
    web.join().unwrap();
    let text = error.to_string();
    assert!(matches!(error, BenchError::WrongProtocol { .. }), "{text}");
    assert!(
        text.contains("bloomd") && text.contains("HTTP/1.1 400 Bad Request"),
        "{text}"
    );
    // The listener is gone with its thread: now the address refuses.
    let error = measure(&plan(address, ""), false).unwrap_err();
    assert!(matches!(error, BenchError::Connect { .. }), "{error}");
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    for (arguments, wanted) in [
        ("--threads 2", "--threads 2"),
        ("--keys 100000000 --key-length 11", "--key-length 11"),
        ("--bulk 65536 --connections 10000", "buffers"),
    ] {
        let words = ["bench"].into_iter().chain(arguments.split_whitespace());
        let error = Plan::new(Command::try_parse_from(words).unwrap().args).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(error.is_usage());
    }
    for wrong in [
        "--connections 0",
        "--pipeline 1048577",
        "--bulk 65537",
        "--requests 0",
    ] {
        let words = ["bench"].into_iter().chain(wrong.split_whitespace());
        assert!(Command::try_parse_from(words).is_err(), "{wrong}");
    }
}

#[test]
fn the_json_report_has_the_documented_fields() {
    let report = against_constant(1, "--requests 100 --rate 10000");
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["counts"]["answered"], 100);
    assert_eq!(json["counts"]["yes"], 100);
    assert_eq!(json["workload"]["rate_per_s"], 10000.0);
    assert!(json["latency_us"]["p999"].as_f64().unwrap() > 0.0);
    assert!(json["client"]["resident_bytes"].as_u64().unwrap() > 0);
    assert!(json["server"].is_null());
    let documentation = include_str!("../../../docs/benchmarking.md");
    let mut fields = vec![&json];
    while let Some(serde_json::Value::Object(object)) = fields.pop() {
        for (name, value) in object {
            assert!(
                documentation.contains(&format!("`{name}`")),
                "{name} is not documented"
            );
            if value.is_object() {
                fields.push(value);
            }
        }
    }
}
