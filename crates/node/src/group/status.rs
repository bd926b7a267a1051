//! How the group is, as of a moment ago: what the API, the commands and the metrics tell.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use grapevine_core::membership::MemberState;
use grapevine_core::origin::Origin;
use grapevine_core::sync::{Off, Offset, Seconds};

use grapevine_core::group::Liveness;
use grapevine_net::PeerKey;

/// Members that are named because their clocks differ.
const CLOCKS_SHOWN_MAX: usize = 10;

/// The group as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The group's id, in hexadecimal.
    pub id: String,
    /// Its configured name.
    pub name: String,
    /// Whether this node has ever met another member.
    pub met: bool,
    /// Whether this node has left and waits to be joined to a group.
    pub left: bool,
    /// Why another node did not take this one in, while nobody has.
    pub refused: Option<String>,
    /// This node's key.
    pub me: PeerKey,
    /// All members, those that left included, this node among them; by key.
    pub members: Vec<MemberStatus>,
    /// What members lacked that should have had it, since this node started.
    pub divergences: Vec<Divergence>,
    /// This node's wall clock against the members'.
    pub clock: Clock,
}

/// A node's wall clock against those of the members that it hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Clocks differ beyond so many milliseconds (`limits.clock_drift`).
    pub bound: u64,
    /// How it is off from most of them, while it is.
    pub off: Option<Off>,
}

impl Clock {
    /// That a member's clock differs, for people.
    pub(super) fn note(self, name: &str, offset: Offset) -> Option<String> {
        let by = Seconds(offset.ahead);
        offset
            .exceeds(self.bound)
            .then(|| format!("the clock of {name} is {by} this node's"))
    }
}

/// Something that a member lacked although it has the same operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The member's name.
    pub member: String,
    /// `table` or `filter`.
    pub kind: &'static str,
    /// The collection's name, printable.
    pub name: String,
    /// Rows of the table, or how often the filter was lacking.
    pub count: u64,
    /// Milliseconds since it was last seen.
    pub since_ms: u64,
}

impl Divergence {
    /// How long people are told of it, in milliseconds.
    const TOLD_MS: u64 = 24 * 3600 * 1000;

    /// For people, as long as it is news.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let Divergence {
            member,
            kind,
            name,
            count,
            ..
        } = self;
        (self.since_ms < Self::TOLD_MS).then(|| match *kind {
            "table" => format!(
                "{member} lacked {count} rows of table {name} that it had been given; they were \
                 written again: check its disk and the history of its data directory"
            ),
            _ => format!(
                "{member} lacks filter {name}, which it had been given; it is kept here: check its \
                 disk and the history of its data directory"
            ),
        })
    }
}

/// A member as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its key.
    pub key: PeerKey,
    /// Its name.
    pub name: String,
    /// The origin of its operations.
    pub origin: Origin,
    /// Where it can be reached.
    pub addresses: Vec<String>,
    /// The version of its program.
    pub software: String,
    /// Whether it belongs to the group.
    pub state: MemberState,
    /// Whether it answers.
    pub liveness: Liveness,
    /// Milliseconds for which it has been so; none while nothing is known.
    pub since_ms: Option<u64>,
    /// The session with it.
    pub link: Option<Link>,
}

/// A session with a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it is.
    pub remote: String,
    /// Whether this node called.
    pub dialed: bool,
    /// Whether all of what it has is known, so that the figures below are whole.
    pub known: bool,
    /// Durable operations here that it has not got.
    pub to_send: u64,
    /// Operations it has that are not here.
    pub to_receive: u64,
    /// Bytes of operations on their way to it.
    pub in_flight: u64,
    /// Bytes that wait in its queue.
    pub waiting: u64,
    /// Origins of which it has other operations than this node: what is known of them is kept
    /// apart.
    pub forks: u64,
    /// How its clock stands to this node's, if that is known.
    pub clock: Option<Offset>,
    /// Lines taken so far by a snapshot that is being taken from it.
    pub snapshot_lines: Option<u64>,
}

impl Link {
    /// Whether both have the same.
    #[must_use]
    pub fn in_step(&self) -> bool {
        self.known && self.to_send == 0 && self.to_receive == 0 && self.forks == 0
    }
}

impl Status {
    /// Those that belong to the group, but for this node.
    pub fn others(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members
            .iter()
            .filter(|member| member.state == MemberState::Joined && member.key != self.me)
    }

    /// What people should know although the node works.
    pub fn notes(&self) -> impl Iterator<Item = String> + '_ {
        let forks = self.forks();
        let forked = (forks > 0).then(|| {
            format!(
                "other members have other operations of {forks} origins than this node; see the \
                 log and `grapevine group status`"
            )
        });
        let divergences = self.divergences.iter();
        let notes = divergences.filter_map(Divergence::note).chain(forked);
        notes.chain(self.clock_notes())
    }

    /// That this node's clock is off, else whose clocks differ from it: from one that is off many do.
    fn clock_notes(&self) -> impl Iterator<Item = String> + '_ {
        let off = self.clock.off.map(|off| off.to_string());
        let differing = self.others().filter_map(|member| {
            let offset = member.link.as_ref()?.clock?;
            self.clock.note(&member.name, offset)
        });
        let most = if off.is_some() { 0 } else { CLOCKS_SHOWN_MAX };
        off.into_iter().chain(differing.take(most))
    }

    /// Origins of which another member has other operations than this node, each counted for each
    /// such member.
    #[must_use]
    pub fn forks(&self) -> u64 {
        let links = self.others().filter_map(|member| member.link.as_ref());
        links.map(|link| link.forks).sum()
    }

    /// How many have the same as this node, itself included.
    #[must_use]
    pub fn in_step(&self) -> usize {
        let links = self.others().filter_map(|member| member.link.as_ref());
        1 + links.filter(|link| link.in_step()).count()
    }
}

/// What the group's thread has counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Frames that were given to the transport.
    pub frames_sent: AtomicU64,
    /// Messages dropped because a peer's queue was full.
    pub dropped: AtomicU64,
    /// Snapshots taken from a peer.
    pub snapshots_taken: AtomicU64,
    /// Times a peer was told that only a snapshot helps.
    pub snapshots_served: AtomicU64,
    /// Times operations that were missing were asked for.
    pub repairs: AtomicU64,
    /// Peers that do not belong to this group.
    pub refused: AtomicU64,
    /// Frames passed over because only a newer version knows their kind.
    pub passed_over: AtomicU64,
}

impl Counts {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Relaxed);
    }
}

/// The last status, for everybody who asks.
#[derive(Debug)]
pub(super) struct Board {
    status: Mutex<Arc<Status>>,
    pub(super) counts: Counts,
}

impl Board {
    pub(super) fn new(status: Status) -> Self {
        Board {
            status: Mutex::new(Arc::new(status)),
            counts: Counts::default(),
        }
    }

    pub(super) fn show(&self, status: Status) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(status);
    }

    pub(super) fn read(&self) -> Arc<Status> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&status)
    }
}
