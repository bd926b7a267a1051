//! The group's figures.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::figures::Figures;
use crate::group::{Group, Link, MemberStatus, Status};

/// Members that get figures of their own; of a group with more, the first by key.
const MEMBERS_MAX: usize = 1000;

/// Reads the figures.
pub(super) struct GroupState(Arc<Group>);

impl GroupState {
    pub(super) fn new(group: Arc<Group>) -> Self {
        GroupState(group)
    }
}

impl fmt::Debug for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupState").finish_non_exhaustive()
    }
}

impl Collector for GroupState {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut figures = Figures::new(encoder);
        self.members(&mut figures)?;
        self.counters(&mut figures)
    }
}

type LinkFigure = (&'static str, &'static str, fn(&Link) -> u64);

const LINK_GAUGES: [LinkFigure; 4] = [
    (
        "grapevine_group_lag_operations",
        "Operations here that the member has not got",
        |link| link.to_send,
    ),
    (
        "grapevine_group_behind_operations",
        "Operations of the member that are not here",
        |link| link.to_receive,
    ),
    (
        "grapevine_group_in_flight_bytes",
        "Bytes of operations on their way to the member",
        |link| link.in_flight,
    ),
    (
        "grapevine_group_forks",
        "Origins of which the member has other operations than this node",
        |link| link.forks,
    ),
];

#[expect(
    clippy::cast_precision_loss,
    reason = "at most 2^53, which a float has exactly"
)]
fn clocks(figures: &mut Figures<'_>, status: &Status, peers: &[Peer<'_>]) -> fmt::Result {
    figures.gauge(
        "grapevine_group_clock_off",
        "1: this node's clock is off from most members it hears; rows with a time to live are refused",
        u64::from(status.clock.off.is_some()),
    )?;
    let known = peers
        .iter()
        .filter_map(|peer| Some((peer.labels(), peer.link.clock?.ahead as f64 / 1000.0)));
    figures.gauges_of(
        "grapevine_group_clock_ahead_seconds",
        "By how much the member's clock is ahead of this node's; negative: behind",
        known,
    )
}

/// A member that is connected. Its name is the one that it has now: no figure is kept under a name
/// that it had before.
struct Peer<'s> {
    key: String,
    name: &'s str,
    link: &'s Link,
}

impl<'s> Peer<'s> {
    fn of(member: &'s MemberStatus) -> Option<Self> {
        Some(Peer {
            key: member.key.to_string(),
            name: &member.name,
            link: member.link.as_ref()?,
        })
    }

    fn labels(&self) -> [(&'static str, &str); 2] {
        [("member", &self.key), ("name", self.name)]
    }
}

impl GroupState {
    fn members(&self, figures: &mut Figures<'_>) -> fmt::Result {
        let status = self.0.status();
        let others = status.others().count() as u64;
        figures.gauge(
            "grapevine_group_members",
            "Members of the group, this node included",
            others + u64::from(!status.left),
        )?;
        let peers: Vec<Peer<'_>> = status
            .others()
            .filter_map(Peer::of)
            .take(MEMBERS_MAX)
            .collect();
        figures.gauge(
            "grapevine_group_peers",
            "Members that are connected",
            peers.len() as u64,
        )?;
        figures.counter(
            "grapevine_group_divergences",
            "Rows and filters that members lacked although they have the same operations",
            status
                .divergences
                .iter()
                .map(|found| found.count)
                .sum::<u64>(),
        )?;
        for (name, help, figure) in LINK_GAUGES {
            let values = peers.iter().map(|peer| (peer.labels(), figure(peer.link)));
            figures.gauges_of(name, help, values)?;
        }
        clocks(figures, &status, &peers)
    }

    fn counters(&self, figures: &mut Figures<'_>) -> fmt::Result {
        let (own, carried) = (self.0.counts(), self.0.transport_counts());
        let counters: [(&str, &str, &AtomicU64); 10] = [
            (
                "grapevine_group_frames_sent",
                "Frames given to the connections",
                &own.frames_sent,
            ),
            (
                "grapevine_group_frames_received",
                "Frames received",
                &carried.frames_received,
            ),
            (
                "grapevine_group_sent_bytes",
                "Bytes of frames sent, with their headers",
                &carried.sent,
            ),
            (
                "grapevine_group_received_bytes",
                "Bytes of frames received, without their headers",
                &carried.received,
            ),
            (
                "grapevine_group_messages_dropped",
                "Messages dropped because a member's queue was full; they are repaired",
                &own.dropped,
            ),
            (
                "grapevine_group_snapshots_taken",
                "Snapshots of another member's state taken over",
                &own.snapshots_taken,
            ),
            (
                "grapevine_group_snapshots_served",
                "Times a member was told that only a snapshot helps it",
                &own.snapshots_served,
            ),
            (
                "grapevine_group_repairs",
                "Times a member was asked for operations that were missing",
                &own.repairs,
            ),
            (
                "grapevine_group_admissions_refused",
                "Connections of those who knew no secret, or were not let in for another reason",
                &carried.refused,
            ),
            (
                "grapevine_group_strangers_refused",
                "Peers that knew a secret and belong to another group",
                &own.refused,
            ),
        ];
        for (name, help, counter) in counters {
            figures.counter(name, help, counter.load(Relaxed))?;
        }
        figures.counter(
            "grapevine_group_frames_passed_over",
            "Frames received of a kind that only a newer version knows",
            own.passed_over.load(Relaxed) + carried.passed_over.load(Relaxed),
        )
    }
}
