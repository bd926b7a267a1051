//! What a machine keeps for each peer.

use std::collections::BTreeMap;

use super::drift::PeerClock;
use super::limits::{RETIRED_MS, SERVE_PERIOD_MS, SERVED_BYTES_MAX};
use super::push::{Flight, Push, Serve};
use super::versions::Known;
use crate::origin::Origin;

/// One peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) connected: bool,
    /// This side's number of the connection.
    pub(super) session: u64,
    /// The other side's number, as it last said; 0 before.
    pub(super) heard: u64,
    /// The other side's number that `known` belongs to; 0 before the first that named ours.
    pub(super) theirs: u64,
    /// The one before that, and until when what comes from it is taken as old. Not for ever: if a
    /// report came so late that the wrong one was taken for the newer, that mends itself.
    pub(super) retired: Option<(u64, u64)>,
    /// Of the last report sent in this session.
    pub(super) stamp: u64,
    /// What it has.
    pub(super) known: Known,
    /// Whether its summary showed that `known` is not what it has.
    pub(super) doubt: bool,
    /// When a report last showed that `known` is exactly what it has.
    pub(super) confirmed_at: Option<u64>,
    /// What that report said is due there: rows that expired before this time.
    pub(super) horizon: u64,
    /// Bytes it wants in flight at most.
    pub(super) window: u32,
    /// Its number of own operations of ours beyond those there are, once that was reported.
    pub(super) unknown: u64,
    /// Origins of which it has another history, with how many operations both have in common once
    /// that is known.
    pub(super) forks: BTreeMap<Origin, Option<u64>>,
    /// The last of those that it was told again.
    pub(super) fork_told: Option<Origin>,
    pub(super) reports: Reports,
    pub(super) owed: Owed,
    pub(super) push: Push,
    pub(super) serve: Option<Serve>,
    pub(super) flight: Flight,
    /// Whether reading for repair goes before own operations this turn.
    pub(super) serve_first: bool,
    /// When it was last told that the log does not reach back far enough.
    pub(super) told_behind_at: Option<u64>,
    /// Until then it is asked only if nobody else can be: it did not deliver.
    pub(super) distrust_until: u64,
    /// Until then its log is taken not to reach back far enough.
    pub(super) behind_until: u64,
    pub(super) budget: Budget,
    pub(super) clock: PeerClock,
}

impl Peer {
    /// Begins a new session; what the peer has stays known until it says anew.
    pub(super) fn connect(&mut self, session: u64, now: u64) {
        let known = std::mem::take(&mut self.known);
        *self = Peer {
            connected: true,
            session,
            known,
            distrust_until: self.distrust_until,
            reports: Reports {
                due_at: now,
                ..Reports::default()
            },
            ..Peer::default()
        };
    }

    /// Ends the session.
    pub(super) fn disconnect(&mut self) {
        let known = std::mem::take(&mut self.known);
        *self = Peer {
            known,
            distrust_until: self.distrust_until,
            ..Peer::default()
        };
    }

    /// The other side is in a new session: nothing of the old one holds.
    pub(super) fn renew(&mut self, now: u64, theirs: u64) {
        if self.theirs != 0 {
            self.retired = Some((self.theirs, now + RETIRED_MS));
        }
        self.theirs = theirs;
        self.known = Known::default();
        self.doubt = false;
        self.confirmed_at = None;
        self.horizon = 0;
        self.unknown = 0;
        self.forks.clear();
        self.reports.told = None;
        self.told_behind_at = None;
        self.behind_until = 0;
        self.forget_sent();
    }

    /// What was sent may not have come: begin again from what the peer is known to have.
    pub(super) fn forget_sent(&mut self) {
        self.push = Push::default();
        self.serve = None;
        self.flight.clear();
    }

    /// Whether a report from this session of the other side is old.
    pub(super) fn is_retired(&self, now: u64, session: u64) -> bool {
        self.retired
            .is_some_and(|(retired, until)| retired == session && now < until)
    }

    /// Whether what it has is known well enough to send to it and ask it.
    pub(super) fn is_ready(&self) -> bool {
        self.connected && self.theirs != 0 && self.known.is_complete()
    }
}

/// When this peer is told what this node has.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Time of the next periodic report.
    pub(super) due_at: u64,
    /// The peer asked for everything.
    pub(super) asked: bool,
    /// When everything was last told.
    pub(super) full_at: Option<u64>,
    /// Revision of what was told last; everything was told in this session before it.
    pub(super) told: Option<u64>,
    /// When the peer was last asked for everything.
    pub(super) question_at: Option<u64>,
}

/// Acknowledgements owed to a peer.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Origins whose operations it sent, with what was acknowledged of them (durable, received),
    /// until that is all there is.
    pub(super) origins: BTreeMap<Origin, Option<(u64, u64)>>,
    /// Bytes received since the last acknowledgement.
    pub(super) bytes: usize,
    /// When the last one was sent.
    pub(super) sent_at: u64,
}

/// Bytes of snapshot served to a peer in the present period.
#[derive(Debug, Default)]
pub(super) struct Budget {
    since: u64,
    bytes: usize,
}

impl Budget {
    /// Whether an answer may be made; `bytes` are counted if so.
    pub(super) fn spend(&mut self, now: u64, bytes: usize) -> bool {
        if now.saturating_sub(self.since) >= SERVE_PERIOD_MS {
            *self = Budget {
                since: now,
                bytes: 0,
            };
        }
        if self.bytes >= SERVED_BYTES_MAX {
            return false;
        }
        self.bytes = self.bytes.saturating_add(bytes);
        true
    }
}
