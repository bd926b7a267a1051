//! What the switch makes of a caller that hangs up, decided on facts that the test lays down.

use std::sync::Mutex;

use libp2p::swarm::ConnectionId;

use super::*;
use crate::admission::Failure;
use crate::counters::Counters;
use crate::event::{self, Events};
use crate::link::Words;
use crate::{KEY_BYTES, NodeKey, Settings, network};

const HUNG_UP: usize = 1;
const OTHER: usize = 2;

/// A switch that does not run, and listens nowhere.
fn switch() -> (Switch, mpsc::Sender<Command>, Events) {
    let key = NodeKey::from_bytes([1; 32]);
    let ring = Keyring::new(Key::new("k", [7; KEY_BYTES]).unwrap());
    let settings = Settings {
        listen: Vec::new(),
        discover: false,
        keyring: ring.clone(),
        greeting: bytes::Bytes::new(),
        carriers: Carriers::BOTH,
    };
    let loopback_only = Arc::new(AtomicBool::new(false));
    let swarm = network::build(&settings, &key, Arc::clone(&loopback_only)).unwrap();
    let (sink, events) = event::queue();
    let words = Words {
        ring: Arc::new(ring),
        greeting: settings.greeting,
    };
    let context = Context {
        local: key.public(),
        incarnation: 1,
        words: Mutex::new(words),
        sink,
        counters: Arc::new(Counters::default()),
    };
    let (sender, commands) = mpsc::channel(1);
    let switch = Switch {
        swarm,
        context: Arc::new(context),
        registry: Arc::default(),
        listening: Listening::new(BTreeSet::new()).0,
        commands,
        carriers: Carriers::BOTH,
        loopback_only,
        seeds: watch::Sender::new(Vec::new()),
        state: State::new(Instant::now()),
    };
    (switch, sender, events)
}

fn peer() -> PeerKey {
    NodeKey::from_bytes([2; 32]).public()
}

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

impl Switch {
    fn hold(&mut self, number: usize, dialed: bool) {
        let connection = Connection {
            peer: peer(),
            remote: "127.0.0.1:9".parse().unwrap(),
            dialed,
            call: None,
            deadline: Instant::now() + Duration::from_secs(5),
            linked: false,
            admitted: false,
        };
        self.state.connections.insert(id(number), connection);
    }

    fn hold_session(&mut self, number: usize) {
        self.hold(number, true);
        let key = Key::new("k", [7; KEY_BYTES]).unwrap();
        let entry = Entry {
            session: 1,
            outbox: Arc::default(),
            remote: "127.0.0.1:9".parse().unwrap(),
            dialed: true,
            key,
            incarnation: 1,
            connection: id(number),
            over: None,
        };
        self.registry.write().unwrap().insert(peer(), entry);
    }

    /// Refusals that were counted, and whether one waits to be logged.
    fn refusals(&self) -> (u64, bool) {
        let refused = &self.context.counters.refused;
        let counted = refused.load(std::sync::atomic::Ordering::Relaxed);
        (counted, self.state.refusals.next_report().is_some())
    }
}

/// Both ways in which the switch learns that a caller has hung up: the connection closed before
/// it had a stream, and its stream ended before the proof.
const NEWS: [fn(&mut Switch); 2] = [
    |switch| switch.closed(id(HUNG_UP)),
    |switch| switch.failed(id(HUNG_UP), Failure::HungUp),
];

/// What else there may be with the peer when it hangs up: this side's own call, which has won, on
/// its way to a session; that session; another connection, not yet admitted, that either side
/// called (a caller tries QUIC and TCP and hangs up the later one).
const OTHERS: [fn(&mut Switch); 4] = [
    |switch| {
        switch.hold(OTHER, true);
        switch.state.claims.insert(peer(), id(OTHER));
    },
    |switch| switch.hold_session(OTHER),
    |switch| switch.hold(OTHER, true),
    |switch| switch.hold(OTHER, false),
];

#[tokio::test]
async fn a_caller_that_gives_way_to_another_connection_is_not_refused() {
    for news in NEWS {
        for other in OTHERS {
            let (mut switch, _commands, _events) = switch();
            switch.hold(HUNG_UP, false);
            other(&mut switch);
            news(&mut switch);
            assert_eq!(switch.refusals(), (0, false));
        }
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_its_only_connection_is_refused_once() {
    for news in NEWS {
        let (mut switch, _commands, _events) = switch();
        // Somebody else's connection excuses nobody.
        switch.hold(OTHER, false);
        let stranger = NodeKey::from_bytes([3; 32]).public();
        switch.state.connections.get_mut(&id(OTHER)).unwrap().peer = stranger;
        switch.hold(HUNG_UP, false);
        news(&mut switch);
        assert_eq!(switch.refusals(), (1, true));
        // The connection is gone: later news of it counts nothing.
        news(&mut switch);
        assert_eq!(switch.refusals(), (1, true));
    }
}
