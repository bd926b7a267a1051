//! rmbd under load: datagrams that may be lost, answers that name the key they are about.
//!
//! A check is one `has`. A set is an `add`, which nobody answers, and a `has` for the same key
//! behind it, whose answer has to be yes. Answers are matched to requests by the key, and checked
//! against the keys that are known to have been added. What is not answered in time is counted
//! as unanswered and makes room for others.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use grapevine_core::wire::rmbd::{
    FIELD_BYTES_MAX, HasReply, KEY_DATAGRAM_BYTES, encode_add, encode_has,
};
use mio::{Events, Interest, Poll, Token};

use super::error::BenchError;
use super::keys::{KeySource, Random};
use super::plan::{self, Plan};
use super::protocol::Operation;
use super::schedule::Schedule;
use super::worker::{Load, Outcome, Phase, operation};

/// Longest key in bytes.
pub(super) const KEY_LENGTH_MAX: usize = FIELD_BYTES_MAX;
/// Most requests in flight per socket: more would not fit a usual socket buffer.
pub(super) const PIPELINE_MAX: usize = 1024;
/// Longest time that an answer is waited for.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How often the server is asked whether it is an rmbd.
const PROBES: usize = 3;
/// Keys that are remembered to have been added, per thread.
const KNOWN_KEYS_MAX: usize = 100_000;
/// Longest sleep, so that losses and the end are seen.
const SLEEP_MAX: Duration = Duration::from_millis(5);
/// Events taken from the system at a time.
const EVENTS_MAX: usize = 1024;
/// Longer than any answer.
const BUFFER_BYTES: usize = 512;

/// Finds out whether the server is an rmbd.
pub(super) fn probe(address: SocketAddr) -> Result<(), BenchError> {
    let request = || "has".to_owned();
    let silent = |source| BenchError::Silent {
        address,
        request: request(),
        within: LOST_AFTER * PROBES as u32,
        source,
    };
    let key = b"grapevine bench";
    let socket = open(address).map_err(silent)?;
    socket.set_read_timeout(Some(LOST_AFTER)).map_err(silent)?;
    let mut last = io::ErrorKind::TimedOut.into();
    for _ in 0..PROBES {
        socket.send(&encode_has(key)).map_err(silent)?;
        let mut buffer = [0; BUFFER_BYTES];
        match socket.recv(&mut buffer) {
            Ok(length) => {
                let reply = HasReply::parse(&buffer[..length]);
                return match reply.and_then(|reply| reply.answer(key)) {
                    Some(_) => Ok(()),
                    None => Err(BenchError::WrongProtocol {
                        address,
                        protocol: "rmbd",
                        request: request(),
                        answer: super::tally::escape(&buffer[..length]),
                    }),
                };
            }
            Err(error) => last = error,
        }
    }
    Err(silent(last))
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = if address.is_ipv6() {
        ([0_u16; 8], 0).into()
    } else {
        ([0, 0, 0, 0], 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket)
}

/// A request that waits for its answer.
struct Asked {
    key: Vec<u8>,
    /// When it was sent or, in an open loop, due: nanoseconds after the start.
    at_ns: u64,
    /// Whether only yes is right.
    must_be_there: bool,
    /// Whether it was added with this request.
    added: bool,
}

/// A thread's sockets and the means to load them.
pub(super) struct RmbdLoad<'a> {
    plan: &'a Plan,
    thread: usize,
    poll: Poll,
    sockets: Vec<mio::net::UdpSocket>,
    asked: Vec<VecDeque<Asked>>,
    keys: KeySource,
    mix: Random,
    known: BTreeSet<Vec<u8>>,
}

/// Where a phase stands.
struct Progress {
    phase: Phase,
    outcome: Outcome,
    schedule: Option<Schedule>,
    /// Most requests that will be sent.
    wanted: u64,
    in_flight: u64,
}

impl Progress {
    fn now_ns(&self) -> u64 {
        self.phase.start.elapsed().as_nanos() as u64
    }

    /// Whether nothing more is to be sent.
    fn is_over(&self, now_ns: u64) -> bool {
        self.outcome.sent >= self.wanted || now_ns >= self.phase.duration.as_nanos() as u64
    }

    /// How many requests may have been sent by now.
    fn due(&self, now_ns: u64) -> u64 {
        match self.schedule {
            Some(schedule) => schedule.count_due(now_ns, self.wanted),
            None => self.wanted,
        }
    }
}

impl<'a> RmbdLoad<'a> {
    /// Opens the sockets that fall to `thread`.
    pub(super) fn connect(plan: &'a Plan, thread: usize) -> Result<Self, BenchError> {
        let (threads, place) = (plan.threads as u64, thread as u64);
        let poll = Poll::new().map_err(BenchError::Poll)?;
        let count = plan::share(plan.connections as u64, threads, place) as usize;
        let mut sockets = Vec::with_capacity(count);
        for index in 0..count {
            let fail = |source| BenchError::Connect {
                address: plan.address,
                ordinal: thread + index * plan.threads + 1,
                source,
            };
            let socket = open(plan.address).map_err(fail)?;
            socket.set_nonblocking(true).map_err(fail)?;
            let mut socket = mio::net::UdpSocket::from_std(socket);
            poll.registry()
                .register(&mut socket, Token(index), Interest::READABLE)
                .map_err(fail)?;
            sockets.push(socket);
        }
        let first = plan.keys / threads * place;
        let random = Random::new(plan.seed, 2 * place);
        Ok(RmbdLoad {
            plan,
            thread,
            poll,
            asked: sockets.iter().map(|_| VecDeque::new()).collect(),
            sockets,
            keys: KeySource::new(
                plan.format.clone(),
                plan.keys,
                plan.distribution,
                first,
                random,
            ),
            mix: Random::new(plan.seed, 2 * place + 1),
            known: BTreeSet::new(),
        })
    }

    fn begin(&self, phase: Phase) -> Progress {
        let sockets = self.sockets.len() as u64;
        let schedule = self.plan.rate.map(|rate| {
            let part = sockets as f64 / self.plan.connections as f64;
            let lead = self.thread as f64 / self.plan.threads as f64;
            Schedule::new(rate * part, lead, sockets)
        });
        let requests = phase.requests.unwrap_or(u64::MAX);
        let last_ns = (phase.duration.as_nanos() as u64).saturating_sub(1);
        Progress {
            phase,
            outcome: Outcome::empty(),
            wanted: schedule.map_or(requests, |schedule| schedule.count_due(last_ns, requests)),
            schedule,
            in_flight: 0,
        }
    }

    /// Sends what is due, as far as the windows have room.
    fn send(&mut self, progress: &mut Progress) {
        for index in 0..self.sockets.len() {
            while self.asked[index].len() < self.plan.pipeline {
                let now_ns = progress.now_ns();
                if progress.is_over(now_ns) || progress.outcome.sent >= progress.due(now_ns) {
                    return;
                }
                if !self.send_one(index, now_ns, progress) {
                    break;
                }
            }
        }
    }

    /// Sends one request; `false` when the system takes no more.
    fn send_one(&mut self, index: usize, now_ns: u64, progress: &mut Progress) -> bool {
        let mut key = Vec::with_capacity(KEY_LENGTH_MAX);
        self.keys.append_next(&mut key);
        let added = operation(self.plan.mix, &mut self.mix) == Operation::Set;
        let socket = &self.sockets[index];
        let whole = |sent: io::Result<usize>| sent.is_ok_and(|sent| sent == KEY_DATAGRAM_BYTES);
        let sent = (!added || whole(socket.send(&encode_add(&key))))
            && whole(socket.send(&encode_has(&key)));
        let at_ns = progress
            .schedule
            .map_or(now_ns, |schedule| schedule.due_ns(progress.outcome.sent));
        progress.outcome.sent += 1;
        progress.in_flight += 1;
        self.asked[index].push_back(Asked {
            must_be_there: added || self.known.contains(&key),
            key,
            at_ns,
            added,
        });
        sent
    }

    /// Takes in what a socket has received.
    fn receive(&mut self, index: usize, progress: &mut Progress) {
        let mut buffer = [0; BUFFER_BYTES];
        loop {
            match self.sockets[index].recv(&mut buffer) {
                Ok(length) => self.take(index, &buffer[..length], progress),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The port is closed, for example; the requests will be counted as unanswered.
                Err(error) => return progress.outcome.tally.error(error.to_string().as_bytes()),
            }
        }
    }

    fn take(&mut self, index: usize, datagram: &[u8], progress: &mut Progress) {
        let tally = &mut progress.outcome.tally;
        let Some(reply) = HasReply::parse(datagram) else {
            return tally.error(datagram);
        };
        let asked = &mut self.asked[index];
        let place = asked.iter().position(|asked| asked.key == reply.key);
        let Some(asked) = place.and_then(|place| asked.remove(place)) else {
            return tally.error(b"an answer that nothing waits for");
        };
        if asked.must_be_there && !reply.present {
            tally.error(b"no, for a key that was added: the add was lost, or the answer is wrong");
        } else {
            tally.answers(u64::from(reply.present), u64::from(!reply.present));
        }
        if asked.added && reply.present && self.known.len() < KNOWN_KEYS_MAX {
            self.known.insert(asked.key);
        }
        let now_ns = progress.now_ns();
        progress.in_flight -= 1;
        progress.outcome.answered += 1;
        progress.outcome.elapsed = Duration::from_nanos(now_ns);
        progress
            .outcome
            .latency_ns
            .saturating_record(now_ns.saturating_sub(asked.at_ns).max(1));
    }

    /// Gives up the requests that were not answered in time.
    fn give_up(&mut self, progress: &mut Progress) {
        let patience = LOST_AFTER.min(self.plan.timeout).as_nanos() as u64;
        let now_ns = progress.now_ns();
        for asked in &mut self.asked {
            let late = |asked: &Asked| now_ns.saturating_sub(asked.at_ns) >= patience;
            while asked.front().is_some_and(late) {
                asked.pop_front();
                progress.in_flight -= 1;
            }
        }
    }
}

impl Load for RmbdLoad<'_> {
    fn run(&mut self, phase: Phase) -> Result<Outcome, BenchError> {
        let mut progress = self.begin(phase);
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.send(&mut progress);
            let over = progress.is_over(progress.now_ns());
            if over && progress.in_flight == 0 {
                break;
            }
            // An open loop spins: what is due next may be due before the system would wake it.
            let spins = progress.schedule.is_some() && !over;
            let sleep = if spins { Duration::ZERO } else { SLEEP_MAX };
            match self.poll.poll(&mut events, Some(sleep)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(BenchError::Poll(error));
                }
                _ => {}
            }
            for event in &events {
                self.receive(event.token().0, &mut progress);
            }
            self.give_up(&mut progress);
        }
        if progress.schedule.is_some() {
            progress.outcome.unsent = progress.wanted - progress.outcome.sent;
        }
        Ok(progress.outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use clap::Parser as _;
    use grapevine_core::wire::rmbd::{Message, encode_has_reply, parse};

    use super::super::report::Report;
    use super::super::{Args, measure};
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// A server in which `answer` says what becomes of a question for a key: yes, no, or nothing.
    fn against(
        arguments: &str,
        mut answer: impl FnMut(&[u8], bool) -> Option<bool> + Send + 'static,
    ) -> Report {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a timeout");
        let address = socket.local_addr().expect("an address").to_string();
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let serving = std::thread::spawn(move || {
            let (mut keys, mut buffer) = (BTreeSet::new(), [0; 512]);
            while !stop.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                match parse(&buffer[..length]) {
                    Some(Message::Add { key }) => drop(keys.insert(key.to_vec())),
                    Some(Message::Has { key }) => {
                        if let Some(present) = answer(key, keys.contains(key)) {
                            let reply = encode_has_reply(key, present);
                            socket.send_to(&reply, from).expect("sent");
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        let words = ["bench", "--protocol", "rmbd", "--addr", &address];
        let words = words.into_iter().chain(arguments.split_whitespace());
        let plan = Plan::new(Command::try_parse_from(words).expect("arguments").args);
        let report = measure(&plan.expect("a plan"), false).expect("a report");
        done.store(true, Relaxed);
        serving.join().expect("it ends");
        report
    }

    #[test]
    fn sets_are_answered_yes_and_checks_as_the_server_has_it() {
        let report = against(
            "--operation set --requests 500 --pipeline 16",
            |_, there| Some(there),
        );
        assert!(report.verdict().is_ok());
        assert_eq!(
            (report.counts.sent, report.counts.yes, report.counts.no),
            (500, 500, 0)
        );
        let report = against("--requests 300 --connections 3", |_, there| Some(there));
        assert_eq!((report.counts.answered, report.counts.no), (300, 300));
        assert!(report.latency_us.p50 > 0.0);
        let report = against(
            // More than a socket's buffer holds would be lost while the server is not running.
            "--operation mixed --requests 400 --keys 10 --rate 20000 --pipeline 32",
            |_, there| Some(there),
        );
        assert!(report.verdict().is_ok());
        assert_eq!(report.counts.yes + report.counts.no, 400);
    }

    #[test]
    fn lost_answers_are_counted_and_hold_nothing_up() {
        let mut count = 0;
        let report = against(
            "--requests 100 --pipeline 8 --timeout 300ms",
            move |key, there| {
                count += 1;
                (key.starts_with(b"grapevine") || count % 10 != 0).then_some(there)
            },
        );
        assert_eq!(report.counts.sent, 100);
        assert!(
            (8..=12).contains(&report.counts.unanswered),
            "{:?}",
            report.counts
        );
        let incomplete = BenchError::Incomplete {
            lost: 0,
            unanswered: report.counts.unanswered,
        };
        let verdict = report.verdict().map_err(|error| error.to_string());
        assert_eq!(verdict, Err(incomplete.to_string()));
    }

    #[test]
    fn wrong_answers_are_seen() {
        let report = against("--operation set --requests 10", |_, _| Some(false));
        assert_eq!((report.counts.errors, report.counts.yes), (10, 0));
        assert!(report.verdict().is_err());
    }

    #[test]
    fn what_rmbd_does_not_know_is_refused() {
        for arguments in ["--bulk 2", "--key-length 140", "--pipeline 1025"] {
            let words = ["bench", "--protocol", "rmbd"]
                .into_iter()
                .chain(arguments.split(' '));
            let args = Command::try_parse_from(words).expect("arguments").args;
            let refused = Plan::new(args).expect_err("it is refused");
            assert!(refused.is_usage(), "{refused}");
        }
    }

    #[test]
    fn a_server_that_says_nothing_is_told_from_a_wrong_one() {
        let deaf = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = deaf.local_addr().expect("an address");
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (_, from) = deaf.recv_from(&mut buffer).expect("a question");
            deaf.send_to(b"what?", from).expect("sent");
        });
        assert!(matches!(
            probe(address),
            Err(BenchError::WrongProtocol { .. })
        ));
        answering.join().expect("it ends");
        // Its socket is closed now.
        assert!(matches!(probe(address), Err(BenchError::Silent { .. })));
    }
}
