//! Calls: from a name to a connection, by QUIC and by TCP.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use libp2p::Multiaddr;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use tokio::time::Instant;

use super::{Switch, dice};
use crate::address::{is_loopback, multiaddr};
use crate::counters::Counters;
use crate::event::{DialFailure, Event};
use crate::limits::{ADMISSION_TIME, CALL_TIME, CALLS_MAX, NEXT_WAY_AFTER};
use crate::reconnect::Target;
use crate::{Address, PeerKey};
use grapevine_core::group::ADDRESSES_MAX;

/// What a name stands for.
pub(super) struct Resolved {
    call: u64,
    addresses: io::Result<Vec<SocketAddr>>,
}

/// One call, until it is answered or given up.
struct Call {
    /// As it was given.
    address: Address,
    target: Option<Target>,
    peer: Option<PeerKey>,
    ways: VecDeque<Multiaddr>,
    /// Being tried now.
    tried: Vec<ConnectionId>,
    /// When the next way joins in; none while names are resolved, or after the answer.
    next: Option<Instant>,
    deadline: Instant,
    /// The connection that was first.
    answered: Option<ConnectionId>,
    failure: DialFailure,
}

#[derive(Default)]
pub(super) struct Calls {
    calls: HashMap<u64, Call>,
    number: u64,
}

impl Calls {
    pub(super) fn has_room(&self) -> bool {
        self.calls.len() < CALLS_MAX
    }

    pub(super) fn next_step(&self) -> Option<Instant> {
        let calls = self.calls.values();
        calls
            .map(|call| call.next.unwrap_or(call.deadline).min(call.deadline))
            .min()
    }

    fn of(&self, connection: ConnectionId) -> Option<u64> {
        let tried = |(_, call): &(&u64, &Call)| call.tried.contains(&connection);
        self.calls.iter().find(tried).map(|(number, _)| *number)
    }
}

impl Switch {
    /// Makes the calls that are due and moves on those that are being made.
    pub(super) fn make_calls(&mut self, now: Instant) {
        let due = self.elapsed();
        while self.state.stop.is_none() && self.state.calls.has_room() {
            let Some(call) = self.state.reconnect.next_call(due) else {
                break;
            };
            self.begin_call(Some(call.target), call.peer, vec![call.address]);
        }
        let numbers: Vec<u64> = self.state.calls.calls.keys().copied().collect();
        for number in numbers {
            self.step(number, now);
        }
    }

    pub(super) fn begin_call(
        &mut self,
        target: Option<Target>,
        peer: Option<PeerKey>,
        mut addresses: Vec<Address>,
    ) {
        addresses.truncate(ADDRESSES_MAX);
        let Some(address) = addresses.first().cloned() else {
            return;
        };
        if !self.state.calls.has_room() {
            let reason = DialFailure::TooMany;
            return self.offer(Event::DialFailed { address, reason });
        }
        self.state.calls.number += 1;
        let number = self.state.calls.number;
        let call = Call {
            address,
            target,
            peer,
            ways: VecDeque::new(),
            tried: Vec::new(),
            next: None,
            deadline: Instant::now() + CALL_TIME,
            answered: None,
            failure: DialFailure::NoAnswer,
        };
        self.state.calls.calls.insert(number, call);
        let resolver = self.state.resolver.clone();
        tokio::spawn(async move {
            let mut found = Ok(Vec::new());
            for address in addresses {
                match (address.resolve().await, &mut found) {
                    (Ok(more), Ok(found)) => found.extend(more),
                    (Ok(more), found) => *found = Ok(more),
                    (Err(_), Ok(some)) if !some.is_empty() => {}
                    (Err(error), found) => *found = Err(error),
                }
            }
            let call = number;
            let addresses = found;
            // The switch may have stopped.
            let _ = resolver.send(Resolved { call, addresses }).await;
        });
    }

    pub(super) fn resolved(&mut self, resolved: Resolved) {
        let loopback_only = self.loopback_only.load(Ordering::Relaxed);
        let carriers = self.carriers.each();
        let Some(call) = self.state.calls.calls.get_mut(&resolved.call) else {
            return;
        };
        let mut addresses = match resolved.addresses {
            Ok(addresses) => addresses,
            Err(error) => {
                let text = error.to_string();
                // The beginning says what the failure says already.
                let text = text.trim_start_matches("failed to lookup address information: ");
                call.failure = DialFailure::Name(text.into());
                Vec::new()
            }
        };
        if loopback_only && !addresses.iter().all(is_loopback) {
            addresses.retain(is_loopback);
            call.failure = DialFailure::NotLoopback;
        }
        for address in addresses {
            let ways = carriers.iter().map(|carrier| multiaddr(address, *carrier));
            call.ways.extend(ways);
        }
        let now = Instant::now();
        call.next = Some(now);
        self.step(resolved.call, now);
    }

    /// Tries the next way when it is time, or when all before it have failed.
    fn step(&mut self, number: u64, now: Instant) {
        let Some(call) = self.state.calls.calls.get_mut(&number) else {
            return;
        };
        if now >= call.deadline {
            let failure = call.failure.clone();
            return self.end_call(number, Some(failure));
        }
        let Some(next) = call.next else {
            return;
        };
        if call.tried.is_empty() && call.ways.is_empty() {
            let failure = call.failure.clone();
            return self.end_call(number, Some(failure));
        }
        if next > now && !call.tried.is_empty() {
            return;
        }
        let Some(way) = call.ways.pop_front() else {
            // What is tried has until the deadline.
            call.next = Some(call.deadline);
            return;
        };
        call.next = Some(now + NEXT_WAY_AFTER);
        let options = match call.peer.and_then(|peer| peer.peer_id()) {
            Some(peer) => DialOpts::peer_id(peer)
                .addresses(vec![way])
                .condition(PeerCondition::Always)
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id()
                .address(way)
                .allocate_new_port()
                .build(),
        };
        let connection = options.connection_id();
        call.tried.push(connection);
        if let Err(error) = self.swarm.dial(options) {
            self.way_failed(connection, &error);
        }
    }

    pub(super) fn way_failed(&mut self, connection: ConnectionId, error: &DialError) {
        let Some(number) = self.state.calls.of(connection) else {
            return;
        };
        if let Some(call) = self.state.calls.calls.get_mut(&number) {
            call.tried.retain(|tried| *tried != connection);
            match error {
                // Each way has one address; the swarm takes away those that it listens on.
                DialError::LocalPeerId { .. } | DialError::NoAddresses => {
                    call.failure = DialFailure::Myself;
                }
                DialError::WrongPeerId { .. } => call.failure = DialFailure::WrongPeer,
                _ => {}
            }
        }
        self.step(number, Instant::now());
    }

    /// A connection of this side's is established: the number of its call if it is the first. One
    /// that comes after the first is not needed.
    pub(super) fn way_found(&mut self, connection: ConnectionId, peer: PeerKey) -> Option<u64> {
        let number = self.state.calls.of(connection)?;
        let call = self.state.calls.calls.get_mut(&number)?;
        call.tried.clear();
        call.ways.clear();
        call.next = None;
        call.answered = Some(connection);
        // For the proof of membership, and a little for its news to arrive.
        call.deadline = Instant::now() + 2 * ADMISSION_TIME;
        if let Some(target) = call.target.clone() {
            self.state.reconnect.reached(&target, peer);
        }
        Some(number)
    }

    /// What came of the call that made a connection; no failure means that all is well.
    pub(super) fn call_answered(&mut self, connection: ConnectionId, why: Option<DialFailure>) {
        let facts = self.state.connections.get(&connection);
        self.call_answered_by(facts.and_then(|facts| facts.call), why);
    }

    pub(super) fn call_answered_by(&mut self, call: Option<u64>, why: Option<DialFailure>) {
        if let Some(number) = call {
            self.end_call(number, why);
        }
    }

    fn end_call(&mut self, number: u64, failure: Option<DialFailure>) {
        let Some(call) = self.state.calls.calls.remove(&number) else {
            return;
        };
        if let Some(target) = &call.target {
            let now = self.elapsed();
            let reconnect = &mut self.state.reconnect;
            reconnect.over(target, failure.clone(), now, dice());
        }
        if let Some(reason) = failure {
            Counters::count(&self.context.counters.dial_failures);
            let address = call.address;
            self.offer(Event::DialFailed { address, reason });
        }
    }
}
