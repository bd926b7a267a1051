//! The network: connections between nodes, what they lose, double, delay and cut.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use grapevine_core::membership::NodeId;
use grapevine_core::wire::group::{Goodbye, Greeting, Standing};

use super::Time;
use crate::random::Random;

/// Something that happens at a time.
pub(super) enum Event {
    /// The workload takes a step; so many are left.
    Step(u64),
    /// A node's machine is told the time.
    Tick { node: usize, life: u64 },
    /// A node's log is synced.
    Sync { node: usize, life: u64 },
    /// A message arrives.
    Deliver {
        to: usize,
        connection: Connection,
        topic: Topic,
        bytes: Vec<u8>,
    },
    /// A connection is made: one end learns of the other.
    Admitted {
        to: usize,
        connection: Connection,
        peer: NodeId,
        greeting: Greeting,
        dialed: bool,
    },
    /// A standing arrives.
    Standing {
        to: usize,
        connection: Connection,
        standing: Standing,
    },
    /// A packet of the failure detector arrives.
    Packet {
        to: usize,
        connection: Connection,
        bytes: Bytes,
    },
    /// A goodbye arrives, or would.
    Closed {
        to: usize,
        connection: Connection,
        goodbye: Goodbye,
    },
    /// Connections are made and noticed to be gone.
    Links,
    /// A node that left its group is to join one.
    Rejoin { node: usize },
    /// A node starts.
    Start { node: usize },
    /// A cut ends.
    Heal { from: usize, to: usize },
}

/// Which of two nodes' machines speak with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// Those of the group's stream.
    Group,
    /// Those of the filters that are kept in memory.
    Memory,
}

impl Topic {
    pub(super) const ALL: [Topic; 2] = [Topic::Group, Topic::Memory];
}

/// One connection between two nodes, `a` below `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Connection {
    pub(super) a: usize,
    pub(super) b: usize,
    /// Tells it from others of the same two.
    pub(super) number: u64,
}

impl Connection {
    pub(super) fn other(self, node: usize) -> usize {
        if node == self.a { self.b } else { self.a }
    }
}

/// What the network is like in this seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Messages lost, in percent.
    pub(super) loss: u64,
    /// Messages that come twice, in percent.
    pub(super) doubled: u64,
    /// Least delay.
    delay: Time,
    /// Most that is added to it: it brings messages out of order.
    jitter: Time,
    /// A node whose messages take far longer, if there is one.
    slow: Option<usize>,
}

pub(super) struct Network {
    shape: Shape,
    events: BTreeMap<(Time, u64), Event>,
    made: u64,
    steps: u64,
    /// Directions that are cut.
    blocked: BTreeSet<(usize, usize)>,
    connections: BTreeSet<Connection>,
    /// When the last of what comes in order comes, by connection and receiver.
    last: BTreeMap<(u64, usize), Time>,
    /// Until when two do not call each other.
    quiet: BTreeMap<(usize, usize), Time>,
    perfect: bool,
    /// Messages and bytes that were sent.
    pub(super) sent: (u64, u64),
}

/// What became of a message.
pub(super) enum Fate {
    Lost,
    Once,
    Twice,
}

impl Network {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut often = |most| {
            if random.one_in(2) {
                random.below(most)
            } else {
                0
            }
        };
        let (loss, doubled, jitter) = (often(31), often(20), often(200));
        let slow = random.one_in(4).then(|| random.below(3) as usize);
        let shape = Shape {
            loss,
            doubled,
            delay: 1 + random.below(40),
            jitter,
            slow,
        };
        Network {
            shape,
            ..Network::quiet()
        }
    }

    /// One that loses, doubles and reorders nothing.
    pub(super) fn quiet() -> Self {
        let shape = Shape {
            loss: 0,
            doubled: 0,
            delay: 1,
            jitter: 4,
            slow: None,
        };
        Network {
            shape,
            events: BTreeMap::new(),
            made: 0,
            steps: 0,
            blocked: BTreeSet::new(),
            connections: BTreeSet::new(),
            last: BTreeMap::new(),
            quiet: BTreeMap::new(),
            perfect: false,
            sent: (0, 0),
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Lets something happen at a time.
    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.made += 1;
        self.steps += u64::from(matches!(event, Event::Step(_)));
        self.events.insert((time, self.made), event);
    }

    /// The same for what a connection carries in order.
    pub(super) fn in_order(&mut self, connection: Connection, to: usize, time: Time, event: Event) {
        let last = self.last.entry((connection.number, to)).or_default();
        *last = time.max(*last);
        let time = *last;
        self.at(time, event);
    }

    /// Two call each other again from a time on.
    pub(super) fn call_again(&mut self, a: usize, b: usize, time: Time) {
        self.quiet.insert((a.min(b), a.max(b)), time);
    }

    pub(super) fn may_call(&self, a: usize, b: usize, now: Time) -> bool {
        let until = self.quiet.get(&(a.min(b), a.max(b)));
        until.is_none_or(|until| now >= *until)
    }

    /// The next thing to happen.
    pub(super) fn next(&mut self) -> Option<(Time, Event)> {
        let ((time, _), event) = self.events.pop_first()?;
        self.steps -= u64::from(matches!(event, Event::Step(_)));
        Some((time, event))
    }

    /// Whether the workload has taken its last step.
    pub(super) fn is_idle_of_steps(&self) -> bool {
        self.steps == 0
    }

    /// From now on nothing is lost or cut.
    pub(super) fn heal(&mut self) {
        self.perfect = true;
        self.blocked.clear();
    }

    /// Cuts one direction.
    pub(super) fn block(&mut self, from: usize, to: usize) {
        if !self.perfect {
            self.blocked.insert((from, to));
        }
    }

    pub(super) fn unblock(&mut self, from: usize, to: usize) {
        self.blocked.remove(&(from, to));
    }

    pub(super) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// Whether two nodes can make a connection: each hears the other.
    pub(super) fn can_connect(&self, a: usize, b: usize) -> bool {
        !self.is_blocked(a, b) && !self.is_blocked(b, a)
    }

    pub(super) fn connection(&self, a: usize, b: usize) -> Option<Connection> {
        let (a, b) = (a.min(b), a.max(b));
        let mut of_both = self.connections.range(
            Connection { a, b, number: 0 }..=Connection {
                a,
                b,
                number: u64::MAX,
            },
        );
        of_both.next().copied()
    }

    pub(super) fn has(&self, connection: Connection) -> bool {
        self.connections.contains(&connection)
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) -> Connection {
        self.made += 1;
        let connection = Connection {
            a: a.min(b),
            b: a.max(b),
            number: self.made,
        };
        self.connections.insert(connection);
        connection
    }

    pub(super) fn disconnect(&mut self, connection: Connection) {
        self.connections.remove(&connection);
    }

    pub(super) fn connections_of(&self, node: usize) -> Vec<Connection> {
        let of_node = |connection: &&Connection| connection.a == node || connection.b == node;
        self.connections.iter().filter(of_node).copied().collect()
    }

    /// What becomes of a message.
    pub(super) fn fate(&mut self, random: &mut Random, from: usize, to: usize) -> Fate {
        if self.perfect {
            return Fate::Once;
        }
        if self.is_blocked(from, to) || random.below(100) < self.shape.loss {
            Fate::Lost
        } else if random.below(100) < self.shape.doubled {
            Fate::Twice
        } else {
            Fate::Once
        }
    }

    /// How long a message takes.
    pub(super) fn delay(&self, random: &mut Random, from: usize) -> Time {
        if self.perfect {
            return 1 + random.below(5);
        }
        let slow = if self.shape.slow == Some(from) {
            400
        } else {
            0
        };
        self.shape.delay + random.below(self.shape.jitter + 1) + random.below(slow + 1)
    }
}
