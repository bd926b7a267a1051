//! A peer that knows the secret and then breaks the protocol or lies: whoever it calls refuses it
//! with a line in its log, keeps its bounds, loses nothing, and the other members do not notice.

use std::net::SocketAddr;
use std::path::Path;

use grapevine_core::catalogue::{FilterId, FilterRow, LayerRow, Scope, Storage};
use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_core::filter::rights::Rights;
use grapevine_core::hash::Seed;
use grapevine_core::origin::Origin;
use grapevine_core::sync::{
    BlockHashes, Content, Entry, Message, OPERATION_BYTES_MAX, Page, Report, Run,
};
use grapevine_core::version::Dot;
use grapevine_core::wire::group::{
    Data, Greeting, Group, LIVENESS_BYTES_MAX, STANDING_BYTES_MAX, Standing, sync_data,
};
use grapevine_net::{
    self, Admitted, Carriers, CloseReason, Event, Events, Handle, NodeKey, PeerKey, Reason,
    SessionId, Settings, read_keyring,
};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::harness::DEADLINE;
use super::*;

pub(super) const ORIGIN: [u8; 16] = [0xbb; 16];
/// Operations that the liar says it has made.
const MADE: u64 = 1000;
/// The section of histories, which comes first and last, and a page of it that has none.
const HISTORIES: u8 = 7;
const NOTHING: [u8; 1] = [0x90];
/// Fingerprints in one answer.
const HASHES: usize = 256;
/// What a node's memory may grow by over all lies.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// An admitted peer that sends what a test likes.
pub(super) struct Liar {
    runtime: Runtime,
    handle: Handle,
    events: Events,
    peer: PeerKey,
    session: SessionId,
    /// Its own number of the connection, and of its last report.
    number: u64,
    stamp: u64,
}

impl Liar {
    /// Calls a node with this greeting; each liar has a key of its own.
    fn call(node: &Node, secret: &Path, key: u8, greeting: Vec<u8>) -> (Liar, Admitted) {
        let runtime = Runtime::new().expect("a runtime");
        let settings = Settings {
            listen: Vec::new(),
            discover: false,
            keyring: read_keyring(secret).expect("the secret"),
            greeting: greeting.into(),
            carriers: Carriers::BOTH,
        };
        let address: SocketAddr = node.address("group.listen");
        let (handle, events, admitted) = runtime.block_on(async {
            let key = NodeKey::from_bytes([key; 32]);
            let started = grapevine_net::start(settings, &key).await;
            let (handle, mut events) = started.expect("it starts");
            handle.dial(address.into()).await.expect("it runs");
            let admitted = loop {
                match next(&mut events).await {
                    Event::Admitted(admitted) => break admitted,
                    Event::DialFailed { reason, .. } => panic!("not admitted: {reason}"),
                    _ => {}
                }
            };
            (handle, events, admitted)
        });
        // Nothing is lost: frames that came with the admission wait in the queue.
        let liar = Liar {
            peer: admitted.peer,
            session: admitted.session,
            number: u64::from(key),
            stamp: 0,
            runtime,
            handle,
            events,
        };
        (liar, admitted)
    }

    /// Calls a node and becomes a member of its group.
    pub(super) fn join(node: &Node, secret: &Path, key: u8) -> Liar {
        let (mut liar, admitted) = Liar::call(node, secret, key, greeting().encode());
        let theirs = Greeting::decode(&admitted.greeting).expect("a node's greeting");
        let standing = Standing {
            group: theirs.group,
            same: true,
        };
        liar.send(Data::Standing(standing).encode());
        // It has promised too, and says what it has.
        liar.report(0, true);
        liar
    }

    pub(super) fn send(&self, frame: Vec<u8>) {
        // The node may have ended the session, which the test then hears.
        let _ = self.handle.send(&self.peer, self.session, frame.into());
    }

    pub(super) fn say(&self, message: &Message) {
        self.send(sync_data(|out| message.encode(out)));
    }

    /// Says that it has made operations.
    pub(super) fn report(&mut self, heard: u64, ask: bool) {
        self.stamp += 1;
        let entries = vec![Entry {
            origin: Origin::new(ORIGIN),
            durable: MADE,
            received: MADE,
            mark: 0,
        }];
        self.say(&Message::Report(Report {
            session: self.number,
            heard,
            stamp: self.stamp,
            horizon: 0,
            window: 1 << 20,
            ask,
            content: Content::Range {
                after: None,
                through: None,
                entries,
            },
        }));
    }

    pub(super) fn next(&mut self) -> Event {
        self.runtime.block_on(next(&mut self.events))
    }

    /// Why the node ends the session.
    fn ended(&mut self) -> (Reason, String) {
        loop {
            if let Event::Closed { reason, .. } = self.next() {
                match reason {
                    CloseReason::Remote(goodbye) => return (goodbye.reason, goodbye.text),
                    other => panic!("ended otherwise: {other}"),
                }
            }
        }
    }

    /// Serves a snapshot of these rows and blocks until it is begun anew: the first was given up.
    fn serve_snapshot(&mut self, rows: &[u8], blocks: &BlockHashes) {
        let (deadline, mut begun) = (std::time::Instant::now() + DEADLINE, 0);
        while std::time::Instant::now() < deadline {
            let Event::Frame { bytes, .. } = self.next() else {
                continue;
            };
            let Ok(Data::Sync(bytes)) = Data::decode(&bytes) else {
                continue;
            };
            match Message::decode(bytes).expect("a node's message") {
                Message::Report(report) => self.report(report.session, false),
                Message::Want(_) => self.say(&Message::Behind),
                Message::PageRequest { section, after } => {
                    begun += u32::from(section == HISTORIES && after.is_empty());
                    if begun > 1 {
                        return;
                    }
                    self.say(&Message::Page(Page {
                        section,
                        after,
                        next: None,
                        bytes: if section == HISTORIES {
                            NOTHING.to_vec()
                        } else {
                            rows.to_vec()
                        },
                    }));
                }
                Message::BlocksRequest { layer, first } => self.say(&Message::Blocks {
                    layer,
                    first,
                    blocks: blocks.clone(),
                }),
                _ => {}
            }
        }
        panic!("the snapshot is not given up");
    }
}

async fn next(events: &mut Events) -> Event {
    let event = timeout(DEADLINE, events.next()).await;
    event.expect("an event in time").expect("a transport")
}

fn greeting() -> Greeting {
    Greeting {
        life: [0x11; 16],
        group_name: "default".to_owned(),
        group: Group {
            id: [0xff; 16],
            seed: [1; 16],
            met: false,
        },
        origin: ORIGIN,
        node: "liar".to_owned(),
        software: "9".to_owned(),
        addresses: vec![],
    }
}

/// Two honest members with a secret and some keys.
pub(super) struct Honest {
    pub(super) dir: tempfile::TempDir,
    pub(super) nodes: [Node; 2],
    pub(super) keys: Vec<String>,
}

impl Honest {
    pub(super) fn secret(&self) -> std::path::PathBuf {
        self.dir.path().join("secret")
    }

    pub(super) fn start(settings: &[&str]) -> Honest {
        let dir = tempfile::tempdir().expect("a directory");
        let secret = refusal::secret(dir.path(), "secret");
        let settings = [&[secret.as_str()], settings].concat();
        let a = start_with(&dir.path().join("a"), &[], &settings);
        let b = start_with(&dir.path().join("b"), &[&a], &settings);
        wait_for_peers(&a, 1);
        assert_eq!(a.bloomd().ask("create kept"), "Done\n");
        let keys: Vec<String> = (0..50).map(|number| format!("key-{number}")).collect();
        for key in &keys {
            assert_eq!(a.bloomd().ask(&format!("s kept {key}")), "Yes\n");
        }
        let nodes = [a, b];
        wait_for_keys(&nodes[1], "kept", &keys);
        Honest { dir, nodes, keys }
    }

    /// Everything is there, and what is new on one is on the other.
    pub(super) fn undisturbed(&self, news: &str) {
        let [a, b] = &self.nodes;
        assert_eq!(a.bloomd().ask(&format!("s kept {news}-a")), "Yes\n");
        assert_eq!(b.bloomd().ask(&format!("s kept {news}-b")), "Yes\n");
        wait_for_key(b, "kept", &format!("{news}-a"));
        wait_for_key(a, "kept", &format!("{news}-b"));
        for node in &self.nodes {
            wait_for_keys(node, "kept", &self.keys);
        }
    }
}

fn resident_bytes(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.expect("a peak").parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_member_whose_frames_say_nothing_is_told_and_cut_off() {
    let honest = Honest::start(&[]);
    let secret = honest.secret();
    let before = resident_bytes(&honest.nodes[0]);
    let mut message = Vec::new();
    // Few bytes that stand for more than a message may have.
    let run = Run {
        origin: Origin::new(ORIGIN),
        first: 1,
        operations: vec![vec![1; OPERATION_BYTES_MAX]; 100],
    };
    Message::Operations { before: 0, run }.encode(&mut message);
    let lies: [(Vec<u8>, &str); 6] = [
        (vec![], "an empty frame"),
        (vec![0, 1, 2, 3], "message ends inside its origin"),
        (vec![2, 0x93, 1, 2, 3], "a standing that does not decode"),
        (vec![2; STANDING_BYTES_MAX + 2], "a standing of 1025 bytes"),
        (vec![1; LIVENESS_BYTES_MAX + 2], "a packet of 30721 bytes"),
        (Data::Sync(&message).encode(), "operations' bytes"),
    ];
    for (number, (lie, said)) in (10..).zip(&lies) {
        let mut liar = Liar::join(&honest.nodes[0], &secret, number);
        liar.send(lie.clone());
        let (reason, text) = liar.ended();
        assert_eq!(reason, Reason::Malformed);
        assert!(text.contains(said), "{said}: {text}");
    }
    honest.undisturbed("after");
    let grown = resident_bytes(&honest.nodes[0]).saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes");
    let [a, _b] = honest.nodes;
    let log = log_of(a);
    for (_, said) in &lies {
        assert!(log.contains(said), "{said} is not in:\n{log}");
    }
}

#[test]
fn a_member_whose_greeting_says_nothing_is_told_and_cut_off() {
    let honest = Honest::start(&[]);
    let secret = honest.secret();
    let mut long = greeting();
    long.node = "x".repeat(300);
    let mut many = greeting();
    many.addresses = vec![String::new(); 300];
    let lies = [
        (b"\x93\x01".to_vec(), "a greeting that does not decode"),
        (long.encode(), "a text of 300 bytes"),
        (many.encode(), "300 addresses"),
    ];
    for (number, (lie, said)) in (10..).zip(&lies) {
        let (mut liar, _) = Liar::call(&honest.nodes[0], &secret, number, lie.clone());
        let (reason, text) = liar.ended();
        assert_eq!(reason, Reason::Malformed);
        assert!(text.contains(said), "{said}: {text}");
    }
    honest.undisturbed("after");
    let [a, _b] = honest.nodes;
    let log = log_of(a);
    for (_, said) in &lies {
        assert!(log.contains(said), "{said} is not in:\n{log}");
    }
}

/// A row as it stands in a page.
#[derive(Serialize)]
struct SharedRow {
    row: FilterRow,
    rights: Vec<Rights>,
}

/// The page of a filter whose layer has so many lines.
fn page(lines: Option<u64>) -> Vec<u8> {
    let origin = Origin::new(ORIGIN);
    let parameters = Parameters {
        capacity: 1000,
        error: 0.001,
        growth: Growth::By(4),
    };
    let mut shape = parameters.layer(0, origin, 1).expect("a layer");
    shape.geometry.lines = lines.unwrap_or(shape.geometry.lines);
    let opened = Dot {
        origin,
        sequence: 1,
    };
    let row = FilterRow {
        id: FilterId::new([7; 16]),
        created: opened,
        scope: Scope::Group,
        name: b"lie".to_vec(),
        parameters,
        seed: Seed::new([3; 16]),
        storage: Storage::Durable,
        layers: vec![LayerRow { shape, opened }],
        legacy: vec![],
        other: Default::default(),
    };
    let rights = vec![Rights::new(1000, origin)];
    rmp_serde::to_vec_named(&[SharedRow { row, rights }]).expect("plain data")
}

/// Lies once with such a snapshot; the node says `said` in its log.
fn lie_with_snapshot(rows: &[u8], blocks: &BlockHashes, said: &str) {
    let honest = Honest::start(&["limits.memory=256MiB"]);
    let before = resident_bytes(&honest.nodes[0]);
    let mut liar = Liar::join(&honest.nodes[0], &honest.secret(), 10);
    liar.serve_snapshot(rows, blocks);
    honest.undisturbed("meanwhile");
    drop(liar);
    honest.undisturbed("after");
    let grown = resident_bytes(&honest.nodes[0]).saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes");
    for node in &honest.nodes {
        let asked = node.bloomd().ask("c lie key");
        assert_eq!(asked, "Filter does not exist\n");
    }
    let [a, _b] = honest.nodes;
    let log = log_of(a);
    assert!(log.contains(said), "{said} is not in:\n{log}");
}

#[test]
fn a_snapshot_with_an_enormous_layer_is_refused() {
    let no_blocks = BlockHashes {
        total: 0,
        hashes: vec![],
    };
    // One that does not fit the memory would be kept in files: its bits are asked for.
    for (lines, said) in [
        (1 << 28, "an answer that cannot be right"),
        (1 << 40, "a snapshot from liar"),
        (u64::MAX, "a snapshot from liar"),
    ] {
        lie_with_snapshot(&page(Some(lines)), &no_blocks, said);
    }
}

#[test]
fn a_snapshot_whose_blocks_do_not_fit_its_layer_is_refused() {
    let blocks = BlockHashes {
        total: u32::MAX,
        hashes: vec![1; HASHES],
    };
    lie_with_snapshot(&page(None), &blocks, "an answer that cannot be right");
}
