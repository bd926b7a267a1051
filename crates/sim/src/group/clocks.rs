//! Clocks that are wrong while rows have a time to live, and copies that seem to lack rows.
//!
//! What a wall clock says runs much faster here than what drives the machines, so that days pass
//! in a seed: a tenth of a second is half an hour. A clock is set back by up to a year for any time,
//! and once in a node's life it is ahead for less than a day of running time. So no row whose time
//! has not come by the right clock may ever be gone, and every row whose time came days ago
//! must be in the end.
//!
//! Whoever hears members with other clocks makes no such rows. Here the clocks of all are known, so
//! it is looked at each try whether a node that makes one may, and one that refuses must.

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::operation::{Operation, decode, encode_row, encode_rows_of};
use grapevine_core::origin::Origin;
use grapevine_core::sync::limits::CLOCK_INTERVALS;
use grapevine_core::sync::{Off, Page};
use grapevine_store::tables::{TableError, Written};

use super::ledger::Ack;
use super::network::Topic;
use super::node::{Node, Running};
use super::{Checked, Time, World};
use crate::branch::Branch;
use crate::random::Random;

/// How much faster clocks run than simulated time.
const HASTE: u64 = 18_000;
/// What the right clock says at the start of time, in milliseconds since 1970.
const START_MS: u64 = 1_800_000_000_000;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Longest that a clock is ahead, in simulated milliseconds: less than a day of running time.
const AHEAD_MS_MAX: Time = 4000;
/// Time between two questions for a clock.
pub(super) const CLOCK_MS: Time = 2000;
/// Difference from which on clocks differ.
pub(super) const DRIFT_MS: u64 = 30 * MINUTE_MS;
/// Simulated time in which all that a node knows of clocks that stay is of how they are.
const KNOWN_WITHIN_MS: Time = (CLOCK_INTERVALS + 2) * CLOCK_MS;
/// By how much clocks are wrong.
const WRONG_BY_MS: [u64; 5] = [MINUTE_MS, HOUR_MS, 2 * DAY_MS, 30 * DAY_MS, 365 * DAY_MS];
/// Times to live.
const TTL_MS: [u64; 4] = [HOUR_MS, DAY_MS, 3 * DAY_MS, 30 * DAY_MS];
/// Keys of rows with a time to live are the numbers below this, in a table of the others.
const LEASES: u64 = 40;
const TABLE: &[u8] = b"leases";
/// A row that expired so long ago by the right clock must have been removed.
const REMOVED_AFTER_MS: u64 = 3 * DAY_MS;
/// Simulated time that this may take once all nodes are the same.
const REMOVED_WITHIN_MS: Time = 60_000;
/// The section of a snapshot with the rows of tables.
const SECTION_ROWS: u8 = 4;

/// What the right clock says.
pub(super) fn right(now: Time) -> u64 {
    START_MS + now * HASTE
}

/// One node's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct WallClock {
    wrong_by: i64,
    /// Until then, if it is ahead.
    ahead_until: Option<Time>,
    was_ahead: bool,
    /// When it was last set.
    set_at: Time,
}

impl WallClock {
    /// What it says.
    pub(super) fn read(&mut self, now: Time) -> u64 {
        if self.ahead_until.is_some_and(|until| now >= until) {
            self.set_right(now);
        }
        right(now).saturating_add_signed(self.wrong_by)
    }

    /// Time that passed as a monotonic clock counts it.
    pub(super) fn running(now: Time) -> u64 {
        now * HASTE
    }

    /// Each is the other's from now on, unless one is ahead: no directory is under clocks that are
    /// for longer than they may be.
    pub(super) fn swap(&mut self, other: &mut WallClock, now: Time) {
        if self.ahead_until.is_none() && other.ahead_until.is_none() {
            std::mem::swap(&mut self.wrong_by, &mut other.wrong_by);
            (self.set_at, other.set_at) = (now, now);
        }
    }

    fn set_right(&mut self, now: Time) {
        (self.wrong_by, self.ahead_until) = (0, None);
        self.set_at = now;
    }

    fn go_wrong(&mut self, random: &mut Random, now: Time) {
        self.set_at = now;
        let by = random.pick(&WRONG_BY_MS).copied().unwrap_or(HOUR_MS) as i64;
        if random.one_in(2) && !self.was_ahead {
            self.was_ahead = true;
            self.ahead_until = Some(now + 1 + random.below(AHEAD_MS_MAX));
            self.wrong_by = by;
        } else {
            (self.wrong_by, self.ahead_until) = (-by, None);
        }
    }
}

/// One acknowledged row with a time to live.
#[derive(Debug)]
struct Lease {
    ack: Ack,
    version: i64,
    expires: u64,
    /// Its node did not know all others as members: rows of theirs may come later.
    unaware: bool,
}

/// Of a key that has rows with a time to live.
#[derive(Debug, Default)]
struct LeaseHistory {
    acknowledged: Vec<Lease>,
    /// When each row was to expire that somebody tried to put there.
    tried: BTreeSet<u64>,
}

/// What is drawn for clocks, and what must come of it.
#[derive(Debug)]
pub(super) struct Clocks {
    random: Random,
    /// Whether clocks go wrong in this seed.
    wrong: bool,
    /// Whether copies seem to lack rows in this seed.
    unseen: bool,
    /// Of messages that say what clocks show.
    pub(super) network: Random,
    leases: BTreeMap<Vec<u8>, LeaseHistory>,
}

impl Clocks {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x0063_6c6f_636b_7300);
        Clocks {
            wrong: random.one_in(2),
            unseen: random.one_in(4),
            random,
            network: Random::new(seed ^ 0x6e65_7477_6f72_6b00),
            leases: BTreeMap::new(),
        }
    }

    /// A new node may have a clock that is wrong from the start.
    pub(super) fn equip(&mut self, node: &mut Node, now: Time) {
        let seed = self.random.bits();
        node.unseen = self.unseen.then(|| Random::new(seed));
        if self.wrong && self.random.one_in(4) {
            node.wall.go_wrong(&mut self.random, now);
        }
    }

    /// Whether copies seem to lack rows in this seed.
    pub(super) fn hides_rows(&self) -> bool {
        self.unseen
    }

    /// Keeps the acknowledgements that `change` does not take back.
    pub(super) fn each(&mut self, change: &mut impl FnMut(&mut Ack) -> bool) {
        for history in self.leases.values_mut() {
            history
                .acknowledged
                .retain_mut(|lease| change(&mut lease.ack));
        }
    }
}

/// What is left of a page of rows when those that have values are not seen; whether any was.
pub(super) fn without_rows(page: &mut Page) -> bool {
    let (mut rest, mut left, mut any) = (&page.bytes[..], Vec::new(), false);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some((block, after)) = after.split_at_checked(length) else {
            return false;
        };
        rest = after;
        let Ok(Operation::Rows(rows)) = decode(block) else {
            return false;
        };
        let mut kept = Vec::new();
        let mut count = 0;
        encode_rows_of(&mut kept, rows.name, rows.epoch);
        for row in rows.iter() {
            if row.row.is_tombstone() {
                encode_row(&mut kept, row.key, &row.row, row.made_by);
                count += 1;
            } else {
                any = true;
            }
        }
        if count > 0 {
            left.extend_from_slice(&(kept.len() as u32).to_le_bytes());
            left.append(&mut kept);
        }
    }
    page.bytes = left;
    any
}

/// Whether it is a page of rows.
pub(super) fn is_of_rows(page: &Page) -> bool {
    page.section == SECTION_ROWS
}

impl World {
    /// A node's clock goes wrong, or right again.
    pub(super) fn disturb_clocks(&mut self) {
        let clocks = &mut self.ledger.clocks;
        if !clocks.wrong || !clocks.random.one_in(2) {
            return;
        }
        let node = clocks.random.below(self.nodes.len() as u64) as usize;
        let wall = &mut self.nodes[node].wall;
        if clocks.random.one_in(4) {
            wall.set_right(self.now);
        } else {
            wall.go_wrong(&mut clocks.random, self.now);
        }
        let wrong_by = wall.wrong_by;
        self.note(|| format!("wall clock of {node} is wrong by {wrong_by} ms"));
        self.hit(Branch::ClockWrong);
    }

    /// What a node's comparisons came to.
    pub(super) fn note_unseen(&mut self, node: usize) {
        let Some(running) = &mut self.nodes[node].running else {
            return;
        };
        let unseen = std::mem::take(&mut running.replica.unseen_count);
        let again = !running.collections.divergences().is_empty();
        if unseen > 0 {
            self.hit(Branch::RowsUnseen);
        }
        if again {
            self.hit(Branch::RowsWrittenAgain);
        }
    }

    /// All clocks are right again.
    pub(super) fn set_clocks_right(&mut self) {
        for node in &mut self.nodes {
            node.wall.set_right(self.now);
        }
    }

    /// Now and then a row with a time to live is set.
    pub(super) fn change_lease(&mut self, node: usize) -> Checked {
        let clocks = &mut self.ledger.clocks;
        if !self.nodes[node].is_up() || !clocks.random.one_in(6) || self.rows_are_healing(node) {
            return Ok(());
        }
        let clocks = &mut self.ledger.clocks;
        let key = format!("lease-{}", clocks.random.below(LEASES)).into_bytes();
        let ttl = clocks.random.pick(&TTL_MS).copied().unwrap_or(DAY_MS);
        let expires = self.nodes[node].wall.read(self.now).saturating_add(ttl);
        let value = format!("until-{expires}-{}", clocks.random.bits()).into_bytes();
        let collections = self.collections(node);
        self.nodes[node].judge_clock(self.now);
        let set = collections.tables().set(TABLE, &key, &value, Some(expires));
        let refused = match &set {
            Err(TableError::Clock(off)) => Some(*off),
            _ => None,
        };
        if !matches!(set, Ok(Written::NotFound)) {
            self.check_clock(node, refused)?;
        }
        if refused.is_some() {
            self.hit(Branch::LeaseRefused);
            return Ok(());
        }
        let written = set.map_err(|error| format!("set a lease: {error}"))?;
        let Written::Row { version, position } = written else {
            return Ok(());
        };
        let origin = collections.journal().origin();
        let dot = grapevine_core::version::Dot {
            origin,
            sequence: collections.journal().applied().get(origin),
        };
        self.ledger
            .tables
            .put((TABLE, 0), &key, value, dot, version);
        let committed = collections.journal().commit(position);
        committed.map_err(|error| error.to_string())?;
        self.note(|| format!("lease {} {version} until {expires}", key.escape_ascii()));
        let unaware = !self.knows_all_others(node);
        let history = self.ledger.clocks.leases.entry(key).or_default();
        history.tried.insert(expires);
        history.acknowledged.push(Lease {
            ack: Ack::new(node, position, dot),
            version,
            expires,
            unaware,
        });
        Ok(())
    }

    /// A node refused to make a row with a time to live, or made one: it must, or may, by the clocks
    /// of the members that it hears as they are.
    fn check_clock(&mut self, node: usize, refused: Option<Off>) -> Checked {
        let own = self.nodes[node].wall.read(self.now);
        let running = self.nodes[node].running.as_ref();
        let heard = running.map(Running::clocks).unwrap_or_default();
        let (mut surely, mut maybe) = (0, 0);
        for (peer, found) in &heard {
            let Some(truth) = self.settled_offset(node, *peer, own) else {
                maybe += 1;
                continue;
            };
            if found.ahead.abs_diff(truth) > found.uncertainty {
                return Err(format!(
                    "node {node} takes the clock of {peer} to be ahead by {found:?}, it is by {truth}"
                ));
            }
            let differs = truth.unsigned_abs();
            surely += usize::from(differs > DRIFT_MS + 2 * found.uncertainty);
            maybe += usize::from(differs > DRIFT_MS);
        }
        match refused {
            None if surely * 2 > heard.len() => Err(format!(
                "node {node} made a row that expires though its clock is off: {heard:?}"
            )),
            Some(off) if maybe * 2 <= heard.len() => Err(format!(
                "node {node} refused a row that expires though its clock is not off: {off:?}, {heard:?}"
            )),
            _ => Ok(()),
        }
    }

    /// By how much the clock of a peer is ahead of `own`, if it stayed as it is for so long that
    /// whoever hears it knows.
    fn settled_offset(&mut self, node: usize, peer: Origin, own: u64) -> Option<i64> {
        let is_peer = |other: &usize| {
            let named = self.nodes[*other].name(Topic::Group) == Some(peer);
            named && self.network.connection(node, *other).is_some()
        };
        let other = (0..self.nodes.len()).find(is_peer)?;
        let wall = &mut self.nodes[other].wall;
        let theirs = wall.read(self.now);
        let settled = self.now >= wall.set_at + KNOWN_WITHIN_MS;
        settled.then(|| theirs.wrapping_sub(own).cast_signed())
    }

    /// Once all clocks are right, every node hears those of all members that it is connected to,
    /// and takes its own for right.
    pub(super) fn see_clocks_agree(&mut self) -> Checked {
        let known = self.now + KNOWN_WITHIN_MS;
        self.run_until(|world| world.now >= known)?;
        for node in (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_up())
            .collect::<Vec<_>>()
        {
            self.nodes[node].judge_clock(self.now);
            self.check_clock_is_right(node)?;
        }
        Ok(())
    }

    fn check_clock_is_right(&self, node: usize) -> Checked {
        let Some(running) = &self.nodes[node].running else {
            return Ok(());
        };
        let members = running.collections.members();
        let heard: BTreeSet<Origin> = running.clocks().iter().map(|(peer, _)| *peer).collect();
        for connection in self.network.connections_of(node) {
            let name = self.nodes[connection.other(node)].name(Topic::Group);
            let is_member = |origin| members.joined().any(|(_, member)| member.origin == origin);
            if let Some(name) = name.filter(|name| is_member(*name) && !heard.contains(name)) {
                return Err(format!("node {node} does not know the clock of {name}"));
            }
        }
        match running.off() {
            Some(off) => Err(format!("all clocks are right, and node {node} says: {off}")),
            None => Ok(()),
        }
    }

    /// No row is gone whose time has not come by the right clock, unless another took its place and
    /// that one's time has come. As with other rows, it has to be where its operation is, and with
    /// `all` wherever it may be.
    pub(super) fn check_leases(&self, node: usize, all: bool) -> Checked {
        if !all && self.rows_are_healing(node) {
            return Ok(());
        }
        let collections = self.collections(node);
        let applied = self.applied(node);
        let now = right(self.now);
        for (key, history) in &self.ledger.clocks.leases {
            let row = collections.tables().find(TABLE, key);
            let row = row.map_err(|error| format!("node {node}: {error}"))?;
            if row.is_none() && history.tried.first().is_some_and(|first| *first <= now) {
                continue;
            }
            for Lease {
                ack,
                version,
                expires,
                unaware,
            } in &history.acknowledged
            {
                let must = ack.binds(node) || applied.covers(ack.dot) || (all && ack.is_safe());
                // A directory that was made anew may have one that was written before it, and so may
                // who was no member yet when it expired.
                let over = (self.tampering.ambiguous || *unaware) && *expires <= now;
                if must && !over && row.as_ref().is_none_or(|row| row.version < *version) {
                    return Err(format!(
                        "node {node} has {row:?} at {}, version {version} was to live until \
                         {expires}, it is {now}: {ack:?}",
                        key.escape_ascii()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Lets days pass, and looks that what expired long ago is removed.
    pub(super) fn see_expired_rows_go(&mut self) -> Checked {
        if !self.all_members_run() {
            return Ok(());
        }
        let (started, deadline) = (self.now, self.now + REMOVED_WITHIN_MS);
        let mut left = None;
        while self.now < deadline {
            let look = self.now + 1000;
            self.run_until(|world| world.now >= look)?;
            left = self.expired_row(right(started))?;
            if left.is_none() {
                return Ok(());
            }
        }
        left.map_or(Ok(()), |left| Err(format!("never removed: {left}")))
    }

    /// Whether every member that others wait for is one of the nodes that run.
    fn all_members_run(&self) -> bool {
        let running = self.nodes.iter().filter_map(|node| node.running.as_ref());
        let origins: BTreeSet<Origin> = running.map(|running| running.origin).collect();
        let up = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up());
        up.into_iter().all(|node| {
            let members = self.collections(node).members();
            members
                .joined()
                .all(|(_, member)| origins.contains(&member.origin))
        })
    }

    /// A row that should have been removed at the time `by`.
    fn expired_row(&self, by: u64) -> Result<Option<String>, String> {
        for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up()) {
            let collections = self.collections(node);
            let page = collections
                .tables()
                .page_of_all(TABLE, b"", usize::MAX, usize::MAX);
            let page = page.map_err(|error| format!("node {node}: {error}"))?;
            let rows = page.map(|page| page.rows).unwrap_or_default();
            let old = |at: u64| at.saturating_add(REMOVED_AFTER_MS) < by;
            let found = rows.iter().find(|(_, row)| row.expires.is_some_and(old));
            if let Some((key, row)) = found {
                return Ok(Some(format!("{node} has {} {row:?}", key.escape_ascii())));
            }
        }
        Ok(None)
    }
}
