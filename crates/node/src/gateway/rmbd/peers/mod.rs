//! Who is sent the rows, and when: rmbd's gossip as a state machine. Time and random numbers are
//! parameters, what is to be sent comes back as values.
//!
//! As in the original: a round sends every row to every peer; a peer of whom not one
//! acknowledgement came since its first row is dropped when the next round begins, and stays
//! dropped until somebody names it again. Unlike in the original: peers of the configuration
//! stay, and are asked to send their rows as well while they do not; a peer that cannot be sent to
//! is dropped and does not end the rounds; peers that another machine has named have to show that
//! an rmbd is there (see `admission`), now and then again; all tables are bounded. An acknowledgement carries nothing that could be checked, so what it may do is
//! small: keep one peer, that was sent rows in this round, for one round more.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Settings;
use super::admission::{self, Admission, Refusal};

/// Most peers beside those of the configuration. Each is sent all rows each round.
pub(super) const PEERS_MAX: usize = 256;
/// Most of them that have never acknowledged a row, so that invented peers leave room for others.
pub(super) const NEWCOMERS_MAX: usize = 128;
/// Most addresses that are being asked for a proof.
pub(super) const PROBES_MAX: usize = 256;
/// How long an answer to a proof may take. A request does not begin another one before.
pub(super) const PROBE_TIME: Duration = Duration::from_secs(5);
/// How often one request has its question sent, in successive rounds: datagrams get lost. As
/// many as stay below three times the bytes of the request.
pub(super) const QUESTIONS_PER_PROBE: u8 = 3;
/// How long a proof holds: so long at most rows go to an address that has changed hands.
pub(super) const PROOF_TIME: Duration = Duration::from_secs(60);
/// A peer of the configuration that has sent no row for so long is asked to.
pub(super) const ROWS_WITHIN: Duration = Duration::from_secs(2);
/// Between two such requests to a peer that acknowledges every round.
pub(super) const INTRODUCE_EVERY: Duration = Duration::from_secs(5);
/// Bytes of the key that proves an address.
pub(super) const NONCE_BYTES: usize = 32;

/// A key that nobody can guess; who echoes it has read it.
pub(super) type Nonce = [u8; NONCE_BYTES];

/// What became of a request to peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requested {
    /// It is a peer from the next round on.
    Added,
    /// It is a peer already, or is being asked.
    Known,
    /// It is this node.
    Own,
    /// It is to be asked whether it has this key; it is a peer when it answers.
    Probe(Nonce),
    /// It is not to be a peer.
    Refused(Refusal),
}

/// What the beginning of a round brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Begun {
    /// Peers that were dropped.
    pub(super) dropped: usize,
    /// Who is to be asked again whether it has a key.
    pub(super) probes: Vec<(SocketAddr, Nonce)>,
    /// Peers that are to be asked to send their rows, and to which address of this node.
    pub(super) introductions: Vec<(SocketAddr, SocketAddr)>,
}

/// A peer.
#[derive(Debug, Default)]
struct Peer {
    /// Whether it was sent a row in this round.
    sent: bool,
    /// Whether it acknowledged one after that.
    acked: bool,
    /// Whether it ever did.
    ever_acked: bool,
    /// Whether sending to it failed in this round.
    failed: bool,
    /// The address of this node that its last acknowledgement came to.
    reached: Option<SocketAddr>,
    /// When it last sent a row.
    filled: Option<Instant>,
    /// When it was last asked to; nothing once it has missed a round.
    introduced: Option<Instant>,
    /// When it last showed that it is there, and what it is asked next. Not wanted of peers that
    /// are believed.
    proof: Option<Proof>,
}

#[derive(Debug)]
struct Proof {
    at: Instant,
    nonce: Nonce,
    /// Whether `nonce` is that of the next question, and not of the last answer.
    asked: bool,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Probe {
    nonce: Nonce,
    asked: Instant,
    /// How often it was sent.
    questions: u8,
}

/// The round that is being sent: row by row, each to all peers.
#[derive(Debug)]
struct Round {
    peers: Vec<SocketAddr>,
    row: u16,
    next: usize,
}

/// The peers and the rounds.
pub(super) struct Peers {
    own: Vec<SocketAddr>,
    rows: u16,
    delay: Duration,
    /// Whether peers of the configuration are asked to send their rows.
    announce: bool,
    configured: BTreeSet<SocketAddr>,
    peers: BTreeMap<SocketAddr, Peer>,
    probes: BTreeMap<SocketAddr, Probe>,
    round: Option<Round>,
    next_round: Instant,
}

impl Peers {
    /// No peers; the first round is due at once. `own` are the addresses of the sockets. All
    /// addresses here are canonical: no IPv4 inside IPv6.
    pub(super) fn new(own: Vec<SocketAddr>, rows: u16, settings: &Settings, now: Instant) -> Self {
        Peers {
            own,
            rows,
            delay: settings.sync_delay,
            announce: settings.announce,
            configured: BTreeSet::new(),
            peers: BTreeMap::new(),
            probes: BTreeMap::new(),
            round: None,
            next_round: now,
        }
    }

    /// How many peers there are.
    pub(super) fn count(&self) -> usize {
        self.peers.len()
    }

    /// Sets the peers of the configuration; they take part from the next round on. One that is
    /// no longer among them is an ordinary peer from then on.
    pub(super) fn configure(&mut self, configured: BTreeSet<SocketAddr>) {
        self.configured = configured;
        for own in &self.own {
            self.configured.remove(own);
        }
    }

    /// Takes a request of `from` to peer with `target`. `nonce` is for a question, if one is
    /// needed.
    pub(super) fn request(
        &mut self,
        from: SocketAddr,
        target: SocketAddr,
        nonce: Nonce,
        now: Instant,
    ) -> Requested {
        if self.is_own(target) {
            return Requested::Own;
        }
        if self.peers.contains_key(&target) || self.configured.contains(&target) {
            return Requested::Known;
        }
        match admission::judge(from.ip(), target) {
            Admission::Refused(refusal) => Requested::Refused(refusal),
            Admission::Direct => match self.admit(target, Peer::default()) {
                Ok(()) => Requested::Added,
                Err(refusal) => Requested::Refused(refusal),
            },
            Admission::Proof => self.probe(target, nonce, now),
        }
    }

    fn admit(&mut self, address: SocketAddr, peer: Peer) -> Result<(), Refusal> {
        let others = self
            .peers
            .iter()
            .filter(|(address, _)| !self.configured.contains(address));
        let (count, newcomers) = others.fold((0, 0), |(count, newcomers), (_, peer)| {
            (count + 1, newcomers + usize::from(!peer.ever_acked))
        });
        if count >= PEERS_MAX || newcomers >= NEWCOMERS_MAX {
            return Err(Refusal::Full);
        }
        self.peers.insert(address, peer);
        Ok(())
    }

    fn probe(&mut self, address: SocketAddr, nonce: Nonce, now: Instant) -> Requested {
        let waits = |probe: &Probe| now.saturating_duration_since(probe.asked) < PROBE_TIME;
        if self.probes.get(&address).is_some_and(waits) {
            return Requested::Known;
        }
        if self.probes.len() >= PROBES_MAX {
            self.probes.retain(|_, probe| waits(probe));
        }
        if self.probes.len() >= PROBES_MAX {
            return Requested::Refused(Refusal::Full);
        }
        let probe = Probe {
            nonce,
            asked: now,
            questions: 1,
        };
        self.probes.insert(address, probe);
        Requested::Probe(nonce)
    }

    /// Takes an answer to a question: whether it was awaited.
    pub(super) fn answer(&mut self, from: SocketAddr, key: &[u8], now: Instant) -> bool {
        if let Some(proof) = self
            .peers
            .get_mut(&from)
            .and_then(|peer| peer.proof.as_mut())
        {
            let awaited = proof.asked && proof.nonce == key;
            if awaited {
                (proof.at, proof.asked) = (now, false);
            }
            return awaited;
        }
        let Some(probe) = self.probes.get(&from).filter(|probe| probe.nonce == key) else {
            return false;
        };
        let proof = Some(Proof {
            at: now,
            nonce: probe.nonce,
            asked: false,
        });
        self.probes.remove(&from);
        let peer = Peer {
            proof,
            ..Peer::default()
        };
        // When there is no room any more, it has to be named again, as if it had not answered.
        self.admit(from, peer).is_ok()
    }

    /// Takes an acknowledgement, which came to the address `own`: whether it is one of a row that
    /// was sent in this round.
    pub(super) fn ack(&mut self, from: SocketAddr, own: Option<SocketAddr>) -> bool {
        match self.peers.get_mut(&from) {
            Some(peer) if peer.sent => {
                peer.acked = true;
                peer.ever_acked = true;
                peer.reached = own;
                true
            }
            _ => false,
        }
    }

    /// Notes that `from` has sent a row.
    pub(super) fn filled(&mut self, from: SocketAddr, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.filled = Some(now);
        }
    }

    /// When there is something to do: rows to send, or a round to begin.
    pub(super) fn deadline(&self, now: Instant) -> Instant {
        if self.round.is_some() {
            now
        } else {
            self.next_round
        }
    }

    /// Whether a round is due. All that has arrived is to be taken in before it is begun: an
    /// acknowledgement may wait in the socket.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.round.is_none() && now >= self.next_round
    }

    /// Begins a round: drops who did not answer the last one, asks for proofs that are old, again
    /// for those that have not come, and for rows.
    pub(super) fn begin(&mut self, now: Instant, mut nonce: impl FnMut() -> Nonce) -> Begun {
        let before = self.peers.len();
        let configured = &self.configured;
        self.peers.retain(|address, peer| {
            let silent = peer.sent && !peer.acked;
            let proven = peer.proof.as_ref().is_none_or(|proof| {
                now.saturating_duration_since(proof.at) <= PROOF_TIME + PROBE_TIME
            });
            configured.contains(address) || (!silent && proven)
        });
        let mut begun = Begun {
            dropped: before - self.peers.len(),
            probes: self.questions_again(now),
            introductions: self.introductions(now),
        };
        for address in &self.configured {
            self.peers.entry(*address).or_default();
        }
        for (address, peer) in &mut self.peers {
            (peer.sent, peer.acked, peer.failed) = (false, false, false);
            if self.configured.contains(address) {
                peer.proof = None;
            }
            if let Some(proof) = &mut peer.proof
                && now.saturating_duration_since(proof.at) > PROOF_TIME
            {
                if !proof.asked {
                    (proof.nonce, proof.asked) = (nonce(), true);
                }
                begun.probes.push((*address, proof.nonce));
            }
        }
        self.round = Some(Round {
            peers: self.peers.keys().copied().collect(),
            row: 0,
            next: 0,
        });
        begun
    }

    /// The questions that may have been lost.
    fn questions_again(&mut self, now: Instant) -> Vec<(SocketAddr, Nonce)> {
        let mut again = Vec::new();
        for (address, probe) in &mut self.probes {
            let waits = now.saturating_duration_since(probe.asked) < PROBE_TIME;
            if waits && probe.questions < QUESTIONS_PER_PROBE {
                probe.questions += 1;
                again.push((*address, probe.nonce));
            }
        }
        again
    }

    /// The peers of the configuration that take rows and send none: those that have restarted, or
    /// have dropped this node while it was away. One that does not acknowledge is left alone.
    fn introductions(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr)> {
        let mut introductions = Vec::new();
        if !self.announce {
            return introductions;
        }
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        for address in &self.configured {
            let Some(peer) = self.peers.get_mut(address) else {
                continue;
            };
            if !peer.acked {
                peer.introduced = None;
                continue;
            }
            let reached = peer.reached;
            let own = reached.filter(|own| admission::may_introduce(*own, address.ip()));
            let lacks_rows = since(peer.filled).is_none_or(|time| time > ROWS_WITHIN);
            let due = since(peer.introduced).is_none_or(|time| time > INTRODUCE_EVERY);
            if let (Some(own), true, true) = (own, lacks_rows, due) {
                peer.introduced = Some(now);
                introductions.push((*address, own));
            }
        }
        introductions
    }

    /// The next row to send, and to whom. After the last one the round is over, and the next one
    /// is due when the pause has passed.
    pub(super) fn next_row(&mut self, now: Instant) -> Option<(u16, SocketAddr)> {
        while let Some(round) = &mut self.round {
            let Some(address) = round.peers.get(round.next).copied() else {
                (round.row, round.next) = (round.row + 1, 0);
                if round.row >= self.rows || round.peers.is_empty() {
                    self.round = None;
                    self.next_round = now + self.delay;
                }
                continue;
            };
            round.next += 1;
            if let Some(peer) = self.peers.get_mut(&address)
                && !peer.failed
            {
                peer.sent = true;
                return Some((round.row, address));
            }
        }
        None
    }

    /// A row could not be sent: the peer is dropped. One of the configuration is left out of the
    /// rest of the round. Gives whether a peer was dropped.
    pub(super) fn fail(&mut self, address: SocketAddr) -> bool {
        if self.configured.contains(&address) {
            if let Some(peer) = self.peers.get_mut(&address) {
                peer.failed = true;
            }
            return false;
        }
        self.peers.remove(&address).is_some()
    }

    fn is_own(&self, address: SocketAddr) -> bool {
        let here =
            |address: SocketAddr| address.ip().is_loopback() || address.ip().is_unspecified();
        self.own.iter().any(|own| {
            address == *own
                || (address.port() == own.port() && here(address) && own.ip().is_unspecified())
        })
    }
}
