//! bloomd's text protocol, as a load generator needs it: requests of one shape, replies counted.
//!
//! `s F KEY`, `c F KEY` → `Yes` or `No`; `b F KEY…`, `m F KEY…` → that many tokens in one line;
//! anything else in a line is an error reply.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::error::BenchError;
use super::keys::KeySource;
use super::protocol::{Operation, Protocol, ReplyError, Scan};
use super::tally::{Tally, escape};

/// How long the server may take for `list` and `create`.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often `create` is tried again while the server is still removing the last filter.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Longest first line that is read while preparing, in bytes.
const FIRST_LINE_MAX: usize = 512;
/// Longest reply that is not a list of tokens, in bytes; every known one is under 60.
const ERROR_LINE_MAX: usize = 4096;
/// Bytes of the longest token and what follows it.
const TOKEN_BYTES_MAX: usize = 4;

/// Requests of `bulk` keys on one filter.
#[derive(Debug)]
pub(super) struct Bloomd {
    set: Vec<u8>,
    check: Vec<u8>,
    list: String,
    create: String,
    bulk: usize,
}

impl Bloomd {
    /// `capacity` in keys and `error` as a fraction are used for the filter's creation only.
    pub(super) fn new(filter: &str, capacity: u64, error: f64, bulk: usize) -> Self {
        let (set, check) = if bulk == 1 { ("s", "c") } else { ("b", "m") };
        Self {
            set: format!("{set} {filter}").into_bytes(),
            check: format!("{check} {filter}").into_bytes(),
            // With the name as prefix, so that a server with a million filters need not list them.
            list: format!("list {filter}"),
            create: format!("create {filter} capacity={capacity} prob={error}"),
            bulk,
        }
    }

    /// Counts one line without its newline.
    fn count_line(&self, line: &[u8], tally: &mut Tally) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (mut yes, mut no) = (0, 0);
        let mut rest = line;
        loop {
            if let Some(after) = rest.strip_prefix(b"Yes") {
                yes += 1;
                rest = after;
            } else if let Some(after) = rest.strip_prefix(b"No") {
                no += 1;
                rest = after;
            } else {
                return tally.error(line);
            }
            match rest.strip_prefix(b" ") {
                Some(after) => rest = after,
                None if rest.is_empty() && yes + no == self.bulk as u64 => break,
                None => return tally.error(line),
            }
        }
        tally.answers(yes, no);
    }

    fn scan_lines(&self, bytes: &[u8], tally: &mut Tally) -> Scan {
        let mut scan = Scan::default();
        for end in memchr::memchr_iter(b'\n', bytes) {
            self.count_line(&bytes[scan.bytes..end], tally);
            scan.bytes = end + 1;
            scan.replies += 1;
        }
        scan
    }
}

impl Protocol for Bloomd {
    fn name(&self) -> &'static str {
        "bloomd"
    }

    fn probe(&self, address: SocketAddr) -> Result<(), BenchError> {
        let answer = ask(address, &self.list)?;
        if answer == b"START" {
            return Ok(());
        }
        Err(BenchError::WrongProtocol {
            address,
            protocol: self.name(),
            request: self.list.clone(),
            answer: escape(&answer),
        })
    }

    fn create(&self, address: SocketAddr) -> Result<(), BenchError> {
        let deadline = Instant::now() + PREPARE_TIMEOUT;
        loop {
            let answer = ask(address, &self.create)?;
            match answer.as_slice() {
                b"Done" | b"Exists" => return Ok(()),
                b"Delete in progress" if Instant::now() < deadline => {
                    std::thread::sleep(RETRY_INTERVAL);
                }
                _ => {
                    return Err(BenchError::Refused {
                        address,
                        request: self.create.clone(),
                        answer: escape(&answer),
                    });
                }
            }
        }
    }

    fn encode(&self, operation: Operation, keys: &mut KeySource, out: &mut Vec<u8>) {
        out.extend_from_slice(match operation {
            Operation::Set => &self.set,
            Operation::Check => &self.check,
        });
        for _ in 0..self.bulk {
            out.push(b' ');
            keys.append_next(out);
        }
        out.push(b'\n');
    }

    fn request_bytes(&self, key_length: usize) -> usize {
        self.set.len() + self.bulk * (key_length + 1) + 1
    }

    fn reply_bytes_max(&self) -> usize {
        (self.bulk * TOKEN_BYTES_MAX).max(ERROR_LINE_MAX)
    }

    fn scan(&self, bytes: &[u8], tally: &mut Tally) -> Result<Scan, ReplyError> {
        let mut scan = Scan::default();
        if self.bulk == 1 {
            scan = scan_single(bytes, tally);
        }
        let lines = self.scan_lines(&bytes[scan.bytes..], tally);
        scan.bytes += lines.bytes;
        scan.replies += lines.replies;
        let limit = self.reply_bytes_max();
        if bytes.len() - scan.bytes >= limit {
            return Err(ReplyError::TooLong { limit });
        }
        Ok(scan)
    }
}

/// The quick path for `Yes` and `No` lines: a search for each newline costs more than the lines.
/// Stops at the first line that is neither, or not complete.
fn scan_single(bytes: &[u8], tally: &mut Tally) -> Scan {
    let (mut yes, mut no) = (0, 0);
    let mut rest = bytes;
    loop {
        if let Some(after) = rest.strip_prefix(b"Yes\n") {
            yes += 1;
            rest = after;
        } else if let Some(after) = rest.strip_prefix(b"No\n") {
            no += 1;
            rest = after;
        } else {
            break;
        }
    }
    tally.answers(yes, no);
    Scan {
        replies: yes + no,
        bytes: bytes.len() - rest.len(),
    }
}

/// Sends one command on a connection of its own and reads the first line of the answer, without
/// its end. What a server of another protocol says is cut at a bound.
fn ask(address: SocketAddr, request: &str) -> Result<Vec<u8>, BenchError> {
    let mut stream = TcpStream::connect_timeout(&address, PREPARE_TIMEOUT).map_err(|source| {
        BenchError::Connect {
            address,
            ordinal: 1,
            source,
        }
    })?;
    let silent = |source| BenchError::Silent {
        address,
        request: request.to_owned(),
        within: PREPARE_TIMEOUT,
        source,
    };
    let deadline = Instant::now() + PREPARE_TIMEOUT;
    stream
        .set_write_timeout(Some(PREPARE_TIMEOUT))
        .map_err(silent)?;
    stream
        .write_all(format!("{request}\n").as_bytes())
        .map_err(silent)?;
    let mut line = Vec::with_capacity(FIRST_LINE_MAX);
    let mut buffer = [0; FIRST_LINE_MAX];
    while line.len() < FIRST_LINE_MAX {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(silent(io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(silent)?;
        let count = match stream.read(&mut buffer[..FIRST_LINE_MAX - line.len()]) {
            Ok(0) if line.is_empty() => return Err(silent(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(silent(error)),
        };
        line.extend_from_slice(&buffer[..count]);
        if let Some(end) = memchr::memchr(b'\n', &line) {
            line.truncate(end);
            break;
        }
        if count == 0 {
            break;
        }
    }
    Ok(line.strip_suffix(b"\r").unwrap_or(&line).to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::keys::{Distribution, KeyFormat, Random};
    use super::*;

    fn keys() -> KeySource {
        let format = KeyFormat::new("k", 3, 100).unwrap();
        KeySource::new(format, 100, Distribution::Sequential, 0, Random::new(0, 0))
    }

    /// Scans `stream` cut at `cuts`, the way the load loop does.
    fn scan_pieces(protocol: &Bloomd, stream: &[u8], cuts: &[usize]) -> (Tally, u64) {
        let mut tally = Tally::default();
        let (mut replies, mut pending) = (0, Vec::new());
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            pending.extend_from_slice(&stream[pair[0]..pair[1]]);
            let scan = protocol.scan(&pending, &mut tally).unwrap();
            replies += scan.replies;
            pending.drain(..scan.bytes);
        }
        assert!(pending.is_empty());
        (tally, replies)
    }

    #[test]
    fn requests_are_the_protocols_lines() {
        let mut out = Vec::new();
        let single = Bloomd::new("f", 1, 0.1, 1);
        let mut keys = keys();
        single.encode(Operation::Set, &mut keys, &mut out);
        assert_eq!(single.request_bytes(3), out.len());
        single.encode(Operation::Check, &mut keys, &mut out);
        let bulk = Bloomd::new("f", 1, 0.1, 3);
        bulk.encode(Operation::Set, &mut keys, &mut out);
        bulk.encode(Operation::Check, &mut keys, &mut out);
        let lines: &[u8] = b"s f k00\nc f k01\nb f k02 k03 k04\nm f k05 k06 k07\n";
        assert_eq!(out, lines);
        assert_eq!(bulk.request_bytes(3), b"b f k02 k03 k04\n".len());
        assert_eq!(
            Bloomd::new("f", 20_000, 1e-7, 1).create,
            "create f capacity=20000 prob=0.0000001"
        );
    }

    #[test]
    fn a_reply_of_the_wrong_shape_is_an_error_reply() {
        let protocol = Bloomd::new("f", 1, 0.1, 2);
        let stream = b"Yes No\nYes\nYes No Yes\nYes No \nYesNo\n\nFilter does not exist\nNo No\r\n";
        let (tally, replies) = scan_pieces(&protocol, stream, &[]);
        assert_eq!((replies, tally.yes, tally.no), (8, 1, 3));
        assert_eq!(tally.errors_total(), 6);
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_grows() {
        let protocol = Bloomd::new("f", 1, 0.1, 1);
        let mut tally = Tally::default();
        let line = vec![b'x'; protocol.reply_bytes_max()];
        assert!(protocol.scan(&line[1..], &mut tally).is_ok());
        let limit = line.len();
        assert_eq!(
            protocol.scan(&line, &mut tally),
            Err(ReplyError::TooLong { limit })
        );
    }

    proptest! {
        #[test]
        fn replies_are_counted_however_they_are_cut(
            replies in prop::collection::vec(0_u8..3, 1..200),
            cuts in prop::collection::vec(any::<usize>(), 0..50),
        ) {
            let protocol = Bloomd::new("f", 1, 0.1, 1);
            let lines = ["Yes\n", "No\n", "Filter does not exist\n"];
            let stream: String = replies.iter().map(|kind| lines[usize::from(*kind)]).collect();
            let (tally, count) = scan_pieces(&protocol, stream.as_bytes(), &cuts);
            let of = |kind| replies.iter().filter(|reply| **reply == kind).count() as u64;
            prop_assert_eq!(count, replies.len() as u64);
            prop_assert_eq!((tally.yes, tally.no, tally.errors_total()), (of(0), of(1), of(2)));
        }

        #[test]
        fn bulk_replies_are_counted_however_they_are_cut(
            tokens in prop::collection::vec(any::<bool>(), 7 * 5..=7 * 5),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let protocol = Bloomd::new("f", 1, 0.1, 7);
            let word = |yes: &bool| if *yes { "Yes" } else { "No" };
            let stream: String = tokens
                .chunks(7)
                .map(|line| line.iter().map(word).collect::<Vec<_>>().join(" ") + "\n")
                .collect();
            let (tally, count) = scan_pieces(&protocol, stream.as_bytes(), &cuts);
            let yes = tokens.iter().filter(|token| **token).count() as u64;
            prop_assert_eq!((count, tally.errors_total()), (5, 0));
            prop_assert_eq!((tally.yes, tally.no), (yes, 35 - yes));
        }

        #[test]
        fn no_bytes_confuse_the_scanner(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for bulk in [1, 3] {
                let mut tally = Tally::default();
                let scan = Bloomd::new("f", 1, 0.1, bulk).scan(&bytes, &mut tally).unwrap();
                let newlines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                prop_assert_eq!(scan.replies, newlines);
                prop_assert!(!bytes[scan.bytes..].contains(&b'\n'));
            }
        }
    }
}
