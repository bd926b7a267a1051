//! Who is alive: SWIM (Das, Gupta, Motivala 2002) as `foca` has it, its packets carried in the
//! sessions, its timers in one ordered queue. It decides nothing, it only tells.

use std::collections::{BTreeMap, VecDeque};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use bytes::Bytes;
use foca::{Config, Foca, Identity, Member, NoCustomBroadcast, PeriodicParams, PostcardCodec};
use foca::{Notification, Runtime, State, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use crate::membership::NodeId;
use crate::wire::group::LIVENESS_BYTES_MAX;

/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// For the answer to a direct probe.
const PROBE_RTT: Duration = Duration::from_millis(400);
/// From a failed probe to the verdict.
const SUSPICION: Duration = Duration::from_secs(3);
/// The longest suspicion, in milliseconds. The timer that ends one is void once the node was renewed,
/// and a member that nobody suspects aloud any more does not defend itself.
const SUSPECT_MS_MAX: u64 = 10_000;
/// How long the dead are remembered.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Between two rounds of gossip.
const GOSSIP_EVERY: Duration = Duration::from_millis(500);
/// Largest packet; a stream carries it in one frame.
const PACKET_BYTES_MAX: NonZeroUsize = NonZeroUsize::new(LIVENESS_BYTES_MAX).unwrap();
const THREE: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// How often a piece of news is passed on.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::new(10).unwrap();
/// Timers at a time; a group has a few for each member.
const TIMERS_MAX: usize = 64 << 10;

/// A node in one of its lives. Of two of one node the later one counts: that was renewed more often,
/// whatever its clock says. Who is told that it is down is renewed until it wins, which takes as many
/// turns as its earlier lives were renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    key: [u8; 32],
    renewed: u64,
    /// Grows with each start, unless the clock was set back.
    started: u64,
}

impl Identity for Life {
    type Addr = [u8; 32];

    fn renew(&self) -> Option<Self> {
        Some(Life {
            renewed: self.renewed + 1,
            ..*self
        })
    }

    fn addr(&self) -> Self::Addr {
        self.key
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.renewed, self.started) > (adversary.renewed, adversary.started)
    }
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// It answers.
    Alive,
    /// It did not answer lately.
    Suspect,
    /// It does not answer.
    Down,
    /// Nobody has heard of it in this node's life.
    Unknown,
}

impl Liveness {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Liveness::Alive => "alive",
            Liveness::Suspect => "suspect",
            Liveness::Down => "down",
            Liveness::Unknown => "unknown",
        }
    }
}

/// What the detector wants done.
#[derive(Default)]
struct Wishes {
    packets: VecDeque<(NodeId, Bytes)>,
    timers: Vec<(Duration, Timer<Life>)>,
}

impl Runtime<Life> for &mut Wishes {
    fn notify(&mut self, _: Notification<'_, Life>) {}

    fn send_to(&mut self, to: Life, data: &[u8]) {
        let packet = Bytes::copy_from_slice(data);
        self.packets.push_back((NodeId::new(to.key), packet));
    }

    fn submit_after(&mut self, event: Timer<Life>, after: Duration) {
        self.timers.push((after, event));
    }
}

/// The failure detector of this node. Times are milliseconds from any fixed point.
pub struct Detector {
    foca: Foca<Life, PostcardCodec, SmallRng, NoCustomBroadcast>,
    wishes: Wishes,
    timers: BTreeMap<(u64, u64), Timer<Life>>,
    submitted: u64,
    states: BTreeMap<NodeId, (Liveness, u64)>,
    seed: u64,
}

impl Detector {
    /// `started` grows with each start of the node; where it does not, members take some seconds
    /// longer to see that the node is back.
    pub fn new(me: NodeId, started: u64, seed: u64) -> Self {
        let life = Life {
            key: me.bytes(),
            renewed: 0,
            started,
        };
        Detector::of_life(life, seed)
    }

    /// Begins anew in a group, as somebody whom nobody there remembers as gone.
    pub fn begin_again(&mut self) {
        let renewed = self.foca.identity().renewed + 1;
        let life = Life {
            renewed,
            ..*self.foca.identity()
        };
        *self = Detector::of_life(life, self.seed.wrapping_add(renewed));
    }

    fn of_life(life: Life, seed: u64) -> Self {
        let config = Config {
            probe_period: PROBE_EVERY,
            probe_rtt: PROBE_RTT,
            num_indirect_probes: THREE,
            max_transmissions: TRANSMISSIONS,
            suspect_to_down_after: SUSPICION,
            remove_down_after: Some(REMEMBERED),
            max_packet_size: PACKET_BYTES_MAX,
            notify_down_members: true,
            periodic_gossip: Some(PeriodicParams {
                frequency: GOSSIP_EVERY,
                num_members: THREE,
            }),
            ..Config::simple()
        };
        let random = SmallRng::seed_from_u64(seed);
        Detector {
            foca: Foca::new(life, config, random, PostcardCodec),
            wishes: Wishes::default(),
            timers: BTreeMap::new(),
            submitted: 0,
            states: BTreeMap::new(),
            seed,
        }
    }

    /// Makes itself known to a peer, whichever life that is in.
    pub fn announce(&mut self, now: u64, to: NodeId) {
        let life = Life {
            key: to.bytes(),
            renewed: 0,
            started: 0,
        };
        let done = self.foca.announce(life, &mut self.wishes);
        self.settle(now, done);
    }

    /// Takes a peer's packet.
    pub fn receive(&mut self, now: u64, packet: &[u8]) {
        if packet.len() <= PACKET_BYTES_MAX.get() {
            let done = self.foca.handle_data(packet, &mut self.wishes);
            self.settle(now, done);
        }
    }

    /// Says to all that this node leaves, so that nobody suspects a crash.
    pub fn leave(&mut self, now: u64) {
        let done = self.foca.leave_cluster(&mut self.wishes);
        self.settle(now, done);
    }

    /// Lets the timers that are due go off.
    pub fn run(&mut self, now: u64) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            let done = self.foca.handle_timer(timer, &mut self.wishes);
            self.settle(now, done);
        }
    }

    /// When the next timer goes off.
    pub fn next(&self) -> Option<u64> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next packet to send, and to whom.
    pub fn packet(&mut self) -> Option<(NodeId, Bytes)> {
        self.wishes.packets.pop_front()
    }

    /// Looks again at how everybody is. Wanted about twice a second.
    pub fn look(&mut self, now: u64) {
        let mut stuck = Vec::new();
        for member in self.foca.iter_membership_state() {
            let state = match member.state() {
                State::Alive => Liveness::Alive,
                State::Suspect => Liveness::Suspect,
                State::Down => Liveness::Down,
            };
            let known = self.states.entry(NodeId::new(member.id().key));
            let known = known.or_insert((Liveness::Unknown, now));
            if known.0 != state {
                *known = (state, now);
            }
            if state == Liveness::Suspect && now > known.1 + SUSPECT_MS_MAX {
                stuck.push(Member::down(*member.id()));
            }
        }
        if !stuck.is_empty() {
            let done = self
                .foca
                .apply_many(stuck.into_iter(), true, &mut self.wishes);
            self.settle(now, done);
        }
    }

    /// How a member is, and since when, as of the last look.
    pub fn of(&self, key: &NodeId) -> (Liveness, Option<u64>) {
        let known = self.states.get(key);
        known.map_or((Liveness::Unknown, None), |(state, since)| {
            (*state, Some(*since))
        })
    }

    /// Forgets everybody who is not a member.
    pub fn retain(&mut self, member: impl Fn(&NodeId) -> bool) {
        self.states.retain(|key, _| member(key));
    }

    /// Puts the timers into their queue. An error means that a packet or a timer was of no use: of
    /// somebody who is not known any more, mostly.
    fn settle(&mut self, now: u64, _: Result<(), foca::Error>) {
        for (after, timer) in self.wishes.timers.drain(..) {
            if self.timers.len() < TIMERS_MAX {
                let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                self.submitted += 1;
                let key = (now.saturating_add(after), self.submitted);
                self.timers.insert(key, timer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets detectors talk for a while; those in `dead` neither hear nor speak.
    fn run(nodes: &mut [(NodeId, Detector)], from: u64, to: u64, dead: &[usize]) {
        for now in (from..to).step_by(50) {
            for index in 0..nodes.len() {
                if dead.contains(&index) {
                    continue;
                }
                nodes[index].1.run(now);
                while let Some((key, packet)) = nodes[index].1.packet() {
                    let at = nodes.iter().position(|(other, _)| *other == key);
                    if let Some(at) = at.filter(|at| !dead.contains(at)) {
                        nodes[at].1.receive(now, &packet);
                    }
                }
            }
        }
        for (_, node) in nodes {
            node.look(to);
        }
    }

    #[test]
    fn a_crash_is_known_to_all_in_seconds_and_a_restart_too() {
        let key = |index: u8| NodeId::new([index; 32]);
        let detector = |index: u8, started| Detector::new(key(index), started, index.into());
        let mut nodes: Vec<_> = (0..5).map(|i| (key(i), detector(i, 1000))).collect();
        for (_, node) in &mut nodes[1..] {
            node.announce(0, key(0));
        }
        run(&mut nodes, 0, 5000, &[]);
        for (_, node) in &nodes[1..] {
            assert_eq!(node.of(&key(0)).0, Liveness::Alive);
            assert_eq!(node.of(&key(9)).0, Liveness::Unknown);
        }
        run(&mut nodes, 5000, 20_000, &[0]);
        for (_, node) in &nodes[1..] {
            assert_eq!(node.of(&key(0)).0, Liveness::Down);
        }
        // Its clock was set back meanwhile.
        nodes[0].1 = detector(0, 500);
        nodes[0].1.announce(20_000, key(1));
        run(&mut nodes, 20_000, 25_000, &[]);
        for (_, node) in &nodes[1..] {
            assert_eq!(node.of(&key(0)).0, Liveness::Alive);
        }
        nodes[0].1.leave(25_000);
        run(&mut nodes, 25_000, 30_000, &[]);
        for (_, node) in &nodes[1..] {
            assert_eq!(node.of(&key(0)).0, Liveness::Down);
        }
        nodes[0].1.begin_again();
        nodes[0].1.announce(30_000, key(1));
        run(&mut nodes, 30_000, 35_000, &[]);
        for (_, node) in &nodes[1..] {
            assert_eq!(node.of(&key(0)).0, Liveness::Alive);
        }
    }
}
