//! A gateway in this process, and a client that speaks to it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use grapevine::config::Address;
use grapevine::gateway::rmbd::{Gateway, MemoryBitmap, Settings, SharedBitmap};
use grapevine::metrics::RmbdMetrics;
use grapevine_core::wire::rmbd::{HasReply, encode_add, encode_has, encode_peer};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{DEADLINE, wait_for};

/// The pause between rounds in these tests.
const DELAY: Duration = Duration::from_millis(20);

/// A running gateway.
pub(crate) struct Served<B = MemoryBitmap> {
    /// The first of its addresses.
    pub(crate) address: SocketAddr,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) collection: Arc<B>,
    pub(crate) metrics: RmbdMetrics,
    runtime: Runtime,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Served {
    pub(crate) fn start() -> Served {
        Served::at("127.0.0.1:0", &[])
    }

    /// One that listens on `address` and has `peers` in its configuration.
    pub(crate) fn at(address: &str, peers: &[SocketAddr]) -> Served {
        Served::on(&[address], peers)
    }

    /// One that listens on several addresses.
    pub(crate) fn on(addresses: &[&str], peers: &[SocketAddr]) -> Served {
        let collection = MemoryBitmap::new(5).expect("five rows");
        Served::over_all(Arc::new(collection), addresses, peers)
    }
}

impl<B: SharedBitmap + 'static> Served<B> {
    pub(crate) fn over(collection: Arc<B>, address: &str, peers: &[SocketAddr]) -> Served<B> {
        Served::over_all(collection, &[address], peers)
    }

    fn over_all(collection: Arc<B>, addresses: &[&str], peers: &[SocketAddr]) -> Served<B> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        let bind = |address: &str| runtime.block_on(tokio::net::UdpSocket::bind(address));
        let sockets = addresses
            .iter()
            .map(|address| bind(address).expect("a port"));
        let sockets: Vec<_> = sockets.collect();
        let addresses: Vec<_> = sockets
            .iter()
            .map(|socket| socket.local_addr().expect("an address"))
            .collect();
        let peer = |peer: &SocketAddr| Address::parse(&peer.to_string()).expect("an address");
        let settings = Settings {
            sync_delay: DELAY,
            peers: peers.iter().map(peer).collect(),
            announce: true,
        };
        let metrics = RmbdMetrics::default();
        let shared: Arc<dyn SharedBitmap> = Arc::clone(&collection) as _;
        let gateway = Gateway::new(shared, settings, metrics.clone());
        let (stop, stopping) = watch::channel(false);
        Served {
            address: addresses[0],
            addresses,
            collection,
            metrics,
            served: runtime.spawn(gateway.serve(sockets, stopping)),
            stop,
            runtime,
        }
    }

    /// The bits that are set.
    pub(crate) fn bits(&self) -> Vec<u16> {
        self.collection.bitmap().iter().collect()
    }

    /// Stops it, and waits until its socket is closed.
    pub(crate) fn stop(self) {
        self.stop.send_replace(true);
        let served = async { tokio::time::timeout(DEADLINE, self.served).await };
        let ended = self.runtime.block_on(served).expect("it ends in time");
        ended.expect("it does not panic");
    }
}

/// A socket that sends to one server.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    server: SocketAddr,
}

impl Client {
    pub(crate) fn of(server: SocketAddr) -> Client {
        let any = if server.is_ipv6() {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        Client::on(any, server)
    }

    /// One with an address of its own choice.
    pub(crate) fn on(address: &str, server: SocketAddr) -> Client {
        let socket = UdpSocket::bind(address).expect("a port");
        socket
            .set_read_timeout(Some(DEADLINE))
            .expect("a timeout can be set");
        Client { socket, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("an address")
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        let sent = self.socket.send_to(datagram, self.server);
        assert_eq!(sent.expect("it is sent"), datagram.len());
    }

    /// The next datagram that comes from the server.
    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut buffer).expect("one in time");
        assert_eq!(from, self.server, "everything leaves from the one port");
        buffer[..length].to_vec()
    }

    pub(crate) fn add(&self, key: &[u8]) {
        self.send(&encode_add(key));
    }

    pub(crate) fn peer(&self, peer: SocketAddr) {
        self.peer_by(peer.ip().to_string().as_bytes(), peer.port().into());
    }

    pub(crate) fn peer_by(&self, host: &[u8], port: u32) {
        self.send(&encode_peer(host, port));
    }

    /// Asks, and takes the next datagram as the answer: nothing else was sent before it.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.send(&encode_has(key));
        let reply = self.receive();
        let reply = HasReply::parse(&reply).expect("a reply");
        reply.answer(key).expect("a reply about this key")
    }

    /// Asks until the key is there.
    pub(crate) fn wait_for_key(&self, key: &[u8]) {
        wait_for("a key to arrive", || self.has(key).then_some(()));
    }
}
