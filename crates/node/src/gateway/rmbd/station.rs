//! The task that owns the sockets.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use grapevine_core::wire::rmbd::{
    HasReply, KEY_DATAGRAM_BYTES, Message, SYNC_DATAGRAM_BYTES, encode_has, encode_peer,
    encode_sync, parse,
};
use grapevine_store::filters::FilterError;
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::Gateway;
use super::admission::Refusal;
use super::batch::Batch;
use super::host::Host;
use super::peers::{NONCE_BYTES, Nonce, Peers, Requested};
use super::resolver::{Asker, Configured, Families, Found, Resolver};
use super::sockets::{Sockets, Way};
use crate::metrics::{RmbdCommand, Tally};

/// Longer than every message whose length counts; of a longer datagram the rest is cut off, and
/// what is left is too long.
const BUFFER_BYTES: usize = 512;
/// Datagrams whose bits are set, and whose replies wait, together.
const DATAGRAMS_PER_BATCH: usize = 256;
/// Batches taken in before a round begins, and after the node was told to stop.
const BATCHES_WAITING_MAX: usize = 16;
/// Rows sent before the sockets are looked at again.
const ROWS_PER_TURN: usize = 64;
/// The pause after no socket could be read, and the time to find what had arrived at the end.
const PAUSE: Duration = Duration::from_millis(10);

/// The sockets and everything that they alone change.
pub(super) struct Station<'g> {
    gateway: &'g Gateway,
    sockets: Sockets,
    families: Families,
    peers: Peers,
    configured: Configured,
    resolver: Resolver,
    batch: Batch,
    /// Messages in the batch, and when the first of them was read.
    tally: Tally<{ RmbdCommand::LABELS.len() }>,
    began: Instant,
    buffer: [u8; BUFFER_BYTES],
}

impl<'g> Station<'g> {
    pub(super) fn new(gateway: &'g Gateway, sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let now = Instant::now();
        let sockets = Sockets::new(sockets)?;
        let own = sockets.addresses();
        let families = Families::of(&own);
        let rows = gateway.collection.bitmap().rows();
        let settings = &gateway.settings;
        Ok(Station {
            gateway,
            sockets,
            families,
            peers: Peers::new(own, rows, settings, now),
            configured: Configured::new(&settings.peers, now),
            resolver: Resolver::new(families, now),
            batch: Batch::default(),
            tally: Tally::default(),
            began: now,
            buffer: [0; BUFFER_BYTES],
        })
    }

    /// Serves until `stop` turns true and what had arrived is answered.
    pub(super) async fn serve(&mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let now = Instant::now();
            self.configured.look_up(&self.resolver, now);
            let deadline = self.peers.deadline(now);
            let deadline = self
                .configured
                .deadline()
                .map_or(deadline, |due| deadline.min(due));
            tokio::select! {
                () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
                received = self.sockets.receive(&mut self.buffer) => match received {
                    Ok((length, way)) => {
                        self.began = Instant::now();
                        self.take(length, &way);
                        self.take_waiting(DATAGRAMS_PER_BATCH - 1);
                        self.finish().await;
                    }
                    Err(error) => {
                        self.gateway.complaints.say("receiving rmbd datagrams", &error);
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                found = self.resolver.next() => self.found(found).await,
                () = tokio::time::sleep_until(deadline.into()) => self.send_rows().await,
            }
        }
        // A socket says that it can be read only once the runtime has looked at it.
        drop(tokio::time::timeout(PAUSE, self.sockets.readable()).await);
        self.answer_waiting().await;
    }

    /// Answers what has arrived.
    async fn answer_waiting(&mut self) {
        for _ in 0..BATCHES_WAITING_MAX {
            self.began = Instant::now();
            let taken = self.take_waiting(DATAGRAMS_PER_BATCH);
            self.finish().await;
            if taken < DATAGRAMS_PER_BATCH {
                return;
            }
        }
    }

    /// Takes in what waits in the sockets, up to `most` datagrams.
    fn take_waiting(&mut self, most: usize) -> usize {
        for taken in 0..most {
            let Ok((length, way)) = self.sockets.try_receive(&mut self.buffer) else {
                return taken;
            };
            self.take(length, &way);
        }
        most
    }

    /// Takes in the datagram in the buffer.
    fn take(&mut self, length: usize, way: &Way) {
        let from = canonical(way.from);
        let metrics = &self.gateway.metrics;
        metrics.datagrams.inc();
        let bitmap = self.gateway.collection.bitmap();
        let buffer = self.buffer;
        let datagram = &buffer[..length];
        match parse(datagram) {
            Some(Message::Add { key }) => {
                metrics.adds.inc();
                self.tally.add(RmbdCommand::Add as usize, 1);
                self.batch.add(bitmap, key);
            }
            Some(Message::Has { key }) => {
                metrics.checks.inc();
                self.tally.add(RmbdCommand::Has as usize, 1);
                self.batch.ask(bitmap, key, *way);
            }
            Some(Message::Sync { row, bits }) => {
                self.peers.filled(from, Instant::now());
                if self.batch.merge(bitmap, row, bits, *way) {
                    metrics.rows_received.inc();
                    self.tally.add(RmbdCommand::Sync as usize, 1);
                } else {
                    metrics.ignored.inc();
                }
            }
            Some(Message::Peer { host, port }) => {
                metrics.peer_requests.inc();
                if let Err(refusal) = self.request(from, host, port) {
                    self.refused(from, refusal);
                }
            }
            Some(Message::Ack) => {
                if self.peers.ack(from, self.sockets.own_address(way)) {
                    metrics.acks.inc();
                } else {
                    metrics.acks_ignored.inc();
                }
            }
            None => self.take_answer(datagram, from),
        }
    }

    /// A datagram that is no message may be the answer to a question of this node: its first
    /// byte is the length of the key, which is no message's type.
    fn take_answer(&mut self, datagram: &[u8], from: SocketAddr) {
        let answer = HasReply::parse(datagram)
            .filter(|reply| datagram.len() == KEY_DATAGRAM_BYTES && reply.key.len() == NONCE_BYTES);
        let awaited =
            answer.is_some_and(|answer| self.peers.answer(from, answer.key, Instant::now()));
        if !awaited {
            self.gateway.metrics.ignored.inc();
        }
        self.count_peers();
    }

    fn request(&mut self, from: SocketAddr, host: &[u8], port: u32) -> Result<(), Refusal> {
        let port = u16::try_from(port).ok().filter(|port| *port != 0);
        let port = port.ok_or(Refusal::Port)?;
        match Host::parse(host, self.families.ipv6).ok_or(Refusal::Host)? {
            Host::Address(ip) => self.register(from, SocketAddr::new(ip, port)),
            Host::Name(name) => {
                let begun = self.resolver.look_up(from, name, port, Instant::now());
                begun.then_some(()).ok_or(Refusal::Lookups)
            }
        }
    }

    fn register(&mut self, from: SocketAddr, target: SocketAddr) -> Result<(), Refusal> {
        if !self.families.have(&target) {
            return Err(Refusal::Family);
        }
        match self.peers.request(from, target, nonce(), Instant::now()) {
            Requested::Added => {
                tracing::debug!("rmbd peer {target}, named by {from}");
                self.count_peers();
                Ok(())
            }
            Requested::Known | Requested::Own => Ok(()),
            Requested::Probe(nonce) => {
                self.ask(target, &nonce);
                Ok(())
            }
            Requested::Refused(refusal) => Err(refusal),
        }
    }

    fn refused(&self, from: SocketAddr, refusal: Refusal) {
        self.gateway.metrics.peers_refused.inc();
        let what = format!("named by {from}: {refusal}");
        self.gateway.complaints.say("refused a peer", &what);
    }

    async fn found(&mut self, found: Found) {
        match (found.asker, found.address) {
            (Asker::Configured(index), address) => {
                self.configured.take(index, address, Instant::now());
                self.peers.configure(self.configured.addresses());
            }
            (Asker::Stranger(from), Some(address)) => {
                if let Err(refusal) = self.register(from, address) {
                    self.refused(from, refusal);
                }
            }
            (Asker::Stranger(from), None) => self.refused(from, Refusal::Host),
        }
    }

    /// Asks whether an rmbd is there.
    fn ask(&self, target: SocketAddr, nonce: &Nonce) {
        self.send_now(&encode_has(nonce), target);
    }

    /// Asks a peer to send its rows as well, to the address at which it reaches this node.
    fn introduce(&self, own: SocketAddr, peer: SocketAddr) {
        tracing::debug!("asking rmbd peer {peer} to send its rows to {own}");
        let host = own.ip().to_string();
        self.send_now(&encode_peer(host.as_bytes(), own.port().into()), peer);
    }

    fn send_now(&self, datagram: &[u8], target: SocketAddr) {
        if let Err(error) = self.sockets.try_send(datagram, target) {
            self.failed_to_send(target, &error);
        }
    }

    /// Answers the batch, and counts how long that took since it was begun.
    async fn finish(&mut self) {
        self.answer().await;
        let duration = &self.gateway.metrics.duration;
        self.tally.done(self.began, duration);
    }

    /// Sets the bits of the batch and sends its replies once they may be given.
    async fn answer(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Err(error) = self.settle().await {
            self.gateway.metrics.failures.inc();
            self.gateway.complaints.say("rmbd", &error);
            // A node that takes no writes still answers questions, and takes rows that bring
            // nothing new.
            let bitmap = self.gateway.collection.bitmap();
            self.batch.give_up_new(bitmap);
            if self.batch.is_empty() || self.settle().await.is_err() {
                return self.batch.clear();
            }
        }
        for reply in self.batch.replies() {
            let (datagram, way) = reply.datagram();
            if let Err(error) = self.sockets.reply(datagram, way).await {
                self.failed_to_send(way.from, &error);
            }
        }
        self.batch.clear();
    }

    async fn settle(&self) -> Result<(), FilterError> {
        let collection = &self.gateway.collection;
        let position = collection.set(self.batch.new_bits())?;
        collection.settle(position).await
    }

    /// Begins a round when it is due and sends some rows of it.
    async fn send_rows(&mut self) {
        if self.peers.is_due(Instant::now()) {
            // Acknowledgements of the last round may wait behind other datagrams.
            self.answer_waiting().await;
            let begun = self.peers.begin(Instant::now(), nonce);
            self.gateway
                .metrics
                .peers_dropped
                .inc_by(begun.dropped as u64);
            for (peer, nonce) in begun.probes {
                self.ask(peer, &nonce);
            }
            for (peer, own) in begun.introductions {
                self.introduce(own, peer);
            }
            self.count_peers();
        }
        let mut encoded: Option<(u16, [u8; SYNC_DATAGRAM_BYTES])> = None;
        for _ in 0..ROWS_PER_TURN {
            let Some((row, peer)) = self.peers.next_row(Instant::now()) else {
                return;
            };
            let datagram = match encoded {
                Some((last, datagram)) if last == row => datagram,
                _ => {
                    let Ok(bits) = self.gateway.collection.bitmap().row(row) else {
                        return;
                    };
                    encode_sync(row, &bits)
                }
            };
            encoded = Some((row, datagram));
            match self.sockets.send(&datagram, peer).await {
                Ok(()) => {
                    self.gateway.metrics.rows_sent.inc();
                }
                Err(error) => {
                    self.failed_to_send(peer, &error);
                    if self.peers.fail(peer) {
                        self.gateway.metrics.peers_dropped.inc();
                    }
                    self.count_peers();
                }
            }
        }
    }

    fn failed_to_send(&self, to: SocketAddr, error: &io::Error) {
        self.gateway.metrics.send_failures.inc();
        let what = format!("to {to}: {error}");
        self.gateway
            .complaints
            .say("sending an rmbd datagram", &what);
    }

    fn count_peers(&self) {
        let count = i64::try_from(self.peers.count()).unwrap_or(i64::MAX);
        self.gateway.metrics.peers.set(count);
    }
}

/// The address with an IPv4 address inside IPv6 taken out.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A key that nobody can guess.
fn nonce() -> Nonce {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).expect("the system has random bytes");
    nonce
}
