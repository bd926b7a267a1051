//! From lines to replies. Neighbouring lines that check, or set, keys of one filter are one
//! batch: all their keys are hashed, all cache lines asked for, then looked at.

use std::net::SocketAddr;
use std::sync::Arc;

use grapevine_core::cross_protocol::{is_host_header, is_request_line};
use grapevine_core::filter::Outcome;
use grapevine_core::wire::bloomd::reply::{self, Info, ListRow, Status};
use grapevine_core::wire::bloomd::{self, ClientError, Command, CreateOptions, Lines};
use grapevine_store::filters::{Creation, FilterError, Handle, Recreation, Scratch};
use grapevine_store::log::Position;

use super::Gateway;
use super::connection::FREE_BYTES;
use super::job::Job;
use super::kinds::Kinds;
use super::long::LongLine;
use crate::audit;
use crate::engine::FilterWish;

/// Keys looked up in one go. A longer line is several goes against the same filter.
pub(super) const BATCH_KEYS_MAX: usize = 4096;
/// Why a connection was ended.
const FOREIGN: &str =
    "it speaks HTTP; a page in a browser may have sent it, so nothing of it was run";

/// What became of a buffer.
#[derive(Debug, Default)]
pub(super) struct Executed {
    /// Bytes whose lines have their replies.
    pub(super) consumed: usize,
    /// Lines that have them.
    pub(super) answered: u64,
    /// Where their replies begin among those that wait.
    pub(super) replies: usize,
    /// Bytes behind the consumed ones that hold no line end; none when complete lines are left,
    /// because too many replies wait or a job is to be done.
    pub(super) scanned: Option<usize>,
    /// The replies may be given when everything before it is durable.
    pub(super) position: Position,
    /// Work to be done before the lines behind `consumed` are looked at.
    pub(super) job: Option<Job>,
    /// No further line is taken: one was of another protocol.
    pub(super) closing: bool,
}

/// Executes lines against the filters. Kept by a connection for its buffers.
pub(super) struct Executor<'g> {
    pub(super) gateway: &'g Gateway,
    pub(super) scratch: Scratch,
    /// A filter has just been loaded, or could not be: the line that needs it is executed now,
    /// whatever came of it.
    pub(super) load_tried: bool,
    /// The connection's first line was seen.
    pub(super) began: bool,
    /// What comes up to the next line end belongs to a line that has been refused.
    pub(super) passing_over: bool,
    /// A request that is executed before its line has ended.
    pub(super) long: Option<Box<LongLine>>,
    /// Who sent the lines.
    from: Option<SocketAddr>,
    /// Lines that were executed and are not counted as answered yet.
    pub(super) kinds: Kinds,
    /// The port that they were sent to.
    pub(super) port: Option<u16>,
}

/// Lines of one kind on one filter, not yet executed.
struct Batch<'a> {
    adds: bool,
    filter: &'a [u8],
    keys: Vec<&'a [u8]>,
    /// Keys of each line; none for a line of one key.
    lines: Vec<Option<usize>>,
    /// Lines of many keys among them.
    many: usize,
}

impl<'g> Executor<'g> {
    pub(super) fn new(gateway: &'g Gateway) -> Self {
        Executor {
            gateway,
            scratch: Scratch::default(),
            load_tried: false,
            began: false,
            passing_over: false,
            long: None,
            from: None,
            kinds: Kinds::default(),
            port: None,
        }
    }

    /// Who sends the lines from now on, and to which of this node's ports.
    pub(super) fn set_from(&mut self, from: Option<SocketAddr>, port: Option<u16>) {
        (self.from, self.port) = (from, port);
    }

    fn note(&self, act: &str, filter: &[u8]) {
        audit::note(act, &filter.escape_ascii().to_string(), "bloomd", self.from);
    }

    /// To be called when a [`Job::Load`] has been done.
    pub(super) fn loaded(&mut self) {
        self.load_tried = true;
    }

    /// Whether a long request holds memory of all while it waits for its end.
    pub(super) fn holds_room(&self) -> bool {
        self.long.as_ref().is_some_and(|long| long.holds_room())
    }

    /// The changes of the last run cannot be kept as promised.
    pub(super) fn fail_long(&mut self) {
        if let Some(long) = &mut self.long {
            long.refuse(Status::InternalError);
        }
    }

    /// Executes the complete lines of `buffer`, the first `scanned` bytes of which hold no line
    /// end, and the keys of an unfinished long request, and appends the replies to `out`. Stops
    /// early at a line that needs a job, or when more than `out_max` bytes of replies wait.
    pub(super) fn run(
        &mut self,
        buffer: &[u8],
        scanned: usize,
        out: &mut Vec<u8>,
        out_max: usize,
    ) -> Executed {
        if let Some(long) = self.long.take() {
            let done = self.go_on(long, (buffer, scanned), out, out_max);
            self.gateway.metrics.commands.inc_by(done.answered);
            return done;
        }
        let mut lines = Lines::resume(buffer, self.gateway.limits.line, scanned);
        let mut done = Executed {
            replies: out.len(),
            ..Executed::default()
        };
        self.passing_over = self.passing_over && !lines.pass_over();
        let mut batch: Option<Batch<'_>> = None;
        // Lines before `gathered` are answered or in the batch.
        let mut gathered = lines.consumed();
        while out.len() < out_max && !self.passing_over {
            let Some(line) = lines.next() else {
                if !lines.is_too_long() {
                    break;
                }
                done.job = self.finish(&mut batch, gathered, &mut done, out);
                if done.job.is_some() {
                    return done;
                }
                self.too_long(&mut lines, &mut done, out);
                gathered = done.consumed;
                continue;
            };
            let parsed = bloomd::parse(line);
            if self.is_of_a_page(line, &parsed) {
                done.job = self.finish(&mut batch, gathered, &mut done, out);
                if done.job.is_none() {
                    self.end_foreign(&mut done);
                }
                self.gateway.metrics.commands.inc_by(done.answered);
                return done;
            }
            let joins = match (&parsed, &mut batch) {
                (Ok(command), Some(batch)) => batch.join(command),
                _ => false,
            };
            if !joins {
                done.job = self.finish(&mut batch, gathered, &mut done, out);
                if done.job.is_none() {
                    batch = Batch::begin(&parsed);
                    if batch.is_none() {
                        self.kinds.line(&parsed);
                        done.job = self.single(parsed, out, &mut done.position).err();
                        done.consumed = lines.consumed();
                        done.answered += 1;
                    }
                }
                if done.job.is_some() {
                    self.gateway.metrics.commands.inc_by(done.answered);
                    return done;
                }
            }
            gathered = lines.consumed();
        }
        done.job = self.finish(&mut batch, gathered, &mut done, out);
        if done.job.is_none() && out.len() < out_max {
            self.leave(&buffer[done.consumed..], &mut done);
        }
        self.gateway.metrics.commands.inc_by(done.answered);
        done
    }

    /// Answers a line that is longer than allowed, and passes over it.
    pub(super) fn too_long(
        &mut self,
        lines: &mut Lines<'_>,
        done: &mut Executed,
        out: &mut Vec<u8>,
    ) {
        reply::client_error(out, ClientError::LineTooLong);
        self.gateway.metrics.client_errors.inc();
        self.began = true;
        self.passing_over = !lines.pass_over();
        done.answered += 1;
        done.consumed = lines.consumed();
    }

    /// Nothing more is taken of the connection.
    fn end_foreign(&self, done: &mut Executed) {
        done.closing = true;
        self.gateway.metrics.connections_foreign.inc();
        let engine = &self.gateway.engine;
        engine.complain("ended a bloomd connection", &FOREIGN);
    }

    /// Whether a line is HTTP's, so that the lines behind it may be those of a page's form.
    fn is_of_a_page(&mut self, line: &[u8], parsed: &Result<Command<'_>, ClientError>) -> bool {
        let is_first = !std::mem::replace(&mut self.began, true);
        (is_first && is_request_line(line))
            || (matches!(parsed, Err(ClientError::CommandNotSupported)) && is_host_header(line))
    }

    /// Executes what has been gathered, up to `end` of the buffer, unless a job is to be done
    /// first.
    fn finish(
        &mut self,
        batch: &mut Option<Batch<'_>>,
        end: usize,
        done: &mut Executed,
        out: &mut Vec<u8>,
    ) -> Option<Job> {
        let Some(batch) = batch.take() else {
            done.consumed = end;
            return None;
        };
        match self.gateway.engine.filters().get(batch.filter) {
            None => batch
                .lines
                .iter()
                .for_each(|_| reply::status(out, Status::FilterDoesNotExist)),
            Some(handle) if !self.load_tried && handle.needs_load() => {
                return Some(Job::Load(handle));
            }
            Some(handle) => self.answer(&handle, &batch, out, &mut done.position),
        }
        self.load_tried = false;
        done.consumed = end;
        done.answered += batch.lines.len() as u64;
        self.kinds.batch(batch.adds, batch.lines.len(), batch.many);
        None
    }

    fn answer(
        &mut self,
        handle: &Handle,
        batch: &Batch<'_>,
        out: &mut Vec<u8>,
        position: &mut Position,
    ) {
        let mut answers = Answers::new(&batch.lines);
        for keys in batch.keys.chunks(BATCH_KEYS_MAX) {
            let filters = self.gateway.engine.filters();
            let outcome = if batch.adds {
                filters.set(handle, keys, &mut self.scratch)
            } else {
                filters.check(handle, keys, &mut self.scratch)
            };
            match outcome {
                Ok(reached) => {
                    *position = (*position).max(reached);
                    if batch.adds {
                        let outcomes = self.scratch.outcomes().iter();
                        answers.give(out, outcomes.map(|outcome| is_new(*outcome)));
                    } else {
                        answers.give(out, self.scratch.found().iter().copied().map(Some));
                    }
                }
                Err(error) => {
                    answers.fail(out, status_of(&error));
                    self.failed(&error);
                    return;
                }
            }
        }
    }

    pub(super) fn failed(&self, error: &FilterError) {
        if !matches!(error, FilterError::NotFound) {
            self.gateway.metrics.failures.inc();
            self.gateway.engine.complain("bloomd", error);
        }
    }

    /// Executes a command that is not about keys.
    fn single(
        &mut self,
        parsed: Result<Command<'_>, ClientError>,
        out: &mut Vec<u8>,
        position: &mut Position,
    ) -> Result<(), Job> {
        let command = match parsed {
            Ok(command) => command,
            Err(error) => {
                self.gateway.metrics.client_errors.inc();
                reply::client_error(out, error);
                return Ok(());
            }
        };
        let filters = self.gateway.engine.filters();
        match command {
            Command::Create { filter, options } => self.create(filter, options, out, position),
            Command::List { prefix } => {
                let handles = filters.list(prefix);
                let bytes = handles.iter().map(|handle| list_row_bytes(handle)).sum();
                if bytes > FREE_BYTES {
                    return Err(Job::List(handles, bytes));
                }
                list(out, &handles);
            }
            Command::Drop { filter } => match filters.get(filter) {
                Some(handle) => {
                    let dropped = filters.drop_filter(&handle);
                    if dropped.is_ok() {
                        self.note("dropped filter", filter);
                    }
                    self.done(dropped, out, position);
                }
                None => reply::status(out, Status::FilterDoesNotExist),
            },
            Command::Close { filter } => match filters.get(filter) {
                Some(handle) => return Err(Job::Close(handle)),
                None => reply::status(out, Status::FilterDoesNotExist),
            },
            Command::Clear { filter } => match filters.get(filter).map(|h| filters.hide(&h)) {
                Some(Ok(None)) => reply::status(out, Status::NotProxied),
                Some(hidden) => {
                    if hidden.is_ok() {
                        self.note("cleared filter", filter);
                    }
                    self.done(hidden.map(Option::unwrap_or_default), out, position);
                }
                None => reply::status(out, Status::FilterDoesNotExist),
            },
            Command::Flush { filter: None } => return Err(Job::FlushAll),
            Command::Flush {
                filter: Some(filter),
            } => match filters.get(filter) {
                Some(handle) => return Err(Job::Flush(handle)),
                None => reply::status(out, Status::FilterDoesNotExist),
            },
            Command::Info { filter } => match filters.get(filter) {
                Some(handle) => reply::info(out, &info(&handle)),
                None => reply::status(out, Status::FilterDoesNotExist),
            },
            Command::Conf { filter } => self.conf(filter, out),
            // Lines about keys were taken into a batch.
            Command::Check { .. }
            | Command::Set { .. }
            | Command::CheckMany { .. }
            | Command::SetMany { .. } => {}
        }
        Ok(())
    }

    fn create(
        &self,
        name: &[u8],
        options: CreateOptions,
        out: &mut Vec<u8>,
        position: &mut Position,
    ) {
        let wish = FilterWish {
            capacity: options.capacity,
            error: options.probability,
            in_memory: options.in_memory,
            ..FilterWish::default()
        };
        let engine = &self.gateway.engine;
        let new = engine.defaults().filter(wish);
        match engine
            .filters()
            .create(name, new, Recreation::WhenReclaimed)
        {
            Ok(Creation::Created(reached) | Creation::Shown(reached)) => {
                self.note("created filter", name);
                *position = (*position).max(reached);
                reply::status(out, Status::Done);
            }
            Ok(Creation::Exists(reached)) => {
                *position = (*position).max(reached);
                reply::status(out, Status::Exists);
            }
            Ok(Creation::Reclaiming) => reply::status(out, Status::DeleteInProgress),
            Err(FilterError::Name(_)) => reply::client_error(out, ClientError::BadFilterName),
            Err(FilterError::Parameters(_)) => {
                self.gateway.metrics.client_errors.inc();
                reply::client_error(out, ClientError::BadArguments);
            }
            Err(error) => {
                self.failed(&error);
                reply::status(out, Status::InternalError);
            }
        }
    }

    fn done(
        &self,
        outcome: Result<Position, FilterError>,
        out: &mut Vec<u8>,
        position: &mut Position,
    ) {
        match outcome {
            Ok(reached) => {
                *position = (*position).max(reached);
                reply::status(out, Status::Done);
            }
            Err(error) => {
                self.failed(&error);
                reply::status(out, status_of(&error));
            }
        }
    }
}

/// The protocol's answer to a key that was set, if it has one.
pub(super) fn is_new(outcome: Outcome) -> Option<bool> {
    match outcome {
        Outcome::New => Some(true),
        Outcome::Seen => Some(false),
        Outcome::Full => None,
    }
}

pub(super) fn status_of(error: &FilterError) -> Status {
    match error {
        FilterError::NotFound => Status::FilterDoesNotExist,
        _ => Status::InternalError,
    }
}

/// Appends the reply to `list`.
pub(super) fn list(out: &mut Vec<u8>, handles: &[Arc<Handle>]) {
    reply::list(out, handles.iter().map(|handle| list_row(handle)));
}

/// What a filter's line in the reply to `list` takes, at most: four numbers beside the name.
fn list_row_bytes(handle: &Handle) -> usize {
    handle.name().len() + 100
}

fn list_row(handle: &Arc<Handle>) -> ListRow<'_> {
    let summary = handle.summary();
    ListRow {
        name: handle.name(),
        probability: handle.error(),
        bytes: summary.bytes,
        capacity: summary.capacity,
        size: summary.inserted,
    }
}

fn info(handle: &Handle) -> Info {
    let (summary, usage) = (handle.summary(), handle.usage());
    Info {
        capacity: summary.capacity,
        check_hits: usage.check_hits,
        check_misses: usage.check_misses,
        in_memory: handle.is_loaded(),
        page_ins: usage.page_ins,
        page_outs: usage.page_outs,
        probability: handle.error(),
        set_hits: usage.set_hits,
        set_misses: usage.set_misses,
        size: summary.inserted,
        storage: summary.bytes,
    }
}

impl<'a> Batch<'a> {
    /// A batch of one line, if the line is about keys.
    fn begin(parsed: &Result<Command<'a>, ClientError>) -> Option<Self> {
        let (adds, filter) = match parsed.as_ref().ok()? {
            Command::Check { filter, .. } | Command::CheckMany { filter, .. } => (false, *filter),
            Command::Set { filter, .. } | Command::SetMany { filter, .. } => (true, *filter),
            _ => return None,
        };
        let mut batch = Batch {
            adds,
            filter,
            keys: Vec::new(),
            lines: Vec::new(),
            many: 0,
        };
        if let Ok(command) = parsed {
            batch.join(command);
        }
        Some(batch)
    }

    /// Takes a line in, if it is of the batch's kind and filter and there is room.
    #[inline]
    fn join(&mut self, command: &Command<'a>) -> bool {
        let (adds, filter) = match command {
            Command::Check { filter, .. } | Command::CheckMany { filter, .. } => (false, *filter),
            Command::Set { filter, .. } | Command::SetMany { filter, .. } => (true, *filter),
            _ => return false,
        };
        if adds != self.adds || filter != self.filter || self.keys.len() >= BATCH_KEYS_MAX {
            return false;
        }
        match command {
            Command::Check { key, .. } | Command::Set { key, .. } => {
                self.keys.push(key);
                self.lines.push(None);
            }
            Command::CheckMany { keys, .. } | Command::SetMany { keys, .. } => {
                let before = self.keys.len();
                self.keys.extend(*keys);
                self.lines.push(Some(self.keys.len() - before));
                self.many += 1;
            }
            _ => return false,
        }
        true
    }
}

/// Hands out answers to the lines of a batch, also when they come in several goes.
struct Answers<'b> {
    lines: std::slice::Iter<'b, Option<usize>>,
    /// Keys of the line under way that have no answer yet.
    left: usize,
    /// Where its reply begins.
    start: usize,
    /// A key of it has no yes or no: a filter of fixed size is full.
    full: bool,
}

impl<'b> Answers<'b> {
    fn new(lines: &'b [Option<usize>]) -> Self {
        Answers {
            lines: lines.iter(),
            left: 0,
            start: 0,
            full: false,
        }
    }

    /// Gives each answer to its key; one that is none makes its whole line an error.
    fn give(&mut self, out: &mut Vec<u8>, answers: impl Iterator<Item = Option<bool>>) {
        for answer in answers {
            if self.left == 0 {
                match (self.lines.next(), answer) {
                    (Some(Some(keys)), _) => {
                        (self.left, self.start, self.full) = (*keys, out.len(), false);
                    }
                    (_, Some(yes)) => {
                        reply::yes_no(out, yes);
                        continue;
                    }
                    (_, None) => {
                        reply::status(out, Status::InternalError);
                        continue;
                    }
                }
            }
            if out.len() > self.start {
                out.push(b' ');
            }
            out.extend_from_slice(if answer == Some(true) { b"Yes" } else { b"No" });
            self.full |= answer.is_none();
            self.left -= 1;
            if self.left == 0 && self.full {
                out.truncate(self.start);
                reply::status(out, Status::InternalError);
            } else if self.left == 0 {
                out.push(b'\n');
            }
        }
    }

    /// One line for each request without a whole answer; what a line has so far is taken back.
    fn fail(&mut self, out: &mut Vec<u8>, status: Status) {
        if self.left > 0 {
            out.truncate(self.start);
            reply::status(out, status);
        }
        for _ in self.lines.by_ref() {
            reply::status(out, status);
        }
    }
}
