//! Peers that were found on the local network, and when to call them: a policy without a clock.
//!
//! Multicast names a peer once, as long as it stays there, so it is remembered here: the first
//! call may be lost, or come before the peer can be reached. Anybody can say anything by multicast,
//! so few are remembered and they are called one at a time.

use std::collections::BTreeMap;

use super::{ADDRESSES_MAX, Context, Output, Protocol};
use crate::membership::NodeId;

/// Peers that are remembered.
const NEIGHBOURS_MAX: usize = 256;
/// Between two calls, to whomever, in milliseconds: those that last 10 s leave room for others.
const SPACING_MS: u64 = 400;
/// From the first call of a peer to the second; a call lasts 10 s at most.
const DELAY_MIN_MS: u64 = 15_000;
/// The longest time between two calls of a peer that does not answer.
const DELAY_MAX_MS: u64 = 240_000;

/// After somebody new was found, in milliseconds: time for others that were started at the same
/// moment to be found, and called.
const SETTLING_MS: u64 = 2500;

#[derive(Debug)]
struct Neighbour {
    addresses: Vec<String>,
    calls: u32,
    due: u64,
}

/// The peers found. Times are milliseconds from any fixed point.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    peers: BTreeMap<NodeId, Neighbour>,
    next_call: u64,
    /// When somebody was found who was not known before.
    newest: Option<u64>,
}

impl Neighbours {
    /// Somebody says to be this peer at this address.
    pub(super) fn found(&mut self, now: u64, peer: NodeId, address: String) {
        if self.peers.len() >= NEIGHBOURS_MAX && !self.peers.contains_key(&peer) {
            // Whoever was called most often in vain is likely not there.
            let least = self.peers.iter().max_by_key(|(_, known)| known.calls);
            let least = least.map(|(peer, _)| *peer);
            least.map(|peer| self.peers.remove(&peer));
        }
        let known = self.peers.entry(peer).or_insert_with(|| {
            self.newest = Some(now);
            Neighbour {
                addresses: Vec::new(),
                calls: 0,
                due: now,
            }
        });
        if !known.addresses.contains(&address) {
            // The newest is the likeliest.
            known.addresses.insert(0, address);
            known.addresses.truncate(ADDRESSES_MAX);
            (known.calls, known.due) = (0, now);
        }
    }

    /// Nobody says any more that this peer is at this address.
    pub(super) fn gone(&mut self, peer: NodeId, address: &str) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.addresses.retain(|other| other != address);
            if known.addresses.is_empty() {
                self.peers.remove(&peer);
            }
        }
    }

    /// Whether somebody new was found just now.
    pub(super) fn are_settling(&self, now: u64) -> bool {
        self.newest.is_some_and(|newest| now < newest + SETTLING_MS)
    }

    /// Whom to call now, of those who are not connected: the longest overdue.
    fn next(
        &mut self,
        now: u64,
        connected: impl Fn(&NodeId) -> bool,
    ) -> Option<(NodeId, Vec<String>)> {
        // Who is lost is called as a member, where it was last; here only if that does not help.
        for (_, known) in self.peers.iter_mut().filter(|(peer, _)| connected(peer)) {
            (known.calls, known.due) = (0, now + DELAY_MIN_MS);
        }
        if now < self.next_call {
            return None;
        }
        let waiting = self.peers.iter_mut().filter(|(_, known)| known.due <= now);
        let (peer, known) = waiting.min_by_key(|(_, known)| known.due)?;
        let delay = DELAY_MIN_MS << known.calls.min(8);
        known.due = now + delay.min(DELAY_MAX_MS);
        known.calls = known.calls.saturating_add(1);
        self.next_call = now + SPACING_MS;
        Some((*peer, known.addresses.clone()))
    }
}

impl Protocol {
    /// Calls somebody on the local network, if somebody is to be called.
    pub(super) fn call_neighbours(&mut self, context: &mut Context<'_>) {
        if self.outside {
            return;
        }
        let (sessions, me) = (&self.sessions, self.settings.node);
        let connected = |peer: &NodeId| sessions.contains_key(peer) || *peer == me;
        if let Some((peer, addresses)) = self.neighbours.next(context.now, connected) {
            context.out.push(Output::Call { peer, addresses });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        NodeId::new(bytes)
    }

    fn address(text: &str) -> String {
        text.to_owned()
    }

    fn nobody(_: &NodeId) -> bool {
        false
    }

    #[test]
    fn who_does_not_answer_is_called_again_ever_more_rarely() {
        let mut neighbours = Neighbours::default();
        neighbours.found(0, peer(1), address("10.0.0.1:1"));
        let mut calls = Vec::new();
        for now in (0..1_000_000).step_by(500) {
            // That it is named again changes nothing.
            neighbours.found(now, peer(1), address("10.0.0.1:1"));
            calls.extend(neighbours.next(now, nobody).map(|_| now / 1000));
        }
        assert_eq!(calls, [0, 15, 45, 105, 225, 465, 705, 945]);
    }

    #[test]
    fn all_addresses_are_called_and_a_new_one_at_once() {
        let mut neighbours = Neighbours::default();
        neighbours.found(0, peer(1), address("10.0.0.1:1"));
        neighbours.found(0, peer(1), address("10.0.0.2:1"));
        let (_, called) = neighbours.next(0, nobody).expect("a call");
        assert_eq!(called, [address("10.0.0.2:1"), address("10.0.0.1:1")]);
        assert_eq!(neighbours.next(2000, nobody), None);
        neighbours.found(2000, peer(1), address("10.0.0.3:1"));
        neighbours.gone(peer(1), &address("10.0.0.1:1"));
        let (_, called) = neighbours.next(2000, nobody).expect("a call");
        assert_eq!(called, [address("10.0.0.3:1"), address("10.0.0.2:1")]);
        for last in [2, 3] {
            neighbours.gone(peer(1), &address(&format!("10.0.0.{last}:1")));
        }
        assert_eq!(neighbours.next(1_000_000, nobody), None);
    }

    #[test]
    fn who_is_connected_is_left_alone_and_called_some_time_after() {
        let mut neighbours = Neighbours::default();
        neighbours.found(0, peer(1), address("10.0.0.1:1"));
        assert_eq!(neighbours.next(100_000, |_| true), None);
        assert_eq!(neighbours.next(100_000 + DELAY_MIN_MS - 1, nobody), None);
        assert!(neighbours.next(100_000 + DELAY_MIN_MS, nobody).is_some());
    }

    #[test]
    fn things_settle_some_time_after_the_last_newcomer() {
        let mut neighbours = Neighbours::default();
        assert!(!neighbours.are_settling(0));
        neighbours.found(1000, peer(1), address("10.0.0.1:1"));
        neighbours.found(2000, peer(2), address("10.0.0.2:1"));
        neighbours.found(3000, peer(2), address("10.0.0.3:1"));
        assert!(neighbours.are_settling(2000 + SETTLING_MS - 1));
        assert!(!neighbours.are_settling(2000 + SETTLING_MS));
    }

    #[test]
    fn strangers_take_a_bounded_place_and_call_rate() {
        let mut neighbours = Neighbours::default();
        for number in 0..2000 {
            neighbours.found(0, peer(number), address("10.0.0.1:1"));
            for last in 0..20 {
                neighbours.found(0, peer(number), address(&format!("10.0.1.{last}:1")));
            }
        }
        assert_eq!(neighbours.peers.len(), NEIGHBOURS_MAX);
        let longest = neighbours.peers.values().map(|known| known.addresses.len());
        assert_eq!(longest.max(), Some(ADDRESSES_MAX));
        let looks = (0..10_000).step_by(100);
        let calls = looks.filter_map(|now| neighbours.next(now, nobody));
        assert_eq!(calls.count(), 25);
        // A newcomer is taken all the same.
        neighbours.found(10_000, peer(5000), address("10.0.0.1:1"));
        assert!(neighbours.peers.contains_key(&peer(5000)));
    }
}
