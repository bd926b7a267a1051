//! Which connection becomes the session with a peer.

use std::sync::{Arc, PoisonError};

use grapevine_core::wire::group::Reason;
use libp2p::swarm::ConnectionId;
use tokio::sync::oneshot;

use super::{Entry, Switch, dice};
use crate::admission::Failure;
use crate::duplicate::{Held, newcomer_wins};
use crate::event::{CloseReason, DialFailure, Refusal};
use crate::limits::PEERS_MAX;
use crate::link::{Report, Start};
use crate::outbox::Outbox;
use crate::{Goodbye, Key, PeerKey};

impl Switch {
    pub(super) fn report(&mut self, report: Report) {
        // A link that asked and is gone needs no answer.
        match report {
            Report::Claim {
                connection,
                granted,
            } => {
                let _ = granted.send(self.claim(connection));
            }
            Report::Admit {
                connection,
                key,
                incarnation,
                verdict,
            } => {
                let _ = verdict.send(self.admit(connection, key, incarnation));
            }
            Report::Failed {
                connection,
                failure,
            } => self.failed(connection, failure),
            Report::Ended { connection, reason } => self.ended(connection, &reason),
        }
    }

    fn held(&self, peer: &PeerKey) -> Option<Held> {
        let sessions = self.registry.read();
        let sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        sessions.get(peer).map(|entry| Held {
            dialed: entry.dialed,
            incarnation: entry.incarnation,
        })
    }

    /// Who has called may go on unless there is a session, or an earlier call that went as far.
    fn claim(&mut self, connection: ConnectionId) -> bool {
        let Some(facts) = self.state.connections.get(&connection) else {
            return false;
        };
        let peer = facts.peer;
        if self.held(&peer).is_some() || self.state.claims.contains_key(&peer) {
            return false;
        }
        self.state.claims.insert(peer, connection);
        true
    }

    fn admit(
        &mut self,
        connection: ConnectionId,
        key: Key,
        incarnation: u64,
    ) -> Result<Start, Goodbye> {
        let Some(facts) = self.state.connections.get(&connection) else {
            return Err(Reason::Duplicate.into());
        };
        let (peer, dialed, remote) = (facts.peer, facts.dialed, facts.remote);
        if self.state.stop.is_some() {
            return Err(Reason::Stopping.into());
        }
        // The secrets may have changed since it was proved.
        if !self.context.words().ring.accepts(&key) {
            return Err(Reason::SecretRemoved.into());
        }
        let claim = self.state.claims.get(&peer).copied();
        let held = self.held(&peer);
        if dialed {
            if claim != Some(connection) || held.is_some() {
                return Err(Reason::Duplicate.into());
            }
        } else if claim.is_some() || held.is_some() {
            let rival = held.filter(|_| claim.is_none());
            let local = self.context.local;
            if !newcomer_wins(&local, &peer, rival, incarnation) {
                return Err(Reason::Duplicate.into());
            }
        }
        if held.is_none() && self.sessions() >= PEERS_MAX {
            return Err(Reason::Full.into());
        }
        self.state.claims.remove(&peer);
        if let Some(loser) = claim.filter(|claim| *claim != connection) {
            self.give_up(loser);
        }
        if let Some(facts) = self.state.connections.get_mut(&connection) {
            facts.admitted = true;
        }
        self.state.sessions += 1;
        let (over, ended) = oneshot::channel();
        let outbox = Arc::new(Outbox::default());
        let entry = Entry {
            session: self.state.sessions,
            outbox: Arc::clone(&outbox),
            remote,
            dialed,
            key,
            incarnation,
            connection,
            over: Some(ended),
        };
        let before = self.replace(peer, entry);
        self.state.reconnect.connected(peer);
        self.call_answered(connection, None);
        Ok(Start {
            session: self.state.sessions,
            outbox,
            before,
            over,
        })
    }

    fn sessions(&self) -> usize {
        let sessions = self.registry.read();
        sessions.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Puts a session in the place of the one before, which it ends and then waits for.
    fn replace(&self, peer: PeerKey, entry: Entry) -> Option<oneshot::Receiver<()>> {
        let sessions = self.registry.write();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        let before = sessions.insert(peer, entry)?;
        before.outbox.end(Reason::Duplicate.into());
        before.over
    }

    /// A call that has lost against one of the peer's own: nobody needs to hear of it.
    fn give_up(&mut self, connection: ConnectionId) {
        self.call_answered(connection, None);
        self.state.connections.remove(&connection);
        self.swarm.close_connection(connection);
    }

    fn ended(&mut self, connection: ConnectionId, reason: &CloseReason) {
        self.swarm.close_connection(connection);
        if let Some(facts) = self.state.connections.remove(&connection) {
            self.end_session(facts.peer, connection, Some(reason));
        }
    }

    /// Takes the session of a connection out, unless another one is in its place.
    fn end_session(
        &mut self,
        peer: PeerKey,
        connection: ConnectionId,
        reason: Option<&CloseReason>,
    ) {
        let sessions = self.registry.write();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        let current = sessions.get(&peer);
        if current.is_some_and(|entry| entry.connection == connection) {
            sessions.remove(&peer);
            drop(sessions);
            let now = self.elapsed();
            self.state.reconnect.lost(peer, reason, now, dice());
        }
    }

    pub(super) fn failed(&mut self, connection: ConnectionId, failure: Failure) {
        self.swarm.close_connection(connection);
        let Some(facts) = self.state.connections.remove(&connection) else {
            return;
        };
        self.release_claim(facts.peer, connection);
        // It may have been too late to hear that it has a session.
        self.end_session(facts.peer, connection, None);
        if facts.call.is_some() {
            self.call_answered_by(facts.call, dial_failure(failure));
        } else {
            match refusal(failure) {
                Some(Refusal::HungUp) => self.hung_up(facts.peer, facts.remote),
                Some(refusal) => self.refuse(Some(facts.remote), refusal),
                None => {}
            }
        }
    }

    pub(super) fn release_claim(&mut self, peer: PeerKey, connection: ConnectionId) {
        if self.state.claims.get(&peer) == Some(&connection) {
            self.state.claims.remove(&peer);
        }
    }
}

/// None for what is no failure: the two are connected otherwise.
fn dial_failure(failure: Failure) -> Option<DialFailure> {
    Some(match failure {
        Failure::Told(goodbye) | Failure::Tell(goodbye) => match goodbye.reason {
            Reason::Duplicate => return None,
            _ => DialFailure::Told(goodbye),
        },
        Failure::NoProof => DialFailure::NoProof,
        Failure::HungUp => DialFailure::NotAdmitted,
        Failure::Malformed(malformed) => DialFailure::Malformed(malformed),
        Failure::Late => DialFailure::NoAnswer,
        Failure::NoRandomness => DialFailure::NoRandomness,
    })
}

/// As above, for the side that was called.
fn refusal(failure: Failure) -> Option<Refusal> {
    Some(match failure {
        Failure::Told(goodbye) | Failure::Tell(goodbye) => match goodbye.reason {
            Reason::Duplicate => return None,
            _ => Refusal::Told(goodbye),
        },
        Failure::NoProof => Refusal::NoProof,
        Failure::HungUp => Refusal::HungUp,
        Failure::Malformed(malformed) => Refusal::Malformed(malformed),
        Failure::Late => Refusal::Late,
        Failure::NoRandomness => Refusal::NoRandomness,
    })
}
