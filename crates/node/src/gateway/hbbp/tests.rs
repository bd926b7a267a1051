//! Who is given a packet, and what is counted.

use std::net::Ipv6Addr;
use std::sync::Mutex;

use grapevine_core::wire::hbbp::DATAGRAM_BYTES_MAX;

use super::*;

/// Wants keys that begin with its own, and keeps what it is given.
struct Collector {
    prefix: &'static [u8],
    taken: Mutex<Vec<Opened>>,
}

impl Collector {
    fn new(prefix: &'static [u8]) -> Arc<Self> {
        Arc::new(Collector {
            prefix,
            taken: Mutex::default(),
        })
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        let taken = self.taken.lock().expect("whole");
        taken.iter().map(|packet| packet.key.clone()).collect()
    }
}

impl Consumer for Collector {
    fn wants(&self, interface: &str, key: &[u8]) -> bool {
        interface == "link" && key.starts_with(self.prefix)
    }

    fn take(&self, packet: Opened) {
        self.taken.lock().expect("whole").push(packet);
    }
}

fn gateway(keys: PathBuf, consumers: Vec<Arc<dyn Consumer>>) -> Arc<Gateway> {
    let settings = Settings {
        port: 4950,
        keys,
        handlers: None,
    };
    Gateway::new(&settings, consumers, HbbpMetrics::default()).expect("a gateway")
}

fn from() -> SocketAddrV6 {
    SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1, 0, 1)
}

fn hear(gateway: &Gateway, interface: &str, datagram: &[u8]) {
    gateway.take(&Heard {
        interface: interface.to_owned(),
        from: from(),
        datagram: datagram.to_vec(),
    });
}

#[test]
fn the_first_that_wants_a_packet_is_given_it() {
    let keys = tempfile::tempdir().expect("a directory");
    let (first, second) = (Collector::new(b"a/"), Collector::new(b""));
    let consumers: Vec<Arc<dyn Consumer>> = vec![
        Arc::<Collector>::clone(&first),
        Arc::<Collector>::clone(&second),
    ];
    let gateway = gateway(keys.path().to_owned(), consumers);
    hear(&gateway, "link", b"a/b\0text");
    hear(&gateway, "link", b"b\0text");
    hear(&gateway, "other", b"b\0text");
    hear(&gateway, "link", b"/b\0text");
    hear(&gateway, "link", &[b'b'; DATAGRAM_BYTES_MAX + 1]);
    let taken = first.taken.lock().expect("whole").clone();
    let packet = Opened {
        interface: "link".to_owned(),
        from: from(),
        key: b"a/b".to_vec(),
        payload: b"text".to_vec(),
        sealed: false,
    };
    assert_eq!(taken, [packet]);
    assert_eq!(second.keys(), [b"b"]);
    let metrics = &gateway.metrics;
    assert_eq!(metrics.datagrams.get(), 5);
    assert_eq!(metrics.taken.get(), 2);
    assert_eq!(metrics.unwanted.get(), 1);
    assert_eq!(metrics.malformed.get(), 2);
}

#[test]
fn what_is_said_sealed_is_given_once_and_plain_not_at_all() {
    let keys = tempfile::tempdir().expect("a directory");
    let default = keys.path().join("default");
    std::fs::create_dir(&default).expect("made");
    generate(&default).expect("made");
    let all = Collector::new(b"");
    let gateway = gateway(
        keys.path().to_owned(),
        vec![Arc::<Collector>::clone(&all) as Arc<dyn Consumer>],
    );
    let directory = KeyDirectory::new(keys.path().to_owned());
    let datagram = seal(&directory, b"task", b"text").expect("sealed");
    for datagram in [&datagram[..], &datagram, b"task\0text"] {
        hear(&gateway, "link", datagram);
    }
    let taken = all.taken.lock().expect("whole").clone();
    assert_eq!(taken.len(), 1);
    assert!(taken[0].sealed && taken[0].payload == b"text");
    let metrics = &gateway.metrics;
    assert_eq!((metrics.replayed.get(), metrics.unopened.get()), (1, 1));
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let keys = tempfile::tempdir().expect("a directory");
    let gateway = gateway(keys.path().to_owned(), Vec::new());
    let sent = gateway.say("nonexistent", b"task", b"text");
    assert!(matches!(sent, Err(SendError::NoInterface)));
    let long = [0; DATAGRAM_BYTES_MAX];
    let sent = gateway.say("nonexistent", b"task", &long);
    assert!(matches!(sent, Err(SendError::Message(_))));
    let metrics = &gateway.metrics;
    assert_eq!((metrics.sent.get(), metrics.send_failures.get()), (0, 2));
}
