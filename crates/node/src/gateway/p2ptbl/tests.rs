//! Nodes on links that are made of memory: what one says all others on it hear, or some of them.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Mutex;
use std::time::Duration;

use grapevine_core::catalogue::Storage;
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::operation::{encode_row, encode_rows_of};
use grapevine_core::origin::Origin;
use grapevine_core::sync::Stable;
use grapevine_core::table::horizon::{SLOT_MS, SLOTS};
use grapevine_core::table::{Content, Row};
use grapevine_core::version::Dot;
use grapevine_store::collections::Collections;
use grapevine_store::disk::{Operation, SimulatedDisk};
use grapevine_store::filters::{Entropy, Options};
use grapevine_store::log::LogConfig;

use super::*;
use crate::clock::unix_ms;
use crate::config::{Durability, SyncMode};
use crate::engine::{Engine, FilterDefaults};
use crate::gateway::hbbp::{Consumer as _, Opened, SendError, Voice};
use crate::gzip;
use crate::metrics::P2ptblMetrics;

const TABLE: &[u8] = b"services";
const KEY: &[u8] = b"p2ptbl/services";
/// How long a test waits for something at most.
const DEADLINE: Duration = Duration::from_secs(30);
/// Turns of all nodes that a test waits for something at most.
const TURNS_MAX: usize = 20_000;

struct Node {
    engine: Arc<Engine>,
    receiver: Receiver,
    teller: RefCell<Teller>,
    metrics: P2ptblMetrics,
    said: Arc<Said>,
    disk: SimulatedDisk,
}

/// Interface, key and payload.
type Saying = (String, Vec<u8>, Vec<u8>);

#[derive(Default)]
struct Said(Mutex<Vec<Saying>>);

impl Voice for Said {
    fn say(&self, interface: &str, key: &[u8], payload: &[u8]) -> Result<(), SendError> {
        let said = (interface.to_owned(), key.to_vec(), payload.to_vec());
        self.0.lock().expect("one thread").push(said);
        Ok(())
    }
}

fn entropy() -> Entropy {
    Arc::new(|| {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("random bytes");
        bytes
    })
}

fn engine(disk: &SimulatedDisk) -> Arc<Engine> {
    let options = Options {
        log: LogConfig::default(),
        memory: 1 << 20,
        checkpoint_log: 1 << 20,
        idle_unload: None,
    };
    let opened = Collections::open(Arc::new(disk.clone()), options, entropy());
    let (collections, _) = opened.expect("it opens");
    let parameters = Parameters {
        capacity: 100,
        error: 0.01,
        growth: Growth::Fixed,
    };
    let defaults = FilterDefaults {
        parameters,
        storage: Storage::Durable,
    };
    let durability = Durability {
        sync: SyncMode::Os,
        interval: Duration::from_secs(1),
    };
    Engine::new(collections, defaults, durability)
}

impl Node {
    /// A node on these links that receives the table if it is to, and gossips often.
    fn new(links: &[&str], receives: bool) -> Self {
        let settings = Settings {
            interfaces: links.iter().map(|&link| link.to_owned()).collect(),
            receive: receives.then(|| TABLE.to_vec()).into_iter().collect(),
            gossip: vec![GossipRound {
                table: "services".to_owned(),
                every: Duration::from_millis(20),
                size: 500,
            }],
        };
        let disk = SimulatedDisk::new();
        let (engine, metrics) = (engine(&disk), P2ptblMetrics::default());
        engine.collections().tables().link(TABLE).expect("writable");
        let (receiver, teller) = exchange(&settings, &engine, &metrics);
        let node = Node {
            engine,
            receiver,
            teller: RefCell::new(teller),
            metrics,
            said: Arc::default(),
            disk,
        };
        // The table as it is now is what was there before.
        node.teller.borrow_mut().follow();
        node
    }

    fn tables(&self) -> &grapevine_store::tables::Tables {
        self.engine.collections().tables()
    }

    fn set(&self, key: &str, value: &str) {
        let set = self
            .tables()
            .set(TABLE, key.as_bytes(), value.as_bytes(), None);
        set.expect("it is set");
    }

    fn get(&self, key: &str) -> Option<String> {
        let row = self.tables().get(TABLE, key.as_bytes(), unix_ms());
        let row = row
            .expect("it can be read")
            .expect("there is the table")
            .row?;
        Some(String::from_utf8_lossy(row.values()?).into_owned())
    }

    fn row(&self, key: &str) -> Option<Row> {
        self.tables()
            .find(TABLE, key.as_bytes())
            .expect("it can be read")
    }

    fn hear(&self, interface: &str, payload: &[u8]) {
        assert!(self.receiver.wants(interface, KEY));
        self.receiver.take(Opened {
            interface: interface.to_owned(),
            from: SocketAddrV6::new(Ipv6Addr::LOCALHOST, 4950, 0, 0),
            key: KEY.to_vec(),
            payload: payload.to_vec(),
            sealed: false,
        });
    }

    /// Tells what changed, without gossip; what it said.
    fn tell(&self) -> Vec<Saying> {
        let mut teller = self.teller.borrow_mut();
        teller.follow();
        let due = teller.due();
        teller.say(&*self.said, due);
        std::mem::take(&mut self.said.0.lock().expect("one thread"))
    }

    /// The same with gossip.
    fn speak(&self) -> Vec<Saying> {
        let mut teller = self.teller.borrow_mut();
        let gathered = teller.gather();
        teller.say(&*self.said, gathered);
        std::mem::take(&mut self.said.0.lock().expect("one thread"))
    }
}

/// Lets nodes speak and hear until something is so. Of what is said `lost` of a hundred packets
/// do not reach a listener.
fn until(nodes: &[(&Node, &[&str])], lost: u8, mut so: impl FnMut() -> bool) {
    for _ in 0..TURNS_MAX {
        if so() {
            return;
        }
        for (place, (speaker, _)) in nodes.iter().enumerate() {
            for (interface, key, payload) in speaker.speak() {
                assert_eq!(key, KEY);
                for (other, (listener, links)) in nodes.iter().enumerate() {
                    let dice = getrandom::u32().expect("random bytes") % 100;
                    let hears = other != place && links.contains(&interface.as_str());
                    if hears && dice >= u32::from(lost) {
                        listener.hear(&interface, &payload);
                    }
                }
            }
        }
        std::thread::yield_now();
    }
    panic!("it did not come to pass in {TURNS_MAX} turns");
}

fn packed(rows: &str) -> Vec<u8> {
    gzip::pack(rows.as_bytes()).expect("memory")
}

#[test]
fn what_the_log_does_not_keep_is_not_told() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let node = Node::new(&["eth0"], false);
    node.disk.fail_next(Operation::Write, 0, ErrorKind::Other);
    node.set("web", "192.0.2.1");
    let Node {
        engine,
        teller,
        said,
        ..
    } = node;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let voice: Arc<dyn Voice> = Arc::<Said>::clone(&said);
    runtime.block_on(async {
        let serving = tokio::spawn(teller.into_inner().serve(voice, stopped));
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while engine.journal().read_only().is_none() {
            assert!(tokio::time::Instant::now() < deadline, "the log fails");
            tokio::task::yield_now().await;
        }
        stop.send(true).expect("it serves");
        serving.await.expect("it ends");
    });
    let said = said.0.lock().expect("one thread");
    assert!(said.is_empty(), "{} packets of what is lost", said.len());
}

#[test]
fn a_row_that_was_set_is_told_at_once_and_heard() {
    let (a, b) = (Node::new(&["eth0"], true), Node::new(&["eth0"], true));
    a.set("web", "192.0.2.1\t80");
    let said = a.tell();
    assert_eq!(said.len(), 1);
    b.hear("eth0", &said[0].2);
    assert_eq!(b.get("web").as_deref(), Some("192.0.2.1\t80"));
    assert_eq!(
        a.row("web").map(|row| row.version),
        b.row("web").map(|row| row.version)
    );
    // It came from there: nobody there needs to hear it again.
    assert_eq!(b.tell(), []);
    assert_eq!(a.tell(), []);
}

#[test]
fn only_enabled_tables_are_received() {
    let deaf = Node::new(&["eth0"], false);
    assert!(!deaf.receiver.wants("eth0", KEY));
    let node = Node::new(&["eth0"], true);
    for key in [
        &b"p2ptbl/other"[..],
        b"services",
        b"p2ptbl/services/",
        b"p2ptbl",
    ] {
        assert!(!node.receiver.wants("eth0", key));
    }
}

#[test]
fn a_node_on_two_links_tells_each_what_it_heard_on_the_other() {
    let bridge = Node::new(&["eth0", "eth1"], true);
    bridge.hear("eth0", &packed("web\t5\tx\n"));
    let said = bridge.tell();
    let links: Vec<&str> = said.iter().map(|(link, ..)| link.as_str()).collect();
    assert_eq!(links, ["eth1"]);
    assert_eq!(gzip::unpack(&said[0].2, 100).expect("gzip"), b"web\t5\tx\n");
}

#[test]
fn a_table_larger_than_a_packet_gets_through_a_lossy_link() {
    let (a, b) = (Node::new(&["eth0"], true), Node::new(&["eth0"], true));
    // Values that gzip cannot make shorter than half: some thirty of them fit a packet.
    let random = || getrandom::u64().expect("random bytes");
    for number in 0..100 {
        a.set(
            &format!("a{number}"),
            &format!("{:016x}{:016x}", random(), random()),
        );
        b.set(&format!("b{number}"), &format!("value {number}"));
    }
    let all = |node: &Node| {
        node.tables()
            .summary(TABLE)
            .expect("whole rows")
            .map(|summary| summary.rows)
            == Some(200)
    };
    let eth0: &[&str] = &["eth0"];
    until(&[(&a, eth0), (&b, eth0)], 30, || {
        std::thread::park_timeout(Duration::from_millis(2));
        all(&a) && all(&b)
    });
    assert_eq!(a.get("b99").as_deref(), Some("value 99"));
    assert!(a.metrics.packets_told.get() > 2, "it was no large table");
}

#[test]
fn a_deletion_empties_the_row_elsewhere_and_what_comes_back_does_not_undo_it() {
    let (a, b) = (Node::new(&["eth0"], true), Node::new(&["eth0"], true));
    a.set("web", "x");
    b.hear("eth0", &a.tell()[0].2);
    a.tables().delete(TABLE, b"web", 0).expect("it is deleted");
    let told = a.tell();
    b.hear("eth0", &told[0].2);
    assert_eq!(b.get("web").as_deref(), Some(""));
    a.hear("eth0", &told[0].2);
    a.hear("eth0", &packed("web\t1\told\n"));
    assert_eq!(a.get("web"), None);
    assert!(a.row("web").is_some_and(|row| row.is_tombstone()));
}

#[test]
fn a_row_that_expired_becomes_a_deletion_before_links_hear_of_it() {
    let a = Node::new(&["eth0"], true);
    let now = unix_ms();
    let (soon, long_ago) = (now - 60_000, now - 120_000);
    // It has run for a day, by a clock that was a minute and a half behind.
    for slot in 0..=SLOTS as u64 {
        a.tables().read_clocks(now - 90_000, slot * SLOT_MS);
    }
    let stable = Stable {
        horizon: u64::MAX,
        ..Stable::default()
    };
    for (key, expires) in [("old", long_ago), ("young", soon)] {
        let set = a.tables().set(TABLE, key.as_bytes(), b"x", Some(expires));
        set.expect("it is set");
    }
    a.tables().collect(&stable).expect("nothing is removed");
    let mut told = Vec::new();
    until(&[], 0, || {
        std::thread::park_timeout(Duration::from_millis(2));
        told.extend(a.speak());
        !told.is_empty()
    });
    let text = gzip::unpack(&told[0].2, 1000).expect("gzip");
    let text = String::from_utf8(text).expect("text");
    assert!(
        text.starts_with("old\t") && text.ends_with("\t\n"),
        "{text:?}"
    );
    assert!(a.row("old").is_some_and(|row| row.is_tombstone()));
    assert!(a.row("young").is_some_and(|row| !row.is_tombstone()));
}

#[test]
fn bad_packets_cost_nothing_and_good_rows_beside_bad_ones_count() {
    let node = Node::new(&["eth0"], true);
    node.set("web", "mine");
    let before = node.row("web");
    let bomb = packed(&"a\t1\tb\n".repeat(400_000));
    for payload in [&b""[..], b"no gzip", &bomb[..1000.min(bomb.len())], &bomb] {
        node.hear("eth0", payload);
    }
    assert_eq!(node.metrics.packets_refused.get(), 4);
    assert_eq!(node.metrics.rows_received.get(), 0);
    let rows = "good\t7\tx\n\t5\tno key\nword\tx\ty\nweb\t9223372036854775808\tz\n\
                web\t9223372036854775807\tz\nnul\t5\ta\0b\nsnail\t4611686018427387905\tz\n";
    node.hear("eth0", &packed(rows));
    assert_eq!(node.get("good").as_deref(), Some("x"));
    assert_eq!(node.row("web"), before);
    assert_eq!(node.row("snail"), None);
    assert_eq!(node.metrics.rows_refused.get(), 5);
    assert_eq!(node.metrics.packets_refused.get(), 5);
    // The largest that is taken leaves room above it.
    node.hear("eth0", &packed("web\t4611686018427387904\tz\n"));
    assert_eq!(node.get("web").as_deref(), Some("z"));
    node.set("web", "mine again");
    assert_eq!(node.get("web").as_deref(), Some("mine again"));
}

#[test]
fn what_the_originals_would_change_is_not_told() {
    let node = Node::new(&["eth0"], true);
    node.set("a b", "x");
    node.set("back", "a\\tb");
    node.set("ends", " x");
    assert_eq!(node.tell(), []);
    assert_eq!(node.metrics.rows_unfit.get(), 3);
    let random = || getrandom::u64().expect("random bytes");
    let long: String = (0..400).map(|_| format!("{:x}", random())).collect();
    node.set("long", &long);
    node.set("short", "x");
    let told = node.tell();
    assert_eq!(told.len(), 1);
    assert_eq!(node.metrics.rows_unfit.get(), 4);
}

#[test]
fn a_row_from_the_group_waits_for_somebody_else_on_the_link_to_tell_it() {
    let node = Node::new(&["eth0"], true);
    let talk = node.teller.borrow().talk.clone();
    let before = talk.now();
    for (sequence, key) in [(1, "heard"), (2, "unheard")] {
        let row = Row {
            version: 5,
            content: Content::Values(b"x".to_vec()),
            expires: None,
        };
        let mut operation = Vec::new();
        encode_rows_of(&mut operation, TABLE, None);
        encode_row(&mut operation, key.as_bytes(), &row, None);
        let origin = Origin::new([9; 16]);
        let applied = node
            .engine
            .collections()
            .apply(Dot { origin, sequence }, &operation);
        applied.expect("a member's operation");
    }
    node.teller.borrow_mut().follow();
    let due = talk.pending().next();
    assert!(due.is_some_and(|due| due >= before + teller::PATIENCE_MIN_MS));
    node.hear("eth0", &packed("heard\t5\tx\n"));
    let mut told = Vec::new();
    until(&[], 0, || {
        std::thread::park_timeout(Duration::from_millis(2));
        told.extend(node.tell());
        talk.pending().next().is_none()
    });
    let texts: Vec<Vec<u8>> = told
        .iter()
        .map(|(_, _, payload)| gzip::unpack(payload, 100).expect("gzip"))
        .collect();
    assert_eq!(texts, [b"unheard\t5\tx\n"]);
}
