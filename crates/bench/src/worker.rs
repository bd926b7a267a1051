//! One thread of load: a poll loop over its connections.
//!
//! Closed loop: each connection keeps its window full; a new request waits for a reply.
//! Open loop: requests go when the schedule says, the window only bounds memory.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Poll, Token};

use super::args::Mix;
use super::connection::{Connection, Loss};
use super::error::BenchError;
use super::keys::{KeySource, Random};
use super::plan::{self, Plan};
use super::protocol::{Operation, Protocol};
use super::schedule::Schedule;
use super::tally::{Tally, TextCounts};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at a time, beside the longest reply.
const READ_BYTES: usize = 256 << 10;
/// Events taken from the system at a time.
const EVENTS_MAX: usize = 1024;
/// Longest sleep, so that the end of the run and the timeout are seen.
const SLEEP_MAX: Duration = Duration::from_millis(100);
/// The system wakes a sleeper up to about this late; an open loop spins through what is nearer.
const SLEEP_SLACK: Duration = Duration::from_millis(2);
/// Significant decimal digits of the latencies.
const HISTOGRAM_DIGITS: u8 = 3;

/// What a worker is to do in one phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase {
    /// When it began.
    pub(super) start: Instant,
    /// How long requests are sent.
    pub(super) duration: Duration,
    /// How many are sent, at most.
    pub(super) requests: Option<u64>,
}

/// One thread of load.
pub(super) trait Load: Send {
    /// Runs one phase to its end, with every reply taken in or given up.
    fn run(&mut self, phase: Phase) -> Result<Outcome, BenchError>;
}

/// What a phase saw.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Nanoseconds from a request's admission (closed loop) or due time (open loop) to its reply.
    pub(super) latency_ns: Histogram<u64>,
    /// Answers.
    pub(super) tally: Tally,
    /// Requests sent.
    pub(super) sent: u64,
    /// Requests answered, also by an error reply.
    pub(super) answered: u64,
    /// Requests of an open loop that were due but never sent, because the window was full.
    pub(super) unsent: u64,
    /// Connections lost, by reason.
    pub(super) losses: TextCounts,
    /// From the start to the last reply.
    pub(super) elapsed: Duration,
}

impl Outcome {
    /// Nothing seen yet.
    pub(super) fn empty() -> Self {
        let longest_ns = 2 * plan::DURATION_MAX.as_nanos() as u64;
        Self {
            latency_ns: Histogram::new_with_bounds(1, longest_ns, HISTOGRAM_DIGITS)
                .expect("the bounds are constants that a histogram can hold"),
            tally: Tally::default(),
            sent: 0,
            answered: 0,
            unsent: 0,
            losses: TextCounts::default(),
            elapsed: Duration::ZERO,
        }
    }

    /// Refuses what lost connections or answers.
    pub(super) fn complete(&self) -> Result<(), BenchError> {
        let (lost, unanswered) = (self.losses.total(), self.sent - self.answered);
        if lost > 0 || unanswered > 0 {
            return Err(BenchError::Incomplete { lost, unanswered });
        }
        Ok(())
    }

    /// Adds what another worker saw in the same time.
    pub(super) fn add(&mut self, other: Self) {
        self.latency_ns
            .add(other.latency_ns)
            .expect("all histograms have the same bounds");
        self.tally.add(&other.tally);
        self.sent += other.sent;
        self.answered += other.answered;
        self.unsent += other.unsent;
        self.losses.add_all(&other.losses);
        self.elapsed = self.elapsed.max(other.elapsed);
    }
}

/// Where a phase stands.
struct Progress {
    phase: Phase,
    outcome: Outcome,
    /// The open loop's schedule, how many requests it will have, and how many are due.
    schedule: Option<Schedule>,
    scheduled: u64,
    due: u64,
    /// Requests of a closed loop that no connection has encoded yet.
    pool: u64,
    in_flight: u64,
    /// Nothing more is admitted.
    stopping: bool,
    /// When the last reply came, or the first request went.
    last_ns: u64,
}

impl Progress {
    fn now_ns(&self) -> u64 {
        self.phase.start.elapsed().as_nanos() as u64
    }

    fn stop_ns(&self) -> u64 {
        self.phase.duration.as_nanos() as u64
    }
}

/// A thread's connections and the means to load them.
pub(super) struct Worker<'a> {
    plan: &'a Plan,
    protocol: &'a dyn Protocol,
    thread: usize,
    poll: Poll,
    connections: Vec<Connection>,
    live: usize,
    keys: KeySource,
    mix: Random,
    chunk_requests: u64,
    scratch: Vec<u8>,
}

impl Load for Worker<'_> {
    fn run(&mut self, phase: Phase) -> Result<Outcome, BenchError> {
        let mut progress = self.begin(phase);
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            self.advance(&mut progress);
            let done = progress.stopping || self.all_admitted(&progress);
            if self.live == 0 || (done && progress.in_flight == 0) {
                break;
            }
            match self.poll.poll(&mut events, Some(sleep(&progress))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(BenchError::Poll(error));
                }
                _ => {}
            }
            for event in &events {
                let Token(index) = event.token();
                self.serve(index, &mut progress);
            }
            self.check_timeout(&mut progress);
        }
        Ok(self.finish(progress))
    }
}

impl<'a> Worker<'a> {
    /// Opens the connections that fall to `thread`.
    pub(super) fn connect(
        plan: &'a Plan,
        protocol: &'a dyn Protocol,
        thread: usize,
    ) -> Result<Self, BenchError> {
        let (threads, place) = (plan.threads as u64, thread as u64);
        let poll = Poll::new().map_err(BenchError::Poll)?;
        let count = plan::share(plan.connections as u64, threads, place) as usize;
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            let fail = |source| BenchError::Connect {
                address: plan.address,
                ordinal: thread + index * plan.threads + 1,
                source,
            };
            let stream =
                TcpStream::connect_timeout(&plan.address, CONNECT_TIMEOUT).map_err(fail)?;
            stream.set_nonblocking(true).map_err(fail)?;
            let stream = mio::net::TcpStream::from_std(stream);
            connections.push(Connection::new(stream, poll.registry(), index).map_err(fail)?);
        }
        // Sequential keys: each worker goes on where the one before it will have ended.
        let first = match plan.requests {
            Some(total) => {
                let before: u64 = (0..place)
                    .map(|index| plan::share(total, threads, index))
                    .sum();
                (u128::from(before) * plan.bulk as u128 % u128::from(plan.keys)) as u64
            }
            None => plan.keys / threads * place,
        };
        let random = Random::new(plan.seed, 2 * place);
        let format = plan.format.clone();
        let request_bytes = protocol.request_bytes(format.length());
        Ok(Self {
            plan,
            protocol,
            thread,
            poll,
            live: connections.len(),
            connections,
            keys: KeySource::new(format, plan.keys, plan.distribution, first, random),
            mix: Random::new(plan.seed, 2 * place + 1),
            chunk_requests: plan.chunk_requests(request_bytes) as u64,
            scratch: vec![0; READ_BYTES + protocol.reply_bytes_max()],
        })
    }

    fn begin(&mut self, phase: Phase) -> Progress {
        for connection in &mut self.connections {
            connection.begin();
        }
        let connections = self.connections.len() as u64;
        let schedule = self.plan.rate.map(|rate| {
            let part = connections as f64 / self.plan.connections as f64;
            let lead = self.thread as f64 / self.plan.threads as f64;
            Schedule::new(rate * part, lead, connections)
        });
        let requests = phase.requests.unwrap_or(u64::MAX);
        let mut progress = Progress {
            phase,
            outcome: Outcome::empty(),
            schedule,
            scheduled: 0,
            due: 0,
            pool: requests,
            in_flight: 0,
            stopping: false,
            last_ns: 0,
        };
        if let Some(schedule) = schedule {
            let last_ns = progress.stop_ns().saturating_sub(1);
            progress.scheduled = schedule.count_due(last_ns, requests);
        }
        progress.last_ns = progress.now_ns();
        progress
    }

    /// Sends what has become due, and ends the sending when its time is over.
    fn advance(&mut self, progress: &mut Progress) {
        if progress.stopping {
            return;
        }
        if progress.schedule.is_none() && progress.in_flight == 0 && progress.pool > 0 {
            // A lost connection gave back what the others, idle by then, may still send.
            for index in 0..self.connections.len() {
                self.pump(index, progress);
            }
        }
        let now_ns = progress.now_ns();
        if let Some(schedule) = progress.schedule {
            let due = schedule.count_due(now_ns, progress.scheduled);
            let connections = self.connections.len() as u64;
            let touched = progress.due..due.min(progress.due + connections);
            progress.due = due;
            for request in touched {
                self.pump((request % connections) as usize, progress);
            }
        }
        progress.stopping = now_ns >= progress.stop_ns();
    }

    /// Whether there is nothing left to send, if also nothing is in flight.
    fn all_admitted(&self, progress: &Progress) -> bool {
        match progress.schedule {
            // A closed loop with nothing in flight has nothing encoded either.
            None => progress.pool == 0,
            Some(_) if progress.due < progress.scheduled => false,
            Some(schedule) => self
                .connections
                .iter()
                .enumerate()
                .all(|(index, connection)| {
                    let due = schedule.count_on(index as u64, progress.due);
                    connection.is_lost() || connection.admitted() == due
                }),
        }
    }

    /// Takes in what a connection received and sends what that allows.
    fn serve(&mut self, index: usize, progress: &mut Progress) {
        loop {
            let connection = &mut self.connections[index];
            if connection.is_lost() {
                return;
            }
            let tally = &mut progress.outcome.tally;
            match connection.receive(self.protocol, &mut self.scratch, tally) {
                Ok(received) => {
                    if received.replies > 0 {
                        settle(connection, index, received.replies, progress);
                    }
                    self.pump(index, progress);
                    if !received.more {
                        return;
                    }
                }
                Err(loss) => return self.lose(index, &loss, progress),
            }
        }
    }

    /// Admits what may go on a connection, writes it, and encodes ahead while the server works.
    fn pump(&mut self, index: usize, progress: &mut Progress) {
        if self.connections[index].is_lost() {
            return;
        }
        let mut allowance = self.allowance(index, progress);
        let now_ns = progress.now_ns();
        loop {
            let connection = &mut self.connections[index];
            match connection.flush() {
                Ok(true) => {}
                Ok(false) => return,
                Err(loss) => return self.lose(index, &loss, progress),
            }
            if connection.ahead() == 0 {
                self.encode(index, progress);
            }
            if allowance == 0 || self.connections[index].ahead() == 0 {
                return;
            }
            let count = self.connections[index].admit(allowance, now_ns);
            progress.in_flight += count;
            allowance -= count;
        }
    }

    /// How many requests may be admitted now.
    fn allowance(&self, index: usize, progress: &Progress) -> u64 {
        if progress.stopping {
            return 0;
        }
        let connection = &self.connections[index];
        let window = self.plan.pipeline as u64;
        let free = window - connection.in_flight();
        match progress.schedule {
            Some(schedule) => {
                let due = schedule.count_on(index as u64, progress.due);
                free.min(due - connection.admitted())
            }
            // Half a window at a time: a server that answers in small writes would otherwise make
            // the client pay a call for each request.
            None if free * 2 >= window => free,
            None => 0,
        }
    }

    /// Encodes the next requests of a connection, as far as there are any left for it.
    fn encode(&mut self, index: usize, progress: &mut Progress) {
        let connection = &mut self.connections[index];
        let left = match progress.schedule {
            Some(schedule) => {
                schedule.count_on(index as u64, progress.scheduled) - connection.encoded()
            }
            None => progress.pool,
        };
        let count = self.chunk_requests.min(left);
        if progress.schedule.is_none() && progress.phase.requests.is_some() {
            progress.pool -= count;
        }
        let (protocol, mix, keys, random) =
            (self.protocol, self.plan.mix, &mut self.keys, &mut self.mix);
        connection.encode(count, |out| {
            protocol.encode(operation(mix, random), keys, out)
        });
    }

    /// Gives a connection up. What it had encoded falls back to the others.
    fn lose(&mut self, index: usize, loss: &Loss, progress: &mut Progress) {
        let connection = &mut self.connections[index];
        if connection.is_lost() {
            return;
        }
        progress.in_flight -= connection.in_flight();
        if progress.phase.requests.is_some() && progress.schedule.is_none() {
            progress.pool += connection.ahead();
        }
        progress.outcome.losses.add(&loss.to_string(), 1);
        connection.lose(self.poll.registry());
        self.live -= 1;
    }

    /// Gives up the connections that owe replies when none came for too long.
    fn check_timeout(&mut self, progress: &mut Progress) {
        let timeout_ns = self.plan.timeout.as_nanos() as u64;
        if progress.in_flight == 0 {
            // An open loop at a low rate: nothing is awaited.
            return;
        }
        if progress.now_ns().saturating_sub(progress.last_ns) < timeout_ns {
            return;
        }
        for index in 0..self.connections.len() {
            if self.connections[index].in_flight() > 0 {
                self.lose(index, &Loss::Timeout, progress);
            }
        }
    }

    fn finish(&self, progress: Progress) -> Outcome {
        let mut outcome = progress.outcome;
        outcome.sent = self.connections.iter().map(Connection::admitted).sum();
        outcome.answered = self.connections.iter().map(Connection::answered).sum();
        if progress.schedule.is_some() {
            outcome.unsent = progress.scheduled - outcome.sent;
        }
        outcome.elapsed = Duration::from_nanos(progress.last_ns);
        outcome
    }
}

/// Records the latencies of `replies` that have just come.
fn settle(connection: &mut Connection, index: usize, replies: u64, progress: &mut Progress) {
    let now_ns = progress.now_ns();
    progress.in_flight -= replies;
    progress.last_ns = now_ns;
    let latency_ns = &mut progress.outcome.latency_ns;
    if let Some(schedule) = progress.schedule {
        let first = connection.answered();
        for ordinal in first..first + replies {
            let due_ns = schedule.due_on_ns(index as u64, ordinal);
            latency_ns.saturating_record(now_ns.saturating_sub(due_ns).max(1));
        }
        connection.settle(replies, |_, _| {});
    } else {
        connection.settle(replies, |at_ns, count| {
            latency_ns.saturating_record_n(now_ns.saturating_sub(at_ns).max(1), count);
        });
    }
}

/// How long the poll may sleep.
fn sleep(progress: &Progress) -> Duration {
    let now_ns = progress.now_ns();
    let mut wake_ns = u64::MAX;
    if !progress.stopping {
        wake_ns = progress.stop_ns();
        if let Some(schedule) = progress.schedule
            && progress.due < progress.scheduled
        {
            let slack_ns = SLEEP_SLACK.as_nanos() as u64;
            wake_ns = wake_ns.min(schedule.due_ns(progress.due).saturating_sub(slack_ns));
        }
    }
    Duration::from_nanos(wake_ns.saturating_sub(now_ns)).min(SLEEP_MAX)
}

/// What the next request does.
pub(super) fn operation(mix: Mix, random: &mut Random) -> Operation {
    let set = match mix {
        Mix::Set => true,
        Mix::Check => false,
        Mix::Mixed { sets } => random.fraction() < sets,
    };
    if set {
        Operation::Set
    } else {
        Operation::Check
    }
}
