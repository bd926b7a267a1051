//! One node of a group: its disk, its collections, its machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use grapevine_core::group::{Detector, Protocol, Settings, Targets};
use grapevine_core::group::{Input as GroupInput, Output as GroupOutput};
use grapevine_core::membership::NodeId;
use grapevine_core::origin::Origin;
use grapevine_core::sync::{Input, Machine, Off, Offset, Output, Stable};
use grapevine_core::table::horizon::{SLOT_MS, SLOTS};
use grapevine_core::version::VersionVector;
use grapevine_core::wire::group::Greeting;
use grapevine_store::collections::{Collections, MemoryExchange};
use grapevine_store::disk::SimulatedDisk;
use grapevine_store::filters::Options;

use super::clocks::{CLOCK_MS, DRIFT_MS, WallClock};
use super::histories::Copy;
use super::members::Configuration;
use super::memory::Bound;
use super::mutant::{GroupMutation, Mutant, forget_draws};
use super::network::{Connection, Topic};
use super::protocol::View;
use super::{Checked, Time};
use crate::node::{self, Mutation};
use crate::random::Random;

/// Log kept for members that are away, in bytes: little, so that snapshots are needed.
const LOG_KEPT_BYTES: u64 = 6 << 10;

/// Time between two comparisons of the whole state: short, so that they meet everything else.
const SCRUB_MS: u64 = 15_000;

/// Ticks of 100 ms after which rows that are gone are removed.
const COLLECT_TICKS: u64 = 10;

/// Ticks after which connections are looked at.
const LOOK_TICKS: u64 = 10;

/// Ticks after which what is known of clocks is kept.
const WRITE_TICKS: u64 = 16;

/// What a clock says at the start of time: late enough to be set back many times.
const CLOCK_START_MS: Time = 1 << 40;

/// A node, running or not.
pub(super) struct Node {
    pub(super) disk: SimulatedDisk,
    pub(super) options: Options,
    pub(super) drawn: Arc<AtomicU64>,
    pub(super) seed: u64,
    /// Counts its starts: what was planned for an earlier life does not happen.
    pub(super) life: u64,
    /// By how much its clock is ahead of simulated time, in milliseconds.
    pub(super) ahead: i64,
    /// The latest time that it showed.
    clock_max: Time,
    /// What its rows with a time to live go by.
    pub(super) wall: WallClock,
    /// Draws when copies that it compares itself with seem to lack rows.
    pub(super) unseen: Option<Random>,
    pub(super) configuration: Configuration,
    pub(super) mutation: GroupMutation,
    /// It left for good.
    pub(super) left: bool,
    pub(super) running: Option<Running>,
    /// A copy of its directory that it may be set back to.
    pub(super) copy: Option<Copy>,
    /// How often its directory was made anew.
    pub(super) renewals: u64,
    /// Peers that it found to have another history of an origin, and of which; two may have one name.
    pub(super) parted: BTreeSet<(usize, Origin, Origin)>,
    /// A backup of it as a disk, with the time it was taken.
    pub(super) backup: Option<(SimulatedDisk, Time)>,
    pub(super) start_planned: bool,
    pub(super) sync_planned: bool,
    /// Ticks of its machine.
    ticks: u64,
    /// Rows that it removed since this was asked.
    pub(super) removed: u64,
    /// What its filters may take.
    pub(super) bound: Bound,
}

/// A node that runs.
pub(super) struct Running {
    pub(super) collections: Arc<Collections>,
    pub(super) origin: Origin,
    pub(super) settings: Settings,
    pub(super) protocol: Protocol,
    pub(super) detector: Detector,
    /// What it says to whoever comes.
    pub(super) greeting: Greeting,
    /// Whom it calls.
    pub(super) targets: Targets,
    /// Nodes to which it is connected, with the keys that they have.
    pub(super) sessions: BTreeMap<usize, (Connection, NodeId)>,
    /// Those of its connections in which operations flow.
    open: BTreeSet<u64>,
    machine: Machine,
    pub(super) replica: Mutant,
    /// Of the filters that are kept in memory.
    memory: (Machine, MemoryExchange),
}

impl Running {
    /// Gives its protocol an input.
    pub(super) fn drive_group(
        &mut self,
        now: Time,
        input: GroupInput,
        mutation: GroupMutation,
        out: &mut Vec<GroupOutput>,
    ) {
        self.replica.refresh();
        let mut view = View {
            collections: &self.collections,
            machine: &self.machine,
            replica: &self.replica,
            mutation,
        };
        self.protocol.handle(now, input, &mut view, out);
    }

    pub(super) fn set_members(&mut self, members: BTreeSet<Origin>) {
        self.machine.set_members(members);
    }

    /// Operations flow in a connection from now on.
    pub(super) fn open(&mut self, connection: u64) {
        self.open.insert(connection);
    }

    pub(super) fn is_open(&self, connection: Connection) -> bool {
        self.open.contains(&connection.number)
    }

    /// The connection to a member in which operations flow.
    pub(super) fn channel_to(&self, peer: NodeId) -> Option<(usize, Connection)> {
        let mut sessions = self.sessions.iter();
        let found = sessions.find(|(_, (connection, id))| *id == peer && self.is_open(*connection));
        found.map(|(other, (connection, _))| (*other, *connection))
    }

    /// What most members have for good, with the histories that are here.
    pub(super) fn held_by_most(&self) -> VersionVector {
        self.machine.held_by_most()
    }

    /// The clocks of the members that it hears.
    pub(super) fn clocks(&self) -> Vec<(Origin, Offset)> {
        self.machine.clocks().collect()
    }

    /// How its clock is off from those.
    pub(super) fn off(&self) -> Option<Off> {
        self.machine.off()
    }
}

impl Node {
    pub(super) fn new(random: &mut Random, mutation: GroupMutation, join: BTreeSet<usize>) -> Self {
        let mut options = node::options(random);
        options.log.segment_size = 512 << random.below(4);
        let seed = random.bits();
        let bound = Bound::new(seed);
        options.memory = bound.first();
        Node {
            disk: SimulatedDisk::new(),
            options,
            drawn: Arc::default(),
            seed,
            life: 0,
            ahead: 0,
            clock_max: 0,
            wall: WallClock::default(),
            unseen: None,
            configuration: Configuration::new(seed % 0x1_0000, join),
            mutation,
            left: false,
            running: None,
            backup: None,
            copy: None,
            renewals: 0,
            parted: BTreeSet::new(),
            start_planned: false,
            sync_planned: false,
            ticks: 0,
            removed: 0,
            bound,
        }
    }

    /// Each runs on the other's machine from now on.
    pub(super) fn swap_machines(&mut self, other: &mut Node, now: Time) {
        std::mem::swap(&mut self.ahead, &mut other.ahead);
        std::mem::swap(&mut self.clock_max, &mut other.clock_max);
        std::mem::swap(&mut self.bound, &mut other.bound);
        self.wall.swap(&mut other.wall, now);
    }

    pub(super) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Its key, while it runs.
    pub(super) fn id(&self) -> Option<NodeId> {
        self.running.as_ref().map(|running| running.settings.node)
    }

    /// Opens the directory; the node runs from here on, as the one with this number.
    pub(super) fn open(
        &mut self,
        number: usize,
        now: Time,
        random: &mut Random,
    ) -> Result<(), String> {
        let started = self.clock(now);
        let entropy = node::entropy(self.seed, &self.drawn);
        let fault = match self.mutation {
            GroupMutation::LogTruncatedEarly => Mutation::ManifestForgotten,
            _ => Mutation::None,
        };
        let opened = node::open(&self.disk, fault, self.options, entropy);
        let (collections, _) = opened.map_err(|error| error.to_string())?;
        let collections = Arc::new(collections);
        if self.mutation == GroupMutation::DrawsForgotten {
            forget_draws(collections.filters());
        }
        let origin = collections.filters().identity().origin;
        let mut machine = Machine::new(origin, random.bits());
        machine.set_scrub(SCRUB_MS);
        machine.set_clock_interval(CLOCK_MS);
        machine.set_drift(DRIFT_MS);
        let life = collections.filters().memory_stream().life();
        let mut memory = Machine::new(life, random.bits());
        memory.set_scrub(SCRUB_MS);
        self.life += 1;
        let replica = Mutant::new(Arc::clone(&collections), self.mutation, self.unseen.clone());
        let settings = self.configuration.settings(number, &collections);
        let view = View {
            collections: &collections,
            machine: &machine,
            replica: &replica,
            mutation: self.mutation,
        };
        self.running = Some(Running {
            origin,
            protocol: Protocol::new(settings.clone(), &view),
            greeting: settings.greeting(collections.group()),
            // As the program does: the clock may have been set back since its last start.
            detector: Detector::new(settings.node, started, settings.node.bytes()[0].into()),
            settings,
            targets: Targets::default(),
            sessions: BTreeMap::new(),
            open: BTreeSet::new(),
            machine,
            replica,
            memory: (memory, MemoryExchange::new(Arc::clone(&collections))),
            collections,
        });
        Ok(())
    }

    /// Makes everything appended durable.
    pub(super) fn sync(&mut self) -> Checked {
        self.sync_planned = false;
        let Some(running) = &self.running else {
            return Ok(());
        };
        // A disk that refuses makes the node read-only; it says so itself.
        drop(running.collections.journal().sync());
        Ok(())
    }

    /// What its clock says.
    pub(super) fn clock(&mut self, now: Time) -> Time {
        let clock = (CLOCK_START_MS + now).saturating_add_signed(self.ahead);
        self.clock_max = self.clock_max.max(clock);
        match self.mutation {
            GroupMutation::ClockStandsStill => self.clock_max,
            _ => clock,
        }
    }

    /// Gives the machine an input; gives what it wants done.
    pub(super) fn handle(&mut self, now: Time, topic: Topic, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.look_at_clocks(now);
        let now = self.clock(now);
        match (&mut self.running, topic) {
            (Some(running), Topic::Group) => {
                running.replica.refresh();
                running
                    .machine
                    .handle(now, input, &mut running.replica, &mut out);
            }
            (Some(running), Topic::Memory) => {
                let (machine, exchange) = &mut running.memory;
                exchange.refresh();
                machine.handle(now, input, exchange, &mut out);
            }
            (None, _) => {}
        }
        out
    }

    /// Lets its machine know what its clocks show.
    fn look_at_clocks(&mut self, now: Time) {
        let wall = self.wall.read(now);
        if let Some(running) = &mut self.running {
            running.machine.set_clocks(wall, WallClock::running(now));
        }
    }

    /// Looks whether its clock is off from those of others, and lets its tables know.
    pub(super) fn judge_clock(&mut self, now: Time) {
        self.look_at_clocks(now);
        if let Some(running) = &self.running {
            let off = match self.mutation {
                GroupMutation::OwnClockTrusted => None,
                _ => running.machine.off(),
            };
            running.collections.tables().set_off(off);
        }
    }

    /// What its peers call its machine of a topic, while it runs.
    pub(super) fn name(&self, topic: Topic) -> Option<Origin> {
        let running = self.running.as_ref()?;
        Some(match topic {
            Topic::Group => running.origin,
            Topic::Memory => running.collections.filters().memory_stream().life(),
        })
    }

    /// Tells the collections how much log to keep, and removes rows that are gone.
    pub(super) fn keep_and_collect(&mut self, now: Time) -> Checked {
        let clock = self.clock(now);
        self.read_wall_clock(now)?;
        self.judge_clock(now);
        self.ticks += 1;
        let collects = self.ticks.is_multiple_of(COLLECT_TICKS);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let held = running.machine.held_by_all(&running.replica);
        running.collections.keep_for(&held, LOG_KEPT_BYTES);
        if !collects {
            return Ok(());
        }
        let stable = match self.mutation {
            GroupMutation::RowsRemovedAtOnce => Some(Stable {
                version: running.collections.journal().applied(),
                members: running.protocol.members(),
                horizon: running.collections.tables().horizon(),
                at_rest: false,
            }),
            _ => running.machine.stable(clock, &running.replica),
        };
        if let Some(mut stable) = stable {
            if self.mutation == GroupMutation::RowsRemovedByOneClock {
                stable.horizon = u64::MAX;
            }
            let removed = running.collections.tables().collect(&stable);
            self.removed += removed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Takes note of the clocks, and now and then keeps that.
    fn read_wall_clock(&mut self, now: Time) -> Checked {
        let wall = self.wall.read(now);
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let tables = running.collections.tables();
        let ran = WallClock::running(now);
        let over = tables.read_clocks(wall, ran);
        if self.mutation == GroupMutation::RowsRemovedByOneClock {
            // As if the clock had said so for a day.
            for later in 1..=SLOTS as u64 {
                tables.read_clocks(wall, ran + later * SLOT_MS);
            }
        }
        running.machine.set_horizon(tables.horizon());
        if over && self.ticks.is_multiple_of(WRITE_TICKS) {
            // A disk that refuses makes the node read-only; it says so itself.
            drop(tables.flush());
        }
        Ok(())
    }

    /// The state of its machine, for whoever looks at a seed that failed.
    pub(super) fn machine_text(&self) -> String {
        let running = self.running.as_ref();
        running.map_or_else(String::new, |running| {
            format!("{:?} {:?}", running.machine, running.memory.0)
        })
    }

    /// The last trouble the exchange met.
    pub(super) fn take_trouble(&mut self) -> Option<String> {
        let running = self.running.as_mut()?;
        let memory = running.memory.1.take_trouble();
        running.replica.take_trouble().or(memory)
    }

    /// Whether it is time to look at the connections.
    pub(super) fn looks(&self) -> bool {
        self.ticks.is_multiple_of(LOOK_TICKS)
    }

    /// Anything appended that is not durable.
    pub(super) fn needs_sync(&self) -> bool {
        self.running.as_ref().is_some_and(|running| {
            let journal = running.collections.journal();
            journal.synced() < journal.appended() && journal.read_only().is_none()
        })
    }
}
