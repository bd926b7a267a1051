//! The machine: what is kept for whom, and the order of work for each input.

use std::collections::{BTreeMap, BTreeSet};

use super::clock::Clock;
use super::drift::Drift;
use super::intake::Intake;
use super::limits::{PEERS_MAX, STRANGERS_MAX, WINDOW_BYTES};
use super::message::Message;
use super::peer::Peer;
use super::push::Shared;
use super::repair::Repair;
use super::replica::Replica;
use super::rights::Asking;
use super::scrub::Scrub;
use super::stable::Stability;
use super::transfer::Transfer;
use super::versions::Mine;
use super::{Event, Input, Output, PeerStatus};
use crate::origin::Origin;
use crate::version::VersionVector;

/// Synchronisation of one node with all its peers.
#[derive(Debug)]
pub struct Machine {
    pub(super) me: Origin,
    pub(super) window: u32,
    /// Rows that expired before this time are due here.
    pub(super) horizon: u64,
    random: u64,
    pub(super) clock: Clock,
    pub(super) peers: BTreeMap<Origin, Peer>,
    pub(super) members: BTreeSet<Origin>,
    /// Origins that are followed although they are nobody's that is known, at most.
    pub(super) strangers_max: usize,
    pub(super) intake: Intake,
    pub(super) repair: Repair,
    pub(super) transfer: Option<Transfer>,
    pub(super) asking: Asking,
    /// Whether what is left of a state that was being fetched before this run was cleared away.
    pub(super) tidied: bool,
    /// No snapshot is begun before this time: the last one could not be taken over.
    pub(super) refused_until: u64,
    /// When a page of a peer's state was last merged.
    pub(super) merged_at: u64,
    pub(super) scrub: Scrub,
    pub(super) mine: Mine,
    pub(super) stability: Stability,
    pub(super) drift: Drift,
}

/// One call of [`Machine::handle`].
pub(super) struct Turn<'a, R> {
    pub(super) now: u64,
    pub(super) replica: &'a mut R,
    pub(super) out: &'a mut Vec<Output>,
}

impl<R> Turn<'_, R> {
    pub(super) fn send(&mut self, to: Origin, message: Message) {
        self.out.push(Output::Send(to, message));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }
}

impl Machine {
    /// The machine of the node `me`. `seed` is a random number: from it come the salts by which
    /// lines are compared, and whom it asks first.
    pub fn new(me: Origin, seed: u64) -> Self {
        Machine {
            me,
            window: WINDOW_BYTES,
            horizon: 0,
            random: seed,
            clock: Clock::default(),
            peers: BTreeMap::new(),
            members: BTreeSet::new(),
            strangers_max: STRANGERS_MAX,
            intake: Intake::default(),
            repair: Repair::default(),
            transfer: None,
            asking: Asking::default(),
            tidied: false,
            refused_until: 0,
            merged_at: 0,
            scrub: Scrub::default(),
            mine: Mine::default(),
            stability: Stability::default(),
            drift: Drift::default(),
        }
    }

    /// Sets the bytes of operations that may be in flight to a peer and to this node from each
    /// peer; [`WINDOW_BYTES`] unless set.
    pub fn set_window(&mut self, bytes: u32) {
        self.window = bytes.max(1);
    }

    /// Sets how many origins are followed that are neither a member's nor a connected peer's;
    /// [`STRANGERS_MAX`] unless set.
    pub fn set_strangers(&mut self, most: usize) {
        self.strangers_max = most;
    }

    /// Sets the time between two comparisons of the whole state with a peer's, in milliseconds;
    /// [`SCRUB_MS`](super::limits::SCRUB_MS) unless set.
    pub fn set_scrub(&mut self, every: u64) {
        self.scrub.every = every.max(1);
    }

    /// Says what is due on this node: rows that expired before this time, in milliseconds since
    /// 1970. Until then, and with 0, none are. The members are told.
    pub fn set_horizon(&mut self, horizon: u64) {
        self.horizon = horizon;
    }

    /// Says who belongs to the group: what they are known to have holds the log back, see
    /// [`held_by_all`](Self::held_by_all). Until then the group has no members but this node.
    pub fn set_members(&mut self, members: BTreeSet<Origin>) {
        self.peers
            .retain(|name, peer| peer.connected || members.contains(name));
        self.members = members;
    }

    /// What every member is known to have for good: known from its reports in the life of this
    /// machine, so a member not heard of yet has nothing. Where there is no other member it is
    /// what this node has.
    pub fn held_by_all(&self, replica: &impl Replica) -> VersionVector {
        let mut held = replica.durable().clone();
        for member in self.others() {
            match self.peers.get(&member) {
                Some(peer) => peer.known.meet(&mut held),
                None => return VersionVector::default(),
            }
        }
        held
    }

    /// The members but this node.
    pub(super) fn others(&self) -> impl Iterator<Item = Origin> + '_ {
        let members = self.members.iter().copied();
        members.filter(|member| *member != self.me)
    }

    /// How things stand with every peer.
    pub fn status(&self, replica: &impl Replica) -> Vec<PeerStatus> {
        let ours = replica.durable().get(self.me);
        let status = |(name, peer): (&Origin, &Peer)| PeerStatus {
            peer: *name,
            connected: peer.connected,
            known: peer.known.is_complete(),
            version: peer.known.version(),
            lag: ours.saturating_sub(peer.known.durable(self.me)),
            in_flight: peer.flight.bytes(),
            asked: self.repair.asked_of(*name),
            serving: peer.serve.as_ref().map_or(0, super::push::Serve::origins),
            clock: self.clock_of(*name),
            snapshot: self
                .transfer
                .as_ref()
                .filter(|transfer| transfer.peer == *name)
                .map(|transfer| transfer.count),
        };
        self.peers.iter().map(status).collect()
    }

    /// Takes one input; what is to be done is appended to `out`. `now` is in milliseconds from any
    /// fixed point. It should be a monotonic clock's; of one that is set back, the time that passes
    /// from there on counts.
    pub fn handle<R: Replica>(
        &mut self,
        now: u64,
        input: Input,
        replica: &mut R,
        out: &mut Vec<Output>,
    ) {
        let now = self.clock.advance(now);
        let mut turn = Turn { now, replica, out };
        match input {
            Input::Connected(peer, session) => self.connect(&mut turn, peer, session),
            Input::Disconnected(peer) => self.disconnect(peer),
            Input::Received(peer, message) => {
                if !self.peers.get(&peer).is_some_and(|peer| peer.connected) {
                    return;
                }
                self.receive(&mut turn, peer, message);
                self.settle(&mut turn, Some(peer));
            }
            Input::Tick => {
                self.rewind_stuck(&mut turn);
                self.ask_rights(&mut turn);
                self.check_transfer(&mut turn);
                self.look_after_waiting(&mut turn);
                self.settle_comparison(&mut turn);
                self.ask_clocks(&mut turn);
                self.settle(&mut turn, None);
            }
            Input::Advanced => self.settle(&mut turn, None),
        }
    }

    /// A new random number.
    pub(super) fn draw(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn connect<R: Replica>(&mut self, turn: &mut Turn<'_, R>, name: Origin, session: u64) {
        if name == self.me {
            return;
        }
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&name) {
            return turn.event(Event::PeersFull(name));
        }
        let peer = self.peers.entry(name).or_default();
        peer.connect(session, turn.now);
        if let Some(transfer) = &mut self.transfer {
            transfer.meet_again(turn.now, name);
        }
        self.report(turn, Some(name));
        self.ask_clocks(turn);
    }

    fn disconnect(&mut self, name: Origin) {
        if let Some(peer) = self.peers.get_mut(&name) {
            peer.disconnect();
            if !self.members.contains(&name) {
                self.peers.remove(&name);
            }
        }
    }

    fn receive<R: Replica>(&mut self, turn: &mut Turn<'_, R>, from: Origin, message: Message) {
        match message {
            Message::Operations { before, run } => self.receive_operations(turn, from, before, run),
            Message::Report(report) => self.receive_report(turn, from, &report),
            Message::Want(wanted) => self.receive_want(turn, from, wanted),
            Message::Behind => self.receive_behind(turn, from),
            request @ (Message::PageRequest { .. }
            | Message::BlocksRequest { .. }
            | Message::LinesRequest { .. }
            | Message::BlobRequest { .. }) => self.serve_snapshot(turn, from, request),
            answer @ (Message::Page(_)
            | Message::Blocks { .. }
            | Message::Lines { .. }
            | Message::Blob { .. }
            | Message::Gone(_)) => self.receive_answer(turn, from, answer),
            Message::Ask { filter, wanted } => self.receive_ask(turn, from, filter, wanted),
            Message::History {
                origin,
                durable,
                history,
            } => self.receive_history(turn, from, origin, (durable, &history)),
            Message::TimeQuestion { number } => self.receive_time_question(turn, from, number),
            Message::Time { number, wall } => self.receive_time(turn.now, from, number, wall),
        }
    }

    /// What follows from any input: for one peer after its message, else for all.
    fn settle<R: Replica>(&mut self, turn: &mut Turn<'_, R>, only: Option<Origin>) {
        self.apply_parked(turn);
        self.look_for_lacking(turn);
        self.drive_transfer(turn);
        self.report(turn, only);
        let mut shared = Shared::default();
        match only {
            Some(peer) => self.pump(turn, peer, &mut shared),
            None => {
                let peers: Vec<Origin> = self.peers.keys().copied().collect();
                for peer in peers {
                    self.pump(turn, peer, &mut shared);
                }
            }
        }
    }

    /// Looks what changed of what is said to peers.
    pub(super) fn refresh_mine<R: Replica>(&mut self, turn: &mut Turn<'_, R>) {
        let (aside, replica) = (self.intake.all_aside(), &*turn.replica);
        let mark = |origin, count| replica.mark(origin, count);
        let (applied, durable) = (replica.applied(), replica.durable());
        let changed = self.mine.refresh(applied, durable, aside, mark);
        self.compare_with_all(turn, &changed);
    }
}
