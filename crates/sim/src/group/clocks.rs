//! Clocks that are wrong while rows have a time to live, and copies that seem to lack rows.
//!
//! What a wall clock says runs much faster here than what drives the machines, so that days pass
//! in a seed: a tenth of a second is half an hour. A clock is set back by up to a year for any time,
//! and once in a node's life it is ahead for less than a day of running time. So no row whose time
//! has not come by the right clock may ever be gone, and every row whose time came days ago
//! must be in the end.

use std::collections::{BTreeMap, BTreeSet};

use grapevine_core::operation::{Operation, decode, encode_row, encode_rows_of};
use grapevine_core::origin::Origin;
use grapevine_core::sync::Page;
use grapevine_store::tables::Written;

use super::ledger::Ack;
use super::node::Node;
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
}

impl WallClock {
    /// What it says.
    pub(super) fn read(&mut self, now: Time) -> u64 {
        if self.ahead_until.is_some_and(|until| now >= until) {
            self.set_right();
        }
        right(now).saturating_add_signed(self.wrong_by)
    }

    /// Time that passed as a monotonic clock counts it.
    pub(super) fn running(now: Time) -> u64 {
        now * HASTE
    }

    fn set_right(&mut self) {
        (self.wrong_by, self.ahead_until) = (0, None);
    }

    fn go_wrong(&mut self, random: &mut Random, now: Time) {
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
    leases: BTreeMap<Vec<u8>, LeaseHistory>,
}

impl Clocks {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x0063_6c6f_636b_7300);
        Clocks {
            wrong: random.one_in(2),
            unseen: random.one_in(4),
            random,
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
        encode_rows_of(&mut kept, rows.name);
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
            wall.set_right();
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
            node.wall.set_right();
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
        let set = collections.tables().set(TABLE, &key, &value, Some(expires));
        let written = set.map_err(|error| format!("set a lease: {error}"))?;
        let Written::Row { version, position } = written else {
            return Ok(());
        };
        let origin = collections.journal().origin();
        let dot = grapevine_core::version::Dot {
            origin,
            sequence: collections.journal().applied().get(origin),
        };
        self.ledger.tables.put(TABLE, &key, value, dot, version);
        let committed = collections.journal().commit(position);
        committed.map_err(|error| error.to_string())?;
        self.note(|| format!("lease {} {version} until {expires}", key.escape_ascii()));
        let history = self.ledger.clocks.leases.entry(key).or_default();
        history.tried.insert(expires);
        history.acknowledged.push(Lease {
            ack: Ack::new(node, position, dot),
            version,
            expires,
        });
        Ok(())
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
            } in &history.acknowledged
            {
                let must = ack.binds(node) || applied.covers(ack.dot) || (all && ack.is_safe());
                if must && row.as_ref().is_none_or(|row| row.version < *version) {
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
