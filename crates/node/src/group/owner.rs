//! The thread `group`: the one owner of the group's protocol and of the sync machine. It may wait
//! for the disk; nothing that a client waits for waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grapevine_core::group::{Detector, Input as GroupInput, Protocol, Settings};
use grapevine_core::origin::Origin;
use grapevine_core::sync::limits::STRANGERS_MAX;
use grapevine_core::sync::{Event as SyncEvent, Input as SyncInput, Machine, Output};
use grapevine_store::collections::{Collections, Exchange};
use tokio::sync::{mpsc, oneshot};

use super::clocks;
use super::command::Waiting;
use super::complaints::Complaints;
use super::courier::{Errands, Input};
use super::divergences;
use super::frame;
use super::memory_filters::MemoryFilters;
use super::protocol::{Channel, View};
use super::status::{Board, Counts};
use crate::clock::unix_ms;
use grapevine_net::{Event, Handle, PeerKey};

/// The machine is told the time this often, in milliseconds.
const TICK_MS: u64 = 100;
/// Members and status are looked at every so many ticks.
const LOOK_TICKS: u64 = 5;
/// Least time between two syncs of the log for peers, in milliseconds.
const SYNC_SPACING_MS: u64 = 2;
/// The same after a sync that failed.
const SYNC_RETRY_MS: u64 = 1000;
/// Inputs taken before the log and the timers are looked at again.
const INPUTS_PER_TURN: usize = 256;
/// How long a stop waits for peers to have everything, in milliseconds.
const STOP_MS: u64 = 2000;

/// Limits from the configuration.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of the log that are kept for members that are away.
    pub(super) log_keep: u64,
    /// Beyond it clocks differ, in milliseconds.
    pub(super) clock_drift: u64,
}

pub(super) struct Owner {
    pub(super) limits: Limits,
    pub(super) group_name: String,
    pub(super) collections: Arc<Collections>,
    pub(super) origin: Origin,
    pub(super) protocol: Protocol,
    pub(super) machine: Machine,
    pub(super) exchange: Exchange,
    pub(super) memory: MemoryFilters,
    pub(super) handle: Handle,
    pub(super) errands: Errands,
    pub(super) board: Arc<Board>,
    /// Sessions in which operations flow.
    pub(super) channels: BTreeMap<PeerKey, Channel>,
    pub(super) detector: Detector,
    pub(super) waiting: Waiting,
    pub(super) complaints: Complaints,
    /// When rows that are gone were last looked for.
    pub(super) collected: u64,
    /// Copies that were found to lack something, as far as that was told.
    pub(super) diverged: divergences::Told,
    /// Clocks that differ, as far as that was told.
    pub(super) clocks: clocks::Told,
    started: Instant,
    ticks: u64,
    next_tick: u64,
    sync_from: u64,
    stopping: Option<(oneshot::Sender<()>, u64)>,
    outputs: Vec<Output>,
}

impl Owner {
    pub(super) fn new(
        settings: Settings,
        limits: Limits,
        collections: Arc<Collections>,
        handle: Handle,
        errands: Errands,
        board: Arc<Board>,
    ) -> Self {
        let (seed, started) = (super::random(), super::milliseconds());
        let origin = settings.origin;
        let mut machine = Machine::new(origin, seed);
        machine.set_drift(limits.clock_drift);
        let exchange = Exchange::new(Arc::clone(&collections));
        let group_name = settings.group_name.clone();
        let view = View {
            collections: &collections,
            machine: &machine,
            exchange: &exchange,
            origin,
        };
        let protocol = Protocol::new(settings, &view);
        Owner {
            limits,
            group_name,
            origin,
            protocol,
            machine,
            exchange,
            memory: MemoryFilters::new(&collections, seed.rotate_left(32)),
            detector: Detector::new(handle.local().into(), started, seed),
            collections,
            handle,
            errands,
            board,
            channels: BTreeMap::new(),
            waiting: Waiting::default(),
            complaints: Complaints::default(),
            collected: 0,
            diverged: divergences::Told::new(),
            clocks: clocks::Told::default(),
            started: Instant::now(),
            ticks: 0,
            next_tick: 0,
            sync_from: 0,
            stopping: None,
            outputs: Vec::new(),
        }
    }

    /// Runs until it is told to stop, or nobody can reach it any more.
    pub(super) fn run(mut self, mut inputs: mpsc::Receiver<Input>) {
        self.collections.journal().set_bell(std::thread::current());
        loop {
            let mut taken = 0;
            while taken < INPUTS_PER_TURN {
                match inputs.try_recv() {
                    Ok(input) => self.take(input),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
                taken += 1;
            }
            let now = self.now();
            if now >= self.next_tick {
                self.tick(now);
            }
            self.detector.run(now);
            self.send_packets();
            let due = self.sync_log();
            if self.has_stopped() {
                return;
            }
            if taken < INPUTS_PER_TURN {
                self.wait(due);
            }
        }
    }

    /// Milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Until something happens; an input or the bell ends it early.
    fn wait(&self, sync_due: Option<u64>) {
        let journal = self.collections.journal();
        if !self.channels.is_empty() && sync_due.is_none() {
            journal.arm_bell();
            let unsynced = journal.synced() < journal.appended();
            if (unsynced && journal.read_only().is_none()) || self.memory.has_news() {
                return;
            }
        }
        let due = [Some(self.next_tick), self.detector.next(), sync_due];
        let due = due.into_iter().flatten().min().unwrap_or(self.next_tick);
        let wait = due.saturating_sub(self.now());
        if wait > 0 {
            std::thread::park_timeout(Duration::from_millis(wait));
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => self.transport_event(event),
            Input::Command(command) => self.command(command),
            Input::Addresses(addresses) => self.drive_group(GroupInput::Addresses(addresses)),
            Input::Stop(done) => {
                let deadline = self.now() + STOP_MS;
                self.sync_from = 0;
                self.detector.leave(self.now());
                self.stopping = Some((done, deadline));
            }
        }
    }

    fn transport_event(&mut self, event: Event) {
        match event {
            Event::Admitted(admitted) => self.admitted(admitted),
            Event::Frame {
                peer,
                session,
                bytes,
            } => self.frame(peer, session, &bytes),
            Event::Closed {
                peer,
                session,
                reason,
            } => self.closed(peer, session, &reason),
            Event::Discovered { peer, address } => self.drive_group(GroupInput::Discovered {
                peer: peer.into(),
                address: address.to_string(),
            }),
            Event::Vanished { peer, address } => self.drive_group(GroupInput::Vanished {
                peer: peer.into(),
                address: address.to_string(),
            }),
            Event::Refused {
                remote,
                reason,
                more,
            } => self.turned_away(remote, &reason, more),
            Event::DialFailed { address, reason } => self.dial_failed(&address, &reason),
            // What was dropped is repaired by the machine.
            Event::Writable { .. } => {}
        }
    }

    fn tick(&mut self, now: u64) {
        self.next_tick = now + TICK_MS;
        self.drive(SyncInput::Tick);
        self.drive_memory(SyncInput::Tick);
        self.watch_clocks();
        self.drive_group(GroupInput::Tick);
        if self.ticks.is_multiple_of(LOOK_TICKS) {
            self.keep_log();
            self.collect_rows(now);
            self.show(now);
        }
        self.ticks += 1;
    }

    /// Gives the machine an input and carries out what it wants.
    pub(super) fn drive(&mut self, input: SyncInput) {
        self.exchange.refresh();
        let now = self.now();
        self.machine.set_clocks(unix_ms(), now);
        let mut outputs = std::mem::take(&mut self.outputs);
        self.machine
            .handle(now, input, &mut self.exchange, &mut outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Send(to, message) => {
                    if let Some(peer) = self.protocol.peer_of(to) {
                        self.send(&peer.into(), frame::of_message(&message));
                    }
                }
                Output::Event(event) => self.sync_event(now, &event),
            }
        }
        self.outputs = outputs;
        if let Some(trouble) = self.exchange.take_trouble() {
            self.complaints
                .warn(now, &format!("replication: {trouble}"));
        }
    }

    pub(super) fn send_packets(&mut self) {
        while let Some((to, packet)) = self.detector.packet() {
            self.send(&to.into(), frame::of_packet(&packet));
        }
    }

    fn sync_event(&mut self, now: u64, event: &SyncEvent) {
        tracing::debug!("replication: {event:?}");
        let counts = &self.board.counts;
        match event {
            SyncEvent::SnapshotFinished(_) => Counts::add(&counts.snapshots_taken),
            SyncEvent::ToldBehind(_) => Counts::add(&counts.snapshots_served),
            SyncEvent::Asked { .. } => Counts::add(&counts.repairs),
            SyncEvent::HistoriesPart {
                peer,
                origin,
                common,
            } => self.histories_part(*peer, *origin, *common),
            SyncEvent::OwnOperationsUnknown { peer, theirs, ours } => {
                let peer = self.name_of(*peer);
                let (theirs, ours) = (*theirs, *ours);
                let failed = self.collections.journal().fail(|| {
                    format!(
                        "{peer} has {theirs} operations of this node, which has {ours}: its data \
                         directory was set back to an earlier state. Stop the node and run \
                         `grapevine restore --in-place`"
                    )
                });
                self.complaints.warn(now, &failed.to_string());
            }
            SyncEvent::Refused(dot) => {
                let line = format!(
                    "an operation of {} cannot be understood and is followed no further: this \
                     node needs the newer version of the program",
                    self.name_of(dot.origin)
                );
                self.complaints.warn(now, &line);
            }
            SyncEvent::PageRefused(peer, error) => {
                let line = format!("a snapshot from {}: {error}", self.name_of(*peer));
                self.complaints.warn(now, &line);
            }
            SyncEvent::AnswerRefused(peer) => {
                let line = format!(
                    "bits from {}: an answer that cannot be right; they are asked of others first",
                    self.name_of(*peer)
                );
                self.complaints.warn(now, &line);
            }
            SyncEvent::OriginsFull(peer) => {
                let line = format!(
                    "{} has operations of more origins than are followed ({STRANGERS_MAX} beside \
                     the members'): those of further ones are passed over. Does it make origins \
                     up? `grapevine group leave` with its name takes it out",
                    self.name_of(*peer)
                );
                self.complaints.warn(now, &line);
            }
            SyncEvent::PeersFull(peer) | SyncEvent::ParkedFull(peer) => {
                let line = format!(
                    "the group is larger than this node can follow: it has no room for what {} sends",
                    self.name_of(*peer)
                );
                self.complaints.warn(now, &line);
            }
            SyncEvent::Behind(peer) => {
                tracing::info!(
                    "the log of {} does not reach back to what is missing here: its state is \
                     taken instead",
                    self.name_of(*peer)
                );
            }
            _ => {}
        }
    }

    /// Makes the log durable when somebody is there to have it: only what is durable may leave
    /// the node. Gives the time at which that is due, if not now.
    fn sync_log(&mut self) -> Option<u64> {
        let journal = Arc::clone(self.collections.journal());
        let mut due = None;
        let wanted = !self.channels.is_empty() || self.stopping.is_some();
        if wanted && journal.synced() < journal.appended() && journal.read_only().is_none() {
            let now = self.now();
            if now < self.sync_from {
                due = Some(self.sync_from);
            } else if let Err(error) = journal.sync() {
                self.complaints
                    .warn(now, &format!("syncing the log: {error}"));
                self.sync_from = now + SYNC_RETRY_MS;
            } else {
                self.sync_from = self.now() + SYNC_SPACING_MS;
            }
        }
        if self.exchange.refresh() {
            self.drive(SyncInput::Advanced);
        }
        if self.memory.refresh() {
            self.drive_memory(SyncInput::Advanced);
        }
        due
    }

    /// Whether a stop is complete: all peers have everything, or the time is over.
    fn has_stopped(&mut self) -> bool {
        let now = self.now();
        let Some((_, deadline)) = &self.stopping else {
            return false;
        };
        if now < *deadline && !self.everybody_has_all() {
            return false;
        }
        if let Some((done, _)) = self.stopping.take() {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
        true
    }

    fn everybody_has_all(&self) -> bool {
        let peers = self.machine.status(&self.exchange);
        let synced = {
            let journal = self.collections.journal();
            journal.synced() >= journal.appended() || journal.read_only().is_some()
        };
        synced
            && self.memory.is_everywhere()
            && peers
                .iter()
                .all(|peer| !peer.connected || (peer.lag == 0 && peer.in_flight == 0))
    }
}
